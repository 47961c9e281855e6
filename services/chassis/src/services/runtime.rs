//! What a service gets from the process that it is built in.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use tokio::select;

use crate::{
    state::{
        dependency::{Dependencies, Dependency, Requirement},
        lifecycle::{Lifecycle, Phase},
    },
    telemetry::metrics::{Metrics, ServiceMetrics, panic_text},
};

/// The process, as a service sees it that is being built in it. Clones are of the same process.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) dependencies: Dependencies,
    pub(crate) metrics: Arc<Metrics>,
    service_metrics: ServiceMetrics,
}

impl Runtime {
    /// A process for a server of this name, which begins the names of its metrics. [`App::bind`](crate::App::bind)
    /// makes one; for [`Server::bind`](crate::Server::bind) alone there is this.
    pub fn new(app: &str) -> Self {
        let dependencies = Dependencies::default();
        let service_metrics = ServiceMetrics::new(app);
        Self {
            lifecycle: Lifecycle::new(),
            metrics: Arc::new(Metrics::new(&dependencies, service_metrics.clone())),
            dependencies,
            service_metrics,
        }
    }

    /// Metrics of the service's own, shown at `/metrics` behind the chassis'.
    pub fn metrics(&self) -> &ServiceMetrics {
        &self.service_metrics
    }

    /// Names something that the service needs elsewhere: a store, another service. `/readyz` and
    /// `dependency_up` show it; see [`Dependency::required_by`] for health.
    pub fn dependency(&self, name: &'static str) -> Dependency {
        self.dependencies.add(name)
    }

    /// Resolves when the process begins to drain: no new connection comes, and background work should end.
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + use<> {
        let lifecycle = self.lifecycle.clone();
        async move { lifecycle.reached(Phase::Draining).await }
    }

    /// Runs background work as a task until it ends, or the process does. If it panics, that is logged and
    /// counted, `/readyz` says so, and the health of every service turns NOT_SERVING for good: the process
    /// lacks a part, and its platform has to replace it.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let runtime = self.clone();
        tokio::spawn(async move {
            let work = AssertUnwindSafe(work).catch_unwind();
            let ended = select! {
                ended = work => ended,
                () = runtime.lifecycle.reached(Phase::Closed) => Ok(()),
            };
            if let Err(panic) = ended {
                let panic = panic_text(&*panic);
                tracing::error!(task = name, panic, "a background task panicked");
                runtime.metrics.panics.inc();
                let task = runtime.dependencies.add(name).with(Requirement::Process);
                task.unavailable("its task panicked");
            }
        });
    }
}
