//! The body of a response as callers get it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use crate::{connection::lost, deadline, replay::Replay};

/// The body of a response. It ends with DEADLINE_EXCEEDED when the deadline of its call passes; until
/// it is dropped, the call counts as one that its server has in flight.
#[derive(Debug)]
pub struct Reply {
    incoming: Incoming,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Its status has come, in the head or in trailers.
    ended: bool,
    request: Replay,
    _call: Arc<()>,
}

impl Reply {
    pub(crate) fn new(
        incoming: Incoming,
        ended: bool,
        deadline: Option<Instant>,
        request: Replay,
        call: Arc<()>,
    ) -> Self {
        Self {
            incoming,
            deadline: deadline.map(|deadline| Box::pin(sleep_until(deadline))),
            ended,
            request,
            _call: call,
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.request.end();
    }
}

/// Some proxies end a stream like this that has been idle for too long.
fn cut_short() -> Status {
    let mut status = Status::unknown("the stream has ended without a status");
    status.set_source(Arc::new(io::Error::from(io::ErrorKind::UnexpectedEof)));
    status
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // First, for a stream that is always ready would never be late.
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(deadline::exceeded())));
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                self.ended |= frame.is_trailers();
                Some(Ok(frame))
            }
            None if !self.ended => Some(Err(cut_short())),
            None => None,
            Some(Err(error)) => Some(Err(lost(error))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
