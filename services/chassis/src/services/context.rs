//! What a handler may know of its call.

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use http::{HeaderName, HeaderValue, Uri, header::USER_AGENT, request::Parts};
use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tracing::Span;

use crate::{services::Method, wire::certificate::CertificateName};

// Looking a header up by its text takes twice as long.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// What names a trace: an Application Load Balancer's header, and those of
/// <https://www.w3.org/TR/trace-context/>.
static TRACE: [HeaderName; 3] = [
    HeaderName::from_static("x-amzn-trace-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// The call that a request belongs to. Handlers, interceptors and layers find it in the extensions of the
/// request: `request.extensions().get::<CallContext>()`.
#[derive(Debug, Clone)]
pub struct CallContext(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Arc<Client>,
    uri: Uri,
    method: Option<Arc<Method>>,
    deadline: Option<Instant>,
    forwarded_for: Option<HeaderValue>,
    /// The values of [`TRACE`].
    trace: [Option<HeaderValue>; 3],
    user_agent: Option<HeaderValue>,
    traffic: Traffic,
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

/// What has been seen of a call so far.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    /// The client has half-closed the stream.
    pub(crate) request_ended: AtomicBool,
    /// The client reset the stream, or the connection was lost.
    pub(crate) client_reset: AtomicBool,
}

impl Traffic {
    /// Messages in both directions.
    pub(crate) fn messages(&self) -> u64 {
        self.received.load(Relaxed) + self.sent.load(Relaxed)
    }
}

impl CallContext {
    pub(crate) fn new(
        client: Arc<Client>,
        request: &Parts,
        method: Option<&Arc<Method>>,
        deadline: Option<Instant>,
    ) -> Self {
        let header = |name: &HeaderName| request.headers.get(name).cloned();
        Self(Arc::new(Inner {
            client,
            uri: request.uri.clone(),
            method: method.cloned(),
            deadline,
            forwarded_for: header(&FORWARDED_FOR),
            trace: TRACE.each_ref().map(header),
            user_agent: header(&USER_AGENT),
            traffic: Traffic::default(),
        }))
    }

    /// The address of the connection's other end: behind a load balancer, the load balancer's.
    pub fn peer_addr(&self) -> SocketAddr {
        self.0.client.addr
    }

    /// The names in the subjectAltName of the client certificate, verified against `--tls-client-ca`; none
    /// without mTLS.
    pub fn certificate_names(&self) -> &[CertificateName] {
        &self.0.client.names
    }

    /// The path of the method, `/package.Service/Method`.
    pub fn method(&self) -> &str {
        self.0.uri.path()
    }

    /// When the call has to be over: the client's `grpc-timeout` or, for a unary call, `--unary-timeout`,
    /// whichever is shorter. The chassis ends the call then; a handler need not watch it.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// The trace that the call belongs to: `x-amzn-trace-id` as a load balancer has set it, else the trace id
    /// in `traceparent`.
    pub fn trace_id(&self) -> Option<&str> {
        let [amzn, parent, _] = &self.0.trace;
        let of_parent = || text(parent.as_ref())?.split('-').nth(1);
        text(amzn.as_ref()).or_else(of_parent)
    }

    /// `x-forwarded-for` as it came: whoever is no load balancer of yours can write anything there.
    pub fn forwarded_for(&self) -> Option<&str> {
        text(self.0.forwarded_for.as_ref())
    }

    /// `user-agent` as it came.
    pub fn user_agent(&self) -> Option<&str> {
        text(self.0.user_agent.as_ref())
    }

    /// A request to another service, on behalf of this call: with what is left of its deadline as
    /// `grpc-timeout`, and its trace headers.
    pub fn propagate<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(deadline) = self.0.deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        for (name, value) in TRACE.iter().zip(&self.0.trace) {
            if let Some(value) = value
                && let Ok(value) = MetadataValue::try_from(value.as_bytes())
            {
                request.metadata_mut().insert(name.as_str(), value);
            }
        }
        request
    }

    /// The span of the call, in which its handler runs: what a handler logs carries its fields. `--log
    /// call=off` turns it off.
    pub(crate) fn span(&self) -> Span {
        let trace_id = || {
            let [_, trace_id, _] = self.logged();
            trace_id
        };
        tracing::info_span!(
            target: "call",
            "call",
            method = self.logged_method(),
            trace_id = trace_id().as_deref(),
        )
    }

    /// The path of the method, as it is logged.
    pub(crate) fn logged_method(&self) -> &str {
        shortened(self.method())
    }

    /// `x-forwarded-for`, the trace id and `user-agent`, as they are logged.
    pub(crate) fn logged(&self) -> [Option<Cow<'_, str>>; 3] {
        let inner = &*self.0;
        let trace_id = lossy(inner.trace[0].as_ref()).or_else(|| self.trace_id().map(Cow::from));
        [
            lossy(inner.forwarded_for.as_ref()),
            trace_id,
            lossy(inner.user_agent.as_ref()),
        ]
    }

    pub(crate) fn peer(&self) -> &str {
        &self.0.client.text
    }

    pub(crate) fn described_method(&self) -> Option<&Arc<Method>> {
        self.0.method.as_ref()
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        &self.0.traffic
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
    Some(match String::from_utf8_lossy(header?.as_bytes()) {
        Cow::Borrowed(text) => shortened(text).into(),
        Cow::Owned(text) => shortened(&text).to_owned().into(),
    })
}

/// None if it is not visible ASCII.
fn text(header: Option<&HeaderValue>) -> Option<&str> {
    header?.to_str().ok()
}
