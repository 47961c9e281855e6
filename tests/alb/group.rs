//! A target group: who is registered, and whose turn it is.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use channel::AnyCertificate;
use rustls::ClientConfig;
use tokio::task::JoinSet;

use super::{
    Settings,
    health::{self, HealthCheck},
    target::{State, Target, TargetSettings},
    watched::Count,
};

/// A target group of protocol version GRPC. The defaults are ALB's.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html>
#[derive(Debug, Clone)]
pub struct GroupSettings {
    /// Who gets the next request.
    pub algorithm: Algorithm,
    /// Whether to speak TLS with the targets, whose certificates may be anybody's.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-target-groups.html#target-group-routing-configuration>
    pub tls: bool,
    /// How many requests may share a connection to a target. ALB did not multiplex towards targets when
    /// it was last heard of.
    /// <https://exampleloadbalancer.com/albgrpc_demo.html>
    pub requests_on_a_connection: usize,
    /// How targets are checked.
    pub health: HealthCheck,
    /// How long what is in flight to a deregistered target may go on.
    pub deregistration_delay: Duration,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::RoundRobin,
            tls: false,
            requests_on_a_connection: 1,
            health: HealthCheck::default(),
            deregistration_delay: Duration::from_secs(300),
        }
    }
}

/// Who gets the next request; that of a connection makes no difference.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Algorithm {
    /// One after the other.
    RoundRobin,
    /// Who has the fewest in flight; of several, one after the other, which is assumed.
    LeastOutstandingRequests,
}

#[derive(Debug)]
pub(super) struct Group {
    settings: GroupSettings,
    of_targets: TargetSettings,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    targets: Vec<Arc<Target>>,
    checks: JoinSet<()>,
    turn: usize,
}

impl Group {
    pub(super) fn new(settings: GroupSettings, all: &Settings) -> Self {
        Self {
            of_targets: TargetSettings {
                tls: settings.tls.then(unverified),
                requests_on_a_connection: settings.requests_on_a_connection,
                connect_timeout: all.connect_timeout,
                idle_timeout: all.idle_timeout,
            },
            members: Mutex::default(),
            settings,
        }
    }

    pub(super) fn register(&self, addr: SocketAddr) {
        let target = Target::new(addr, self.of_targets.clone());
        let mut members = self.members();
        let check = health::check(target.clone(), self.settings.health.clone());
        members.checks.spawn(check);
        members.targets.push(target);
    }

    pub(super) async fn deregister(&self, addr: SocketAddr) {
        if let Some(target) = self.find(addr) {
            target.drain(self.settings.deregistration_delay).await;
            let mut members = self.members();
            members.targets.retain(|other| !Arc::ptr_eq(other, &target));
        }
    }

    pub(super) fn find(&self, addr: SocketAddr) -> Option<Arc<Target>> {
        let members = self.members();
        // A target that drains may have been registered again.
        let mut latest = members.targets.iter().rev();
        latest.find(|target| target.addr == addr).cloned()
    }

    /// Whose turn it is, with the request counted.
    ///
    /// Where no target is healthy, all that are unhealthy get requests ("fail open").
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html>
    pub(super) fn next(&self) -> Option<(Arc<Target>, Count)> {
        let mut members = self.members();
        let are = |state| {
            let targets = members.targets.iter();
            targets.filter(move |target| target.state() == state)
        };
        let mut open: Vec<_> = are(State::Healthy).cloned().collect();
        if open.is_empty() {
            open = are(State::Unhealthy).cloned().collect();
        }
        let first = members.turn.checked_rem(open.len())?;
        members.turn = members.turn.wrapping_add(1);
        open.rotate_left(first);
        let mut open = open.into_iter();
        let target = match self.settings.algorithm {
            Algorithm::RoundRobin => open.next(),
            Algorithm::LeastOutstandingRequests => {
                open.min_by_key(|target| *target.in_flight.borrow())
            }
        }?;
        let count = Count::of(&target.in_flight);
        Some((target, count))
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// TLS as a load balancer speaks it with its targets.
fn unverified() -> Arc<ClientConfig> {
    let provider = rustls::crypto::ring::default_provider().into();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of ring")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate::default()))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".into()];
    config.into()
}
