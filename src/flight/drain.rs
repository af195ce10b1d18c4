//! The end of the service: new calls are refused, those under way are waited for, and what is left is interrupted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Whether calls may begin and go on; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Drain(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    refuse: CancellationToken,
    interrupt: CancellationToken,
    calls: AtomicUsize,
    ended: Notify,
}

/// A call under way.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Inner>);

impl Drain {
    /// Refuses calls from here on.
    pub fn begin(&self) {
        self.0.refuse.cancel();
    }

    /// Whether calls are refused.
    pub fn has_begun(&self) -> bool {
        self.0.refuse.is_cancelled()
    }

    /// Ends the calls that are under way; each is answered.
    pub fn interrupt(&self) {
        self.0.interrupt.cancel();
    }

    /// Calls under way.
    pub fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Acquire)
    }

    /// Waits until no call is under way.
    pub async fn idle(&self) {
        loop {
            let ended = self.0.ended.notified();
            tokio::pin!(ended);
            // From here on it misses no call that ends.
            ended.as_mut().enable();
            if self.calls() == 0 {
                return;
            }
            ended.await;
        }
    }

    /// A call begins.
    pub(super) fn enter(&self) -> UnderWay {
        self.0.calls.fetch_add(1, Ordering::AcqRel);
        UnderWay(Arc::clone(&self.0))
    }
}

impl UnderWay {
    /// Ready when the call is to end.
    pub(super) fn interrupted(&self) -> WaitForCancellationFutureOwned {
        self.0.interrupt.clone().cancelled_owned()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_call_that_ends_is_noticed() {
        let drain = Drain::default();
        drain.idle().await;
        let (one, other) = (drain.enter(), drain.enter());
        drain.begin();
        assert!(drain.has_begun() && drain.calls() == 2);
        let waits = tokio::spawn({
            let drain = drain.clone();
            async move { drain.idle().await }
        });
        drop(one);
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(other);
        waits.await.unwrap();
        let interrupted = drain.enter().interrupted();
        drain.interrupt();
        interrupted.await;
    }
}
