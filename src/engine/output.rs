//! The way of a query's rows from its engine thread to the async side: a short channel, and a word on how it ended.
//!
//! The end is told beside the channel, not through it: a client that has stopped reading leaves no place in the channel, and
//! a thread that panics sends nothing. Rows that end without that word have not ended well.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::cancel::Cancel;
use super::session::Lane;
use crate::error::{Error, Result};

/// How often a thread that waits for its client looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// How the rows ended; none while they come.
type End = Arc<Mutex<Option<Result<()>>>>;

/// The thread's side.
pub(super) struct Output {
    /// Takes the columns, or none when the statement is not a query.
    schema: Option<oneshot::Sender<Result<Option<SchemaRef>>>>,
    start: Option<oneshot::Receiver<Deadline>>,
    batches: mpsc::Sender<RecordBatch>,
    end: End,
    runtime: Handle,
}

/// The deadline of whoever wants the rows; none: that of whoever asked for the plan.
type Deadline = Option<Option<Instant>>;

/// Lets the thread go on from the plan to the rows.
#[derive(Debug)]
pub(super) struct Starter(oneshot::Sender<Deadline>);

/// How the wait with a plan ended.
pub(super) enum Start {
    /// The rows are wanted.
    Now(Deadline),
    /// Nobody will want them, or another statement needs the connection.
    Gone,
}

/// The async side.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) schema: oneshot::Receiver<Result<Option<SchemaRef>>>,
    pub(super) batches: Batches,
    pub(super) starter: Starter,
}

/// The rows on the async side.
#[derive(Debug)]
pub(super) struct Batches {
    receiver: mpsc::Receiver<RecordBatch>,
    end: End,
    ended: bool,
}

/// What became of a batch.
pub(super) enum Sent {
    Yes,
    /// The client is not ready for it.
    NotYet(RecordBatch),
    /// The client is gone.
    Gone,
}

/// Both sides of a channel of `batches_max`; to be called on the async runtime.
pub(super) fn channel(batches_max: usize) -> (Output, Input) {
    let (schema_tx, schema) = oneshot::channel();
    let (start_tx, start) = oneshot::channel();
    let (batches_tx, receiver) = mpsc::channel(batches_max);
    let end = End::default();
    let output = Output {
        schema: Some(schema_tx),
        start: Some(start),
        batches: batches_tx,
        end: Arc::clone(&end),
        runtime: Handle::current(),
    };
    let batches = Batches { receiver, end, ended: false };
    (output, Input { schema, batches, starter: Starter(start_tx) })
}

impl Output {
    /// Answers the columns; false when the caller is gone.
    pub(super) fn begin(&mut self, schema: Option<SchemaRef>) -> Result<bool> {
        let sender = self.schema.take().ok_or_else(|| Error::internal("a query began twice"))?;
        Ok(sender.send(Ok(schema)).is_ok())
    }

    /// Waits with the plan until its rows are wanted, or `lane`, which it was made on, is; at most `wait_max`.
    pub(super) fn wait_for_start(&mut self, cancel: &Cancel, lane: Option<&Lane>, wait_max: Duration) -> Result<Start> {
        let until = Instant::now() + wait_max;
        let mut start = self.start.take().ok_or_else(|| Error::internal("a query began twice"))?;
        loop {
            let waited = self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    started = &mut start => Some(started.map_or(Start::Gone, Start::Now)),
                    () = contended(lane) => Some(Start::Gone),
                    () = tokio::time::sleep(LOOK) => (Instant::now() >= until).then_some(Start::Gone),
                }
            });
            match waited {
                None => cancel.check()?,
                Some(Start::Now(deadline)) => return Ok(Start::Now(deadline)),
                Some(Start::Gone) => {
                    // From here on a start fails; one that came just before counts.
                    start.close();
                    return Ok(start.try_recv().map_or(Start::Gone, Start::Now));
                }
            }
        }
    }

    /// Sends a batch if there is a place for it.
    pub(super) fn try_send(&self, batch: RecordBatch) -> Sent {
        match self.batches.try_send(batch) {
            Ok(()) => Sent::Yes,
            Err(mpsc::error::TrySendError::Full(batch)) => Sent::NotYet(batch),
            Err(mpsc::error::TrySendError::Closed(_)) => Sent::Gone,
        }
    }

    /// Waits for a place and sends the batch; false when the client is gone.
    ///
    /// # Errors
    /// What `cancel` says if the wait was cancelled or took too long.
    pub(super) fn send(&self, batch: RecordBatch, cancel: &Cancel) -> Result<bool> {
        Ok(matches!(self.send_unless(batch, cancel, None)?, Sent::Yes))
    }

    /// The same, unless another statement wants `lane` before there is a place.
    pub(super) fn send_unless(&self, batch: RecordBatch, cancel: &Cancel, lane: Option<&Lane>) -> Result<Sent> {
        loop {
            let place = self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    place = self.batches.reserve() => Waited::Place(place.ok()),
                    () = contended(lane) => Waited::Contended,
                    () = tokio::time::sleep(LOOK) => Waited::Long,
                }
            });
            match place {
                Waited::Place(Some(place)) => {
                    place.send(batch);
                    return Ok(Sent::Yes);
                }
                Waited::Place(None) => return Ok(Sent::Gone),
                Waited::Contended => return Ok(Sent::NotYet(batch)),
                Waited::Long => cancel.check()?,
            }
        }
    }

    /// Says how it ended: in place of the columns, or after the rows.
    pub(super) fn finish(mut self, end: Result<()>) {
        match (self.schema.take(), end) {
            // A failed send means that the client is gone.
            (Some(schema), Err(error)) => drop(schema.send(Err(error))),
            (_, end) => *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end),
        }
    }
}

/// How a wait for a place ended.
enum Waited<'a> {
    Place(Option<mpsc::Permit<'a, RecordBatch>>),
    Contended,
    Long,
}

async fn contended(lane: Option<&Lane>) {
    match lane {
        Some(lane) => lane.contended().await,
        None => std::future::pending().await,
    }
}

impl Starter {
    /// False when the thread has not waited that long.
    pub(super) fn start(self, deadline: Deadline) -> bool {
        self.0.send(deadline).is_ok()
    }
}

impl Batches {
    /// The next batch, or the error that the rows ended with.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<RecordBatch>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.receiver.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(batch)) => Poll::Ready(Some(Ok(batch))),
            Poll::Ready(None) => {
                self.ended = true;
                let end = self.end.lock().unwrap_or_else(PoisonError::into_inner).take();
                match end {
                    Some(Ok(())) => Poll::Ready(None),
                    Some(Err(error)) => Poll::Ready(Some(Err(error))),
                    None => Poll::Ready(Some(Err(Error::internal("the engine ended without an answer")))),
                }
            }
        }
    }
}
