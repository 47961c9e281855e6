//! Measures the released servers beside their peers: all of them alive at once and visited in turn, the
//! servers on one core, the client on another, every answer checked.
//!
//! `cargo run --release --bin bench [WORK…]`. With `--write`, docs/performance.md tells it.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser;

mod call;
mod h2load;
mod peer;
mod report;
mod rounds;
mod server;
mod work;

use call::Files;
use peer::{OURS, PEERS, Peer};
use work::{WORKS, Work};

/// Measures the released servers beside their peers
#[derive(Debug, Parser)]
struct Options {
    /// Which works to measure [default: all]
    works: Vec<String>,
    /// How often each server is visited
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long a visit takes, about
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Beside whom [default: all that can be had]
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
}

impl Options {
    fn chosen<'a>(names: &[String], name: &'a str) -> bool {
        names.is_empty() || names.iter().any(|chosen| chosen == name)
    }

    /// A name that nothing has.
    fn unknown(&self) -> Option<&str> {
        let work = |name: &&String| WORKS.iter().all(|work| work.name != **name);
        let peer = |name: &&String| PEERS.iter().all(|peer| peer.name != **name);
        let works = self.works.iter().find(work);
        works
            .or_else(|| self.peers.iter().find(peer))
            .map(String::as_str)
    }
}

/// The peers that are asked for and can be had, with how they are run.
type Made = Vec<(&'static Peer, Vec<String>)>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<ExitCode> {
    let options = Options::parse();
    if let Some(unknown) = options.unknown() {
        writeln!(io::stderr(), "{unknown}: no such work or peer")?;
        return Ok(ExitCode::from(2));
    }
    let files = Files::write()?;
    let works = WORKS
        .iter()
        .filter(|work| Options::chosen(&options.works, work.name));
    let made = make(&options, works.clone()).await?;
    for work in works {
        let peers: Made = made
            .iter()
            .filter(|(peer, _)| peer.name == OURS || work.peers.contains(&peer.name))
            .cloned()
            .collect();
        let samples = rounds::measure(work, &peers, options.rounds, options.seconds, &files);
        let samples = samples.await;
        let names: Vec<_> = peers.iter().map(|(peer, _)| peer.name).collect();
        writeln!(io::stdout(), "{}", report::table(work, &names, &samples))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes what these works need, and says which cannot be had.
async fn make<'a>(
    options: &Options,
    works: impl Iterator<Item = &'a Work> + Clone,
) -> io::Result<Made> {
    let mut made = Made::new();
    for peer in PEERS {
        let asked = Options::chosen(&options.peers, peer.name)
            && works.clone().any(|work| work.peers.contains(&peer.name));
        if peer.name != OURS && !asked {
            continue;
        }
        match peer.make().await {
            Ok(run) => made.push((peer, run)),
            Err(why) => writeln!(io::stderr(), "skipped: {}: {why}", peer.name)?,
        }
    }
    Ok(made)
}
