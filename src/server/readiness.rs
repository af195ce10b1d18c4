//! Whether the server is alive, and ready for calls: a probe of the database each second, whose answer everybody reads who asks.
//! `/healthz`, `/readyz` and gRPC's health service say the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow_flight::flight_service_server::FlightServiceServer;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::engine::{Engine, Probe};
use crate::error::{Error, ErrorKind, Result};
use crate::flight::{Drain, Service};

/// How often the database is looked at.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// The services whose health is told: the whole server, and Flight.
const SERVICES: [&str; 2] = ["", <FlightServiceServer<Service> as NamedService>::NAME];

/// Whether the server is alive, and ready; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Readiness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    report: Mutex<Report>,
    drain: Drain,
    probe_timeout: Duration,
}

/// What the last probe has shown; the reason where something is wrong.
#[derive(Clone, Debug)]
struct Report {
    at: Instant,
    alive: Result<(), String>,
    ready: Result<(), String>,
}

impl Readiness {
    /// Not ready, until it is probed.
    pub(super) fn new(drain: Drain, probe_timeout: Duration) -> Self {
        let report = Report { at: Instant::now(), alive: Ok(()), ready: Err("the server is starting".to_owned()) };
        Self(Arc::new(Inner { report: Mutex::new(report), drain, probe_timeout }))
    }

    /// Whether the process works: its probes go on, and the engine's threads take work.
    pub(super) fn alive(&self) -> Result<(), String> {
        let report = self.lock().clone();
        let age = report.at.elapsed();
        // A probe takes so long at most.
        if age > 2 * (PROBE_EVERY + self.0.probe_timeout) {
            return Err(format!("the database was last looked at {} seconds ago", age.as_secs()));
        }
        report.alive
    }

    /// Whether calls should come here.
    pub(super) fn ready(&self) -> Result<(), String> {
        if self.0.drain.has_begun() {
            return Err("the server is stopping".to_owned());
        }
        self.alive()?;
        self.lock().ready.clone()
    }

    /// Looks at the database again and again, and tells gRPC's health service.
    pub(super) async fn watch(&self, engine: &Engine, health: &HealthReporter) {
        let mut probe = None;
        loop {
            self.look(engine, &mut probe).await;
            self.tell(health).await;
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }

    /// Looks at the database; a look that takes too long stays in `probe`, and no other one begins meanwhile.
    pub(super) async fn look(&self, engine: &Engine, probe: &mut Option<Probe>) {
        let (alive, ready) = match start(engine, probe) {
            Ok(started) => {
                if let Ok(answer) = tokio::time::timeout(self.0.probe_timeout, started.answer()).await {
                    *probe = None;
                    (Ok(()), answer.map_err(|error| reason(&error)))
                } else {
                    let late = |who: &str| format!("{who} for {:?} (ops.probe_timeout)", self.0.probe_timeout);
                    let threads = late("the engine's threads have not taken a probe");
                    let alive = if started.has_begun() { Ok(()) } else { Err(threads) };
                    (alive, Err(late("the database has not answered")))
                }
            }
            // Its threads are busy, which is not to say that they are stuck.
            Err(error) if error.kind() == ErrorKind::ResourceExhausted => (Ok(()), Err(reason(&error))),
            Err(error) => (Err(reason(&error)), Err("the engine does not take work".to_owned())),
        };
        let was_ready = self.lock().ready.clone();
        match (&was_ready, &ready) {
            (Ok(()), Err(why)) => tracing::warn!("not ready: {why}"),
            (Err(_), Ok(())) => tracing::info!("ready"),
            _ => {}
        }
        *self.lock() = Report { at: Instant::now(), alive, ready };
    }

    /// Makes gRPC's health service say what is so.
    pub(super) async fn tell(&self, health: &HealthReporter) {
        let status = if self.ready().is_ok() { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            health.set_service_status(service, status).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        self.0.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The look that is under way, or a new one.
fn start<'a>(engine: &Engine, probe: &'a mut Option<Probe>) -> Result<&'a mut Probe> {
    if probe.is_none() {
        *probe = Some(engine.probe()?);
    }
    probe.as_mut().ok_or_else(|| Error::internal("a probe that is not there"))
}

fn reason(error: &Error) -> String {
    // Whoever asks has no credentials: a bug's details are for the log.
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::ResourceExhausted => error.message().to_owned(),
        _ => {
            tracing::warn!(%error, "the probe of the database failed");
            "the database does not answer as it should: the server's log has the details".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::engine::Database;

    #[tokio::test(flavor = "multi_thread")]
    async fn ready_is_what_the_probe_and_the_drain_say() {
        let database = Database { path: None, temp_directory: None, read_only: false };
        let engine = Engine::open(&Config::default(), database).unwrap();
        let drain = Drain::default();
        let readiness = Readiness::new(drain.clone(), Duration::from_secs(5));
        assert!(readiness.alive().is_ok());
        assert_eq!(readiness.ready().unwrap_err(), "the server is starting");
        let mut probe = None;
        readiness.look(&engine, &mut probe).await;
        assert!(probe.is_none() && readiness.ready().is_ok());
        drain.begin();
        assert_eq!(readiness.ready().unwrap_err(), "the server is stopping");
        assert!(readiness.alive().is_ok());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn busy_threads_are_not_ready_but_alive() {
        let database = Database { path: None, temp_directory: None, read_only: false };
        let mut config = Config::default();
        config.engine.open_max = 1;
        let engine = Engine::open(&config, database).unwrap();
        let readiness = Readiness::new(Drain::default(), Duration::from_secs(5));
        let sql = "SELECT * FROM range(100000000)".to_owned();
        let held = engine.query(sql, None, &crate::engine::Call::default()).await.unwrap();
        readiness.look(&engine, &mut None).await;
        assert!(readiness.alive().is_ok());
        assert!(readiness.ready().unwrap_err().contains("engine.open_max"));
        drop(held);
        for _ in 0..500 {
            readiness.look(&engine, &mut None).await;
            if readiness.ready().is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not ready again");
    }
}
