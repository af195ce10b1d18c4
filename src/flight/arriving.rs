//! Messages on their way in: a large one is let in when `server.messages_memory` has room for the whole of it.
//!
//! tonic holds a message in memory until all of it is there, so that what clients have begun to send would have no bound.
//! The length stands before each message: what follows stays with the client, by HTTP/2's flow control, until there is room.
//! The room is taken until the call asks for its next message. A message that has begun has `ingest.idle_timeout` to come, and so has
//! the only one of a call other than DoPut, which looks after its own time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use super::room::{FREE_BYTES, Room};
use super::status;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of a gRPC frame's prefix: a flag for compression, and the length.
const PREFIX_BYTES: usize = 5;

/// What a call other than DoPut may say beside a statement.
const OTHER_BYTES: usize = 1 << 20;

/// The one call whose messages may be as large as `server.message_bytes_max`.
const DO_PUT: &str = "/arrow.flight.protocol.FlightService/DoPut";

/// How messages are let in; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    room: Room,
    message_timeout: Duration,
    put_bytes_max: usize,
    other_bytes_max: usize,
}

impl Arrivals {
    pub(super) fn new(config: &Config) -> Self {
        let [put, statement] = [config.server.message_bytes_max, config.engine.statement_bytes_max]
            .map(|bytes| usize::try_from(bytes.as_u64()).unwrap_or(usize::MAX));
        Self {
            room: Room::new(&config.server),
            message_timeout: config.ingest.idle_timeout,
            put_bytes_max: put,
            // What they say is a statement and little more; one that is somewhat too long is the engine's to refuse.
            other_bytes_max: (4 * statement + OTHER_BYTES).min(put),
        }
    }

    /// The same body, whose large messages come when there is room.
    pub(super) fn watch(&self, path: &str, body: Body) -> Body {
        let is_put = path == DO_PUT;
        Body::new(Arriving {
            body,
            arrivals: self.clone(),
            is_put,
            ahead: Bytes::new(),
            prefix: BytesMut::new(),
            rest: 0,
            waiting: None,
            held: None,
            until: (!is_put).then(|| self.timer()),
        })
    }

    fn timer(&self) -> Pin<Box<Sleep>> {
        Box::pin(tokio::time::sleep(self.message_timeout))
    }
}

/// A body whose messages are let in one by one.
struct Arriving {
    body: Body,
    arrivals: Arrivals,
    is_put: bool,
    /// What has come and is not yet let in.
    ahead: Bytes,
    /// The beginning of a prefix whose end has not come.
    prefix: BytesMut,
    /// Bytes of the present message that are still to be let in.
    rest: usize,
    waiting: Option<BoxFuture<'static, Result<OwnedSemaphorePermit>>>,
    /// The room of the present message.
    held: Option<OwnedSemaphorePermit>,
    /// When it has to be there.
    until: Option<Pin<Box<Sleep>>>,
}

impl Arriving {
    /// Lets in what may come now of what has come; none: more has to come, or there is no room yet.
    fn pass(&mut self) -> Result<Option<Bytes>> {
        if self.rest == 0 {
            return self.begin();
        }
        let part = self.ahead.split_to(self.rest.min(self.ahead.len()));
        self.rest -= part.len();
        Ok(Some(part))
    }

    /// Reads the prefix of the next message.
    fn begin(&mut self) -> Result<Option<Bytes>> {
        let missing = PREFIX_BYTES - self.prefix.len();
        self.prefix.extend_from_slice(&self.ahead.split_to(missing.min(self.ahead.len())));
        if self.prefix.len() < PREFIX_BYTES {
            return Ok(None);
        }
        let prefix = self.prefix.split().freeze();
        let bytes_max = if self.is_put { self.arrivals.put_bytes_max } else { self.arrivals.other_bytes_max };
        self.rest = usize::try_from((&prefix[1..]).get_u32()).unwrap_or(usize::MAX);
        if self.rest > bytes_max && !self.is_put {
            return Err(Error::exhausted(format!(
                "a message of {} bytes is larger than any that such a call needs ({bytes_max} bytes): rows come by DoPut",
                self.rest
            )));
        }
        // One that is too large for DoPut is refused by its length, for which tonic has a word.
        if self.rest > FREE_BYTES && self.rest <= bytes_max {
            self.waiting = Some(self.arrivals.room.clone().admit("a message", self.rest).boxed());
            self.prefix.extend_from_slice(&prefix);
            return Ok(None);
        }
        Ok(Some(prefix))
    }

    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(None) };
        let admitted = ready!(waiting.poll_unpin(context));
        self.waiting = None;
        Poll::Ready(Some(admitted.map(|room| {
            self.held = Some(room);
            self.until = Some(self.arrivals.timer());
            self.prefix.split().freeze()
        })))
    }

    fn check_time(&mut self, context: &mut Context<'_>) -> Result<()> {
        match self.until.as_mut().map(|until| until.as_mut().poll(context)) {
            Some(Poll::Ready(())) => Err(Error::new(
                ErrorKind::DeadlineExceeded,
                format!("a message took longer than {:?} to come (ingest.idle_timeout)", self.arrivals.message_timeout),
            )),
            Some(Poll::Pending) | None => Ok(()),
        }
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        // The message that had the room was taken: its call wants more.
        if this.rest == 0 && this.held.take().is_some() && this.is_put {
            this.until = None;
        }
        loop {
            if let Some(admitted) = ready!(this.poll_room(context)) {
                return Poll::Ready(Some(admitted.map(Frame::data).map_err(status::from_error)));
            }
            while !this.ahead.is_empty() && this.waiting.is_none() {
                if let Some(bytes) = this.pass().transpose() {
                    return Poll::Ready(Some(bytes.map(Frame::data).map_err(status::from_error)));
                }
            }
            if this.waiting.is_some() {
                continue;
            }
            match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Pending => {
                    this.check_time(context).map_err(status::from_error)?;
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.ahead = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                // The end within a prefix is for tonic to see.
                Poll::Ready(None) if !this.prefix.is_empty() => {
                    return Poll::Ready(Some(Ok(Frame::data(this.prefix.split().freeze()))));
                }
                end @ Poll::Ready(_) => return end,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.prefix.is_empty() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;
    use futures::stream;
    use http_body_util::{BodyExt, StreamBody};
    use proptest::prelude::*;

    use super::*;
    use crate::flight::room::PAGE;

    /// The messages as gRPC sends them.
    fn framed(lengths: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for length in lengths {
            bytes.push(0);
            bytes.extend(u32::try_from(*length).unwrap().to_be_bytes());
            bytes.extend((0..*length).map(|at| at.to_le_bytes()[0]));
        }
        bytes
    }

    fn body(bytes: &[u8], part_bytes: usize) -> Body {
        let parts: Vec<_> =
            bytes.chunks(part_bytes).map(|part| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(part)))).collect();
        Body::new(StreamBody::new(stream::iter(parts)))
    }

    fn arrivals(config: impl Fn(&mut Config)) -> Arrivals {
        let mut all = Config::default();
        all.server.messages_wait = Duration::from_millis(10);
        config(&mut all);
        Arrivals::new(&all)
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    fn word(status: &Status) -> &'static str {
        status::word(status::number(status))
    }

    /// What comes through, up to its end or an error.
    async fn read(mut body: Body) -> (Vec<u8>, Option<Status>) {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => bytes.extend(frame.into_data().unwrap()),
                Err(status) => return (bytes, Some(status)),
            }
        }
        (bytes, None)
    }

    proptest! {
        #[test]
        fn the_bytes_stay_as_they_are(
            lengths in prop::collection::vec(prop_oneof![0..20usize, FREE_BYTES - 2..FREE_BYTES + 3, 0..300_000usize], 0..6),
            part_bytes in prop_oneof![1..8usize, 1..100_000usize],
            cut in 0..10usize,
        ) {
            let mut sent = framed(&lengths);
            sent.truncate(sent.len().saturating_sub(cut));
            let arrivals = arrivals(|_| {});
            let (got, error) = run(async { read(arrivals.watch(DO_PUT, body(&sent, part_bytes))).await });
            prop_assert!(error.is_none() && got == sent);
            prop_assert_eq!(arrivals.room.free_pages(), (1 << 30) / PAGE);
        }
    }

    #[test]
    fn a_message_has_its_room_until_the_next_is_wanted() {
        let arrivals = arrivals(|_| {});
        let all = arrivals.room.free_pages();
        let (first, second) = (100 * PAGE, 50 * PAGE);
        let mut body = arrivals.watch(DO_PUT, body(&framed(&[first, second]), 1 << 20));
        run(async {
            let mut lengths = Vec::new();
            while let Some(frame) = body.frame().await {
                lengths.push((frame.unwrap().into_data().unwrap().len(), all - arrivals.room.free_pages()));
            }
            let pages = [100, 50];
            assert_eq!(lengths, [(5, pages[0]), (first, pages[0]), (5, pages[1]), (second, pages[1])]);
        });
        drop(body);
        assert_eq!(arrivals.room.free_pages(), all);
    }

    #[test]
    fn without_room_a_large_message_is_refused_and_a_small_one_comes() {
        let arrivals = arrivals(|config| {
            config.server.messages_memory = ByteSize::mib(1);
            config.server.message_bytes_max = ByteSize::mib(1);
        });
        let held = run(arrivals.room.clone().admit("a test", 200 * PAGE)).unwrap();
        let sent = framed(&[10, 400_000]);
        let (got, status) = run(async { read(arrivals.watch(DO_PUT, body(&sent, 100_000))).await });
        let status = status.unwrap();
        assert_eq!((got.len(), word(&status)), (15, "RESOURCE_EXHAUSTED"));
        assert!(status.message().contains("server.messages_memory"), "{status}");
        drop(held);
        let (got, status) = run(async { read(arrivals.watch(DO_PUT, body(&sent, 100_000))).await });
        assert!(status.is_none() && got == sent);
    }

    #[test]
    fn a_message_that_does_not_come_is_given_up() {
        let arrivals = arrivals(|config| config.ingest.idle_timeout = Duration::from_millis(10));
        let sent = framed(&[400_000]);
        let begun = stream::iter([Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(&sent[..100])))]);
        let begun = Body::new(StreamBody::new(futures::StreamExt::chain(begun, stream::pending())));
        let silent = || Body::new(StreamBody::new(stream::pending::<Result<Frame<Bytes>, Status>>()));
        let (_, status) = run(async { read(arrivals.watch(DO_PUT, begun)).await });
        assert_eq!(word(&status.unwrap()), "DEADLINE_EXCEEDED");
        let (_, status) =
            run(async { read(arrivals.watch("/arrow.flight.protocol.FlightService/GetFlightInfo", silent())).await });
        assert_eq!(word(&status.unwrap()), "DEADLINE_EXCEEDED");
        assert_eq!(arrivals.room.free_pages(), (1 << 30) / PAGE);
    }

    #[test]
    fn only_rows_may_be_many() {
        let arrivals = arrivals(|_| {});
        let sent = framed(&[4 << 20]);
        for (path, refused) in [(DO_PUT, false), ("/arrow.flight.protocol.FlightService/DoAction", true)] {
            let (_, status) = run(async { read(arrivals.watch(path, body(&sent, 100_000))).await });
            assert_eq!(status.as_ref().map(word), refused.then_some("RESOURCE_EXHAUSTED"));
        }
    }
}
