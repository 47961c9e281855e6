//! A double of AWS's Application Load Balancer, as far as gRPC can tell: what it does between a client
//! and its targets, in one process, with its times as settings. Every behaviour names its source: a
//! page of AWS, a thread in which somebody saw it, or "assumed" where AWS does not say.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

mod forward;
mod group;
mod health;
mod listener;
mod rule;
mod target;
mod watched;

pub use group::{Algorithm, GroupSettings};
pub use health::{HealthCheck, Matcher};
pub use rule::Rule;
pub use target::State;

use group::Group;
use listener::Listener;

/// What is wrong with the settings, in one line.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A load balancer: one listener, its rules, and their target groups.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens; by default on a free port of 127.0.0.1.
    pub listen: SocketAddr,
    /// Its certificate. Without one it speaks plaintext, which ALB does not for gRPC: a convenience of
    /// tests that are about something else.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-target-groups.html>
    pub certificate: Option<Certificate>,
    /// Asked in this order; what matches none gets a 404, as from a default action with that fixed
    /// response.
    pub rules: Vec<Rule>,
    /// The target groups, by the names that the rules use.
    pub groups: BTreeMap<String, GroupSettings>,
    /// After so long, a connection without a request is closed, and a request on which neither side
    /// sends anything is cut. PING does not count. An empty DATA frame does not either, which is
    /// assumed, because AWS asks for at least one byte; h2 would not hand it on anyway.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html>
    pub idle_timeout: Duration,
    /// So many requests are served on a connection of a client, and GOAWAY tells it so.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html#response-code-000>
    pub requests_per_connection: u64,
    /// How long connecting to a target may take, and then a TLS handshake with it.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html#http-504-issues>
    pub connect_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            certificate: None,
            rules: Vec::new(),
            groups: BTreeMap::new(),
            idle_timeout: Duration::from_secs(60),
            requests_per_connection: 10_000,
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate, and what leads from it to its authority.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// A load balancer that runs until it is dropped.
#[derive(Debug)]
pub struct Alb {
    /// Where it listens.
    pub addr: SocketAddr,
    groups: BTreeMap<String, Arc<Group>>,
    _listener: AbortOnDropHandle<()>,
}

impl Alb {
    /// Starts one, or says which setting is wrong.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        for rule in &settings.rules {
            if !settings.groups.contains_key(&rule.group) {
                return Err(format!("rule {rule}: there is no such group").into());
            }
        }
        let groups = settings.groups.clone().into_iter();
        let groups: BTreeMap<_, _> = groups
            .map(|(name, group)| (name, Arc::new(Group::new(group, &settings))))
            .collect();
        let bound = TcpListener::bind(settings.listen).await;
        let bound = bound.map_err(|error| format!("{}: {error}", settings.listen))?;
        let addr = bound.local_addr()?;
        let listener = Listener::new(settings, addr, groups.clone())?;
        Ok(Self {
            addr,
            groups,
            _listener: AbortOnDropHandle::new(tokio::spawn(listener.run(bound))),
        })
    }

    /// Adds a target, which gets requests when it has passed its first health check.
    pub fn register(&self, group: &str, target: SocketAddr) {
        self.group(group).register(target);
    }

    /// Sends no more requests to a target, and returns when those in flight have ended, or have been
    /// cut after the deregistration delay.
    pub async fn deregister(&self, group: &str, target: SocketAddr) {
        self.group(group).deregister(target).await;
    }

    /// How a target is; unused if it is not registered.
    pub fn state(&self, group: &str, target: SocketAddr) -> State {
        let target = self.group(group).find(target);
        target.map_or(State::Unused, |target| target.state())
    }

    /// Waits until a registered target is in this state.
    pub async fn reaches(&self, group: &str, target: SocketAddr, state: State) {
        if let Some(target) = self.group(group).find(target) {
            target.reaches(state).await;
        }
    }

    fn group(&self, name: &str) -> &Arc<Group> {
        self.groups.get(name).expect("one of the groups")
    }
}

impl Certificate {
    fn server_config(&self) -> Result<rustls::ServerConfig, Error> {
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

        let told = |file: &PathBuf, error: &dyn std::fmt::Display| {
            io::Error::other(format!("{}: {error}", file.display()))
        };
        let chain = CertificateDer::pem_file_iter(&self.cert)
            .and_then(Iterator::collect)
            .map_err(|error| told(&self.cert, &error))?;
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|error| told(&self.key, &error))?;
        let provider = rustls::crypto::ring::default_provider().into();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| told(&self.cert, &error))?;
        // An HTTPS listener speaks both.
        // https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-listeners.html
        config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
        Ok(config)
    }
}
