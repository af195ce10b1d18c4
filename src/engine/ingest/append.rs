//! Small appends to managed tables: their rows come without an engine thread or a connection of their own, and enter the table
//! in a [group](super::group). One that turns out large becomes a stream with a writer.

use std::time::Instant;

use tokio::sync::oneshot;

use super::group::Pending;
use super::table::check_mode;
use super::{Chunk, Opened, Outcome, RunningId, Target};
use crate::engine::session::Wants;
use crate::engine::{Call, Engine, metadata};
use crate::error::{Error, Result};
use crate::ingest::Mode;

/// An append that is small so far; dropping it stores nothing.
#[derive(Debug)]
pub struct SmallAppend {
    engine: Engine,
    target: Target,
    call: Call,
    id: Option<RunningId>,
}

/// What the look before an append found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checked {
    /// The table.
    There,
    /// The outcome of an ingest with the same id.
    Known,
}

impl Engine {
    /// Opens an append that may be small: its table is checked now, before any row is read. None when it is one that
    /// needs a writer from its start: in a transaction of the caller's, counted after each batch, or anything but an append to
    /// a managed table. None, too, when it was stored before: [`Engine::open_ingest`] answers what came of it.
    ///
    /// # Errors
    /// As [`Engine::open_ingest`].
    pub async fn open_small_append(&self, target: &Target, call: &Call) -> Result<Option<SmallAppend>> {
        let may_be_small = target.mode == Mode::Append && target.kind.is_managed() && !target.every_batch;
        if !may_be_small || self.database().read_only {
            return Ok(None);
        }
        self.0.disk.check()?;
        if self.0.sessions.place(call, Wants::Transaction)?.lane.is_some() {
            return Ok(None);
        }
        let id = target.ingest_id.as_deref().map(|id| self.0.ingests.run_id(id)).transpose()?;
        if self.check_append(target, call).await? == Checked::Known {
            return Ok(None);
        }
        Ok(Some(SmallAppend { engine: self.clone(), target: target.clone(), call: call.clone(), id }))
    }

    /// Checks that the table is there and of the stream's kind, unless the same ingest was stored before: then that is the answer,
    /// whatever became of the table.
    async fn check_append(&self, target: &Target, call: &Call) -> Result<Checked> {
        let table = target.lock_name();
        if self.0.ingests.known.kind(&table) == Some(target.kind) {
            return Ok(Checked::There);
        }
        let target = target.clone();
        let call = Call { deadline: call.deadline, ..Call::default() };
        self.run_for_ingest(&call, Wants::Statement, move |work| {
            if let Some(id) = &target.ingest_id
                && metadata::ingest_result(work, id, &target.table)?.is_some()
            {
                return Ok(Checked::Known);
            }
            let ingests = &work.engine.ingests;
            // It is noted only under the lock, or somebody might be dropping it.
            let lock = ingests.locks.try_lock(&table);
            check_mode(work, &target)?;
            if lock.is_some() {
                ingests.known.note(&table, target.kind);
            }
            Ok(Checked::There)
        })
        .await
    }
}

impl SmallAppend {
    /// Ends the append well, with all of its rows; the answer means that it is durable.
    pub async fn commit(self, chunk: Chunk, received: u64) -> Result<Outcome> {
        let (result, answer) = oneshot::channel();
        let Self { engine, target, call, id } = self;
        let Chunk { fresh, suspects, memory } = chunk;
        let memory = memory.into_iter().collect();
        let (tracked, since) = (call.tracked, Instant::now());
        engine.join_group(Pending { target, fresh, suspects, received, memory, result, id, tracked, since });
        answer.await.unwrap_or_else(|_| Err(Error::internal("the engine ended without an answer")))
    }

    /// Goes on as a stream with a writer.
    pub async fn grow(self) -> Result<Opened> {
        let Self { engine, target, call, id } = self;
        drop(id);
        engine.open_ingest(target, &call).await
    }
}
