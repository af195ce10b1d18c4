//! `merganser serve`: a server until ctrl-c or SIGTERM.

use tokio::signal::unix::{SignalKind, signal};

use super::output;
use crate::config::{Config, ConfigFlags, Environment};
use crate::error::{Error, Result};
use crate::server::Server;
use crate::telemetry;

/// Serve a database
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFlags,
}

/// Runs the server; the first line on stdout is its address, the second tells how to connect.
pub(super) async fn run(args: Args) -> Result<()> {
    let environment = Environment::of_process();
    let loaded = Config::load(&args.config, &environment)?;
    if args.config.print_config {
        return output::print(loaded.print().trim_end());
    }
    let traces = telemetry::init(&loaded.config)?;
    let server = Server::start(loaded.config, &environment).await?;
    let stop = stop_signal()?;
    tracing::info!("serving the {}", server.describe());
    if !server.has_users() && !server.address().ip().is_loopback() {
        tracing::warn!("there are no users: whoever reaches {} may read and change everything", server.address());
    }
    let uri = uri(&server);
    output::print(&format!("listening on {uri}\n{}", connect_line(&uri)))?;
    let ended = server.run(stop).await;
    traces.stop().await;
    ended
}

/// The address that clients use.
pub(super) fn uri(server: &Server) -> String {
    format!("grpc://{}", server.address())
}

/// A line to copy for connecting.
pub(super) fn connect_line(uri: &str) -> String {
    format!(
        "connect: adbc_driver_flightsql.dbapi.connect({uri:?}, autocommit=True) or merganser query --server {uri} \"SELECT 1\""
    )
}

/// Ready on ctrl-c or SIGTERM. A second one ends the process at once, as `kill -9` would: what was acknowledged is on the disk.
pub(super) fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static> {
    let cannot = |error| Error::internal("cannot listen to signals").with_source(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(async move {
        next().await;
        tokio::spawn(async move {
            next().await;
            tracing::warn!("a second signal: the process ends at once");
            // exit() would take down what DuckDB's threads still use.
            let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            if let Err(error) = killed {
                tracing::error!(%error, "the process cannot end itself");
            }
        });
    })
}
