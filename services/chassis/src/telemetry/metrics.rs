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
    metrics::{
        counter::Counter, family::Family, gauge::Gauge, histogram::Histogram,
        histogram::exponential_buckets,
    },
    registry::{Metric, Registry},
};
use tonic::Code;

use crate::{state::dependency::Dependencies, telemetry::logging, wire::status::code_name};

/// The counts of one process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    of_services: ServiceMetrics,
    calls: Family<Outcome, Counter>,
    seconds: Family<Label, Histogram, fn() -> Histogram>,
    refused: Family<Refusal, Counter>,
    connections_failed: Family<Reason, Counter>,
    pub(crate) calls_in_flight: Gauge,
    connections: Gauge,
    pub(crate) panics: Counter,
    file_problem: Family<Files, Gauge>,
    log_lines_dropped: Gauge,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    method: Arc<str>,
    code: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Label {
    method: Arc<str>,
}

/// What is counted of a method.
#[derive(Debug)]
pub(crate) struct MethodMetrics {
    method: Arc<str>,
    /// What nearly every call changes, found once: finding it by its labels costs more than all else that is
    /// counted of a call.
    found: OnceLock<Found>,
}

#[derive(Debug, Clone)]
struct Found {
    seconds: Histogram,
    ok: Counter,
}

impl MethodMetrics {
    /// `method` is the path, `/package.Service/Method`.
    pub(crate) fn new(method: Arc<str>) -> Self {
        let found = OnceLock::new();
        Self { method, found }
    }
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Refusal {
    what: &'static str,
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
            calls: Family::default(),
            seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.000_25, 4.0, 10))
            }),
            refused: Family::default(),
            connections_failed: Family::default(),
            calls_in_flight: Gauge::default(),
            connections: Gauge::default(),
            panics: Counter::default(),
            file_problem: Family::default(),
            log_lines_dropped: Gauge::default(),
        };
        metrics.register(dependencies);
        metrics
    }

    fn register(&mut self, dependencies: &Dependencies) {
        let certificates = self.file_problem("certificates");
        let registry = &mut self.registry;
        registry.register("grpc_calls", "Calls that have ended", self.calls.clone());
        registry.register(
            "grpc_call_seconds",
            "How long calls took, to the end of their streams",
            self.seconds.clone(),
        );
        registry.register(
            "grpc_refused",
            "What a limit has kept out",
            self.refused.clone(),
        );
        registry.register(
            "grpc_connections_failed",
            "Connections that were closed for a fault of the peer",
            self.connections_failed.clone(),
        );
        registry.register(
            "grpc_calls_in_flight",
            "Calls in progress",
            self.calls_in_flight.clone(),
        );
        registry.register(
            "grpc_connections",
            "Open connections",
            self.connections.clone(),
        );
        registry.register("grpc_panics", "Handlers that panicked", self.panics.clone());
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

    /// Counts a call; `method` is None where there is no such method, since callers can make up any
    /// number of names.
    pub(crate) fn call_ended(&self, method: Option<&MethodMetrics>, code: Code, took: Duration) {
        match method {
            Some(method) => {
                let counts = (method.found).get_or_init(|| self.of(method.method.clone()));
                counts.seconds.observe(took.as_secs_f64());
                match code {
                    Code::Ok => _ = counts.ok.inc(),
                    code => self.count(method.method.clone(), code),
                }
            }
            None => {
                let other: Arc<str> = "other".into();
                self.of(other.clone()).seconds.observe(took.as_secs_f64());
                self.count(other, code);
            }
        }
    }

    fn count(&self, method: Arc<str>, code: Code) {
        let code = code_name(code);
        self.calls.get_or_create(&Outcome { method, code }).inc();
    }

    fn of(&self, method: Arc<str>) -> Found {
        let ok = Outcome {
            method: method.clone(),
            code: code_name(Code::Ok),
        };
        Found {
            seconds: self.seconds.get_or_create(&Label { method }).clone(),
            ok: self.calls.get_or_create(&ok).clone(),
        }
    }

    /// Counts an open connection until the result is dropped.
    pub(crate) fn connection_opens(&self) -> Counted {
        Counted::in_gauge(&self.connections)
    }

    pub(crate) fn refuse(&self, what: Refused) {
        let what = what.name();
        self.refused.get_or_create(&Refusal { what }).inc();
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
