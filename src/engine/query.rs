//! Queries: a statement's rows stream out of DuckDB as its workers make them, a few batches ahead of the client.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use duckdb_neo::Parameters;
use duckdb_neo::connection::SettingScope;
use futures::Stream;
use tokio::sync::{mpsc, oneshot};

use super::slots::Slot;
use super::work::{CancelOnDrop, Work};
use super::{Engine, ffi, types};
use crate::error::{Error, Result};

/// The rows of a query: a stream of batches that ends with the last row or with an error. Dropping it interrupts the query.
#[derive(Debug)]
pub struct Rows {
    schema: SchemaRef,
    batches: mpsc::Receiver<Result<RecordBatch>>,
    _cancel: CancelOnDrop,
}

/// What starting a query came to.
#[derive(Debug)]
pub enum Started {
    /// It runs.
    Rows(Rows),
    /// The statement changes something, and has not been started: execute it.
    Change,
}

/// What a statement that is not a plain query left: rows changed, or rows to read.
#[derive(Clone, Debug)]
pub struct Executed {
    /// Rows inserted, updated or deleted; none where the statement does not change rows.
    pub changed: Option<u64>,
    /// The columns of its rows; no columns when it has none.
    pub schema: SchemaRef,
    /// Its rows.
    pub batches: Vec<RecordBatch>,
}

impl Default for Executed {
    fn default() -> Self {
        Self { changed: None, schema: SchemaRef::new(Schema::empty()), batches: Vec::new() }
    }
}

impl Rows {
    /// The same rows under a schema that says more about the same columns.
    pub(in crate::engine) fn with_schema(mut self, schema: SchemaRef) -> Self {
        self.schema = schema;
        self
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_recv(context)
    }
}

impl Engine {
    /// Starts a query; answers once its columns are known, so that an error in the statement is a clean answer.
    pub async fn query(&self, sql: String, deadline: Option<Instant>) -> Result<Started> {
        let (schema_tx, schema_rx) = oneshot::channel();
        let (batches_tx, batches) = mpsc::channel(self.0.query.batches_in_flight);
        let cancel = self.spawn(deadline, move |work| {
            let output = Output { schema: Some(schema_tx), batches: batches_tx };
            match work {
                Ok(work) => stream(&work, &sql, output),
                Err(error) => output.fail(error),
            }
        })?;
        let schema = schema_rx.await.map_err(|_| Error::internal("the engine ended without an answer"))??;
        Ok(match schema {
            Some(schema) => Started::Rows(Rows { schema, batches, _cancel: cancel }),
            None => Started::Change,
        })
    }
}

/// Where a query's columns and rows go.
struct Output {
    /// Takes the columns, or none when the statement is not a query.
    schema: Option<oneshot::Sender<Result<Option<SchemaRef>>>>,
    batches: mpsc::Sender<Result<RecordBatch>>,
}

impl Output {
    /// Answers the caller; false when the caller is gone.
    fn begin(&mut self, schema: Option<SchemaRef>) -> Result<bool> {
        let sender = self.schema.take().ok_or_else(|| Error::internal("a query began twice"))?;
        Ok(sender.send(Ok(schema)).is_ok())
    }

    /// Tells the client: in place of the columns, or after the rows so far.
    fn fail(mut self, error: Error) {
        // A failed send means that the client is gone.
        match self.schema.take() {
            Some(schema) => drop(schema.send(Err(error))),
            None => drop(self.batches.blocking_send(Err(error))),
        }
    }
}

fn stream(work: &Work, sql: &str, mut output: Output) {
    if let Err(error) = produce(work, sql, &mut output) {
        output.fail(work.explain(error));
    }
}

fn produce(work: &Work, sql: &str, output: &mut Output) -> Result<()> {
    let mut slot = Some(work.slot()?);
    let Some(statement) = work.read_query(sql)? else {
        return output.begin(None).map(drop);
    };
    // DuckDB has this limit per connection only.
    let buffer = format!("{}B", work.engine.query.streaming_buffer.as_u64());
    work.connection.config()?.set_text("streaming_buffer_size", &buffer, SettingScope::Session)?;
    let types = types::of(&work.connection, &statement)?;
    let mut result = statement.arrow_query(&work.connection, Parameters::None, Some(work.engine.query.batch_rows))?;
    let schema = types::annotate(&*ffi::schema_from(result.schema()?)?, &types);
    if !output.begin(Some(SchemaRef::clone(&schema)))? {
        return Ok(());
    }
    loop {
        work.cancel.check()?;
        let Some(array) = result.next_array()? else { return Ok(()) };
        if array.is_empty() {
            continue;
        }
        let batch = ffi::batch_from(array, &schema)?;
        if !send(work, &mut slot, output, batch)? {
            return Ok(());
        }
    }
}

/// Sends a batch; gives the slot back while the client is not ready. False when the client is gone.
fn send<'a>(work: &'a Work, slot: &mut Option<Slot<'a>>, output: &Output, batch: RecordBatch) -> Result<bool> {
    match output.batches.try_send(Ok(batch)) {
        Ok(()) => Ok(true),
        Err(mpsc::error::TrySendError::Closed(_)) => Ok(false),
        Err(mpsc::error::TrySendError::Full(batch)) => {
            drop(slot.take());
            if output.batches.blocking_send(batch).is_err() {
                return Ok(false);
            }
            *slot = Some(work.slot()?);
            Ok(true)
        }
    }
}
