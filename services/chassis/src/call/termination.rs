//! Endings that a handler does not choose: it panics, its deadline passes, or the connection closes before
//! it is done.
//!
//! Each ends the call with a status of ours, whether or not the head of the response is already out,
//! and drops the handler. A stream that is cut short never ends in OK.

use std::{
    future::{pending, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::Response;
use http_body::{Body as _, Frame};
use tokio::{
    select,
    task::coop::unconstrained,
    time::{Instant, sleep, sleep_until},
};
use tonic::{Status, body::Body};
use tracing::Span;

use crate::{
    call::{access_log::CallRecord, in_flight::InFlight},
    services::handler::ResponseFuture,
    telemetry::metrics::panic_text,
    wire::{incoming::Exchange, status::closing},
};

/// What polling a response body gives, or the status of a call that is terminated.
type PolledFrame = Result<Option<Result<Frame<Bytes>, Status>>, Status>;

/// When a call ends, whatever its handler does.
pub(crate) struct Termination {
    pub(crate) record: CallRecord,
    /// Made when the call first has to wait, which a unary one seldom does.
    pub(crate) waiting: Option<BoxFuture<'static, Status>>,
    /// What the handler does is in it.
    pub(crate) span: Span,
}

impl Termination {
    /// Polls a handler for the head of its response, which is a status if the call is terminated.
    pub(crate) async fn respond(&mut self, mut handler: ResponseFuture) -> Response<Body> {
        if let Some(status) = self.expired(self.record.in_flight.began) {
            return status.into_http();
        }
        poll_fn(|cx| match self.guarded(|| handler.poll_unpin(cx)) {
            Ok(Poll::Ready(Ok(response))) => Poll::Ready(response),
            Ok(Poll::Pending) => self.poll_wait(cx).map(Status::into_http),
            Err(status) => Poll::Ready(status.into_http()),
        })
        .await
    }

    /// Polls the body of the response, which must not survive an error.
    pub(crate) fn poll_frame(
        &mut self,
        body: &mut Body,
        cx: &mut Context<'_>,
    ) -> Poll<PolledFrame> {
        // A body that is always ready never gets to wait for its end.
        if let Some(status) = self.expired(Instant::now()) {
            return Poll::Ready(Err(status));
        }
        match self.guarded(|| Pin::new(body).poll_frame(cx)) {
            Ok(Poll::Ready(frame)) => Poll::Ready(Ok(frame)),
            Ok(Poll::Pending) => self.poll_wait(cx).map(Err),
            Err(status) => Poll::Ready(Err(status)),
        }
    }

    /// How the call ends, if it has to by `now`.
    fn expired(&self, now: Instant) -> Option<Status> {
        let call = &self.record.in_flight;
        if call.peer.closing.is_cancelled() {
            Some(closing())
        } else if (call.context.deadline()).is_some_and(|deadline| deadline <= now) {
            Some(deadline_exceeded())
        } else {
            None
        }
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let call = &self.record.in_flight;
        let waiting = self.waiting.get_or_insert_with(|| wait(call).boxed());
        waiting.poll_unpin(cx)
    }

    /// Polls what is the handler's, in its span; a panic becomes a status.
    fn guarded<T>(&self, poll: impl FnOnce() -> T) -> Result<T, Status> {
        self.span.in_scope(|| {
            catch_unwind(AssertUnwindSafe(poll)).map_err(|panic| {
                tracing::error!(panic = panic_text(&*panic), "a handler panicked");
                self.record.in_flight.shared.metrics.panics.inc();
                Status::internal("the handler failed")
            })
        })
    }
}

/// Waits until the call has to end, and says how.
///
/// Unconstrained, so that it is heard beside something that uses up its task's whole budget.
fn wait(call: &InFlight) -> impl Future<Output = Status> + Send + use<> {
    let (deadline, exchange) = (call.context.deadline(), call.exchange.clone());
    let (connection, idle) = (
        call.peer.closing.clone(),
        call.shared.limits.stream_idle_timeout,
    );
    unconstrained(async move {
        select! {
            () = connection.cancelled() => closing(),
            () = at(deadline) => deadline_exceeded(),
            () = no_message(&exchange, *idle) => Status::deadline_exceeded(format!(
                "no message for {}", humantime::format_duration(*idle)
            )),
        }
    })
}

/// Resolves when the client has not half-closed and there has been no message in either direction.
async fn no_message(exchange: &Exchange, idle: Duration) {
    let mut before = None;
    loop {
        let now = exchange.messages();
        if exchange.request_ended.load(Relaxed) {
            return pending().await;
        }
        if before.replace(now) == Some(now) {
            return;
        }
        sleep(idle).await;
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the deadline has passed")
}
