//! The request body as services receive it.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::task::coop;
use tonic::Status;

/// What has been seen of a request body so far.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) messages: AtomicU64,
    /// The client reset the stream, or the connection was lost.
    pub(crate) broke_off: AtomicBool,
}

/// A request body that counts its messages, and whose early end is an error.
///
/// tonic takes a stream that the client has reset for one that has come to its end, so a
/// client-streaming handler would go on to commit what the client has just called off. ABORTED is
/// passed on to the handler; the client does not hear of it any more.
/// <https://github.com/grpc/grpc-rust/issues/2410>
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    messages: MessageCounter,
    received: Arc<Received>,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, received: Arc<Received>) -> Self {
        Self {
            incoming,
            messages: MessageCounter::default(),
            received,
        }
    }

    fn broke_off(&self, why: impl fmt::Display) -> Status {
        self.received.broke_off.store(true, Relaxed);
        Status::aborted(format!("the request broke off: {why}"))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // HTTP/2 hands out what it has read without asking the scheduler, so a fast upload would keep
        // everything else of its call from being polled.
        let budget = ready!(coop::poll_proceed(cx));
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        budget.made_progress();
        Poll::Ready(match frame {
            // Reset with NO_ERROR.
            None if !self.incoming.is_end_stream() => Some(Err(self.broke_off("stream reset"))),
            None => None,
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let complete = self.messages.feed(data);
                    self.received.messages.fetch_add(complete, Relaxed);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(self.broke_off(error))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Counts the gRPC messages in a byte stream: each is a flag byte, a big-endian length of four bytes,
/// and that many bytes of payload, cut into frames at any place.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
#[derive(Debug, Default)]
pub(crate) struct MessageCounter {
    prefix: [u8; 5],
    prefix_filled: usize,
    payload_left: usize,
}

impl MessageCounter {
    /// Takes the next bytes of the stream; returns how many messages end in them.
    pub(crate) fn feed(&mut self, mut data: &[u8]) -> u64 {
        let mut complete = 0;
        while !data.is_empty() {
            if self.prefix_filled < self.prefix.len() {
                let taken = data.len().min(self.prefix.len() - self.prefix_filled);
                self.prefix[self.prefix_filled..][..taken].copy_from_slice(&data[..taken]);
                self.prefix_filled += taken;
                data = &data[taken..];
                let [_, length @ ..] = self.prefix;
                self.payload_left = u32::from_be_bytes(length) as usize;
            } else {
                let taken = data.len().min(self.payload_left);
                self.payload_left -= taken;
                data = &data[taken..];
            }
            if self.prefix_filled == self.prefix.len() && self.payload_left == 0 {
                complete += 1;
                self.prefix_filled = 0;
            }
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::MessageCounter;

    #[test]
    fn messages_are_counted_wherever_the_frames_are_cut() {
        let stream = b"\0\0\0\0\x03abc\0\0\0\0\0\x01\0\0\0\x02de\0\0\0\0\x09half";
        for size in 1..=stream.len() {
            let mut counter = MessageCounter::default();
            let complete: u64 = stream.chunks(size).map(|chunk| counter.feed(chunk)).sum();
            assert_eq!(complete, 3, "in frames of {size} bytes");
        }
    }
}
