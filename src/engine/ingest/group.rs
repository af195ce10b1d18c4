//! Group commit: small appends to one table that end at about the same time enter it in one transaction, with one INSERT, and
//! share its one write to the disk. Each is answered only after the commit that holds it.
//!
//! The first that comes leads: an engine thread takes whatever waits, commits it, and goes on; it stays for a while when nothing
//! waits, so that a client that sends one append after another finds it ready. What it needs to know of the table is
//! [known](super::known), so a group is one statement.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use tokio::sync::oneshot;

use super::admit::{Admitted, Append, admit, contents_of};
use super::gathering::Gathering;
use super::known::Contents;
use super::stage::Source;
use super::store::Store;
use super::table::merge_staged;
use super::{Held, LockWait, Outcome, RunningId, Target};
use crate::engine::queries::Tracked;
use crate::engine::work::Work;
use crate::engine::{Engine, metadata};
use crate::error::{Error, Result};
use crate::ingest::OnDuplicate;

/// Appends that one commit takes at most.
const GROUP_MAX: usize = 256;

/// How long a leader waits for more, and how often it looks meanwhile whether the server stops.
const LINGER: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(20);

/// A small append that has ended and waits for its commit.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) target: Target,
    /// Its rows: those whose keys come for the first time, and those whose keys may have come before.
    pub(super) fresh: Vec<RecordBatch>,
    pub(super) suspects: Vec<RecordBatch>,
    pub(super) received: u64,
    /// The rows' share of the budget, given back before the client hears of the end.
    pub(super) memory: Vec<Held>,
    pub(super) result: oneshot::Sender<Result<Outcome>>,
    /// Held until the end, so that the id is not run twice.
    pub(super) id: Option<RunningId>,
    /// Its entry in the query log, by which somebody may stop it while it waits.
    pub(super) tracked: Option<Arc<Tracked>>,
    /// Since when it waits.
    pub(super) since: Instant,
}

/// The appends that wait, by the name of their table's lock. Bounded by the memory budget of ingests and the number of their streams.
#[derive(Debug, Default)]
pub(super) struct Groups {
    waiting: Mutex<HashMap<String, Vec<Pending>>>,
    arrived: Condvar,
}

impl Groups {
    /// Adds an append; true when nobody leads its table yet.
    fn join(&self, table: &str, pending: Pending) -> bool {
        let mut waiting = self.lock();
        let leads = match waiting.entry(table.to_owned()) {
            Entry::Occupied(mut group) => {
                group.get_mut().push(pending);
                false
            }
            Entry::Vacant(vacant) => {
                vacant.insert(vec![pending]);
                true
            }
        };
        drop(waiting);
        if !leads {
            self.arrived.notify_all();
        }
        leads
    }

    /// Waits until there are appends for a table; false ends the lead.
    fn wait(&self, table: &str, work: &Work) -> bool {
        let until = Instant::now() + LINGER;
        let mut waiting = self.lock();
        loop {
            if waiting.get(table).is_some_and(|group| !group.is_empty()) {
                return true;
            }
            if Instant::now() >= until || work.cancel.check().is_err() {
                waiting.remove(table);
                return false;
            }
            waiting = self.arrived.wait_timeout(waiting, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until `wanted` appends wait for a table, for `patience` at most; false when they were not.
    fn gather(&self, table: &str, wanted: usize, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut waiting = self.lock();
        while waiting.get(table).map_or(0, Vec::len) < wanted {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            waiting = self.arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn count(&self, table: &str) -> usize {
        self.lock().get(table).map_or(0, Vec::len)
    }

    /// Answers those that need not wait any more: their client is gone, somebody has stopped them, or it took too long.
    fn weed(&self, table: &str, wait: LockWait) {
        let over: Vec<Pending> = match self.lock().get_mut(table) {
            Some(group) => group.extract_if(.., |pending| pending.is_over(wait)).collect(),
            None => return,
        };
        for pending in over {
            let error = pending.stopped().unwrap_or_else(|| wait.over(table));
            pending.answer(Err(error));
        }
    }

    /// Takes what waits for a table.
    fn take(&self, table: &str) -> Vec<Pending> {
        let mut waiting = self.lock();
        let Some(group) = waiting.get_mut(table) else { return Vec::new() };
        let rest = group.split_off(group.len().min(GROUP_MAX));
        std::mem::replace(group, rest)
    }

    fn fail(&self, table: &str, error: &Error) {
        let waiting = self.lock().remove(table);
        for pending in waiting.into_iter().flatten() {
            drop(pending.result.send(Err(Error::new(error.kind(), error.message()))));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Pending>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Puts an append to the others that wait for the same table, and sees that somebody leads.
    pub(super) fn join_group(&self, pending: Pending) {
        let table = pending.target.lock_name();
        if !self.0.ingests.groups.join(&table, pending) {
            return;
        }
        let (engine, name) = (self.clone(), table.clone());
        let led = self.spawn_group(move |work| match work {
            Ok(work) => lead(&work, &name),
            Err(error) => engine.0.ingests.groups.fail(&name, &error),
        });
        if let Err(error) = led {
            self.0.ingests.groups.fail(&table, &error);
        }
    }
}

/// Sees that a leader that panics leaves its table to the next one.
struct Lead<'a> {
    groups: &'a Groups,
    table: &'a str,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.groups.fail(self.table, &Error::internal("the commit of appends to this table panicked"));
        }
    }
}

/// The one who commits a table's groups for now.
struct Leader<'a> {
    work: &'a Work,
    /// The table's name, as its lock has it.
    table: &'a str,
    store: Store,
    gathering: Gathering,
}

fn lead(work: &Work, table: &str) {
    let ingests = &work.engine.ingests;
    let _lead = Lead { groups: &ingests.groups, table };
    let mut leader = Leader { work, table, store: Store::new(work), gathering: Gathering::default() };
    while ingests.groups.wait(table, work) {
        leader.gathering.wait(|wanted, patience| ingests.groups.gather(table, wanted.min(GROUP_MAX), patience));
        // Not through `Ingests::lock`: what is known of the table stays right.
        let lock = match ingests.locks.lock_within(table, &work.cancel, LOOK) {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                ingests.groups.weed(table, work.lock_wait());
                continue;
            }
            Err(error) => return ingests.groups.fail(table, &work.explain(error)),
        };
        let group: Vec<Pending> = ingests.groups.take(table).into_iter().filter_map(Pending::wanted).collect();
        let (began, size) = (Instant::now(), group.len());
        leader.commit(group);
        drop(lock);
        leader.gathering.note(size + ingests.groups.count(table), began.elapsed());
    }
}

impl Leader<'_> {
    /// Commits all in one transaction; when that fails, each in one of its own, so that a bad one harms no other.
    fn commit(&mut self, group: Vec<Pending>) {
        let Some(kind) = group.first().map(|pending| pending.target.kind) else { return };
        let (work, known) = (self.work, &self.work.engine.ingests.known);
        let mut contents = known.take(self.table);
        if let Ok(outcomes) = self.admit_all(&group, &mut contents) {
            if let Some(contents) = contents {
                known.keep(self.table, kind, contents);
            }
            for (pending, outcome) in group.into_iter().zip(outcomes) {
                pending.answer(outcome);
            }
            return;
        }
        known.forget(self.table);
        for pending in group {
            let outcome = merge_alone(work, &pending).map_err(|error| work.explain(error));
            pending.answer(outcome);
        }
    }

    /// The outcome of each, stored in one transaction; an error of DuckDB's breaks it, and so the whole group.
    fn admit_all(&mut self, group: &[Pending], contents: &mut Option<Contents>) -> Result<Vec<Result<Outcome>>> {
        let work = self.work;
        let Some(first) = group.first() else { return Ok(Vec::new()) };
        let is_simple = |pending: &Pending| {
            pending.target.on_duplicate != OnDuplicate::Replace && pending.target.schema == first.target.schema
        };
        if !group.iter().all(is_simple) {
            return Err(Error::internal(
                "appends that replace, or differ in their columns' types, are merged one by one",
            ));
        }
        let table = first.target.existing(first.target.table.clone());
        let _slot = work.slot()?;
        let known = &work.engine.ingests.known;
        let contents = match contents {
            Some(contents) => contents,
            none => none.insert(contents_of(work, &table, known.hasher(), known.filter_bytes_max())?),
        };
        // What an ingest with the same id has stored is not stored again.
        let before = group.iter().map(|pending| stored_before(work, pending)).collect::<Result<Vec<_>>>()?;
        let rows: Vec<Vec<RecordBatch>> =
            group.iter().zip(&before).map(|(pending, before)| pending.rows(before.as_ref())).collect();
        let appends: Vec<Append<'_>> =
            group.iter().zip(&rows).map(|(pending, batches)| pending.append(batches)).collect();
        let Admitted { batches, outcomes } = admit(work, &table, &appends, contents.filter.as_mut(), known.hasher())?;
        let inserted = outcomes.iter().flatten().map(|outcome| outcome.inserted).sum();
        let is_stored = |at: usize| outcomes[at].is_ok() && before[at].is_none();
        let stored: Vec<_> =
            (0..group.len()).filter(|at| is_stored(*at)).map(|at| &group[at].target.provenance).collect();
        contents.row.add(&stored, inserted);
        let mut store = || match stored.as_slice() {
            [] => Ok(()),
            _ => self.store.run(work, &table, &first.target.schema, &batches, &contents.row),
        };
        if group.iter().any(|pending| pending.target.ingest_id.is_some()) {
            work.transaction(|| {
                store()?;
                for ((pending, outcome), before) in group.iter().zip(&outcomes).zip(&before) {
                    if let (Some(id), Ok(outcome), None) = (&pending.target.ingest_id, outcome, before) {
                        metadata::remember_ingest(work, id, &table.name, outcome)?;
                    }
                }
                Ok(())
            })?;
            metadata::forget_ingests(work);
        } else {
            store()?;
        }
        Ok(outcomes.into_iter().zip(before).map(|(outcome, before)| before.map_or(outcome, Ok)).collect())
    }
}

impl Pending {
    /// The rows to consider: none when an ingest with the same id was stored `before`.
    fn rows(&self, before: Option<&Outcome>) -> Vec<RecordBatch> {
        if before.is_some() { Vec::new() } else { self.fresh.iter().chain(&self.suspects).cloned().collect() }
    }

    fn append<'a>(&self, batches: &'a [RecordBatch]) -> Append<'a> {
        Append { batches, on_duplicate: self.target.on_duplicate, received: self.received }
    }

    /// Why it is not to be stored any more, if it is not.
    fn stopped(&self) -> Option<Error> {
        if self.result.is_closed() {
            return Some(Error::cancelled("the client is gone"));
        }
        self.tracked.as_ref().and_then(|tracked| tracked.reason())
    }

    /// Whether it need not wait any more.
    fn is_over(&self, wait: LockWait) -> bool {
        self.since.elapsed() >= wait.max || self.stopped().is_some()
    }

    /// Itself, unless it is not to be stored any more: that is its answer then.
    fn wanted(self) -> Option<Self> {
        match self.stopped() {
            None => Some(self),
            Some(error) => {
                self.answer(Err(error));
                None
            }
        }
    }

    /// Tells the client; its id is free before it hears of it.
    fn answer(self, outcome: Result<Outcome>) {
        drop((self.id, self.memory));
        // A failed send means that the client is gone.
        drop(self.result.send(outcome));
    }
}

/// What came of an ingest with the same id, if it is remembered.
fn stored_before(work: &Work, pending: &Pending) -> Result<Option<Outcome>> {
    match &pending.target.ingest_id {
        Some(id) => metadata::ingest_result(work, id, &pending.target.table),
        None => Ok(None),
    }
}

/// One append in a transaction of its own, with every check of its table.
fn merge_alone(work: &Work, pending: &Pending) -> Result<Outcome> {
    let source = |batches: &Vec<RecordBatch>| {
        (!batches.is_empty()).then(|| Source::of(work, &pending.target.schema, batches.clone()))
    };
    let (fresh, suspects) = (source(&pending.fresh), source(&pending.suspects));
    let _slot = work.slot()?;
    let outcome =
        work.transaction(|| merge_staged(work, &pending.target, fresh.as_ref(), suspects.as_ref(), pending.received))?;
    if pending.target.ingest_id.is_some() {
        metadata::forget_ingests(work);
    }
    Ok(outcome)
}
