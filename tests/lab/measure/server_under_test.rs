//! A server under measurement: ours or plain tonic, as a process of its own.

use std::{net::SocketAddr, process::Stdio, time::Duration};

pub(crate) use harness::measurement::Side;
use harness::{proc_stats, send_signal};
use rustix::process::Signal;
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines, copy, sink,
    },
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    time::{Instant, timeout},
};
use tonic::transport::Channel;

/// What to start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// The binary of ours; plain tonic serves everything with one.
    pub(crate) binary: &'a str,
    pub(crate) ours: &'a [&'a str],
    pub(crate) plain: &'a [&'a str],
    /// How a shell is to run it.
    pub(crate) run: &'a str,
}

pub(crate) const GREETER: Setup<'_> = Setup {
    binary: "greeter",
    ours: &[],
    plain: &[],
    run: "exec",
};

pub(crate) const ROUTE_GUIDE: Setup<'_> = Setup {
    binary: "route-guide",
    ..GREETER
};

pub(crate) const ECHO: Setup<'_> = Setup {
    binary: "echo",
    ..GREETER
};

/// A running server.
#[derive(Debug)]
pub(crate) struct ServerUnderTest {
    pub(crate) addr: SocketAddr,
    child: Child,
    counts: Counts,
}

/// Where to learn how many RecordRoute calls there are.
#[derive(Debug)]
enum Counts {
    Metrics(SocketAddr),
    OnSignal(Lines<BufReader<ChildStdout>>),
}

impl ServerUnderTest {
    pub(crate) async fn start(side: Side, setup: Setup<'_>) -> Self {
        let (binary, flags, own) = match side {
            Side::Ours => (
                setup.binary,
                setup.ours,
                ["--log-format", "json"].as_slice(),
            ),
            Side::Plain => ("plain-tonic", setup.plain, [].as_slice()),
        };
        let program = harness::command(binary, &[]);
        let mut child = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!(r#"{} "$0" "$@""#, setup.run))
            .arg(program.as_std().get_program())
            .args(["--listen", "127.0.0.1:0"])
            .args(own)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a server that starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines.next_line().await.expect("readable");
        let line = line.expect("a server that says where it listens");
        if let Some(addr) = line.strip_prefix("listening ") {
            let addr = addr.parse().expect("an address");
            let counts = Counts::OnSignal(lines);
            return Self {
                addr,
                child,
                counts,
            };
        }
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let addr = |field: &str| line[field].as_str().expect(field).parse().expect(field);
        // Whatever collects the log reads it.
        tokio::spawn(async move { copy(&mut lines.into_inner(), &mut sink()).await });
        Self {
            addr: addr("grpc"),
            child,
            counts: Counts::Metrics(addr("admin")),
        }
    }

    /// Where ours listens for admin requests.
    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        match self.counts {
            Counts::Metrics(admin) => Some(admin),
            Counts::OnSignal(_) => None,
        }
    }

    pub(crate) fn channel(&self) -> Channel {
        harness::channel(self.addr)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send_signal(&self.child, signal);
    }

    /// Sends SIGTERM and waits for the exit: how long it took, unless longer than `limit`.
    pub(crate) async fn terminate(mut self, limit: Duration) -> Option<Duration> {
        let began = Instant::now();
        self.signal(Signal::TERM);
        timeout(limit, self.child.wait())
            .await
            .ok()?
            .expect("a process to wait for");
        Some(began.elapsed())
    }

    /// How many RecordRoute calls are open (ours: calls of any kind), and how many were taken for
    /// finished in order.
    pub(crate) async fn record_routes(&mut self) -> (u64, u64) {
        if matches!(self.counts, Counts::OnSignal(_)) {
            self.signal(Signal::USR1);
        }
        match &mut self.counts {
            Counts::Metrics(admin) => {
                let metrics = page(*admin, "/metrics").await;
                let ok = r#"grpc_server_handled_total{grpc_type="client_stream",grpc_service="routeguide.RouteGuide",grpc_method="RecordRoute",grpc_code="OK"}"#;
                (
                    value(&metrics, "grpc_server_in_flight"),
                    value(&metrics, ok),
                )
            }
            Counts::OnSignal(lines) => {
                let line = lines.next_line().await.expect("readable").expect("a line");
                let (open, committed) = line.split_once(' ').expect("two numbers");
                let number = |text: &str| text.parse().expect("a number");
                (number(open), number(committed))
            }
        }
    }

    /// Resident memory in bytes.
    pub(crate) fn rss(&self) -> u64 {
        proc_stats::rss(&self.child)
    }

    /// The most resident memory so far.
    pub(crate) fn peak_rss(&self) -> u64 {
        proc_stats::peak_rss(&self.child)
    }

    /// The processor time that it has used so far.
    pub(crate) fn cpu(&self) -> Duration {
        proc_stats::cpu(&self.child)
    }
}

async fn page(admin: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).await.expect("an admin listener");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut page = String::new();
    stream.read_to_string(&mut page).await.expect("a page");
    page
}

/// The value of a metric; one that nothing has counted yet is not there.
fn value(metrics: &str, name: &str) -> u64 {
    let mut lines = metrics.lines().filter_map(|line| line.strip_prefix(name));
    lines
        .find_map(|value| value.trim().parse().ok())
        .unwrap_or(0)
}
