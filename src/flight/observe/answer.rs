//! The answer of an observed call: its body, watched until its end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Response};

use super::super::status;
use super::record::Observation;

/// A body that is watched; the call ends with it.
pub(super) struct Answer {
    /// None: it has ended.
    inner: Option<Body>,
    /// None: it has ended, and is counted.
    call: Option<Observation>,
    /// Ready when the server interrupts it; none: it has not waited yet.
    interrupted: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Answer {
    /// The answer of a call that is not let go on.
    pub(super) fn refused(mut call: Observation, status: &Status) -> Response<Body> {
        let mut response = status.clone().into_http();
        call.mark(response.headers_mut());
        call.ended(status::number(status));
        response
    }

    /// The same answer, watched.
    pub(super) fn observed(mut call: Observation, mut response: Response<Body>) -> Response<Body> {
        call.mark(response.headers_mut());
        if let Some(code) = status::of_headers(response.headers()) {
            // Its headers are all there is.
            call.ended(code);
            return response;
        }
        response.map(|body| Body::new(Self { inner: Some(body), call: Some(call), interrupted: None }))
    }

    /// Ends it with a status of ours; what was to come is dropped, and the work for it with it.
    fn interrupt(&mut self) -> Result<Frame<Bytes>, Status> {
        self.inner = None;
        let Some(mut call) = self.call.take() else { return Err(super::stopping()) };
        let status = call.scope(super::stopping);
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        call.mark(&mut trailers);
        call.ended(status::number(&status));
        Ok(Frame::trailers(trailers))
    }

    /// Looks at what is sent.
    fn pass(&mut self, frame: &mut Frame<Bytes>) {
        let Some(call) = &mut self.call else { return };
        if let Some(bytes) = frame.data_ref() {
            call.sent(bytes.len());
        } else if let Some(trailers) = frame.trailers_mut() {
            let code = status::of_headers(trailers).unwrap_or(status::UNKNOWN);
            if code != 0 {
                call.mark(trailers);
            }
            call.ended(code);
            self.call = None;
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let (Some(inner), Some(call)) = (&mut this.inner, &this.call) else { return Poll::Ready(None) };
        let polled = call.scope(|| Pin::new(inner).poll_frame(context));
        match polled {
            Poll::Ready(Some(Ok(mut frame))) => {
                this.pass(&mut frame);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(status))) => {
                if let Some(mut call) = this.call.take() {
                    call.ended(status::number(&status));
                }
                Poll::Ready(Some(Err(status)))
            }
            Poll::Ready(None) => {
                if let Some(mut call) = this.call.take() {
                    call.ended(status::UNKNOWN);
                }
                Poll::Ready(None)
            }
            Poll::Pending => {
                let interrupted = this.interrupted.get_or_insert_with(|| Box::pin(call.interrupted()));
                match interrupted.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(Some(this.interrupt())),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.call.is_none() || self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}
