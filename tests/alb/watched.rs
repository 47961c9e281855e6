//! What is in progress: how much, and when something was last sent on it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::Error;

/// One more, for as long as this lives.
#[derive(Debug)]
pub(super) struct Count(watch::Sender<usize>);

impl Count {
    pub(super) fn of(all: &watch::Sender<usize>) -> Self {
        all.send_modify(|count| *count += 1);
        Self(all.clone())
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Returns when there has been none for so long.
pub(super) async fn quiet(all: &watch::Sender<usize>, idle: Duration) {
    let mut all = all.subscribe();
    loop {
        // It cannot be closed: the sender is borrowed.
        let _ = all.wait_for(|count| *count == 0).await;
        if timeout(idle, all.changed()).await.is_err() {
            return;
        }
    }
}

/// When one of both sides of a request last sent something.
#[derive(Debug)]
pub(super) struct Activity {
    last: Mutex<Instant>,
    idle_timeout: Duration,
}

impl Activity {
    pub(super) fn new(idle_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            last: Mutex::new(Instant::now()),
            idle_timeout,
        })
    }

    /// Returns when nobody has sent anything for the idle timeout.
    pub(super) async fn idle(&self) {
        while !self.is_idle() {
            sleep_until(self.deadline()).await;
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.deadline() <= Instant::now()
    }

    fn deadline(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) + self.idle_timeout
    }

    fn note(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// A body on its way, in either direction, that is reset when its request is given up.
pub(super) struct Watched {
    body: Incoming,
    activity: Arc<Activity>,
    given_up: Pin<Box<dyn Future<Output = ()> + Send>>,
    _counts: Vec<Count>,
}

impl Watched {
    /// Counts as long as it lives.
    pub(super) fn new(
        body: Incoming,
        activity: &Arc<Activity>,
        given_up: impl Future<Output = ()> + Send + 'static,
        counts: Vec<Count>,
    ) -> Self {
        Self {
            body,
            activity: activity.clone(),
            given_up: Box::pin(given_up),
            _counts: counts,
        }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(match frame {
                // hyper takes this reset for an end; whoever is on the other side must not.
                None if !self.body.is_end_stream() => Some(Err(reset(Reason::NO_ERROR))),
                None => None,
                Some(Ok(frame)) => {
                    self.activity.note();
                    Some(Ok(frame))
                }
                Some(Err(error)) => Some(Err(error.into())),
            });
        }
        ready!(self.given_up.as_mut().poll(cx));
        // What clients saw of idle streams: https://github.com/akka/akka-grpc/issues/1784. What targets
        // see is assumed to be the same, and so is what both see after the deregistration delay.
        Poll::Ready(Some(Err(reset(Reason::PROTOCOL_ERROR))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Has hyper reset the stream that a body goes to with this code.
fn reset(reason: Reason) -> Error {
    h2::Error::from(reason).into()
}
