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

/// How long somebody waits for a lock, and which setting says so.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct LockWait {
    pub(in crate::engine) max: Duration,
    pub(in crate::engine) setting: &'static str,
}

impl LockWait {
    /// The error when it was too long.
    pub(super) fn over(self, table: &str) -> Error {
        Error::exhausted(format!(
            "waited {:?} ({}) for another transaction or ingest to end, which writes to table {table}",
            self.max, self.setting
        ))
    }
}

impl TableLocks {
    /// Waits for the lock of `table`.
    ///
    /// # Errors
    /// What `cancel` says if the wait was cancelled; `ResourceExhausted` when it took too long.
    pub(super) fn lock(self: &Arc<Self>, table: &str, cancel: &Cancel, wait: LockWait) -> Result<TableLock> {
        self.lock_within(table, cancel, wait.max)?.ok_or_else(|| wait.over(table))
    }

    /// The same; none when it took longer than `wait_max`.
    pub(super) fn lock_within(
        self: &Arc<Self>,
        table: &str,
        cancel: &Cancel,
        wait_max: Duration,
    ) -> Result<Option<TableLock>> {
        let begun = Instant::now();
        let mut locked = self.guard();
        loop {
            cancel.check()?;
            if let Some(lock) = self.take(&mut locked, table) {
                return Ok(Some(lock));
            }
            let left = wait_max.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            locked = self.freed.wait_timeout(locked, left.min(LOOK)).unwrap_or_else(PoisonError::into_inner).0;
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
        let wait = LockWait { max: Duration::from_hours(1), setting: "engine.statements_queue_wait" };
        assert_eq!(locks.lock("events", &cancel, wait).unwrap_err().kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn a_wait_has_an_end_and_names_its_setting() {
        let locks = Arc::new(TableLocks::default());
        let _lock = locks.try_lock("events").unwrap();
        let wait = LockWait { max: Duration::from_millis(1), setting: "ingest.table_wait" };
        let error = locks.lock("events", &Cancel::never(), wait).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(error.message().contains("ingest.table_wait") && error.message().ends_with("events"), "{error}");
    }
}
