//! h2load, a client that costs less than the servers, and what it says.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use harness::measurement::percentile;
use tempfile::NamedTempFile;
use tokio::process::Command;

/// What to send, and how many at once.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) addr: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) headers: &'static [&'static str],
    /// None makes it a GET.
    pub(crate) body: Option<PathBuf>,
    /// Over HTTP/1.1.
    pub(crate) http1: bool,
    pub(crate) connections: u64,
    pub(crate) streams: u64,
    /// The bytes of each response's body.
    pub(crate) reply: u64,
}

/// What the headers of every call of gRPC are.
pub(crate) const GRPC: &[&str] = &["content-type: application/grpc", "te: trailers"];

impl Load {
    /// Makes so many requests, and says how many were served a second.
    ///
    /// # Panics
    ///
    /// If not all were served, and in full: an error of gRPC has status 200, but no message.
    pub(crate) async fn run(&self, requests: u64) -> f64 {
        self.run_with(requests, &mut self.command()).await
    }

    /// The same, and how long each took.
    pub(crate) async fn timed(&self, requests: u64) -> (f64, Vec<Duration>) {
        let log = NamedTempFile::new().expect("a file");
        let mut command = self.command();
        command.arg("--log-file").arg(log.path());
        let rate = self.run_with(requests, &mut command).await;
        let log = fs::read_to_string(log.path()).expect("a log");
        // The start, the status, the time.
        let micros = |line: &str| line.split('\t').nth(2)?.parse().ok();
        let times = log.lines().filter_map(micros).map(Duration::from_micros);
        (rate, times.collect())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("h2load");
        command
            .args(["-t1", "-c", &self.connections.to_string()])
            .args(["-m", &self.streams.to_string()])
            .args(self.headers.iter().flat_map(|header| ["-H", header]));
        if let Some(body) = &self.body {
            command.arg("-d").arg(body);
        }
        if self.http1 {
            command.arg("--h1");
        }
        command
    }

    async fn run_with(&self, requests: u64, command: &mut Command) -> f64 {
        command
            .args(["-n", &requests.to_string()])
            .arg(format!("http://{}{}", self.addr, self.path));
        let output = command.output().await;
        let output = output.expect("h2load, of Debian's nghttp2-client");
        let said = String::from_utf8_lossy(&output.stdout);
        let served = [
            before(&said, " succeeded"),
            before(&said, " 2xx"),
            before(&said, ") data").map(|bytes| bytes / self.reply as f64),
        ];
        let all = Some(requests as f64);
        assert_eq!(served, [all; 3], "{self:?}: {said}");
        before(&said, " req/s").expect("a rate")
    }
}

/// The number before this word.
fn before(said: &str, word: &str) -> Option<f64> {
    let (before, _) = said.split_once(word)?;
    let number = before.rsplit(|c: char| !c.is_ascii_digit() && c != '.');
    number.into_iter().next()?.parse().ok()
}

/// The median and the 99th percentile, in nanoseconds.
pub(crate) fn percentiles(mut times: Vec<Duration>) -> [f64; 2] {
    [0.5, 0.99].map(|share| {
        let time = percentile(&mut times, share);
        time.map_or(f64::NAN, |time| time.as_nanos() as f64)
    })
}
