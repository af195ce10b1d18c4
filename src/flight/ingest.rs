//! DoPut of rows: the stream is [decoded](super::decode), handed to the [ingest](crate::ingest) batch by batch, and answered while it runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_flight::decode::{DecodedFlightData, DecodedPayload};
use arrow_flight::{FlightData, PutResult};
use bytes::Bytes;
use futures::{Stream, stream};
use prost::Message;
use serde::Serialize;
use tokio::sync::mpsc::{self, error::SendTimeoutError};
use tonic::Streaming;

use super::command::Replies;
use super::decode::Incoming;
use super::observe::{self, IngestTally};
use super::ticket::decode_any;
use super::{State, put};
use crate::engine::{Call, Outcome};
use crate::error::{Error, ErrorKind, Result};
use crate::ingest::{Ingest, Progress, Request};
use crate::proto::v1;

/// The least time between two progress messages, unless the client wants one for every batch.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// How long rows that are gathered wait for the next batch.
const GATHERED_WAIT: Duration = Duration::from_millis(200);

/// Answers that wait for a client that does not read them; with more, the stream waits too.
const ANSWERS_MAX: usize = 16;

const COMMIT_URL: &str = "type.googleapis.com/merganser.v1.IngestCommit";

/// Reads the stream and answers it. Dropping the answers (the client is gone) ends the ingest with nothing stored.
pub(super) fn put(
    state: Arc<State>,
    request: Box<Request>,
    replies: Replies,
    call: Call,
    first: FlightData,
    messages: Streaming<FlightData>,
) -> impl Stream<Item = Result<PutResult>> + Send {
    let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
    let patience = state.budget.idle_timeout();
    let run = async move {
        let answers = Answers { sender: answers, replies, patience };
        let tally = IngestTally::default();
        let (call, tracked) = state.engine.track_ingest(&request.table, &call);
        let dictionaries_max = (state.budget.stream_memory(), "ingest.stream_memory");
        let incoming = Incoming::new(&state, first, messages, dictionaries_max);
        let outcome = run(&state, *request, &answers, incoming, &call).await;
        if let Some(tracked) = tracked {
            tracked.end(&outcome);
        }
        tally.end(&outcome);
        // A failed send means that the client is gone.
        match outcome {
            Ok(result) => drop(answers.send(Ok(result)).await),
            Err(error) => drop(answers.send(Err(error)).await),
        }
    };
    // A task of its own: its waits have their ends also when the client reads no answer. When the client goes, tonic drops the
    // answers, and with them the ingest.
    let running = observe::spawn(run);
    stream::unfold(Some((receiver, running)), |state| async {
        let (mut receiver, running) = state?;
        if let Some(answer) = receiver.recv().await {
            return Some((answer, Some((receiver, running))));
        }
        let broken = running.await.err()?;
        Some((Err(Error::internal("an ingest broke off").with_source(broken)), None))
    })
}

struct Answers {
    sender: mpsc::Sender<Result<PutResult>>,
    replies: Replies,
    /// How long an answer waits for a client that does not read.
    patience: Duration,
}

impl Answers {
    async fn send(&self, answer: Result<PutResult>) -> Result<()> {
        match self.sender.send_timeout(answer, self.patience).await {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Closed(_)) => Err(Error::cancelled("the client is gone")),
            Err(SendTimeoutError::Timeout(_)) => Err(Error::new(
                ErrorKind::DeadlineExceeded,
                format!(
                    "the client has read no answer for {:?} (ingest.idle_timeout): nothing is stored",
                    self.patience
                ),
            )),
        }
    }

    async fn progress(&self, progress: Progress) -> Result<()> {
        let message = v1::IngestProgress { rows_received: progress.received, rows_written: progress.written };
        match self.replies {
            Replies::Json => self.send(Ok(json(&message)?)).await,
            Replies::Protobuf => self.send(Ok(packed("IngestProgress", &message))).await,
            Replies::FlightSql => Ok(()),
        }
    }

    fn result(&self, outcome: Outcome, bytes: u64, seconds: f64) -> Result<PutResult> {
        let message = v1::IngestResult {
            rows_received: outcome.received,
            rows_inserted: outcome.inserted,
            rows_duplicate: outcome.duplicate,
            rows_replaced: outcome.replaced,
            bytes_received: bytes,
            seconds,
        };
        match self.replies {
            Replies::Json => json(&message),
            Replies::Protobuf => Ok(packed("IngestResult", &message)),
            Replies::FlightSql => Ok(put::update_result(outcome.inserted + outcome.replaced)),
        }
    }
}

fn json(message: &impl Serialize) -> Result<PutResult> {
    let text = serde_json::to_vec(message).map_err(|error| Error::internal("cannot write JSON").with_source(error))?;
    Ok(PutResult { app_metadata: text.into() })
}

fn packed(name: &str, message: &impl Message) -> PutResult {
    let any = arrow_flight::sql::Any {
        type_url: format!("type.googleapis.com/merganser.v1.{name}"),
        value: message.encode_to_vec().into(),
    };
    PutResult { app_metadata: any.encode_to_vec().into() }
}

async fn run(
    state: &State,
    request: Request,
    answers: &Answers,
    mut incoming: Incoming,
    call: &Call,
) -> Result<PutResult> {
    let started = Instant::now();
    let ingest = tokio::select! {
        biased;
        ingest = receive(state, request, answers, &mut incoming, call) => ingest?,
        // Somebody may end the stream while it waits for its client.
        error = call.stopped() => return Err(error),
    };
    let outcome = ingest.commit().await?;
    IngestTally::stored(&outcome);
    answers.result(outcome, incoming.bytes(), started.elapsed().as_secs_f64())
}

/// Takes the whole stream; what is left to do is its commit.
async fn receive(
    state: &State,
    request: Request,
    answers: &Answers,
    incoming: &mut Incoming,
    call: &Call,
) -> Result<Ingest> {
    let (explicit_commit, every_batch) = (request.explicit_commit, request.every_batch);
    let schema = incoming.schema().await?;
    IngestTally::received(incoming.bytes());
    let mut ingest = Ingest::open(&state.engine, &state.budget, request, &schema, call).await?;
    match fill(&mut ingest, explicit_commit, every_batch, answers, incoming, call).await {
        Ok(()) => Ok(ingest),
        Err(error) => {
            // Who hears of the error may try again at once.
            ingest.abandon().await;
            Err(error)
        }
    }
}

/// Hands the rows over, up to the stream's end.
async fn fill(
    ingest: &mut Ingest,
    explicit_commit: bool,
    every_batch: bool,
    answers: &Answers,
    incoming: &mut Incoming,
    call: &Call,
) -> Result<()> {
    answers.progress(Progress::default()).await?;
    let mut last_progress = Instant::now();
    let mut commit: Option<v1::IngestCommit> = None;
    while let Some(DecodedFlightData { mut inner, payload }) = next(incoming, ingest).await? {
        IngestTally::received((inner.data_body.len() + inner.data_header.len()) as u64);
        let metadata = std::mem::take(&mut inner.app_metadata);
        // Rows may be a copy of their message, which is not kept while they are written.
        drop(inner);
        if explicit_commit && (commit.is_some() || incoming.take_metadata().is_some()) {
            return Err(Error::invalid("the stream goes on after its IngestCommit: nothing is stored"));
        }
        if let DecodedPayload::RecordBatch(batch) = payload {
            IngestTally::received_rows(batch.num_rows());
            ingest.write(batch).await?;
            if let Some(tracked) = &call.tracked {
                tracked.set_rows(ingest.progress().received);
                tracked.set_bytes(incoming.bytes());
            }
            if every_batch || last_progress.elapsed() >= PROGRESS_INTERVAL {
                answers.progress(ingest.progress()).await?;
                last_progress = Instant::now();
            }
        }
        if explicit_commit && !metadata.is_empty() {
            commit = Some(parse_commit(&metadata)?);
        }
    }
    if explicit_commit {
        if let Some(metadata) = incoming.take_metadata() {
            commit = Some(parse_commit(&metadata)?);
        }
        check_commit(commit, ingest.progress().received)?;
    }
    Ok(())
}

/// The next message. Rows that are gathered are written if it does not come soon: others may wait for their memory.
async fn next(incoming: &mut Incoming, ingest: &mut Ingest) -> Result<Option<DecodedFlightData>> {
    let mut next = std::pin::pin!(incoming.next());
    if ingest.gathers() {
        tokio::select! {
            biased;
            message = &mut next => return message,
            () = tokio::time::sleep(GATHERED_WAIT) => ingest.write_gathered().await?,
        }
    }
    next.await
}

fn parse_commit(bytes: &Bytes) -> Result<v1::IngestCommit> {
    let not_one = || Error::invalid("the app_metadata is no IngestCommit: it is JSON text, or a message in an Any");
    if bytes.first() == Some(&b'{') {
        return serde_json::from_slice(bytes).map_err(|error| not_one().with_source(error));
    }
    let any = decode_any(bytes).filter(|any| any.type_url == COMMIT_URL).ok_or_else(not_one)?;
    v1::IngestCommit::decode(any.value).map_err(|error| not_one().with_source(error))
}

fn check_commit(commit: Option<v1::IngestCommit>, received: u64) -> Result<()> {
    let Some(commit) = commit else {
        return Err(Error::cancelled("the stream ended without an IngestCommit: nothing is stored"));
    };
    match commit.rows {
        Some(rows) if rows != received => Err(Error::invalid(format!(
            "the client committed {rows} rows but {received} were received: nothing is stored"
        ))),
        _ => Ok(()),
    }
}
