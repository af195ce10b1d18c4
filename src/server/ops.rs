//! The operations port: `/healthz`, `/readyz` and `/metrics` over plain HTTP/1.1, for the operator's network. What it says holds no
//! data and no secrets; what asking costs is bounded.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::gauges::Gauges;
use super::readiness::Readiness;
use crate::config;
use crate::error::{Error, Result};

/// The time of one connection, which has one request.
const CONNECTION_MAX: Duration = Duration::from_secs(15);
/// The time in which its headers have to come.
const HEADERS_MAX: Duration = Duration::from_secs(5);
/// Bytes of its headers; hyper wants as many at least.
const HEADER_BYTES_MAX: usize = 8192;

/// The port, reserved.
#[derive(Debug)]
pub(super) struct Port {
    listener: TcpListener,
    connections_max: usize,
}

impl Port {
    /// Reserves the port, if there is to be one.
    ///
    /// # Errors
    /// `FailedPrecondition` when it is in use.
    pub(super) async fn bind(config: &config::Ops) -> Result<Option<Self>> {
        let listen = &config.listen;
        if listen.is_empty() {
            return Ok(None);
        }
        let cannot =
            |error: std::io::Error| Error::precondition(format!("cannot listen on {listen} (ops.listen): {error}"));
        let listener = TcpListener::bind(listen).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        tracing::info!("operations on http://{address}: /healthz, /readyz, /metrics");
        Ok(Some(Self { listener, connections_max: config.connections_max }))
    }

    /// Answers, until it is dropped.
    pub(super) async fn serve(self, readiness: Readiness, gauges: Gauges) {
        let shown = Arc::new(Shown { readiness, gauges });
        let connections = Arc::new(Semaphore::new(self.connections_max));
        // A connection ends with the server.
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let shown = Arc::clone(&shown);
                    tasks.spawn(async move {
                        if tokio::time::timeout(CONNECTION_MAX, answer(stream, shown)).await.is_err() {
                            tracing::debug!("a connection to the operations port took too long");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the operations port");
                    // Out of descriptors, perhaps: not at full speed.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// What the port shows.
struct Shown {
    readiness: Readiness,
    gauges: Gauges,
}

async fn answer(stream: TcpStream, shown: Arc<Shown>) {
    let service = service_fn(move |request| {
        let shown = Arc::clone(&shown);
        async move { Ok::<_, Infallible>(shown.respond(&request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        // One request a connection: nobody keeps one that others wait for.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection to the operations port broke off");
    }
}

/// What `/healthz` and `/readyz` say.
#[derive(Serialize)]
struct State {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Shown {
    async fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let mut response = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/healthz") => state(self.readiness.alive(), "ok", "failing"),
            (&Method::GET | &Method::HEAD, "/readyz") => state(self.readiness.ready(), "ready", "not ready"),
            (&Method::GET | &Method::HEAD, "/metrics") => text(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                self.gauges.render(&self.readiness).await,
            ),
            (_, "/healthz" | "/readyz" | "/metrics") => {
                let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned());
                response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
                response
            }
            _ => text(StatusCode::NOT_FOUND, "text/plain", "there are /healthz, /readyz and /metrics\n".to_owned()),
        };
        response.headers_mut().insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
        response
    }
}

fn state(state: Result<(), String>, good: &'static str, bad: &'static str) -> Response<Full<Bytes>> {
    let (code, state) = match state {
        Ok(()) => (StatusCode::OK, State { status: good, reason: None }),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, State { status: bad, reason: Some(reason) }),
    };
    text(code, "application/json", serde_json::to_string(&state).unwrap_or_default() + "\n")
}

fn text(code: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}
