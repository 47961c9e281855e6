//! The life of a request.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Request, Response, request::Parts};
use hyper::body::Incoming;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tonic::Status;

use crate::{
    access_log::{Call, Followed},
    auth::Auth,
    connection::{OpenCall, Peer},
    deadline,
    dependency::Dependencies,
    guard::{Ends, Guard, Guarded, guarded},
    health,
    identity::Identity,
    lifecycle::Lifecycle,
    limits::Limits,
    metrics::{Counted, Metrics, Refused},
    protocol::{self, Refusal},
    services::{Method, Services, answered},
    status,
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
    /// A permit for each call that may be open.
    pub(crate) calls: Arc<Semaphore>,
    /// The same for health checks, which must not fail because there is much else to do.
    pub(crate) checks: Arc<Semaphore>,
}

/// What a call holds until its stream has ended.
pub(crate) struct Held {
    pub(crate) open: OpenCall,
    _counted: Counted,
    /// None for a call that is one too many.
    permit: Option<OwnedSemaphorePermit>,
}

/// The life of a request: count, log, check, guard, dispatch, and say who answered.
pub(crate) async fn answer(
    shared: &Shared,
    peer: &Arc<Peer>,
    request: Request<Incoming>,
) -> Response<Followed<Guarded>> {
    let began = Instant::now();
    let (mut parts, body) = request.into_parts();
    let method = shared.services.method(parts.uri.path());
    let held = Held {
        open: peer.open_call(),
        _counted: shared.metrics.call_begins(),
        permit: shared.permit(parts.uri.path()),
    };
    let may_begin = shared.may_begin(began, &mut parts, method, peer, &held);
    let call = Call::begin(began, &parts, method, shared.metrics.clone(), held);
    let ends = Ends {
        peer: peer.clone(),
        deadline: may_begin.as_ref().ok().copied().flatten(),
        idle: *shared.limits.stream_idle_timeout,
        traffic: call.traffic(),
    };
    protocol::reply_in_kind(&mut parts.headers);
    let request = Request::from_parts(parts, body);
    let dispatched = if let Err(refusal) = may_begin {
        answered(refusal.into_response())
    } else if health::is_load_balancer_check(request.uri().path(), request.headers()) {
        let (lifecycle, dependencies) = (&shared.lifecycle, &shared.dependencies);
        health::load_balancer_answer(request, lifecycle.clone(), dependencies.clone())
    } else {
        shared.services.call(request, method, call.traffic())
    };
    let guard = Guard::new(ends, shared.metrics.clone());
    let mut response = guarded(dispatched, guard, began).await;
    protocol::offer_encodings(response.headers_mut());
    shared.identity.stamp(response.headers_mut());
    call.follow(response)
}

impl Shared {
    fn permit(&self, path: &str) -> Option<OwnedSemaphorePermit> {
        let share = match health::is_check(path) {
            true => &self.checks,
            false => &self.calls,
        };
        share.clone().try_acquire_owned().ok()
    }

    /// Until when the call may take, if it may begin at all.
    fn may_begin(
        &self,
        now: Instant,
        parts: &mut Parts,
        method: Option<&Arc<Method>>,
        peer: &Peer,
        held: &Held,
    ) -> Result<Option<Instant>, Refusal> {
        if held.permit.is_none() {
            self.metrics.refuse(Refused::Call);
            return Err(status::overloaded().into());
        }
        let path = parts.uri.path();
        if health::is_load_balancer_check(path, &parts.headers) {
            return Ok(now.checked_add(*self.limits.unary_timeout));
        }
        protocol::check(&parts.method, &parts.headers)?;
        (self.auth).check(path, &mut parts.headers, &peer.names)?;
        Ok(self.deadline(now, &parts.headers, method)?)
    }

    fn deadline(
        &self,
        now: Instant,
        headers: &HeaderMap,
        method: Option<&Arc<Method>>,
    ) -> Result<Option<Instant>, Status> {
        let given = deadline::of(headers)?;
        let unary = method.filter(|method| method.is_unary());
        let ours = unary.map(|_| *self.limits.unary_timeout);
        let shorter: Option<Duration> = given.into_iter().chain(ours).min();
        Ok(shorter.and_then(|time| now.checked_add(time)))
    }
}
