//! h2load, a client that costs less than the servers, and what it says.

use std::{net::SocketAddr, path::Path};

use tokio::process::Command;

/// What to send, and how many at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) addr: SocketAddr,
    pub(crate) path: &'a str,
    pub(crate) body: &'a Path,
    pub(crate) connections: u64,
    pub(crate) streams: u64,
    /// The bytes of each response's body.
    pub(crate) reply: u64,
}

impl Load<'_> {
    /// Makes so many requests, and says how many were served a second.
    ///
    /// # Panics
    ///
    /// If not all were served, and in full: an error of gRPC has status 200, but no message.
    pub(crate) async fn run(&self, requests: u64) -> f64 {
        let output = Command::new("h2load")
            .args(["-t1", "-n", &requests.to_string()])
            .args(["-c", &self.connections.to_string()])
            .args(["-m", &self.streams.to_string()])
            .args(["-H", "content-type: application/grpc"])
            .args(["-H", "te: trailers", "-d"])
            .arg(self.body)
            .arg(format!("http://{}{}", self.addr, self.path))
            .output();
        let output = output.await.expect("h2load, of Debian's nghttp2-client");
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
