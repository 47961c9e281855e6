//! The life of a request.

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
        access_log::CallRecord,
        auth::Auth,
        call_limit::{CallLimit, Counter},
        in_flight::{InFlight, Place},
        kind::Kind,
        peer::Peer,
        response_body::CallBody,
        served_by::Identity,
        termination::Termination,
    },
    services::{
        Method, Registry,
        context::CallContext,
        handler::{ResponseFuture, ready_response},
        health,
    },
    settings::limits::Limits,
    state::{dependency::Dependencies, lifecycle::Lifecycle},
    telemetry::{
        metrics::{Metrics, Refused},
        throttle::{Rate, Throttle},
    },
    wire::{
        compression::{self, Negotiated},
        incoming::Incoming,
        protocol::{self, Refusal},
        status, timeout,
    },
};

pub(crate) mod access_log;
pub(crate) mod auth;
pub(crate) mod call_limit;
pub(crate) mod in_flight;
pub(crate) mod kind;
pub(crate) mod peer;
pub(crate) mod response_body;
pub(crate) mod served_by;
pub(crate) mod termination;

/// What every call to a listener needs.
pub(crate) struct Shared {
    pub(crate) registry: Registry,
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

/// The life of a request: count, check, log, dispatch, guard, and say who answered.
///
/// No `async fn`, for the task of each stream would have room for the request twice.
pub(crate) fn respond(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> impl Future<Output = Response<CallBody>> + Send {
    let began = Instant::now();
    let (mut head, body) = request.into_parts();
    let kind = Kind::of(&shared.registry, &head);
    let place = Place::take(&shared, &peer, &kind);
    let admitted = shared.admit(began, &mut head, &kind, &peer, &place);
    let deadline = admitted.as_ref().ok().copied().flatten();
    let known = kind.method().map(|method| method.path.clone());
    let method = known.unwrap_or_else(|| head.uri.path().into());
    let context = CallContext::new(peer.client.clone(), method, &head.headers, deadline);
    let exchange = body.exchange().clone();
    let in_flight = InFlight::begin(shared, peer, began, kind, context, exchange, place);
    let compression = compression::negotiate(&mut head.headers);
    let reply_compression = compression.as_ref().ok().and_then(|both| both.reply);
    // Who has not shown a token or a certificate is not told where things run.
    let names_replica = admitted.is_ok() || !in_flight.shared.auth.is_on();
    let request = Request::from_parts(head, body);
    let handler = match (admitted, compression) {
        (Err(refusal), _) => ready_response(refusal.into_response()),
        (_, Err(status)) => ready_response(status.into_http()),
        (_, Ok(compression)) => dispatch(&in_flight, request, compression),
    };
    let mut termination = Termination {
        waiting: None,
        span: in_flight.span(),
        record: CallRecord {
            in_flight,
            code: None,
        },
    };
    async move {
        let mut response = termination.respond(handler).await;
        if let Some(compression) = reply_compression {
            response = compression::compress(response, compression);
        }
        compression::offer_encodings(response.headers_mut());
        if names_replica {
            let shared = &termination.record.in_flight.shared;
            shared.identity.stamp(response.headers_mut());
        }
        CallBody::track(response, termination)
    }
}

/// Has a call answered by what it asks for.
fn dispatch(
    call: &Arc<InFlight>,
    request: Request<Incoming>,
    compression: Negotiated,
) -> ResponseFuture {
    let InFlight { shared, kind, .. } = &**call;
    let method = kind.method().map(Arc::as_ref);
    let answer =
        |request| (shared.registry).call(request, method, compression.request, &call.context);
    match kind {
        Kind::LoadBalancerCheck(_) => {
            health::load_balancer_answer(&shared.lifecycle, &shared.dependencies)
        }
        Kind::HealthCheck(_) => Box::pin(health_check(answer(request), call.clone())),
        Kind::HealthWatch(_) | Kind::Rpc(_) | Kind::Unknown => answer(request),
    }
}

impl Shared {
    /// Until when the call may take, if it may begin at all.
    fn admit(
        &self,
        now: Instant,
        head: &mut Parts,
        kind: &Kind,
        peer: &Peer,
        place: &Place,
    ) -> Result<Option<Instant>, Refusal> {
        if let Place::Refused(refused) = place {
            self.refuse(*refused, peer.addr());
            return Err(status::overloaded().into());
        }
        if let Kind::LoadBalancerCheck(_) | Kind::HealthCheck(_) = kind {
            self.note_health_check(peer.addr());
        }
        if let Kind::LoadBalancerCheck(_) = kind {
            return Ok(now.checked_add(*self.limits.unary_timeout));
        }
        protocol::check(&head.method, &head.headers)?;
        if !kind.is_health() {
            (self.auth).check(head.uri.path(), &mut head.headers, &peer.client.names)?;
        }
        Ok(self.deadline(now, &head.headers, kind.method())?)
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

    /// Counts something that a limit keeps out, and warns of it.
    pub(crate) fn refuse(&self, refused: Refused, peer: &str) {
        self.metrics.refuse(refused);
        let reason = refused.name();
        if let Some(suppressed) = self.warnings.pass(reason) {
            tracing::warn!(reason, peer, suppressed, "refused: a limit is reached");
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

/// Answers a health check at once if its request is complete. One that has to wait takes one of the few
/// places that its connection has for that, or counts as a call.
async fn health_check(
    mut handler: ResponseFuture,
    call: Arc<InFlight>,
) -> Result<Response<Body>, Infallible> {
    if let Some(response) = (&mut handler).now_or_never() {
        return response;
    }
    let InFlight { shared, peer, .. } = &*call;
    let late = peer.late_checks.take();
    let permit = match late {
        Some(_) => None,
        None => match shared.calls.admit(&peer.calls) {
            Ok(permit) => Some(permit),
            Err(refused) => {
                shared.refuse(refused, peer.addr());
                return Ok(status::overloaded().into_http());
            }
        },
    };
    let response = handler.await;
    drop((late, permit));
    response
}
