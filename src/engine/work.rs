//! One piece of engine work: a connection, whether it was cancelled, and the right to run statements.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use duckdb_neo::Parameters;
use duckdb_neo::connection::Connection;
use tokio::sync::oneshot;

use super::cancel::{Cancel, Watch};
use super::ingest::TableLock;
use super::slots::Slot;
use super::{Engine, Inner, ffi, recovery, statement, timezone};
use crate::error::{Error, Result};

/// What a piece of work may use. It lives on an engine thread.
pub(in crate::engine) struct Work {
    pub(in crate::engine) engine: Arc<Inner>,
    pub(in crate::engine) connection: Connection,
    pub(in crate::engine) cancel: Arc<Cancel>,
    _watch: Watch,
}

/// Cancels the work when dropped: a caller who is gone does not wait for the answer.
#[derive(Debug)]
pub(in crate::engine) struct CancelOnDrop(pub(in crate::engine) Arc<Cancel>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Engine {
    /// Runs `work` on an engine thread with a slot, and waits for it; dropping the future cancels it.
    pub(in crate::engine) async fn run<T: Send + 'static>(
        &self,
        deadline: Option<Instant>,
        work: impl FnOnce(&Work) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let guard = self.spawn(deadline, move |state| {
            let answer = state.and_then(|state| {
                let slot = state.slot()?;
                let answer = work(&state).map_err(|error| state.explain(error));
                drop(slot);
                let engine = Arc::clone(&state.engine);
                drop(state);
                if answer.as_ref().is_err_and(recovery::is_disk_full) {
                    engine.reclaim();
                }
                answer
            });
            // The caller may be gone; then nobody needs the answer.
            drop(answer_tx.send(answer));
        })?;
        let answer = answer_rx.await;
        drop(guard);
        answer.map_err(|_| Error::internal("the engine ended without an answer"))?
    }

    /// Starts `work` on an engine thread, without a slot; dropping the answer cancels it.
    pub(in crate::engine) fn spawn(
        &self,
        deadline: Option<Instant>,
        work: impl FnOnce(Result<Work>) + Send + 'static,
    ) -> Result<CancelOnDrop> {
        let cancel = Cancel::until(self.deadline(deadline));
        let guard = CancelOnDrop(Arc::clone(&cancel));
        self.start(cancel, work)?;
        Ok(guard)
    }

    /// The same without a deadline.
    pub(in crate::engine) fn spawn_untimed(
        &self,
        work: impl FnOnce(Result<Work>) + Send + 'static,
    ) -> Result<CancelOnDrop> {
        let cancel = Cancel::never();
        let guard = CancelOnDrop(Arc::clone(&cancel));
        self.start(cancel, work)?;
        Ok(guard)
    }

    /// The same, and nobody can cancel it: for work on behalf of several callers.
    pub(in crate::engine) fn spawn_detached(&self, work: impl FnOnce(Result<Work>) + Send + 'static) -> Result<()> {
        self.start(Cancel::never(), work)
    }

    fn start(&self, cancel: Arc<Cancel>, work: impl FnOnce(Result<Work>) + Send + 'static) -> Result<()> {
        let engine = Arc::clone(&self.0);
        self.0.threads.spawn(move || work(Work::begin(engine, cancel)))
    }
}

impl Work {
    fn begin(engine: Arc<Inner>, cancel: Arc<Cancel>) -> Result<Self> {
        let connection = engine.instance.connect()?;
        timezone::set_clock(&connection)?;
        let watch = engine.watchdog.watch(&cancel, connection.interrupt_handle());
        Ok(Self { engine, connection, cancel, _watch: watch })
    }

    /// The error for the caller; one that has invalidated the database also starts its recovery.
    pub(in crate::engine) fn explain(&self, error: Error) -> Error {
        if super::error::invalidates_database(&error) {
            Engine(Arc::clone(&self.engine)).start_recovery();
        }
        let error = self.cancel.explain(error);
        match self.engine.database.path.as_deref().and_then(std::path::Path::to_str) {
            Some(path) => error.replacing(path, "<database file>"),
            None => error,
        }
    }

    /// Waits for the right to run a statement.
    pub(in crate::engine) fn slot(&self) -> Result<Slot<'_>> {
        self.engine.slots.acquire(&self.cancel)
    }

    /// Waits for the lock of a table, by its lowercase name, on behalf of a statement that holds a slot.
    pub(in crate::engine) fn lock_table(&self, table: &str) -> Result<TableLock> {
        let ingests = &self.engine.ingests;
        match ingests.try_lock(table) {
            Some(lock) => Ok(lock),
            None => self.engine.slots.without(&self.cancel, || ingests.lock(table, &self.cancel)),
        }
    }

    /// Runs a statement of ours; answers the number of rows that it changed.
    pub(in crate::engine) fn execute(&self, sql: &str) -> Result<u64> {
        self.execute_with(sql, Parameters::None)
    }

    /// Runs a statement of ours with parameters; answers the number of rows that it changed.
    pub(in crate::engine) fn execute_with(&self, sql: &str, parameters: Parameters<'_>) -> Result<u64> {
        self.cancel.check()?;
        Ok(self.connection.execute(sql, parameters)? as u64)
    }

    /// Runs a query of ours and collects its rows: for the catalog's small answers.
    pub(in crate::engine) fn collect(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<RecordBatch>> {
        let statement = statement::single(&self.connection, sql)?;
        Ok(self.collect_statement(&statement, parameters)?.1)
    }

    /// Runs a statement and collects its rows.
    pub(in crate::engine) fn collect_statement(
        &self,
        statement: &duckdb_neo::statement::Statement<'static>,
        parameters: Parameters<'_>,
    ) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        self.cancel.check()?;
        let mut result = statement.arrow_query(&self.connection, parameters, Some(self.engine.query.batch_rows))?;
        let mut batches = Vec::new();
        let mut bytes = 0;
        let first = result.next_array()?;
        // An expanding statement (PIVOT) knows its columns only after the first step.
        let schema = ffi::schema_from(result.schema()?)?;
        let mut next = first;
        while let Some(array) = next {
            if !array.is_empty() {
                let batch = ffi::batch_from(array, &schema)?;
                bytes += batch.get_array_memory_size() as u64;
                batches.push(batch);
            }
            let bytes_max = self.engine.query.result_bytes_max;
            if bytes > bytes_max.as_u64() {
                return Err(Error::exhausted(format!(
                    "the statement's rows are more than {bytes_max}, and it is run whole (query.result_bytes_max)"
                )));
            }
            self.cancel.check()?;
            next = result.next_array()?;
        }
        Ok((schema, batches))
    }

    /// Runs `work` in a transaction: committed if it answers well, rolled back otherwise.
    pub(in crate::engine) fn transaction<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.execute("BEGIN TRANSACTION")?;
        let outcome = work().and_then(|value| {
            self.execute("COMMIT")?;
            Ok(value)
        });
        if outcome.is_err()
            && let Err(error) = self.connection.execute("ROLLBACK", Parameters::None)
        {
            // The connection is dropped with the work, which rolls back too.
            tracing::debug!(%error, "cannot roll back");
        }
        outcome
    }
}

/// `name` as an SQL identifier.
pub(in crate::engine) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
