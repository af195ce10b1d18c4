//! Every call as it is seen from outside: its id, its span, its metrics and its line in the access log; and the end of calls when
//! the server stops.
//!
//! The layer is around everything else of the service, so that it sees calls that are refused, and the status at the end of a
//! stream, wherever it stands: in the headers of an answer without a body, or in its trailers.

mod answer;
mod log;
mod meters;
mod record;

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tower::Service;
use tracing::Instrument;

use super::drain::Drain;
use super::status;
use crate::error::{Error, ErrorKind};
use answer::Answer;
pub(super) use log::AccessLog;
pub(super) use meters::{IngestTally, count_rows_sent};
use record::{Observation, Record};
pub(super) use record::{peer, request_id, set_user, spawn};

/// A service whose calls are observed.
#[derive(Clone)]
pub struct Observed<S> {
    inner: S,
    drain: Drain,
    log: Arc<AccessLog>,
}

impl<S> std::fmt::Debug for Observed<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observed").finish_non_exhaustive()
    }
}

impl<S> Observed<S> {
    pub(super) fn new(inner: S, drain: Drain, log: Arc<AccessLog>) -> Self {
        Self { inner, drain, log }
    }
}

impl<S: NamedService> NamedService for Observed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Observed<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = Observation::begin(&request, Arc::clone(&self.log), self.drain.enter());
        if self.drain.has_begun() {
            return std::future::ready(Ok(Answer::refused(call, &stopping()))).boxed();
        }
        let interrupted = call.interrupted();
        let answer = call.scope(|| self.inner.call(request));
        let answer = Record::around(call.record(), answer).instrument(call.span().clone());
        async move {
            tokio::select! {
                biased;
                answer = answer => Ok(Answer::observed(call, answer?)),
                () = interrupted => Ok(Answer::refused(call, &stopping())),
            }
        }
        .boxed()
    }
}

/// The status of a call that the server's end does not let begin, or go on.
fn stopping() -> tonic::Status {
    status::from_error(Error::new(ErrorKind::Unavailable, "the server is stopping: try again, at another one or later"))
}
