//! What a call takes up, from its request until its stream has ended and the last byte of its response is
//! written.

use std::sync::Arc;

use crate::{
    call::{
        Shared,
        call_limit::{Counter, Permit, Taken},
        kind::Kind,
        peer::{OpenCall, Peer},
    },
    telemetry::metrics::{Counted, Refused},
};

/// A call that is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    open: OpenCall,
    _counted: Counted,
    place: Place,
    lingering: Counter,
}

/// Its place among the calls that there may be.
#[derive(Debug)]
enum Place {
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

impl InFlight {
    /// Counts a call, be it refused or not.
    pub(crate) fn begin(shared: &Shared, peer: &Arc<Peer>, kind: &Kind) -> Self {
        let permit = |watch| {
            let _permit = shared.calls.admit(&peer.calls)?;
            let _watch = watch;
            Ok(Place::Call { _permit, _watch })
        };
        let place = match kind {
            Kind::LoadBalancerCheck(_) | Kind::HealthCheck(_) => Ok(Place::None),
            Kind::HealthWatch(_) => match peer.watches.take() {
                None => Err(Refused::Watch),
                watch => permit(watch),
            },
            Kind::Rpc(_) | Kind::Unknown => permit(None),
        };
        Self {
            open: peer.open_call(),
            _counted: shared.metrics.call_begins(),
            place: place.unwrap_or_else(Place::Refused),
            lingering: shared.lingering.clone(),
        }
    }

    pub(crate) fn peer(&self) -> &Arc<Peer> {
        self.open.peer()
    }

    /// Which limit keeps it out, if one does.
    pub(crate) fn refused(&self) -> Option<Refused> {
        match self.place {
            Place::Refused(refused) => Some(refused),
            Place::Call { .. } | Place::None => None,
        }
    }

    pub(crate) fn linger(&self) -> Option<Lingering> {
        let place = match &self.place {
            Place::Call { .. } => None,
            Place::None | Place::Refused(_) => Some(self.lingering.take()?),
        };
        Some(Lingering { _place: place })
    }
}
