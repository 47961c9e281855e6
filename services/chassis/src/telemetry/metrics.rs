//! What is counted, and shown at `/metrics`.

use std::{
    any::Any,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::{
        EncodeLabelSet,
        text::{encode_eof, encode_registry},
    },
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Metric, Registry},
};
use tonic::Code;

use crate::{
    settings::VERSION,
    state::dependency::Dependencies,
    telemetry::{logging, process::ProcessCollector},
};

/// The counts of one process, under the names of go-grpc-prometheus where it has one: dashboards and rules know
/// those. <https://github.com/grpc-ecosystem/go-grpc-middleware/tree/main/providers/prometheus>
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    of_services: ServiceMetrics,
    started: Family<MethodLabels, Counter>,
    handled: Family<Handled, Counter>,
    received: Family<MethodLabels, Counter>,
    sent: Family<MethodLabels, Counter>,
    seconds: Family<MethodLabels, Histogram, fn() -> Histogram>,
    unknown: MethodMetrics,
    rejected: Family<Reason, Counter>,
    connections_failed: Family<Reason, Counter>,
    pub(crate) in_flight: Gauge,
    connections: Gauge,
    pub(crate) panics: Counter,
    file_problem: Family<Files, Gauge>,
    log_lines_dropped: Gauge,
}

/// Seconds, from a call that is answered from memory to one that waits for its deadline.
const BUCKETS: [f64; 19] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// A method, by the labels of go-grpc-prometheus.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct MethodLabels {
    grpc_type: &'static str,
    grpc_service: Arc<str>,
    grpc_method: Arc<str>,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Handled {
    #[prometheus(flatten)]
    method: MethodLabels,
    grpc_code: &'static str,
}

/// What is counted of a method.
#[derive(Debug)]
pub(crate) struct MethodMetrics {
    labels: MethodLabels,
    /// What nearly every call changes, found once: finding it by its labels costs more than all else that is
    /// counted of a call.
    found: OnceLock<MethodCounts>,
}

/// The counts of a method.
#[derive(Debug, Clone)]
pub(crate) struct MethodCounts {
    pub(crate) started: Counter,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    ok: Counter,
    seconds: Histogram,
}

impl MethodMetrics {
    pub(crate) fn new(
        service: &str,
        method: &str,
        client_streaming: bool,
        server_streaming: bool,
    ) -> Self {
        let grpc_type = match (client_streaming, server_streaming) {
            (false, false) => "unary",
            (true, false) => "client_stream",
            (false, true) => "server_stream",
            (true, true) => "bidi_stream",
        };
        let labels = MethodLabels {
            grpc_type,
            grpc_service: service.into(),
            grpc_method: method.into(),
        };
        let found = OnceLock::new();
        Self { labels, found }
    }

    /// What counts its requests' messages, once a call has begun.
    pub(crate) fn received(&self) -> Option<&Counter> {
        self.found.get().map(|counts| &counts.received)
    }
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Files that are followed, by what they hold.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Files {
    what: &'static str,
}

/// What a limit has kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A connection, because there are too many.
    Connection,
    /// A connection, because its peer has too many.
    ConnectionOfPeer,
    /// A call, because there are too many.
    Call,
    /// A call, because its peer has too many.
    CallOfPeer,
    /// A health Watch, because its connection has too many.
    Watch,
}

impl Refused {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::ConnectionOfPeer => "connection_of_peer",
            Self::Call => "call",
            Self::CallOfPeer => "call_of_peer",
            Self::Watch => "watch",
        }
    }
}

impl Metrics {
    pub(crate) fn new(dependencies: &Dependencies, of_services: ServiceMetrics) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            of_services,
            started: Family::default(),
            handled: Family::default(),
            received: Family::default(),
            sent: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            // Callers can make up any number of names.
            unknown: MethodMetrics::new("unknown", "unknown", false, false),
            rejected: Family::default(),
            connections_failed: Family::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            panics: Counter::default(),
            file_problem: Family::default(),
            log_lines_dropped: Gauge::default(),
        };
        metrics.register(dependencies);
        metrics
    }

    fn register(&mut self, dependencies: &Dependencies) {
        self.register_calls();
        let certificates = self.file_problem("certificates");
        let registry = &mut self.registry;
        registry.register_collector(Box::new(ProcessCollector));
        let version = Info::new(vec![("version", VERSION)]);
        registry.register("build", "Which build this is", version);
        registry.register(
            "tls_certificate_problem",
            "Whether the certificate files have changed to something that cannot be used",
            certificates,
        );
        registry.register(
            "file_problem",
            "Whether files that are followed have changed to something that cannot be used",
            self.file_problem.clone(),
        );
        registry.register(
            "dependency_up",
            "Whether what a service asks for elsewhere is there",
            dependencies.up.clone(),
        );
        registry.register(
            "log_lines_dropped",
            "Log lines lost because nobody read the earlier ones",
            self.log_lines_dropped.clone(),
        );
    }

    fn register_calls(&mut self) {
        let calls = self.registry.sub_registry_with_prefix("grpc_server");
        calls.register("started", "Calls that have begun", self.started.clone());
        let handled = self.handled.clone();
        calls.register("handled", "Calls that have ended, by their status", handled);
        calls.register(
            "msg_received",
            "Messages of requests",
            self.received.clone(),
        );
        calls.register("msg_sent", "Messages of responses", self.sent.clone());
        let help = "How long calls took, to the end of their streams";
        calls.register("handling_seconds", help, self.seconds.clone());
        calls.register("in_flight", "Calls in progress", self.in_flight.clone());
        let rejected = self.rejected.clone();
        calls.register("rejected", "Calls and connections over a limit", rejected);
        calls.register("connections", "Open connections", self.connections.clone());
        let help = "Connections that were closed for a fault of the peer";
        calls.register("connections_failed", help, self.connections_failed.clone());
        calls.register("panics", "Handlers that panicked", self.panics.clone());
    }

    /// The counts of a method; without one, those of all that there is not.
    pub(crate) fn counts<'a>(&'a self, method: Option<&'a MethodMetrics>) -> &'a MethodCounts {
        let MethodMetrics { labels, found } = method.unwrap_or(&self.unknown);
        found.get_or_init(|| MethodCounts {
            started: self.started.get_or_create(labels).clone(),
            received: self.received.get_or_create(labels).clone(),
            sent: self.sent.get_or_create(labels).clone(),
            ok: self.handled(labels, Code::Ok),
            seconds: self.seconds.get_or_create(labels).clone(),
        })
    }

    /// Counts a call that has ended.
    pub(crate) fn call_ended(&self, method: Option<&MethodMetrics>, code: Code, took: Duration) {
        let counts = self.counts(method);
        counts.seconds.observe(took.as_secs_f64());
        match code {
            Code::Ok => counts.ok.inc(),
            code => self
                .handled(&method.unwrap_or(&self.unknown).labels, code)
                .inc(),
        };
    }

    fn handled(&self, method: &MethodLabels, code: Code) -> Counter {
        let of_code = Handled {
            method: method.clone(),
            grpc_code: go_code(code),
        };
        self.handled.get_or_create(&of_code).clone()
    }

    /// Counts an open connection until the result is dropped.
    pub(crate) fn connection_opens(&self) -> Counted {
        Counted::in_gauge(&self.connections)
    }

    pub(crate) fn refuse(&self, what: Refused) {
        let reason = what.name();
        self.rejected.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn connection_failed(&self, reason: &'static str) {
        let reason = Reason { reason };
        self.connections_failed.get_or_create(&reason).inc();
    }

    /// 1 while the files that hold this cannot be used as they are.
    pub(crate) fn file_problem(&self, what: &'static str) -> Gauge {
        self.file_problem.get_or_create(&Files { what }).clone()
    }

    /// Everything, in the text format of OpenMetrics, which Prometheus reads.
    pub(crate) fn text(&self) -> String {
        (self.log_lines_dropped).set(logging::dropped_lines() as i64);
        let mut text = String::new();
        // Cannot fail: a String takes all that is written.
        let _ = encode_registry(&mut text, &self.registry);
        let _ = encode_registry(&mut text, &self.of_services.registry());
        let _ = encode_eof(&mut text);
        text
    }
}

/// Metrics that a service adds. Their names begin with the server's: of the greeter, the counter `greetings`
/// is `greeter_greetings_total`.
#[derive(Debug, Clone)]
pub struct ServiceMetrics(Arc<Mutex<Registry>>);

impl ServiceMetrics {
    pub(crate) fn new(app: &str) -> Self {
        let registry = Registry::with_prefix(app.replace('-', "_"));
        Self(Arc::new(Mutex::new(registry)))
    }

    /// Adds a counter; `help` is a sentence without a full stop.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.register(name, help, Counter::default())
    }

    /// Adds a gauge.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    /// Adds a histogram with these upper bounds of its buckets; the last is infinity by itself.
    pub fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        self.register(name, help, Histogram::new(bounds.iter().copied()))
    }

    /// Adds a metric of any type, such as a family with labels.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.registry().register(name, help, metric.clone());
        metric
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A code as Go spells it, and with it go-grpc-prometheus and the dashboards for it.
/// <https://pkg.go.dev/google.golang.org/grpc/codes>
fn go_code(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    (panic.downcast_ref::<&str>().copied())
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

/// One that is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    fn in_gauge(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
