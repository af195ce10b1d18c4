//! `merganser serve`: a server until ctrl-c or SIGTERM.

use std::net::SocketAddr;

use tokio::signal::unix::{SignalKind, signal};

use super::output;
use crate::config::{Config, ConfigFlags, Environment};
use crate::error::{Error, Result};
use crate::server::{Identity, Server};
use crate::telemetry;

/// Serve a database
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    merganser serve\n  \
    merganser serve events.duckdb --listen 127.0.0.1:9000\n  \
    merganser serve --ephemeral\n  \
    merganser serve --tls-self-signed --set log.filter=warn")]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFlags,
    /// Stop when stdin ends too: for a program that starts a server of its own, which must not outlive it
    #[arg(long)]
    stop_with_stdin: bool,
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
    let stop = stop_signal(args.stop_with_stdin)?;
    tracing::info!("serving the {}", server.describe());
    let line = connect_line(server.address(), server.identity());
    output::print(&format!("listening on {}\n{line}", uri(&server)))?;
    let ended = Box::pin(server.run(stop)).await;
    traces.stop().await;
    ended
}

/// The address that clients use.
pub(super) fn uri(server: &Server) -> String {
    uri_of(server.address(), server.identity())
}

fn uri_of(address: SocketAddr, identity: Option<&Identity>) -> String {
    let scheme = if identity.is_some() { "grpc+tls" } else { "grpc" };
    format!("{scheme}://{address}")
}

/// A line to copy for connecting, on this machine at least.
fn connect_line(address: SocketAddr, identity: Option<&Identity>) -> String {
    let mut uri = uri_of(address, identity);
    if address.ip().is_unspecified() {
        // No certificate is for an address that stands for all.
        uri = uri.replace(&address.to_string(), &format!("localhost:{}", address.port()));
    }
    let (mut trust, mut pin) = (String::new(), String::new());
    if let Some(Identity { fingerprint, self_signed: Some(file) }) = identity {
        let file = file.to_string_lossy();
        trust = format!("db_kwargs={{\"adbc.flight.sql.client_option.tls_root_certs\": open({file:?}).read()}}, ");
        pin = format!("--tls-fingerprint {fingerprint} ");
    }
    format!(
        "connect: adbc_driver_flightsql.dbapi.connect({uri:?}, {trust}autocommit=True) or merganser query --server {uri} {pin}\"SELECT 1\""
    )
}

/// Ready on ctrl-c or SIGTERM, and at the end of stdin if that counts. A second signal ends the process at once, as `kill -9` would:
/// what was acknowledged is on the disk.
pub(super) fn stop_signal(with_stdin: bool) -> Result<impl Future<Output = ()> + Send + 'static> {
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
        tokio::select! {
            () = next() => {}
            () = stdin_ends(), if with_stdin => tracing::info!("stdin has ended"),
        }
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

/// Ready when nothing more can come on stdin: whoever holds its other end has closed it, or is gone.
async fn stdin_ends() {
    if let Err(error) = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await {
        tracing::warn!(%error, "stdin cannot be read");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_copy_connects() {
        let line = |address: &str, identity: Option<&Identity>| connect_line(address.parse().unwrap(), identity);
        assert_eq!(
            line("127.0.0.1:8815", None),
            "connect: adbc_driver_flightsql.dbapi.connect(\"grpc://127.0.0.1:8815\", autocommit=True) \
             or merganser query --server grpc://127.0.0.1:8815 \"SELECT 1\""
        );
        let signed = Identity { fingerprint: "ab".to_owned(), self_signed: None };
        assert!(line("[::]:1", Some(&signed)).contains("--server grpc+tls://localhost:1 \"SELECT 1\""));
        let own = Identity { self_signed: Some("/a/b.pem".into()), ..signed.clone() };
        let line = line("[::1]:1", Some(&own));
        assert!(line.contains("(\"grpc+tls://[::1]:1\", db_kwargs={\"adbc.flight.sql.client_option.tls_root_certs\": open(\"/a/b.pem\").read()}, "));
        assert!(line.ends_with("--server grpc+tls://[::1]:1 --tls-fingerprint ab \"SELECT 1\""));
    }
}
