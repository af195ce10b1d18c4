//! Recovery: a failed checkpoint (a full disk, say) invalidates the attached database, and every later statement fails. What
//! was committed is in the file and its write-ahead log, so the file is attached again, and the process goes on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use duckdb_neo::Parameters;
use duckdb_neo::environment::StorageLocation;
use duckdb_neo::instance::AttachBuilder;
use tokio::sync::watch;

use super::error::invalidates_database;
use super::{CATALOG, Engine, Inner, open};
use crate::error::{Error, ErrorKind, Result};

/// The in-memory database that is the default while the data file is not attached.
const SCRATCH: &str = "recovery";

/// How often the file is tried: work that was interrupted still holds it for a moment.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// Whether the database can be used now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Availability {
    /// It can.
    #[default]
    Ready,
    /// It is being opened again after a failure; calls are UNAVAILABLE meanwhile.
    Reopening,
    /// It could not be opened again: only a new process can.
    Lost,
}

/// How the database is.
#[derive(Debug, Default)]
pub(in crate::engine) struct Recovery {
    /// Held while the database is being opened again.
    one_at_a_time: Mutex<()>,
    availability: watch::Sender<Availability>,
    /// How often it was opened again.
    turn: AtomicU64,
}

impl Recovery {
    /// How often the database was opened again, to be compared when work ends.
    ///
    /// # Errors
    /// `Unavailable` while it is being opened again.
    pub(in crate::engine) fn turn(&self) -> Result<u64> {
        match *self.availability.borrow() {
            Availability::Ready => Ok(self.turn.load(Ordering::Acquire)),
            Availability::Reopening | Availability::Lost => Err(reopening()),
        }
    }

    /// The error for work that began in `turn`: what failed because the database was opened again may be tried again.
    pub(in crate::engine) fn explain(&self, turn: u64, error: Error) -> Error {
        if self.turn().is_ok_and(|now| now == turn) { error } else { reopening().with_source(error) }
    }

    /// Tells everybody.
    pub(in crate::engine) fn set(&self, availability: Availability) {
        self.availability.send_replace(availability);
    }
}

/// What callers hear while the database cannot be used.
pub(in crate::engine) fn reopening() -> Error {
    Error::new(ErrorKind::Unavailable, "the database is being opened again after a failure: try again")
}

/// Whether an error says that the disk is full.
pub(in crate::engine) fn is_disk_full(error: &Error) -> bool {
    error.message().contains("No space left on device")
}

impl Engine {
    /// Whether the database can be used now: a look at a value, which asks nobody.
    pub fn availability(&self) -> Availability {
        *self.0.recovery.availability.borrow()
    }

    /// Ready when the database is lost for this process, which has to end then.
    pub async fn lost(&self) {
        let mut availability = self.0.recovery.availability.subscribe();
        // The sender lives as long as the engine.
        drop(availability.wait_for(|availability| *availability == Availability::Lost).await);
    }

    /// Attaches the data file again, beside the work that found it invalid.
    pub(in crate::engine) fn start_recovery(&self) {
        let engine = self.clone();
        let started = std::thread::Builder::new().name("recovery".to_owned()).spawn(move || {
            engine.0.recover();
        });
        if let Err(error) = started {
            tracing::error!(%error, "cannot start a thread for recovery");
        }
    }
}

impl Inner {
    /// Opens the database again if it is invalid; when that fails, it is lost.
    fn recover(&self) {
        let _one_at_a_time = self.recovery.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        if *self.recovery.availability.borrow() == Availability::Lost || self.is_valid() {
            return;
        }
        tracing::warn!("the database has been invalidated: it is opened again");
        self.recovery.turn.fetch_add(1, Ordering::AcqRel);
        self.recovery.set(Availability::Reopening);
        match self.open_again() {
            Ok(()) => self.recovery.set(Availability::Ready),
            Err(error) => {
                let limit = self.config.reopen_timeout;
                tracing::error!(%error, "the database could not be opened again within {limit:?} (engine.reopen_timeout)");
                self.recovery.set(Availability::Lost);
            }
        }
    }

    /// Detaches the data file and attaches it, while nothing else uses it. What was in memory only is lost with it.
    pub(in crate::engine) fn open_again(&self) -> Result<()> {
        if self.database.path.is_none() {
            return Err(Error::precondition("it was in memory only"));
        }
        self.instance.attach(AttachBuilder::new(StorageLocation::InMemory).alias(SCRATCH).make_default())?;
        self.reattach()?;
        self.instance.set_default(CATALOG)?;
        self.instance.detach(SCRATCH)?;
        tracing::info!("the database is open again");
        Ok(())
    }

    /// Gives back the space that a failed statement took: a checkpoint cuts the free end off the data file. Called after the
    /// statement was rolled back, because the disk is still full until then and nobody could write.
    pub(in crate::engine) fn reclaim(&self) {
        let checkpoint = || -> Result<()> {
            self.instance.connect()?.execute(format!("CHECKPOINT {CATALOG}"), Parameters::None)?;
            Ok(())
        };
        match checkpoint() {
            Ok(()) => tracing::warn!("the disk was full: the statement was rolled back and its space given back"),
            Err(error) if invalidates_database(&error) => {
                tracing::warn!(%error, "the disk is full, and the checkpoint failed");
                self.recover();
            }
            Err(error) => tracing::warn!(%error, "the disk is full, and its space could not be given back"),
        }
    }

    fn reattach(&self) -> Result<()> {
        let until = Instant::now() + self.config.reopen_timeout;
        loop {
            // Whoever still uses the old file keeps it open: statements, and transactions between them.
            self.watchdog.cancel_all();
            self.sessions.close_connected();
            // It may be gone from an earlier try.
            if let Err(error) = self.instance.detach(CATALOG) {
                tracing::debug!(%error, "cannot detach");
            }
            match open::attach(&self.instance, &self.database) {
                Err(error) if Instant::now() >= until => return Err(error),
                Err(error) => tracing::debug!(%error, "cannot attach yet"),
                Ok(()) => return Ok(()),
            }
            std::thread::sleep(TRY_EVERY);
        }
    }

    /// Whether the attached database takes statements. The look writes nothing.
    fn is_valid(&self) -> bool {
        let Ok(connection) = self.instance.connect() else { return false };
        let look = format!("SELECT 1 FROM {CATALOG}.main.{} LIMIT 1", crate::tables::METADATA_TABLE);
        match connection.execute(look, Parameters::None) {
            Ok(_) => true,
            // A read-only file may lack the table.
            Err(error) => !invalidates_database(&Error::from(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_while_the_database_is_opened_again_may_be_tried_again() {
        let recovery = Recovery::default();
        let turn = recovery.turn().unwrap();
        let kind = |recovery: &Recovery| recovery.explain(turn, Error::cancelled("interrupted")).kind();
        assert_eq!(kind(&recovery), ErrorKind::Cancelled);
        recovery.turn.fetch_add(1, Ordering::AcqRel);
        recovery.set(Availability::Reopening);
        assert_eq!(recovery.turn().unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(kind(&recovery), ErrorKind::Unavailable);
        recovery.set(Availability::Ready);
        assert_eq!((recovery.turn().unwrap(), kind(&recovery)), (turn + 1, ErrorKind::Unavailable));
    }
}
