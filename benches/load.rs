//! A load generator: clients with a connection each, which send one small operation after another until the time is over, and
//! one line of JSON that says how many there were and how long each took.
//!
//! `load --server grpc://127.0.0.1:PORT put --clients 8 --seconds 5` appends single events, `insert` runs INSERTs of one row,
//! `query --sql SQL` reads a result. It shares the machine with the server that it measures, so it does as little as it can:
//! one thread, messages that never change made once, results counted by their headers.

use std::env;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::ipc::root_as_message;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandStatementQuery, CommandStatementUpdate, DoPutUpdateResult, ProstMessageExt};
use arrow_flight::{FlightData, FlightDescriptor, SchemaAsIpc, Ticket};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use futures::stream;
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

const USAGE: &str =
    "usage: load --server grpc://HOST:PORT put|insert|query --clients N --seconds S [--table T] [--sql SQL]";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long after the end an operation may take before it counts as hung.
const PATIENCE: Duration = Duration::from_mins(1);
/// The largest message of a result.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// As the command line's client has them: with HTTP/2's own 64 KiB a large result would measure round trips.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Send small operations to a server, one after another from each client, and print how many and how fast
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Args {
    /// Talk to the server at this address: grpc://HOST:PORT
    #[arg(long, value_name = "URI")]
    server: String,

    /// What each client does again and again
    work: Work,

    /// So many clients, each with a connection of its own
    #[arg(long, value_name = "N", default_value = "1")]
    clients: NonZeroUsize,

    /// Measure for so long
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = duration)]
    seconds: Duration,

    /// Work for so long before anything counts
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = duration)]
    warmup: Duration,

    /// The table that `put` and `insert` add to; made if it is not there
    #[arg(long, value_name = "NAME", default_value = "load")]
    table: String,

    /// The text that `query` runs
    #[arg(long, required_if_eq("work", "query"))]
    sql: Option<String>,

    /// Ask for each query's ticket with GetFlightInfo, instead of sending the text to DoGet
    #[arg(long, requires = "sql")]
    two_step: bool,

    /// Threads of this program
    #[arg(long, value_name = "N", default_value = "1")]
    threads: NonZeroUsize,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Work {
    /// A DoPut of one event
    Put,
    /// A DoPut of an INSERT with one row
    Insert,
    /// A DoGet of the SQL text
    Query,
}

fn duration(seconds: &str) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(seconds.parse()?)?)
}

fn main() -> ExitCode {
    // Cargo runs what it takes for a benchmark with `--bench`, or a test with nothing: there is no server to measure.
    if env::args_os().len() == 1 || env::args_os().any(|argument| argument == "--bench") {
        return exit_code(writeln!(io::stdout(), "{USAGE}").is_ok());
    }
    let outcome = run(&Args::parse()).and_then(|(report, error)| {
        writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?;
        error.map_or(Ok(()), Err)
    });
    if let Err(error) = &outcome {
        // Where this cannot be written, the exit code still tells.
        drop(writeln!(io::stderr(), "error: {error:#}"));
    }
    exit_code(outcome.is_ok())
}

fn exit_code(is_success: bool) -> ExitCode {
    if is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Does the work; the error beside the report is the first one of an operation.
fn run(args: &Args) -> Result<(Report, Option<anyhow::Error>)> {
    ensure!(args.sql.is_none() || args.work == Work::Query, "--sql is for query");
    ensure!(!args.seconds.is_zero(), "--seconds is zero");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads.get()).enable_all().build()?;
    let tally = runtime.block_on(measure(args))?;
    // A call that hangs must not keep the program.
    runtime.shutdown_background();
    tally.report(args)
}

async fn measure(args: &Args) -> Result<Tally> {
    let mut clients = Vec::with_capacity(args.clients.get());
    for number in 0..args.clients.get() {
        clients.push((connect(&args.server).await?, Operation::new(args, number)?));
    }
    if let Some((client, _)) = clients.first_mut() {
        make_table(client, args).await?;
    }
    let window = Window::new(args);
    let mut running = JoinSet::new();
    for (client, operation) in clients {
        running.spawn(work(client, operation, window));
    }
    let mut total = Tally::default();
    let finish = async {
        while let Some(tally) = running.join_next().await {
            total.add(tally.context("a client died")?);
        }
        anyhow::Ok(())
    };
    let patience = args.warmup + args.seconds + PATIENCE;
    tokio::time::timeout(patience, finish).await.context("an operation does not come to an end")??;
    Ok(total)
}

type Client = FlightServiceClient<Channel>;

async fn connect(server: &str) -> Result<Client> {
    let address = server.split_once("://").map_or(server, |(_, address)| address);
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect()
        .await
        .with_context(|| format!("cannot reach {server}"))?;
    Ok(FlightServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// Makes the table that the operations add to.
async fn make_table(client: &mut Client, args: &Args) -> Result<()> {
    match args.work {
        // An empty stream makes an empty table.
        Work::Put => drop(put(client, vec![first_message(&args.table, "create_append", &schema())]).await?),
        Work::Insert => {
            let table = quoted(&args.table);
            let sql = format!("CREATE TABLE IF NOT EXISTS {table} (id BIGINT, name VARCHAR, value DOUBLE)");
            drop(put(client, vec![update(sql)]).await?);
        }
        Work::Query => {}
    }
    Ok(())
}

/// Which operations count: those that end in it, whenever they began. What is under way at its beginning makes up for what is
/// at its end.
#[derive(Clone, Copy)]
struct Window {
    begin: Instant,
    end: Instant,
}

impl Window {
    fn new(args: &Args) -> Self {
        let begin = Instant::now() + args.warmup;
        Self { begin, end: begin + args.seconds }
    }
}

/// One client, from the warm-up to the end.
async fn work(mut client: Client, mut operation: Operation, window: Window) -> Tally {
    let mut tally = Tally::default();
    let mut started = Instant::now();
    while started < window.end {
        let outcome = operation.run(&mut client).await;
        let ended = Instant::now();
        match outcome {
            Ok(rows) if (window.begin..window.end).contains(&ended) => {
                tally.took.push(ended - started);
                tally.rows += rows;
            }
            Ok(_) => {}
            // Those of the warm-up, too: they say that the figures are of something else.
            Err(error) => {
                tally.errors += 1;
                tally.first_error.get_or_insert((ended, error));
            }
        }
        started = ended;
    }
    tally
}

/// What came of the operations.
#[derive(Default)]
struct Tally {
    /// How long each one took that succeeded.
    took: Vec<Duration>,
    rows: u64,
    errors: usize,
    first_error: Option<(Instant, anyhow::Error)>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        self.rows += other.rows;
        self.errors += other.errors;
        let errors = self.first_error.take().into_iter().chain(other.first_error);
        self.first_error = errors.min_by_key(|(at, _)| *at);
    }

    fn report(mut self, args: &Args) -> Result<(Report, Option<anyhow::Error>)> {
        self.took.sort_unstable();
        let operations = self.took.len();
        let milliseconds = |took: Duration| (took.as_secs_f64() * 1e6).round() / 1e3;
        // The smallest one that so many percent do not exceed.
        let percentile = |percent: usize| {
            let rank = (operations * percent).div_ceil(100).max(1);
            self.took.get(rank - 1).copied().map(milliseconds)
        };
        let seconds = args.seconds.as_secs_f64();
        let report = Report {
            work: args.work,
            clients: args.clients.get(),
            seconds,
            operations,
            rate: f64::from(u32::try_from(operations)?) / seconds,
            errors: self.errors,
            p50_ms: percentile(50),
            p99_ms: percentile(99),
            max_ms: percentile(100),
            rows: self.rows,
        };
        let none = || (operations == 0).then(|| anyhow!("no operation came to its end within the time"));
        Ok((report, self.first_error.map(|(_, error)| error).or_else(none)))
    }
}

/// What is printed. The times are null when there was no operation.
#[derive(Serialize)]
struct Report {
    work: Work,
    clients: usize,
    seconds: f64,
    operations: usize,
    rate: f64,
    errors: usize,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
    /// Rows that were stored or read.
    rows: u64,
}

/// What one client does again and again.
enum Operation {
    Put(Box<Events>),
    Insert { table: String, next: u64 },
    Get(Ticket),
    InfoAndGet(FlightDescriptor),
}

impl Operation {
    fn new(args: &Args, number: usize) -> Result<Self> {
        Ok(match (args.work, args.sql.clone()) {
            (Work::Put, _) => Self::Put(Box::new(Events::new(&args.table))),
            // Numbers that no other client reaches.
            (Work::Insert, _) => Self::Insert { table: quoted(&args.table), next: u64::try_from(number)? << 32 },
            (Work::Query, Some(sql)) if args.two_step => {
                let command = CommandStatementQuery { query: sql, transaction_id: None };
                Self::InfoAndGet(FlightDescriptor::new_cmd(command.as_any().encode_to_vec()))
            }
            (Work::Query, Some(sql)) => Self::Get(Ticket::new(sql)),
            (Work::Query, None) => bail!("query needs --sql"),
        })
    }

    /// Does it once; returns how many rows it stored or read.
    async fn run(&mut self, client: &mut Client) -> Result<u64> {
        match self {
            Self::Put(events) => {
                let answer: IngestResult = serde_json::from_slice(&put(client, events.next()?).await?)
                    .context("the last answer to an ingest is not its result")?;
                ensure!(answer.rows_inserted == 1, "{} rows of one were inserted", answer.rows_inserted);
                Ok(1)
            }
            Self::Insert { table, next } => {
                let sql = format!("INSERT INTO {table} VALUES ({next}, 'text', 1.5)");
                *next += 1;
                let answer = DoPutUpdateResult::decode(put(client, vec![update(sql)]).await?)?;
                ensure!(answer.record_count == 1, "{} rows of one were inserted", answer.record_count);
                Ok(1)
            }
            Self::Get(ticket) => get(client, ticket.clone()).await,
            Self::InfoAndGet(descriptor) => {
                let mut info = client.get_flight_info(descriptor.clone()).await?.into_inner();
                let endpoint = info.endpoint.pop().context("the query has no endpoint")?;
                get(client, endpoint.ticket.context("the endpoint has no ticket")?).await
            }
        }
    }
}

/// The end of an ingest that was asked for in JSON.
#[derive(Deserialize)]
struct IngestResult {
    rows_inserted: u64,
}

/// One DoPut, to its end; returns the last answer.
async fn put(client: &mut Client, messages: Vec<FlightData>) -> Result<Bytes> {
    let mut answers = client.do_put(stream::iter(messages)).await?.into_inner();
    let mut last = None;
    while let Some(answer) = answers.message().await? {
        last = Some(answer.app_metadata);
    }
    last.context("the DoPut was not answered")
}

/// One DoGet, to its end; returns the number of rows.
async fn get(client: &mut Client, ticket: Ticket) -> Result<u64> {
    let mut messages = client.do_get(ticket).await?.into_inner();
    let mut rows = 0;
    while let Some(message) = messages.message().await? {
        rows += rows_of(&message.data_header)?;
    }
    Ok(rows)
}

/// The rows of one message, of which a schema has none.
fn rows_of(header: &[u8]) -> Result<u64> {
    if header.is_empty() {
        return Ok(0);
    }
    let message = root_as_message(header).map_err(|error| anyhow!("cannot read a message's header: {error}"))?;
    let rows = message.header_as_record_batch().map_or(0, |batch| batch.length());
    u64::try_from(rows).context("a message with less than no rows")
}

/// The one message of a statement that is run for its effect.
fn update(sql: String) -> FlightData {
    let command = CommandStatementUpdate { query: sql, transaction_id: None };
    FlightData::new().with_descriptor(FlightDescriptor::new_cmd(command.as_any().encode_to_vec()))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let time = Field::new("event_time", DataType::Timestamp(TimeUnit::Microsecond, None), true);
    let fields = vec![text("event_name"), time, text("distinct_id"), text("insert_id"), text("properties")];
    Arc::new(Schema::new(fields))
}

/// The descriptor and the schema of an ingest.
fn first_message(table: &str, mode: &str, schema: &Schema) -> FlightData {
    let command = json!({"table": table, "kind": "events", "mode": mode}).to_string();
    FlightData::from(SchemaAsIpc::new(schema, &IpcWriteOptions::default()))
        .with_descriptor(FlightDescriptor::new_cmd(command))
}

/// Makes ingests of one event each.
struct Events {
    schema: SchemaRef,
    first: FlightData,
    options: IpcWriteOptions,
    dictionaries: DictionaryTracker,
    context: IpcWriteContext,
}

impl Events {
    fn new(table: &str) -> Self {
        let schema = schema();
        Self {
            first: first_message(table, "append", &schema),
            schema,
            options: IpcWriteOptions::default(),
            dictionaries: DictionaryTracker::new(false),
            context: IpcWriteContext::default(),
        }
    }

    /// The messages of the next ingest.
    fn next(&mut self) -> Result<Vec<FlightData>> {
        let batch = event(Arc::clone(&self.schema))?;
        let generator = IpcDataGenerator::default();
        let (_, batch) = generator.encode(&batch, &mut self.dictionaries, &self.options, &mut self.context)?;
        Ok(vec![self.first.clone(), batch.into()])
    }
}

/// An event that nobody has seen.
fn event(schema: SchemaRef) -> Result<RecordBatch> {
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values([text])) };
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
    let id = Uuid::new_v4();
    // All bits of these bytes are random.
    let [.., user, campaign, country, os, page, amount] = id.into_bytes();
    let properties = format!(
        r#"{{"campaign":"camp_{}","country":"{}","os":"{}","page":"/page{}","amount":{campaign}.{:02},"position":{}}}"#,
        campaign % 100,
        ["NO", "SE", "DK", "DE", "FR", "US"][usize::from(country % 6)],
        ["iOS", "Android", "macOS", "Windows"][usize::from(os % 4)],
        page % 10,
        amount % 100,
        amount % 50,
    );
    let columns = vec![
        text("Impression"),
        Arc::new(TimestampMicrosecondArray::from_iter_values([now])),
        text(&format!("user_{}", u16::from_be_bytes([user, campaign]) % 10_000)),
        text(id.simple().encode_lower(&mut Uuid::encode_buffer())),
        text(&properties),
    ];
    Ok(RecordBatch::try_new(schema, columns)?)
}
