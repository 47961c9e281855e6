//! One line for each call, written when its stream has ended, however it ended.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use http::{HeaderMap, HeaderName};
use tokio::time::Instant;
use tonic::Code;

use crate::{
    call::{in_flight::InFlight, kind::Kind},
    services::context::CallContext,
    telemetry::metrics::Metrics,
    wire::status::code_name,
};

// Looking a header up by its text takes twice as long.
const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// A call in progress. Dropping it writes its line and counts it.
pub(crate) struct CallRecord {
    pub(crate) began: Instant,
    pub(crate) context: CallContext,
    pub(crate) kind: Kind,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) in_flight: Arc<InFlight>,
    /// The `grpc-status` that went out. While there is none, a call that ends was cancelled.
    pub(crate) code: Option<Code>,
}

impl CallRecord {
    pub(crate) fn note_status(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get(&STATUS) {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        let traffic = self.context.traffic();
        let client_reset = traffic.client_reset.load(Relaxed);
        let code = (self.code.filter(|_| !client_reset)).unwrap_or(Code::Cancelled);
        let took = self.began.elapsed();
        let method = self.kind.method().map(|method| &method.metrics);
        self.metrics.call_ended(method, code, took);
        // A macro, because the level of a tracing event is fixed where it stands.
        macro_rules! line {
            ($level:ident) => {{
                let [forwarded_for, trace_id, user_agent] = self.context.logged();
                tracing::$level!(
                    target: "access",
                    method = self.context.logged_method(),
                    code = code_name(code),
                    duration_ms = took.as_micros() as f64 / 1000.0,
                    messages_in = traffic.received.load(Relaxed),
                    messages_out = traffic.sent.load(Relaxed),
                    peer = self.context.peer(),
                    forwarded_for = forwarded_for.as_deref(),
                    trace_id = trace_id.as_deref(),
                    user_agent = user_agent.as_deref(),
                    "call"
                )
            }};
        }
        // Health checks come every few seconds from every side and would drown the rest.
        let is_routine = match self.kind {
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
