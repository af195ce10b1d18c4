//! Rows in: the messages of a DoPut, decoded one by one.
//!
//! A message says of itself what its body unfolds to: a compressed kilobyte may claim terabytes, for which the decoder would ask the
//! allocator at once. And the decoder keeps a stream's dictionaries to its end. So a message is looked at before: what it unfolds to
//! has `server.message_bytes_max` and waits for room of its own, and the dictionaries have a limit in all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::ipc;
use arrow_flight::FlightData;
use arrow_flight::decode::{DecodedFlightData, DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use bytes::Bytes;
use bytesize::ByteSize;
use futures::{Stream, StreamExt, stream};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Streaming;

use super::room::{FREE_BYTES, Room};
use super::{State, put, status};
use crate::error::{Error, Result};

/// What the dictionaries of a stream may take, and the setting that says so.
pub(super) type DictionariesMax = (ByteSize, &'static str);

/// The stream, decoded; with the limit on how long it may be silent.
pub(super) struct Incoming {
    decoder: FlightDataDecoder,
    /// The app_metadata of the last message that carried nothing else; the decoder does not know such messages.
    metadata: Arc<Mutex<Option<Bytes>>>,
    bytes: u64,
    idle_timeout: Duration,
    message_bytes_max: u64,
}

impl Incoming {
    pub(super) fn new(
        state: &State,
        first: FlightData,
        messages: Streaming<FlightData>,
        dictionaries_max: DictionariesMax,
    ) -> Self {
        let metadata = Arc::new(Mutex::new(None));
        let gate = Gate::new(state.unfolding.clone(), state.config.server.message_bytes_max, dictionaries_max);
        let all = stream::iter([Ok(first)]).chain(messages);
        Self {
            decoder: FlightDataDecoder::new(decodable(all, gate, Arc::clone(&metadata))),
            metadata,
            bytes: 0,
            idle_timeout: state.budget.idle_timeout(),
            message_bytes_max: state.config.server.message_bytes_max.as_u64(),
        }
    }

    /// The app_metadata of a message that carried nothing else, if one came since the last time.
    pub(super) fn take_metadata(&self) -> Option<Bytes> {
        self.metadata.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Bytes of the messages that have come.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The schema, which comes with the first messages.
    pub(super) async fn schema(&mut self) -> Result<SchemaRef> {
        while let Some(message) = self.next().await? {
            if let DecodedPayload::Schema(schema) = message.payload {
                return Ok(schema);
            }
        }
        Err(Error::invalid("the stream has no schema"))
    }

    /// The next message; none: the stream has ended.
    pub(super) async fn next(&mut self) -> Result<Option<DecodedFlightData>> {
        let next = put::heard(self.idle_timeout, self.decoder.next()).await?;
        match next.transpose() {
            Ok(message) => {
                if let Some(DecodedFlightData { inner, .. }) = &message {
                    self.bytes += (inner.data_body.len() + inner.data_header.len()) as u64;
                }
                Ok(message)
            }
            Err(FlightError::Tonic(cause)) => Err(status::into_error(&cause, self.message_bytes_max)),
            Err(FlightError::ExternalError(cause)) => Err(cause.downcast().map_or_else(unreadable, |error| *error)),
            Err(error) => Err(unreadable(Box::new(error))),
        }
    }
}

fn unreadable(cause: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::invalid(format!("cannot read the stream: {cause}")).with_source(cause)
}

/// The messages that the decoder can decode, as the gate lets them in.
fn decodable(
    messages: impl Stream<Item = Result<FlightData, tonic::Status>> + Send + Unpin + 'static,
    gate: Gate,
    metadata: Arc<Mutex<Option<Bytes>>>,
) -> impl Stream<Item = Result<FlightData, FlightError>> + Send + 'static {
    stream::unfold((messages, gate), move |(mut messages, mut gate)| {
        let metadata = Arc::clone(&metadata);
        async move {
            loop {
                let message = match messages.next().await? {
                    Ok(message) => message,
                    Err(status) => return Some((Err(FlightError::Tonic(Box::new(status))), (messages, gate))),
                };
                if !message.data_header.is_empty() {
                    let admitted =
                        gate.admit(&message).await.map_err(|error| FlightError::ExternalError(Box::new(error)));
                    return Some((admitted.map(|()| message), (messages, gate)));
                }
                // Nothing but a descriptor is no error of the client's.
                if !message.app_metadata.is_empty() {
                    *metadata.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.app_metadata);
                }
            }
        }
    })
}

/// Looks at the messages of one stream before they are decoded.
struct Gate {
    room: Room,
    /// The room of the present message.
    held: Option<OwnedSemaphorePermit>,
    message_bytes_max: ByteSize,
    /// Bytes of the dictionaries that the decoder keeps, by their ids; the schema bounds their number.
    dictionaries: HashMap<i64, u64>,
    dictionaries_max: DictionariesMax,
}

impl Gate {
    fn new(room: Room, message_bytes_max: ByteSize, dictionaries_max: DictionariesMax) -> Self {
        Self { room, held: None, message_bytes_max, dictionaries: HashMap::new(), dictionaries_max }
    }

    /// Lets a message in when there is room for what it unfolds to. The one before it is done with.
    async fn admit(&mut self, message: &FlightData) -> Result<()> {
        self.held = None;
        let Some(Said { dictionary, unfolded }) = said(message)? else { return Ok(()) };
        if unfolded > self.message_bytes_max.as_u64() {
            return Err(Error::exhausted(format!(
                "a message of {} bytes unfolds to {unfolded}, more than {} (server.message_bytes_max): send smaller batches",
                message.data_body.len(),
                self.message_bytes_max
            )));
        }
        if let Some(id) = dictionary {
            self.keep(id, unfolded.max(message.data_body.len() as u64))?;
        }
        if unfolded > FREE_BYTES as u64 {
            let bytes = usize::try_from(unfolded).unwrap_or(usize::MAX);
            self.held = Some(self.room.clone().admit("what a compressed message unfolds to,", bytes).await?);
        }
        Ok(())
    }

    /// Counts a dictionary, which takes the place of the one before it with its id.
    fn keep(&mut self, id: i64, bytes: u64) -> Result<()> {
        self.dictionaries.insert(id, bytes);
        let (max, setting) = self.dictionaries_max;
        if self.dictionaries.values().sum::<u64>() > max.as_u64() {
            return Err(Error::exhausted(format!(
                "the dictionaries of the stream have more than {max} ({setting}): send these columns without dictionaries"
            )));
        }
        Ok(())
    }
}

/// What a message says of itself.
struct Said {
    /// The dictionary that it is.
    dictionary: Option<i64>,
    /// Bytes that its compressed buffers unfold to.
    unfolded: u64,
}

/// None for a schema, and for what the decoder will refuse.
fn said(message: &FlightData) -> Result<Option<Said>> {
    let Some((batch, dictionary)) = batch_of(&message.data_header) else { return Ok(None) };
    let is_compressed = batch.compression().is_some();
    let mut unfolded = 0_u64;
    for buffer in batch.buffers().into_iter().flatten() {
        let bytes = within(buffer, &message.data_body).ok_or_else(|| {
            // The decoder would panic.
            Error::invalid("cannot read the stream: a buffer lies beyond the end of its message")
        })?;
        if is_compressed {
            unfolded = unfolded.saturating_add(length_before(bytes).unwrap_or(0));
        }
    }
    Ok(Some(Said { dictionary, unfolded }))
}

/// The batch of a header, and the id of the dictionary that it is.
fn batch_of(header: &[u8]) -> Option<(ipc::RecordBatch<'_>, Option<i64>)> {
    let header = ipc::root_as_message(header).ok()?;
    match header.header_type() {
        ipc::MessageHeader::RecordBatch => Some((header.header_as_record_batch()?, None)),
        ipc::MessageHeader::DictionaryBatch => {
            let dictionary = header.header_as_dictionary_batch()?;
            Some((dictionary.data()?, Some(dictionary.id())))
        }
        _ => None,
    }
}

fn within<'a>(buffer: &ipc::Buffer, body: &'a [u8]) -> Option<&'a [u8]> {
    let start = usize::try_from(buffer.offset()).ok()?;
    let end = start.checked_add(usize::try_from(buffer.length()).ok()?)?;
    body.get(start..end)
}

/// The length that stands before a compressed buffer; -1 is one that is not compressed after all.
fn length_before(buffer: &[u8]) -> Option<u64> {
    u64::try_from(i64::from_le_bytes(*buffer.first_chunk()?)).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, RecordBatch, StringArray};
    use arrow::datatypes::Int32Type;
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::IpcWriteOptions;
    use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
    use futures::TryStreamExt;

    use super::*;
    use crate::config::Config;
    use crate::error::ErrorKind;

    /// The messages of a batch as clients send them: schema, dictionaries, rows.
    async fn messages(columns: Vec<(&str, ArrayRef)>, compression: Option<CompressionType>) -> Vec<FlightData> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        FlightDataEncoderBuilder::new()
            .with_options(options)
            .with_dictionary_handling(DictionaryHandling::Resend)
            .build(stream::iter([Ok(batch)]))
            .try_collect()
            .await
            .unwrap()
    }

    fn texts(bytes: usize) -> ArrayRef {
        Arc::new(StringArray::from(vec!["x".repeat(bytes / 100); 100]))
    }

    fn gate(message_bytes_max: ByteSize, dictionaries_max: ByteSize) -> Gate {
        let mut server = Config::default().server;
        server.message_bytes_max = message_bytes_max;
        server.messages_memory = message_bytes_max;
        server.messages_wait = Duration::from_millis(10);
        Gate::new(Room::new(&server), message_bytes_max, (dictionaries_max, "a.setting"))
    }

    async fn read(messages: Vec<FlightData>, gate: Gate) -> Result<Vec<RecordBatch>, FlightError> {
        let decoder =
            FlightDataDecoder::new(decodable(stream::iter(messages.into_iter().map(Ok)), gate, Arc::default()));
        let payloads: Vec<_> = decoder.map_ok(|message| message.payload).try_collect().await?;
        Ok(payloads
            .into_iter()
            .filter_map(|payload| if let DecodedPayload::RecordBatch(batch) = payload { Some(batch) } else { None })
            .collect())
    }

    fn refused(outcome: Result<Vec<RecordBatch>, FlightError>, says: &str) {
        let Err(FlightError::ExternalError(cause)) = outcome else { panic!("{outcome:?}") };
        let error = cause.downcast::<Error>().unwrap();
        assert!(error.kind() == ErrorKind::ResourceExhausted && error.message().contains(says), "{error}");
    }

    #[tokio::test]
    async fn what_is_compressed_has_the_limit_of_what_is_not() {
        for compression in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
            let sent = messages(vec![("text", texts(1 << 20))], Some(compression)).await;
            assert!(sent.iter().all(|message| message.data_body.len() < 100_000), "it is compressed");
            let got = read(sent.clone(), gate(ByteSize::mib(2), ByteSize::mib(1))).await.unwrap();
            assert_eq!(got[0].column(0), &texts(1 << 20));
            refused(read(sent, gate(ByteSize::kib(500), ByteSize::mib(1))).await, "server.message_bytes_max");
        }
    }

    #[tokio::test]
    async fn a_length_that_is_a_lie_asks_for_no_memory() {
        for length in [1_i64 << 45, i64::MAX] {
            let mut sent = messages(vec![("text", texts(1 << 20))], Some(CompressionType::ZSTD)).await;
            let rows = sent.last_mut().unwrap();
            let header = ipc::root_as_message(&rows.data_header).unwrap().header_as_record_batch().unwrap();
            let start = header.buffers().unwrap().iter().map(ipc::Buffer::offset).max().unwrap();
            let start = usize::try_from(start).unwrap();
            let mut body = rows.data_body.to_vec();
            body[start..start + 8].copy_from_slice(&length.to_le_bytes());
            rows.data_body = body.into();
            refused(read(sent, gate(ByteSize::gib(1), ByteSize::mib(1))).await, "server.message_bytes_max");
        }
    }

    #[tokio::test]
    async fn what_unfolds_has_room_until_the_next_message_is_wanted() {
        let [schema, rows] =
            messages(vec![("text", texts(1 << 20))], Some(CompressionType::ZSTD)).await.try_into().unwrap();
        let mut first = gate(ByteSize::mib(2), ByteSize::mib(1));
        let all = first.room.free_pages();
        first.admit(&rows).await.unwrap();
        let taken = all - first.room.free_pages();
        assert!((256..260).contains(&taken), "{taken}");
        let mut second = gate(ByteSize::mib(2), ByteSize::mib(1));
        second.room = first.room.clone();
        let error = second.admit(&rows).await.unwrap_err();
        assert!(error.message().contains("server.messages_memory"), "{error}");
        first.admit(&schema).await.unwrap();
        second.admit(&rows).await.unwrap();
        drop(second);
        assert_eq!(first.room.free_pages(), all);
    }

    #[tokio::test]
    async fn dictionaries_have_a_limit_in_all() {
        let words = |length: usize| {
            let words: DictionaryArray<Int32Type> = (0..100)
                .map(|_| "x".repeat(length))
                .collect::<Vec<_>>()
                .iter()
                .map(|word| Some(word.as_str()))
                .collect();
            Arc::new(words) as ArrayRef
        };
        for compression in [None, Some(CompressionType::ZSTD)] {
            let sent = messages(vec![("a", words(300_000)), ("b", words(400_000))], compression).await;
            // The next ones take the place of those before.
            let again: Vec<_> = sent.iter().chain(&sent[1..]).cloned().collect();
            assert_eq!(read(again, gate(ByteSize::mib(2), ByteSize::kb(710))).await.unwrap().len(), 2);
            refused(read(sent, gate(ByteSize::mib(2), ByteSize::kb(690))).await, "(a.setting)");
        }
    }

    #[tokio::test]
    async fn what_is_no_message_is_an_error() {
        for compression in [None, Some(CompressionType::LZ4_FRAME)] {
            let sent = messages(vec![("text", texts(1000))], compression).await;
            for cut in [100, 10_000] {
                let mut sent = sent.clone();
                let rows = sent.last_mut().unwrap();
                rows.data_body.truncate(rows.data_body.len().saturating_sub(cut));
                let Err(FlightError::ExternalError(cause)) = read(sent, gate(ByteSize::mib(2), ByteSize::mib(1))).await
                else {
                    panic!("it is read")
                };
                assert!(cause.to_string().contains("beyond the end"), "{cause}");
            }
        }
        let mut sent = messages(vec![("text", texts(1000))], None).await;
        sent.last_mut().unwrap().data_header.truncate(40);
        let outcome = read(sent, gate(ByteSize::mib(2), ByteSize::mib(1))).await;
        assert!(matches!(outcome, Err(FlightError::Arrow(_) | FlightError::DecodeError(_))), "{outcome:?}");
    }
}
