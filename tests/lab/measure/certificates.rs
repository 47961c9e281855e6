//! Certificates that change, and those that clients show.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::TlsConnector;

use crate::measure::{
    authority::{Authority, connect},
    client::Bare,
    measurement::{Measurement, time},
    server_under_test::{ROUTE_GUIDE, ServerUnderTest, Setup, Side},
};

const METHOD: &str = "/routeguide.RouteGuide/GetFeature";
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn rotations(side: Side, rotations: usize) -> Measurement {
    let authority = Authority::new();
    authority.issue("0", "127.0.0.1");
    turn_to(&authority, "0");
    let [cert, key] = ["current/tls.pem", "current/tls.key"].map(|file| authority.text(file));
    let flags = ["--tls-cert", &cert, "--tls-key", &key];
    let setup = Setup {
        ours: &flags,
        plain: &flags,
        ..ROUTE_GUIDE
    };
    let subject = ServerUnderTest::start(side, setup).await;

    let load = Arc::new(Load::default());
    let mut clients = JoinSet::new();
    for _ in 0..2 {
        clients.spawn(load.clone().run(subject.addr, authority.client(None)));
    }
    let mut worst = Some(Duration::ZERO);
    let mut turned = 0;
    while turned < rotations && worst.is_some() {
        turned += 1;
        let took = rotate(&authority, turned, &load).await;
        worst = worst.zip(took).map(|(worst, took)| worst.max(took));
    }
    load.stop.store(true, Relaxed);
    clients.join_all().await;
    let (calls, failed) = (load.calls.load(Relaxed), load.failed.load(Relaxed));
    Measurement::new()
        .by(
            worst,
            PATIENCE,
            format!(
                "presented {}",
                worst.map_or("never".to_owned(), |worst| format!(
                    "after {} at most",
                    time(worst)
                ))
            ),
        )
        .goal(failed == 0, format!("{failed} lost of {calls} calls"))
        .note(format!("{turned} rotations"))
}

/// How long after the swap the new certificate is presented. Takes a second and a little at least.
async fn rotate(authority: &Authority, nth: usize, load: &Load) -> Option<Duration> {
    let new = authority.issue(&nth.to_string(), "127.0.0.1");
    let mut presented = load.presented.subscribe();
    let began = Instant::now();
    turn_to(authority, &nth.to_string());
    let seen = async {
        presented
            .wait_for(|seen| seen.as_ref() == Some(&new))
            .await
            .is_ok()
    };
    let took = (timeout(PATIENCE, seen).await.is_ok()).then(|| began.elapsed());
    sleep_until(began + Duration::from_millis(1100)).await;
    took
}

/// Has `current` lead to this folder, from one moment to the next.
fn turn_to(authority: &Authority, folder: &str) {
    let new = authority.path("new");
    symlink(folder, &new).expect("a link");
    fs::rename(new, authority.path("current")).expect("renamed");
}

/// Calls on new connections, one after the other.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    calls: AtomicUsize,
    failed: AtomicUsize,
    presented: watch::Sender<Option<CertificateDer<'static>>>,
}

impl Load {
    async fn run(self: Arc<Self>, addr: SocketAddr, client: TlsConnector) {
        while !self.stop.load(Relaxed) {
            self.calls.fetch_add(1, Relaxed);
            match timeout(PATIENCE, call(addr, &client)).await {
                Ok(Some((certificate, status))) if status == "0" => {
                    self.presented.send_replace(Some(certificate));
                }
                _ => _ = self.failed.fetch_add(1, Relaxed),
            }
        }
    }
}

/// Makes a call on a connection of its own: the certificate that was presented, and the status.
async fn call(
    addr: SocketAddr,
    client: &TlsConnector,
) -> Option<(CertificateDer<'static>, String)> {
    let stream = connect(client, addr).await.ok()?;
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()?
        .first()?
        .clone()
        .into_owned();
    let status = Bare::over(stream, addr)
        .await
        .ok()?
        .unary(METHOD)
        .await
        .ok()?;
    Some((certificate, status))
}

pub(crate) async fn mtls(side: Side) -> Measurement {
    if side == Side::Plain {
        return Measurement::new().note("n/a: knows no identities");
    }
    let authority = Authority::new();
    let folders = ["127.0.0.1", "allowed.test", "other.test"].map(|name| {
        authority.issue(name, name);
        authority.path(name)
    });
    let [server, allowed, other] = &folders;
    fs::write(server.join("allow"), format!("allowed.test {METHOD}\n")).expect("written");
    let file = |file: &str| server.join(file).to_str().expect("text").to_owned();
    let flags = [
        ["--tls-cert", &file("tls.pem")],
        ["--tls-key", &file("tls.key")],
        ["--allow-file", &file("allow")],
        ["--tls-client-ca", &authority.text("ca.pem")],
    ];
    let setup = Setup {
        ours: flags.as_flattened(),
        ..ROUTE_GUIDE
    };
    let subject = ServerUnderTest::start(side, setup).await;

    let mut measurement = Measurement::new();
    for (who, folder, expected) in [
        ("allowed", Some(allowed), Some("0")),
        ("another", Some(other), Some("7")),
        ("none", None, None),
    ] {
        let client = authority.client(folder.map(PathBuf::as_path));
        let status = call(subject.addr, &client).await.map(|(_, status)| status);
        let text = status
            .as_deref()
            .map_or("refused".to_owned(), |status| format!("status {status}"));
        measurement = measurement.goal(status.as_deref() == expected, format!("{who}: {text}"));
    }
    measurement
}
