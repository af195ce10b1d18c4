//! Where the shell's questions to the server run, and how ctrl-c ends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Error, Result};

/// What a shell says of a program that ctrl-c has ended.
const INTERRUPTED: i32 = 130;

/// A runtime, with ctrl-c.
#[derive(Debug)]
pub(super) struct Runner {
    runtime: Runtime,
    is_busy: Arc<AtomicBool>,
}

impl Runner {
    /// In a script, ctrl-c ends the program between two statements, too; a person at the prompt stays.
    pub(super) fn new(is_interactive: bool) -> Result<Self> {
        let runtime = crate::cli::runtime()?;
        let is_busy = Arc::new(AtomicBool::new(false));
        if !is_interactive {
            let busy = Arc::clone(&is_busy);
            runtime.spawn(async move {
                let Ok(mut interrupts) = interrupts() else { return };
                while interrupts.recv().await.is_some() {
                    if !busy.load(Ordering::Relaxed) {
                        std::process::exit(INTERRUPTED);
                    }
                }
            });
        }
        Ok(Self { runtime, is_busy })
    }

    pub(super) fn handle(&self) -> Handle {
        self.runtime.handle().clone()
    }

    /// What `work` comes to, unless ctrl-c is pressed: then it is dropped, which cancels it at the server, too.
    pub(super) fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.is_busy.store(true, Ordering::Relaxed);
        let done = self.runtime.block_on(async {
            let mut interrupts = interrupts()?;
            tokio::select! {
                biased;
                done = work => done,
                _ = interrupts.recv() => Err(Error::cancelled("cancelled")),
            }
        });
        self.is_busy.store(false, Ordering::Relaxed);
        done
    }

    /// Runs the last thing, which may not take long.
    pub(super) fn end(self, work: impl Future<Output = ()>, wait_max: Duration) {
        // It may be too late for it.
        drop(self.runtime.block_on(async { tokio::time::timeout(wait_max, work).await }));
        self.runtime.shutdown_background();
    }
}

fn interrupts() -> Result<Signal> {
    signal(SignalKind::interrupt()).map_err(|error| Error::internal("cannot listen to signals").with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_ends_by_itself_or_with_the_program() {
        let runner = Runner::new(true).unwrap();
        assert_eq!(runner.run(async { Ok(7) }).unwrap(), 7);
        assert_eq!(runner.run::<()>(async { Err(Error::invalid("no")) }).unwrap_err().message(), "no");
        runner.end(std::future::pending(), Duration::from_millis(10));
    }
}
