//! The engine: the only folder that names DuckDB.
//!
//! [`Engine`] is a cheap handle. Its methods are `async`, but all DuckDB work runs on the engine's own `threads`, each
//! piece of work on a connection of its own; dropping the future or the [`Rows`] interrupts the work.
//!
//! The DuckDB instance is in-memory and the data file is attached to it as `merganser`, so that a failed checkpoint
//! invalidates the attachment, which can be attached again, and not the process.

mod backup;
mod bound;
mod buffer;
mod call;
mod cancel;
mod catalog;
mod contents;
mod disk;
mod error;
mod ffi;
mod format;
mod guard;
mod import;
mod ingest;
mod listing;
mod live;
mod metadata;
mod meter;
mod open;
mod output;
mod parameters;
mod queries;
mod query;
mod recovery;
mod session;
mod slots;
mod startup;
mod statement;
mod stats;
#[cfg(test)]
mod tests;
mod threads;
mod timezone;
mod types;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duckdb_neo::instance::Instance;

pub use backup::Copier;
pub use bound::Bound;
pub use call::{Call, Owner, SessionKey, TransactionId};
pub use catalog::{ColumnDescription, TableDescription, TableListing};
pub use contents::{Contents, TableContents, difference_of_tables, settle};
pub use ffi::end_process;
pub use ingest::{
    Chunk, Held, Opened, Outcome, Provenance, ROW_COLUMN, SmallAppend, TablePlace, Target, Waiting, Writer,
};
pub use listing::{Column, Filter, KeyColumn, Named, Reference, Relation, RelationType, SchemaName, Vocabulary};
pub use metadata::Metadata;
pub use queries::{QueryFilter, QueryInfo, QueryKind, QueryOutcome, QueryState, SessionInfo, Tracked, milliseconds};
pub use query::{Canceller, Executed, Rows, Started};
pub use recovery::Availability;
pub use session::{Activity, End, Extensions, Settings};
pub use statement::{Action, Execution, Insert, Plan};
pub use stats::{Load, Probe, ThreadCount, Usage};
pub use types::TYPE_KEY;

use crate::config::{Engine as EngineConfig, Query as QueryConfig};
use crate::error::Result;

/// The name that the data file is attached as.
pub const CATALOG: &str = "merganser";
/// The schema that holds the tables.
pub const SCHEMA: &str = "main";

/// How long stopping waits for interrupted work to end, and how often it looks.
const STOP_MAX: Duration = Duration::from_secs(10);
const STOP_LOOK: Duration = Duration::from_millis(10);

/// Where the data is, and whether it may be written.
#[derive(Clone, Debug)]
pub struct Database {
    /// The file; none for an in-memory database.
    pub path: Option<PathBuf>,
    /// The directory for what does not fit in memory; none: DuckDB's default.
    pub temp_directory: Option<PathBuf>,
    /// Opened for reading only; writes are `FailedPrecondition`.
    pub read_only: bool,
}

/// A running DuckDB with the data file attached; cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    // Dropped in this order: nothing runs any more when the instance closes.
    threads: threads::Threads,
    ingest_threads: threads::Threads,
    watchdog: cancel::Watchdog,
    sessions: Arc<session::Sessions>,
    queries: Arc<queries::Queries>,
    slots: Arc<slots::Slots>,
    ingest_slots: Arc<slots::Slots>,
    imports: Arc<import::Imports>,
    ingests: ingest::Ingests,
    managed: metadata::ManagedNames,
    disk: disk::DiskFloor,
    instance: Instance,
    recovery: recovery::Recovery,
    database: Database,
    config: EngineConfig,
    query: QueryConfig,
    /// Where an admin's COPY TO may write.
    export_directory: Option<PathBuf>,
    builtins: guard::Builtins,
    result_buffer: buffer::ResultBuffer,
    /// Bytes of one stream's rows that wait in memory; more go to a temporary table.
    stage_bytes_max: usize,
    /// Ingest ids that are remembered.
    ids_max: usize,
    table_wait: Duration,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("database", &self.0.database).finish_non_exhaustive()
    }
}

impl Engine {
    /// DuckDB's version, such as `v2.0.0`.
    pub fn duckdb_version() -> &'static str {
        duckdb_neo::library_version().unwrap_or("unknown")
    }

    /// Where the data is, and whether it may be written.
    pub fn database(&self) -> &Database {
        &self.0.database
    }

    /// Interrupts what still runs, and writes everything from the WAL into the data file; called when the server stops.
    pub async fn stop(&self) -> Result<()> {
        self.0.sessions.close_all();
        let until = Instant::now() + STOP_MAX;
        while !self.is_idle() && Instant::now() < until {
            self.0.watchdog.cancel_all();
            tokio::time::sleep(STOP_LOOK).await;
        }
        if self.0.database.read_only || self.0.database.path.is_none() {
            return Ok(());
        }
        self.run(&Call::default(), |work| work.execute(&format!("CHECKPOINT {CATALOG}")).map(drop)).await
    }

    /// The time by which a statement has to end: the call's deadline, the query timeout or that of the session, whichever
    /// comes first.
    fn deadline(&self, call: Option<Instant>, session: Option<Duration>) -> Option<Instant> {
        let timeouts = [Some(self.0.config.query_timeout), session].into_iter().flatten();
        let own = timeouts.filter(|timeout| !timeout.is_zero()).map(|timeout| Instant::now() + timeout);
        call.into_iter().chain(own).min()
    }
}
