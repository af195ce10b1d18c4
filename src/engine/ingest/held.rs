//! Rows that were received and are in memory only: their share of the server's budget, and since when they wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

/// Since when rows wait, of all streams; cheap to clone. As many entries as there are chunks in memory, which the budget bounds.
#[derive(Clone, Debug, Default)]
pub struct Waiting(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

/// The memory that rows take of the server's budget, given back when dropped: when they are written.
#[derive(Debug)]
pub struct Held {
    permit: OwnedSemaphorePermit,
    waiting: Waiting,
    key: u64,
}

impl Waiting {
    /// Holds `permit` for rows that are received now.
    pub fn hold(&self, permit: OwnedSemaphorePermit) -> Held {
        self.hold_since(permit, Instant::now())
    }

    fn hold_since(&self, permit: OwnedSemaphorePermit, since: Instant) -> Held {
        let mut state = self.lock();
        let key = state.next;
        state.next += 1;
        state.since.insert(key, since);
        drop(state);
        Held { permit, waiting: self.clone(), key }
    }

    /// How long the oldest rows wait; none: there are none.
    pub fn oldest(&self) -> Option<Duration> {
        self.lock().since.values().min().map(Instant::elapsed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// The share of `part` rows of `all`, which are written later than the others; none if that is less than a page.
    pub fn split(&mut self, part: usize, all: usize) -> Option<Self> {
        let pages = self.permit.num_permits() * part / all.max(1);
        let permit = self.permit.split(pages).filter(|permit| permit.num_permits() > 0)?;
        let since = self.waiting.lock().since.get(&self.key).copied()?;
        Some(self.waiting.hold_since(permit, since))
    }

    /// Takes the memory of rows that came later.
    pub fn extend(&mut self, permit: OwnedSemaphorePermit) {
        self.permit.merge(permit);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.waiting.lock().since.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn the_oldest_rows_tell_the_lag() {
        let pages = Arc::new(Semaphore::new(3));
        let permit = || Arc::clone(&pages).try_acquire_owned().unwrap();
        let waiting = Waiting::default();
        assert_eq!(waiting.oldest(), None);
        let mut first = waiting.hold(permit());
        std::thread::sleep(Duration::from_millis(2));
        let second = waiting.hold(permit());
        first.extend(permit());
        assert_eq!(pages.available_permits(), 0);
        let old = waiting.oldest().unwrap();
        assert!(old >= Duration::from_millis(2));
        drop(first);
        assert_eq!(pages.available_permits(), 2);
        assert!(waiting.oldest().is_some());
        drop(second);
        assert_eq!((waiting.oldest(), pages.available_permits()), (None, 3));
    }

    #[test]
    fn rows_that_are_written_later_keep_their_share() {
        let pages = Arc::new(Semaphore::new(10));
        let mut first = Waiting::default().hold(Arc::clone(&pages).try_acquire_many_owned(10).unwrap());
        let second = first.split(300, 1000).unwrap();
        assert!(first.split(1, 1000).is_none());
        drop(first);
        assert_eq!(pages.available_permits(), 7);
        drop(second);
        assert_eq!(pages.available_permits(), 10);
    }
}
