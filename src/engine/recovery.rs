//! Recovery: a failed checkpoint (a full disk, say) invalidates the attached database, and every later statement fails. What
//! was committed is in the file and its write-ahead log, so the file is attached again, and the process goes on.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use duckdb_neo::Parameters;
use duckdb_neo::environment::StorageLocation;
use duckdb_neo::instance::AttachBuilder;

use super::error::invalidates_database;
use super::{CATALOG, Engine, Inner, open};
use crate::error::{Error, Result};

/// The in-memory database that is the default while the data file is not attached.
const SCRATCH: &str = "recovery";

/// How long the file is tried, and how often: work that was interrupted still holds it for a moment.
const TRY_MAX: Duration = Duration::from_secs(30);
const TRY_EVERY: Duration = Duration::from_millis(50);

/// Whether an error says that the disk is full.
pub(in crate::engine) fn is_disk_full(error: &Error) -> bool {
    error.message().contains("No space left on device")
}

impl Engine {
    /// Attaches the data file again, beside the work that found it invalid.
    pub(in crate::engine) fn start_recovery(&self) {
        let engine = self.clone();
        let started = std::thread::Builder::new().name("recovery".to_owned()).spawn(move || {
            if let Err(error) = engine.0.recover() {
                tracing::error!(%error, "the database could not be opened again: stop the server, and free disk space if it is full");
            }
        });
        if let Err(error) = started {
            tracing::error!(%error, "cannot start a thread for recovery");
        }
    }
}

impl Inner {
    fn recover(&self) -> Result<()> {
        let _one_at_a_time = self.recovery.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_valid()? {
            return Ok(());
        }
        tracing::warn!("the database has been invalidated: it is opened again");
        self.watchdog.cancel_all();
        self.open_again()
    }

    /// Detaches the data file and attaches it.
    pub(in crate::engine) fn open_again(&self) -> Result<()> {
        self.instance.attach(AttachBuilder::new(StorageLocation::InMemory).alias(SCRATCH).make_default())?;
        let reattached = self.reattach();
        if reattached.is_ok() {
            self.instance.set_default(CATALOG)?;
            self.instance.detach(SCRATCH)?;
            tracing::info!("the database is open again");
        }
        reattached
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
                if let Err(error) = self.recover() {
                    tracing::error!(%error, "the database could not be opened again: free disk space");
                }
            }
            Err(error) => tracing::warn!(%error, "the disk is full, and its space could not be given back"),
        }
    }

    fn reattach(&self) -> Result<()> {
        let until = Instant::now() + TRY_MAX;
        loop {
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

    /// Whether the attached database takes writes. The look writes nothing.
    fn is_valid(&self) -> Result<bool> {
        let connection = self.instance.connect()?;
        let look = format!("SELECT 1 FROM {CATALOG}.main.{} LIMIT 1", crate::tables::METADATA_TABLE);
        match connection.execute(look, Parameters::None) {
            Ok(_) => Ok(true),
            Err(error) => Ok(!invalidates_database(&Error::from(error))),
        }
    }
}
