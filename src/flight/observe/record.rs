//! One call: who, what, since when, and what came of it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::task::futures::TaskLocalFuture;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::AbortOnDropHandle;
use tonic::codegen::http::{Extensions, HeaderMap, HeaderValue, Request};
use tonic::transport::server::TcpConnectInfo;
use tracing::{Instrument, Span};
use uuid::Uuid;

use super::super::drain::UnderWay;
use super::log::AccessLog;
use super::meters::{self, Method};
use crate::telemetry::traces;

/// The header that has a call's id: of the client's choice on its way in, on every answer on its way out.
pub(super) const ID_HEADER: &str = "x-request-id";

/// Characters of an id that a client chooses.
const ID_MAX: usize = 64;

tokio::task_local! {
    /// The call whose work is being done.
    static CALL: Arc<Record>;
}

/// What is known of a call.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) id: Box<str>,
    pub(super) method: Method,
    pub(super) peer: Option<SocketAddr>,
    pub(super) user: OnceLock<Arc<str>>,
    pub(super) bytes_out: AtomicU64,
    began: Instant,
}

impl Record {
    fn new<T>(request: &Request<T>) -> Self {
        Self {
            id: id(request.headers()),
            method: Method::of_path(request.uri().path()),
            peer: peer(request.extensions()),
            user: OnceLock::new(),
            bytes_out: AtomicU64::new(0),
            began: Instant::now(),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// `work` as a part of the call.
    pub(super) fn around<F: Future>(record: &Arc<Self>, work: F) -> TaskLocalFuture<Arc<Self>, F> {
        CALL.scope(Arc::clone(record), work)
    }

    /// Work of the call that does not wait.
    pub(super) fn within<T>(record: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        CALL.sync_scope(Arc::clone(record), work)
    }
}

/// The id of the call whose work is being done, if it is one's.
pub(in crate::flight) fn request_id() -> Option<String> {
    CALL.try_with(|record| record.id.to_string()).ok()
}

/// Runs `work` of the present call beside its answer, whether that is read or not; it ends when what this answers is dropped.
pub(in crate::flight) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    let work = work.instrument(Span::current());
    AbortOnDropHandle::new(match CALL.try_with(Arc::clone) {
        Ok(record) => tokio::spawn(Record::around(&record, work)),
        // Tests call services without the layer.
        Err(_) => tokio::spawn(work),
    })
}

/// Notes who calls.
pub(in crate::flight) fn set_user(name: &Arc<str>) {
    // Tests call services without the layer; a call has one user.
    drop(CALL.try_with(|record| record.user.set(Arc::clone(name))));
}

/// A call under observation, until it is dropped. One that was not said to have ended was left by its client.
#[derive(Debug)]
pub(super) struct Observation {
    record: Arc<Record>,
    span: Span,
    log: Arc<AccessLog>,
    code: Option<usize>,
    under_way: UnderWay,
}

impl Observation {
    pub(super) fn begin<T>(request: &Request<T>, log: Arc<AccessLog>, under_way: UnderWay) -> Self {
        let record = Arc::new(Record::new(request));
        // At the level of errors, so that a log of nothing but errors has the ids of their calls.
        let span = tracing::error_span!("call", request_id = &*record.id, method = record.method.name());
        if let Some(parent) = request.headers().get(traces::PARENT_HEADER).and_then(|value| value.to_str().ok()) {
            traces::adopt(&span, parent);
        }
        meters::begin(record.method);
        Self { record, span, log, code: None, under_way }
    }

    pub(super) fn record(&self) -> &Arc<Record> {
        &self.record
    }

    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Work of the call that does not wait, in its span.
    pub(super) fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        Record::within(&self.record, || self.span.in_scope(work))
    }

    /// Ready when the server interrupts it.
    pub(super) fn interrupted(&self) -> WaitForCancellationFutureOwned {
        self.under_way.interrupted()
    }

    /// Notes bytes of the answer.
    pub(super) fn sent(&self, bytes: usize) {
        self.record.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
        meters::sent(self.record.method, bytes);
    }

    /// Puts the call's id among the headers, or trailers, of its answer.
    pub(super) fn mark(&self, headers: &mut HeaderMap) {
        if let Ok(id) = HeaderValue::from_str(&self.record.id) {
            headers.insert(ID_HEADER, id);
        }
    }

    /// Notes the number of the gRPC code that it ended with.
    pub(super) fn ended(&mut self, code: usize) {
        self.code = Some(code);
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(super::super::status::CANCELLED);
        meters::end(self.record.method, code, self.record.elapsed());
        self.span.in_scope(|| self.log.write(&self.record, super::super::status::word(code)));
    }
}

/// The client's id, if it is one that can stand in a log, else a new one.
fn id(headers: &HeaderMap) -> Box<str> {
    let is_plain = |id: &&str| {
        (1..=ID_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    let given = headers.get(ID_HEADER).and_then(|value| value.to_str().ok()).filter(is_plain);
    given.map_or_else(|| Uuid::now_v7().to_string().into(), Into::into)
}

/// Where a call comes from.
pub(in crate::flight) fn peer(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_s_id_is_kept_if_it_is_plain() {
        let of = |value: &str| id(&HeaderMap::from_iter([(ID_HEADER.parse().unwrap(), value.parse().unwrap())]));
        for good in ["a", "A-1_b.c", &"x".repeat(64)] {
            assert_eq!(&*of(good), good);
        }
        for bad in ["", "a b", "a\"b", "a;b", "ü", &"x".repeat(65)] {
            assert_eq!(Uuid::parse_str(&of(bad)).unwrap().get_version_num(), 7, "{bad}");
        }
    }

    #[test]
    fn work_of_a_call_knows_it() {
        assert_eq!(request_id(), None);
        let request = Request::builder().header(ID_HEADER, "mine").body(()).unwrap();
        let record = Arc::new(Record::new(&request));
        Record::within(&record, || {
            assert_eq!(request_id().as_deref(), Some("mine"));
            set_user(&"ada".into());
        });
        assert_eq!(record.user.get().map(|user| &**user), Some("ada"));
    }
}
