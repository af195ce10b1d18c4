//! How many statements run at once. A statement holds a slot while DuckDB works for it, and gives it back while it waits
//! for its client, so that a slow reader never keeps others from running.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cancel::Cancel;
use crate::error::{Error, Result};

/// How often a waiting statement looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// The running statements' slots, and the queue in front of them.
#[derive(Debug)]
pub(in crate::engine) struct Slots {
    state: Mutex<State>,
    freed: Condvar,
    running_max: usize,
    queue_max: usize,
    wait_max: Duration,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    waiting: usize,
}

/// The right to run; gives itself back when dropped.
#[derive(Debug)]
pub(in crate::engine) struct Slot(Arc<Slots>);

impl Slots {
    /// `running_max` at once; `queue_max` more may wait, each at most `wait_max`.
    pub(in crate::engine) fn new(running_max: usize, queue_max: usize, wait_max: Duration) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), freed: Condvar::new(), running_max, queue_max, wait_max })
    }

    /// Waits for a slot.
    ///
    /// # Errors
    /// `ResourceExhausted` when the queue is full or the wait is over; what `cancel` says if it was cancelled.
    pub(in crate::engine) fn acquire(self: &Arc<Self>, cancel: &Cancel) -> Result<Slot> {
        let mut state = self.lock();
        if state.running >= self.running_max && state.waiting >= self.queue_max {
            return Err(Error::exhausted(format!(
                "{} statements run and {} wait, which is the limit (engine.statements_max, engine.statements_queue_max); \
                 try again later",
                state.running, state.waiting
            )));
        }
        let until = Instant::now() + self.wait_max;
        state.waiting += 1;
        let outcome = loop {
            if let Err(error) = cancel.check() {
                break Err(error);
            }
            if state.running < self.running_max {
                state.running += 1;
                break Ok(Slot(Arc::clone(self)));
            }
            if Instant::now() >= until {
                break Err(Error::exhausted(format!(
                    "waited {:?} for one of {} running statements to end (engine.statements_queue_wait)",
                    self.wait_max, self.running_max
                )));
            }
            state = self.freed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.waiting -= 1;
        outcome
    }

    /// Gives the caller's slot back while it waits for something that another statement may need a slot to get done, such as a
    /// table's lock; the caller has its slot again afterwards, whatever came of the wait.
    pub(in crate::engine) fn without<T>(
        self: &Arc<Self>,
        cancel: &Cancel,
        wait: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.give_back();
        let outcome = wait();
        match self.acquire(cancel) {
            // The caller's own guard gives it back.
            Ok(slot) => {
                self.lock().running += 1;
                drop(slot);
                outcome
            }
            Err(error) => {
                self.lock().running += 1;
                outcome.and(Err(error))
            }
        }
    }

    /// Statements that run, and those that wait.
    pub(in crate::engine) fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.running, state.waiting)
    }

    fn give_back(&self) {
        self.lock().running -= 1;
        self.freed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_queue_and_the_wait_are_bounded() {
        let cancel = Cancel::never();
        let slots = Slots::new(1, 0, Duration::from_mins(1));
        let slot = slots.acquire(&cancel).unwrap();
        let error = slots.acquire(&cancel).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(error.message().contains("engine.statements_queue_max"), "{error}");
        drop(slot);
        let slots = Slots::new(1, 1, Duration::from_millis(1));
        let _slot = slots.acquire(&cancel).unwrap();
        let error = slots.acquire(&cancel).unwrap_err();
        assert!(error.message().contains("engine.statements_queue_wait"), "{error}");
    }

    #[test]
    fn a_slot_is_free_while_its_statement_waits_for_another() {
        let cancel = Cancel::never();
        let slots = Slots::new(1, 1, Duration::from_mins(1));
        let slot = slots.acquire(&cancel).unwrap();
        slots.without(&cancel, || slots.acquire(&cancel).map(drop)).unwrap();
        assert_eq!(slots.lock().running, 1);
        drop(slot);
        assert_eq!(slots.lock().running, 0);
    }

    #[test]
    fn a_cancelled_statement_leaves_the_queue() {
        let slots = Slots::new(1, 1, Duration::from_mins(1));
        let _slot = slots.acquire(&Cancel::never()).unwrap();
        let cancel = Cancel::never();
        cancel.cancel();
        assert_eq!(slots.acquire(&cancel).unwrap_err().kind(), ErrorKind::Cancelled);
    }
}
