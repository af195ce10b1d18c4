//! One lock a table, by its lowercase name: whoever checks keys against a table and then writes to it holds it, so that two
//! ingests cannot both find a key missing.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::cancel::Cancel;
use crate::error::{Error, Result};

/// How often a waiting ingest looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// The tables that are locked now. Their number is bounded by that of engine threads.
#[derive(Debug, Default)]
pub(super) struct TableLocks {
    locked: Mutex<HashSet<String>>,
    freed: Condvar,
}

/// A table's lock; given back when dropped.
#[derive(Debug)]
pub(in crate::engine) struct TableLock {
    locks: Arc<TableLocks>,
    table: String,
}

impl TableLocks {
    /// Waits for the lock of `table`.
    ///
    /// # Errors
    /// What `cancel` says if the wait was cancelled; `ResourceExhausted` when it took longer than `wait_max`.
    pub(super) fn lock(
        self: &Arc<Self>,
        table: &str,
        cancel: &Cancel,
        wait_max: Option<Duration>,
    ) -> Result<TableLock> {
        let begun = Instant::now();
        let mut locked = self.guard();
        loop {
            cancel.check()?;
            if let Some(lock) = self.take(&mut locked, table) {
                return Ok(lock);
            }
            if let Some(wait_max) = wait_max.filter(|wait_max| begun.elapsed() >= *wait_max) {
                return Err(Error::exhausted(format!(
                    "waited {wait_max:?} (engine.statements_queue_wait) for another transaction to end, which writes to table \
                     {table}"
                )));
            }
            locked = self.freed.wait_timeout(locked, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The lock of `table`, if nobody has it.
    pub(super) fn try_lock(self: &Arc<Self>, table: &str) -> Option<TableLock> {
        self.take(&mut self.guard(), table)
    }

    fn take(self: &Arc<Self>, locked: &mut HashSet<String>, table: &str) -> Option<TableLock> {
        locked.insert(table.to_owned()).then(|| TableLock { locks: Arc::clone(self), table: table.to_owned() })
    }

    fn guard(&self) -> MutexGuard<'_, HashSet<String>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TableLock {
    /// Whether it is that of a table, by its lowercase name.
    pub(in crate::engine) fn is_of(&self, table: &str) -> bool {
        self.table == table
    }
}

impl Drop for TableLock {
    fn drop(&mut self) {
        self.locks.guard().remove(&self.table);
        self.locks.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_table_is_locked_once_and_others_are_free() {
        let locks = Arc::new(TableLocks::default());
        let lock = locks.try_lock("events").unwrap();
        assert!(locks.try_lock("events").is_none());
        assert!(locks.try_lock("profiles").is_some());
        drop(lock);
        assert!(locks.try_lock("events").is_some());
    }

    #[test]
    fn a_cancelled_wait_ends() {
        let locks = Arc::new(TableLocks::default());
        let _lock = locks.try_lock("events").unwrap();
        let cancel = Cancel::never();
        cancel.cancel();
        assert_eq!(locks.lock("events", &cancel, None).unwrap_err().kind(), ErrorKind::Cancelled);
    }
}
