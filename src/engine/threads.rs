//! The engine's own threads. DuckDB needs deep stacks (a chain of CTEs overflows 2 MiB) and blocks, so its work runs
//! here and never on the async runtime. A thread that is done waits for the next job; the number of threads is bounded.
//!
//! There are two sets: statements, and DuckDB's workers with them, give way to ingests. Each of many statements takes part in its own
//! work, while an ingest is one thread, so an even share of the cores would leave next to nothing to it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::stats::ThreadCount;
use crate::error::{Error, Result};

type Job = Box<dyn FnOnce() + Send>;

/// How long an idle thread stays.
const IDLE: Duration = Duration::from_secs(30);

/// A bounded set of threads; cheap to clone.
#[derive(Clone)]
pub(in crate::engine) struct Threads(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    job_ready: Condvar,
    use_for: Use,
    threads_max: usize,
    stack_bytes: usize,
}

/// What a set of threads is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Use {
    /// Statements, and results that are being read.
    Statements,
    /// Streams that are written, and groups of small appends.
    Ingests,
}

/// How much a thread with a statement gives way to one with an ingest where both want a core, as `nice` counts: it gets a
/// thirtieth, and 32 of them as much as the ingest.
const STATEMENTS_NICE: i32 = 15;

/// Looks of the server's own at once: the probe, and one for the metrics. They are beside the bound, so that no caller is refused
/// for them.
const LOOKS_MAX: usize = 2;

#[derive(Default)]
struct State {
    jobs: VecDeque<(For, Job)>,
    threads: usize,
    idle: usize,
    /// Jobs of callers that wait or run.
    calls: usize,
    /// The same of the server's own.
    looks: usize,
}

/// Whom a job is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Caller,
    Server,
}

impl Threads {
    /// At most `threads_max` threads with stacks of `stack_bytes`.
    pub(in crate::engine) fn new(use_for: Use, threads_max: usize, stack_bytes: usize) -> Self {
        let shared = Shared { state: Mutex::default(), job_ready: Condvar::new(), use_for, threads_max, stack_bytes };
        Self(Arc::new(shared))
    }

    /// Runs `job` on a thread of its own, at once.
    ///
    /// # Errors
    /// `ResourceExhausted` when all threads are busy.
    pub(in crate::engine) fn spawn(&self, job: impl FnOnce() + Send + 'static) -> Result<()> {
        let mut state = self.0.lock();
        if state.calls >= self.0.threads_max {
            return Err(self.0.use_for.all_busy(self.0.threads_max));
        }
        state.calls += 1;
        self.queue(state, For::Caller, Box::new(job))
    }

    /// The same for a short look of the server's own.
    ///
    /// # Errors
    /// `ResourceExhausted` when the looks before it have not ended.
    pub(in crate::engine) fn spawn_look(&self, job: impl FnOnce() + Send + 'static) -> Result<()> {
        let mut state = self.0.lock();
        if state.looks >= LOOKS_MAX {
            return Err(Error::exhausted("the server's looks at the database before this one have not ended"));
        }
        state.looks += 1;
        self.queue(state, For::Server, Box::new(job))
    }

    /// Gives a counted job to an idle thread, or to a new one.
    fn queue<'a>(&'a self, mut state: MutexGuard<'a, State>, whom: For, job: Job) -> Result<()> {
        if state.jobs.len() >= state.idle {
            state.threads += 1;
            drop(state);
            self.start().inspect_err(|_| {
                let mut state = self.0.lock();
                state.threads -= 1;
                state.ended(whom);
            })?;
            state = self.0.lock();
        }
        state.jobs.push_back((whom, job));
        drop(state);
        self.0.job_ready.notify_one();
        Ok(())
    }

    /// Fails when a caller's job would be refused.
    pub(in crate::engine) fn check(&self) -> Result<()> {
        let full = self.0.lock().calls >= self.0.threads_max;
        if full { Err(self.0.use_for.all_busy(self.0.threads_max)) } else { Ok(()) }
    }

    /// How many there are.
    pub(in crate::engine) fn count(&self) -> ThreadCount {
        let state = self.0.lock();
        // A thread that is woken counts itself as idle until it has taken its job.
        let idle = state.idle.saturating_sub(state.jobs.len());
        ThreadCount { busy: state.threads.saturating_sub(idle), idle }
    }

    fn start(&self) -> Result<()> {
        let shared = Arc::clone(&self.0);
        let thread = thread::Builder::new().name("engine".to_owned()).stack_size(self.0.stack_bytes);
        let started = thread.spawn(move || shared.work()).map(drop);
        started.map_err(|error| {
            let message = "the operating system refuses another thread, for want of memory (engine.process_memory_max) or of threads";
            Error::exhausted(message).with_source(error)
        })
    }
}

impl Use {
    /// Runs `work` on a thread with the share of the cores that these get; threads that it starts, as DuckDB starts its workers,
    /// get the same.
    pub(in crate::engine) fn run<T: Send>(self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let on_thread = || {
            self.enter();
            work()
        };
        thread::scope(|scope| {
            scope.spawn(on_thread).join().unwrap_or_else(|_| Err(Error::internal("a thread panicked")))
        })
    }

    fn all_busy(self, threads: usize) -> Error {
        Error::exhausted(match self {
            Self::Statements => format!(
                "{threads} statements and results are open, which is the limit (engine.open_max); try again later"
            ),
            Self::Ingests => format!(
                "{threads} ingests are being written, twice what may be open (ingest.streams_max); try again later"
            ),
        })
    }

    /// Gives the calling thread its share of the cores.
    fn enter(self) {
        // Elsewhere it would be for the whole process.
        #[cfg(target_os = "linux")]
        if self == Self::Statements
            && let Err(error) = rustix::process::setpriority_process(None, STATEMENTS_NICE)
        {
            tracing::debug!(%error, "statements get an even share of the cores");
        }
    }
}

impl State {
    /// A job is no longer counted.
    fn ended(&mut self, whom: For) {
        match whom {
            For::Caller => self.calls -= 1,
            For::Server => self.looks -= 1,
        }
    }
}

impl Shared {
    /// Nothing that panics runs under the lock, so a poisoned lock holds good data.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        self.use_for.enter();
        let mut ended = None;
        while let Some((whom, job)) = self.next(ended) {
            ended = Some(whom);
            // A panic in a job ends that job: its caller sees a closed channel, which is an internal error.
            drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)));
        }
    }

    /// The next job after one that has ended, or none after a long idle time; the thread is then no longer counted.
    fn next(&self, ended: Option<For>) -> Option<(For, Job)> {
        let mut state = self.lock();
        if let Some(whom) = ended {
            state.ended(whom);
        }
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            let (guard, timeout) = self.job_ready.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.idle -= 1;
            if timeout.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::mpsc;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn threads_are_reused_and_bounded() {
        let threads = Threads::new(Use::Statements, 2, 16 << 20);
        let (release_tx, release_rx) = mpsc::channel::<()>();
        let release_rx = Arc::new(Mutex::new(release_rx));
        let (done_tx, done_rx) = mpsc::channel();
        for _ in 0..2 {
            let (release, done) = (Arc::clone(&release_rx), done_tx.clone());
            threads
                .spawn(move || {
                    release.lock().unwrap().recv().unwrap();
                    done.send(thread::current().id()).unwrap();
                })
                .unwrap();
        }
        assert_eq!(threads.spawn(|| ()).unwrap_err().kind(), ErrorKind::ResourceExhausted);
        release_tx.send(()).unwrap();
        release_tx.send(()).unwrap();
        let used = [done_rx.recv().unwrap(), done_rx.recv().unwrap()];
        loop {
            let done = done_tx.clone();
            // The two threads become idle some time after their job's last line.
            if threads.spawn(move || done.send(thread::current().id()).unwrap()).is_ok() {
                break;
            }
            thread::yield_now();
        }
        // Two threads did three jobs; which did which is the scheduler's matter.
        let mut used = HashSet::from(used);
        used.insert(done_rx.recv().unwrap());
        assert!(used.len() <= 2, "{used:?}");
    }

    #[test]
    fn looks_are_beside_the_bound_and_bounded() {
        let threads = Threads::new(Use::Statements, 1, 16 << 20);
        let (release_tx, release_rx) = mpsc::channel::<()>();
        threads.spawn(move || assert!(release_rx.recv().is_err())).unwrap();
        assert_eq!(threads.check().unwrap_err().kind(), ErrorKind::ResourceExhausted);
        let (look_tx, look_rx) = mpsc::channel::<()>();
        threads.spawn_look(move || assert!(look_rx.recv().is_err())).unwrap();
        let (done_tx, done_rx) = mpsc::channel();
        threads.spawn_look(move || done_tx.send(()).unwrap()).unwrap();
        done_rx.recv().unwrap();
        // A thread that has done a look is idle, and no place for one call more.
        while threads.count().idle == 0 {
            thread::yield_now();
        }
        assert_eq!(threads.spawn(|| ()).unwrap_err().kind(), ErrorKind::ResourceExhausted);
        let (_held_tx, held_rx) = mpsc::channel::<()>();
        threads.spawn_look(move || assert!(held_rx.recv().is_err())).unwrap();
        assert_eq!(threads.spawn_look(|| ()).unwrap_err().kind(), ErrorKind::ResourceExhausted);
        drop((release_tx, look_tx));
        while threads.spawn(|| ()).is_err() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_panic_ends_the_job_and_not_the_pool() {
        let threads = Threads::new(Use::Ingests, 1, 16 << 20);
        threads.spawn(|| panic!("on purpose")).unwrap();
        let (done_tx, done_rx) = mpsc::channel();
        while threads
            .spawn({
                let done = done_tx.clone();
                move || done.send(()).unwrap()
            })
            .is_err()
        {
            thread::yield_now();
        }
        done_rx.recv().unwrap();
    }
}
