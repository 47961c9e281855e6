//! The response of a call on its way out: polled, terminated if it must be, compressed, counted.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tracing::Span;

use crate::{
    call::{in_flight::InFlight, termination::Termination},
    wire::framing::{Messages, message_length},
};

/// A response body that can be told how its call ended.
pub(crate) trait ResponseBody: http_body::Body<Data = Bytes> + Unpin {
    /// The call that it belongs to, if it is one.
    fn in_flight(&self) -> Option<Arc<InFlight>>;

    /// When the call has to be over.
    fn deadline(&self) -> Option<Instant>;

    /// The stream is about to be reset, since the client does not take what is sent.
    fn abort(&mut self, code: Code);
}

/// The response body of a call. It survives its handler; dropping it writes the line of the access log.
pub(crate) struct CallBody {
    /// None once the call is terminated.
    body: Option<Body>,
    termination: Termination,
    messages: Messages,
}

impl CallBody {
    /// The response as it is sent.
    pub(crate) fn track(response: Response<Body>, mut termination: Termination) -> Response<Self> {
        let record = &mut termination.record;
        record.note_status(response.headers());
        if (record.in_flight.kind.method()).is_some_and(|method| method.is_unary()) {
            // Its handler is done.
            termination.span = Span::none();
        }
        response.map(|body| Self {
            body: Some(body),
            termination,
            messages: Messages::new(),
        })
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        match ready!(self.termination.poll_frame(body, cx)) {
            Ok(frame) => Poll::Ready(frame),
            Err(status) => {
                self.body = None;
                let mut trailers = HeaderMap::new();
                let added = status.add_header(&mut trailers);
                Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))))
            }
        }
    }

    fn count(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            let length = |_, prefix: &_| Ok::<_, Infallible>(message_length(prefix));
            let Ok(()) = self.messages.feed(data, length);
            let call = &self.termination.record.in_flight;
            let complete = self.messages.complete();
            let before = call.exchange.sent.swap(complete, Relaxed);
            call.counts().sent.inc_by(complete - before);
        } else if let Some(trailers) = frame.trailers_ref() {
            self.termination.record.note_status(trailers);
        }
    }
}

impl ResponseBody for CallBody {
    fn in_flight(&self) -> Option<Arc<InFlight>> {
        Some(self.termination.record.in_flight.clone())
    }

    fn deadline(&self) -> Option<Instant> {
        self.termination.record.in_flight.context.deadline()
    }

    fn abort(&mut self, code: Code) {
        self.termination.record.code = Some(code);
    }
}

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(self.poll_body(cx));
        if let Some(Ok(frame)) = &frame {
            self.count(frame);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}
