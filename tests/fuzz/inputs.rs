//! What the bytes of an input mean for each target, and inputs to begin with.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Int8Type;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::sql::{Any, CommandGetTables, CommandStatementIngest, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{Action, FlightData, FlightDescriptor, Ticket};
use futures::executor::block_on;
use futures::{TryStreamExt, stream};
use prost::Message;

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Ticket,
    Descriptor,
    Action,
    Put,
    Statement,
}

/// Tables that statements and tickets may name.
pub const TABLES: &[&str] = &["CREATE TABLE t AS SELECT i, i::VARCHAR AS s FROM range(10) r(i)"];

/// The actions by number, as an input chooses them.
const ACTIONS: &[&str] = &[
    "list_tables",
    "get_schema",
    "get_metadata",
    "table_exists",
    "drop_table",
    "server_info",
    "CreatePreparedStatement",
    "ClosePreparedStatement",
    "BeginTransaction",
    "EndTransaction",
    "CancelQuery",
    "CancelFlightInfo",
    "RenewFlightEndpoint",
    "SetSessionOptions",
    "GetSessionOptions",
    "CloseSession",
    "list_queries",
    "cancel_query",
    "list_sessions",
    "close_session",
    "backup",
];

/// The message of a ticket.
pub fn ticket(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    Ticket::new(bytes.as_ref().to_vec()).encode_to_vec()
}

impl Target {
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "ticket" => Self::Ticket,
            "descriptor" => Self::Descriptor,
            "action" => Self::Action,
            "put" => Self::Put,
            "statement" => Self::Statement,
            _ => return None,
        })
    }

    /// The method, and its messages.
    pub fn call(self, data: &[u8]) -> (&'static str, Vec<Vec<u8>>) {
        match self {
            Self::Ticket => ("DoGet", vec![ticket(data)]),
            Self::Descriptor => ("GetFlightInfo", vec![descriptor(data)]),
            Self::Action => ("DoAction", vec![action(data)]),
            Self::Put => ("DoPut", put(data)),
            Self::Statement => ("DoGet", vec![ticket(data)]),
        }
    }
}

/// What is no message at all never comes to us: tonic answers it, as INTERNAL. So it is a command.
fn descriptor(data: &[u8]) -> Vec<u8> {
    FlightDescriptor::decode(data).unwrap_or_else(|_| FlightDescriptor::new_cmd(data.to_vec())).encode_to_vec()
}

fn action(data: &[u8]) -> Vec<u8> {
    let (number, body) = data.split_first().unwrap_or((&0, &[]));
    Action::new(ACTIONS[usize::from(*number) % ACTIONS.len()], body.to_vec()).encode_to_vec()
}

/// A list of parts: a byte tells the field, two its length. The fifth field begins the next message.
fn put(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = vec![FlightData::default()];
    while let [field, low, high, rest @ ..] = data {
        let (part, rest) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes([*low, *high]))));
        let message = messages.last_mut().expect("there is one");
        match field % 5 {
            0 => message.data_header = part.to_vec().into(),
            1 => message.data_body = part.to_vec().into(),
            2 => message.app_metadata = part.to_vec().into(),
            3 => message.flight_descriptor = FlightDescriptor::decode(part).ok(),
            _ => messages.push(FlightData::default()),
        }
        data = rest;
    }
    messages.iter().map(Message::encode_to_vec).collect()
}

/// The reverse of [`put`].
fn parts(messages: &[FlightData]) -> Vec<u8> {
    let mut data = Vec::new();
    let mut part = |field: u8, bytes: &[u8]| {
        data.push(field);
        data.extend(u16::try_from(bytes.len()).expect("seeds are short").to_le_bytes());
        data.extend(bytes);
    };
    for (number, message) in messages.iter().enumerate() {
        if number > 0 {
            part(4, &[]);
        }
        if let Some(descriptor) = &message.flight_descriptor {
            part(3, &descriptor.encode_to_vec());
        }
        part(0, &message.data_header);
        part(1, &message.data_body);
    }
    data
}

/// Writes inputs to begin with, one file each.
pub fn write_seeds(target: Target, directory: &Path) {
    let any = |command: &dyn Fn() -> Any| command().encode_to_vec();
    let query = any(&|| CommandStatementQuery { query: "SELECT * FROM t".into(), transaction_id: None }.as_any());
    let tables = any(&|| CommandGetTables::default().as_any());
    let ingest = any(&|| CommandStatementIngest { table: "u".into(), ..CommandStatementIngest::default() }.as_any());
    let path = |parts: &[&str]| {
        FlightDescriptor::new_path(parts.iter().map(|part| (*part).to_owned()).collect()).encode_to_vec()
    };
    let command = |bytes: &[u8]| FlightDescriptor::new_cmd(bytes.to_vec()).encode_to_vec();
    let seeds: Vec<Vec<u8>> = match target {
        Target::Ticket => vec![b"SELECT * FROM t".to_vec(), query, tables],
        Target::Descriptor => vec![
            path(&["t"]),
            path(&["events", "e"]),
            command(&query),
            command(&tables),
            command(&ingest),
            command(br#"{"kind": "events", "table": "e"}"#),
        ],
        Target::Action => (0..ACTIONS.len())
            .flat_map(|number| {
                let number = u8::try_from(number).expect("few actions");
                [[&[number], &br#"{"table": "t"}"#[..]].concat(), [&[number], &query[..]].concat()]
            })
            .collect(),
        Target::Put => vec![
            events(&path(&["events", "e"]), None),
            events(&command(&ingest), None),
            events(&path(&["events", "e"]), Some(CompressionType::LZ4_FRAME)),
            events(&command(&ingest), Some(CompressionType::ZSTD)),
        ],
        Target::Statement => include_str!("statements.sql").lines().map(|line| line.as_bytes().to_vec()).collect(),
    };
    std::fs::create_dir_all(directory).expect("a directory for the seeds");
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(directory.join(format!("seed-{number:03}")), seed).expect("a seed");
    }
}

/// A stream of two events, with a dictionary.
fn events(descriptor: &[u8], compression: Option<CompressionType>) -> Vec<u8> {
    let text = |values: [&str; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let batch = RecordBatch::try_from_iter([
        ("event_name", Arc::new(DictionaryArray::<Int8Type>::from_iter(["a", "b"])) as ArrayRef),
        ("event_time", Arc::new(TimestampMicrosecondArray::from(vec![1, 2])) as ArrayRef),
        ("distinct_id", text(["u", "v"])),
        ("insert_id", text(["1", "2"])),
        ("properties", text([r#"{"a": [1, 2.5, "x"], "b": [1, 2.5, "x"], "c": [1, 2.5, "x"]}"#, "{}"])),
    ])
    .expect("a batch");
    let options = IpcWriteOptions::default().try_with_compression(compression).expect("a compression");
    let encoder = FlightDataEncoderBuilder::new()
        .with_options(options)
        .with_dictionary_handling(DictionaryHandling::Resend)
        .build(stream::iter([Ok(batch)]));
    let mut messages: Vec<FlightData> = block_on(encoder.try_collect()).expect("flight data");
    messages[0].flight_descriptor = FlightDescriptor::decode(descriptor).ok();
    parts(&messages)
}
