//! The open port: takes connections in, as many as there is place for, and hands on those whose client has spoken. No client can
//! keep others from being heard: each new connection is heard on a task of its own, in its own time, and when too many say nothing the oldest goes.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::Stream;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::connection::Connection;
use super::tls::Tls;
use crate::config;
use crate::error::{Error, Result};

/// Time between two tries to take a connection in when the system has no means for it.
const RETRY: Duration = Duration::from_millis(50);
/// Lines of the log about connections that failed come at most so often, of each sort.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// File descriptors that the server needs beside those of its connections: the database, and what statements write to disk.
const OTHER_DESCRIPTORS: u64 = 512;

/// The addresses that the configuration names, at least one.
pub(super) async fn resolve(listen: &str) -> Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = tokio::net::lookup_host(listen).await.map_err(|error| refused(listen, error))?.collect();
    if addresses.is_empty() { Err(refused(listen, io::ErrorKind::AddrNotAvailable.into())) } else { Ok(addresses) }
}

fn refused(listen: &str, error: io::Error) -> Error {
    Error::precondition(format!("cannot listen on {listen}: {error}")).with_source(error)
}

/// The open port.
#[derive(Debug)]
pub(super) struct Listener {
    port: TcpListener,
    tls: Option<Tls>,
    places: Arc<Semaphore>,
    /// The connections that have not yet spoken, and how to end them, from the oldest; some of those may have ended.
    opening: JoinSet<Result<Connection, (SocketAddr, io::Error)>>,
    oldest: VecDeque<AbortHandle>,
    settings: config::Server,
    logs: Logs,
}

/// What is logged at most so often.
#[derive(Debug, Default)]
struct Logs {
    full: Throttle,
    silent: Throttle,
    strange: Throttle,
    failed: Throttle,
}

impl Listener {
    /// Opens the port on the first of `addresses` that can be had.
    pub(super) async fn open(settings: &config::Server, addresses: &[SocketAddr], tls: Option<Tls>) -> Result<Self> {
        let port = TcpListener::bind(addresses).await.map_err(|error| refused(&settings.listen, error))?;
        Ok(Self {
            port,
            tls,
            places: Arc::new(Semaphore::new(settings.connections_max)),
            opening: JoinSet::new(),
            oldest: VecDeque::new(),
            settings: settings.clone(),
            logs: Logs::default(),
        })
    }

    /// The address that it listens on.
    pub(super) fn address(&self) -> Result<SocketAddr> {
        self.port.local_addr().map_err(|error| refused(&self.settings.listen, error))
    }

    /// The connections whose clients have spoken. Dropping the stream closes the port, and the connections that are not in it.
    pub(super) fn into_stream(self) -> impl Stream<Item = io::Result<Connection>> + Send {
        futures::stream::unfold(self, |mut listener| async move {
            let connection = listener.next().await;
            Some((Ok(connection), listener))
        })
    }

    async fn next(&mut self) -> Connection {
        loop {
            tokio::select! {
                Some(opened) = self.opening.join_next() => match opened {
                    Ok(Ok(connection)) => return connection,
                    Ok(Err((address, error))) => self.logs.failed(address, &error),
                    // It was made to go.
                    Err(_) => {}
                },
                (stream, address) = accept(&self.port, &mut self.logs.failed) => self.hear(stream, address),
            }
        }
    }

    /// Hears what a new connection says, on a task of its own.
    fn hear(&mut self, stream: TcpStream, address: SocketAddr) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let max = self.settings.connections_max;
            self.logs.full.pass(|more| {
                tracing::warn!(%address, more, "a connection was closed: {max} are open (server.connections_max)");
            });
            return;
        };
        self.make_room();
        let (time, config) = (self.settings.handshake_timeout, self.tls.as_ref().map(Tls::config));
        let handle = self.opening.spawn(async move {
            match tokio::time::timeout(time, Connection::open(stream, address, config, place)).await {
                Ok(opened) => opened.map_err(|error| (address, error)),
                Err(_) => Err((address, io::ErrorKind::TimedOut.into())),
            }
        });
        self.oldest.push_back(handle);
    }

    /// Ends the oldest of the connections that have not spoken, if there are too many.
    fn make_room(&mut self) {
        let max = self.settings.handshakes_max;
        if self.oldest.len() >= max {
            self.oldest.retain(|handle| !handle.is_finished());
        }
        while self.oldest.len() >= max {
            let Some(oldest) = self.oldest.pop_front() else { return };
            oldest.abort();
            self.logs.silent.pass(|more| {
                tracing::warn!(
                    more,
                    "a new connection was closed: {max} younger ones have not spoken (server.handshakes_max)"
                );
            });
        }
    }
}

/// The next connection. What the system has against it is never the end: connections break before they are taken, and file
/// descriptors are closed some time.
async fn accept(port: &TcpListener, log: &mut Throttle) -> (TcpStream, SocketAddr) {
    loop {
        match port.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                log.pass(|more| tracing::warn!(%error, more, "cannot take a connection in"));
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

impl Logs {
    fn failed(&mut self, address: SocketAddr, error: &io::Error) {
        // What a stranger says may be a mistake in somebody's configuration; who says nothing looks whether the port is open.
        if error.kind() == io::ErrorKind::InvalidData {
            self.strange.pass(|more| tracing::info!(%address, %error, more, "a new connection failed"));
        } else {
            tracing::debug!(%address, %error, "a new connection failed");
        }
    }
}

/// Lets an event through at most every so often, and counts those between.
#[derive(Debug, Default)]
struct Throttle {
    last: Option<Instant>,
    held_back: u64,
}

impl Throttle {
    /// Calls `log` with the number of events that were held back, or holds this one back.
    fn pass(&mut self, log: impl FnOnce(u64)) {
        if self.last.is_some_and(|last| last.elapsed() < LOG_INTERVAL) {
            self.held_back += 1;
            return;
        }
        self.last = Some(Instant::now());
        log(std::mem::take(&mut self.held_back));
    }
}

/// Lets the process have as many file descriptors as the system allows it, which by itself it has not; says so when they are
/// too few for `connections_max`.
pub(super) fn raise_descriptor_limit(connections_max: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of file descriptors");
            limit.current
        }
    };
    let wanted = connections_max as u64 + OTHER_DESCRIPTORS;
    if current.is_some_and(|current| current < wanted) {
        let current = current.unwrap_or_default();
        tracing::warn!(
            "the system allows {current} file descriptors: too few for {connections_max} connections (server.connections_max)"
        );
    }
}

#[cfg(test)]
mod tests;
