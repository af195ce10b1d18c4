//! Ingests through arrow-flight's own client, which can stop half-way.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::{FlightClient, FlightDescriptor, PutResult};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use super::Server;

const BATCH_ROWS: u64 = 5000;

/// A connection to the server.
pub(crate) async fn connect(server: &Server<'_>) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address())).expect("it is an address");
    endpoint.connect().await.expect("the server can be reached")
}

/// An ingest of events that is sent as the test goes on.
pub(crate) struct Upload {
    /// Dropped to end the stream.
    batches: mpsc::Sender<Result<RecordBatch, FlightError>>,
    answers: BoxStream<'static, Result<PutResult, FlightError>>,
    sent: u64,
}

impl Upload {
    /// Sends descriptor and schema; the server may refuse them with its first answer.
    pub(crate) async fn start(server: &Server<'_>, table: &str, mode: &str) -> Self {
        let command = json!({"kind": "events", "table": table, "mode": mode, "progress": "every_batch"});
        let (batches, receiver) = mpsc::channel(1);
        let messages = FlightDataEncoderBuilder::new()
            .with_flight_descriptor(Some(FlightDescriptor::new_cmd(command.to_string())))
            .with_schema(schema())
            .build(ReceiverStream::new(receiver));
        let mut client = FlightClient::new(connect(server).await);
        let answers = match client.do_put(messages).await {
            Ok(answers) => answers,
            // Refused before the first answer.
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        };
        Self { batches, answers, sent: 0 }
    }

    /// Sends `rows` new events; returns when the server has received them.
    pub(crate) async fn send(&mut self, rows: u64) {
        self.try_send(rows).await.expect("the ingest goes on");
    }

    /// The same, as long as the server wants more.
    pub(crate) async fn try_send(&mut self, rows: u64) -> Result<(), FlightError> {
        let wanted = self.sent + rows;
        while self.sent < wanted {
            let count = BATCH_ROWS.min(wanted - self.sent);
            self.sent += count;
            // The answers tell why the server wants no more.
            drop(self.batches.send(Ok(events(count))).await);
            while self.answer().await?["rows_received"].as_u64() != Some(self.sent) {}
        }
        Ok(())
    }

    /// Ends the stream; returns how many rows the server says that it stored.
    pub(crate) async fn finish(self) -> u64 {
        let Self { batches, mut answers, .. } = self;
        drop(batches);
        let mut last = Value::Null;
        while let Some(answer) = answers.next().await {
            last = value(&answer.expect("the ingest ends well"));
        }
        last["rows_inserted"].as_u64().unwrap_or_else(|| panic!("no result: {last}"))
    }

    /// Ends the stream, which the server must refuse.
    pub(crate) async fn refused(self) -> Status {
        let Self { batches, mut answers, .. } = self;
        drop(batches);
        loop {
            match answers.next().await {
                Some(Ok(_)) => {}
                Some(Err(FlightError::Tonic(status))) => return *status,
                other => panic!("not refused: {other:?}"),
            }
        }
    }

    async fn answer(&mut self) -> Result<Value, FlightError> {
        let answer = self.answers.next().await;
        Ok(value(&answer.expect("the server answers each batch")?))
    }
}

fn value(answer: &PutResult) -> Value {
    serde_json::from_slice(&answer.app_metadata).expect("a command in JSON is answered in JSON")
}

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let time = Field::new("event_time", DataType::Timestamp(TimeUnit::Microsecond, None), true);
    let fields = vec![text("event_name"), time, text("distinct_id"), text("insert_id"), text("properties")];
    Arc::new(Schema::new(fields))
}

/// Events that nobody has seen, and that hardly compress.
fn events(rows: u64) -> RecordBatch {
    let texts =
        |text: &dyn Fn() -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values((0..rows).map(|_| text()))) };
    let random = || Uuid::new_v4().to_string();
    let columns = vec![
        texts(&|| "Impression".to_owned()),
        Arc::new(TimestampMicrosecondArray::from_iter_values((0..rows).map(|_| 1_700_000_000_000_000))),
        texts(&random),
        texts(&random),
        texts(&|| json!({"page": random(), "campaign": random()}).to_string()),
    ];
    RecordBatch::try_new(schema(), columns).expect("the columns fit the schema")
}
