//! Statements that change something: managed tables are looked after, and the metadata follows in the same transaction.

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, Schema};
use duckdb_neo::Parameters;
use duckdb_neo::query_result::StatementType;
use duckdb_neo::statement::{SchemaBind, Statement};

use super::scan::{self, Setting};
use super::targets::{self, Target, Verb};
use super::{Execution, Insert, Read, gate, single};
use crate::engine::ingest::TableLock;
use crate::engine::parameters::Values;
use crate::engine::work::Work;
use crate::engine::{Bound, Executed, bound, metadata};
use crate::error::{Error, Result};
use crate::tables::Kind;

impl Work {
    /// Runs a statement that changes something; the metadata follows in the same transaction.
    pub(super) fn change(&mut self, sql: &str, bound: Option<&Bound>) -> Result<Execution> {
        let mut read = self.read(sql)?;
        let belongs_to_session = gate::belongs_to_session(self.connection(), read.statement_type, sql)?;
        if belongs_to_session && self.lease().is_none() {
            self.enter_session()?;
            read = self.read(sql)?;
        }
        let Read { statement, statement_type, targets, insert } = read;
        bound::check(&statement, bound)?;
        if let Some(insert) = insert {
            if self.in_transaction() {
                // Before its query begins the transaction: what others commit while it waits must not be a conflict.
                let lock = self.lock_table(&insert.table.to_lowercase())?;
                self.keep_lock(lock);
            }
            return Ok(Execution::Insert(insert));
        }
        if statement_type == StatementType::Transaction {
            return self.control_transaction(sql).map(|()| Execution::Done(Executed::default()));
        }
        if writes(statement_type) {
            self.engine.disk.check()?;
        }
        self.check_transaction()?;
        // Before the transaction begins, for the same reason.
        let locks = self.lock_targets(&targets)?;
        let _locks = match self.lane() {
            Some(lane) => lane.keep_locks(locks),
            None => locks,
        };
        self.enter_transaction()?;
        if matches!(statement_type, StatementType::Set | StatementType::VariableSet) {
            return self.set(&statement, sql).map(Execution::Done);
        }
        if belongs_to_session && let Some(session) = &self.session {
            session.keep_objects();
        }
        if self.engine.database.read_only || gate::is_maintenance(statement_type) {
            return self.run_rows(&statement, bound, false).map(Execution::Done);
        }
        let only_counts = gate::changes_rows(statement_type) && !scan::has_word(self.connection(), sql, "returning")?;
        // What makes or fills a table of the user's has no metadata to follow.
        let follows = gate::may_change_tables(statement_type)
            || targets.iter().any(|target| matches!(target.verb, Verb::Delete | Verb::Drop | Verb::Replace));
        let deleted_from =
            targets.iter().filter(|target| target.verb == Verb::Delete).map(|target| target.name.as_str());
        if self.in_transaction() {
            self.mark_written();
            // DuckDB knows whether its transaction can go on after an error in one run of a statement.
            let executed = self.run_rows(&statement, bound, only_counts).inspect_err(|error| {
                if bound.is_some_and(|bound| bound.rows() > 1) {
                    self.fail_transaction(error);
                }
            })?;
            if follows {
                metadata::follow_catalog(self, deleted_from).inspect_err(|error| self.fail_transaction(error))?;
            }
            return Ok(Execution::Done(executed));
        }
        if only_counts && !follows && bound.is_none() {
            // DuckDB makes a transaction of it by itself, which spares two statements.
            return self.run_rows(&statement, bound, only_counts).map(Execution::Done);
        }
        self.transaction(|| {
            let executed = self.run_rows(&statement, bound, only_counts)?;
            if follows {
                metadata::follow_catalog(self, deleted_from)?;
            }
            Ok(Execution::Done(executed))
        })
    }

    /// BEGIN, COMMIT, ROLLBACK.
    fn control_transaction(&self, sql: &str) -> Result<()> {
        match scan::transaction_end(self.connection(), sql)? {
            None => self.begin_by_sql(sql),
            Some(end) => self.end_by_sql(end),
        }
    }

    /// SET, RESET and USE: the session's other connections get the setting too.
    fn set(&self, statement: &Statement<'static>, sql: &str) -> Result<Executed> {
        let setting = scan::setting(self.connection(), sql)?;
        let executed = self.run_change(statement, Values::default())?;
        let Some(session) = &self.session else { return Ok(executed) };
        match setting {
            Setting::GlobalTimeZone => {}
            Setting::Variable => session.keep_objects(),
            Setting::Session | Setting::Other => {
                let (schema, time_zone) = self.settings_now().inspect_err(|_| self.go_back())?;
                session.set(|settings| {
                    settings.schema = schema;
                    settings.time_zone = time_zone;
                });
            }
        }
        Ok(executed)
    }

    /// Refuses what may not be done to managed tables; answers the ingest that an INSERT into one means.
    pub(super) fn check_targets(
        &self,
        sql: &str,
        statement_type: StatementType,
        targets: &[Target],
    ) -> Result<Option<Insert>> {
        for target in targets {
            metadata::refuse_server_table(&target.name)?;
            let Some(name) = target.managed_name() else { continue };
            let Some((table, kind)) = metadata::kind_of(self, name)? else { continue };
            if target.is_unqualified() && self.is_shadowed(name)? {
                continue;
            }
            match target.verb {
                Verb::Insert if statement_type == StatementType::Insert => {
                    return self.plan_insert(sql, target, targets, table, kind).map(Some);
                }
                Verb::Delete | Verb::Drop => {}
                Verb::Insert | Verb::Update | Verb::Merge | Verb::Alter | Verb::Replace | Verb::CopyInto => {
                    return Err(Error::precondition(format!(
                        "{} is not possible here on {table}, a table of {}: {}",
                        target.verb.word(),
                        kind.word(),
                        target.verb.hint()
                    )));
                }
            }
        }
        Ok(None)
    }

    /// Whether the name means another table in this session: a temporary one, or one of the schema that it uses.
    fn is_shadowed(&self, name: &str) -> Result<bool> {
        if self.session.is_none() && self.lease().is_none() {
            return Ok(false);
        }
        let sql = "SELECT 1 FROM duckdb_tables() WHERE lower(table_name) = lower($1) AND (temporary OR \
                   (database_name = current_database() AND schema_name = current_schema() AND schema_name <> 'main')) LIMIT 1";
        Ok(!self.collect(sql, &[Some(name)])?.is_empty())
    }

    fn plan_insert(&self, sql: &str, target: &Target, targets: &[Target], table: String, kind: Kind) -> Result<Insert> {
        if targets.len() > 1 {
            return Err(Error::precondition(format!(
                "an INSERT into {table}, a table of {}, must be a statement of its own",
                kind.word()
            )));
        }
        let parts = targets::insert_parts(self.connection(), sql, target)?;
        let columns = match parts.columns {
            Some(columns) => Some(columns),
            None if parts.by_name => None,
            None => Some(kind.columns().iter().map(|column| column.name.to_owned()).collect()),
        };
        if let Some(names) = &columns {
            let statement = single(self.connection(), &parts.source)?;
            let SchemaBind { schema, .. } = statement.bind(self.connection())?;
            // With parameters the columns may be open; a wrong number is found when it runs.
            if statement.parameter_count()? == 0 && schema.len()? != names.len() {
                return Err(Error::invalid(format!(
                    "table {table} gets {} columns but {} values were given",
                    names.len(),
                    schema.len()?
                )));
            }
        }
        Ok(Insert { table, kind, source: parts.source, columns, replace: parts.replace })
    }

    /// Managed tables are dropped and deleted from while no ingest merges into them.
    fn lock_targets(&self, targets: &[Target]) -> Result<Vec<TableLock>> {
        let mut names: Vec<String> = targets
            .iter()
            .filter(|target| matches!(target.verb, Verb::Delete | Verb::Drop))
            .filter_map(|target| target.managed_name().map(str::to_ascii_lowercase))
            .collect();
        // One order for everybody, so that two statements cannot wait for each other.
        names.sort_unstable();
        names.dedup();
        names.into_iter().filter_map(|name| self.lock_table(&name).transpose()).collect()
    }

    /// Runs a statement once, or once for each row of `bound`; the counts are added, the rows follow one another. One that
    /// `only_counts` has no rows.
    fn run_rows(&self, statement: &Statement<'static>, bound: Option<&Bound>, only_counts: bool) -> Result<Executed> {
        let bound = bound.filter(|_| statement.parameter_count().is_ok_and(|count| count > 0));
        let Some(bound) = bound else {
            if only_counts {
                self.cancel.check()?;
                let changed = statement.query(self.connection(), Parameters::None)?.drain()? as u64;
                return Ok(Executed { changed: Some(changed), ..Executed::default() });
            }
            return self.run_change(statement, Values::default());
        };
        if only_counts {
            return self.change_rows(statement, bound);
        }
        let mut sum =
            Executed { changed: gate::changes_rows(statement.get_type()?).then_some(0), ..Executed::default() };
        for row in bound.values(self, statement) {
            let executed = self.run_change(statement, row?.values())?;
            sum.changed = executed.changed.map(|changed| changed + sum.changed.unwrap_or(0));
            sum.schema = executed.schema;
            sum.batches.extend(executed.batches);
        }
        Ok(sum)
    }

    /// Runs a change for each row of `bound`, on one plan.
    fn change_rows(&self, statement: &Statement<'static>, bound: &Bound) -> Result<Executed> {
        let prepared = statement.prepare(self.connection(), false)?;
        let mut changed = 0;
        for row in bound.values(self, statement) {
            self.cancel.check()?;
            changed += row?.with(|parameters| prepared.execute(parameters)?.drain())? as u64;
        }
        Ok(Executed { changed: Some(changed), ..Executed::default() })
    }

    fn run_change(&self, statement: &Statement<'static>, values: Values<'_>) -> Result<Executed> {
        let (schema, batches) = self.collect_statement(statement, values)?;
        let statement_type = statement.get_type()?;
        if gate::changes_rows(statement_type)
            && let Some(changed) = changed_rows(&schema, &batches)
        {
            return Ok(Executed { changed: Some(changed), ..Executed::default() });
        }
        if gate::has_no_rows(statement_type) {
            return Ok(Executed::default());
        }
        Ok(Executed { changed: None, schema, batches })
    }
}

/// Whether a statement needs room on the disk. DROP is how room is made.
fn writes(statement_type: StatementType) -> bool {
    gate::changes_rows(statement_type)
        || matches!(
            statement_type,
            StatementType::Create
                | StatementType::CreateFunc
                | StatementType::Alter
                | StatementType::Select
                | StatementType::Multi
        )
}

/// DuckDB answers a change with one row of one column `Count`; RETURNING answers other columns.
fn changed_rows(schema: &Schema, batches: &[arrow::array::RecordBatch]) -> Option<u64> {
    let is_count = schema.fields().len() == 1 && schema.field(0).name() == "Count";
    let column = batches.first().filter(|_| is_count)?.column(0).as_primitive_opt::<Int64Type>()?;
    u64::try_from(column.values().first().copied()?).ok()
}
