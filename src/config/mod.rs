//! The configuration: every setting, its default, its limits, and where its value comes from.
//!
//! A setting is named `section.key`. Its value comes from the strongest source that gives one:
//!
//! 1. flags of `serve`; `--set section.key=value` sets any;
//! 2. the environment: `engine.memory_limit` is `MERGANSER_ENGINE_MEMORY_LIMIT` (and `log.filter` is also `MERGANSER_LOG`);
//! 3. a TOML file: `--config FILE`, else `merganser/merganser.toml` in the user's configuration directory;
//! 4. the default, in the `Default` of its section and nowhere else.
//!
//! Sizes are written `512MiB`, durations `30s`. The environment and files are read here, at the edge ([`Environment`]),
//! and reach the rest of the crate as plain values.

mod auth;
mod environment;
mod flags;
mod load;
mod machine;
mod telemetry;
mod text;
mod validate;

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

pub use auth::{Auth, Jwt};
pub use environment::Environment;
pub use flags::ConfigFlags;
pub use load::{Loaded, variable};
pub use telemetry::{Log, LogFormat, Ops, Otel};

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The listener and its connections.
    pub server: Server,
    /// Encryption of the connections.
    pub tls: Tls,
    /// Where the data is.
    pub database: Database,
    /// Copies of the data.
    pub backup: Backup,
    /// DuckDB, and the statements that run in it.
    pub engine: Engine,
    /// Who may call.
    pub auth: Auth,
    /// JSON Web Tokens.
    pub jwt: Jwt,
    /// Sessions and transactions of clients.
    pub session: Session,
    /// Results on their way out.
    pub query: Query,
    /// The query log.
    pub queries: Queries,
    /// Rows on their way in.
    pub ingest: Ingest,
    /// The log on stderr.
    pub log: Log,
    /// The port for those who operate the server.
    pub ops: Ops,
    /// Traces for OpenTelemetry.
    pub otel: Otel,
}

/// The listener and its connections.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address to listen on, `host:port`; port 0 picks a free one.
    pub listen: String,
    /// Serve beyond this machine although there are no users or there is no TLS.
    pub insecure: bool,
    /// Connections that are open at once; more are closed as soon as they come.
    pub connections_max: usize,
    /// Connections at once that are new and have not yet spoken TLS and HTTP/2; beyond it the oldest of them is closed.
    pub handshakes_max: usize,
    /// Time that a new connection has for that, before it is closed.
    #[serde(with = "text::duration")]
    pub handshake_timeout: Duration,
    /// Calls open at once on one connection; HTTP/2 makes the client wait with more.
    pub calls_per_connection_max: u32,
    /// Bytes of one message that a client sends, and that its compressed buffers unfold to; a larger one is RESOURCE_EXHAUSTED.
    #[serde(with = "text::size")]
    pub message_bytes_max: ByteSize,
    /// Bytes of all messages above 64 KiB that are on their way in, and at least `server.message_bytes_max`; as many again for what
    /// compressed ones unfold to. Flow control makes clients wait for room.
    #[serde(with = "text::size")]
    pub messages_memory: ByteSize,
    /// Time that a message waits for room before its call is RESOURCE_EXHAUSTED.
    #[serde(with = "text::duration")]
    pub messages_wait: Duration,
    /// Bytes of the headers of one call.
    #[serde(with = "text::size")]
    pub header_bytes_max: ByteSize,
    /// Time between the pings that find dead connections.
    #[serde(with = "text::duration")]
    pub keepalive_interval: Duration,
    /// Time in which a ping must be answered.
    #[serde(with = "text::duration")]
    pub keepalive_timeout: Duration,
    /// Time that running calls have to finish after SIGTERM, before they are interrupted.
    #[serde(with = "text::duration")]
    pub shutdown_grace: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8815".to_owned(),
            insecure: false,
            connections_max: 10_000,
            handshakes_max: 1024,
            handshake_timeout: Duration::from_secs(10),
            calls_per_connection_max: 128,
            message_bytes_max: ByteSize::gib(1),
            messages_memory: ByteSize::gib(1),
            messages_wait: Duration::from_secs(30),
            header_bytes_max: ByteSize::kib(64),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

/// Encryption of the connections: TLS 1.2 or 1.3, or none. Files are read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the server's certificate, and of those between it and its CA; empty: no TLS.
    pub certificate: PathBuf,
    /// PEM file of the certificate's private key.
    pub key: PathBuf,
    /// Make a certificate that nobody has signed, and keep it beside the database.
    pub self_signed: bool,
    /// PEM file of CAs: each client must show a certificate that one of them has signed; empty: none is asked for.
    pub client_ca: PathBuf,
    /// Let clients without a certificate in, too: they say who they are in another way.
    pub client_optional: bool,
}

impl Tls {
    /// Whether connections are encrypted.
    pub fn is_on(&self) -> bool {
        self.self_signed || !self.certificate.as_os_str().is_empty()
    }
}

/// Where the data is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// How the database is kept: `persistent`, `ephemeral`, `memory` or `read-only`.
    pub mode: Mode,
    /// The database file, if it is persistent or read-only; empty: `merganser/merganser.duckdb` in the user's data directory.
    pub path: PathBuf,
}

/// How the database is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// In a file that stays.
    #[default]
    Persistent,
    /// In a temporary file that is deleted on exit.
    Ephemeral,
    /// In memory only.
    Memory,
    /// In an existing file, which nobody can write through this server.
    ReadOnly,
}

impl Mode {
    /// The word for it: in the configuration, in messages and in `server_info`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Persistent => "persistent",
            Self::Ephemeral => "ephemeral",
            Self::Memory => "memory",
            Self::ReadOnly => "read-only",
        }
    }

    /// Whether there is a file that the user names.
    pub fn has_path(self) -> bool {
        matches!(self, Self::Persistent | Self::ReadOnly)
    }
}

/// Copies of the data.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backup {
    /// The directory that backups are made in, each in a directory of its own; empty: backups are not offered.
    pub directory: PathBuf,
}

/// DuckDB, and the statements that run in it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// Bytes of memory for DuckDB's buffers. Default: half of the memory of the machine or of its control group.
    #[serde(with = "text::size")]
    pub memory_limit: ByteSize,
    /// Bytes of memory that one query's hash tables and sorts should take before they go to the temporary directory; DuckDB takes it
    /// for a target, not a ceiling; `0B`: its share of `engine.memory_limit`.
    #[serde(with = "text::size")]
    pub query_memory_max: ByteSize,
    /// Bytes of memory of the whole process, DuckDB's binder, strings and results included: what needs more fails, statement by
    /// statement; `0B`: without limit. Default: nine tenths of the memory of the machine or of its control group.
    #[serde(with = "text::size")]
    pub process_memory_max: ByteSize,
    /// Threads that DuckDB works with. Default: the cores that the process may use.
    pub threads: usize,
    /// Directory in which each server makes its own for what does not fit in memory; empty: `<file>.tmp` beside the database
    /// file, and none for a database in memory.
    pub temp_directory: PathBuf,
    /// Bytes of that directory.
    #[serde(with = "text::size")]
    pub temp_directory_max: ByteSize,
    /// Directory below which an admin's `COPY TO` may write files on the server; empty: nowhere.
    pub export_directory: PathBuf,
    /// Bytes that must be free on the disk of the database for anything to be written; below it, only reading and DROP go on;
    /// `0B`: as long as there are any.
    #[serde(with = "text::size")]
    pub disk_free_min: ByteSize,
    /// Statements that run at once; one whose client is slow to read gives its place to others.
    pub statements_max: usize,
    /// Statements and results that are being read which are open at once, each on a thread; more are RESOURCE_EXHAUSTED.
    pub open_max: usize,
    /// Statements that wait for their turn; more are RESOURCE_EXHAUSTED at once.
    pub statements_queue_max: usize,
    /// Time that a statement waits for its turn before it is RESOURCE_EXHAUSTED.
    #[serde(with = "text::duration")]
    pub statements_queue_wait: Duration,
    /// Statements of one user that run at once, at most; others have the rest of `engine.statements_max`.
    pub user_statements_max: usize,
    /// Statements of one user that wait for their turn; more are RESOURCE_EXHAUSTED at once.
    pub user_queue_max: usize,
    /// Bytes of the text of one statement.
    #[serde(with = "text::size")]
    pub statement_bytes_max: ByteSize,
    /// Levels of a statement's nesting: parentheses, brackets, CASE, names in a chain of dots.
    pub statement_depth_max: usize,
    /// Lambdas and list comprehensions inside one another: each doubles the memory that binding takes.
    pub statement_lambdas_max: usize,
    /// Parts of a statement: SELECTs, VALUES, WITHs, set operations, joins and the tables of FROM lists.
    pub statement_parts_max: usize,
    /// Levels of an expression, a type or a query as DuckDB counts them when it parses and binds, several for each level of nesting.
    pub expression_depth_max: usize,
    /// Time that one statement may run, the reading of its result included; `0s`: without limit.
    #[serde(with = "text::duration")]
    pub query_timeout: Duration,
    /// Bytes of stack of each thread that calls DuckDB, which recurses deeply in hostile SQL.
    #[serde(with = "text::size")]
    pub stack_bytes: ByteSize,
    /// Bytes of write-ahead log at which it is written back into the database file.
    #[serde(with = "text::size")]
    pub checkpoint_threshold: ByteSize,
    /// Time in which a database that a failure has invalidated must be open again; after it the server ends, for its supervisor to start
    /// another.
    #[serde(with = "text::duration")]
    pub reopen_timeout: Duration,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            memory_limit: ByteSize(machine::memory_bytes() / 2),
            query_memory_max: ByteSize(0),
            process_memory_max: ByteSize((machine::memory_bytes() / 10 * 9) >> 20 << 20),
            threads: machine::threads(),
            temp_directory: PathBuf::new(),
            temp_directory_max: ByteSize::gib(32),
            export_directory: PathBuf::new(),
            disk_free_min: ByteSize::mib(256),
            statements_max: 32,
            open_max: 512,
            statements_queue_max: 256,
            statements_queue_wait: Duration::from_secs(30),
            user_statements_max: 24,
            user_queue_max: 192,
            statement_bytes_max: ByteSize::kib(256),
            statement_depth_max: 100,
            statement_lambdas_max: 8,
            statement_parts_max: 500,
            expression_depth_max: 1000,
            query_timeout: Duration::ZERO,
            stack_bytes: ByteSize::mib(16),
            checkpoint_threshold: ByteSize::mib(256),
            reopen_timeout: Duration::from_secs(30),
        }
    }
}

/// Sessions and transactions of clients.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// Sessions that something is kept for; more are RESOURCE_EXHAUSTED.
    pub sessions_max: usize,
    /// Time after which a session that is not used ends.
    #[serde(with = "text::duration")]
    pub idle_timeout: Duration,
    /// Transactions that are open at once; more are RESOURCE_EXHAUSTED.
    pub transactions_max: usize,
    /// Time after which a transaction that is not used is rolled back.
    #[serde(with = "text::duration")]
    pub transaction_idle_timeout: Duration,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            sessions_max: 1024,
            idle_timeout: Duration::from_hours(1),
            transactions_max: 1024,
            transaction_idle_timeout: Duration::from_mins(5),
        }
    }
}

/// Results on their way out.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// Rows of one batch at most; fewer where rows are wide.
    pub batch_rows: usize,
    /// Bytes of one message with a batch; gRPC clients refuse more than 4 MiB unless told otherwise.
    #[serde(with = "text::size")]
    pub batch_bytes_max: ByteSize,
    /// About so many bytes are held of one result that is being read: batches that DuckDB works on or makes ahead, and those on their
    /// way to the client. Batches and queues are sized by it; a batch ends before the rows that would bring it over its share.
    #[serde(with = "text::size")]
    pub result_buffer: ByteSize,
    /// Rows of one result; a query with more ends with RESOURCE_EXHAUSTED; 0: without limit.
    pub result_rows_max: u64,
    /// Bytes of one result, as Arrow has them; a query with more ends with RESOURCE_EXHAUSTED; `0B`: without limit.
    #[serde(with = "text::size")]
    pub result_size_max: ByteSize,
    /// Bytes of the rows of a statement that is run at once and whole: RETURNING, PIVOT, CALL.
    #[serde(with = "text::size")]
    pub result_bytes_max: ByteSize,
    /// Results of such statements which wait for their DoGet.
    pub results_max: usize,
    /// Time after which such a result is dropped.
    #[serde(with = "text::duration")]
    pub results_expire: Duration,
    /// Queries that are planned and wait for their DoGet; beyond it the oldest is planned again when it comes.
    pub plans_max: usize,
    /// Time that a plan waits.
    #[serde(with = "text::duration")]
    pub plans_expire: Duration,
    /// Prepared statements of all clients; beyond it the one not used for longest is closed.
    pub prepared_max: usize,
    /// Bytes of the parameters that are bound to one statement.
    #[serde(with = "text::size")]
    pub parameters_bytes_max: ByteSize,
    /// Bytes of the parameters that are bound to all prepared statements together; beyond it, those not used for longest are closed.
    #[serde(with = "text::size")]
    pub parameters_memory: ByteSize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            batch_rows: 65_536,
            batch_bytes_max: ByteSize::kib(4032),
            result_buffer: ByteSize::mib(64),
            result_rows_max: 0,
            result_size_max: ByteSize(0),
            result_bytes_max: ByteSize::mib(64),
            results_max: 64,
            results_expire: Duration::from_mins(5),
            plans_max: 64,
            plans_expire: Duration::from_secs(30),
            prepared_max: 4096,
            parameters_bytes_max: ByteSize::mib(64),
            parameters_memory: ByteSize::mib(256),
        }
    }
}

/// The query log: what callers run and have run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Queries {
    /// What the query log tells of the text of statements: `none`; `normalized`: literals are `?`; `full`.
    pub text: QueryText,
    /// Bytes of the text of one statement that it tells; longer ones are cut.
    #[serde(with = "text::size")]
    pub text_bytes_max: ByteSize,
    /// Statements that have ended and are still in it; the oldest are forgotten first.
    pub history_max: usize,
    /// Time from which on a statement is logged as slow, in which it waits for its turn or runs; `0s`: none is.
    #[serde(with = "text::duration")]
    pub slow: Duration,
}

impl Default for Queries {
    fn default() -> Self {
        Self {
            text: QueryText::Normalized,
            text_bytes_max: ByteSize::kib(4),
            history_max: 10_000,
            slow: Duration::ZERO,
        }
    }
}

/// What the query log tells of a statement's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryText {
    /// Nothing.
    None,
    /// All but its literals.
    #[default]
    Normalized,
    /// All of it, and what errors say of its data.
    Full,
}

/// Rows on their way in.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ingest {
    /// Streams that are written at once; more are RESOURCE_EXHAUSTED.
    pub streams_max: usize,
    /// Bytes of one stream that are received and not yet written, at most a quarter of `engine.memory_limit`; flow control stops the
    /// client there. As much again for the stream's dictionaries.
    #[serde(with = "text::size")]
    pub stream_memory: ByteSize,
    /// The same for all streams together.
    #[serde(with = "text::size")]
    pub memory: ByteSize,
    /// Time after which a DoPut whose client sends nothing is ended, and an ingest rolled back; the time, too, that the message of any
    /// other call has to come.
    #[serde(with = "text::duration")]
    pub idle_timeout: Duration,
    /// Time that an ingest or a statement waits for another that writes to the same table, before it is RESOURCE_EXHAUSTED; within a
    /// transaction it is `engine.statements_queue_wait`.
    #[serde(with = "text::duration")]
    pub table_wait: Duration,
    /// `ingest_id`s whose result is remembered; the oldest are forgotten first.
    pub ids_max: usize,
    /// Depth of nesting of one JSON value.
    pub json_depth_max: usize,
    /// Bytes that the filter may grow to which tells, for each large stream, which keys came before in it.
    #[serde(with = "text::size")]
    pub key_filter_memory: ByteSize,
    /// Bytes of the filters that tell which keys are in tables that get small appends, all tables together; where it is too
    /// little, the table is searched.
    #[serde(with = "text::size")]
    pub table_filters_memory: ByteSize,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            streams_max: 64,
            stream_memory: ByteSize::mib(256),
            memory: ByteSize::mib(512),
            idle_timeout: Duration::from_mins(5),
            table_wait: Duration::from_mins(10),
            ids_max: 100_000,
            json_depth_max: 512,
            key_filter_memory: ByteSize::mib(256),
            table_filters_memory: ByteSize::mib(256),
        }
    }
}

impl Config {
    /// The names of all settings, in the order of their documentation.
    pub fn keys() -> Vec<String> {
        let toml = Self::default().to_toml();
        let mut section = "";
        let mut keys = Vec::new();
        for line in toml.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']');
            } else if let Some((key, _)) = line.split_once(" = ") {
                keys.push(format!("{section}.{key}"));
            }
        }
        keys
    }

    /// The configuration as TOML, one line a setting.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain structs of strings and numbers can be written as TOML")
    }
}

#[cfg(test)]
mod tests;
