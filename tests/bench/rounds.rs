//! Rounds of measurement: every server in turn, there and back, all alive at once.

use std::io::{self, Write as _};

use crate::{call::Files, h2load::Load, peer::Peer, server::Server, work::Work};

/// What was measured of one peer at one work.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Nanoseconds of processor time for each unit of the work.
    pub(crate) cpu: Spread,
    /// Calls a second.
    pub(crate) rate: Spread,
    /// Bytes, after the load.
    pub(crate) rss: u64,
}

/// Figures of several rounds.
#[derive(Debug, Default)]
pub(crate) struct Spread(Vec<f64>);

impl Spread {
    pub(crate) fn add(&mut self, figure: f64) {
        let at = self.0.partition_point(|earlier| *earlier < figure);
        self.0.insert(at, figure);
    }

    /// Not a number before the first round.
    pub(crate) fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The least and the most.
    pub(crate) fn range(&self) -> Option<(f64, f64)> {
        Some((*self.0.first()?, *self.0.last()?))
    }
}

struct Contestant<'a> {
    server: Server,
    load: Load<'a>,
    requests: u64,
    cpu: Spread,
    rate: Spread,
}

/// Measures these peers, each of which was made as it says; in the order given.
///
/// # Panics
///
/// If one does not start or gives a wrong answer: what it costs would be worth nothing.
pub(crate) async fn measure(
    work: &Work,
    peers: &[(&Peer, Vec<String>)],
    rounds: usize,
    seconds: f64,
    files: &Files,
) -> Vec<Sample> {
    let body = files.body(work.call);
    let mut contestants = Vec::new();
    for (peer, made) in peers {
        // What goes wrong next is theirs.
        let _ = writeln!(io::stderr(), "{}: {}", work.name, peer.name);
        let server = peer.start(made, work.call, files).await;
        let server = server.unwrap_or_else(|| panic!("{} does not start", peer.name));
        let load = Load {
            addr: server.addr,
            path: work.call.path(),
            body: &body,
            connections: work.connections,
            streams: work.streams,
            reply: work.call.check(server.addr).await,
        };
        let requests = requests_in(seconds, &load).await;
        contestants.push(Contestant {
            server,
            load,
            requests,
            cpu: Spread::default(),
            rate: Spread::default(),
        });
    }
    for round in 0..rounds {
        for nth in 0..contestants.len() {
            let last = contestants.len() - 1;
            let nth = if round % 2 == 0 { nth } else { last - nth };
            contestants[nth].visit(work.unit.1).await;
        }
    }
    let samples = contestants.into_iter().map(|contestant| Sample {
        rss: contestant.server.rss(),
        cpu: contestant.cpu,
        rate: contestant.rate,
    });
    samples.collect()
}

impl Contestant<'_> {
    async fn visit(&mut self, units: u64) {
        let before = self.server.cpu();
        let rate = self.load.run(self.requests).await;
        let cpu = self.server.cpu() - before;
        self.cpu
            .add(cpu.as_nanos() as f64 / (self.requests * units) as f64);
        self.rate.add(rate);
    }
}

/// How many requests take about so long, after a run of them that warms the server up.
async fn requests_in(seconds: f64, load: &Load<'_>) -> u64 {
    let at_once = load.connections * load.streams;
    let mut requests = at_once;
    loop {
        let rate = load.run(requests).await;
        if requests as f64 >= rate * seconds / 4.0 {
            let times = (rate * seconds / at_once as f64).ceil();
            return at_once * times as u64;
        }
        requests *= 4;
    }
}
