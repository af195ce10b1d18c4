//! The server: configuration in, a running gRPC server out. [`Server::start`] opens the database and reserves the port,
//! [`Server::run`] serves until it is told to stop, drains, and closes the database.

mod connection;
mod drain;
pub mod exposure;
mod gauges;
mod listener;
mod location;
mod ops;
mod readiness;
mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Instant;

use bytesize::ByteSize;
use futures::FutureExt;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;
use tower::util::MapRequestLayer;

use crate::access::Authority;
use crate::config::{Config, Environment};
use crate::engine::{Database, Engine};
use crate::error::{Error, Result};
use crate::flight::{self, Service};
use crate::telemetry::instruments;
use connection::Peer;
use gauges::Gauges;
use listener::Listener;
pub use location::Location;
use ops::Port;
use readiness::Readiness;
pub use tls::Identity;
use tls::Tls;

/// Bytes of HTTP/2's flow-control windows: what a client may send before it has to wait for us. A call that is not read, because it
/// waits for room, fills its own window only, and others on the connection go on.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

/// Who gives DuckDB less than this has no memory to spare for the allocator.
const MEMORY_SCARCE: ByteSize = ByteSize::gib(1);

/// A server with its database open and its port reserved.
#[derive(Debug)]
pub struct Server {
    config: Config,
    authority: Authority,
    engine: Engine,
    listener: Listener,
    address: SocketAddr,
    identity: Option<Identity>,
    mode: &'static str,
    port: Option<Port>,
    // Dropped last: what is temporary goes when the database is closed.
    _location: Location,
}

impl Server {
    /// Opens the database and reserves the port.
    ///
    /// # Errors
    /// What [`Authority::open`], [`exposure::check`], [`Location::resolve`] and [`Engine::open`] say; `FailedPrecondition` when a
    /// port is in use, `InvalidArgument` for files of TLS that cannot be used.
    pub async fn start(config: Config, environment: &Environment) -> Result<Self> {
        let authority = Authority::open(&config, environment)?;
        let addresses = listener::resolve(&config.server.listen).await?;
        let exposures = exposure::check_all(&config, authority.asks(Instant::now()), &addresses)?;
        listener::raise_descriptor_limit(config.server.connections_max);
        crate::alloc::limit(config.engine.process_memory_max.as_u64());
        if config.engine.memory_limit < MEMORY_SCARCE {
            crate::alloc::give_back_soon();
        }
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
        let tls = Tls::start(&config, location.certificates_beside(), environment, &addresses)?;
        let identity = tls.as_ref().map(|tls| tls.identity().clone());
        let listener = Listener::open(&config.server, &addresses, tls).await?;
        let (address, port) = (listener.address()?, Port::bind(&config.ops).await?);
        exposures.log();
        let mode = location.mode().word();
        Ok(Self { config, authority, engine, listener, address, identity, mode, port, _location: location })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its certificate is; none without TLS.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
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
        let Self { config, authority, engine, listener, mode, port, _location: location, .. } = self;
        let metrics = instruments::install()?;
        let service = Service::new(engine.clone(), &config, mode);
        let drain = service.drain();
        let readiness = Readiness::new(drain.clone(), config.ops.probe_timeout);
        let gauges = Gauges::new(metrics, engine.clone(), service.clone(), config.engine.memory_limit);
        let (health, routes) = services(service, authority)?;
        readiness.look(&engine, &mut None).await;
        readiness.tell(&health).await;
        let watching = watch(&engine, &readiness, &health, &gauges, port);
        let settings = &config.server;
        let (close, closed) = tokio::sync::oneshot::channel();
        let served = tonic::transport::Server::builder()
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .max_concurrent_streams(settings.calls_per_connection_max)
            .http2_max_header_list_size(u32::try_from(settings.header_bytes_max.as_u64()).unwrap_or(u32::MAX))
            .http2_keepalive_interval(Some(settings.keepalive_interval))
            .http2_keepalive_timeout(Some(settings.keepalive_timeout))
            .layer(MapRequestLayer::new(Peer::introduce::<Body>))
            .add_routes(routes)
            .serve_with_incoming_shutdown(listener.into_stream(), closed.map(drop));
        tokio::select! {
            served = drain::serve(served, stop, close, readiness.tell(&health), &drain, settings.shutdown_grace) => served?,
            () = engine.lost() => {
                let message = "the database is lost for this process, which ends: start another";
                return Err(Error::new(crate::error::ErrorKind::Unavailable, message));
            }
        }
        if let Err(error) = engine.stop().await {
            // Nothing is lost: the write-ahead log has it, and the next start reads it.
            tracing::warn!(%error, "the database was closed without a checkpoint");
        }
        drop(watching);
        drop(engine);
        // What is temporary goes when the database is closed.
        drop(location);
        tracing::info!("stopped");
        Ok(())
    }
}

/// Starts what looks at the server while it serves; it ends when the answer is dropped.
fn watch(
    engine: &Engine,
    readiness: &Readiness,
    health: &HealthReporter,
    gauges: &Gauges,
    port: Option<Port>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (engine, health, watched) = (engine.clone(), health.clone(), readiness.clone());
    tasks.spawn(async move { watched.watch(&engine, &health).await });
    let counted = gauges.clone();
    tasks.spawn(async move { counted.upkeep().await });
    if let Some(port) = port {
        tasks.spawn(port.serve(readiness.clone(), gauges.clone()));
    }
    tasks
}

fn services(service: Service, authority: Authority) -> Result<(HealthReporter, Routes)> {
    let (health, health_service) = tonic_health::server::health_reporter();
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
