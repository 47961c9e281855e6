//! What a call is, found once.

use std::sync::Arc;

use http::{header::USER_AGENT, request::Parts};

use crate::services::{Method, Registry, Role};

/// The default health check path of an ALB target group for gRPC.
const ALB_CHECK: &str = "/AWS.ALB/healthcheck";

/// What a call is to the limits, to authentication and to the log.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// From a load balancer that judges the target by the status code alone; of the method, if there is one.
    LoadBalancerCheck(Option<Arc<Method>>),
    /// `Check` or `List`: answered at once, and never refused because there is much else to do.
    HealthCheck(Arc<Method>),
    /// `Watch`: a call that may take for ever.
    HealthWatch(Arc<Method>),
    /// Any other that a descriptor knows.
    Rpc(Arc<Method>),
    Unknown,
}

impl Kind {
    /// An ALB compares only `grpc-status` with its matcher and never reads the message, and
    /// `Health/Check` answers OK even when it says NOT_SERVING.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html>
    pub(crate) fn of(registry: &Registry, request: &Parts) -> Self {
        let path = request.uri.path();
        let is_alb = || {
            let agent = request.headers.get(USER_AGENT);
            agent.is_some_and(|agent| agent.as_bytes().starts_with(b"ELB-HealthChecker/"))
        };
        match registry.method(path).cloned() {
            None if path == ALB_CHECK => Self::LoadBalancerCheck(None),
            None => Self::Unknown,
            Some(method) => match method.role {
                Role::Rpc => Self::Rpc(method),
                Role::HealthWatch => Self::HealthWatch(method),
                Role::HealthCheck if is_alb() && path.ends_with("/Check") => {
                    Self::LoadBalancerCheck(Some(method))
                }
                Role::HealthCheck => Self::HealthCheck(method),
            },
        }
    }

    /// The method, if a descriptor knows it.
    pub(crate) fn method(&self) -> Option<&Arc<Method>> {
        match self {
            Self::LoadBalancerCheck(method) => method.as_ref(),
            Self::HealthCheck(method) | Self::HealthWatch(method) | Self::Rpc(method) => {
                Some(method)
            }
            Self::Unknown => None,
        }
    }

    /// Whether anyone may call it, and any number at once.
    pub(crate) fn is_health(&self) -> bool {
        !matches!(self, Self::Rpc(_) | Self::Unknown)
    }
}
