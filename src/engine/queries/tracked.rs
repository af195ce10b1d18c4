//! A statement under way: where it is, what it has done, and how to stop it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use duckdb_neo::connection::Connection;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::fingerprint::Fingerprint;
use super::info::End;
use super::{Queries, QueryInfo, QueryKind, QueryState};
use crate::config::QueryText;
use crate::engine::cancel::Cancel;
use crate::error::{Error, Result};

/// A statement in the query log, shared by all that work for it. It ends once: as it is told to, or as one whose client has left
/// when nobody works for it any more.
pub struct Tracked {
    queries: Arc<Queries>,
    entry: Arc<Entry>,
}

/// What is tracked.
pub(super) enum Subject<'a> {
    Query(&'a str),
    Update(&'a str),
    Ingest(&'a str),
}

/// What the log has of a statement while it runs.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: Uuid,
    pub(super) user: Arc<str>,
    pub(super) session: Option<Arc<str>>,
    kind: QueryKind,
    table: Option<Arc<str>>,
    started_at: i64,
    started: Instant,
    /// The text, until DuckDB's tokenizer has read it.
    unread: Mutex<Option<String>>,
    text: OnceLock<Text>,
    clock: Mutex<Clock>,
    rows: AtomicU64,
    bytes: AtomicU64,
    stop: Mutex<Stop>,
    /// For those who wait on the async side.
    stopped: CancellationToken,
    ended: AtomicBool,
}

#[derive(Debug)]
struct Text {
    fingerprint: u64,
    shown: Option<Arc<str>>,
}

/// Where the statement is, and how long it was where.
#[derive(Debug)]
struct Clock {
    state: QueryState,
    since: Instant,
    queued: Duration,
    running: Duration,
}

/// What has to be stopped, and why it is.
#[derive(Debug, Default)]
struct Stop {
    work: Vec<Weak<Cancel>>,
    reason: Option<Arc<str>>,
}

impl<'a> Subject<'a> {
    pub(super) fn text(&self) -> Option<&'a str> {
        match self {
            Self::Query(text) | Self::Update(text) => Some(text),
            Self::Ingest(_) => None,
        }
    }
}

impl Clock {
    fn enter(&mut self, state: QueryState) {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.since);
        match self.state {
            QueryState::Queued => self.queued += passed,
            QueryState::Running => self.running += passed,
            QueryState::Planned | QueryState::Reading | QueryState::Done => {}
        }
        (self.state, self.since) = (state, now);
    }
}

impl Entry {
    pub(super) fn new(user: Arc<str>, session: Option<Arc<str>>, subject: &Subject<'_>, unread: Option<&str>) -> Self {
        let (kind, table) = match subject {
            Subject::Query(_) => (QueryKind::Query, None),
            Subject::Update(_) => (QueryKind::Update, None),
            Subject::Ingest(table) => (QueryKind::Ingest, Some(Arc::from(*table))),
        };
        let started = Instant::now();
        // A stream has no turn to wait for: it runs from its start on.
        let state = if kind == QueryKind::Ingest { QueryState::Running } else { QueryState::Queued };
        Self {
            id: Uuid::now_v7(),
            user,
            session,
            kind,
            table,
            started_at: Timestamp::now().as_microsecond(),
            started,
            unread: Mutex::new(unread.map(str::to_owned)),
            text: OnceLock::new(),
            clock: Mutex::new(Clock { state, since: started, queued: Duration::ZERO, running: Duration::ZERO }),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            stop: Mutex::default(),
            stopped: CancellationToken::new(),
            ended: AtomicBool::new(false),
        }
    }

    /// What there is to tell of it now, or at its end.
    pub(super) fn info(&self, end: Option<&End>) -> QueryInfo {
        let clock = {
            let mut clock = lock(&self.clock);
            let state = if end.is_some() { QueryState::Done } else { clock.state };
            clock.enter(state);
            (clock.state, clock.queued, clock.running)
        };
        let (state, queued, running) = clock;
        let text = self.text.get();
        QueryInfo {
            id: self.id,
            user: Arc::clone(&self.user),
            session: self.session.clone(),
            kind: self.kind,
            state,
            fingerprint: text.map(|text| text.fingerprint),
            text: text.and_then(|text| text.shown.clone()),
            table: self.table.clone(),
            started_at: self.started_at,
            queued,
            running,
            total: self.started.elapsed(),
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            outcome: end.map(|end| end.outcome),
            error_kind: end.and_then(|end| end.kind),
            error: end.and_then(|end| end.message.clone()),
        }
    }

    /// Ends it for `reason`, which its client is told.
    pub(super) fn cancel(&self, reason: &str) {
        let work = {
            let mut stop = lock(&self.stop);
            stop.reason.get_or_insert_with(|| reason.into());
            std::mem::take(&mut stop.work)
        };
        for cancel in work.iter().filter_map(Weak::upgrade) {
            cancel.cancel_because(reason);
        }
        self.stopped.cancel();
    }
}

impl Tracked {
    pub(super) fn new(queries: Arc<Queries>, entry: Arc<Entry>) -> Self {
        Self { queries, entry }
    }

    /// Its id.
    pub fn id(&self) -> Uuid {
        self.entry.id
    }

    /// Adds to what it has brought or answered.
    pub fn count(&self, rows: usize, bytes: usize) {
        self.entry.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.entry.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Says how many rows it has changed, or brought so far.
    pub fn set_rows(&self, rows: u64) {
        self.entry.rows.store(rows, Ordering::Relaxed);
    }

    /// Says how many bytes it has brought so far.
    pub fn set_bytes(&self, bytes: u64) {
        self.entry.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Ends it; the first end counts.
    pub fn end<T>(&self, outcome: &Result<T>) {
        if !self.entry.ended.swap(true, Ordering::AcqRel) {
            self.queries.end(&self.entry, outcome.as_ref().err());
        }
    }

    /// Ready, with the error for its client, when somebody cancels it.
    pub async fn cancelled(&self) -> Error {
        self.entry.stopped.cancelled().await;
        self.reason().unwrap_or_else(|| Error::cancelled("the call was cancelled"))
    }

    /// Ends it as one whose client does not want the rest.
    pub(in crate::engine) fn leave(&self) {
        self.end::<()>(&Err(self.reason().unwrap_or_else(|| Error::cancelled("the client left before the end"))));
    }

    /// Takes it off the list: it has not run.
    pub(in crate::engine) fn discard(&self) {
        if !self.entry.ended.swap(true, Ordering::AcqRel) {
            self.queries.forget(self.entry.id);
        }
    }

    /// Where it is from now on.
    pub(in crate::engine) fn enter(&self, state: QueryState) {
        lock(&self.entry.clock).enter(state);
    }

    /// Reads its text, unless that was done.
    pub(in crate::engine) fn read(&self, connection: &Connection) {
        let Some(sql) = lock(&self.entry.unread).take() else { return };
        let Some(Fingerprint { hash, normalized }) = Fingerprint::of(connection, &sql) else { return };
        let config = &self.queries.config;
        let shown = match config.text {
            QueryText::None => None,
            QueryText::Normalized => Some(normalized),
            QueryText::Full => Some(sql),
        };
        let bytes_max = usize::try_from(config.text_bytes_max.as_u64()).unwrap_or(usize::MAX);
        let shown = shown.map(|text| Arc::from(&text[..text.floor_char_boundary(bytes_max)]));
        // There is one text, and it was there to be taken once.
        drop(self.entry.text.set(Text { fingerprint: hash, shown }));
    }

    /// A piece of work is done for it, which ends with it.
    pub(in crate::engine) fn runs(&self, cancel: &Arc<Cancel>) {
        let mut stop = lock(&self.entry.stop);
        if let Some(reason) = stop.reason.clone() {
            drop(stop);
            return cancel.cancel_because(&reason);
        }
        stop.work.retain(|work| work.strong_count() > 0);
        stop.work.push(Arc::downgrade(cancel));
    }

    /// Why somebody has cancelled it, if somebody has.
    pub(in crate::engine) fn reason(&self) -> Option<Error> {
        lock(&self.entry.stop).reason.as_deref().map(Error::cancelled)
    }
}

impl std::fmt::Debug for Tracked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tracked").field(&self.entry.id).finish()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.leave();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
