//! Servers as processes that are replaced one after the other, each at an address that stays.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{self, Stdio},
    time::Duration,
};

use harness::{measurement::Side, send_signal, within};
use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, copy, sink},
    process::Child,
    time::{sleep, timeout},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// A RouteGuide server.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) addr: SocketAddr,
    side: Side,
    flags: Vec<String>,
    child: Child,
}

impl Replica {
    /// Starts one and waits until it is healthy. `flags` are for ours; plain tonic has none of them.
    pub(crate) async fn start(side: Side, addr: SocketAddr, flags: Vec<String>) -> Self {
        let child = spawn(side, addr, &flags).await;
        Self {
            addr,
            side,
            flags,
            child,
        }
    }

    /// Ends it by this signal and starts it again, as a platform does: it waits for the exit, kills
    /// what does not exit, and waits until the new process is healthy. Says whether it had to kill.
    pub(crate) async fn restart(&mut self, signal: Signal) -> bool {
        // Longer than all that our servers are told to take for it.
        const GRACE: Duration = Duration::from_secs(7);

        let killed = self.end(signal, GRACE).await;
        self.child = spawn(self.side, self.addr, &self.flags).await;
        killed
    }

    /// Ends it by this signal, and kills it if it does not exit in this time. Says whether it had to.
    pub(crate) async fn end(&mut self, signal: Signal, grace: Duration) -> bool {
        send_signal(&self.child, signal);
        let killed = timeout(grace, self.child.wait()).await.is_err();
        if killed {
            self.child.kill().await.expect("a process to kill");
        }
        killed
    }
}

/// Starts so many of them. The nth of ours calls itself `10.0.0.n` in `x-served-by`, from 1.
pub(crate) async fn start(side: Side, count: usize, flags: &[&str]) -> Vec<Replica> {
    let mut replicas = Vec::new();
    for (nth, addr) in free_addrs(count).into_iter().enumerate() {
        let mut flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        flags.push(format!("--pod-ip=10.0.0.{}", nth + 1));
        replicas.push(Replica::start(side, addr, flags).await);
    }
    replicas
}

/// Addresses that nobody listens on. While a server is away, no connection may take its port for its
/// own end, so they lie below those that Linux gives away (`ip_local_port_range`).
pub(crate) fn free_addrs(count: usize) -> Vec<SocketAddr> {
    let first = 20_000 + (process::id() % 10_000) as u16;
    (first..32_768)
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .filter(|addr| TcpListener::bind(addr).is_ok())
        .take(count)
        .collect()
}

async fn spawn(side: Side, addr: SocketAddr, flags: &[String]) -> Child {
    let mut command = match side {
        Side::Plain => harness::command("plain-tonic", &[]),
        Side::Ours => {
            let own = ["--admin-listen=127.0.0.1:0", "--log-format=json"];
            let mut command = harness::command("route-guide", &own);
            command.args(flags);
            command
        }
    };
    let mut child = command
        .arg(format!("--listen={addr}"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("a server that starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = within(lines.next_line()).await.expect("readable");
    line.expect("a server that says where it listens");
    // Whatever collects the log reads it.
    tokio::spawn(async move { copy(&mut lines.into_inner(), &mut sink()).await });
    within(healthy(addr)).await;
    child
}

async fn healthy(addr: SocketAddr) {
    let request = HealthCheckRequest {
        service: "routeguide.RouteGuide".into(),
    };
    let mut health = HealthClient::new(harness::channel(addr));
    loop {
        match health.check(request.clone()).await {
            Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => return,
            _ => sleep(Duration::from_millis(10)).await,
        }
    }
}
