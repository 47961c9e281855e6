//! What a server takes that does little: time to start, memory, disk.

use std::{fmt::Write as _, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use crate::measure::wire::{self, ACK, Frames, SETTINGS};

use crate::bench::{
    call::{Call, Files},
    peer::{Made, Ready},
    report::{KIB, MIB, bound},
    rounds::Spread,
    server::Server,
    work::SERVERS,
};

/// As many as one address may open at ours.
const CONNECTIONS: u32 = 1000;

#[derive(Debug, Default)]
struct Footprint {
    /// Milliseconds from before the process was made to the first answer.
    first: Spread,
    /// Bytes, after that answer.
    idle: Spread,
    /// Bytes for each connection on which nothing happens.
    connection: f64,
    /// Bytes, after all those were closed.
    after: u64,
    program: u64,
}

/// A table of Markdown.
pub(crate) async fn measure(peers: &Made, starts: usize, files: &Files) -> String {
    let mut out = "### Footprint\n\n| server | exec to the first answer | idle RSS | an idle connection | RSS after \
                   1000 | program |\n|---|--:|--:|--:|--:|--:|\n"
        .to_owned();
    let servers = peers.iter().filter(|peer| SERVERS.contains(&peer.name()));
    let servers: Vec<_> = std::iter::once(peers.ours()).chain(servers).collect();
    let mut footprints: Vec<_> = servers.iter().map(|_| Footprint::default()).collect();
    for _ in 0..starts {
        for (peer, footprint) in servers.iter().zip(&mut footprints) {
            start(peer, files, footprint).await;
        }
    }
    for (peer, footprint) in servers.iter().zip(&mut footprints) {
        let mut server = start(peer, files, footprint).await;
        connect(&mut server, footprint).await;
        let goals = [7.0, 5.0, 13.0, 4.5].map(|goal| (peer.name() == "ours").then_some(goal));
        let [first, idle, connection, program] = goals;
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {:.1} MiB | {} |",
            peer.name(),
            bound(footprint.first.median(), "ms", first),
            bound(footprint.idle.median() / MIB, "MiB", idle),
            bound(footprint.connection / KIB, "KiB", connection),
            footprint.after as f64 / MIB,
            bound(footprint.program as f64 / 1e6, "MB", program),
        );
    }
    out + "\n"
}

async fn start(peer: &Ready, files: &Files, footprint: &mut Footprint) -> Server {
    let mut command = peer.command(Call::Hello, files);
    let began = Instant::now();
    let server = Server::start(&mut command).await;
    Call::Hello.check(server.addr).await;
    footprint.first.add(began.elapsed().as_secs_f64() * 1e3);
    footprint.idle.add(server.rss() as f64);
    footprint.program = server.size();
    server
}

async fn connect(server: &mut Server, footprint: &mut Footprint) {
    let (before, files) = (server.rss(), server.files());
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = wire::connect(server.addr).await;
        let mut frames = Frames::default();
        loop {
            let frame = frames.read(&mut stream).await.expect("settings");
            if frame.is(SETTINGS, ACK) {
                break;
            }
        }
        connections.push(stream);
    }
    let more = server.rss() as f64 - before as f64;
    footprint.connection = more / f64::from(CONNECTIONS);
    drop(connections);
    let closed = async {
        while server.files() > files {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(harness::PATIENCE, closed)
        .await
        .expect("closed sockets");
    footprint.after = server.rss();
}
