//! Rows on the wire: batches become FlightData messages, the schema first, each message under the limit by its real size.
//!
//! arrow-flight's encoder splits by the capacity of buffers, which says little for a slice; here a message is encoded, and
//! halved if it is too large. A single row that is larger is sent all the same.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::{FlightData, IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use bytesize::ByteSize;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};

use super::columns;
use crate::engine::{Executed, Rows, TYPE_KEY};
use crate::error::{Error, Result};

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

/// The messages of `rows`, each of at most `message_bytes_max` where that is possible.
pub(super) fn encode(rows: Outgoing, message_bytes_max: ByteSize) -> impl Stream<Item = Result<FlightData>> + Send {
    let schema = wire_schema(&rows.schema);
    let first = FlightData::from(SchemaAsIpc::new(&schema, &IpcWriteOptions::default()));
    let bytes_max = usize::try_from(message_bytes_max.as_u64()).unwrap_or(usize::MAX);
    let messages = rows.batches.flat_map(move |batch| {
        let messages = match batch.and_then(|batch| encode_batch(&batch, &schema, bytes_max)) {
            Ok(messages) => messages.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        };
        futures::stream::iter(messages)
    });
    futures::stream::iter([Ok(first)]).chain(messages)
}

fn encode_batch(batch: &RecordBatch, schema: &SchemaRef, bytes_max: usize) -> Result<Vec<FlightData>> {
    let batch = to_wire(batch, schema)?;
    let mut messages = Vec::new();
    let mut rest: VecDeque<RecordBatch> = first_cut(&batch, bytes_max).into();
    while let Some(part) = rest.pop_front() {
        let message = encode_one(&part)?;
        if message.data_body.len() + message.data_header.len() <= bytes_max || part.num_rows() <= 1 {
            messages.push(message);
            continue;
        }
        let half = part.num_rows() / 2;
        rest.push_front(part.slice(half, part.num_rows() - half));
        rest.push_front(part.slice(0, half));
    }
    Ok(messages)
}

/// Cuts by an estimate, so that hardly anything is encoded twice.
fn first_cut(batch: &RecordBatch, bytes_max: usize) -> Vec<RecordBatch> {
    let rows = batch.num_rows();
    let bytes: usize = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
    // A tenth for the header, padding and validity that the estimate leaves out.
    let parts = (bytes + bytes / 10).div_ceil(bytes_max).max(1);
    let part_rows = rows.div_ceil(parts).max(1);
    (0..rows).step_by(part_rows).map(|start| batch.slice(start, part_rows.min(rows - start))).collect()
}

fn encode_one(batch: &RecordBatch) -> Result<FlightData> {
    let options = IpcWriteOptions::default();
    let mut dictionaries = DictionaryTracker::new(false);
    let (_, encoded) =
        IpcDataGenerator::default().encode(batch, &mut dictionaries, &options, &mut IpcWriteContext::default())?;
    Ok(encoded.into())
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
    use arrow::array::{ArrayRef, StringArray};
    use futures::executor::block_on_stream;

    use super::*;

    fn batch(lengths: &[usize]) -> RecordBatch {
        let values: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
        RecordBatch::try_from_iter([("s", Arc::new(StringArray::from(values)) as ArrayRef)]).unwrap()
    }

    fn message_rows(batch: RecordBatch, bytes_max: u64) -> Vec<usize> {
        let messages: Vec<FlightData> =
            block_on_stream(Box::pin(encode(Outgoing::from(batch), ByteSize(bytes_max)))).map(Result::unwrap).collect();
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
        let messages: Vec<_> =
            block_on_stream(Box::pin(encode(Outgoing::from(batch(&[])), ByteSize::mib(1)))).collect();
        assert_eq!(messages.len(), 1);
    }
}
