//! Health checks beside thousands of Watches, and of Checks whose request does not come.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::measure::{
    client::Bare,
    measurement::{Measurement, percentile, time},
    server_under_test::{GREETER, ServerUnderTest, Setup, Side},
    silent::connect_from,
    wire::{self, DATA, EMPTY_MESSAGE, END_HEADERS, END_STREAM, HEADERS},
};

/// A Check that is half sent would be over after ten seconds.
const PATIENT: Setup<'_> = Setup {
    ours: &["--unary-timeout=5m"],
    ..GREETER
};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const ALB_CHECK: &str = "/AWS.ALB/healthcheck";

/// Most Watches that a connection may have, and as many Checks.
const EACH: u32 = 100;
const PEERS: u8 = 20;
const CALLS: u64 = 2 * EACH as u64 * PEERS as u64;

/// Who asks, and how.
#[derive(Debug, Clone, Copy)]
enum Probe {
    Alb,
    Check,
    Page,
    Kubelet,
    Healthcheck,
}

impl Probe {
    const ALL: [Self; 5] = [
        Self::Alb,
        Self::Check,
        Self::Page,
        Self::Kubelet,
        Self::Healthcheck,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Alb => "ALB's check",
            Self::Check => "Check",
            Self::Page => "GET /healthz",
            Self::Kubelet => "kubelet's Check",
            Self::Healthcheck => "`greeter healthcheck`, with its start",
        }
    }

    /// Whether the answer is OK.
    async fn ask(self, addr: SocketAddr, admin: SocketAddr) -> bool {
        match self {
            Self::Alb => unary(addr, ALB_CHECK).await,
            Self::Check => unary(addr, CHECK).await,
            Self::Page => harness::get(admin, "/healthz").await.0 == 200,
            Self::Kubelet => unary(admin, CHECK).await,
            Self::Healthcheck => {
                let admin = admin.to_string();
                let mut command = harness::command("greeter", &["healthcheck", "--addr", &admin]);
                harness::output(&mut command).await.status.success()
            }
        }
    }
}

async fn unary(addr: SocketAddr, path: &str) -> bool {
    let answer = async { Bare::connect(addr).await.unary(path).await };
    harness::within(answer).await.is_ok_and(|code| code == "0")
}

pub(crate) async fn probes(side: Side, rounds: usize) -> Measurement {
    let mut subject = ServerUnderTest::start(side, PATIENT).await;
    let Some(admin) = subject.admin() else {
        return Measurement::new().note("n/a: no check for an ALB, no listener for probes");
    };
    let _held = hold(subject.addr).await;
    let all = async { while subject.record_routes().await.0 < CALLS {} };
    let all = timeout(Duration::from_secs(20), all).await;
    let mut times = Probe::ALL.map(|_| Some(Vec::new()));
    for _ in 0..rounds {
        for (probe, times) in Probe::ALL.into_iter().zip(&mut times) {
            let began = Instant::now();
            let ok = probe.ask(subject.addr, admin).await;
            match times {
                Some(times) if ok => times.push(began.elapsed()),
                _ => *times = None,
            }
        }
    }
    let held = subject.record_routes().await.0;
    let held_all = all.is_ok() && held >= CALLS;
    let measurement = Measurement::new().goal(held_all, format!("{held} calls held"));
    let probes = Probe::ALL.into_iter().zip(times);
    probes.fold(measurement, |measurement, (probe, times)| {
        judge(measurement, probe.name(), times)
    })
}

/// What a probe came to; no times if not all of its answers were OK.
fn judge(measurement: Measurement, name: &str, times: Option<Vec<Duration>>) -> Measurement {
    const LIMIT: Duration = Duration::from_millis(50);
    let mut times = times.unwrap_or_default();
    let Some(longest) = percentile(&mut times, 1.0) else {
        return measurement.goal(false, format!("{name}: not OK"));
    };
    let [half, most] = [0.5, 0.99].map(|share| time(percentile(&mut times, share)));
    let text = format!("{name}: p50 {half}, p99 {most}, max {}", time(longest));
    measurement.likely(longest <= LIMIT, text)
}

/// Has each peer hold as many Watches as its connection may have, and as many Checks whose message is cut off.
async fn hold(addr: SocketAddr) -> JoinSet<()> {
    let mut held = JoinSet::new();
    for nth in 0..PEERS {
        let stream = connect_from([127, 0, 0, 2 + nth].into(), addr).await;
        held.spawn(hold_on(stream));
    }
    held
}

async fn hold_on(stream: TcpStream) {
    let (mut reader, mut writer) = stream.into_split();
    let mut out = harness::PREFACE.to_vec();
    for nth in 0..EACH {
        let (watch, check) = (4 * nth + 1, 4 * nth + 3);
        wire::frame(&mut out, HEADERS, END_HEADERS, watch, &wire::call(WATCH));
        wire::frame(&mut out, DATA, END_STREAM, watch, EMPTY_MESSAGE);
        wire::frame(&mut out, HEADERS, END_HEADERS, check, &wire::call(CHECK));
        wire::frame(&mut out, DATA, 0, check, &EMPTY_MESSAGE[..3]);
    }
    writer.write_all(&out).await.expect("sent");
    let mut heard = vec![0; 4096];
    while reader.read(&mut heard).await.is_ok_and(|read| read > 0) {}
}
