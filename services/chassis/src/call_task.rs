//! The tasks in which HTTP/2 runs calls, and the one way for a call to end that no body can see to.
//!
//! While flow control holds a reply back, the body of the response is not polled, so whatever a body
//! knows of deadlines does not help against a client that asks for much and reads nothing.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Code;

/// Runs each call of a connection in a task that ends it when its reply has been held back too long:
/// for `stall`, or past the deadline of the call. The stream is then reset.
#[derive(Debug, Clone)]
pub(crate) struct CallTasks {
    pub(crate) stall: Duration,
}

impl<F> Executor<F> for CallTasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        tokio::spawn(CALL.scope(CallTask::default(), run(Box::pin(call), self.stall)));
    }
}

tokio::task_local! {
    static CALL: CallTask;
}

/// What the body of a response tells the task that it is sent in.
#[derive(Debug, Default)]
pub(crate) struct CallTask {
    /// When the body gave out the data that it has not been asked to follow up.
    held_since: Cell<Option<Instant>>,
    /// What the body knows too, for when the body is not asked.
    deadline: Cell<Option<Instant>>,
    given_up: Cell<Option<Code>>,
}

impl CallTask {
    /// The body has been asked for more.
    pub(crate) fn moves() {
        Self::with(|task| task.held_since.set(None));
    }

    /// The body gives out data now.
    pub(crate) fn holds(now: Instant) {
        Self::with(|task| task.held_since.set(Some(now)));
    }

    pub(crate) fn set_deadline(deadline: Option<Instant>) {
        Self::with(|task| task.deadline.set(deadline));
    }

    /// With what code the task has given the call up.
    pub(crate) fn given_up() -> Option<Code> {
        Self::with(|task| task.given_up.get()).flatten()
    }

    /// None outside of a task of ours, as on the admin listener.
    fn with<T>(f: impl FnOnce(&Self) -> T) -> Option<T> {
        CALL.try_with(f).ok()
    }

    /// When to give up if nothing moves, and with which code.
    fn patience(&self, stall: Duration) -> Option<(Instant, Code)> {
        // For what is under way to move, so that the body can say itself how the call ends.
        const GRACE: Duration = Duration::from_secs(1);
        let stalled = self.held_since.get()? + stall;
        Some(match self.deadline.get().map(|deadline| deadline + GRACE) {
            Some(too_late) if too_late < stalled => (too_late, Code::DeadlineExceeded),
            _ => (stalled, Code::Unavailable),
        })
    }
}

/// `call` comes boxed, because a future that is moved into another takes its room twice.
async fn run(mut call: Pin<Box<impl Future<Output = ()>>>, stall: Duration) {
    let mut timer = None;
    poll_fn(|cx| {
        if call.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        CallTask::with(|task| match task.patience(stall) {
            Some((until, code)) if poll_timer(&mut timer, until, cx).is_ready() => {
                task.given_up.set(Some(code));
                Poll::Ready(())
            }
            _ => Poll::Pending,
        })
        .unwrap_or(Poll::Pending)
    })
    .await;
}

fn poll_timer(
    timer: &mut Option<Pin<Box<Sleep>>>,
    until: Instant,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
    if timer.deadline() != until {
        timer.as_mut().reset(until);
    }
    timer.as_mut().poll(cx)
}
