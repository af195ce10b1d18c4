//! Sessions: what a client's calls have in common. A session is its settings and a [lane](lane), the connection that its
//! temporary objects and its transaction live on. While it has neither, each of its statements has a connection of its own,
//! so that many run at once; with one of them, they take the lane in turn.
//!
//! A session is made when there is something to keep for it, and ends when it is closed or idle for too long. What has ended
//! is remembered for a while, so that a client is told, and not served without its settings.

mod lane;
mod listing;
mod settings;
#[cfg(test)]
mod tests;
mod transaction;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lru::LruCache;

pub(in crate::engine) use lane::{Lane, Lease};
pub use settings::{Extensions, Settings};
pub use transaction::End;

use super::cancel::Cancel;
use super::work::Work;
use super::{Call, Engine, SessionKey, TransactionId};
use crate::config;
use crate::error::{Error, Result};

/// How often idle sessions and transactions are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Ended sessions, and ended transactions, that are remembered.
const ENDED_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("it is not zero");

/// All sessions and transactions.
#[derive(Debug)]
pub(in crate::engine) struct Sessions {
    state: Mutex<State>,
    config: config::Session,
}

#[derive(Debug)]
struct State {
    sessions: HashMap<SessionKey, Arc<Session>>,
    transactions: HashMap<TransactionId, Arc<Lane>>,
    ended_sessions: LruCache<SessionKey, ()>,
    ended_transactions: LruCache<TransactionId, ()>,
}

/// What is open in an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Sessions that something is kept for.
    pub sessions: usize,
    /// Transactions that clients have begun and not ended.
    pub transactions: usize,
    /// Statements, plans and ingests.
    pub statements: usize,
}

/// One session.
#[derive(Debug)]
pub(in crate::engine) struct Session {
    /// Who made it; none: the server.
    user: Option<Arc<str>>,
    /// When, in microseconds since 1970 (UTC).
    created_at: i64,
    lane: Arc<Lane>,
    settings: Mutex<Settings>,
    /// Whether something lives on the lane that only it has: a temporary table, a variable.
    keeps_objects: AtomicBool,
    /// Calls under way.
    calls: AtomicUsize,
    last_used: Mutex<Instant>,
    running: Mutex<Vec<Weak<Cancel>>>,
}

/// A call of a session under way.
#[derive(Debug)]
pub(in crate::engine) struct InUse(Arc<Session>);

/// What a piece of work is for, which decides the connection that it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Wants {
    /// A statement: where the session's temporary objects are.
    Statement,
    /// An ingest: in the transaction, if one is open.
    Transaction,
    /// Something that stays in the session.
    Session,
}

/// Where a piece of work runs.
#[derive(Debug)]
pub(in crate::engine) struct Place {
    /// The lane; none: a connection of its own.
    pub(in crate::engine) lane: Option<Arc<Lane>>,
    pub(in crate::engine) settings: Settings,
    pub(in crate::engine) session: Option<InUse>,
}

impl Sessions {
    pub(in crate::engine) fn new(config: config::Session) -> Self {
        let state = State {
            sessions: HashMap::new(),
            transactions: HashMap::new(),
            ended_sessions: LruCache::new(ENDED_MAX),
            ended_transactions: LruCache::new(ENDED_MAX),
        };
        Self { state: Mutex::new(state), config }
    }

    /// Where a call's work runs.
    ///
    /// # Errors
    /// `NotFound` for a session or transaction that has ended, `FailedPrecondition` where a session is needed and there is none.
    pub(in crate::engine) fn place(&self, call: &Call, wants: Wants) -> Result<Place> {
        let session = match &call.session {
            Some(key) if wants == Wants::Session => Some(self.open(key, call)?),
            Some(key) => self.find(key)?,
            None if wants == Wants::Session && call.transaction.is_none() => return Err(no_session()),
            None => None,
        };
        let lane = match (call.transaction, &session) {
            (Some(id), _) => Some(self.transaction(id).ok_or_else(|| self.no_transaction(id))?),
            (None, Some(session)) => session.has_lane(wants).then(|| Arc::clone(&session.lane)),
            (None, None) => None,
        };
        let settings = session.as_ref().map(|session| session.settings().clone()).unwrap_or_default();
        Ok(Place { lane, settings, session: session.map(InUse::new) })
    }

    /// The session of `key`, if something is kept for it.
    fn find(&self, key: &SessionKey) -> Result<Option<Arc<Session>>> {
        let state = self.lock();
        if state.ended_sessions.contains(key) {
            return Err(Error::not_found(
                "the session has ended: it was closed, or idle for too long (session.idle_timeout); connect again",
            ));
        }
        Ok(state.sessions.get(key).map(Arc::clone))
    }

    /// The session of `key`, made for the caller if there is none yet.
    fn open(&self, key: &SessionKey, call: &Call) -> Result<Arc<Session>> {
        if let Some(session) = self.find(key)? {
            return Ok(session);
        }
        let mut state = self.lock();
        if let Some(session) = state.sessions.get(key) {
            return Ok(Arc::clone(session));
        }
        if state.sessions.len() >= self.config.sessions_max {
            return Err(Error::exhausted(format!(
                "{} sessions are open, which is the limit (session.sessions_max); close one, or try again later",
                self.config.sessions_max
            )));
        }
        let session = Arc::new(Session::new(call));
        state.sessions.insert(Arc::clone(key), Arc::clone(&session));
        Ok(session)
    }

    fn transaction(&self, id: TransactionId) -> Option<Arc<Lane>> {
        self.lock().transactions.get(&id).map(Arc::clone)
    }

    fn has_ended(&self, id: TransactionId) -> bool {
        self.lock().ended_transactions.contains(&id)
    }

    fn no_transaction(&self, id: TransactionId) -> Error {
        let why = if self.has_ended(id) { "has ended" } else { "is not known" };
        Error::not_found(format!("the transaction {why}"))
    }

    fn add_transaction(&self, id: TransactionId, lane: &Arc<Lane>) -> Result<()> {
        let mut state = self.lock();
        if state.transactions.len() >= self.config.transactions_max {
            return Err(Error::exhausted(format!(
                "{} transactions are open, which is the limit (session.transactions_max); try again later",
                self.config.transactions_max
            )));
        }
        state.transactions.insert(id, Arc::clone(lane));
        Ok(())
    }

    fn forget_transaction(&self, id: TransactionId) {
        let mut state = self.lock();
        if state.transactions.remove(&id).is_some() {
            state.ended_transactions.put(id, ());
        }
    }

    /// Ends a session, for a reason that whoever runs a statement in it is told; false when nothing is kept for it.
    fn close(&self, key: &SessionKey, reason: Option<&str>) -> bool {
        let mut state = self.lock();
        let Some(session) = state.sessions.remove(key) else { return false };
        state.ended_sessions.put(Arc::clone(key), ());
        drop(state);
        self.end(&session, reason);
        true
    }

    fn end(&self, session: &Session, reason: Option<&str>) {
        for cancel in session.running().drain(..).filter_map(|running| running.upgrade()) {
            match reason {
                Some(reason) => cancel.cancel_because(reason),
                None => cancel.cancel(),
            }
        }
        if let Some(id) = session.lane.with_transaction(|transaction| transaction.id) {
            self.forget_transaction(id);
        }
        session.lane.close();
    }

    /// Starts the thread that ends what is idle; it ends with the last handle.
    pub(in crate::engine) fn start_sweeping(self: &Arc<Self>) -> Result<()> {
        let sessions = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name("sessions".to_owned());
        let sweeping = thread.spawn(move || {
            while let Some(sessions) = sessions.upgrade() {
                sessions.sweep();
                drop(sessions);
                std::thread::sleep(SWEEP_EVERY);
            }
        });
        sweeping.map(drop).map_err(|error| Error::internal("cannot start a thread").with_source(error))
    }

    /// Ends all sessions and transactions: the server stops.
    pub(in crate::engine) fn close_all(&self) {
        let mut state = self.lock();
        let sessions: Vec<Arc<Session>> = state.sessions.drain().map(|(_, session)| session).collect();
        let lanes: Vec<Arc<Lane>> = state.transactions.drain().map(|(_, lane)| lane).collect();
        drop(state);
        for session in sessions {
            self.end(&session, None);
        }
        for lane in lanes {
            lane.close();
        }
    }

    /// Ends all transactions, and the sessions that have a connection: their database is opened again.
    pub(in crate::engine) fn close_connected(&self) {
        let mut state = self.lock();
        let connected: Vec<SessionKey> = state
            .sessions
            .iter()
            .filter(|(_, session)| session.lane.is_connected())
            .map(|(key, _)| Arc::clone(key))
            .collect();
        let transactions: Vec<TransactionId> = state.transactions.keys().copied().collect();
        let lanes: Vec<Arc<Lane>> = state.transactions.drain().map(|(_, lane)| lane).collect();
        for id in transactions {
            state.ended_transactions.put(id, ());
        }
        drop(state);
        for key in connected {
            self.close(&key, None);
        }
        for lane in lanes {
            lane.close();
        }
    }

    /// Ends sessions, and rolls back transactions, that were idle for too long.
    fn sweep(&self) {
        let (idle_max, transaction_idle_max) = (self.config.idle_timeout, self.config.transaction_idle_timeout);
        let mut state = self.lock();
        let idle: Vec<SessionKey> = state
            .sessions
            .iter()
            .filter(|(_, session)| session.idle().is_some_and(|idle| idle > idle_max))
            .map(|(key, _)| Arc::clone(key))
            .collect();
        let ended: Vec<Arc<Session>> = idle
            .into_iter()
            .filter_map(|key| {
                state.ended_sessions.put(Arc::clone(&key), ());
                state.sessions.remove(&key)
            })
            .collect();
        let lanes: Vec<(TransactionId, Arc<Lane>)> =
            state.transactions.iter().map(|(id, lane)| (*id, Arc::clone(lane))).collect();
        // A transaction that SQL has begun is in no list but its session.
        let mut idle_lanes: Vec<Arc<Lane>> = state.sessions.values().map(|session| Arc::clone(&session.lane)).collect();
        idle_lanes.extend(lanes.iter().map(|(_, lane)| Arc::clone(lane)));
        drop(state);
        for session in ended {
            tracing::debug!("a session was idle for too long");
            self.end(&session, None);
        }
        for lane in &idle_lanes {
            if lane.has_transaction() && lane.idle().is_some_and(|idle| idle > transaction_idle_max) {
                Self::expire_transaction(lane, transaction_idle_max);
            }
        }
        // One that no session keeps ends some time after it was rolled back.
        for (id, lane) in lanes {
            if lane.idle().is_some_and(|idle| idle > idle_max) {
                self.forget_transaction(id);
                lane.close();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_session() -> Error {
    Error::precondition(
        "this needs a session, and the call has none: sign in with a Handshake and send its Bearer token, or keep the cookie \
         that the server sets",
    )
}

impl Session {
    fn new(call: &Call) -> Self {
        Self {
            user: call.principal.as_ref().map(|principal| Arc::clone(&principal.name)),
            created_at: Timestamp::now().as_microsecond(),
            lane: Arc::new(Lane::default()),
            settings: Mutex::default(),
            keeps_objects: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            last_used: Mutex::new(Instant::now()),
            running: Mutex::default(),
        }
    }

    /// Whether work of this kind has to run on the lane.
    fn has_lane(&self, wants: Wants) -> bool {
        match wants {
            Wants::Session => true,
            Wants::Statement => self.keeps_objects.load(Ordering::Acquire) || self.lane.has_transaction(),
            Wants::Transaction => self.lane.has_transaction(),
        }
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, Vec<Weak<Cancel>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> Option<Duration> {
        let since = *self.last_used.lock().unwrap_or_else(PoisonError::into_inner);
        (self.calls.load(Ordering::Acquire) == 0).then(|| since.elapsed())
    }
}

impl InUse {
    fn new(session: Arc<Session>) -> Self {
        session.calls.fetch_add(1, Ordering::AcqRel);
        Self(session)
    }

    /// The session's statements are cancelled when it ends.
    pub(in crate::engine) fn runs(&self, cancel: &Arc<Cancel>) {
        let mut running = self.0.running();
        running.retain(|running| running.strong_count() > 0);
        running.push(Arc::downgrade(cancel));
    }

    /// From now on the session's statements run on its lane.
    pub(in crate::engine) fn keep_objects(&self) {
        self.0.keeps_objects.store(true, Ordering::Release);
    }

    /// The session's limit on a statement's time.
    pub(in crate::engine) fn query_timeout(&self) -> Option<Duration> {
        self.0.settings().query_timeout
    }

    /// The schema that the session uses, if it has said so.
    pub(in crate::engine) fn schema(&self) -> Option<String> {
        self.0.settings().schema.clone()
    }

    /// The extension types that results may have.
    pub(in crate::engine) fn extensions(&self) -> Extensions {
        self.0.settings().extensions
    }

    /// Changes the session's settings.
    pub(in crate::engine) fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.0.settings());
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        *self.0.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Engine {
    /// The caller's settings; those of the server when it has none.
    pub fn settings(&self, call: &Call) -> Result<Settings> {
        let session = call.session.as_ref().map(|key| self.0.sessions.find(key)).transpose()?.flatten();
        Ok(session.map(|session| session.settings().clone()).unwrap_or_default())
    }

    /// Changes the caller's settings, after a try on a connection.
    ///
    /// # Errors
    /// `NotFound` or `InvalidArgument` for a value that is not possible; then nothing is changed.
    pub async fn change_settings(&self, call: &Call, settings: Settings) -> Result<()> {
        let key = call.session.as_ref().ok_or_else(no_session)?;
        let session = self.0.sessions.open(key, call)?;
        let tried = settings.clone();
        // On a connection of its own: the lane may be busy, and gets them with its next statement.
        self.run(&Call { deadline: call.deadline, ..Call::default() }, move |work| {
            tried.apply(work.connection(), &Settings::default())
        })
        .await?;
        *session.settings() = settings;
        drop(InUse::new(session));
        Ok(())
    }

    /// Ends a session: its statements are cancelled, its transaction rolled back, its temporary tables dropped. False when
    /// there was nothing to end.
    pub fn close_session(&self, key: &SessionKey) -> bool {
        self.0.sessions.close(key, None)
    }

    /// What is open now.
    pub fn activity(&self) -> Activity {
        let statements = self.0.watchdog.count();
        let state = self.0.sessions.lock();
        Activity { sessions: state.sessions.len(), transactions: state.transactions.len(), statements }
    }
}

impl Work {
    /// The lane that the work runs on, if it is not a connection of its own.
    pub(in crate::engine) fn lane(&self) -> Option<&Lane> {
        self.lease().map(|lease| lease.lane().as_ref())
    }
}
