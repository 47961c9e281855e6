//! Endings that a handler does not choose: it panics, its time is up, or the connection closes before it
//! is done.
//!
//! Each ends the call with a status of ours, whether or not the head of the response is already out,
//! and drops the handler. A stream that is cut short never ends in OK.

use std::{
    any::Any,
    future::{pending, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tokio::{
    select,
    task::coop::unconstrained,
    time::{Instant, sleep, sleep_until},
};
use tonic::{Status, body::Body};

use crate::{
    connection::Peer,
    services::{Answer, encoded, request_body::Traffic},
    telemetry::metrics::Metrics,
    wire::status::closing,
};

/// When a call ends, whatever its handler does.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    /// Knows when the connection, or the process, has no more time.
    pub(crate) peer: Arc<Peer>,
    pub(crate) deadline: Option<Instant>,
    /// How long the client may leave the call without a message.
    pub(crate) idle: Duration,
    pub(crate) traffic: Arc<Traffic>,
}

impl Ends {
    /// How the call ends, if it has to by `now`.
    fn over(&self, now: Instant) -> Option<Status> {
        if self.peer.closing.is_cancelled() {
            Some(closing())
        } else if self.deadline.is_some_and(|deadline| deadline <= now) {
            Some(too_late())
        } else {
            None
        }
    }

    /// Waits until the call has to end, and says how.
    ///
    /// Unconstrained, so that it is heard beside something that uses up its task's whole budget.
    fn come(&self) -> impl Future<Output = Status> + Send + use<> {
        let ends = self.clone();
        unconstrained(async move {
            select! {
                () = ends.peer.closing.cancelled() => closing(),
                () = at(ends.deadline) => too_late(),
                () = ends.idle() => Status::deadline_exceeded(format!(
                    "no message for {}", humantime::format_duration(ends.idle)
                )),
            }
        })
    }

    /// Resolves when the client has more to say and there has been no message in either direction.
    async fn idle(&self) {
        let mut before = None;
        loop {
            let now = self.traffic.messages();
            if self.traffic.request_ended.load(Relaxed) {
                return pending().await;
            }
            if before.replace(now) == Some(now) {
                return;
            }
            sleep(self.idle).await;
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

fn too_late() -> Status {
    Status::deadline_exceeded("the deadline has passed")
}

/// Runs `call` to the head of its response, and guards the body that follows.
pub(crate) async fn guarded(mut call: Answer, mut guard: Guard, now: Instant) -> Response<Guarded> {
    let response = match guard.ends.over(now) {
        Some(status) => status.into_http(),
        None => {
            poll_fn(
                |cx| match catch_unwind(AssertUnwindSafe(|| call.poll_unpin(cx))) {
                    Ok(Poll::Ready(Ok(response))) => Poll::Ready(encoded::in_place(response)),
                    Ok(Poll::Pending) => guard.poll_ending(cx).map(Status::into_http),
                    Err(panic) => Poll::Ready(guard.panicked(&*panic).into_http()),
                },
            )
            .await
        }
    };
    response.map(|body| Guarded {
        body: Some(body),
        guard,
    })
}

/// Watches over a call while it waits.
pub(crate) struct Guard {
    ends: Ends,
    /// Made when the call first has to wait, which a unary one seldom does.
    coming: Option<BoxFuture<'static, Status>>,
    metrics: Arc<Metrics>,
}

impl Guard {
    pub(crate) fn new(ends: Ends, metrics: Arc<Metrics>) -> Self {
        Self {
            ends,
            coming: None,
            metrics,
        }
    }

    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let ends = &self.ends;
        let coming = (self.coming).get_or_insert_with(|| ends.come().boxed());
        coming.poll_unpin(cx)
    }

    fn panicked(&self, panic: &(dyn Any + Send)) -> Status {
        let text = (panic.downcast_ref::<&str>().copied())
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("(no message)");
        tracing::error!(panic = text, "a handler panicked");
        self.metrics.panics.inc();
        Status::internal("the handler failed")
    }
}

/// A response body that survives its handler.
pub(crate) struct Guarded {
    /// None once the guard has ended it.
    body: Option<Body>,
    guard: Guard,
}

impl Guarded {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.guard.ends.deadline
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let over = self.guard.ends.over(Instant::now());
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let ending = match over {
            // A body that is always ready never gets to wait for its end.
            Some(over) => over,
            None => match catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx))) {
                Ok(Poll::Ready(frame)) => return Poll::Ready(frame),
                Err(panic) => self.guard.panicked(&*panic),
                Ok(Poll::Pending) => match self.guard.poll_ending(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(status) => status,
                },
            },
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
