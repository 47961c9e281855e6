//! The ways from a client to the servers: by itself, or through a balancer.

use std::{
    any::Any,
    collections::BTreeMap,
    fs,
    future::ready,
    net::{Ipv4Addr, SocketAddr},
    path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use ::channel::{AnyCertificate, Channel as OurChannel, Settings, Target, Trust};
use alb::{self, Alb, Certificate, GroupSettings, HealthCheck, State};
use harness::{measurement::Side, within};
use proto::routeguide::{
    Point, route_guide_client::RouteGuideClient, route_guide_server::SERVICE_NAME,
};
use tempfile::TempDir;
use tokio::{process::Command, time::sleep};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, channel::Change};

/// The suite's channel over these addresses.
pub(crate) fn ours(addrs: &[SocketAddr]) -> OurChannel {
    let addrs: Vec<_> = addrs.iter().map(SocketAddr::to_string).collect();
    let target = Target::parse(&addrs.join(","), false);
    OurChannel::new(target.expect("addresses"), settings()).expect("no files")
}

/// The same over addresses that can become more, as a name in DNS does; it looks every two seconds.
pub(crate) fn ours_growing(
    addrs: &[SocketAddr],
) -> (OurChannel, impl FnOnce(&[SocketAddr]) + use<>) {
    let known = Arc::new(Mutex::new(addrs.to_vec()));
    let dns = known.clone();
    let target = Target::parse("dns:///route-guide.test:50051", false)
        .expect("a name")
        .resolved_by(move || ready(Ok(dns.lock().expect("no panic").clone())));
    let settings = Settings {
        resolve_every: Duration::from_secs(2),
        ..settings()
    };
    let grow = move |more: &[SocketAddr]| known.lock().expect("no panic").extend(more);
    (OurChannel::new(target, settings).expect("no files"), grow)
}

fn settings() -> Settings {
    Settings {
        health: Some(SERVICE_NAME.to_owned()),
        idempotent: route_guide_client::IDEMPOTENT,
        ..Settings::default()
    }
}

/// tonic's.
pub(crate) fn plain(addrs: &[SocketAddr]) -> Channel {
    plain_growing(addrs).0
}

/// The same over addresses that can become more.
pub(crate) fn plain_growing(addrs: &[SocketAddr]) -> (Channel, impl FnOnce(&[SocketAddr]) + use<>) {
    let (channel, changes) = Channel::balance_channel(16);
    let grow = move |addrs: &[SocketAddr]| {
        for addr in addrs {
            let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("a URL");
            let change = Change::Insert(*addr, endpoint);
            changes.try_send(change).expect("room for a change");
        }
    };
    grow(addrs);
    (channel, grow)
}

/// A balancer in front of the servers, which ends when this is dropped. It takes TLS.
pub(crate) struct Front {
    pub(crate) addr: SocketAddr,
    _held: Box<dyn Any + Send>,
}

impl Front {
    /// The suite's channel through it.
    pub(crate) fn ours(&self) -> OurChannel {
        let target = Target::parse(&self.addr.to_string(), true);
        let settings = Settings {
            trust: Trust::InsecureSkipVerify,
            ..settings()
        };
        OurChannel::new(target.expect("an address"), settings).expect("no files")
    }

    /// tonic's.
    pub(crate) fn plain(&self) -> Channel {
        let anyone = Arc::new(AnyCertificate::default());
        Endpoint::from_shared(format!("https://{}", self.addr))
            .and_then(|front| front.tls_config_with_verifier(ClientTlsConfig::new(), anyone))
            .expect("an address")
            .connect_lazy()
    }
}

/// A folder with a certificate of nobody's, `tls.crt`, and its key, `tls.key`.
fn certificate() -> TempDir {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("tls.crt"), pair.cert.pem()).expect("written");
    let key = pair.signing_key.serialize_pem();
    fs::write(folder.path().join("tls.key"), key).expect("written");
    folder
}

/// The double of an ALB with one target group.
pub(crate) struct Balancer(Alb);

impl Balancer {
    const GROUP: &str = "route-guide";

    pub(crate) async fn start(group: GroupSettings, idle_timeout: Duration) -> Self {
        let folder = certificate();
        let settings = alb::Settings {
            certificate: Some(Certificate {
                cert: folder.path().join("tls.crt"),
                key: folder.path().join("tls.key"),
            }),
            rules: vec![format!("/*={}", Self::GROUP).parse().expect("a rule")],
            groups: BTreeMap::from([(Self::GROUP.to_owned(), group)]),
            idle_timeout,
            ..alb::Settings::default()
        };
        Self(Alb::start(settings).await.expect("settings that are right"))
    }

    /// Adds a target, and waits until it is found healthy.
    pub(crate) async fn register(&self, target: SocketAddr) {
        self.0.register(Self::GROUP, target);
        within(self.0.reaches(Self::GROUP, target, State::Healthy)).await;
    }

    /// Lets go of a target; returns when nothing is in flight to it any more.
    pub(crate) async fn deregister(&self, target: SocketAddr) {
        self.0.deregister(Self::GROUP, target).await;
    }

    /// The way through it, which keeps it.
    pub(crate) fn front(self: Arc<Self>) -> Front {
        Front {
            addr: self.0.addr,
            _held: Box::new(self),
        }
    }
}

/// The double of an ALB. It is told of no restart: servers leave and come back by their health alone.
pub(crate) async fn alb(addrs: &[SocketAddr], side: Side) -> Front {
    let matcher = match side {
        Side::Ours => "0",
        // What ALB suggests for servers that know nothing of its check.
        Side::Plain => "12",
    };
    let group = GroupSettings {
        health: HealthCheck {
            matcher: matcher.parse().expect("a matcher"),
            interval: Duration::from_millis(200),
            healthy_threshold: 2,
            ..HealthCheck::default()
        },
        ..GroupSettings::default()
    };
    let balancer = Balancer::start(group, alb::Settings::default().idle_timeout).await;
    for &addr in addrs {
        balancer.register(addr).await;
    }
    Arc::new(balancer).front()
}

/// Envoy, with the file that `docker/` has for it, or why there is none.
pub(crate) async fn envoy(addrs: &[SocketAddr]) -> Result<Front, &'static str> {
    // All of its own, so that the ports of the file can stay.
    let host = Ipv4Addr::from([127, rand::random(), rand::random(), rand::random()]);
    let folder = certificate();
    let config = folder.path().join("envoy.yaml");
    fs::write(&config, envoy_config(host, folder.path(), addrs)).expect("written");
    let process = Command::new("envoy")
        .args(["--concurrency", "1", "--disable-hot-restart"])
        .args(["--log-level", "error", "--config-path"])
        .arg(config)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|_| "there is no envoy")?;
    let front = Front {
        addr: (host, 8443).into(),
        _held: Box::new((process, folder)),
    };
    within(answers(front.plain())).await;
    Ok(front)
}

/// The file with these servers in the place of the names that it has for them.
fn envoy_config(host: Ipv4Addr, folder: &path::Path, addrs: &[SocketAddr]) -> String {
    const NAME: &str = "address: route-guide, port_value: 50051";
    let folder = folder.to_str().expect("text");
    let mut config = String::new();
    for line in include_str!("../../../docker/envoy.yaml").lines() {
        if !line.contains(NAME) {
            config += line;
            config += "\n";
            continue;
        }
        for addr in addrs {
            let (host, port) = (addr.ip(), addr.port());
            config += &line.replace(NAME, &format!("address: {host}, port_value: {port}"));
            config += "\n";
        }
    }
    (config.replace("0.0.0.0", &host.to_string())).replace("/etc/tls", folder)
}

/// Waits until a call comes through.
async fn answers(front: Channel) {
    let mut client = RouteGuideClient::new(front);
    while client.get_feature(Point::default()).await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Python's grpcio as a client that finds the servers by itself, or why there is none.
pub(crate) async fn grpcio(addrs: &[SocketAddr], wanted: u64) -> Result<Command, &'static str> {
    const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rollout/load.py");
    let check = Command::new("python3")
        .args(["-c", "import grpc_tools.protoc"])
        .stderr(Stdio::null())
        .status()
        .await;
    if !check.is_ok_and(|status| status.success()) {
        return Err("grpcio and grpcio-tools are not installed");
    }
    let addrs: Vec<_> = addrs.iter().map(SocketAddr::to_string).collect();
    let mut command = Command::new("python3");
    command.args([SCRIPT, &addrs.join(","), &wanted.to_string()]);
    Ok(command)
}
