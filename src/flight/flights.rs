//! Flights: what GetFlightInfo has made ready for a DoGet, under the id in its ticket. All of it is bounded in number and in
//! time.
//!
//! * plans of queries, with the values of their parameters. The ticket has the query's text too, so one that is gone is planned again;
//! * queries that are being read, so that they can be cancelled;
//! * results of statements that have run (DDL, DML, PIVOT). They can be read again until they expire.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lru::LruCache;
use uuid::Uuid;

use crate::config;
use crate::engine::{Bound, Canceller, Executed, Owner, Rows};
use crate::error::{Error, Result};

/// The name of a flight.
pub(super) type FlightId = Uuid;

/// A flight, and who it is for: nobody else finds it, though they know its id.
type Key = (FlightId, Owner);

/// What is ready, and what runs.
#[derive(Debug)]
pub(super) struct Flights {
    state: Mutex<State>,
    results_max: usize,
    results_expire: Duration,
}

#[derive(Debug)]
struct State {
    plans: LruCache<Key, Plan>,
    /// Bounded by the engine's threads, of which each has one.
    running: HashMap<Key, Canceller>,
    results: HashMap<Key, (Instant, Executed)>,
}

/// A query that waits for its DoGet.
#[derive(Debug)]
pub(super) struct Plan {
    /// May have given way to another statement of its session by now.
    pub(super) rows: Rows,
    /// What to plan it with again.
    pub(super) bound: Option<Bound>,
}

/// A query that is being read; forgotten when dropped.
#[derive(Debug)]
pub(super) struct Running {
    flights: Arc<Flights>,
    key: Key,
}

impl Flights {
    pub(super) fn new(config: &config::Query) -> Arc<Self> {
        let plans = LruCache::new(NonZeroUsize::new(config.plans_max).unwrap_or(NonZeroUsize::MIN));
        Arc::new(Self {
            state: Mutex::new(State { plans, running: HashMap::new(), results: HashMap::new() }),
            results_max: config.results_max,
            results_expire: config.results_expire,
        })
    }

    /// Keeps a query's plan for its DoGet; the oldest goes when there are too many.
    pub(super) fn keep_plan(&self, plan: Plan, owner: Owner) -> FlightId {
        let id = Uuid::new_v4();
        let evicted = self.lock().plans.push((id, owner), plan);
        drop(evicted);
        id
    }

    /// The plan of a flight, if it is still there.
    pub(super) fn take_plan(&self, id: FlightId, owner: Owner) -> Option<Plan> {
        self.lock().plans.pop(&(id, owner))
    }

    /// Notes that a flight is being read.
    pub(super) fn run(self: &Arc<Self>, id: FlightId, owner: Owner, canceller: Canceller) -> Running {
        let key = (id, owner);
        self.lock().running.insert(key.clone(), canceller);
        Running { flights: Arc::clone(self), key }
    }

    /// Fails when so many results wait that the one of a statement which is about to run should not come on top: what it changes
    /// cannot be taken back afterwards. Those that run at the same time may come on top, and are as many as statements may be open.
    ///
    /// # Errors
    /// `ResourceExhausted`.
    pub(super) fn check_results(&self) -> Result<()> {
        if self.lock().results.len() < self.results_max {
            return Ok(());
        }
        Err(Error::exhausted(format!(
            "{} results wait to be read, which is the limit (query.results_max); try again later",
            self.results_max
        )))
    }

    /// Keeps a result; none when there are no rows to keep.
    pub(super) fn keep_result(&self, executed: Executed, owner: Owner) -> Option<FlightId> {
        if executed.schema.fields().is_empty() {
            return None;
        }
        let id = Uuid::new_v4();
        self.lock().results.insert((id, owner), (Instant::now(), executed));
        Some(id)
    }

    /// Drops results whose time is over.
    pub(super) fn drop_expired(&self) {
        let is_over = |(since, _): &(Instant, Executed)| since.elapsed() >= self.results_expire;
        let expired: Vec<_> = self.lock().results.extract_if(|_, result| is_over(result)).collect();
        // Freeing it may take a while: not under the lock.
        drop(expired);
    }

    /// The result of a flight.
    pub(super) fn result(&self, id: FlightId, owner: Owner) -> Result<Executed> {
        let state = self.lock();
        let found = state.results.get(&(id, owner)).filter(|(since, _)| since.elapsed() < self.results_expire);
        found.map(|(_, executed)| executed.clone()).ok_or_else(|| self.gone())
    }

    /// Keeps a result for as long again; answers when it expires.
    pub(super) fn renew_result(&self, id: FlightId, owner: Owner) -> Result<SystemTime> {
        let mut state = self.lock();
        let found = state.results.get_mut(&(id, owner)).filter(|(since, _)| since.elapsed() < self.results_expire);
        let (since, _) = found.ok_or_else(|| self.gone())?;
        *since = Instant::now();
        Ok(self.expiration())
    }

    /// When a result that is kept now expires.
    pub(super) fn expiration(&self) -> SystemTime {
        SystemTime::now() + self.results_expire
    }

    /// Cancels a flight, whatever its state; false when there is none.
    pub(super) fn cancel(&self, id: FlightId, owner: Owner) -> bool {
        let key = (id, owner);
        let mut state = self.lock();
        let plan = state.plans.pop(&key);
        let result = state.results.remove(&key);
        let running = state.running.get(&key).cloned();
        drop(state);
        if let Some(running) = &running {
            running.cancel();
        }
        plan.is_some() || result.is_some() || running.is_some()
    }

    fn gone(&self) -> Error {
        Error::not_found(format!(
            "the result of this ticket is gone: it is kept for {:?} (query.results_expire)",
            self.results_expire
        ))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.flights.lock().running.remove(&self.key);
    }
}
