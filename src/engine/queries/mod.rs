//! The query log: every statement and every stream of a caller's, while it runs and for a while after it has ended.
//!
//! A statement is [`Tracked`] from the moment that it is asked for. The handle goes with its [`Call`], so that all work on its
//! behalf tells where it is, counts its rows, and ends when somebody [cancels](Engine::cancel_query) it. Statements of the server's own,
//! and plans that nobody has fetched, are in no log.
//!
//! What it tells holds no secret: sessions have a name that is not their key, and of the text there is what `queries.text` allows
//! (its [fingerprint] always).

mod fingerprint;
mod info;
mod listing;
mod tables;
#[cfg(test)]
mod tests;
mod tracked;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use uuid::Uuid;

pub use info::{QueryInfo, QueryKind, QueryOutcome, QueryState, SessionInfo, milliseconds};
pub(in crate::engine) use listing::register;
pub(in crate::engine) use tables::register_tables;
pub use tracked::Tracked;

use super::{Call, Engine};
use crate::config;
use crate::error::Error;
use crate::telemetry::instruments;
use tracked::{Entry, Subject};

/// The statements that run, and those that have ended last.
#[derive(Debug)]
pub(in crate::engine) struct Queries {
    /// Bounded by the calls that are open.
    live: Mutex<HashMap<Uuid, Arc<Entry>>>,
    /// The oldest is first.
    ended: Mutex<VecDeque<Arc<QueryInfo>>>,
    config: config::Queries,
    /// Longer texts are refused, and not looked at here.
    statement_bytes_max: usize,
}

/// Which statements to tell of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryFilter<'a> {
    /// Those that have ended, too.
    pub ended: bool,
    /// Only this user's.
    pub user: Option<&'a str>,
    /// So many at most, the newest.
    pub limit: Option<usize>,
}

impl Queries {
    pub(in crate::engine) fn new(config: config::Queries, statement_bytes_max: usize) -> Self {
        Self { live: Mutex::default(), ended: Mutex::default(), config, statement_bytes_max }
    }

    /// The call as one that runs a statement of its own, and the statement's handle; none when the call is a part of one, or the
    /// server's own.
    fn track(self: &Arc<Self>, subject: &Subject<'_>, call: &Call) -> (Call, Option<Arc<Tracked>>) {
        let Some(principal) = call.principal.as_ref().filter(|_| call.tracked.is_none()) else {
            return (call.clone(), None);
        };
        let session = call.session.as_deref().map(session_id);
        let unread = subject.text().filter(|text| text.len() <= self.statement_bytes_max);
        let entry = Arc::new(Entry::new(Arc::clone(&principal.name), session, subject, unread));
        self.live().insert(entry.id, Arc::clone(&entry));
        let tracked = Arc::new(Tracked::new(Arc::clone(self), entry));
        (Call { tracked: Some(Arc::clone(&tracked)), ..call.clone() }, Some(tracked))
    }

    /// The newest first.
    fn list(&self, filter: QueryFilter<'_>) -> Vec<Arc<QueryInfo>> {
        let is_wanted = |user: &str| filter.user.is_none_or(|wanted| wanted == user);
        let limit = filter.limit.unwrap_or(usize::MAX);
        // What ends in between is told twice rather than not at all, and then once.
        let live: Vec<Arc<Entry>> = self.live().values().filter(|entry| is_wanted(&entry.user)).cloned().collect();
        let mut infos: Vec<Arc<QueryInfo>> = live.iter().map(|entry| Arc::new(entry.info(None))).collect();
        if filter.ended {
            let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            infos.extend(ended.iter().rev().filter(|info| is_wanted(&info.user)).take(limit).cloned());
        }
        // The one that has ended comes first of two with an id. Ids are in the order of time.
        infos.sort_by_key(|info| std::cmp::Reverse((info.id, info.outcome.is_some())));
        infos.dedup_by_key(|info| info.id);
        infos.truncate(limit);
        infos
    }

    /// How many statements each session runs, by the session's name.
    fn running_by_session(&self) -> HashMap<Arc<str>, usize> {
        let mut counts = HashMap::new();
        for session in self.live().values().filter_map(|entry| entry.session.clone()) {
            *counts.entry(session).or_default() += 1;
        }
        counts
    }

    fn find(&self, id: Uuid) -> Option<Arc<Entry>> {
        self.live().get(&id).cloned()
    }

    /// Takes a statement off the list without a word on it.
    fn forget(&self, id: Uuid) {
        self.live().remove(&id);
    }

    /// Moves a statement to those that have ended.
    fn end(&self, entry: &Entry, error: Option<&Error>) {
        let info = entry.info(Some(&info::End::of(error, self.config.text)));
        self.report(&info);
        if self.config.history_max > 0 {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            let oldest = if ended.len() >= self.config.history_max { ended.pop_front() } else { None };
            ended.push_back(Arc::new(info));
            drop(ended);
            drop(oldest);
        }
        self.forget(entry.id);
    }

    /// Counts a statement that has ended, and logs it if it was slow.
    fn report(&self, info: &QueryInfo) {
        let kind = info.kind.word();
        let outcome = info.outcome.map_or("", QueryOutcome::word);
        metrics::counter!(instruments::STATEMENTS, "kind" => kind, "outcome" => outcome).increment(1);
        metrics::histogram!(instruments::STATEMENT_SECONDS, "kind" => kind).record(info.total.as_secs_f64());
        metrics::counter!(instruments::STATEMENT_ROWS).increment(info.rows);
        // Neither a client that reads slowly nor one that sends slowly makes a statement slow.
        let took = info.queued + info.running;
        if self.config.slow.is_zero() || took <= self.config.slow || info.kind == QueryKind::Ingest {
            return;
        }
        let text = info.text.as_deref().filter(|_| self.config.text == config::QueryText::Full);
        tracing::warn!(
            id = %info.id,
            user = &*info.user,
            kind,
            outcome,
            fingerprint = info.fingerprint_text(),
            queued_ms = info::milliseconds(info.queued),
            run_ms = info::milliseconds(info.running),
            rows = info.rows,
            text,
            "slow statement",
        );
    }

    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Arc<Entry>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of a session for people: its key is a secret, and cannot be told from it.
pub(in crate::engine) fn session_id(key: &str) -> Arc<str> {
    let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    format!("{:016x}", u64::from_be_bytes(head)).into()
}

impl Engine {
    /// The call as that of a query, and the query's handle; see [`Engine::track_update`].
    pub(in crate::engine) fn track_query(&self, sql: &str, call: &Call) -> (Call, Option<Arc<Tracked>>) {
        self.0.queries.track(&Subject::Query(sql), call)
    }

    /// The call as that of a statement which is run for its effect, and its handle for whoever ends it; no handle where the
    /// call is a part of another statement, or the server's own.
    pub fn track_update(&self, sql: &str, call: &Call) -> (Call, Option<Arc<Tracked>>) {
        self.0.queries.track(&Subject::Update(sql), call)
    }

    /// The same for a stream of rows into `table`.
    pub fn track_ingest(&self, table: &str, call: &Call) -> (Call, Option<Arc<Tracked>>) {
        self.0.queries.track(&Subject::Ingest(table), call)
    }

    /// Statements that run, or have run, the newest first.
    pub fn queries(&self, filter: QueryFilter<'_>) -> Vec<Arc<QueryInfo>> {
        self.0.queries.list(filter)
    }

    /// Whose statement it is; none when it does not run.
    pub fn query_user(&self, id: Uuid) -> Option<Arc<str>> {
        self.0.queries.find(id).map(|entry| Arc::clone(&entry.user))
    }

    /// Cancels a statement on behalf of user `by`; false when it does not run.
    pub fn cancel_query(&self, id: Uuid, by: &str) -> bool {
        let found = self.0.queries.find(id);
        if let Some(entry) = &found {
            entry.cancel(&format!("cancelled by user {by}"));
        }
        found.is_some()
    }

    /// The sessions that something is kept for, the one used last first.
    pub fn session_list(&self) -> Vec<SessionInfo> {
        self.0.sessions.list(&self.0.queries.running_by_session())
    }

    /// Ends the session of that name on behalf of user `by`: its statements are cancelled, its transaction rolled back. False when there is
    /// none.
    pub fn close_session_named(&self, id: &str, by: &str) -> bool {
        self.0.sessions.close_named(id, &format!("the session was closed by user {by}"))
    }
}
