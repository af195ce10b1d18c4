//! Ingest: how rows enter tables.
//!
//! A stream that makes a new table flows straight into it, in one open transaction that nobody else sees. A stream into a
//! managed table that exists is [staged](stage) first and [merged](merge) at its end, so that no client's pace holds the
//! table's lock; small ones need no stage, and enter together, in one commit (the [group](group)): which of their rows do is
//! decided ([admit](admit)) with what is [known](known) of the table, and one statement [stores](store) them. Either way one stream is one
//! transaction, and a key is stored once: within the stream by what `crate::ingest` tells apart, against the table by an
//! anti-join under the table's [lock](locks).

mod admit;
mod append;
mod gathering;
mod group;
mod held;
mod known;
mod locks;
mod merge;
mod stage;
mod store;
mod table;
mod writer;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;

pub use append::SmallAppend;
pub use held::{Held, Waiting};
pub(in crate::engine) use locks::{LockWait, TableLock};
pub use writer::{Opened, Writer};

use super::{CATALOG, SCHEMA};
use crate::error::{Error, ErrorKind, Result};
use crate::ingest::{Mode, OnDuplicate};
use crate::tables::Kind;

/// The column that carries a row's number in the stream, beside those of a managed table.
pub const ROW_COLUMN: &str = "__row";

/// Where a stream goes, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// The table's name, as the client gave it.
    pub table: String,
    /// Where the table is.
    pub place: TablePlace,
    /// The kind: events, profiles or table.
    pub kind: Kind,
    /// The columns of the stream's chunks: for a managed kind its own, then [`ROW_COLUMN`].
    pub schema: SchemaRef,
    /// What happens to the table.
    pub mode: Mode,
    /// What happens to rows whose key is known.
    pub on_duplicate: OnDuplicate,
    /// Where the rows came from.
    pub provenance: Provenance,
    /// The client's id for the whole stream.
    pub ingest_id: Option<String>,
    /// Each chunk is merged as it comes, so that the count of stored rows is right after each.
    pub every_batch: bool,
}

/// Where a table is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TablePlace {
    /// Where the session's names are, which is the main schema unless it has said otherwise.
    #[default]
    Unsaid,
    /// In the main schema of the data file, as all managed tables are.
    Main,
    /// In another schema of the data file.
    Schema(String),
    /// Among the temporary tables of the caller's session.
    Temporary,
}

impl TablePlace {
    /// The place that it stands for in a session whose schema is `schema`.
    #[must_use]
    pub fn or_schema(self, schema: Option<String>) -> Self {
        match (self, schema) {
            (Self::Unsaid, Some(schema)) => Self::Schema(schema),
            (Self::Unsaid, None) => Self::Main,
            (said, _) => said,
        }
    }

    /// The catalog and the schema.
    pub(in crate::engine) fn names(&self) -> (&str, &str) {
        match self {
            Self::Unsaid | Self::Main => (CATALOG, SCHEMA),
            Self::Schema(schema) => (CATALOG, schema),
            Self::Temporary => ("temp", SCHEMA),
        }
    }
}

/// Where rows came from, for `_metadata`. Times are microseconds since 1970 (UTC), dates are days since then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// When the data was fetched; none: now.
    pub fetched_at: Option<i64>,
    /// First day of the data.
    pub from_date: Option<i32>,
    /// Last day of the data.
    pub to_date: Option<i32>,
    /// Event names that the fetch was limited to.
    pub filter_events: Vec<String>,
    /// Expression that the fetch was filtered by.
    pub filter_where: Option<String>,
}

/// Some rows of a stream, in its order.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Rows whose key comes for the first time in the stream.
    pub fresh: Vec<RecordBatch>,
    /// Rows whose key may have come before in the stream.
    pub suspects: Vec<RecordBatch>,
    /// The memory that the rows take of the server's budget, given back when they are written.
    pub memory: Option<Held>,
}

impl Chunk {
    /// Rows in the chunk.
    pub fn rows(&self) -> usize {
        self.fresh.iter().chain(&self.suspects).map(RecordBatch::num_rows).sum()
    }

    /// Takes the rows after the first `rows` fresh ones away, to be written later, with their share of the budget.
    ///
    /// # Errors
    /// `Internal` when a batch cannot be cut.
    pub fn split_off(&mut self, rows: usize) -> Result<Self> {
        let (mut room, all) = (rows, self.rows());
        let mut later = Self::default();
        for batch in std::mem::take(&mut self.fresh) {
            let here = batch.num_rows().min(room);
            room -= here;
            if here > 0 {
                self.fresh.push(batch.slice(0, here));
            }
            if here < batch.num_rows() {
                later.fresh.push(rest(&batch, here)?);
            }
        }
        later.memory = self.memory.as_mut().and_then(|memory| memory.split(later.rows(), all));
        Ok(later)
    }
}

/// The rows of a batch from one on. The smaller part is copied: as a slice it would keep the whole batch in memory.
fn rest(batch: &RecordBatch, from: usize) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    if from == 0 || rows - from > from {
        return Ok(batch.slice(from, rows - from));
    }
    let indices: UInt64Array = (from as u64..rows as u64).collect();
    Ok(take_record_batch(batch, &indices)?)
}

/// What became of a stream's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rows received.
    pub received: u64,
    /// Rows that are new in the table.
    pub inserted: u64,
    /// Rows that were not stored, or replaced by a later one of the stream.
    pub duplicate: u64,
    /// Rows of the table that a row of the stream replaced.
    pub replaced: u64,
}

/// The ingests under way: the locks of their tables, their ids, the small appends that wait for a commit, and what is known of
/// the tables that those go into.
#[derive(Debug)]
pub(in crate::engine) struct Ingests {
    locks: Arc<locks::TableLocks>,
    ids: Arc<Mutex<HashSet<String>>>,
    groups: group::Groups,
    known: known::KnownTables,
}

/// An id that is in use as long as this lives.
#[derive(Debug)]
struct RunningId {
    ids: Arc<Mutex<HashSet<String>>>,
    id: String,
}

impl Ingests {
    /// No ingests; the filters of tables will take at most `filter_bytes_max`.
    pub(in crate::engine) fn new(filter_bytes_max: usize) -> Self {
        Self {
            locks: Arc::default(),
            ids: Arc::default(),
            groups: group::Groups::default(),
            known: known::KnownTables::new(filter_bytes_max),
        }
    }

    /// The lock of a table, by its lowercase name, if nobody has it. What was known of the table is forgotten.
    pub(in crate::engine) fn try_lock(&self, table: &str) -> Option<TableLock> {
        self.locks.try_lock(table).inspect(|_| self.known.forget(table))
    }

    /// Waits for the lock of a table, by its lowercase name; what was known of the table is forgotten. Whoever waits must not hold a slot: the one with the lock may need
    /// it (`Work::lock_table` sees to that).
    pub(in crate::engine) fn lock(
        &self,
        table: &str,
        cancel: &super::cancel::Cancel,
        wait: LockWait,
    ) -> Result<TableLock> {
        self.locks.lock(table, cancel, wait).inspect(|_| self.known.forget(table))
    }

    /// Marks an id as running.
    ///
    /// # Errors
    /// `Unavailable` when it is already.
    fn run_id(&self, id: &str) -> Result<RunningId> {
        if !self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned()) {
            let message = format!("ingest {id} is running: try again when it has ended");
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(RunningId { ids: Arc::clone(&self.ids), id: id.to_owned() })
    }
}

impl Drop for RunningId {
    fn drop(&mut self) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
