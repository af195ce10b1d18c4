//! The gauges of `/metrics`: looked up when they are asked for, at most once in a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Mutex;

use super::readiness::Readiness;
use crate::engine::{Engine, Load, ThreadCount, Usage};
use crate::flight::Service;
use crate::telemetry::instruments;

/// How long what was found is good.
const FRESH: Duration = Duration::from_secs(1);
/// How long DuckDB has to tell what it holds.
const STATS_MAX: Duration = Duration::from_secs(5);

/// How often samples of histograms are counted, so that they do not wait for somebody to ask.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Everything that is counted and measured; cheap to clone.
#[derive(Clone)]
pub(super) struct Gauges(Arc<Inner>);

struct Inner {
    handle: PrometheusHandle,
    engine: Engine,
    service: Service,
    memory_limit: ByteSize,
    process: metrics_process::Collector,
    began: Instant,
    /// When it was looked last; held while it is looked, so that all who ask together get one answer.
    looked: Mutex<Option<Instant>>,
}

impl Gauges {
    pub(super) fn new(handle: PrometheusHandle, engine: Engine, service: Service, memory_limit: ByteSize) -> Self {
        gauge!(
            instruments::BUILD_INFO,
            "version" => env!("CARGO_PKG_VERSION"),
            "duckdb_version" => Engine::duckdb_version()
        )
        .set(1.0);
        let process = metrics_process::Collector::default();
        let (began, looked) = (Instant::now(), Mutex::default());
        Self(Arc::new(Inner { handle, engine, service, memory_limit, process, began, looked }))
    }

    /// Keeps what waits to be counted small.
    pub(super) async fn upkeep(&self) {
        loop {
            tokio::time::sleep(UPKEEP_EVERY).await;
            self.0.handle.run_upkeep();
        }
    }

    /// All metrics, as Prometheus reads them.
    pub(super) async fn render(&self, readiness: &Readiness) -> String {
        let inner = &self.0;
        let mut looked = inner.looked.lock().await;
        if looked.is_none_or(|at| at.elapsed() >= FRESH) {
            inner.look(readiness).await;
            *looked = Some(Instant::now());
        }
        drop(looked);
        inner.handle.render()
    }
}

impl Inner {
    async fn look(&self, readiness: &Readiness) {
        self.process.collect();
        gauge!(instruments::UPTIME).set(self.began.elapsed().as_secs_f64());
        gauge!(instruments::READY).set(if readiness.ready().is_ok() { 1.0 } else { 0.0 });
        let ingest = self.service.ingest_usage();
        set(instruments::INGEST_STREAMS, ingest.streams as u64);
        set(instruments::INGEST_MEMORY, ingest.bytes as u64);
        gauge!(instruments::INGEST_LAG).set(ingest.oldest.unwrap_or_default().as_secs_f64());
        show_load(&self.engine.load());
        set(instruments::DUCKDB_MEMORY_LIMIT, self.memory_limit.as_u64());
        match tokio::time::timeout(STATS_MAX, self.engine.stats()).await {
            Ok(Ok(usage)) => show_usage(&usage),
            Ok(Err(error)) => tracing::debug!(%error, "the metrics of DuckDB are old"),
            Err(_) => tracing::debug!("the metrics of DuckDB are old: it has not answered for {STATS_MAX:?}"),
        }
    }
}

fn show_load(load: &Load) {
    let Load { activity, running, waiting, statement_threads, ingest_threads } = load;
    for (name, value) in [
        (instruments::SESSIONS, activity.sessions),
        (instruments::TRANSACTIONS, activity.transactions),
        (instruments::STATEMENTS_OPEN, activity.statements),
        (instruments::STATEMENTS_RUNNING, *running),
        (instruments::STATEMENTS_WAITING, *waiting),
    ] {
        set(name, value as u64);
    }
    for (pool, ThreadCount { busy, idle }) in [("statements", statement_threads), ("ingests", ingest_threads)] {
        for (state, count) in [("busy", *busy), ("idle", *idle)] {
            gauge!(instruments::ENGINE_THREADS, "pool" => pool, "state" => state).set(precise(count as u64));
        }
    }
}

fn show_usage(usage: &Usage) {
    for (tag, bytes) in &usage.memory {
        // DuckDB has a closed list of tags.
        gauge!(instruments::DUCKDB_MEMORY, "tag" => tag.clone()).set(precise(*bytes));
    }
    set(instruments::DUCKDB_TEMP_BYTES, usage.temporary_bytes);
    set(instruments::DUCKDB_TEMP_FILES, usage.temporary_files);
    for (name, bytes) in [(instruments::DATABASE_BYTES, usage.file_bytes), (instruments::WAL_BYTES, usage.wal_bytes)] {
        if let Some(bytes) = bytes {
            set(name, bytes);
        }
    }
    for (directory, bytes) in [("data", usage.data_free_bytes), ("temp", usage.temporary_free_bytes)] {
        if let Some(bytes) = bytes {
            gauge!(instruments::DISK_FREE, "directory" => directory).set(precise(bytes));
        }
    }
}

fn set(name: &'static str, value: u64) {
    gauge!(name).set(precise(value));
}

/// Prometheus has floats only, which are exact up to nine petabytes.
#[expect(clippy::cast_precision_loss, reason = "they are exact up to nine petabytes")]
fn precise(value: u64) -> f64 {
    value as f64
}
