//! A lane: a connection that outlives its statements, because a session's temporary objects or an open transaction live on
//! it. One statement at a time has it; the others wait, and a statement that only waits for its client gives way.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use duckdb_neo::Parameters;
use duckdb_neo::connection::Connection;
use tokio::sync::Notify;

use super::Settings;
use super::transaction::Transaction;
use crate::engine::cancel::Cancel;
use crate::engine::ingest::TableLock;
use crate::error::{Error, Result};

/// How often a waiting statement looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// A connection that statements take in turn.
#[derive(Debug, Default)]
pub(in crate::engine) struct Lane {
    state: Mutex<State>,
    freed: Condvar,
    contended: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Made when it is first needed; none while a statement has it.
    line: Option<Line>,
    leased: bool,
    waiting: usize,
    closed: bool,
    /// The statement that has the connection.
    holder: Option<Arc<Cancel>>,
    last_used: Option<Instant>,
    transaction: Option<Transaction>,
}

/// A connection, and the settings that it has.
#[derive(Debug)]
struct Line {
    connection: Connection,
    applied: Settings,
}

/// A lane's connection, for one statement; given back when dropped.
#[derive(Debug)]
pub(in crate::engine) struct Lease {
    lane: Arc<Lane>,
    /// There until the drop.
    line: Option<Line>,
}

impl Lane {
    /// Waits for the lane's connection, at most `wait_max`; `connect` makes it when there is none yet. It has `settings` then; none: as
    /// it is.
    ///
    /// # Errors
    /// `NotFound` when the lane is closed, `ResourceExhausted` when the wait is over; what `cancel` says if it was cancelled.
    pub(in crate::engine) fn lease(
        self: &Arc<Self>,
        cancel: &Arc<Cancel>,
        wait_max: Duration,
        settings: Option<&Settings>,
        connect: impl FnOnce() -> Result<Connection>,
    ) -> Result<Lease> {
        let until = Instant::now() + wait_max;
        let mut state = self.lock();
        state.waiting += 1;
        let outcome = loop {
            if let Err(error) = cancel.check() {
                break Err(error);
            }
            if state.closed {
                break Err(Error::not_found("the session or transaction has ended"));
            }
            if !state.leased {
                state.leased = true;
                state.holder = Some(Arc::clone(cancel));
                break Ok(());
            }
            if Instant::now() >= until {
                break Err(Error::exhausted(format!(
                    "waited {wait_max:?} (engine.statements_queue_wait) for another statement of the session, whose result is \
                     not read to its end: read it, or close it"
                )));
            }
            self.contended.notify_waiters();
            state = self.freed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.waiting -= 1;
        outcome?;
        let line = state.line.take();
        drop(state);
        // From here on a drop gives the lane back.
        let mut lease = Lease { lane: Arc::clone(self), line };
        let line = match &mut lease.line {
            Some(line) => line,
            none => none.insert(Line { connection: connect()?, applied: Settings::default() }),
        };
        if let Some(settings) = settings.filter(|settings| line.applied != **settings) {
            settings.apply(&line.connection, &line.applied)?;
            line.applied = settings.clone();
        }
        Ok(lease)
    }

    /// Ready when another statement waits for the lane.
    pub(in crate::engine) async fn contended(&self) {
        loop {
            let notified = self.contended.notified();
            if self.lock().waiting > 0 {
                return;
            }
            notified.await;
        }
    }

    /// Ends the lane: its statement is interrupted, whoever waits for it gets an error, and what was not committed is lost.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        if let Some(holder) = &state.holder {
            holder.cancel();
        }
        let line = state.line.take();
        let transaction = state.transaction.take();
        drop(state);
        self.freed.notify_all();
        // The connection goes first: what it rolls back is under the transaction's locks.
        drop(line);
        drop(transaction);
    }

    /// Whether it has a connection.
    pub(super) fn is_connected(&self) -> bool {
        let state = self.lock();
        state.leased || state.line.is_some()
    }

    /// Interrupts the statement that has the lane now.
    pub(super) fn interrupt(&self) {
        if let Some(holder) = &self.lock().holder {
            holder.cancel();
        }
    }

    /// How long nothing has happened here; none while a statement has the lane.
    pub(super) fn idle(&self) -> Option<Duration> {
        let state = self.lock();
        let idle = state.last_used.map_or(Duration::ZERO, |since| since.elapsed());
        (!state.leased && state.waiting == 0).then_some(idle)
    }

    /// Whether a transaction is open, or failed and not yet ended.
    pub(in crate::engine) fn has_transaction(&self) -> bool {
        self.lock().transaction.is_some()
    }

    /// What `work` makes of the open transaction; none when there is none.
    pub(super) fn with_transaction<T>(&self, work: impl FnOnce(&mut Transaction) -> T) -> Option<T> {
        self.lock().transaction.as_mut().map(work)
    }

    /// Opens a transaction; false when there is one already.
    pub(super) fn open_transaction(&self, transaction: Transaction) -> bool {
        let mut state = self.lock();
        if state.transaction.is_some() {
            return false;
        }
        state.last_used = Some(Instant::now());
        state.transaction = Some(transaction);
        true
    }

    /// Takes the transaction away, to end it.
    pub(super) fn take_transaction(&self) -> Option<Transaction> {
        self.lock().transaction.take()
    }

    /// Whether the open transaction has the lock of a table, by its lowercase name.
    pub(in crate::engine) fn has_lock(&self, table: &str) -> bool {
        let state = self.lock();
        state.transaction.as_ref().is_some_and(|transaction| transaction.locks.iter().any(|lock| lock.is_of(table)))
    }

    /// Keeps a table's locks until the transaction ends; gives them back when there is none.
    pub(in crate::engine) fn keep_locks(&self, locks: Vec<TableLock>) -> Vec<TableLock> {
        match &mut self.lock().transaction {
            Some(transaction) => {
                transaction.locks.extend(locks);
                Vec::new()
            }
            None => locks,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// The connection.
    pub(in crate::engine) fn connection(&self) -> &Connection {
        &self.line.as_ref().expect("a lease has its connection until it is dropped").connection
    }

    /// The lane that it is of.
    pub(in crate::engine) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// Runs a statement of ours.
    pub(super) fn execute(&self, sql: &str) -> Result<()> {
        self.connection().execute(sql, Parameters::None)?;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let line = self.line.take();
        let mut state = self.lane.lock();
        state.leased = false;
        state.holder = None;
        state.last_used = Some(Instant::now());
        let late = if state.closed { line } else { std::mem::replace(&mut state.line, line) };
        drop(state);
        self.lane.freed.notify_one();
        drop(late);
    }
}
