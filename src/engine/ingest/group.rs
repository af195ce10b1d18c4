//! Group commit: small appends to one table that end at about the same time are merged in one transaction, so that they
//! share its one write to the disk. Each is answered only after the commit that holds it.
//!
//! The first that comes leads: an engine thread takes whatever waits, commits it, and goes on until nothing waits.

use std::collections::hash_map::Entry;
use std::sync::PoisonError;

use tokio::sync::oneshot;

use super::stage::{Source, Stage};
use super::table::merge_staged;
use super::{Outcome, RunningId, Target};
use crate::engine::Engine;
use crate::engine::work::Work;
use crate::error::{Error, ErrorKind, Result};

/// Appends that one commit takes at most.
const GROUP_MAX: usize = 256;

/// A small append that has ended and waits for its commit.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) target: Target,
    pub(super) fresh: Stage,
    pub(super) suspects: Stage,
    pub(super) received: u64,
    pub(super) result: oneshot::Sender<Result<Outcome>>,
    /// Held until the end, so that the id is not run twice.
    pub(super) id: Option<RunningId>,
}

/// A pending append whose rows can be read.
struct Readable {
    target: Target,
    fresh: Option<Source>,
    suspects: Option<Source>,
    received: u64,
    result: oneshot::Sender<Result<Outcome>>,
    id: Option<RunningId>,
}

impl Engine {
    /// Puts an append to the others that wait for the same table, and sees that somebody leads.
    pub(super) fn join_group(&self, pending: Pending) {
        let table = pending.target.lock_name();
        let mut groups = self.0.ingests.groups.lock().unwrap_or_else(PoisonError::into_inner);
        match groups.entry(table.clone()) {
            Entry::Occupied(mut waiting) => {
                waiting.get_mut().push(pending);
                return;
            }
            Entry::Vacant(vacant) => drop(vacant.insert(vec![pending])),
        }
        drop(groups);
        let (engine, name) = (self.clone(), table.clone());
        let led = self.spawn_detached(move |work| match work {
            Ok(work) => lead(&work, &name),
            Err(error) => engine.0.ingests.fail_group(&name, &error),
        });
        if let Err(error) = led {
            self.0.ingests.fail_group(&table, &error);
        }
    }
}

impl super::Ingests {
    /// The next appends of a table; none ends the lead.
    fn next_group(&self, table: &str) -> Option<Vec<Pending>> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = groups.get_mut(table)?;
        if waiting.is_empty() {
            groups.remove(table);
            return None;
        }
        let rest = waiting.split_off(waiting.len().min(GROUP_MAX));
        Some(std::mem::replace(waiting, rest))
    }

    fn fail_group(&self, table: &str, error: &Error) {
        let waiting = self.groups.lock().unwrap_or_else(PoisonError::into_inner).remove(table);
        for pending in waiting.into_iter().flatten() {
            drop(pending.result.send(Err(Error::new(error.kind(), error.message()))));
        }
    }
}

fn lead(work: &Work, table: &str) {
    let ingests = &work.engine.ingests;
    loop {
        let lock = match ingests.lock(table, &work.cancel, None) {
            Ok(lock) => lock,
            Err(error) => return ingests.fail_group(table, &error),
        };
        let Some(group) = ingests.next_group(table) else { return };
        let readable =
            group.into_iter().filter(|pending| !pending.result.is_closed()).map(|pending| read(work, pending));
        commit(work, readable.collect());
        drop(lock);
    }
}

fn read(work: &Work, pending: Pending) -> Readable {
    let Pending { target, fresh, suspects, received, result, id } = pending;
    let source = |stage: Stage| {
        let rows = stage.rows();
        let (batches, _) = stage.into_memory();
        (rows > 0).then(|| Source::of(work, &target.schema, batches))
    };
    let (fresh, suspects) = (source(fresh), source(suspects));
    Readable { target, fresh, suspects, received, result, id }
}

/// Commits all in one transaction; when that fails, each in one of its own, so that a bad one harms no other.
fn commit(work: &Work, group: Vec<Readable>) {
    match merge_all(work, &group) {
        Ok(outcomes) => {
            for (append, outcome) in group.into_iter().zip(outcomes) {
                append.answer(outcome);
            }
        }
        Err(_) => {
            for append in group {
                let outcome = merge_all(work, std::slice::from_ref(&append));
                let outcome = outcome.and_then(|mut outcomes| outcomes.pop().unwrap_or_else(|| Ok(Outcome::default())));
                append.answer(outcome.map_err(|error| work.explain(error)));
            }
        }
    }
}

impl Readable {
    /// Tells the client; its id is free before it hears of it.
    fn answer(self, outcome: Result<Outcome>) {
        drop(self.id);
        // A failed send means that the client is gone.
        drop(self.result.send(outcome));
    }
}

/// The outcome of each; an error of DuckDB's breaks the transaction and so the whole group.
fn merge_all(work: &Work, group: &[Readable]) -> Result<Vec<Result<Outcome>>> {
    let _slot = work.slot()?;
    work.transaction(|| {
        let mut outcomes = Vec::with_capacity(group.len());
        for append in group {
            let outcome =
                merge_staged(work, &append.target, append.fresh.as_ref(), append.suspects.as_ref(), append.received);
            match outcome {
                // Ours, found by a look and before anything was written: the transaction is as it was.
                Err(error) if is_refusal(&error) => outcomes.push(Err(error)),
                outcome => outcomes.push(Ok(outcome?)),
            }
        }
        Ok(outcomes)
    })
}

fn is_refusal(error: &Error) -> bool {
    let refused =
        matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound | ErrorKind::FailedPrecondition);
    refused && std::error::Error::source(error).is_none()
}
