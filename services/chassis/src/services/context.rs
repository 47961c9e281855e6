//! What a handler may know of its call.

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tonic::metadata::MetadataValue;

use crate::{telemetry::trace_context::TraceId, wire::certificate::CertificateName};

/// An Application Load Balancer's name for a trace.
const AMZN_TRACE_ID: &str = "x-amzn-trace-id";
/// <https://www.w3.org/TR/trace-context/>
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// The call that a request belongs to. Handlers, interceptors and layers find it in the extensions of the
/// request: `request.extensions().get::<CallContext>()`.
#[derive(Debug, Clone)]
pub struct CallContext {
    // Not behind an Arc, for extensions take memory for each value anyway.
    client: Arc<Client>,
    method: Arc<str>,
    deadline: Option<Instant>,
    forwarded_for: Option<HeaderValue>,
    amzn_trace_id: Option<HeaderValue>,
    traceparent: Option<HeaderValue>,
    tracestate: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    trace_id: Option<TraceId>,
}

/// The other end of a connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) addr: SocketAddr,
    /// The address as text: every call has it in its log line.
    pub(crate) text: String,
    /// The names in the certificate that it has shown.
    pub(crate) names: Vec<CertificateName>,
}

impl CallContext {
    /// `method` is the path.
    pub(crate) fn new(
        client: Arc<Client>,
        method: Arc<str>,
        headers: &HeaderMap,
        deadline: Option<Instant>,
    ) -> Self {
        let mut context = Self {
            client,
            method,
            deadline,
            forwarded_for: None,
            amzn_trace_id: None,
            traceparent: None,
            tracestate: None,
            user_agent: None,
            trace_id: None,
        };
        // In one pass, which costs less than to look for each.
        for (name, value) in headers {
            let header = match name.as_str() {
                "x-forwarded-for" => &mut context.forwarded_for,
                AMZN_TRACE_ID => &mut context.amzn_trace_id,
                TRACEPARENT => &mut context.traceparent,
                TRACESTATE => &mut context.tracestate,
                "user-agent" => &mut context.user_agent,
                _ => continue,
            };
            header.get_or_insert_with(|| value.clone());
        }
        let of_client = context
            .traceparent
            .as_ref()
            .and_then(TraceId::of_traceparent);
        let of_balancer = || context.amzn_trace_id.as_ref().and_then(TraceId::of_amzn);
        context.trace_id = of_client.or_else(of_balancer);
        context
    }

    /// The address of the connection's other end: behind a load balancer, the load balancer's.
    pub fn peer_addr(&self) -> SocketAddr {
        self.client.addr
    }

    /// The names in the subjectAltName of the client certificate, verified against `--tls-client-ca`; none
    /// without mTLS.
    pub fn certificate_names(&self) -> &[CertificateName] {
        &self.client.names
    }

    /// The path of the method, `/package.Service/Method`.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// When the call has to be over: the client's `grpc-timeout` or, for a unary call, `--unary-timeout`,
    /// whichever is shorter. The chassis ends the call then; a handler need not watch it.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The trace that the call belongs to: that of the client's `traceparent`, else that of `x-amzn-trace-id`,
    /// which an Application Load Balancer adds to every request. None if neither is well formed.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace_id
    }

    /// The trace of `x-amzn-trace-id`, where the call has another by `traceparent`: the one that is in the load
    /// balancer's access log.
    pub(crate) fn balancer_trace_id(&self) -> Option<TraceId> {
        let of_balancer = self.amzn_trace_id.as_ref().and_then(TraceId::of_amzn)?;
        (self.trace_id != Some(of_balancer)).then_some(of_balancer)
    }

    /// `x-forwarded-for` as it came: whoever is no load balancer of yours can write anything there.
    pub fn forwarded_for(&self) -> Option<&str> {
        text(self.forwarded_for.as_ref())
    }

    /// `user-agent` as it came.
    pub fn user_agent(&self) -> Option<&str> {
        text(self.user_agent.as_ref())
    }

    /// A request to another service, on behalf of this call: with what is left of its deadline as
    /// `grpc-timeout`, and its trace headers.
    pub fn propagate<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        for (name, value) in [
            (AMZN_TRACE_ID, &self.amzn_trace_id),
            (TRACEPARENT, &self.traceparent),
            (TRACESTATE, &self.tracestate),
        ] {
            if let Some(value) = value
                && let Ok(value) = MetadataValue::try_from(value.as_bytes())
            {
                request.metadata_mut().insert(name, value);
            }
        }
        request
    }

    /// The path of the method, as it is logged.
    pub(crate) fn logged_method(&self) -> &str {
        shortened(self.method())
    }

    /// `x-forwarded-for`, as it is logged.
    pub(crate) fn logged_forwarded_for(&self) -> Option<Cow<'_, str>> {
        lossy(self.forwarded_for.as_ref())
    }

    /// `user-agent`, as it is logged.
    pub(crate) fn logged_user_agent(&self) -> Option<Cow<'_, str>> {
        lossy(self.user_agent.as_ref())
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

/// What callers can make as long as they like, as it is logged: 200 characters at most.
fn shortened(text: &str) -> &str {
    const MAX_CHARS: usize = 200;
    // So many bytes are no more characters, and need not be counted.
    if text.len() <= MAX_CHARS {
        return text;
    }
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// As it is logged, whatever bytes it has.
fn lossy(header: Option<&HeaderValue>) -> Option<Cow<'_, str>> {
    let bytes = header?.as_bytes();
    Some(match std::str::from_utf8(bytes) {
        Ok(text) => shortened(text).into(),
        Err(_) => shortened(&String::from_utf8_lossy(bytes)).to_owned().into(),
    })
}

/// None if it is not visible ASCII.
fn text(header: Option<&HeaderValue>) -> Option<&str> {
    header?.to_str().ok()
}
