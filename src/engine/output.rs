//! The way of a query's rows from its engine thread to the async side: a channel of so many bytes, and a word on how it ended.
//!
//! The end is told beside the channel, not through it: a client that has stopped reading leaves no room in the channel, and
//! a thread that panics sends nothing. Rows that end without that word have not ended well.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot};

use super::cancel::Cancel;
use super::session::Lane;
use crate::batch;
use crate::error::{Error, Result};

/// How often a thread that waits for its client looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// What a batch takes of the room at least.
const BATCH_BYTES_MIN: usize = 4096;

/// How the rows ended; none while they come.
type End = Arc<Mutex<Option<Result<()>>>>;

/// The thread's side.
pub(super) struct Output {
    /// Takes the columns, or none when the statement is not a query.
    schema: Option<oneshot::Sender<Result<Option<SchemaRef>>>>,
    start: Option<oneshot::Receiver<Deadline>>,
    batches: mpsc::UnboundedSender<Queued>,
    room: Arc<Semaphore>,
    room_bytes: usize,
    end: End,
    runtime: Handle,
}

/// A batch with its part of the channel's room, which is free again when the batch is taken.
type Queued = (RecordBatch, OwnedSemaphorePermit);

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
    receiver: mpsc::UnboundedReceiver<Queued>,
    room: Arc<Semaphore>,
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

/// Both sides of a channel of `room_bytes`; to be called on the async runtime.
pub(super) fn channel(room_bytes: usize) -> (Output, Input) {
    let room_bytes = room_bytes.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
    let (schema_tx, schema) = oneshot::channel();
    let (start_tx, start) = oneshot::channel();
    // The room bounds it.
    let (batches_tx, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(room_bytes));
    let end = End::default();
    let output = Output {
        schema: Some(schema_tx),
        start: Some(start),
        batches: batches_tx,
        room: Arc::clone(&room),
        room_bytes,
        end: Arc::clone(&end),
        runtime: Handle::current(),
    };
    let batches = Batches { receiver, room, end, ended: false };
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

    /// Sends a batch if there is room for it.
    pub(super) fn try_send(&self, batch: RecordBatch) -> Sent {
        match Arc::clone(&self.room).try_acquire_many_owned(self.room_for(&batch)) {
            Ok(permit) => self.put(batch, permit),
            Err(TryAcquireError::NoPermits) => Sent::NotYet(batch),
            Err(TryAcquireError::Closed) => Sent::Gone,
        }
    }

    /// A batch that is larger than the room takes all of it; one of NULLs, which has no bytes, takes some all the same.
    fn room_for(&self, batch: &RecordBatch) -> u32 {
        let bytes = batch::bytes(batch).max(BATCH_BYTES_MIN).min(self.room_bytes);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    fn put(&self, batch: RecordBatch, permit: OwnedSemaphorePermit) -> Sent {
        if self.batches.send((batch, permit)).is_ok() { Sent::Yes } else { Sent::Gone }
    }

    /// Waits for room and sends the batch; false when the client is gone.
    ///
    /// # Errors
    /// What `cancel` says if the wait was cancelled or took too long.
    pub(super) fn send(&self, batch: RecordBatch, cancel: &Cancel) -> Result<bool> {
        Ok(matches!(self.send_unless(batch, cancel, None)?, Sent::Yes))
    }

    /// The same, unless another statement wants `lane` before there is room.
    pub(super) fn send_unless(&self, batch: RecordBatch, cancel: &Cancel, lane: Option<&Lane>) -> Result<Sent> {
        let room = self.room_for(&batch);
        loop {
            let waited = self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    permit = Arc::clone(&self.room).acquire_many_owned(room) => Waited::Room(permit.ok()),
                    () = contended(lane) => Waited::Contended,
                    () = tokio::time::sleep(LOOK) => Waited::Long,
                }
            });
            match waited {
                Waited::Room(Some(permit)) => return Ok(self.put(batch, permit)),
                Waited::Room(None) => return Ok(Sent::Gone),
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

/// How a wait for room ended.
enum Waited {
    Room(Option<OwnedSemaphorePermit>),
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
            Poll::Ready(Some((batch, _room))) => Poll::Ready(Some(Ok(batch))),
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

impl Drop for Batches {
    fn drop(&mut self) {
        // Who waits for room learns that nobody will take a batch.
        self.room.close();
    }
}
