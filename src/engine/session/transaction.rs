//! Transactions across statements: begun by a client or by SQL, on a lane, until they are ended or idle for too long.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::lane::{Lane, Lease};
use super::{Sessions, Wants};
use crate::engine::ingest::TableLock;
use crate::engine::work::Work;
use crate::engine::{Call, Engine, TransactionId};
use crate::error::{Error, Result};

/// A transaction that is open on a lane.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) id: TransactionId,
    /// Whether a client knows its id; SQL's BEGIN gives none.
    named: bool,
    /// Whether DuckDB has begun it: it does with the first statement, because an idle transaction keeps old versions alive.
    pub(super) begun: bool,
    /// Whether it has written something.
    pub(super) wrote: bool,
    /// Why it can only be rolled back.
    pub(super) failed: Option<String>,
    /// The locks of the tables that it has checked keys of.
    pub(super) locks: Vec<TableLock>,
}

impl Transaction {
    /// One that a client knows by its id, and DuckDB begins later.
    fn named(id: TransactionId) -> Self {
        Self { id, named: true, begun: false, wrote: false, failed: None, locks: Vec::new() }
    }

    /// One that SQL has begun.
    fn begun() -> Self {
        Self { id: Uuid::new_v4(), named: false, begun: true, wrote: false, failed: None, locks: Vec::new() }
    }
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// What it wrote stays.
    Commit,
    /// What it wrote goes.
    Rollback,
}

impl Engine {
    /// Opens a transaction for the caller: on its session's lane, so that it sees the session's temporary tables, or on a lane
    /// of its own when the caller has no session or another transaction is open there.
    pub fn begin_transaction(&self, call: &Call) -> Result<TransactionId> {
        let sessions = &self.0.sessions;
        let id = Uuid::new_v4();
        let session = call.session.as_ref().map(|key| sessions.open(key, call)).transpose()?;
        let lane = match session {
            Some(session) if session.lane.open_transaction(Transaction::named(id)) => Arc::clone(&session.lane),
            _ => {
                let lane = Arc::new(Lane::default());
                lane.open_transaction(Transaction::named(id));
                lane
            }
        };
        sessions.add_transaction(id, &lane).inspect_err(|_| drop(lane.take_transaction()))?;
        Ok(id)
    }

    /// Ends a transaction.
    ///
    /// # Errors
    /// `NotFound` for one that is not open, `FailedPrecondition` for a commit of one that has failed; it is rolled back then.
    pub async fn end_transaction(&self, call: &Call, id: TransactionId, end: End) -> Result<()> {
        let sessions = &self.0.sessions;
        let lane = sessions.transaction(id).ok_or_else(|| sessions.no_transaction(id))?;
        if end == End::Rollback {
            // Its result, if one is still read, goes with it.
            lane.interrupt();
        }
        let call = call.clone().within(Some(id));
        self.run_as(&call, Wants::Statement, move |work| {
            let (ended, outcome) = work.end_transaction(end)?;
            work.engine.sessions.forget_transaction(ended);
            outcome
        })
        .await
    }
}

impl Work {
    /// Whether a transaction across statements is open here.
    pub(in crate::engine) fn in_transaction(&self) -> bool {
        self.lane().is_some_and(Lane::has_transaction)
    }

    /// Marks the open transaction as one that has written.
    pub(in crate::engine) fn mark_written(&self) {
        if let Some(lane) = self.lane() {
            lane.with_transaction(|transaction| transaction.wrote = true);
        }
    }

    /// Makes a commit of the open transaction impossible: part of what a statement does may be done.
    pub(in crate::engine) fn fail_transaction(&self, reason: &Error) {
        if let Some(lane) = self.lane() {
            lane.with_transaction(|transaction| {
                transaction.failed.get_or_insert_with(|| format!("an earlier statement failed: {reason}"));
            });
        }
    }

    /// # Errors
    /// `FailedPrecondition` when the lane's transaction has failed.
    pub(in crate::engine) fn check_transaction(&self) -> Result<()> {
        let reason = self.lane().and_then(|lane| lane.with_transaction(|transaction| transaction.failed.clone()));
        reason.flatten().map_or(Ok(()), |reason| Err(failed(&reason)))
    }

    /// Begins the lane's transaction in DuckDB, if it has one that is not begun yet. Whoever needs a table's lock waits for it
    /// before: the transaction sees the table as it is now, and conflicts with what others commit later.
    ///
    /// # Errors
    /// `FailedPrecondition` for one that has failed.
    pub(in crate::engine) fn enter_transaction(&self) -> Result<()> {
        self.check_transaction()?;
        let Some(lane) = self.lane() else { return Ok(()) };
        if lane.with_transaction(|transaction| transaction.begun) == Some(false) {
            self.execute("BEGIN TRANSACTION")?;
            lane.with_transaction(|transaction| transaction.begun = true);
        }
        Ok(())
    }

    /// SQL's BEGIN, on a session's lane.
    pub(in crate::engine) fn begin_by_sql(&self, sql: &str) -> Result<()> {
        let lane = self.lane().ok_or_else(|| Error::internal("BEGIN without a lane"))?;
        if lane.has_transaction() {
            return Err(Error::precondition("a transaction is open already: COMMIT or ROLLBACK it first"));
        }
        self.execute(sql)?;
        lane.open_transaction(Transaction::begun());
        Ok(())
    }

    /// SQL's COMMIT and ROLLBACK. A transaction whose id a client has goes on, empty: the client will end it too.
    pub(in crate::engine) fn end_by_sql(&self, end: End) -> Result<()> {
        let named = self.lane().and_then(|lane| lane.with_transaction(|transaction| transaction.named));
        let (id, outcome) = self.end_transaction(end)?;
        if named == Some(true)
            && let Some(lane) = self.lane()
        {
            lane.open_transaction(Transaction::named(id));
        }
        outcome
    }

    /// Ends the lane's transaction; answers its id, and what came of it.
    fn end_transaction(&self, end: End) -> Result<(TransactionId, Result<()>)> {
        let transaction = self.lane().and_then(Lane::take_transaction);
        let transaction = transaction.ok_or_else(|| Error::precondition("no transaction is open"))?;
        let outcome = match (&transaction.failed, end) {
            (Some(reason), End::Commit) => {
                self.roll_back(&transaction);
                Err(failed(reason))
            }
            (_, End::Rollback) => {
                self.roll_back(&transaction);
                Ok(())
            }
            (None, End::Commit) if transaction.begun => self.execute("COMMIT").map(drop).inspect_err(|_| {
                // DuckDB has rolled back for most reasons, and says so for the others.
                self.roll_back(&transaction);
            }),
            (None, End::Commit) => Ok(()),
        };
        // Only now others may look at the tables.
        drop(transaction.locks);
        Ok((transaction.id, outcome))
    }

    fn roll_back(&self, transaction: &Transaction) {
        if transaction.begun
            && let Err(error) = self.connection().execute("ROLLBACK", duckdb_neo::Parameters::None)
        {
            tracing::debug!(%error, "cannot roll back");
        }
    }
}

fn failed(reason: &str) -> Error {
    Error::precondition(format!("the transaction can only be rolled back: {reason}"))
}

impl Sessions {
    /// Rolls back what has been idle for too long. One that has only read goes on with its next statement, on a new snapshot.
    pub(super) fn expire_transaction(lane: &Arc<Lane>, idle_max: Duration) {
        let reason = format!("it was idle for more than {idle_max:?} (session.transaction_idle_timeout)");
        let cancel = crate::engine::cancel::Cancel::never();
        let nobody = || Err(Error::internal("an idle transaction without its connection"));
        let Ok(lease) = lane.lease(&cancel, Duration::ZERO, None, nobody) else { return };
        let begun = lane.with_transaction(|transaction| std::mem::take(&mut transaction.begun));
        if begun == Some(true) {
            roll_back_idle(&lease);
        }
        let locks = lane.with_transaction(|transaction| {
            if transaction.wrote {
                transaction.failed.get_or_insert(reason);
            }
            std::mem::take(&mut transaction.locks)
        });
        drop(lease);
        drop(locks);
    }
}

fn roll_back_idle(lease: &Lease) {
    if let Err(error) = lease.execute("ROLLBACK") {
        tracing::debug!(%error, "cannot roll back");
    }
}
