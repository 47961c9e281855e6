//! The life of a request.

pub(crate) mod access_log;
pub(crate) mod auth;
pub(crate) mod call_limit;
pub(crate) mod served_by;
pub(crate) mod termination;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;

use http::{HeaderMap, Request, Response, request::Parts};
use tokio::time::Instant;
use tonic::{Status, body::Body};

use crate::{
    call::{
        access_log::{Call, TrackedBody},
        auth::Auth,
        call_limit::{CallLimit, Counter, Permit, Taken},
        served_by::Identity,
        termination::{Ends, Guard, guarded},
    },
    connection::{OpenCall, Peer, http2::Ended},
    services::{
        Answer, Method, Services, answered,
        health::{self, Kind},
    },
    settings::limits::Limits,
    state::{dependency::Dependencies, lifecycle::Lifecycle},
    telemetry::{
        metrics::{Counted, Metrics, Refused},
        throttle::{Rate, Throttle},
    },
    wire::{
        compression,
        incoming::Incoming,
        protocol::{self, Refusal},
        status, timeout,
    },
};

/// What every call to a listener needs.
pub(crate) struct Shared {
    pub(crate) services: Services,
    pub(crate) identity: Identity,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) dependencies: Dependencies,
    pub(crate) limits: Limits,
    pub(crate) auth: Auth,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) warnings: Throttle,
    pub(crate) health_checks: Mutex<Rate>,
    pub(crate) calls: CallLimit,
    /// Streams that read on behind an answer without being among the calls.
    pub(crate) lingering: Counter,
}

/// A call, from its request until its stream has ended and the last byte of its response is written.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) open: OpenCall,
    _counted: Counted,
    place: Place,
    lingering: Counter,
}

/// What a call takes up.
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
    pub(crate) fn linger(&self) -> Option<Lingering> {
        let place = match &self.place {
            Place::Call { .. } => None,
            Place::None | Place::Refused(_) => Some(self.lingering.take()?),
        };
        Some(Lingering { _place: place })
    }
}

/// The life of a request: count, log, check, guard, dispatch, and say who answered.
pub(crate) async fn respond(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    request: Request<Incoming>,
) -> Response<TrackedBody> {
    let began = Instant::now();
    let (mut parts, body) = request.into_parts();
    let kind = health::kind(parts.uri.path(), &parts.headers);
    let method = shared.services.method(parts.uri.path());
    let in_flight = Arc::new(shared.admit(peer, kind));
    let may_begin = shared.may_begin(began, &mut parts, kind, method, &in_flight);
    let call = Call::begin(
        began,
        &parts,
        kind,
        method,
        shared.metrics.clone(),
        in_flight,
    );
    let ends = Ends {
        peer: peer.clone(),
        deadline: may_begin.as_ref().ok().copied().flatten(),
        idle: *shared.limits.stream_idle_timeout,
        traffic: call.traffic(),
    };
    let compression = compression::negotiate(&mut parts.headers);
    // Who has not shown a token or a certificate is not told where things run.
    let names_replica = may_begin.is_ok() || !shared.auth.is_on();
    let request = Request::from_parts(parts, body);
    let dispatched = match (may_begin, compression) {
        (Err(refusal), _) => answered(refusal.into_response()),
        (_, Err(status)) => answered(status.into_http()),
        _ if kind == Kind::LoadBalancerCheck => {
            health::load_balancer_answer(&shared.lifecycle, &shared.dependencies)
        }
        (_, Ok(compression)) => {
            let traffic = call.traffic();
            let dispatched = (shared.services).call(request, method, compression, traffic);
            match kind {
                Kind::Check => Box::pin(check(dispatched, shared.clone(), peer.clone())),
                _ => dispatched,
            }
        }
    };
    let guard = Guard::new(ends, shared.metrics.clone());
    let mut response = guarded(dispatched, guard, began).await;
    compression::offer_encodings(response.headers_mut());
    if names_replica {
        shared.identity.stamp(response.headers_mut());
    }
    call.follow(response)
}

/// Answers a health check at once if its request is complete. One that has to wait takes one of the few
/// places that its connection has for that, or counts as a call.
async fn check(
    mut dispatched: Answer,
    shared: Arc<Shared>,
    peer: Arc<Peer>,
) -> Result<Response<Body>, Infallible> {
    if let Some(response) = (&mut dispatched).now_or_never() {
        return response;
    }
    let late = peer.late_checks.take();
    let call = match late {
        Some(_) => None,
        None => match shared.calls.admit(&peer.calls) {
            Ok(permit) => Some(permit),
            Err(refused) => {
                shared.refuse(refused, &peer.addr);
                return Ok(status::overloaded().into_http());
            }
        },
    };
    let response = dispatched.await;
    drop((late, call));
    response
}

impl Shared {
    fn admit(&self, peer: &Arc<Peer>, kind: Kind) -> InFlight {
        let place = match kind {
            Kind::LoadBalancerCheck | Kind::Check => {
                self.note_health_check(&peer.addr);
                Ok(Place::None)
            }
            Kind::Watch => match peer.watches.take() {
                None => Err(Refused::Watch),
                watch => self.call(peer, watch),
            },
            Kind::Rpc => self.call(peer, None),
        };
        InFlight {
            open: peer.open_call(),
            _counted: self.metrics.call_begins(),
            place: place.unwrap_or_else(Place::Refused),
            lingering: self.lingering.clone(),
        }
    }

    fn call(&self, peer: &Peer, watch: Option<Taken>) -> Result<Place, Refused> {
        Ok(Place::Call {
            _permit: self.calls.admit(&peer.calls)?,
            _watch: watch,
        })
    }

    /// Health checks are not in the log, so that there has to be word of a flood of them.
    fn note_health_check(&self, peer: &str) {
        const MANY_A_SECOND: u32 = 1000;
        let mut checks = (self.health_checks.lock()).unwrap_or_else(PoisonError::into_inner);
        if checks.add(1) > MANY_A_SECOND
            && let Some(suppressed) = self.warnings.pass("health_checks")
        {
            tracing::warn!(
                peer,
                suppressed,
                "over {MANY_A_SECOND} health checks a second"
            );
        }
    }

    /// Until when the call may take, if it may begin at all.
    fn may_begin(
        &self,
        now: Instant,
        parts: &mut Parts,
        kind: Kind,
        method: Option<&Arc<Method>>,
        in_flight: &InFlight,
    ) -> Result<Option<Instant>, Refusal> {
        let peer = in_flight.open.peer();
        if let Place::Refused(refused) = in_flight.place {
            self.refuse(refused, &peer.addr);
            return Err(status::overloaded().into());
        }
        if kind == Kind::LoadBalancerCheck {
            return Ok(now.checked_add(*self.limits.unary_timeout));
        }
        protocol::check(&parts.method, &parts.headers)?;
        if kind == Kind::Rpc {
            (self.auth).check(parts.uri.path(), &mut parts.headers, &peer.names)?;
        }
        Ok(self.deadline(now, &parts.headers, method)?)
    }

    /// Counts something that a limit keeps out, and warns of it.
    pub(crate) fn refuse(&self, refused: Refused, peer: &str) {
        self.metrics.refuse(refused);
        let reason = refused.name();
        if let Some(suppressed) = self.warnings.pass(reason) {
            tracing::warn!(reason, peer, suppressed, "refused: a limit is reached");
        }
    }

    /// Counts a connection that has failed, and warns of it if that is not the network's doing.
    pub(crate) fn connection_failed(&self, peer: &str, why: &Ended) {
        let Some(reason) = why.reason() else {
            return tracing::debug!(peer, %why, "connection lost");
        };
        self.metrics.connection_failed(reason);
        if let Some(suppressed) = self.warnings.pass(reason) {
            tracing::warn!(reason, peer, %why, suppressed, "connection closed");
        }
    }

    fn deadline(
        &self,
        now: Instant,
        headers: &HeaderMap,
        method: Option<&Arc<Method>>,
    ) -> Result<Option<Instant>, Status> {
        let given = timeout::of(headers)?;
        let unary = method.filter(|method| method.is_unary());
        let ours = unary.map(|_| *self.limits.unary_timeout);
        let shorter: Option<Duration> = given.into_iter().chain(ours).min();
        Ok(shorter.and_then(|time| now.checked_add(time)))
    }
}
