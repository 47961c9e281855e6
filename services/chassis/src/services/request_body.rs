//! The request body as services receive it.

use std::{
    fmt,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use tokio::task::coop;
use tonic::Status;

use crate::wire::{
    compression::{Compression, Decompressor},
    framing::{Messages, message_length},
    incoming::Incoming,
};

/// What a request body may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    /// Bytes of one message, as it is on the wire.
    pub(crate) message_bytes: usize,
    pub(crate) messages: u64,
}

/// A request body that counts its messages, refuses those that are not allowed before any memory is
/// taken for them, decompresses them, and whose early end is an error.
///
/// tonic takes a stream that the client has reset for one that has come to its end, so a
/// client-streaming handler would go on to commit what the client has just cancelled. ABORTED is
/// passed on to the handler; the client does not hear of it any more.
/// <https://github.com/grpc/grpc-rust/issues/2410>
pub struct RequestBody {
    incoming: Incoming,
    decompressor: Option<Decompressor>,
    messages: Messages,
    allowed: Allowed,
    refused: Option<Status>,
    inspect: Option<Box<dyn FnMut(bool) + Send>>,
    /// Counts the messages of a stream as they come.
    counter: Option<Counter>,
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

impl RequestBody {
    pub(crate) fn new(
        incoming: Incoming,
        compression: Option<Compression>,
        allowed: Allowed,
        counter: Option<Counter>,
    ) -> Self {
        let decompressor =
            compression.map(|compression| Decompressor::new(compression, allowed.message_bytes));
        let body = Self {
            incoming,
            decompressor,
            messages: Messages::new(),
            allowed,
            refused: None,
            inspect: None,
            counter,
        };
        body.note_end();
        body
    }

    /// Has `inspect` told of each message, as it begins, whether it is compressed.
    #[must_use]
    pub fn inspect_compressed(mut self, inspect: impl FnMut(bool) + Send + 'static) -> Self {
        self.inspect = Some(Box::new(inspect));
        self
    }

    /// What the service gets to see of `data`: all of it, or what stands before a message that is
    /// refused.
    fn admit(&mut self, mut data: Bytes) -> Bytes {
        let (allowed, inspect) = (self.allowed, &mut self.inspect);
        let fed = self.messages.feed(&data, |before, prefix| {
            if let Some(inspect) = inspect {
                inspect(prefix[0] == 1);
            }
            allowed.check(before, message_length(prefix))
        });
        if let Err((before, refused)) = fed {
            data.truncate(before);
            self.refused = Some(refused);
        }
        let received = &self.incoming.exchange().received;
        let complete = self.messages.complete();
        let before = received.swap(complete, Relaxed);
        if let Some(counter) = &self.counter {
            counter.inc_by(complete - before);
        }
        let Some(decompressor) = &mut self.decompressor else {
            return data;
        };
        let (messages, problem) = decompressor.feed(&data);
        self.refused = problem.or(self.refused.take());
        messages
    }

    /// What there is to say when no more data comes.
    fn end(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        let rest = self.decompressor.as_mut().map(Decompressor::rest);
        if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
            // tonic says what is wrong with it.
            return Some(Ok(Frame::data(rest)));
        }
        let none = self.messages.complete() == 0 && self.messages.between();
        (none && self.allowed.messages == 1).then(|| {
            // <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>
            let missing = Status::unimplemented("this method takes one request message: none came");
            self.refused = Some(missing.clone());
            Err(missing)
        })
    }

    fn reset(&self, why: impl fmt::Display) -> Status {
        self.incoming.exchange().client_reset.store(true, Relaxed);
        Status::aborted(format!("the request broke off: {why}"))
    }

    fn note_end(&self) {
        let ended = self.incoming.is_end_stream();
        self.incoming.exchange().request_ended.store(ended, Relaxed);
    }
}

impl Allowed {
    /// How long a message is, if it may come behind so many.
    fn check(self, before: u64, length: usize) -> Result<usize, Status> {
        if before >= self.messages {
            // <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>
            Err(Status::unimplemented(
                "this method takes one request message",
            ))
        } else if length > self.message_bytes {
            Err(Status::resource_exhausted(format!(
                "a message of {length} bytes, and at most {} are allowed",
                self.message_bytes
            )))
        } else {
            Ok(length)
        }
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
        let frame = ready!(self.incoming.poll_frame(cx));
        budget.made_progress();
        self.note_end();
        Poll::Ready(match frame {
            None => self.end(),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Some(Ok(Frame::data(self.admit(data)))),
                Err(trailers) => self.end().or(Some(Ok(trailers))),
            },
            Some(Err(why)) => Some(Err(self.reset(why))),
        })
    }

    fn is_end_stream(&self) -> bool {
        // The end has a say of its own if there was no message.
        let whole = self.messages.complete() > 0 && self.messages.between();
        whole && self.refused.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
