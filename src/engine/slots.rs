//! How many statements run at once, in all and of one user. A statement holds a slot while DuckDB works for it, and gives it back
//! while it waits for its client, so that a slow reader never keeps others from running. A slot that becomes free is for the
//! waiting user who has the fewest.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cancel::Cancel;
use crate::error::{Error, Result};

/// How often a waiting statement looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// On whose behalf a statement runs; none: the server's own, which counts for all users together only.
pub(in crate::engine) type User = Option<Arc<str>>;

/// The running statements' slots, and the queue in front of them.
#[derive(Debug)]
pub(in crate::engine) struct Slots {
    state: Mutex<State>,
    freed: Condvar,
    limits: Limits,
}

/// How many may run and wait, and how long.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Limits {
    pub(in crate::engine) running_max: usize,
    pub(in crate::engine) queue_max: usize,
    pub(in crate::engine) wait_max: Duration,
    pub(in crate::engine) user_running: usize,
    pub(in crate::engine) user_queue: usize,
}

#[derive(Debug, Default)]
struct State {
    all: Counts,
    /// Users with statements that run or wait: bounded by how many of those there may be.
    users: HashMap<Arc<str>, Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    running: usize,
    waiting: usize,
}

/// The right to run; gives itself back when dropped.
#[derive(Debug)]
pub(in crate::engine) struct Slot {
    slots: Arc<Slots>,
    user: User,
}

impl State {
    fn of(&self, user: &User) -> Counts {
        user.as_ref().and_then(|user| self.users.get(user)).copied().unwrap_or_default()
    }

    fn change(&mut self, user: &User, change: impl Fn(&mut Counts)) {
        change(&mut self.all);
        if let Some(user) = user {
            let counts = self.users.entry(Arc::clone(user)).or_default();
            change(counts);
            if counts.running == 0 && counts.waiting == 0 {
                self.users.remove(user);
            }
        }
    }
}

impl Slots {
    pub(in crate::engine) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), freed: Condvar::new(), limits })
    }

    /// Waits for a slot.
    ///
    /// # Errors
    /// `ResourceExhausted` when a queue is full or the wait is over; what `cancel` says if it was cancelled.
    pub(in crate::engine) fn acquire(self: &Arc<Self>, cancel: &Cancel, user: &User) -> Result<Slot> {
        let mut state = self.lock();
        self.check_queues(&state, user)?;
        let until = Instant::now() + self.limits.wait_max;
        state.change(user, |counts| counts.waiting += 1);
        let outcome = loop {
            if let Err(error) = cancel.check() {
                break Err(error);
            }
            if self.is_next(&state, user) {
                state.change(user, |counts| counts.running += 1);
                break Ok(Slot { slots: Arc::clone(self), user: user.clone() });
            }
            if Instant::now() >= until {
                break Err(self.waited(&state, user));
            }
            state = self.freed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.change(user, |counts| counts.waiting -= 1);
        outcome
    }

    fn check_queues(&self, state: &State, user: &User) -> Result<()> {
        let limits = self.limits;
        let own = state.of(user);
        if user.is_some() && own.running >= limits.user_running && own.waiting >= limits.user_queue {
            return Err(Error::exhausted(format!(
                "{} statements of yours run and {} wait, which is the limit of one user (engine.user_statements_max, \
                 engine.user_queue_max); try again later",
                own.running, own.waiting
            )));
        }
        let busy = state.all.running >= limits.running_max;
        if busy && user.is_some() && own.waiting >= limits.user_queue {
            return Err(Error::exhausted(format!(
                "{} statements of yours wait, which is the limit of one user (engine.user_queue_max); try again later",
                own.waiting
            )));
        }
        if busy && state.all.waiting >= limits.queue_max {
            return Err(Error::exhausted(format!(
                "{} statements run and {} wait, which is the limit (engine.statements_max, engine.statements_queue_max); \
                 try again later",
                state.all.running, state.all.waiting
            )));
        }
        Ok(())
    }

    /// Whether a statement of `user` may run now: a slot is free, the user may have one, and nobody who waits has fewer.
    fn is_next(&self, state: &State, user: &User) -> bool {
        if state.all.running >= self.limits.running_max {
            return false;
        }
        let Some(user) = user else { return true };
        let running = state.users.get(user).map_or(0, |counts| counts.running);
        running < self.limits.user_running
            && !state.users.values().any(|other| other.waiting > 0 && other.running < running)
    }

    fn waited(&self, state: &State, user: &User) -> Error {
        let Limits { wait_max, running_max, user_running, .. } = self.limits;
        let message = if user.is_some() && state.of(user).running >= user_running {
            format!(
                "waited {wait_max:?} for one of your {user_running} running statements to end (engine.user_statements_max, \
                 engine.statements_queue_wait)"
            )
        } else {
            format!(
                "waited {wait_max:?} for one of {running_max} running statements to end (engine.statements_queue_wait)"
            )
        };
        Error::exhausted(message)
    }

    /// Gives the caller's slot back while it waits for something that another statement may need a slot to get done, such as a
    /// table's lock; the caller has its slot again afterwards, whatever came of the wait.
    pub(in crate::engine) fn without<T>(
        self: &Arc<Self>,
        cancel: &Cancel,
        user: &User,
        wait: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.give_back(user);
        let outcome = wait();
        let again = self.acquire(cancel, user);
        // The caller's own guard gives it back.
        self.lock().change(user, |counts| counts.running += 1);
        match again {
            Ok(_) => outcome,
            Err(error) => outcome.and(Err(error)),
        }
    }

    /// Statements that run, and those that wait.
    pub(in crate::engine) fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.all.running, state.all.waiting)
    }

    fn give_back(&self, user: &User) {
        self.lock().change(user, |counts| counts.running -= 1);
        // Whose turn it is, they find out.
        self.freed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.give_back(&self.user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn slots(running_max: usize, queue_max: usize, wait_max: Duration) -> Arc<Slots> {
        let (user_running, user_queue) = (running_max, queue_max);
        Slots::new(Limits { running_max, queue_max, wait_max, user_running, user_queue })
    }

    fn exhausted(slots: &Arc<Slots>, user: &User, setting: &str) {
        let error = slots.acquire(&Cancel::never(), user).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(error.message().contains(setting), "{error}");
    }

    #[test]
    fn the_queue_and_the_wait_are_bounded() {
        let cancel = Cancel::never();
        let full = slots(1, 0, Duration::from_mins(1));
        let slot = full.acquire(&cancel, &None).unwrap();
        exhausted(&full, &None, "engine.statements_queue_max");
        drop(slot);
        let impatient = slots(1, 1, Duration::from_millis(1));
        let _slot = impatient.acquire(&cancel, &None).unwrap();
        exhausted(&impatient, &None, "engine.statements_queue_wait");
    }

    #[test]
    fn one_user_leaves_room_for_others() {
        let (ada, grace): (User, User) = (Some("ada".into()), Some("grace".into()));
        let cancel = Cancel::never();
        let limits = Limits {
            running_max: 3,
            queue_max: 9,
            wait_max: Duration::from_millis(20),
            user_running: 2,
            user_queue: 1,
        };
        let slots = Slots::new(limits);
        let adas = [slots.acquire(&cancel, &ada).unwrap(), slots.acquire(&cancel, &ada).unwrap()];
        exhausted(&slots, &ada, "engine.user_statements_max");
        let _grace = slots.acquire(&cancel, &grace).unwrap();
        drop(adas);
        assert_eq!(slots.lock().users.len(), 1);
        let no_queue = Slots::new(Limits { user_running: 1, user_queue: 0, ..limits });
        let _ada = no_queue.acquire(&cancel, &ada).unwrap();
        exhausted(&no_queue, &ada, "engine.user_queue_max");
        // The server's own statements count for nobody.
        let _own = [no_queue.acquire(&cancel, &None).unwrap(), no_queue.acquire(&cancel, &None).unwrap()];
    }

    #[test]
    fn who_has_fewest_is_next() {
        let (ada, grace): (User, User) = (Some("ada".into()), Some("grace".into()));
        let slots = slots(3, 9, Duration::from_mins(1));
        let cancel = Cancel::never();
        let _adas = [slots.acquire(&cancel, &ada).unwrap(), slots.acquire(&cancel, &ada).unwrap()];
        slots.lock().change(&grace, |counts| counts.waiting += 1);
        assert!(!slots.is_next(&slots.lock(), &ada));
        assert!(slots.is_next(&slots.lock(), &grace));
        assert!(slots.is_next(&slots.lock(), &None));
    }

    #[test]
    fn a_slot_is_free_while_its_statement_waits_for_another() {
        let cancel = Cancel::never();
        let slots = slots(1, 1, Duration::from_mins(1));
        let slot = slots.acquire(&cancel, &None).unwrap();
        slots.without(&cancel, &None, || slots.acquire(&cancel, &None).map(drop)).unwrap();
        assert_eq!(slots.lock().all.running, 1);
        drop(slot);
        assert_eq!(slots.lock().all.running, 0);
    }

    #[test]
    fn a_cancelled_statement_leaves_the_queue() {
        let slots = slots(1, 1, Duration::from_mins(1));
        let _slot = slots.acquire(&Cancel::never(), &None).unwrap();
        let cancel = Cancel::never();
        cancel.cancel();
        assert_eq!(slots.acquire(&cancel, &None).unwrap_err().kind(), ErrorKind::Cancelled);
    }
}
