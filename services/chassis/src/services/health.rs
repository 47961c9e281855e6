//! `grpc.health.v1.Health`, and the health checks of load balancers that read only the status code.
//!
//! tonic-health is not used: it has no List, answers Watch of an unknown service with NOT_FOUND where
//! the protocol wants SERVICE_UNKNOWN on an open stream, starts out SERVING, and keeps Watch streams
//! open through a shutdown.

use std::{pin::Pin, time::Duration};

use tokio::{
    select,
    time::{sleep, timeout},
};
use tokio_stream::Stream;
use tonic::Status;

use crate::{
    services::{
        Services,
        handler::{ResponseFuture, ready_response},
        health::v1::{
            HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
            health_check_response::ServingStatus,
            health_server::{Health as Protocol, HealthServer},
        },
    },
    state::{
        dependency::Dependencies,
        lifecycle::{Lifecycle, Phase},
    },
    wire::status::closing,
};

/// The health protocol as generated code.
#[allow(missing_docs, clippy::all, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("grpc.health.v1");
    /// The protocol as an encoded `google.protobuf.FileDescriptorSet`, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("health");
}

/// Time for GOAWAY to arrive before a Watch ends: its client will ask again at once, and h2 takes what
/// belongs to a call beyond its last GOAWAY for a breach of the protocol, and closes the connection under
/// the calls that are still open.
const GOODBYE: Duration = Duration::from_millis(500);

/// The health of a process: of the server as a whole (`""`) and of each service on it.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    names: Vec<&'static str>,
    lifecycle: Lifecycle,
    dependencies: Dependencies,
    /// How long a Watch may be silent.
    heartbeat: Duration,
}

impl Health {
    /// The health of a server with these services, following `lifecycle` and what they
    /// depend on.
    pub(crate) fn new(
        services: impl IntoIterator<Item = &'static str>,
        lifecycle: Lifecycle,
        dependencies: Dependencies,
        heartbeat: Duration,
    ) -> Self {
        let names = [""].into_iter().chain(services).collect();
        Self {
            names,
            lifecycle,
            dependencies,
            heartbeat,
        }
    }

    /// Adds the health service.
    pub(crate) fn add_to(self, services: Services) -> Services {
        const MAX_REQUEST_BYTES: usize = 1024;
        services
            .and_described_by(v1::FILE_DESCRIPTOR_SET)
            .add_service_limited(HealthServer::new(self), MAX_REQUEST_BYTES)
    }

    fn status(&self, service: &str, phase: Phase) -> ServingStatus {
        if !self.names.contains(&service) {
            ServingStatus::ServiceUnknown
        } else if phase == Phase::Serving && self.dependencies.suffice(service) {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    }
}

#[tonic::async_trait]
impl Protocol for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match self.status(&service, self.lifecycle.phase()) {
            ServingStatus::ServiceUnknown => {
                Err(Status::not_found(format!("unknown service {service:.200}")))
            }
            status => Ok(tonic::Response::new(response(status))),
        }
    }

    async fn list(
        &self,
        _: tonic::Request<HealthListRequest>,
    ) -> Result<tonic::Response<HealthListResponse>, Status> {
        let phase = self.lifecycle.phase();
        let statuses = self
            .names
            .iter()
            .map(|name| (name.to_string(), response(self.status(name, phase))))
            .collect();
        Ok(tonic::Response::new(HealthListResponse { statuses }))
    }

    async fn watch(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let health = self.clone();
        Ok(tonic::Response::new(Box::pin(async_stream::try_stream! {
            let mut phases = health.lifecycle.phases();
            let mut dependencies = health.dependencies.changes();
            let mut last = None;
            loop {
                let phase = *phases.borrow_and_update();
                dependencies.mark_unchanged();
                let status = health.status(&service, phase);
                if last.replace(status) != Some(status) {
                    yield response(status);
                }
                // Nothing will ever change again, and an open Watch would hold the connection.
                if phase >= Phase::Draining {
                    sleep(GOODBYE).await;
                    Err(closing())?;
                }
                // Neither is ever closed: `health` keeps the senders alive.
                let changed = async {
                    select! {
                        _ = phases.changed() => {}
                        _ = dependencies.changed() => {}
                    }
                };
                if timeout(health.heartbeat, changed).await.is_err() {
                    last = None;
                }
            }
        })))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

/// Answers a load balancer: OK while serving, UNAVAILABLE in every other phase and while something is
/// unavailable that is required.
///
/// Its request is not read, because what an ALB sends along is not documented.
pub(crate) fn load_balancer_answer(
    lifecycle: &Lifecycle,
    dependencies: &Dependencies,
) -> ResponseFuture {
    let status = match (lifecycle.phase(), dependencies.missing()) {
        (Phase::Serving, None) => Status::ok(""),
        (Phase::Serving, Some(missing)) => Status::unavailable(missing),
        (phase, _) => Status::unavailable(phase.to_string()),
    };
    ready_response(status.into_http())
}
