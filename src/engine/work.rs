//! One piece of engine work: a connection, whether it was cancelled, and the right to run statements.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use duckdb_neo::connection::{Connection, SettingScope};
use duckdb_neo::statement::Statement;
use duckdb_neo::value::Value;
use duckdb_neo::{Parameters, ToValue};
use tokio::sync::oneshot;
use tracing::Span;

use super::cancel::{Cancel, Watch};
use super::ingest::{LockWait, TableLock};
use super::live::Live;
use super::meter::Meter;
use super::parameters::Values;
use super::queries::QueryState;
use super::session::{Extensions, InUse, Lease, Place, Settings, Wants};
use super::slots::{Slot, Slots};
use super::threads::Use;
use super::types::Export;
use super::{Call, Database, Engine, Inner, ffi, guard, recovery, statement, timezone};
use crate::error::{Error, Result};

/// The setting of a connection that has its plans optimized.
pub(in crate::engine) const OPTIMIZER: &str = "enable_optimizer";

/// The setting of a connection that says how much memory the sorts and hash tables of its query take.
pub(in crate::engine) const QUERY_MEMORY: &str = "operator_memory_limit";

/// What a piece of work may use. It lives on an engine thread.
pub(in crate::engine) struct Work {
    // Dropped in this order: nobody interrupts the connection any more when it goes back to its lane.
    watch: Watch,
    line: Line,
    pub(in crate::engine) engine: Arc<Inner>,
    pub(in crate::engine) cancel: Arc<Cancel>,
    pub(in crate::engine) call: Call,
    pub(in crate::engine) session: Option<InUse>,
    /// Where its turn comes from: ingests do not queue with statements.
    slots: Arc<Slots>,
    /// Whether plans on the connection are optimized.
    optimizes: Cell<bool>,
    /// How often the database had been opened again when it began.
    turn: u64,
    /// The thread's statements are the caller's as long as this lives, but for those that go through `execute` and its like.
    _caller: guard::Entered,
}

/// The connection of a piece of work.
enum Line {
    /// Its own.
    Own(Connection),
    /// That of a session or a transaction.
    Leased(Lease),
}

/// Ends the work when dropped: a caller who is gone does not wait for the answer.
#[derive(Debug)]
pub(in crate::engine) struct CancelOnDrop(pub(in crate::engine) Arc<Cancel>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Engine {
    /// Runs `work` as a statement of the caller's, on an engine thread with a slot, and waits for it; dropping the future
    /// cancels it.
    pub(in crate::engine) async fn run<T: Send + 'static>(
        &self,
        call: &Call,
        work: impl FnOnce(&mut Work) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run_as(call, Wants::Statement, work).await
    }

    /// The same for work that wants a certain connection.
    pub(in crate::engine) async fn run_as<T: Send + 'static>(
        &self,
        call: &Call,
        wants: Wants,
        work: impl FnOnce(&mut Work) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run_on(Use::Statements, call, wants, work).await
    }

    /// The same for a look on behalf of an ingest, which does not wait for statements to end.
    pub(in crate::engine) async fn run_for_ingest<T: Send + 'static>(
        &self,
        call: &Call,
        wants: Wants,
        work: impl FnOnce(&mut Work) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run_on(Use::Ingests, call, wants, work).await
    }

    async fn run_on<T: Send + 'static>(
        &self,
        use_for: Use,
        call: &Call,
        wants: Wants,
        work: impl FnOnce(&mut Work) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let guard = self.spawn_on(use_for, call, wants, move |state| {
            let answer = state.and_then(|mut state| {
                let slot = state.slot()?;
                let answer = work(&mut state).map_err(|error| state.explain(error));
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
        let answer = tokio::select! {
            biased;
            answer = answer_rx => answer.map_err(|_| Error::internal("the engine ended without an answer"))?,
            error = Arc::clone(&guard.0).overdue() => Err(error),
        };
        drop(guard);
        answer
    }

    /// Starts `work` on an engine thread, without a slot; dropping the answer cancels it.
    pub(in crate::engine) fn spawn(
        &self,
        call: &Call,
        wants: Wants,
        work: impl FnOnce(Result<Work>) + Send + 'static,
    ) -> Result<CancelOnDrop> {
        self.spawn_on(Use::Statements, call, wants, work)
    }

    fn spawn_on(
        &self,
        use_for: Use,
        call: &Call,
        wants: Wants,
        work: impl FnOnce(Result<Work>) + Send + 'static,
    ) -> Result<CancelOnDrop> {
        let place = self.0.sessions.place(call, wants)?;
        let cancel = Cancel::until(self.deadline(call.deadline, place.settings.query_timeout));
        let guard = CancelOnDrop(Arc::clone(&cancel));
        self.start(use_for, call, place, cancel, Span::current(), work)?;
        Ok(guard)
    }

    /// Starts `work` of an ingest, without a deadline: a stream lasts as long as its client sends.
    pub(in crate::engine) fn spawn_ingest(
        &self,
        call: &Call,
        wants: Wants,
        work: impl FnOnce(Result<Work>) + Send + 'static,
    ) -> Result<CancelOnDrop> {
        let cancel = Cancel::never();
        let guard = CancelOnDrop(Arc::clone(&cancel));
        self.start(Use::Ingests, call, self.0.sessions.place(call, wants)?, cancel, Span::current(), work)?;
        Ok(guard)
    }

    /// The same, and nobody can cancel it: for an ingest on behalf of several callers.
    pub(in crate::engine) fn spawn_group(&self, work: impl FnOnce(Result<Work>) + Send + 'static) -> Result<()> {
        let call = Call::default();
        let place = self.0.sessions.place(&call, Wants::Statement)?;
        // None of their calls is the one that it is logged under.
        self.start(Use::Ingests, &call, place, Cancel::never(), Span::none(), work)
    }

    pub(in crate::engine) fn start(
        &self,
        use_for: Use,
        call: &Call,
        place: Place,
        cancel: Arc<Cancel>,
        span: Span,
        work: impl FnOnce(Result<Work>) + Send + 'static,
    ) -> Result<()> {
        let (engine, call) = (Arc::clone(&self.0), call.clone());
        if let Some(session) = &place.session {
            session.runs(&cancel);
        }
        if let Some(tracked) = &call.tracked {
            tracked.runs(&cancel);
        }
        let (threads, slots) = match use_for {
            Use::Statements => (&self.0.threads, &self.0.slots),
            Use::Ingests => (&self.0.ingest_threads, &self.0.ingest_slots),
        };
        let slots = Arc::clone(slots);
        threads.spawn(move || span.in_scope(|| work(Work::begin(engine, slots, call, place, cancel))))
    }
}

impl Inner {
    /// A connection for work of a caller's.
    fn connect(&self) -> Result<Connection> {
        let connection = self.instance.connect()?;
        let memory = self.config.query_memory_max.as_u64();
        if memory > 0 {
            connection.config()?.set_text(QUERY_MEMORY, &format!("{memory}B"), SettingScope::Session)?;
        }
        Ok(connection)
    }
}

impl Line {
    fn connection(&self) -> &Connection {
        match self {
            Self::Own(connection) => connection,
            Self::Leased(lease) => lease.connection(),
        }
    }
}

impl Work {
    fn begin(engine: Arc<Inner>, slots: Arc<Slots>, call: Call, place: Place, cancel: Arc<Cancel>) -> Result<Self> {
        let turn = engine.recovery.turn()?;
        let caller = guard::enter(call.principal.as_ref(), &engine);
        let line = if let Some(lane) = &place.lane {
            let connect = || engine.connect();
            let wait_max = engine.config.statements_queue_wait;
            Line::Leased(lane.lease(&cancel, wait_max, Some(&place.settings), connect)?)
        } else {
            let connection = engine.connect()?;
            place.settings.apply(&connection, &Settings::default())?;
            Line::Own(connection)
        };
        let connection = line.connection();
        timezone::set_clock(connection)?;
        let watch = engine.watchdog.watch(&cancel, connection.interrupt_handle());
        if let Some(tracked) = &call.tracked {
            tracked.read(connection);
        }
        Ok(Self {
            watch,
            line,
            engine,
            cancel,
            call,
            session: place.session,
            slots,
            optimizes: Cell::new(true),
            turn,
            _caller: caller,
        })
    }

    /// The connection.
    pub(in crate::engine) fn connection(&self) -> &Connection {
        self.line.connection()
    }

    /// Has the plan of what runs next optimized, or not: for work on a connection of its own which runs the same statement again and
    /// again, with nothing in its plan to choose between. Statements of ours that go through this file always are.
    pub(in crate::engine) fn optimize(&self, on: bool) -> Result<()> {
        if self.optimizes.replace(on) != on {
            let value = if on { "true" } else { "false" };
            self.connection().config()?.set_text(OPTIMIZER, value, SettingScope::Session)?;
        }
        Ok(())
    }

    /// The lease of a session's or transaction's connection, if the work has not one of its own.
    pub(in crate::engine) fn lease(&self) -> Option<&Lease> {
        match &self.line {
            Line::Own(_) => None,
            Line::Leased(lease) => Some(lease),
        }
    }

    /// Moves to the connection of the caller's session, where what is done stays. The work holds a slot, and gives it back
    /// while it waits for its turn.
    pub(in crate::engine) fn enter_session(&mut self) -> Result<()> {
        if self.lease().is_some() {
            return Ok(());
        }
        let place = self.engine.sessions.place(&self.call, Wants::Session)?;
        let lane = place.lane.ok_or_else(|| Error::internal("a session without a lane"))?;
        let engine = Arc::clone(&self.engine);
        let connect = || engine.connect();
        let lease = self.slots.without(&self.cancel, &self.call.owner(), || {
            lane.lease(&self.cancel, engine.config.statements_queue_wait, Some(&place.settings), connect)
        })?;
        self.watch.retarget(lease.connection().interrupt_handle());
        timezone::set_clock(lease.connection())?;
        self.line = Line::Leased(lease);
        self.session = place.session;
        Ok(())
    }

    /// The error for the caller; one that has invalidated the database also starts its recovery.
    pub(in crate::engine) fn explain(&self, error: Error) -> Error {
        if super::error::invalidates_database(&error) {
            Engine(Arc::clone(&self.engine)).start_recovery();
        }
        let mut error = self.engine.recovery.explain(self.turn, self.cancel.explain(error));
        if self.call.is_restricted() {
            error = error.retold(super::error::without_names);
        }
        let Database { path, temp_directory, .. } = &self.engine.database;
        let file = path.as_deref();
        let places = [
            (file, "<database file>"),
            (temp_directory.as_deref(), "<temp directory>"),
            (file.and_then(Path::parent), "<database directory>"),
        ];
        places.into_iter().fold(error, |error, (path, shown)| {
            let path = path.and_then(Path::to_str).filter(|path| path.len() > 1);
            match path {
                Some(path) => error.replacing(path, shown),
                None => error,
            }
        })
    }

    /// Waits for the right to run a statement.
    pub(in crate::engine) fn slot(&self) -> Result<Slot> {
        self.enter(QueryState::Queued);
        let slot = self.slots.acquire(&self.cancel, &self.call.owner())?;
        self.enter(QueryState::Running);
        Ok(slot)
    }

    /// Notes in the query log where the caller's statement is.
    pub(in crate::engine) fn enter(&self, state: QueryState) {
        if let Some(tracked) = &self.call.tracked {
            tracked.enter(state);
        }
    }

    /// Waits for the lock of a table, by its lowercase name, on behalf of a statement that holds a slot; none when the caller's
    /// transaction has it already. Inside a transaction, which keeps it, to `Lane::keep_locks` with it.
    ///
    /// # Errors
    /// `ResourceExhausted` when it waits for too long.
    pub(in crate::engine) fn lock_table(&self, table: &str) -> Result<Option<TableLock>> {
        let ingests = &self.engine.ingests;
        if self.lane().is_some_and(|lane| lane.has_lock(table)) {
            return Ok(None);
        }
        if let Some(lock) = ingests.try_lock(table) {
            return Ok(Some(lock));
        }
        self.slots.without(&self.cancel, &self.call.owner(), || self.wait_for_lock(table)).map(Some)
    }

    /// The same wait for work without a slot.
    pub(in crate::engine) fn wait_for_lock(&self, table: &str) -> Result<TableLock> {
        self.engine.ingests.lock(table, &self.cancel, self.lock_wait())
    }

    /// A transaction has other locks, and somebody may wait for those: two may wait for each other, so it does not wait for long.
    pub(in crate::engine) fn lock_wait(&self) -> LockWait {
        if self.in_transaction() {
            LockWait { max: self.engine.config.statements_queue_wait, setting: "engine.statements_queue_wait" }
        } else {
            LockWait { max: self.engine.table_wait, setting: "ingest.table_wait" }
        }
    }

    /// Leaves a table's lock to the caller's transaction, which keeps it until it ends; gives it back when there is none.
    pub(in crate::engine) fn keep_lock(&self, lock: Option<TableLock>) -> Option<TableLock> {
        match self.lane() {
            Some(lane) => lane.keep_locks(lock.into_iter().collect()).pop(),
            None => lock,
        }
    }

    /// Runs a statement of ours; answers the number of rows that it changed.
    pub(in crate::engine) fn execute(&self, sql: &str) -> Result<u64> {
        self.execute_with(sql, Parameters::None)
    }

    /// Runs a statement of ours with parameters; answers the number of rows that it changed.
    pub(in crate::engine) fn execute_with(&self, sql: &str, parameters: Parameters<'_>) -> Result<u64> {
        self.cancel.check()?;
        self.optimize(true)?;
        Ok(guard::as_server(|| self.connection().execute(sql, parameters))? as u64)
    }

    /// Runs a query of ours, whose parameters `$1` and so on are texts or NULL, and collects its rows: for the catalog's small
    /// answers.
    pub(in crate::engine) fn collect(&self, sql: &str, texts: &[Option<&str>]) -> Result<Vec<RecordBatch>> {
        self.optimize(true)?;
        let connection = self.connection();
        let statement = statement::single(connection, sql)?;
        let values: Vec<Value> = texts.iter().map(|text| text.value(connection)).collect::<Result<_, _>>()?;
        let names: Vec<String> = (1..=values.len()).map(|number| number.to_string()).collect();
        let values = Values { names: &names, values: &values };
        let batch = self.engine.result_buffer.batch();
        let result = guard::as_server(|| Live::start(connection, &statement, values, batch))?;
        Ok(self.collect_result(result)?.1)
    }

    /// Runs a query of ours and gives its batches to `take` as they come, as DuckDB exports them.
    pub(in crate::engine) fn each_batch(
        &self,
        sql: &str,
        mut take: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        self.optimize(true)?;
        let connection = self.connection();
        let statement = statement::single(connection, sql)?;
        let batch = self.engine.result_buffer.batch();
        let mut result = guard::as_server(|| Live::start(connection, &statement, Values::default(), batch))?;
        let export = self.export(&result)?;
        while let Some(array) = result.next_array()? {
            self.cancel.check()?;
            take(&export.batch(array)?)?;
        }
        Ok(())
    }

    /// Runs a statement of the caller's and collects its rows.
    pub(in crate::engine) fn collect_statement(
        &self,
        statement: &Statement<'static>,
        values: Values<'_>,
    ) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let connection = self.connection();
        let result = Live::start(connection, statement, values, self.engine.result_buffer.batch())?;
        let (schema, batches) = self.collect_result(result)?;
        let mut meter = Meter::new(&self.engine.query);
        batches.iter().try_for_each(|batch| meter.count(batch))?;
        Ok((schema, batches))
    }

    fn collect_result(&self, mut result: Live<'_>) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        self.cancel.check()?;
        let mut batches = Vec::new();
        let mut bytes = 0;
        // An expanding statement (PIVOT) has columns with the first step only.
        let first = result.next_array()?;
        let export = self.export(&result)?;
        let mut next = first;
        while let Some(array) = next {
            if !array.is_empty() {
                let batch = export.batch(array)?;
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
        Ok((SchemaRef::clone(export.schema()), batches))
    }

    /// How the batches of a result become what the caller gets.
    pub(in crate::engine) fn export(&self, result: &Live<'_>) -> Result<Export> {
        Export::new(&result.types()?, ffi::schema_from(result.schema()?)?, self.extensions())
    }

    /// The extension types that the caller's session has asked for.
    pub(in crate::engine) fn extensions(&self) -> Extensions {
        self.session.as_ref().map(InUse::extensions).unwrap_or_default()
    }

    /// Runs `work` in a transaction: committed if it answers well, rolled back otherwise. In an open transaction of the
    /// caller's it becomes a part of that one, which can only be rolled back after a failure: DuckDB has no savepoints.
    pub(in crate::engine) fn transaction<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.in_transaction() {
            self.mark_written();
            return work().inspect_err(|error| self.fail_transaction(error));
        }
        self.execute("BEGIN TRANSACTION")?;
        let outcome = work().and_then(|value| {
            self.execute("COMMIT")?;
            Ok(value)
        });
        if outcome.is_err()
            && let Err(error) = self.connection().execute("ROLLBACK", Parameters::None)
        {
            // The connection is dropped with the work, which rolls back too.
            tracing::debug!(%error, "cannot roll back");
        }
        outcome
    }
}

impl Work {
    /// Runs several looks on one state of the database.
    pub(in crate::engine) fn snapshot<T>(&self, looks: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.in_transaction() { looks() } else { self.transaction(looks) }
    }
}

/// `name` as an SQL identifier.
pub(in crate::engine) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
