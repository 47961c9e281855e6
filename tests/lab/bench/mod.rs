//! Measures the released servers beside their peers: all of them alive at once and visited in turn, the
//! servers on one core, the client on another, every answer checked.
//!
//! `cargo run --release --bin lab bench [PART…]` prints tables; with `--write`, docs/performance.md and its plot
//! have them.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

mod call;
mod footprint;
mod h2load;
mod peer;
mod plot;
mod quarter;
mod report;
mod rest;
mod rounds;
mod server;
mod work;

use call::Files;
use peer::{Made, PEERS};
use rounds::{Contestant, Rounds};
use work::{WORKS, Work};

/// Measures the released servers beside their peers
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What to measure [default: all]
    parts: Vec<String>,
    /// How often each server is visited
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long a visit takes, about
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How often each server is started, for its footprint
    #[arg(long, default_value_t = 11)]
    starts: usize,
    /// Beside whom [default: all that can be had]
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Put the tables and their plot into docs/, which takes all parts
    #[arg(long, conflicts_with_all = ["parts", "peers"])]
    write: bool,
}

/// The parts that are no works.
const FOOTPRINT: &str = "footprint";
const REST: &str = "rest";
const QUARTER: &str = "quarter-vcpu";

fn chosen(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|chosen| chosen == name)
}

impl Options {
    /// A name that nothing has.
    fn unknown(&self) -> Option<&String> {
        let works = WORKS.iter().map(|work| work.name);
        let parts: Vec<_> = works.chain([FOOTPRINT, REST, QUARTER]).collect();
        let mut names = self.parts.iter();
        let unknown = names.find(|name| !parts.contains(&name.as_str()));
        unknown.or_else(|| {
            let peers: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
            let mut names = self.peers.iter();
            names.find(|name| !peers.contains(&name.as_str()))
        })
    }
}

/// Runs it; the exit code is 2 if a part or peer is unknown.
pub(crate) async fn main(options: Options) -> io::Result<ExitCode> {
    if let Some(unknown) = options.unknown() {
        writeln!(io::stderr(), "{unknown}: no such part or peer")?;
        return Ok(ExitCode::from(2));
    }
    harness::raise_file_limit()?;
    let files = Files::write()?;
    let rounds = Rounds {
        rounds: options.rounds,
        seconds: options.seconds,
    };
    let asked = |name: &str| chosen(&options.parts, name);
    let mut peers = Made::default();
    if options
        .parts
        .iter()
        .any(|part| part != REST && part != QUARTER)
        || options.parts.is_empty()
    {
        peers = Made::make(|name| chosen(&options.peers, name)).await;
    }
    let mut report = peers.legend();
    let mut bars = Vec::new();
    for work in WORKS.iter().filter(|work| asked(work.name)) {
        let results = measure(work, &peers, rounds, &files).await;
        report += &report::table(work, &results);
        bars.push((work, results));
    }
    if asked(FOOTPRINT) {
        report += &footprint::measure(&peers, options.starts, &files).await;
    }
    if asked(REST) {
        report += &rest::measure(rounds, &files).await;
    }
    if asked(QUARTER) {
        report += &quarter::measure(options.seconds, &files).await;
    }
    writeln!(io::stdout(), "{report}")?;
    if options.write {
        report::write(&report, &plot::draw(&bars))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What each peer that does this work came to; ours first.
async fn measure(work: &Work, peers: &Made, rounds: Rounds, files: &Files) -> report::Results {
    let mut contestants = Vec::new();
    let does = peers
        .iter()
        .filter(|peer| work.peers.contains(&peer.name()));
    let peers: Vec<_> = std::iter::once(peers.ours()).chain(does).collect();
    for peer in &peers {
        // What goes wrong next is theirs.
        let _ = writeln!(io::stderr(), "{}: {}", work.name, peer.name());
        let server = peer.start(work.call, files).await;
        let load = work.call.load(server.addr, files, work.at_once).await;
        contestants.push(Contestant {
            server,
            load,
            units: work.unit.1,
            timed: false,
        });
    }
    let samples = rounds.measure(&contestants).await;
    peers.iter().map(|peer| peer.name()).zip(samples).collect()
}
