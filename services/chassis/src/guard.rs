//! Endings that a handler does not choose: it panics, or the process closes before it is done.
//!
//! Both end the call with a status of ours, whether or not the head of the response is already out,
//! and drop the handler. A stream that is cut short never ends in OK.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, select},
};
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

use crate::{
    lifecycle::{Lifecycle, Phase},
    status::shutting_down,
};

/// Runs `call` to the head of its response, and guards the body that follows.
pub(crate) async fn guarded(
    call: impl Future<Output = Response<Body>>,
    lifecycle: &Lifecycle,
) -> Response<Guarded> {
    let call = pin!(AssertUnwindSafe(call).catch_unwind());
    let closing = pin!(lifecycle.reached(Phase::Closing));
    let response = match select(call, closing).await {
        Either::Left((Ok(response), _)) => response,
        Either::Left((Err(panic), _)) => panicked(&*panic).into_http(),
        Either::Right(((), _)) => shutting_down().into_http(),
    };
    response.map(|body| Guarded {
        body: Some(body),
        lifecycle: lifecycle.clone(),
        closing: None,
    })
}

fn panicked(panic: &(dyn Any + Send)) -> Status {
    let text = (panic.downcast_ref::<&str>().copied())
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)");
    tracing::error!(panic = text, "a handler panicked");
    Status::internal("the handler failed")
}

/// A response body that survives its handler.
pub(crate) struct Guarded {
    /// None once the guard has ended it.
    body: Option<Body>,
    lifecycle: Lifecycle,
    /// Made when the body first has to wait, which a unary reply never does.
    closing: Option<BoxFuture<'static, ()>>,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx)));
        let ending = match polled {
            Ok(Poll::Ready(frame)) => return Poll::Ready(frame),
            Err(panic) => panicked(&*panic),
            Ok(Poll::Pending) => {
                let Self {
                    lifecycle, closing, ..
                } = &mut *self;
                let closing =
                    closing.get_or_insert_with(|| lifecycle.reached(Phase::Closing).boxed());
                match closing.poll_unpin(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => shutting_down(),
                }
            }
        };
        self.body = None;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(
            ending
                .add_header(&mut trailers)
                .map(|()| Frame::trailers(trailers)),
        ))
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
