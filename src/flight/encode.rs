//! Rows on the wire: batches become IPC messages, the schema first, each message under the limit by its real size.
//!
//! A message has the arrays' own buffers for its body, so a batch is cut and framed and not copied. arrow-flight's encoder copies
//! it into one buffer, and splits by the capacity of buffers, which says little for a slice; here a message that turns out too
//! large is halved. A single row that is larger is sent all the same.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow::ipc::{CompressionType, root_as_message};
use arrow_flight::{FlightData, IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use bytesize::ByteSize;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tonic::metadata::MetadataMap;

use super::{columns, observe};
use crate::batch;
use crate::engine::{Executed, Rows, TYPE_KEY};
use crate::error::{Error, Result};

/// The header by which a DoGet asks for compressed bodies.
const COMPRESSION_HEADER: &str = "merganser-compression";

/// Rows are cut at multiples of this, so that bitmaps are cut between bytes and need not be shifted.
const CUT_ROWS: usize = 64;

/// One IPC message: its header, and the buffers of its body in order.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) header: Bytes,
    pub(super) body: Vec<Buffer>,
    pub(super) body_bytes: usize,
}

/// Rows to send: their columns, and the batches as they come.
pub(super) struct Outgoing {
    pub(super) schema: SchemaRef,
    pub(super) batches: BoxStream<'static, Result<RecordBatch>>,
}

impl From<Rows> for Outgoing {
    fn from(rows: Rows) -> Self {
        Self { schema: Arc::clone(rows.schema()), batches: rows.boxed() }
    }
}

impl From<Executed> for Outgoing {
    fn from(executed: Executed) -> Self {
        Self { schema: executed.schema, batches: futures::stream::iter(executed.batches.into_iter().map(Ok)).boxed() }
    }
}

impl From<RecordBatch> for Outgoing {
    fn from(batch: RecordBatch) -> Self {
        Self { schema: batch.schema(), batches: futures::stream::iter([Ok(batch)]).boxed() }
    }
}

/// The schema that goes over the wire: the SQL types, with what follows from them, stand where clients look for them.
pub(super) fn wire_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema.fields().iter().map(|field| describe(field)).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

pub(super) fn describe(field: &Field) -> Field {
    let mut metadata = field.metadata().clone();
    if let Some(sql_type) = metadata.remove(TYPE_KEY) {
        columns::describe(&mut metadata, sql_type);
    }
    field.clone().with_metadata(metadata)
}

/// The schema as an encapsulated IPC message, as FlightInfo and SchemaResult hold it.
pub(super) fn schema_bytes(schema: &Schema) -> Result<Bytes> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into()?;
    Ok(bytes)
}

/// The compression that a call asks for; none unless it asks: on a fast network it costs more than it saves.
pub(super) fn compression(metadata: &MetadataMap) -> Result<Option<CompressionType>> {
    let Some(value) = metadata.get(COMPRESSION_HEADER) else { return Ok(None) };
    match value.to_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "none" => Ok(None),
        "lz4" => Ok(Some(CompressionType::LZ4_FRAME)),
        "zstd" => Ok(Some(CompressionType::ZSTD)),
        other => Err(Error::invalid(format!("{COMPRESSION_HEADER} {other:?} is not known: it is lz4, zstd or none"))),
    }
}

/// The messages of `rows`, each of at most `message_bytes_max` where that is possible.
pub(super) fn encode(
    rows: Outgoing,
    message_bytes_max: ByteSize,
    compression: Option<CompressionType>,
) -> Result<impl Stream<Item = Result<Message>> + Send> {
    let schema = wire_schema(&rows.schema);
    let first = FlightData::from(SchemaAsIpc::new(&schema, &IpcWriteOptions::default()));
    let first = Message { header: first.data_header, body: Vec::new(), body_bytes: 0 };
    let mut encoder =
        Encoder::new(schema, usize::try_from(message_bytes_max.as_u64()).unwrap_or(usize::MAX), compression)?;
    let messages = rows.batches.flat_map(move |batch| {
        let parts = batch.and_then(|batch| {
            observe::count_rows_sent(batch.num_rows());
            encoder.encode(&batch)
        });
        let messages = match parts {
            Ok(messages) => messages.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        };
        futures::stream::iter(messages)
    });
    Ok(futures::stream::iter([Ok(first)]).chain(messages))
}

/// Makes messages of one stream's batches.
struct Encoder {
    schema: SchemaRef,
    bytes_max: usize,
    stream: StreamEncoder,
    /// Whether arrow's encoder has given its schema message, which is not sent: ours was, before the first batch.
    began: bool,
}

impl Encoder {
    fn new(schema: SchemaRef, bytes_max: usize, compression: Option<CompressionType>) -> Result<Self> {
        let options = IpcWriteOptions::default().try_with_compression(compression)?;
        let stream = StreamEncoder::try_new_with_options(&schema, options)?;
        Ok(Self { schema, bytes_max, stream, began: false })
    }

    fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<Message>> {
        let batch = to_wire(batch, &self.schema)?;
        let mut messages = Vec::new();
        let mut rest: VecDeque<RecordBatch> = first_cut(&batch, self.bytes_max).into();
        while let Some(part) = rest.pop_front() {
            messages.extend(self.encode_one(&part)?);
            let too_large = messages.last().is_some_and(|message| message.bytes() > self.bytes_max);
            if too_large && part.num_rows() > 1 {
                // Dictionaries before it stay: the encoder sends each once.
                messages.pop();
                let half = (part.num_rows() / 2).next_multiple_of(CUT_ROWS);
                let half = if half < part.num_rows() { half } else { part.num_rows() / 2 };
                rest.push_front(part.slice(half, part.num_rows() - half));
                rest.push_front(part.slice(0, half));
            }
        }
        Ok(messages)
    }

    /// The messages of a batch: dictionaries that are new, then its rows.
    fn encode_one(&mut self, batch: &RecordBatch) -> Result<Vec<Message>> {
        let mut messages = messages(self.stream.encode(batch)?)?;
        if !std::mem::replace(&mut self.began, true) && !messages.is_empty() {
            messages.remove(0);
        }
        Ok(messages)
    }
}

impl Message {
    fn bytes(&self) -> usize {
        self.header.len() + self.body_bytes
    }
}

/// Cuts an IPC stream, which arrow gives as buffers, into its messages. Each is a prefix of eight bytes, the last four of which are
/// the length of the header that follows; the header has the length of the body.
fn messages(stream: Vec<Buffer>) -> Result<Vec<Message>> {
    let damaged = || Error::internal("the IPC encoder ended within a message");
    let mut buffers = stream.into_iter().filter(|buffer| !buffer.is_empty());
    let mut messages = Vec::new();
    while let Some(prefix) = buffers.next() {
        let length = prefix.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        let length = usize::try_from(length.ok_or_else(damaged)?).map_err(|_| damaged())?;
        let mut header = Vec::with_capacity(length);
        while header.len() < length {
            header.extend_from_slice(&buffers.next().ok_or_else(damaged)?);
        }
        let message = root_as_message(&header)
            .map_err(|_| Error::invalid("the type of a column nests more deeply than Arrow's readers allow"))?;
        let body_bytes = usize::try_from(message.bodyLength()).map_err(|_| damaged())?;
        let (mut body, mut taken) = (Vec::new(), 0);
        while taken < body_bytes {
            let buffer = buffers.next().ok_or_else(damaged)?;
            taken += buffer.len();
            body.push(buffer);
        }
        messages.push(Message { header: header.into(), body, body_bytes });
    }
    Ok(messages)
}

/// Cuts by an estimate, so that hardly anything is encoded twice.
fn first_cut(batch: &RecordBatch, bytes_max: usize) -> Vec<RecordBatch> {
    let rows = batch.num_rows();
    let bytes = batch::bytes(batch);
    // The engine leaves as much, so that its batches are not cut.
    let parts = (bytes + bytes / batch::ENVELOPE_PART).div_ceil(bytes_max).max(1);
    let part_rows = rows.div_ceil(parts).max(1).next_multiple_of(CUT_ROWS);
    (0..rows).step_by(part_rows).map(|start| batch.slice(start, part_rows.min(rows - start))).collect()
}

/// The batch under the schema that was announced, which may say more about the same columns.
fn to_wire(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
        .map_err(|error| Error::internal("a batch differs from its schema").with_source(error))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, DictionaryArray, StringArray};
    use arrow::datatypes::Int8Type;
    use arrow_flight::decode::FlightRecordBatchStream;
    use futures::executor::block_on_stream;

    use super::*;

    fn batch(lengths: &[usize]) -> RecordBatch {
        let values: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
        RecordBatch::try_from_iter([("s", Arc::new(StringArray::from(values)) as ArrayRef)]).unwrap()
    }

    /// The messages as a client gets them: one buffer for the body.
    fn all(batch: RecordBatch, bytes_max: u64, compression: Option<CompressionType>) -> Vec<FlightData> {
        let messages = encode(Outgoing::from(batch), ByteSize(bytes_max), compression).unwrap();
        block_on_stream(Box::pin(messages))
            .map(|message| {
                let Message { header, body, body_bytes } = message.unwrap();
                let body: Vec<u8> = body.iter().flat_map(|buffer| buffer.to_vec()).collect();
                assert_eq!(body.len(), body_bytes);
                FlightData { data_header: header, data_body: body.into(), ..FlightData::default() }
            })
            .collect()
    }

    fn message_rows(batch: RecordBatch, bytes_max: u64) -> Vec<usize> {
        let messages = all(batch, bytes_max, None);
        for message in &messages[1..] {
            assert!(
                message.data_body.len() + message.data_header.len() <= usize::try_from(bytes_max).unwrap()
                    || messages.len() == 2
            );
        }
        let batches = arrow_flight::utils::flight_data_to_batches(&messages).unwrap();
        batches.iter().map(RecordBatch::num_rows).collect()
    }

    #[test]
    fn messages_stay_under_the_limit() {
        assert_eq!(message_rows(batch(&[10; 100]), 1 << 20), vec![100]);
        assert_eq!(message_rows(batch(&[1000; 100]), 20_000).iter().sum::<usize>(), 100);
        // One long value among short ones: the estimate is off, halving is not.
        let mut lengths = vec![1; 1000];
        lengths[3] = 9_000;
        assert_eq!(message_rows(batch(&lengths), 10_000).iter().sum::<usize>(), 1000);
    }

    #[test]
    fn a_single_large_row_is_sent() {
        assert_eq!(message_rows(batch(&[100_000]), 1000), vec![1]);
    }

    #[test]
    fn an_empty_result_has_its_schema() {
        assert_eq!(all(batch(&[]), 1 << 20, None).len(), 1);
    }

    #[test]
    fn slices_and_dictionaries_arrive_as_they_were() {
        let words: DictionaryArray<Int8Type> = (0..1000).map(|row| if row % 2 == 0 { "even" } else { "odd" }).collect();
        let texts: StringArray = (0..1000).map(|row| (row % 7 != 0).then(|| "x".repeat(row % 50))).collect();
        let columns = [("w", Arc::new(words) as ArrayRef), ("t", Arc::new(texts) as ArrayRef)];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        for (sent, compression) in [
            (batch.clone(), None),
            (batch.slice(3, 801), None),
            (batch.slice(64, 640), Some(CompressionType::LZ4_FRAME)),
            (batch.slice(1, 999), Some(CompressionType::ZSTD)),
        ] {
            let messages = all(sent.clone(), 4096, compression);
            assert!(messages.len() > 4, "{}", messages.len());
            let messages = futures::stream::iter(messages.into_iter().map(Ok));
            let got = FlightRecordBatchStream::new_from_flight_data(messages);
            let got: Vec<RecordBatch> = block_on_stream(got).map(Result::unwrap).collect();
            let got = arrow::compute::concat_batches(&sent.schema(), &got).unwrap();
            let text = |batch: &RecordBatch| {
                arrow::util::pretty::pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string()
            };
            assert_eq!(text(&got), text(&sent));
        }
    }

    #[test]
    fn compression_is_only_what_was_asked_for() {
        let mut metadata = MetadataMap::new();
        assert_eq!(compression(&metadata).unwrap(), None);
        metadata.insert(COMPRESSION_HEADER, "ZSTD".parse().unwrap());
        assert_eq!(compression(&metadata).unwrap(), Some(CompressionType::ZSTD));
        metadata.insert(COMPRESSION_HEADER, "gzip".parse().unwrap());
        assert!(compression(&metadata).unwrap_err().message().contains("lz4"));
    }
}
