//! A server under measurement, as a process of its own on a core of its own.

use std::{fs, net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use harness::{PATIENCE, proc_stats};
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, copy, sink},
    process::{Child, Command},
    time::timeout,
};

/// Where the servers run; the bench, its client and what reads the servers' output have the other core.
const OF_SERVERS: usize = 0;
const OF_CLIENT: usize = 1;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts one, and waits for the first line of its output, which says where it listens: as
    /// `listening ADDR`, or as `grpc` in JSON.
    ///
    /// # Panics
    ///
    /// If it ends instead.
    pub(crate) async fn start(command: &mut Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        // A child begins where the thread is that starts it.
        run_on(OF_SERVERS);
        let child = command.spawn();
        run_on(OF_CLIENT);
        let mut child = child.expect("a server that starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        let read = timeout(PATIENCE, output.read_line(&mut line)).await;
        read.expect("a server in time").expect("readable");
        let addr = address(line.trim()).expect("a server that says where it listens");
        // Whatever collects a log reads it, and in large pieces.
        tokio::spawn(async move { copy(&mut output, &mut sink()).await });
        Self { addr, child }
    }

    /// The processor time that it has used so far.
    pub(crate) fn cpu(&self) -> Duration {
        proc_stats::cpu(&self.child)
    }

    /// Resident memory in bytes.
    pub(crate) fn rss(&self) -> u64 {
        proc_stats::rss(&self.child)
    }

    /// The most that it was.
    pub(crate) fn peak_rss(&self) -> u64 {
        proc_stats::peak_rss(&self.child)
    }

    /// Ends it, and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.child.kill().await.expect("a process to end");
    }

    /// The bytes of the program.
    pub(crate) fn size(&self) -> u64 {
        fs::metadata(self.proc("exe")).expect("/proc").len()
    }

    /// How many files and sockets it has open.
    pub(crate) fn files(&self) -> usize {
        fs::read_dir(self.proc("fd")).expect("/proc").count()
    }

    fn proc(&self, file: &str) -> PathBuf {
        let pid = self.child.id().expect("running");
        PathBuf::from(format!("/proc/{pid}/{file}"))
    }
}

/// Has this thread run on one core.
pub(crate) fn run_on(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).expect("two cores");
}

fn address(line: &str) -> Option<SocketAddr> {
    if let Some(addr) = line.strip_prefix("listening ") {
        return addr.parse().ok();
    }
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line.get("grpc")?.as_str()?.parse().ok()
}
