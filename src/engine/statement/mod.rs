//! Statements: exactly one per text, told apart by what running them means, and what they may do to managed tables.
//!
//! DuckDB 2.0 runs the first statements of a text before it reads the later ones, so several are refused here, before any
//! of them runs. Rows enter managed tables through ingest only: an INSERT becomes an ingest of the rows that it gives,
//! UPDATE, MERGE and ALTER are refused, and after any other [change] the metadata follows in the same transaction. The
//! [gate] says what is refused to everybody, and what belongs to a session.

mod change;
mod gate;
mod limits;
mod scan;
mod targets;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use duckdb_neo::connection::Connection;
use duckdb_neo::logical_type::LogicalType;
use duckdb_neo::query_result::StatementType;
use duckdb_neo::statement::Statement;
use tracing::{Instrument, Span};

use super::error::located;
use super::types::Wire;
use super::work::Work;
use super::{Bound, Call, Engine, Executed, parameters, types};
use crate::error::{Error, Result};
use crate::tables::Kind;
use targets::Target;

/// What running a statement means, as it is known before.
#[derive(Debug)]
pub struct Plan {
    /// What it does.
    pub action: Action,
    /// One field for each parameter, in order; a parameter whose type is open is of type Null.
    pub parameters: SchemaRef,
}

/// What a statement does.
#[derive(Debug)]
pub enum Action {
    /// It only reads: its columns are known and it may be run when its rows are asked for.
    Read(SchemaRef),
    /// It changes something and has no rows: run it once.
    Change,
    /// It changes something, or its columns may be known only when it has run: run it once, it will have rows.
    ChangeWithRows(Option<SchemaRef>),
}

/// What executing a statement came to.
#[derive(Debug)]
pub enum Execution {
    /// It has run.
    Done(Executed),
    /// It is an INSERT into a managed table: the caller makes the ingest.
    Insert(Insert),
}

/// An INSERT into a managed table.
#[derive(Debug)]
pub struct Insert {
    /// The table's name as it was created.
    pub table: String,
    /// Its kind.
    pub kind: Kind,
    /// The query whose rows are inserted.
    pub source: String,
    /// The names of the query's columns, in order; none: its own names (BY NAME).
    pub columns: Option<Vec<String>>,
    /// INSERT OR REPLACE.
    pub replace: bool,
}

/// The one statement of `sql`.
///
/// # Errors
/// `InvalidArgument` for no statement, several, or one that cannot be parsed.
pub(in crate::engine) fn single(connection: &Connection, sql: &str) -> Result<Statement<'static>> {
    let mut statements = connection.parse(sql)?;
    let Some(first) = statements.next() else {
        return Err(Error::invalid("the query text is empty: one statement is expected"));
    };
    let first = first?;
    match statements.next() {
        None => Ok(first),
        Some(Ok(_)) => {
            Err(Error::invalid("one statement is expected, several were given: none was run, send them one by one"))
        }
        Some(Err(error)) => Err(error.into()),
    }
}

/// A statement that was read and may run.
struct Read {
    statement: Statement<'static>,
    statement_type: StatementType,
    targets: Vec<Target>,
    /// The ingest that it means, if it is an INSERT into a managed table.
    insert: Option<Insert>,
}

impl Engine {
    /// Tells what running `sql` means, without running it.
    pub async fn plan(&self, sql: String, call: &Call) -> Result<Plan> {
        self.run(call, move |work| work.plan(&sql).map_err(|error| located(error, &sql))).await
    }

    /// Runs a statement to its end, once, or once for each row of `bound`, all or none of them; an INSERT into a managed table
    /// is only taken apart.
    pub async fn execute(&self, sql: String, bound: Option<Bound>, call: &Call) -> Result<Execution> {
        let change = move |work: &mut Work| work.change(&sql, bound.as_ref()).map_err(|error| located(error, &sql));
        self.run(call, change).instrument(span()).await
    }
}

/// The span of a statement's work, on whatever thread it is: for traces. The log has that of the call.
pub(in crate::engine) fn span() -> Span {
    tracing::debug_span!("statement")
}

impl Work {
    fn plan(&self, sql: &str) -> Result<Plan> {
        let read = self.read(sql)?;
        let Read { statement, statement_type, .. } = &read;
        let parameters = self.planned_parameters(statement)?;
        let action = if read.insert.is_some() {
            Action::Change
        } else if read.only_reads() {
            Action::Read(self.planned_schema(statement)?)
        } else if gate::changes_rows(*statement_type) {
            if scan::has_word(self.connection(), sql, "returning")? {
                Action::ChangeWithRows(Some(self.planned_schema(statement)?))
            } else {
                Action::Change
            }
        } else if gate::has_no_rows(*statement_type) {
            Action::Change
        } else {
            Action::ChangeWithRows(None)
        };
        Ok(Plan { action, parameters })
    }

    /// The statement of `sql` if it only reads; none if it has to be executed.
    pub(in crate::engine) fn read_query(&self, sql: &str) -> Result<Option<Statement<'static>>> {
        let read = self.read(sql)?;
        if !read.only_reads() {
            return Ok(None);
        }
        self.enter_transaction()?;
        Ok(Some(read.statement))
    }

    fn read(&self, sql: &str) -> Result<Read> {
        limits::check_length(sql, &self.engine.config)?;
        let tokens = scan::tokens(self.connection(), sql)?;
        limits::check_form(&tokens, &self.engine.config)?;
        let statement = single(self.connection(), sql)?;
        let statement_type = statement.get_type()?;
        self.refuse(statement_type, sql)?;
        let targets = targets::of(&tokens);
        let insert = self.check_targets(sql, statement_type, &targets)?;
        gate::refuse_copy_from(&targets)?;
        Ok(Read { statement, statement_type, targets, insert })
    }

    /// The columns that a statement will have; it is bound and dropped, not run. One whose type a parameter decides is of type
    /// Null.
    pub(in crate::engine) fn planned_schema(&self, statement: &Statement<'static>) -> Result<SchemaRef> {
        let columns = statement.bind(self.connection())?.schema.get_all()?;
        let wire = Wire::of(self.connection(), self.extensions())?;
        let fields = columns.iter().map(|(name, logical)| {
            wire.field(name, logical).unwrap_or_else(|| Field::new(name.as_str(), DataType::Null, true))
        });
        let schema = Schema::new(fields.collect::<Vec<_>>());
        let types: Vec<LogicalType> = columns.into_iter().map(|(_, logical)| logical).collect();
        types::annotate(&schema, &types)
    }

    fn planned_parameters(&self, statement: &Statement<'static>) -> Result<SchemaRef> {
        if statement.parameter_count()? == 0 {
            return Ok(SchemaRef::new(Schema::empty()));
        }
        let declared = parameters::declared(self.connection(), statement)?;
        let fields = declared.into_iter().map(|(name, known)| Field::new(name, known.unwrap_or(DataType::Null), true));
        Ok(SchemaRef::new(Schema::new(fields.collect::<Vec<_>>())))
    }
}

impl Read {
    /// Whether it can be run when its rows are asked for. A Multi (PIVOT) has columns only when it runs; a change inside a CTE
    /// makes even a SELECT a change.
    fn only_reads(&self) -> bool {
        match self.statement_type {
            StatementType::Select | StatementType::Relation => self.targets.is_empty(),
            StatementType::Explain => true,
            _ => false,
        }
    }
}
