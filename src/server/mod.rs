//! The server: configuration in, a running gRPC server out. [`Server::start`] opens the database and reserves the port,
//! [`Server::run`] serves until it is told to stop, drains, and closes the database.

mod location;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Instant;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic_health::server::HealthReporter;

use crate::access::Authority;
use crate::config::{Config, Environment};
use crate::engine::{Database, Engine};
use crate::error::{Error, Result};
use crate::flight::{self, Service};
pub use location::Location;

/// Bytes of HTTP/2 flow-control window: what a client may send before it has to wait for us.
const WINDOW_BYTES: u32 = 16 << 20;

/// A server with its database open and its port reserved.
#[derive(Debug)]
pub struct Server {
    config: Config,
    authority: Authority,
    engine: Engine,
    listener: TcpListener,
    address: SocketAddr,
    mode: &'static str,
    // Dropped last: what is temporary goes when the database is closed.
    _location: Location,
}

impl Server {
    /// Opens the database and reserves the port.
    ///
    /// # Errors
    /// What [`Authority::open`], [`Location::resolve`] and [`Engine::open`] say; `FailedPrecondition` when the port is in use.
    pub async fn start(config: Config, environment: &Environment) -> Result<Self> {
        let authority = Authority::open(&config, environment)?;
        crate::alloc::limit(config.engine.process_memory_max.as_u64());
        crate::backup::clean(&config.backup.directory);
        let location = Location::resolve(&config, environment)?;
        let database = Database {
            path: location.file().map(Into::into),
            temp_directory: location.temp_directory().map(Into::into),
            read_only: location.mode() == crate::config::Mode::ReadOnly,
        };
        let engine_config = config.clone();
        let opened = tokio::task::spawn_blocking(move || Engine::open(&engine_config, database)).await;
        let engine = opened.map_err(|error| Error::internal("opening the database failed").with_source(error))??;
        let listen = &config.server.listen;
        let cannot_listen = |error: std::io::Error| Error::precondition(format!("cannot listen on {listen}: {error}"));
        let listener = TcpListener::bind(listen).await.map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        Ok(Self { mode: location.mode().word(), config, authority, engine, listener, address, _location: location })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether callers are asked who they are: there are users, or an issuer of JWTs.
    pub fn has_users(&self) -> bool {
        self.authority.asks(Instant::now())
    }

    /// Where the data is, for people.
    pub fn describe(&self) -> String {
        match &self.engine.database().path {
            Some(path) => format!("{} database {}", self.mode, path.display()),
            None => "database in memory".to_owned(),
        }
    }

    /// Serves until `stop` is ready; then running calls may finish within the grace time, and the database is closed.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let Self { config, authority, engine, listener, mode, _location: location, .. } = self;
        let (health, routes) = services(&engine, &config, authority, mode).await?;
        let settings = &config.server;
        // Without it every small answer waits 40 ms for the client's delayed acknowledgement.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let (stopping_tx, stopping) = tokio::sync::oneshot::channel();
        let stop = async move {
            stop.await;
            // Load balancers look elsewhere before the port closes.
            health.set_not_serving::<FlightServiceServer<Service>>().await;
            // Nobody waits any more when serving has failed.
            let _ = stopping_tx.send(());
        };
        let served = tonic::transport::Server::builder()
            .initial_connection_window_size(WINDOW_BYTES)
            .initial_stream_window_size(WINDOW_BYTES)
            .max_concurrent_streams(settings.calls_per_connection_max)
            .http2_max_header_list_size(u32::try_from(settings.header_bytes_max.as_u64()).unwrap_or(u32::MAX))
            .http2_keepalive_interval(Some(settings.keepalive_interval))
            .http2_keepalive_timeout(Some(settings.keepalive_timeout))
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, stop);
        let grace = settings.shutdown_grace;
        let overdue = async {
            match stopping.await {
                Ok(()) => tokio::time::sleep(grace).await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            served = served => served.map_err(|error| Error::internal("serving failed").with_source(error))?,
            () = engine.lost() => {
                let message = "the database is lost for this process, which ends: start another";
                return Err(Error::new(crate::error::ErrorKind::Unavailable, message));
            }
            () = overdue => tracing::warn!("calls were still running after {grace:?} (server.shutdown_grace): they are interrupted"),
        }
        if let Err(error) = engine.stop().await {
            // Nothing is lost: the write-ahead log has it, and the next start reads it.
            tracing::warn!(%error, "the database was closed without a checkpoint");
        }
        drop(engine);
        // What is temporary goes when the database is closed.
        drop(location);
        tracing::info!("stopped");
        Ok(())
    }
}

async fn services(
    engine: &Engine,
    config: &Config,
    authority: Authority,
    mode: &'static str,
) -> Result<(HealthReporter, Routes)> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let service = Service::new(engine.clone(), config, mode);
    health.set_serving::<FlightServiceServer<Service>>().await;
    let descriptors = flight::descriptors();
    let reflection = descriptors
        .iter()
        .fold(tonic_reflection::server::Builder::configure(), |builder, set| {
            builder.register_encoded_file_descriptor_set(set)
        })
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| Error::internal("cannot describe the services").with_source(error))?;
    let routes = Routes::new(service.into_server(authority)).add_service(health_service).add_service(reflection);
    Ok((health, routes))
}
