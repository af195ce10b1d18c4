//! Instruments: every metric that the server has, in one table, from which their help and `docs/metrics.md` come.
//!
//! Whoever counts something names its metric by a constant of this file and uses the `metrics` facade; the operations port shows
//! all of them. Labels take few values, and never a client's words.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::error::{Error, Result};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values by their size.
    Histogram,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, with its unit.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels, and their values, for people.
    pub labels: &'static str,
    /// What it tells.
    pub help: &'static str,
}

macro_rules! metrics_table {
    ($($constant:ident $kind:ident $name:literal [$labels:literal] $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*

        /// All metrics of ours, in the order of their documentation.
        pub const ALL: &[Metric] =
            &[$(Metric { name: $name, kind: Kind::$kind, labels: $labels, help: $help }),*];
    };
}

metrics_table! {
    BUILD_INFO Gauge "merganser_build_info" ["`version`, `duckdb_version`"] "Always 1; its labels tell the versions.";
    UPTIME Gauge "merganser_uptime_seconds" [""] "Time since the server is ready.";
    READY Gauge "merganser_ready" [""] "1 if the server is ready for calls, as `/readyz` says, else 0.";
    CONNECTIONS Gauge "merganser_connections" [""] "Connections of clients that are open.";
    CALLS Counter "merganser_calls_total" ["`method`, `code`"] "Calls of the Flight service that have ended, by method and gRPC code.";
    CALL_SECONDS Histogram "merganser_call_seconds" ["`method`"] "Time from a call's headers to the end of its answer.";
    CALLS_IN_FLIGHT Gauge "merganser_calls_in_flight" ["`method`"] "Calls that have begun and not ended.";
    SENT_BYTES Counter "merganser_sent_bytes_total" ["`method`"] "Bytes of the answers' messages, given to HTTP/2.";
    SENT_ROWS Counter "merganser_sent_rows_total" [""] "Rows given to DoGet streams.";
    RECEIVED_BYTES Counter "merganser_ingest_received_bytes_total" [""] "Bytes of the messages of ingest streams.";
    RECEIVED_ROWS Counter "merganser_ingest_received_rows_total" [""] "Rows of ingest streams, whatever became of them.";
    INGESTS Counter "merganser_ingests_total" ["`outcome`: `stored`, `abandoned` or a gRPC code"] "Ingest streams that have ended. An abandoned one's client went away.";
    INGEST_ROWS Counter "merganser_ingest_rows_total" ["`result`: `inserted`, `duplicate`, `replaced`"] "Rows of the ingest streams that were stored.";
    INGEST_STREAMS Gauge "merganser_ingest_streams" [""] "Ingest streams that are open.";
    INGEST_MEMORY Gauge "merganser_ingest_memory_bytes" [""] "Bytes of rows that were received and are in the server's memory only.";
    INGEST_LAG Gauge "merganser_ingest_lag_seconds" [""] "Age of the oldest rows that were received and are in the server's memory only, neither in the table nor in the stream's part of the database; 0 if there are none.";
    SESSIONS Gauge "merganser_sessions" [""] "Sessions that something is kept for.";
    TRANSACTIONS Gauge "merganser_transactions" [""] "Transactions that clients have begun and not ended.";
    STATEMENTS_OPEN Gauge "merganser_statements_open" [""] "Statements, plans and ingests that are open, those that wait for their client included.";
    STATEMENTS_RUNNING Gauge "merganser_statements_running" [""] "Statements that DuckDB works for now (limit: engine.statements_max).";
    STATEMENTS_WAITING Gauge "merganser_statements_waiting" [""] "Statements that wait for their turn (limit: engine.statements_queue_max).";
    STATEMENTS Counter "merganser_statements_total" ["`kind`: `query`, `update`, `ingest`; `outcome`: `ok`, `cancelled`, `timeout`, `error`"] "Statements and ingest streams of the query log that have ended.";
    STATEMENT_SECONDS Histogram "merganser_statement_seconds" ["`kind`"] "Time of them, their waiting and their reading included.";
    STATEMENT_ROWS Counter "merganser_statement_rows_total" [""] "Rows that they returned, changed or stored.";
    ENGINE_THREADS Gauge "merganser_engine_threads" ["`pool`: `statements`, `ingests`; `state`: `busy`, `idle`"] "Threads of the engine, without DuckDB's own workers.";
    DUCKDB_MEMORY Gauge "merganser_duckdb_memory_bytes" ["`tag`: what DuckDB uses it for"] "Memory of DuckDB's buffers.";
    DUCKDB_MEMORY_LIMIT Gauge "merganser_duckdb_memory_limit_bytes" [""] "What DuckDB's buffers may take (engine.memory_limit).";
    DUCKDB_TEMP_BYTES Gauge "merganser_duckdb_temporary_bytes" [""] "Bytes of the files that DuckDB has spilled to.";
    DUCKDB_TEMP_FILES Gauge "merganser_duckdb_temporary_files" [""] "Files that DuckDB has spilled to.";
    DATABASE_BYTES Gauge "merganser_database_file_bytes" [""] "Bytes of the database file.";
    WAL_BYTES Gauge "merganser_database_wal_bytes" [""] "Bytes of the write-ahead log.";
    DISK_FREE Gauge "merganser_disk_free_bytes" ["`directory`: `data`, `temp`"] "Free bytes of the file systems of the database file and of the temporary directory.";
}

/// Bounds of the buckets of times, in seconds: a tiny append takes less than a millisecond, an export minutes.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Makes this process keep what is counted; what a server shows is that of its process. Called again, it answers the same.
pub fn install() -> Result<PrometheusHandle> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let installed = HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS);
        let handle = builder.and_then(PrometheusBuilder::install_recorder).map_err(|error| error.to_string())?;
        describe();
        Ok(handle)
    });
    installed.clone().map_err(|error| Error::internal(format!("cannot count anything: {error}")))
}

fn describe() {
    for Metric { name, kind, help, .. } in ALL {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *help),
            Kind::Gauge => metrics::describe_gauge!(*name, *help),
            Kind::Histogram => metrics::describe_histogram!(*name, *help),
        }
    }
    metrics_process::Collector::default().describe();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_units() {
        for Metric { name, kind, .. } in ALL {
            assert!(name.starts_with("merganser_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(*kind != Kind::Histogram || name.ends_with("_seconds"), "{name}");
        }
    }
}
