//! The wire of an ingest: descriptor and schema, batches, the commit last; the server's answers as they arrive.

use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoder, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, FlightDescriptor, PutResult};
use futures::{Stream, StreamExt};
use prost::Message;
use prost_types::Any;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use crate::cli::client::Client;
use crate::error::{Error, Result};
use crate::proto::v1::{Ingest, IngestCommit, IngestProgress, IngestResult};

/// Larger batches are sent in several messages.
const MESSAGE_BYTES: usize = 16 << 20;
const TYPE_PREFIX: &str = "type.googleapis.com/merganser.v1.";

/// What the server says on the stream.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) enum Answer {
    /// The stream is accepted, or so many rows of it have arrived.
    Progress(IngestProgress),
    /// The stream is stored.
    Result(IngestResult),
}

/// One stream of rows. It is stored only if `commit` gives the number of rows after the last batch; when the source fails, both are
/// dropped, and the stream ends without a commit.
pub(in crate::cli) struct Upload {
    pub(in crate::cli) command: Ingest,
    pub(in crate::cli) schema: SchemaRef,
    pub(in crate::cli) batches: mpsc::Receiver<RecordBatch>,
    pub(in crate::cli) commit: oneshot::Receiver<u64>,
}

impl Upload {
    /// Sends the stream; what comes out are the server's answers.
    pub(in crate::cli) fn send(self, client: &Client) -> impl Stream<Item = Result<Answer>> + Send + use<> {
        let descriptor = FlightDescriptor::new_cmd(pack("Ingest", &self.command));
        let encoder = FlightDataEncoderBuilder::new()
            .with_schema(self.schema)
            .with_flight_descriptor(Some(descriptor))
            .with_dictionary_handling(DictionaryHandling::Resend)
            .with_max_flight_data_size(MESSAGE_BYTES)
            .build(ReceiverStream::new(self.batches).map(Ok::<_, FlightError>));
        let failure = Arc::new(OnceLock::new());
        let outgoing = Outgoing { encoder, commit: Some(self.commit), failure: Arc::clone(&failure) };
        let messages = futures::stream::unfold(outgoing, Outgoing::next);
        // The server only saw a stream that ended early; whatever it says of that is not the reason.
        let failed = move || failure.get().map(|message| Error::invalid(format!("cannot send a batch: {message}")));
        let failed_at_end = failed.clone();
        client
            .put(messages)
            .map(move |answer| failed().map_or_else(|| unpack(answer?), Err))
            .chain(futures::stream::once(async move { failed_at_end().map(Err) }).filter_map(std::future::ready))
    }
}

/// What is still to be sent.
struct Outgoing {
    encoder: FlightDataEncoder,
    commit: Option<oneshot::Receiver<u64>>,
    /// Why a batch could not be encoded. A request stream of gRPC cannot fail, it can only end.
    failure: Arc<OnceLock<String>>,
}

impl Outgoing {
    async fn next(mut self) -> Option<(FlightData, Self)> {
        match self.encoder.next().await {
            Some(Ok(message)) => Some((message, self)),
            Some(Err(error)) => {
                // Only the first one matters, and nothing follows it.
                drop(self.failure.set(error.to_string()));
                None
            }
            None => {
                let rows = self.commit.take()?.await.ok()?;
                let commit = pack("IngestCommit", &IngestCommit { rows: Some(rows) });
                Some((FlightData::new().with_app_metadata(commit), self))
            }
        }
    }
}

fn pack(name: &str, message: &impl Message) -> Vec<u8> {
    Any { type_url: format!("{TYPE_PREFIX}{name}"), value: message.encode_to_vec() }.encode_to_vec()
}

fn unpack(answer: PutResult) -> Result<Answer> {
    let unreadable =
        |error: prost::DecodeError| Error::internal("cannot read the server's answer to the ingest").with_source(error);
    let any = Any::decode(answer.app_metadata).map_err(unreadable)?;
    match any.type_url.strip_prefix(TYPE_PREFIX) {
        Some("IngestProgress") => IngestProgress::decode(&*any.value).map(Answer::Progress).map_err(unreadable),
        Some("IngestResult") => IngestResult::decode(&*any.value).map(Answer::Result).map_err(unreadable),
        _ => Err(Error::internal(format!("the server answers the ingest with `{}`: is it a merganser?", any.type_url))),
    }
}
