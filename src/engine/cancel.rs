//! Cancelling: one flag for a piece of engine work, and the watchdog that makes DuckDB see it.
//!
//! DuckDB's interrupt is forgotten when it comes just before a query begins, so a cancelled or overdue piece of work is
//! interrupted again and again until it has ended.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use duckdb_neo::connection::InterruptHandle;

use crate::error::{Error, ErrorKind, Result};

/// How often the watchdog looks at work that is under way.
const LOOK: Duration = Duration::from_millis(20);

/// How long after its time is over work may take to notice it, until its caller is answered without it. DuckDB cannot be interrupted
/// while it binds and optimizes, and finishes what a function makes of a batch of values.
const NOTICE: Duration = Duration::from_millis(300);

/// How long a query of a transaction may work on for a caller who has left, until it is interrupted.
const LEAVE_GRACE: Duration = Duration::from_secs(1);

const RUNNING: u8 = 0;
const CANCELLED: u8 = 1;
const OVERDUE: u8 = 2;

/// The state of one piece of work: running, cancelled by its caller, or past its time.
#[derive(Debug)]
pub(in crate::engine) struct Cancel {
    state: AtomicU8,
    ended: AtomicBool,
    /// Why it was cancelled, if it was not by its caller.
    reason: OnceLock<Box<str>>,
    /// Whether an interrupt harms more than this work.
    patient: AtomicBool,
    deadline: Mutex<Option<Instant>>,
    /// When the watchdog interrupts work that its caller has left; none: at once.
    interrupt_from: Mutex<Option<Instant>>,
    /// The connection that works now. Under the lock while it is interrupted, so that a connection which goes on to other work
    /// is never interrupted for this one.
    interrupt: Mutex<Option<InterruptHandle>>,
}

impl Cancel {
    /// Work without a deadline.
    pub(in crate::engine) fn never() -> Arc<Self> {
        Self::until(None)
    }

    /// Work that has to end by `deadline`.
    pub(in crate::engine) fn until(deadline: Option<Instant>) -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(RUNNING),
            ended: AtomicBool::new(false),
            reason: OnceLock::new(),
            patient: AtomicBool::new(false),
            deadline: Mutex::new(deadline),
            interrupt_from: Mutex::default(),
            interrupt: Mutex::default(),
        })
    }

    /// The caller gave up: interrupts DuckDB now, and the watchdog goes on doing so.
    pub(in crate::engine) fn cancel(&self) {
        *self.interrupt_from.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.stop(CANCELLED);
    }

    /// Somebody else ends it, for `reason`, which the caller is told.
    pub(in crate::engine) fn cancel_because(&self, reason: &str) {
        self.reason.get_or_init(|| reason.into());
        self.cancel();
    }

    /// The caller has left. Work that is a part of a transaction gets a moment to notice by itself: DuckDB aborts the transaction
    /// of a statement that is interrupted while rows are taken from it, and a client that has read all its rows may leave
    /// before the statement has ended.
    pub(in crate::engine) fn leave(&self) {
        if !self.patient.load(Ordering::Acquire) {
            return self.cancel();
        }
        *self.interrupt_from.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + LEAVE_GRACE);
        // Whatever stopped it before comes first.
        _ = self.state.compare_exchange(RUNNING, CANCELLED, Ordering::AcqRel, Ordering::Acquire);
    }

    /// From here on a caller who leaves does not interrupt the work at once.
    pub(in crate::engine) fn be_patient(&self) {
        self.patient.store(true, Ordering::Release);
    }

    /// Gives the work another time to end by.
    pub(in crate::engine) fn set_deadline(&self, deadline: Option<Instant>) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }

    /// Whether the work may go on.
    pub(in crate::engine) fn check(&self) -> Result<()> {
        if self.is_overdue() {
            self.stop(OVERDUE);
        }
        match self.state.load(Ordering::Acquire) {
            RUNNING => Ok(()),
            CANCELLED => {
                Err(Error::cancelled(self.reason.get().map_or("the call was cancelled", |reason| reason.as_ref())))
            }
            _ => Err(Error::new(
                ErrorKind::DeadlineExceeded,
                "the statement ran longer than the call's deadline or the query timeout (engine.query_timeout)",
            )),
        }
    }

    /// Ready when the work is past its time, and a moment later has not ended by itself. Its thread goes on, and counts as open
    /// (`engine.open_max`) and as running until it has ended; only its caller does not wait for it.
    pub(in crate::engine) async fn overdue(self: Arc<Self>) -> Error {
        loop {
            let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            match deadline {
                Some(deadline) if now >= deadline + NOTICE => {
                    if let Err(error) = self.check() {
                        return error;
                    }
                }
                // It may get another deadline meanwhile.
                Some(deadline) => tokio::time::sleep((deadline + NOTICE - now).min(NOTICE)).await,
                None => tokio::time::sleep(NOTICE).await,
            }
        }
    }

    /// The error to show for `error`: an interrupt is told by its reason.
    pub(in crate::engine) fn explain(&self, error: Error) -> Error {
        match self.check() {
            Err(reason) if error.kind() == ErrorKind::Cancelled => reason.with_source(error),
            _ => error,
        }
    }

    fn connection(&self) -> MutexGuard<'_, Option<InterruptHandle>> {
        self.interrupt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_overdue(&self) -> bool {
        let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Whether the watchdog has to interrupt the work.
    fn is_to_be_interrupted(&self) -> bool {
        let from = *self.interrupt_from.lock().unwrap_or_else(PoisonError::into_inner);
        self.check().is_err() && from.is_none_or(|from| Instant::now() >= from)
    }

    fn stop(&self, state: u8) {
        let changed = self.state.compare_exchange(RUNNING, state, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if changed || state == CANCELLED {
            self.interrupt();
        }
    }

    fn interrupt(&self) {
        if let Some(interrupt) = &*self.connection()
            && let Err(error) = interrupt.interrupt()
        {
            tracing::debug!(%error, "cannot interrupt");
        }
    }
}

/// Watches all work under way: one thread that ends with its last handle.
#[derive(Debug)]
pub(in crate::engine) struct Watchdog(Arc<Watched>);

#[derive(Debug, Default)]
struct Watched {
    list: Mutex<Vec<Weak<Cancel>>>,
    changed: Condvar,
    closed: AtomicBool,
}

/// Marks the work as ended when dropped.
#[derive(Debug)]
pub(in crate::engine) struct Watch(Arc<Cancel>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
        *self.0.connection() = None;
    }
}

impl Watch {
    /// The work goes on on another connection.
    pub(in crate::engine) fn retarget(&self, interrupt: InterruptHandle) {
        *self.0.connection() = Some(interrupt);
    }
}

impl Watchdog {
    /// Starts the watchdog's thread.
    pub(in crate::engine) fn start() -> Result<Self> {
        let watched = Arc::new(Watched::default());
        let thread = std::thread::Builder::new().name("watchdog".to_owned());
        let shared = Arc::clone(&watched);
        thread
            .spawn(move || shared.run())
            .map_err(|error| Error::internal("cannot start a thread").with_source(error))?;
        Ok(Self(watched))
    }

    /// Cancels all work under way.
    pub(in crate::engine) fn cancel_all(&self) {
        for cancel in self.0.lock().iter().filter_map(Weak::upgrade) {
            cancel.cancel();
        }
    }

    /// Whether any work is under way.
    pub(in crate::engine) fn is_idle(&self) -> bool {
        self.count() == 0
    }

    /// Pieces of work under way.
    pub(in crate::engine) fn count(&self) -> usize {
        let list = self.0.lock();
        list.iter().filter_map(Weak::upgrade).filter(|cancel| !cancel.ended.load(Ordering::Acquire)).count()
    }

    /// Watches `cancel`, whose work runs on the connection of `interrupt`, until the answer is dropped.
    pub(in crate::engine) fn watch(&self, cancel: &Arc<Cancel>, interrupt: InterruptHandle) -> Watch {
        *cancel.connection() = Some(interrupt);
        self.0.lock().push(Arc::downgrade(cancel));
        self.0.changed.notify_one();
        Watch(Arc::clone(cancel))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // Under the lock, so that the thread cannot miss it between its look and its wait.
        let list = self.0.lock();
        self.0.closed.store(true, Ordering::Release);
        drop(list);
        self.0.changed.notify_one();
    }
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Cancel>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut list = self.lock();
        while !self.closed.load(Ordering::Acquire) {
            list.retain(|cancel| {
                let Some(cancel) = cancel.upgrade() else { return false };
                if cancel.ended.load(Ordering::Acquire) {
                    return false;
                }
                if cancel.is_to_be_interrupted() {
                    cancel.interrupt();
                }
                true
            });
            list = if list.is_empty() {
                self.changed.wait(list).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.changed.wait_timeout(list, LOOK).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }
}
