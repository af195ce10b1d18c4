//! The writer of one stream: an engine thread with a connection of its own that takes chunks until the commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use tokio::sync::{mpsc, oneshot};

use super::group::Pending;
use super::merge::{self, Table};
use super::stage::{Source, Stage};
use super::table::{check_mode, create_table, finish, insert, merge_staged};
use super::{Chunk, Outcome, RunningId, TableLock, TablePlace, Target};
use crate::engine::recovery::is_disk_full;
use crate::engine::session::Wants;
use crate::engine::work::{CancelOnDrop, Work};
use crate::engine::{Call, Engine, metadata};
use crate::error::{Error, Result};
use crate::ingest::{Mode, OnDuplicate};

/// How long an error waits for the end of its stream. What DuckDB does not interrupt ends later.
const ABANDON_MAX: Duration = Duration::from_secs(5);

/// Takes the chunks of one stream; dropping it before the commit stores nothing.
#[derive(Debug)]
pub struct Writer {
    messages: mpsc::Sender<Message>,
    /// None once it has come.
    result: Option<oneshot::Receiver<Result<Outcome>>>,
    written: Arc<AtomicU64>,
    _cancel: CancelOnDrop,
}

/// What opening a stream came to.
#[derive(Debug)]
pub enum Opened {
    /// The stream may flow.
    Writer(Writer),
    /// An ingest with this id has been stored before; this was its outcome.
    Known(Outcome),
}

#[derive(Debug)]
enum Message {
    Chunk(Chunk),
    /// Everything sent so far is to be written before the answer.
    Flush(oneshot::Sender<()>),
    /// The stream ended well: `received` rows.
    Commit(u64),
}

impl Engine {
    /// Opens a stream into `target`: the table's state is checked now, before any row is read.
    ///
    /// # Errors
    /// `AlreadyExists`, `NotFound` and `FailedPrecondition` as the mode says; `Unavailable` while an ingest with the same
    /// id is running.
    pub async fn open_ingest(&self, target: Target, call: &Call) -> Result<Opened> {
        if self.database().read_only {
            return Err(Error::precondition("the database is read-only: this server was started with --read-only"));
        }
        self.0.disk.check()?;
        let (messages, messages_rx) = mpsc::channel(1);
        let (opened_tx, opened_rx) = oneshot::channel();
        let (result_tx, result) = oneshot::channel();
        let written = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&written);
        let wants = if target.place == TablePlace::Temporary { Wants::Session } else { Wants::Transaction };
        let cancel = self.spawn_ingest(call, wants, move |work| {
            let begun = work.and_then(|work| Stream::begin(work, target, count));
            match begun {
                Err(error) => drop(opened_tx.send(Err(error))),
                Ok(Begun::Known(outcome)) => drop(opened_tx.send(Ok(Some(outcome)))),
                Ok(Begun::Stream(stream)) => {
                    if opened_tx.send(Ok(None)).is_ok() {
                        stream.run(messages_rx, result_tx);
                    } else {
                        stream.end(Some(&Error::cancelled("the client is gone")));
                    }
                }
            }
        })?;
        match opened_rx.await.map_err(|_| Error::internal("the engine ended without an answer"))?? {
            Some(outcome) => Ok(Opened::Known(outcome)),
            None => Ok(Opened::Writer(Writer { messages, result: Some(result), written, _cancel: cancel })),
        }
    }
}

impl Writer {
    /// Hands over a chunk; waits until the engine works on it, so that none waits beside the one that is gathered next.
    ///
    /// # Errors
    /// What went wrong with an earlier chunk: the stream is over.
    pub async fn write(&mut self, chunk: Chunk) -> Result<()> {
        self.send(Message::Chunk(chunk)).await?;
        if self.messages.reserve().await.is_err() {
            return Err(self.failure().await);
        }
        Ok(())
    }

    /// Waits until everything handed over is written.
    pub async fn flush(&mut self) -> Result<()> {
        let (done_tx, done) = oneshot::channel();
        self.send(Message::Flush(done_tx)).await?;
        match done.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Rows written so far, as far as it is known that they are no duplicates.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Ends the stream well, after `received` rows; the answer means that it is durable.
    pub async fn commit(mut self, received: u64) -> Result<Outcome> {
        self.send(Message::Commit(received)).await?;
        self.outcome().await
    }

    /// Ends the stream with nothing stored, and waits until its table and its id are free for who tries again.
    pub async fn abandon(self) {
        let Self { messages, result, _cancel: cancel, .. } = self;
        drop((messages, cancel));
        if let Some(result) = result
            && tokio::time::timeout(ABANDON_MAX, result).await.is_err()
        {
            tracing::debug!("an ingest that was abandoned has not ended yet");
        }
    }

    async fn send(&mut self, message: Message) -> Result<()> {
        if self.messages.send(message).await.is_err() {
            return Err(self.failure().await);
        }
        Ok(())
    }

    async fn failure(&mut self) -> Error {
        match self.outcome().await {
            Err(error) => error,
            Ok(_) => Error::internal("the engine ended without an answer"),
        }
    }

    /// What the stream came to.
    async fn outcome(&mut self) -> Result<Outcome> {
        let unknown = || Error::internal("the engine ended without an answer");
        self.result.take().ok_or_else(unknown)?.await.map_err(|_| unknown())?
    }
}

enum Begun {
    Known(Outcome),
    Stream(Box<Stream>),
}

/// A stream on its engine thread.
struct Stream {
    work: Work,
    target: Target,
    way: Way,
    fresh: Stage,
    suspects: Stage,
    written: Arc<AtomicU64>,
    inserted: u64,
    replaced: u64,
    /// Held until the end, so that the id is not run twice.
    id: Option<RunningId>,
}

/// How the stream's rows reach the table.
enum Way {
    /// Straight into it, in a transaction that is open for the whole stream. The lock is that of a managed table.
    Live { table: Table, _lock: Option<TableLock> },
    /// Through a stage, merged at the end.
    Staged,
}

/// What is there before a stream.
enum Prepared {
    /// It has run before.
    Known(Outcome),
    Open(Option<RunningId>, Way),
}

fn prepare(work: &Work, target: &Target) -> Result<Prepared> {
    let id = match &target.ingest_id {
        None => None,
        Some(id) => {
            let running = work.engine.ingests.run_id(id)?;
            if let Some(outcome) = metadata::ingest_result(work, id, &target.table)? {
                return Ok(Prepared::Known(outcome));
            }
            Some(running)
        }
    };
    work.check_transaction()?;
    Ok(Prepared::Open(id, choose_way(work, target)?))
}

impl Stream {
    fn begin(work: Work, target: Target, written: Arc<AtomicU64>) -> Result<Begun> {
        let (id, way) = match prepare(&work, &target) {
            Ok(Prepared::Open(id, way)) => (id, way),
            Ok(Prepared::Known(outcome)) => return Ok(Begun::Known(outcome)),
            Err(error) => return Err(work.explain(error)),
        };
        let memory_bytes_max = work.engine.stage_bytes_max;
        let fresh = Stage::new("__ingest_fresh", &target.schema, memory_bytes_max);
        let suspects = Stage::new("__ingest_suspects", &target.schema, memory_bytes_max);
        let mut stream = Self { work, target, way, fresh, suspects, written, inserted: 0, replaced: 0, id };
        match stream.begin_live() {
            Ok(()) => Ok(Begun::Stream(Box::new(stream))),
            Err(error) => {
                let error = stream.work.explain(error);
                stream.end(Some(&error));
                Err(error)
            }
        }
    }

    /// Opens the transaction that is open for the whole stream, unless the client has one open.
    fn begin_live(&mut self) -> Result<()> {
        let Way::Live { table, .. } = &mut self.way else { return Ok(()) };
        if self.work.in_transaction() {
            self.work.enter_transaction()?;
            self.work.mark_written();
        } else {
            self.work.execute("BEGIN TRANSACTION")?;
        }
        if table.is_new {
            return create_table(&self.work, &self.target, table);
        }
        if table.kind.is_managed() && self.target.on_duplicate == OnDuplicate::Replace {
            let _slot = self.work.slot()?;
            table.own_from = Some(merge::next_row_id(&self.work, table)?);
        }
        Ok(())
    }

    /// Takes messages until the commit, or until the client is gone: then nothing of it stays.
    fn run(mut self, mut messages: mpsc::Receiver<Message>, result: oneshot::Sender<Result<Outcome>>) {
        loop {
            match messages.blocking_recv() {
                None => return self.end(Some(&Error::cancelled("an ingest broke off"))),
                Some(Message::Flush(done)) => drop(done.send(())),
                Some(Message::Chunk(chunk)) => {
                    if let Err(error) = self.take(chunk) {
                        let error = self.work.explain(error);
                        self.end(Some(&error));
                        // The error is there before the channel closes, so that a sender who sees it closed finds it.
                        drop(result.send(Err(error)));
                        return;
                    }
                }
                Some(Message::Commit(received)) => {
                    self.commit(received, result);
                    return;
                }
            }
        }
    }

    fn take(&mut self, chunk: Chunk) -> Result<()> {
        self.work.engine.disk.check()?;
        let Chunk { fresh, suspects, memory } = chunk;
        match &self.way {
            Way::Staged => {
                if self.target.mode == Mode::Replace {
                    // Nothing was there before, so each key that comes for the first time is a row of the new contents.
                    let rows: usize = fresh.iter().map(RecordBatch::num_rows).sum();
                    self.written.fetch_add(rows as u64, Ordering::Relaxed);
                }
                self.fresh.add(&self.work, fresh, memory)?;
                self.suspects.add(&self.work, suspects, None)
            }
            Way::Live { table, .. } if self.target.every_batch && table.kind.is_managed() => {
                let table = table.clone();
                let fresh = Source::of(&self.work, &self.target.schema, fresh);
                let suspects = (!suspects.is_empty()).then(|| Source::of(&self.work, &self.target.schema, suspects));
                let slot = self.work.slot()?;
                let outcome =
                    merge::merge(&self.work, &table, self.target.on_duplicate, Some(&fresh), suspects.as_ref())?;
                drop(slot);
                self.count(outcome);
                Ok(())
            }
            Way::Live { table, .. } => {
                let table = table.clone();
                let source = Source::of(&self.work, &self.target.schema, fresh);
                let slot = self.work.slot()?;
                let inserted = insert(&self.work, &table, &source)?;
                drop(slot);
                drop(memory);
                self.count(Outcome { inserted, ..Outcome::default() });
                self.suspects.add(&self.work, suspects, None)
            }
        }
    }

    fn count(&mut self, outcome: Outcome) {
        self.inserted += outcome.inserted;
        self.replaced += outcome.replaced;
        self.written.store(self.inserted + self.replaced, Ordering::Relaxed);
    }

    fn commit(mut self, received: u64, result: oneshot::Sender<Result<Outcome>>) {
        let joins_group = matches!(self.way, Way::Staged)
            && self.target.mode == Mode::Append
            && self.target.kind.is_managed()
            && self.work.lease().is_none()
            && self.fresh.is_in_memory()
            && self.suspects.is_in_memory();
        if joins_group {
            let Self { work, target, fresh, suspects, id, .. } = self;
            let engine = Engine(Arc::clone(&work.engine));
            let (tracked, since) = (work.call.tracked.clone(), Instant::now());
            drop(work);
            let (fresh, mut memory) = fresh.into_memory();
            let (suspects, more) = suspects.into_memory();
            memory.extend(more);
            engine.join_group(Pending { target, fresh, suspects, received, memory, result, id, tracked, since });
            return;
        }
        let outcome = match &self.way {
            Way::Live { table, .. } => {
                let table = table.clone();
                self.commit_live(&table, received)
            }
            Way::Staged => self.commit_staged(received),
        };
        let outcome = outcome.map_err(|error| self.work.explain(error));
        if outcome.is_ok() && self.target.ingest_id.is_some() {
            metadata::forget_ingests(&self.work);
        }
        self.end(outcome.as_ref().err());
        drop(result.send(outcome));
    }

    /// Ends the stream: what was not committed is rolled back. Locks and the id are free before the client hears of it.
    fn end(self, error: Option<&Error>) {
        let engine = Arc::clone(&self.work.engine);
        if self.work.lease().is_some() {
            self.leave_lane(error);
        }
        drop(self);
        if error.is_some_and(is_disk_full) {
            engine.reclaim();
        }
    }

    /// Leaves a connection that goes on to other work as if this had never been; in the client's transaction that cannot be
    /// had once something is written.
    fn leave_lane(&self, error: Option<&Error>) {
        let is_live = matches!(self.way, Way::Live { .. });
        match error {
            Some(error) if self.work.in_transaction() && is_live => self.work.fail_transaction(error),
            Some(_) if is_live => {
                if let Err(error) = self.work.connection().execute("ROLLBACK", duckdb_neo::Parameters::None) {
                    tracing::debug!(%error, "cannot roll back");
                }
            }
            _ => {}
        }
        self.fresh.drop_table(&self.work);
        self.suspects.drop_table(&self.work);
        if let Some(session) = &self.work.session
            && self.target.place == TablePlace::Temporary
        {
            session.keep_objects();
        }
    }

    fn commit_live(&mut self, table: &Table, received: u64) -> Result<Outcome> {
        let _slot = self.work.slot()?;
        if let Some(suspects) = self.suspects.source(&self.work)? {
            let outcome = merge::merge(&self.work, table, self.target.on_duplicate, None, Some(&suspects))?;
            self.count(outcome);
        }
        let outcome = self.outcome(received);
        finish(&self.work, &self.target, table, &outcome)?;
        if !self.work.in_transaction() {
            self.work.execute("COMMIT")?;
        }
        Ok(outcome)
    }

    fn commit_staged(&mut self, received: u64) -> Result<Outcome> {
        // Staged rows become readable before the transaction: what spills now is not part of it.
        let (fresh, suspects) = (self.fresh.source(&self.work)?, self.suspects.source(&self.work)?);
        let _slot = self.work.slot()?;
        let lock = self.work.lock_table(&self.target.lock_name())?;
        let _lock = self.work.keep_lock(lock);
        self.work.enter_transaction()?;
        let work = &self.work;
        work.transaction(|| merge_staged(work, &self.target, fresh.as_ref(), suspects.as_ref(), received))
    }

    fn outcome(&self, received: u64) -> Outcome {
        let (inserted, replaced) = (self.inserted, self.replaced);
        Outcome { received, inserted, replaced, duplicate: received.saturating_sub(inserted + replaced) }
    }
}

/// Straight into a new table, or through a stage into one that others use.
fn choose_way(work: &Work, target: &Target) -> Result<Way> {
    let folded = target.lock_name();
    let has_lock = work.lane().is_some_and(|lane| lane.has_lock(&folded));
    let lock = if has_lock { None } else { work.engine.ingests.try_lock(&folded) };
    let is_ours = has_lock || lock.is_some();
    let existing = check_mode(work, target)?;
    let live = |table, lock| Ok(Way::Live { table, _lock: work.keep_lock(lock) });
    match existing {
        None if is_ours => live(target.created(), lock),
        None if target.mode == Mode::Create => {
            Err(Error::already_exists(format!("table {:?} is being created by another ingest", target.table)))
        }
        // Rows of a plain table have no key: nothing to check, and appends do not conflict.
        Some(name) if target.mode != Mode::Replace && !target.kind.is_managed() => live(target.existing(name), None),
        Some(name) if target.mode != Mode::Replace && target.every_batch => {
            // Counting what is really stored after each batch needs the table for the whole stream.
            let lock = if is_ours { lock } else { Some(work.wait_for_lock(&folded)?) };
            live(target.existing(name), lock)
        }
        None | Some(_) => Ok(Way::Staged),
    }
}
