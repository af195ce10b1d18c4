//! Statements: exactly one per text, told apart by what running them means, and what they may do to managed tables.
//!
//! DuckDB 2.0 runs the first statements of a text before it reads the later ones, so several are refused here, before any
//! of them runs. Rows enter managed tables through ingest only: an INSERT becomes an ingest of the rows that it gives,
//! UPDATE, MERGE and ALTER are refused, and after any other change the metadata follows in the same transaction.

mod scan;

use std::time::Instant;

use arrow::datatypes::{Schema, SchemaRef};
use duckdb_neo::Parameters;
use duckdb_neo::connection::Connection;
use duckdb_neo::query_result::StatementType;
use duckdb_neo::statement::{SchemaBind, Statement};

use super::work::Work;
use super::{Engine, Executed, ffi, metadata, types};
use crate::error::{Error, ErrorKind, Result};
use crate::tables::Kind;
use scan::{Action, Target};

/// What running a statement means.
#[derive(Debug)]
pub enum Plan {
    /// It only reads: its columns are known and it may be run when its rows are asked for.
    Rows(SchemaRef),
    /// It changes something, or its columns are known only when it has run: run it once.
    Change {
        /// Whether it will have rows to read.
        returns_rows: bool,
    },
    /// An INSERT into a managed table: an ingest of the rows of a query.
    Insert(Insert),
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

impl Engine {
    /// Tells what running `sql` means, without running it.
    pub async fn plan(&self, sql: String, deadline: Option<Instant>) -> Result<Plan> {
        self.run(deadline, move |work| work.plan(&sql)).await
    }

    /// Runs a statement to its end, once; an INSERT into a managed table is only taken apart.
    pub async fn execute(&self, sql: String, deadline: Option<Instant>) -> Result<Execution> {
        self.run(deadline, move |work| work.change(&sql)).await
    }
}

impl Work {
    fn plan(&self, sql: &str) -> Result<Plan> {
        let (statement, targets) = self.read(sql)?;
        let statement_type = statement.get_type()?;
        if statement.parameter_count()? > 0 {
            return Err(Error::invalid("bound parameters are not offered yet: write the values into the statement"));
        }
        if let Some(insert) = self.check_targets(sql, statement_type, &targets)? {
            return Ok(Plan::Insert(insert));
        }
        if only_reads(statement_type, &targets) {
            return self.schema_of(&statement).map(Plan::Rows);
        }
        let returns_rows = if changes_rows(statement_type) {
            scan::has_word(&self.connection, sql, "returning")?
        } else {
            !has_no_rows(statement_type)
        };
        Ok(Plan::Change { returns_rows })
    }

    /// The statement of `sql` if it only reads; none if it has to be executed.
    pub(in crate::engine) fn read_query(&self, sql: &str) -> Result<Option<Statement<'static>>> {
        let (statement, targets) = self.read(sql)?;
        let statement_type = statement.get_type()?;
        self.check_targets(sql, statement_type, &targets)?;
        Ok(only_reads(statement_type, &targets).then_some(statement))
    }

    fn read(&self, sql: &str) -> Result<(Statement<'static>, Vec<Target>)> {
        self.limit_length(sql)?;
        let statement = single(&self.connection, sql)?;
        self.refuse(statement.get_type()?, sql)?;
        let targets = scan::targets(&self.connection, sql)?;
        Ok((statement, targets))
    }

    /// Refuses what would harm everybody, and what would have no effect because every statement has a connection of its own.
    fn refuse(&self, statement_type: StatementType, sql: &str) -> Result<()> {
        let forbidden = |what: &str| {
            let message = format!("{what} is not allowed: it would change the server for everybody");
            Err(Error::new(ErrorKind::PermissionDenied, message))
        };
        let sessionless = |what: &str| Err(Error::unimplemented(format!("{what}: sessions are not offered yet")));
        match statement_type {
            StatementType::Attach => forbidden("ATTACH"),
            StatementType::Detach => forbidden("DETACH"),
            StatementType::Load | StatementType::Extension | StatementType::UpdateExtensions => {
                forbidden("loading extensions")
            }
            StatementType::Export | StatementType::CopyDatabase => forbidden("EXPORT and COPY DATABASE"),
            StatementType::Connect | StatementType::Disconnect | StatementType::ExternalResource => {
                forbidden("CONNECT")
            }
            StatementType::Set if scan::sets_global_time_zone(&self.connection, sql)? => Ok(()),
            StatementType::Set => sessionless(
                "SET would last for its own statement only; SET GLOBAL TimeZone sets the time zone for everybody",
            ),
            StatementType::Create if scan::creates_temporary(&self.connection, sql)? => {
                sessionless("a temporary table or view would last for its own statement only")
            }
            StatementType::Pragma | StatementType::Call if !scan::only_looks(&self.connection, sql)? => {
                forbidden("a PRAGMA or CALL that does more than look")
            }
            StatementType::Prepare | StatementType::Execute | StatementType::VariableSet => {
                sessionless("a prepared statement or a variable would last for its own statement only")
            }
            StatementType::Transaction => Err(Error::unimplemented(
                "transactions across statements are not offered yet: every statement is one of its own",
            )),
            _ => Ok(()),
        }
    }

    fn limit_length(&self, sql: &str) -> Result<()> {
        let bytes_max = self.engine.config.statement_bytes_max.as_u64();
        if sql.len() as u64 > bytes_max {
            return Err(Error::exhausted(format!(
                "the statement has {} bytes; the limit is {bytes_max} (engine.statement_bytes_max)",
                sql.len()
            )));
        }
        Ok(())
    }

    /// The columns that a query will have: it is planned and dropped, not run.
    pub(in crate::engine) fn schema_of(&self, statement: &Statement<'static>) -> Result<SchemaRef> {
        let types = types::of(&self.connection, statement)?;
        let result = statement.arrow_query(&self.connection, Parameters::None, None)?;
        Ok(types::annotate(&*ffi::schema_from(result.schema()?)?, &types))
    }

    /// Refuses what may not be done to managed tables; answers the ingest that an INSERT into one means.
    fn check_targets(&self, sql: &str, statement_type: StatementType, targets: &[Target]) -> Result<Option<Insert>> {
        for target in targets {
            metadata::refuse_server_table(&target.name)?;
            let Some(name) = target.managed_name() else { continue };
            let Some((table, kind)) = metadata::kind_of(self, name)? else { continue };
            match target.action {
                Action::Insert if statement_type == StatementType::Insert => {
                    return self.plan_insert(sql, target, targets, table, kind).map(Some);
                }
                Action::Delete | Action::Drop => {}
                Action::Insert
                | Action::Update
                | Action::Merge
                | Action::Alter
                | Action::Replace
                | Action::CopyInto => {
                    return Err(Error::precondition(format!(
                        "{} is not possible here on {table}, a table of {}: {}",
                        target.action.word(),
                        kind.word(),
                        target.action.hint()
                    )));
                }
            }
        }
        Ok(None)
    }

    fn plan_insert(&self, sql: &str, target: &Target, targets: &[Target], table: String, kind: Kind) -> Result<Insert> {
        if targets.len() > 1 {
            return Err(Error::precondition(format!(
                "an INSERT into {table}, a table of {}, must be a statement of its own",
                kind.word()
            )));
        }
        let parts = scan::insert_parts(&self.connection, sql, target)?;
        let columns = match parts.columns {
            Some(columns) => Some(columns),
            None if parts.by_name => None,
            None => Some(kind.columns().iter().map(|column| column.name.to_owned()).collect()),
        };
        if let Some(names) = &columns {
            let statement = single(&self.connection, &parts.source)?;
            let SchemaBind { schema, .. } = statement.bind(&self.connection)?;
            if schema.len()? != names.len() {
                return Err(Error::invalid(format!(
                    "table {table} gets {} columns but {} values were given",
                    names.len(),
                    schema.len()?
                )));
            }
        }
        Ok(Insert { table, kind, source: parts.source, columns, replace: parts.replace })
    }

    /// Runs a statement that changes something; the metadata follows in the same transaction.
    fn change(&self, sql: &str) -> Result<Execution> {
        let (statement, targets) = self.read(sql)?;
        let statement_type = statement.get_type()?;
        if let Some(insert) = self.check_targets(sql, statement_type, &targets)? {
            return Ok(Execution::Insert(insert));
        }
        if self.engine.database.read_only || !may_change_tables(statement_type) {
            return self.run_change(&statement).map(Execution::Done);
        }
        let _locks = self.lock_targets(&targets)?;
        let deleted_from =
            targets.iter().filter(|target| target.action == Action::Delete).map(|target| target.name.as_str());
        self.transaction(|| {
            let executed = self.run_change(&statement)?;
            metadata::follow_catalog(self, deleted_from)?;
            Ok(Execution::Done(executed))
        })
    }

    /// Managed tables are dropped and deleted from while no ingest merges into them.
    fn lock_targets(&self, targets: &[Target]) -> Result<Vec<super::ingest::TableLock>> {
        let mut names: Vec<String> = targets
            .iter()
            .filter(|target| matches!(target.action, Action::Delete | Action::Drop))
            .filter_map(|target| target.managed_name().map(str::to_ascii_lowercase))
            .collect();
        // One order for everybody, so that two statements cannot wait for each other.
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| self.lock_table(&name)).collect()
    }

    fn run_change(&self, statement: &Statement<'static>) -> Result<Executed> {
        let (schema, batches) = self.collect_statement(statement, Parameters::None)?;
        let statement_type = statement.get_type()?;
        if changes_rows(statement_type)
            && let Some(changed) = changed_rows(&schema, &batches)
        {
            return Ok(Executed { changed: Some(changed), ..Executed::default() });
        }
        if has_no_rows(statement_type) {
            return Ok(Executed::default());
        }
        Ok(Executed { changed: None, schema, batches })
    }
}

/// Statements that read and can be run when their rows are asked for. A Multi (PIVOT) has columns only when it runs; a change
/// inside a CTE makes even a SELECT a change.
fn only_reads(statement_type: StatementType, targets: &[Target]) -> bool {
    match statement_type {
        StatementType::Select | StatementType::Relation => targets.is_empty(),
        StatementType::Explain => true,
        _ => false,
    }
}

/// Statements whose answer is a number of rows, unless they say RETURNING.
fn changes_rows(statement_type: StatementType) -> bool {
    matches!(
        statement_type,
        StatementType::Insert
            | StatementType::Update
            | StatementType::Delete
            | StatementType::MergeInto
            | StatementType::Copy
    )
}

/// Statements after which a managed table may be gone, or hold fewer rows. Others (CHECKPOINT, ATTACH, SET) must or should
/// not run inside a transaction.
fn may_change_tables(statement_type: StatementType) -> bool {
    matches!(
        statement_type,
        StatementType::Delete
            | StatementType::Drop
            | StatementType::Alter
            | StatementType::Create
            | StatementType::Select
            | StatementType::Multi
            | StatementType::Insert
            | StatementType::Update
            | StatementType::MergeInto
    )
}

fn has_no_rows(statement_type: StatementType) -> bool {
    matches!(
        statement_type,
        StatementType::Create
            | StatementType::CreateFunc
            | StatementType::Drop
            | StatementType::Alter
            | StatementType::Set
            | StatementType::VariableSet
            | StatementType::Transaction
            | StatementType::Attach
            | StatementType::Detach
            | StatementType::Load
            | StatementType::Prepare
            | StatementType::Vacuum
    )
}

/// DuckDB answers a change with one row of one column `Count`; RETURNING answers other columns.
fn changed_rows(schema: &Schema, batches: &[arrow::array::RecordBatch]) -> Option<u64> {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    let is_count = schema.fields().len() == 1 && schema.field(0).name() == "Count";
    let column = batches.first().filter(|_| is_count)?.column(0).as_primitive_opt::<Int64Type>()?;
    u64::try_from(column.values().first().copied()?).ok()
}
