//! A call, from its request until its stream has ended and the last byte of its response is written.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::Span;

use crate::{
    call::{
        Shared,
        call_limit::{Permit, Taken},
        kind::Kind,
        peer::Peer,
    },
    services::context::CallContext,
    telemetry::metrics::{MethodCounts, Refused},
    wire::incoming::Exchange,
};

/// A call that is counted until this is dropped, and all that is known of it.
pub(crate) struct InFlight {
    pub(crate) shared: Arc<Shared>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) began: Instant,
    pub(crate) kind: Kind,
    pub(crate) context: CallContext,
    pub(crate) exchange: Arc<Exchange>,
    place: Place,
}

/// The place of a call among those that there may be.
#[derive(Debug)]
pub(crate) enum Place {
    Call {
        _permit: Permit,
        _watch: Option<Taken>,
    },
    /// It is a health check.
    None,
    Refused(Refused),
}

/// Leave to read on behind an answer, as long as it is kept.
pub(crate) struct Lingering {
    /// For what is not among the calls.
    _place: Option<Taken>,
}

impl Place {
    /// Finds a place for a call, or which limit keeps it out.
    pub(crate) fn take(shared: &Shared, peer: &Peer, kind: &Kind) -> Self {
        let permit = |watch| {
            let _permit = shared.calls.admit(&peer.calls)?;
            let _watch = watch;
            Ok(Self::Call { _permit, _watch })
        };
        let place = match kind {
            Kind::LoadBalancerCheck(_) | Kind::HealthCheck(_) => Ok(Self::None),
            Kind::HealthWatch(_) => match peer.watches.take() {
                None => Err(Refused::Watch),
                watch => permit(watch),
            },
            Kind::Rpc(_) | Kind::Unknown => permit(None),
        };
        place.unwrap_or_else(Self::Refused)
    }
}

impl InFlight {
    /// Counts a call, be it refused or not.
    pub(crate) fn begin(
        shared: Arc<Shared>,
        peer: Arc<Peer>,
        began: Instant,
        kind: Kind,
        context: CallContext,
        exchange: Arc<Exchange>,
        place: Place,
    ) -> Arc<Self> {
        peer.call_begins();
        shared.metrics.in_flight.inc();
        let method = kind.method().map(|method| &method.metrics);
        shared.metrics.counts(method).started.inc();
        Arc::new(Self {
            shared,
            peer,
            began,
            kind,
            context,
            exchange,
            place,
        })
    }

    /// What is counted of its method.
    pub(crate) fn counts(&self) -> &MethodCounts {
        let method = self.kind.method().map(|method| &method.metrics);
        self.shared.metrics.counts(method)
    }

    /// The span of the call's handler; none where there is no handler of a service's own.
    pub(crate) fn span(&self) -> Span {
        match &self.kind {
            Kind::Rpc(method) => method.span(self.context.trace_id()),
            _ => Span::none(),
        }
    }

    pub(crate) fn linger(&self) -> Option<Lingering> {
        let place = match &self.place {
            Place::Call { .. } => None,
            Place::None | Place::Refused(_) => Some(self.shared.lingering.take()?),
        };
        Some(Lingering { _place: place })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.peer.call_ends();
        self.shared.metrics.in_flight.dec();
    }
}
