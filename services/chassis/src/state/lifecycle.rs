//! The one clock hand that everything in a process follows from start to exit.
//!
//! Whoever has to act on the end of the process waits for a phase: health turns red in
//! [`Phase::LameDuck`], connections send GOAWAY in [`Phase::Draining`], open calls are ended in
//! [`Phase::Closing`], and what is left is dropped in [`Phase::Closed`].

use std::fmt;

use tokio::{sync::watch, task::coop::unconstrained};
use tokio_util::sync::CancellationToken;

/// Where a process stands between start and exit. The order of the variants is the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Bound, not yet answering.
    Starting,
    /// Ready for calls.
    Serving,
    /// Told to stop: says NOT_SERVING but still takes calls, because load balancers need seconds to
    /// hear of it.
    LameDuck,
    /// Takes no new connection; every open one has been sent GOAWAY and finishes its calls.
    Draining,
    /// The deadline is near: calls that are still open are ended with UNAVAILABLE.
    Closing,
    /// The deadline has passed: whatever is left is dropped.
    Closed,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::LameDuck => "lame duck",
            Self::Draining => "draining",
            Self::Closing => "closing",
            Self::Closed => "closed",
        })
    }
}

/// The current phase, shared by every part of a process.
#[derive(Debug, Clone)]
pub(crate) struct Lifecycle {
    phase: watch::Sender<Phase>,
    closing: CancellationToken,
}

impl Lifecycle {
    pub(crate) fn new() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Starting),
            closing: CancellationToken::new(),
        }
    }

    /// Moves on to `phase`. There is no way back.
    pub(crate) fn enter(&self, phase: Phase) {
        let later = self.phase.send_if_modified(|current| {
            let later = *current < phase;
            *current = phase.max(*current);
            later
        });
        if later {
            tracing::info!(%phase, "phase");
        }
        if phase >= Phase::Closing {
            self.closing.cancel();
        }
    }

    /// What ends the calls of one connection: cancelled with [`Phase::Closing`], or earlier.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.closing.child_token()
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Every change of phase from now on.
    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Resolves once `phase` has come. Costs nothing until it is first polled.
    ///
    /// Unconstrained, so that it is heard beside something that uses up its task's whole budget.
    pub(crate) fn reached(&self, phase: Phase) -> impl Future<Output = ()> + Send + use<> {
        let lifecycle = self.clone();
        unconstrained(async move {
            let mut phases = lifecycle.phases();
            // Cannot fail: `lifecycle` keeps a sender alive.
            let _ = phases.wait_for(|current| *current >= phase).await;
        })
    }
}
