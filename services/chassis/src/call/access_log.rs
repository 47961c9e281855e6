//! One line for each call, written when its stream has ended, however it ended.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use http::HeaderMap;
use tonic::{Code, Status};

use crate::{
    call::{in_flight::InFlight, kind::Kind},
    telemetry::trace_context::TraceId,
    wire::status::code_name,
};

/// A call in progress. Dropping it writes its line and counts it.
pub(crate) struct CallRecord {
    pub(crate) in_flight: Arc<InFlight>,
    /// The `grpc-status` that went out. While there is none, a call that ends was cancelled.
    pub(crate) code: Option<Code>,
}

impl CallRecord {
    pub(crate) fn note_status(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get(Status::GRPC_STATUS) {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        let call = &*self.in_flight;
        let (context, exchange) = (&call.context, &call.exchange);
        let client_reset = exchange.client_reset.load(Relaxed);
        let code = (self.code.filter(|_| !client_reset)).unwrap_or(Code::Cancelled);
        let took = call.began.elapsed();
        let method = call.kind.method();
        if !method.is_some_and(|method| method.is_client_streaming()) {
            let received = exchange.received.load(Relaxed);
            call.counts().received.inc_by(received);
        }
        let method = method.map(|method| &method.metrics);
        call.shared.metrics.call_ended(method, code, took);
        // A macro, because the level of a tracing event is fixed where it stands.
        macro_rules! line {
            ($level:ident) => {{
                tracing::$level!(
                    target: "access",
                    method = context.logged_method(),
                    code = code_name(code),
                    duration_ms = took.as_micros() as f64 / 1000.0,
                    messages_in = exchange.received.load(Relaxed),
                    messages_out = exchange.sent.load(Relaxed),
                    peer = context.client().text,
                    forwarded_for = context.logged_forwarded_for().as_deref(),
                    trace_id = context.trace_id().as_ref().map(TraceId::as_str),
                    balancer_trace_id = context.balancer_trace_id().as_ref().map(TraceId::as_str),
                    user_agent = context.logged_user_agent().as_deref(),
                    "call"
                )
            }};
        }
        // Health checks come every few seconds from every side and would drown the rest.
        let is_routine = match call.kind {
            Kind::Rpc(_) | Kind::Unknown => false,
            Kind::LoadBalancerCheck(_) | Kind::HealthCheck(_) => code == Code::Ok,
            Kind::HealthWatch(_) => true,
        };
        if is_routine {
            line!(debug);
        } else {
            line!(info);
        }
    }
}
