//! The body of a DoGet's answer: gRPC frames whose large parts are the arrays' own buffers.
//!
//! tonic's encoder copies each message into a buffer of its own, after prost's copy of the body; with megabytes a message, both cost
//! as much as sending does. So `do_get` answers tonic an empty stream, and puts the messages beside it; [`replace`] makes
//! them the body that hyper sends. Everything else about the call, up to the answer's headers, is tonic's.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use http_body::Frame;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Response};

use super::encode::Message;
use super::status;
use crate::error::{Error, Result};

/// Numbers of FlightData's fields.
const DATA_HEADER: u32 = 2;
const DATA_BODY: u32 = 1000;

/// Bytes of a gRPC frame's prefix: a flag for compression, and the length.
const PREFIX_BYTES: usize = 5;

/// Smaller buffers are gathered, so that hardly anything small becomes an HTTP/2 frame of its own.
const GATHER_BYTES: usize = 16 << 10;

/// The messages of an answer on their way from `do_get` to [`replace`].
#[derive(Clone)]
struct Handed(Arc<Mutex<Option<BoxStream<'static, Result<Message>>>>>);

/// An answer of tonic's that has `messages` for its body, once it went through [`replace`].
pub(super) fn answer<T>(
    empty: T,
    messages: impl Stream<Item = Result<Message>> + Send + 'static,
) -> tonic::Response<T> {
    let mut response = tonic::Response::new(empty);
    response.extensions_mut().insert(Handed(Arc::new(Mutex::new(Some(messages.boxed())))));
    response
}

/// The same answer with the body that was handed over with it, if one was.
pub(super) fn replace(mut response: Response<Body>) -> Response<Body> {
    let handed = response.extensions_mut().remove::<Handed>();
    match handed.and_then(|handed| handed.0.lock().unwrap_or_else(PoisonError::into_inner).take()) {
        Some(messages) => {
            response.map(|_| Body::new(Messages { source: messages, frames: VecDeque::new(), ended: false }))
        }
        None => response,
    }
}

/// Messages as an HTTP body, with the status in its trailers.
struct Messages {
    source: BoxStream<'static, Result<Message>>,
    frames: VecDeque<Bytes>,
    ended: bool,
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(bytes) = self.frames.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let message = match ready!(self.source.poll_next_unpin(context)) {
                Some(message) => message.and_then(frames),
                None => return Poll::Ready(Some(self.end(&status::success()))),
            };
            match message {
                Ok(frames) => self.frames = frames,
                Err(error) => return Poll::Ready(Some(self.end(&status::from_error(error)))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.frames.is_empty()
    }
}

impl Messages {
    fn end(&mut self, status: &Status) -> Result<Frame<Bytes>, Status> {
        self.ended = true;
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        Ok(Frame::trailers(trailers))
    }
}

/// One gRPC frame with a FlightData, in pieces.
fn frames(message: Message) -> Result<VecDeque<Bytes>> {
    let Message { header, body, body_bytes } = message;
    let mut head = BytesMut::with_capacity(header.len() + 64);
    let length =
        field_bytes(DATA_HEADER, header.len()) + if body.is_empty() { 0 } else { field_bytes(DATA_BODY, body_bytes) };
    let length =
        u32::try_from(length).map_err(|_| Error::exhausted("a row is larger than 4 GiB, which gRPC cannot send"))?;
    head.put_u8(0);
    head.put_u32(length);
    encode_key(DATA_HEADER, WireType::LengthDelimited, &mut head);
    encode_varint(header.len() as u64, &mut head);
    head.put_slice(&header);
    if !body.is_empty() {
        encode_key(DATA_BODY, WireType::LengthDelimited, &mut head);
        encode_varint(body_bytes as u64, &mut head);
    }
    let mut frames = VecDeque::new();
    for buffer in body {
        if buffer.len() < GATHER_BYTES {
            head.put_slice(&buffer);
        } else {
            frames.push_back(head.split().freeze());
            frames.push_back(Bytes::from_owner(buffer));
        }
    }
    frames.push_back(head.freeze());
    frames.retain(|frame| !frame.is_empty());
    debug_assert_eq!(frames.iter().map(Bytes::len).sum::<usize>(), length as usize + PREFIX_BYTES);
    Ok(frames)
}

/// Bytes of a field with `length` bytes.
fn field_bytes(field: u32, length: usize) -> usize {
    key_len(field) + encoded_len_varint(length as u64) + length
}

#[cfg(test)]
mod tests {
    use arrow::buffer::Buffer;
    use arrow_flight::FlightData;
    use prost::Message as _;

    use super::*;

    #[test]
    fn the_frames_are_the_message_that_prost_writes() {
        for lengths in [vec![], vec![10], vec![100_000, 3, 20_000, 20_000, 64], vec![1, 2, 3, 40_000]] {
            let body: Vec<Buffer> =
                (1u8..).zip(&lengths).map(|(value, length)| Buffer::from(vec![value; *length])).collect();
            let body_bytes = body.iter().map(Buffer::len).sum();
            let whole: Vec<u8> = body.iter().flat_map(|buffer| buffer.to_vec()).collect();
            let sent = frames(Message { header: Bytes::from_static(b"header"), body, body_bytes }).unwrap();
            let sent: Vec<u8> = sent.iter().flatten().copied().collect();
            let data = FlightData { data_header: "header".into(), data_body: whole.into(), ..FlightData::default() };
            let mut expected = vec![0];
            expected.extend(u32::try_from(data.encoded_len()).unwrap().to_be_bytes());
            expected.extend(data.encode_to_vec());
            assert_eq!(sent, expected);
        }
    }
}
