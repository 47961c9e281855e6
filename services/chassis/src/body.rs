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

use crate::splitter::Splitter;

/// What has been seen of a call so far.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    /// The client has said all it will.
    pub(crate) request_ended: AtomicBool,
    /// The client reset the stream, or the connection was lost.
    pub(crate) broke_off: AtomicBool,
}

impl Traffic {
    /// Messages in both directions.
    pub(crate) fn messages(&self) -> u64 {
        self.received.load(Relaxed) + self.sent.load(Relaxed)
    }
}

/// What a request body may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    /// Bytes of one message, as it is on the wire.
    pub(crate) message_bytes: usize,
    pub(crate) messages: u64,
}

/// A request body that counts its messages, refuses those that are not allowed before any memory is
/// taken for them, and whose early end is an error.
///
/// tonic takes a stream that the client has reset for one that has come to its end, so a
/// client-streaming handler would go on to commit what the client has just called off. ABORTED is
/// passed on to the handler; the client does not hear of it any more.
/// <https://github.com/grpc/grpc-rust/issues/2410>
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    messages: Messages,
    allowed: Allowed,
    refused: Option<Status>,
    traffic: Arc<Traffic>,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, allowed: Allowed, traffic: Arc<Traffic>) -> Self {
        traffic
            .request_ended
            .store(incoming.is_end_stream(), Relaxed);
        Self {
            incoming,
            messages: Messages::new(),
            allowed,
            refused: None,
            traffic,
        }
    }

    /// What the service gets to see of `data`: all of it, or what stands before a message that is
    /// refused.
    fn admit(&mut self, mut data: Bytes) -> Bytes {
        let Allowed {
            message_bytes,
            messages,
        } = self.allowed;
        let fed = self.messages.feed(&data, |before, prefix| {
            let length = message_length(prefix);
            if before >= messages {
                // <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>
                Err(Status::unimplemented(
                    "this method takes one request message",
                ))
            } else if length > message_bytes {
                Err(Status::resource_exhausted(format!(
                    "a message of {length} bytes, and at most {message_bytes} are allowed"
                )))
            } else {
                Ok(length)
            }
        });
        if let Err((before, refused)) = fed {
            data.truncate(before);
            self.refused = Some(refused);
        }
        self.traffic
            .received
            .store(self.messages.complete(), Relaxed);
        data
    }

    fn broke_off(&self, why: impl fmt::Display) -> Status {
        self.traffic.broke_off.store(true, Relaxed);
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
        if let Some(refused) = &self.refused {
            return Poll::Ready(Some(Err(refused.clone())));
        }
        // HTTP/2 hands out what it has read without asking the scheduler, so a fast upload would keep
        // everything else of its call from being polled.
        let budget = ready!(coop::poll_proceed(cx));
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        budget.made_progress();
        let frame = match frame {
            // Reset with NO_ERROR.
            None if !self.incoming.is_end_stream() => Some(Err(self.broke_off("stream reset"))),
            None => None,
            Some(Ok(frame)) => Some(Ok(match frame.into_data() {
                Ok(data) => Frame::data(self.admit(data)),
                Err(trailers) => trailers,
            })),
            Some(Err(error)) => Some(Err(self.broke_off(error))),
        };
        self.traffic
            .request_ended
            .store(self.incoming.is_end_stream(), Relaxed);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.refused.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The gRPC messages in a body: each is a flag byte, a big-endian length of four bytes, and that many
/// bytes of payload. <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
pub(crate) type Messages = Splitter<5>;

/// How long the message is that begins with these bytes.
pub(crate) fn message_length(prefix: &[u8; 5]) -> usize {
    let &[_, a, b, c, d] = prefix;
    u32::from_be_bytes([a, b, c, d]) as usize
}
