//! Ctrl-c and SIGTERM for commands that have something to put in order first: their work is dropped, and they end as failed.

use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Result};

/// Waits for ctrl-c or SIGTERM.
pub(super) async fn interrupted() {
    // Where a signal cannot be listened to, it ends the process as ever.
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        _ => std::future::pending().await,
    }
}

/// What `work` comes to, unless it is interrupted: then it is dropped.
pub(super) async fn unless_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        done = work => done,
        () = interrupted() => Err(Error::cancelled("interrupted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_ends_is_not_interrupted() {
        assert_eq!(unless_interrupted(async { Ok(7) }).await.unwrap(), 7);
        let error = unless_interrupted::<()>(async { Err(Error::invalid("bad")) }).await.unwrap_err();
        assert_eq!(error.message(), "bad");
    }
}
