//! One line for each call, written when its stream has ended, however it ended.

use std::{
    borrow::Cow,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, Uri, header::USER_AGENT, request::Parts};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::{
    call::{InFlight, termination::Guarded},
    connection::stream::ResponseBody,
    services::{
        Method,
        health::Kind,
        request_body::{Messages, Traffic, message_length},
    },
    telemetry::metrics::Metrics,
    wire::status::code_name,
};

// Looking a header up by its text takes twice as long.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// A call in progress. Dropping it writes its line.
pub(crate) struct Call {
    uri: Uri,
    forwarded_for: Option<HeaderValue>,
    trace_id: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    began: Instant,
    traffic: Arc<Traffic>,
    /// None where there is no such method.
    method: Option<Arc<Method>>,
    metrics: Arc<Metrics>,
    kind: Kind,
    in_flight: Arc<InFlight>,
    /// The `grpc-status` that went out. While there is none, a call that ends was cancelled.
    code: Option<Code>,
}

impl Call {
    pub(crate) fn begin(
        began: Instant,
        request: &Parts,
        kind: Kind,
        method: Option<&Arc<Method>>,
        metrics: Arc<Metrics>,
        in_flight: Arc<InFlight>,
    ) -> Self {
        let header = |name: &HeaderName| request.headers.get(name).cloned();
        Self {
            uri: request.uri.clone(),
            forwarded_for: header(&FORWARDED_FOR),
            trace_id: header(&TRACE_ID),
            user_agent: header(&USER_AGENT),
            began,
            traffic: Arc::default(),
            method: method.cloned(),
            metrics,
            kind,
            in_flight,
            code: None,
        }
    }

    /// Where everyone is to report what they have seen.
    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }

    /// Follows the call through the body of its response.
    pub(crate) fn follow(mut self, response: Response<Guarded>) -> Response<TrackedBody> {
        self.note_status(response.headers());
        response.map(|body| TrackedBody {
            body,
            call: self,
            messages: Messages::new(),
        })
    }

    fn note_status(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get(&STATUS) {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let broke_off = self.traffic.broke_off.load(Relaxed);
        let code = self.code.filter(|_| !broke_off).unwrap_or(Code::Cancelled);
        let took = self.began.elapsed();
        (self.metrics).call_ended(self.method.as_deref(), code, took);
        let method = self.uri.path();
        // A macro, because the level of a tracing event is fixed where it stands.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "access",
                    method = shortened(method),
                    code = code_name(code),
                    duration_ms = took.as_micros() as f64 / 1000.0,
                    messages_in = self.traffic.received.load(Relaxed),
                    messages_out = self.traffic.sent.load(Relaxed),
                    peer = self.in_flight.open.peer().addr,
                    forwarded_for = text(self.forwarded_for.as_ref()).as_deref().map(shortened),
                    trace_id = text(self.trace_id.as_ref()).as_deref().map(shortened),
                    user_agent = text(self.user_agent.as_ref()).as_deref().map(shortened),
                    "call"
                )
            };
        }
        // Health checks come every few seconds from every side and would drown the rest.
        let is_routine = match self.kind {
            Kind::Rpc => false,
            Kind::LoadBalancerCheck | Kind::Check => code == Code::Ok,
            Kind::Watch => true,
        };
        if is_routine {
            line!(debug);
        } else {
            line!(info);
        }
    }
}

fn text(header: Option<&HeaderValue>) -> Option<Cow<'_, str>> {
    header.map(|value| String::from_utf8_lossy(value.as_bytes()))
}

/// What callers can make as long as they like, as it is logged: 200 characters at most.
fn shortened(text: &str) -> &str {
    const MOST: usize = 200;
    // So many bytes are no more characters, and need not be counted.
    if text.len() <= MOST {
        return text;
    }
    match text.char_indices().nth(MOST) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// A response body that reports to the call it belongs to.
pub(crate) struct TrackedBody {
    body: Guarded,
    call: Call,
    messages: Messages,
}

impl ResponseBody for TrackedBody {
    fn in_flight(&self) -> Option<Arc<InFlight>> {
        Some(self.call.in_flight.clone())
    }

    fn deadline(&self) -> Option<Instant> {
        self.body.deadline()
    }

    fn abort(&mut self, code: Code) {
        self.call.code = Some(code);
    }
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref() {
                let length = |_, prefix: &_| Ok::<_, Infallible>(message_length(prefix));
                let Ok(()) = self.messages.feed(data, length);
                (self.call.traffic.sent).store(self.messages.complete(), Relaxed);
            } else if let Some(trailers) = frame.trailers_ref() {
                self.call.note_status(trailers);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
