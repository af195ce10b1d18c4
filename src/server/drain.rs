//! The end of serving: nobody new is let in, running calls finish within the grace time, and what is left is interrupted.

use std::future::Future;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::flight::Drain;

/// How long the last answers have to reach their clients, and connections without a call to close.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Drives `served` until `stop` is ready, then ends it: `close` makes it take no connections any more, and close those without a
/// call; `tell` lets those know who send calls here.
///
/// # Errors
/// What `served` ends with before it is stopped.
pub(super) async fn serve<E>(
    served: impl Future<Output = Result<(), E>>,
    stop: impl Future<Output = ()>,
    close: oneshot::Sender<()>,
    tell: impl Future<Output = ()>,
    drain: &Drain,
    grace: Duration,
) -> Result<()>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let failed = |error: E| Error::internal("serving failed").with_source(error);
    tokio::pin!(served);
    tokio::select! {
        served = &mut served => return served.map_err(failed),
        () = stop => {}
    }
    drain.begin();
    // Load balancers look elsewhere before the port closes.
    tell.await;
    tracing::info!("stopping: {} calls have {grace:?} to finish (server.shutdown_grace)", drain.calls());
    // The receiver is a part of what is served.
    _ = close.send(());
    tokio::select! {
        served = &mut served => return served.map_err(failed),
        // A stream of gRPC's health service has no end of its own.
        () = drain.idle() => {}
        () = tokio::time::sleep(grace) => {
            let calls = drain.calls();
            tracing::warn!("{calls} calls were still running after {grace:?} (server.shutdown_grace): they are interrupted");
            drain.interrupt();
        }
    }
    match tokio::time::timeout(LAST_WORDS, served).await {
        Ok(served) => served.map_err(failed),
        // Their clients say nothing, or only watch.
        Err(_) => Ok(()),
    }
}
