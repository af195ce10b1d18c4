//! The pipeline of one stream: batches are coerced, split by their keys, gathered into chunks, and handed to the engine's
//! writer. Coercion is CPU work, so it runs beside the async runtime; the next batch is decoded meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytesize::ByteSize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::coerce::{Coercer, Limits, Plain};
use super::keys::Keys;
use super::{Mode, OnDuplicate, Request};
use crate::access::{self, Operation};
use crate::config::Config;
use crate::engine::{
    Call, Chunk, Engine, Opened, Outcome, Provenance, ROW_COLUMN, SmallAppend, TablePlace, Target, Waiting, Writer,
};
use crate::error::{Error, Result};
use crate::tables::{Kind, TableName};
use crate::{batch, config};

/// Rows of one of DuckDB's row groups. A chunk has two, so that two workers write whole ones at the same time, or one where
/// memory is scarce.
const ROW_GROUP: usize = 122_880;

/// Bytes that a chunk of two row groups of events may well take.
const TWO_GROUPS_BYTES: usize = 64 << 20;

/// Bytes of an append that is still small: it is held whole, and enters the table together with others.
const SMALL_BYTES: usize = 1 << 20;

/// A batch of fewer rows and bytes is coerced at once: a thread of its own would cost more.
const INLINE_ROWS: usize = 1024;
const INLINE_BYTES: usize = 64 << 10;

/// Memory is counted in pages of this size, because a semaphore counts at most 2^32.
const PAGE: usize = 4096;

/// What all streams share: how many may run, and the bytes that may wait to be written.
#[derive(Clone, Debug)]
pub struct Budget {
    streams: Arc<Semaphore>,
    pages: Arc<Semaphore>,
    pages_max: usize,
    waiting: Waiting,
    /// A third of a stream's memory: one chunk is gathered and one is written, while the next batch is decoded.
    chunk_bytes_max: usize,
    chunk_rows: usize,
    config: config::Ingest,
}

impl Budget {
    /// The budget of a server: a stream takes at most a quarter of what DuckDB may.
    pub fn of(config: &Config) -> Self {
        let quarter = ByteSize(config.engine.memory_limit.as_u64() / 4);
        let stream_memory = config.ingest.stream_memory.min(quarter);
        Self::new(&config::Ingest { stream_memory, ..config.ingest.clone() })
    }

    /// The budget that the settings give.
    pub fn new(config: &config::Ingest) -> Self {
        let chunk_bytes_max = usize::try_from(config.stream_memory.as_u64()).unwrap_or(usize::MAX) / 3;
        let pages_max = usize::try_from(config.memory.as_u64()).unwrap_or(usize::MAX) / PAGE;
        let pages_max = pages_max.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            streams: Arc::new(Semaphore::new(config.streams_max)),
            pages: Arc::new(Semaphore::new(pages_max)),
            pages_max,
            waiting: Waiting::default(),
            chunk_bytes_max,
            chunk_rows: if chunk_bytes_max < TWO_GROUPS_BYTES { ROW_GROUP } else { 2 * ROW_GROUP },
            config: config.clone(),
        }
    }

    /// What one stream may take.
    pub fn stream_memory(&self) -> ByteSize {
        self.config.stream_memory
    }

    /// Time after which a stream whose client sends nothing is rolled back.
    pub fn idle_timeout(&self) -> Duration {
        self.config.idle_timeout
    }

    /// How much of it is taken now.
    pub fn usage(&self) -> BudgetUsage {
        BudgetUsage {
            streams: self.config.streams_max.saturating_sub(self.streams.available_permits()),
            bytes: self.pages_max.saturating_sub(self.pages.available_permits()) * PAGE,
            oldest: self.waiting.oldest(),
        }
    }

    fn stream(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            Error::exhausted(format!(
                "{} ingest streams are open, which is the limit (ingest.streams_max); try again later",
                self.config.streams_max
            ))
        })
    }

    /// The right to hold `bytes`, if there is room now.
    fn try_memory(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.pages).try_acquire_many_owned(self.pages(bytes)).ok()
    }

    /// A batch larger than half of the budget counts as half of it, so that it can pass.
    fn pages(&self, bytes: usize) -> u32 {
        let pages = bytes.div_ceil(PAGE).clamp(1, (self.pages_max / 2).max(1));
        u32::try_from(pages).unwrap_or(u32::MAX)
    }

    /// Waits until `bytes` may be held.
    async fn memory(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.pages).acquire_many_owned(self.pages(bytes)).await;
        permit.map_err(|_| Error::internal("the ingest budget is closed"))
    }
}

/// What all streams together take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetUsage {
    /// Streams that are open.
    pub streams: usize,
    /// Bytes of rows that are in memory only.
    pub bytes: usize,
    /// How long the oldest of them have been there; none: there are none.
    pub oldest: Option<Duration>,
}

/// Rows received and written so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows received.
    pub received: u64,
    /// Rows written, duplicates not counted; durable only with the commit.
    pub written: u64,
}

/// One stream on its way into a table. Dropping it before the commit stores nothing.
#[derive(Debug)]
pub struct Ingest {
    open: Box<Open>,
    budget: Budget,
    every_batch: bool,
    received: u64,
    _stream: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Open {
    prepare: Option<Prepare>,
    chunk: Chunk,
    chunk_bytes: usize,
    way: Way,
}

/// How chunks reach the engine.
#[derive(Debug)]
enum Way {
    /// Not at all before the end, while they are few.
    Small(Box<SmallAppend>),
    Writer(Writer),
    /// An ingest with this id was stored meanwhile: what comes is dropped.
    Known(Outcome),
    /// The way to a writer failed: the stream is over.
    Lost,
}

/// The CPU work on one batch, which moves to a blocking thread and back.
#[derive(Debug)]
struct Prepare {
    steps: Steps,
    schema: SchemaRef,
}

#[derive(Debug)]
enum Steps {
    Managed { coercer: Coercer, keys: Keys, key: &'static str },
    Plain(Plain),
}

impl Ingest {
    /// Opens a stream of `schema`: columns, mode and table are checked before a row is read.
    pub async fn open(
        engine: &Engine,
        budget: &Budget,
        request: Request,
        schema: &Schema,
        call: &Call,
    ) -> Result<Self> {
        let stream = budget.stream()?;
        let mut request = request;
        request.place = request.place.or_schema(engine.settings(call)?.schema);
        check_permission(&request, call)?;
        let kind = resolve_kind(engine, &request, schema, call).await?;
        let prepare = Prepare::new(kind, schema, &request, budget)?;
        let every_batch = request.every_batch;
        let target = Target {
            table: request.table,
            place: request.place,
            kind,
            schema: Arc::clone(&prepare.schema),
            mode: request.mode,
            on_duplicate: request.on_duplicate,
            provenance: request.provenance,
            ingest_id: request.ingest_id,
            every_batch,
        };
        let way = match engine.open_small_append(&target, call).await? {
            Some(small) => Way::Small(Box::new(small)),
            None => Way::from(engine.open_ingest(target, call).await?),
        };
        let open = Open { prepare: Some(prepare), chunk: Chunk::default(), chunk_bytes: 0, way };
        Ok(Self { open: Box::new(open), budget: budget.clone(), every_batch, received: 0, _stream: stream })
    }

    /// Takes a batch; waits while the engine is behind or the memory of all streams is used up.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let first_row = self.received + 1;
        self.received += batch.num_rows() as u64;
        let open = &mut self.open;
        if batch.num_rows() == 0 || matches!(open.way, Way::Known(_)) {
            return Ok(());
        }
        let bytes = batch::bytes(&batch);
        if open.chunk_bytes > 0 && open.chunk_bytes + bytes > self.budget.chunk_bytes_max {
            open.send().await?;
        }
        let permit = if let Some(permit) = self.budget.try_memory(bytes) {
            permit
        } else {
            // Nothing is held back while it waits: streams that gather would wait for one another's memory.
            open.send().await?;
            self.budget.memory(bytes).await?
        };
        open.add(batch, bytes, first_row, permit, &self.budget.waiting).await?;
        let is_small = matches!(open.way, Way::Small(_)) && open.chunk_bytes <= SMALL_BYTES;
        if self.every_batch {
            open.send().await?;
        }
        while !is_small && open.chunk.rows() >= self.budget.chunk_rows {
            // Whole row groups: what is left over would be copied into the next one.
            let later = open.chunk.split_off(self.budget.chunk_rows)?;
            open.send().await?;
            open.chunk_bytes = later.fresh.iter().map(batch::bytes).sum();
            open.chunk = later;
        }
        match &mut open.way {
            Way::Writer(writer) if self.every_batch => writer.flush().await,
            _ => Ok(()),
        }
    }

    /// Whether rows are gathered that could be written.
    pub fn gathers(&self) -> bool {
        matches!(self.open.way, Way::Writer(_)) && self.open.chunk_bytes > 0
    }

    /// Writes what is gathered. A stream that waits for its client is not to keep memory that others wait for.
    pub async fn write_gathered(&mut self) -> Result<()> {
        self.open.send().await
    }

    /// Ends the stream with nothing stored; afterwards its table and its id are free.
    pub async fn abandon(self) {
        if let Way::Writer(writer) = self.open.way {
            writer.abandon().await;
        }
    }

    /// How far the stream is.
    pub fn progress(&self) -> Progress {
        let written = match &self.open.way {
            Way::Writer(writer) => writer.written(),
            Way::Known(outcome) => outcome.inserted + outcome.replaced,
            Way::Small(_) | Way::Lost => 0,
        };
        Progress { received: self.received, written }
    }

    /// Ends the stream well; the answer means that its rows are durable.
    pub async fn commit(self) -> Result<Outcome> {
        let (received, mut open) = (self.received, self.open);
        if !matches!(open.way, Way::Small(_)) || open.chunk_bytes > SMALL_BYTES {
            open.send().await?;
        }
        match open.way {
            Way::Small(small) => small.commit(open.chunk, received).await,
            Way::Writer(writer) => writer.commit(received).await,
            Way::Known(outcome) => Ok(outcome),
            Way::Lost => Err(Error::internal("the stream goes on after it was lost")),
        }
    }
}

impl From<Opened> for Way {
    fn from(opened: Opened) -> Self {
        match opened {
            Opened::Writer(writer) => Self::Writer(writer),
            Opened::Known(outcome) => Self::Known(outcome),
        }
    }
}

impl Open {
    async fn add(
        &mut self,
        batch: RecordBatch,
        bytes: usize,
        first_row: u64,
        permit: OwnedSemaphorePermit,
        waiting: &Waiting,
    ) -> Result<()> {
        let Some(mut prepare) = self.prepare.take() else {
            return Err(Error::internal("the stream goes on after a bad batch"));
        };
        let (prepare, (fresh, suspects)) = if batch.num_rows() <= INLINE_ROWS && bytes <= INLINE_BYTES {
            let parts = prepare.apply(&batch, first_row)?;
            (prepare, parts)
        } else {
            let prepared = tokio::task::spawn_blocking(move || {
                let parts = prepare.apply(&batch, first_row)?;
                Ok::<_, Error>((prepare, parts))
            });
            prepared.await.map_err(|error| Error::internal("a coercion failed").with_source(error))??
        };
        self.prepare = Some(prepare);
        self.chunk.fresh.extend(fresh);
        self.chunk.suspects.extend(suspects);
        self.chunk_bytes += bytes;
        match &mut self.chunk.memory {
            Some(memory) => memory.extend(permit),
            None => self.chunk.memory = Some(waiting.hold(permit)),
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<()> {
        self.chunk_bytes = 0;
        let chunk = std::mem::take(&mut self.chunk);
        if matches!(self.way, Way::Small(_))
            && let Way::Small(small) = std::mem::replace(&mut self.way, Way::Lost)
        {
            self.way = Way::from(small.grow().await?);
        }
        match &mut self.way {
            Way::Writer(writer) if chunk.rows() > 0 => writer.write(chunk).await,
            _ => Ok(()),
        }
    }
}

impl Prepare {
    fn new(kind: Kind, schema: &Schema, request: &Request, budget: &Budget) -> Result<Self> {
        let limits = Limits { json_depth: budget.config.json_depth_max, ..Limits::default() };
        let Some(key) = kind.key() else {
            if schema.fields().is_empty() {
                return Err(Error::invalid("the stream has no columns"));
            }
            if request.on_duplicate != OnDuplicate::Skip || request.provenance != Provenance::default() {
                return Err(Error::invalid("on_duplicate and metadata are for tables of events and profiles only"));
            }
            let plain = Plain::new(schema, limits)?;
            return Ok(Self { schema: Arc::clone(plain.schema()), steps: Steps::Plain(plain) });
        };
        let coercer = Coercer::new(kind, schema, request.extra, limits)?;
        let filter_bytes = usize::try_from(budget.config.key_filter_memory.as_u64()).unwrap_or(usize::MAX);
        let mut fields: Vec<Field> = coercer.schema().fields().iter().map(|field| as_duckdb_reads(field)).collect();
        fields.push(Field::new(ROW_COLUMN, DataType::Int64, false));
        let schema = Arc::new(Schema::new(fields));
        Ok(Self { steps: Steps::Managed { coercer, keys: Keys::new(filter_bytes), key }, schema })
    }

    fn apply(&mut self, batch: &RecordBatch, first_row: u64) -> Result<(Option<RecordBatch>, Option<RecordBatch>)> {
        match &mut self.steps {
            Steps::Plain(plain) => Ok((Some(plain.coerce(batch, first_row)?), None)),
            Steps::Managed { coercer, keys, key } => {
                let coerced = coercer.coerce(batch, first_row)?;
                let first = i64::try_from(first_row).unwrap_or(i64::MAX);
                let rows = Int64Array::from_iter_values((first..).take(coerced.num_rows()));
                let mut columns = coerced.columns().to_vec();
                columns.push(Arc::new(rows) as ArrayRef);
                let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
                keys.split(&batch, key)
            }
        }
    }
}

/// The field as DuckDB is to read it: properties are JSON that is known to be valid, so the engine need not look again.
fn as_duckdb_reads(field: &Field) -> Field {
    if field.name() != "properties" {
        return field.clone();
    }
    let metadata = HashMap::from([
        ("ARROW:extension:name".to_owned(), "arrow.json".to_owned()),
        ("ARROW:extension:metadata".to_owned(), String::new()),
    ]);
    field.clone().with_metadata(metadata)
}

/// Whether the caller may write where the stream goes.
fn check_permission(request: &Request, call: &Call) -> Result<()> {
    match &request.place {
        TablePlace::Temporary => call.may(Operation::WriteOwn),
        TablePlace::Schema(schema) => call.may(Operation::Write(&access::table_name(schema, &request.table))),
        TablePlace::Unsaid | TablePlace::Main => call.may(Operation::Write(&request.table)),
    }
}

/// The kind of a stream: as asked, else that of the table it is added to, else what its columns are.
async fn resolve_kind(engine: &Engine, request: &Request, schema: &Schema, call: &Call) -> Result<Kind> {
    if request.place != TablePlace::Main {
        return match request.kind {
            None | Some(Kind::Table) => Ok(Kind::Table),
            Some(kind) => Err(Error::invalid(format!(
                "a table of {} is in the main schema and stays: it cannot be temporary, or in another schema",
                kind.word()
            ))),
        };
    }
    if let Some(kind) = request.kind {
        return Ok(kind);
    }
    if matches!(request.mode, Mode::Append | Mode::CreateAppend)
        && let Some(kind) = engine.table_kind(request.table.clone(), call).await?
    {
        return Ok(kind);
    }
    let by_columns = Kind::of_columns(schema.fields().iter().map(|field| field.name().as_str()));
    let Some(kind) = by_columns else { return Ok(Kind::Table) };
    // A plain table of the same columns would take every key again and again: who wants that says so.
    TableName::parse(&request.table)?;
    Ok(kind)
}
