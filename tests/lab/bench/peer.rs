//! Who is measured, and how each is made and started.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::Path,
    process::Stdio,
};

use tokio::process::Command;

use crate::bench::{
    call::{Call, Files},
    server::Server,
};

/// The root of the workspace.
pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A server that does the same work.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// What it is, for the reader of the tables.
    what: &'static str,
    program: Program,
}

#[derive(Debug)]
enum Program {
    /// The released servers, one for each service.
    Ours,
    /// Of this workspace, built as those are.
    Release(&'static str, &'static [&'static str]),
    /// Made by `tests/lab/bench/peers/build NAME`, which says how it is run.
    Built,
}

pub(crate) const OURS: Peer = Peer {
    name: "ours",
    what: "`greeter` and `route-guide` as released: every guard and the access log on",
    program: Program::Ours,
};

pub(crate) const REST: Peer = Peer {
    name: "rest",
    what: "axum, JSON over HTTP/1.1",
    program: Program::Release("bench-rest", &[]),
};

pub(crate) const PEERS: &[Peer] = &[
    Peer {
        name: "stock",
        what: "tonic's own examples, built as cargo builds a release",
        program: Program::Built,
    },
    Peer {
        name: "go",
        what: "grpc-go 1.64 of Debian's trixie, with Go 1.27",
        program: Program::Built,
    },
    Peer {
        name: "cpp",
        what: "C++ gRPC 1.51 of Debian's bookworm, `-O3`: callbacks for SayHello, the synchronous API for streams",
        program: Program::Built,
    },
    Peer {
        name: "python",
        what: "grpcio 1.85 with ten threads",
        program: Program::Built,
    },
    Peer {
        name: "limit-hyper",
        what: "the least that hyper takes: ready bytes, never copied, and trailers",
        program: Program::Release("bench-limit", &["hyper"]),
    },
    Peer {
        name: "limit-h2",
        what: "the same of h2, a task a request",
        program: Program::Release("bench-limit", &["h2"]),
    },
];

/// A peer, and the words that run it.
#[derive(Debug)]
pub(crate) struct Ready(&'static Peer, Vec<String>);

/// Ours, and the peers that can be had.
#[derive(Debug)]
pub(crate) struct Made {
    ours: Ready,
    peers: Vec<Ready>,
    skipped: Vec<(&'static str, String)>,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            ours: Ready(&OURS, Vec::new()),
            peers: Vec::new(),
            skipped: Vec::new(),
        }
    }
}

impl Made {
    /// Makes those that are asked for, which may take minutes the first time.
    pub(crate) async fn make(asked: impl Fn(&str) -> bool) -> Self {
        let mut made = Self::default();
        for peer in PEERS.iter().filter(|peer| asked(peer.name)) {
            match Ready::make(peer).await {
                Ok(ready) => made.peers.push(ready),
                Err(why) => {
                    let _ = writeln!(io::stderr(), "skipped: {}: {why}", peer.name);
                    made.skipped.push((peer.name, why));
                }
            }
        }
        made
    }

    pub(crate) fn ours(&self) -> &Ready {
        &self.ours
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ready> {
        self.peers.iter()
    }

    /// Who is who, as a list of Markdown.
    pub(crate) fn legend(&self) -> String {
        let mut out = String::new();
        for Ready(peer, _) in std::iter::once(&self.ours).chain(&self.peers) {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "- **{}**: {}", peer.name, peer.what);
        }
        for (name, why) in &self.skipped {
            let _ = writeln!(out, "- **{name}**: skipped, {why}");
        }
        out
    }
}

impl Ready {
    /// Makes it, or says why it cannot be had.
    pub(crate) async fn make(peer: &'static Peer) -> Result<Self, String> {
        let words = match peer.program {
            Program::Ours => Vec::new(),
            Program::Release(binary, flags) => {
                let command = harness::command(binary, flags);
                let program = command.as_std();
                let words = std::iter::once(program.get_program()).chain(program.get_args());
                words.map(|word| word.to_string_lossy().into()).collect()
            }
            Program::Built => build(peer.name).await?,
        };
        Ok(Self(peer, words))
    }

    pub(crate) fn name(&self) -> &'static str {
        self.0.name
    }

    /// Starts it for this call.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    pub(crate) async fn start(&self, call: Call, files: &Files) -> Server {
        Server::start(&mut self.command(call, files)).await
    }

    pub(crate) fn command(&self, call: Call, files: &Files) -> Command {
        let mut command = match self.1.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
            None => harness::command(call.binary(), &["--admin-listen", "127.0.0.1:0"]),
        };
        // Our Greeter knows no features.
        if !self.1.is_empty() || call != Call::Hello {
            command.arg("--features-file").arg(files.features(call));
        }
        command.args(["--listen", "127.0.0.1:0"]).env_clear();
        command.current_dir(ROOT);
        command
    }
}

/// Has the script make it; the last line of what that says is the command.
async fn build(name: &str) -> Result<Vec<String>, String> {
    let script = Path::new(ROOT).join("tests/lab/bench/peers/build");
    let output = Command::new(script).arg(name).stdin(Stdio::null()).output();
    let output = output.await.map_err(|error| error.to_string())?;
    let last = |text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        text.trim().lines().last().unwrap_or_default().to_owned()
    };
    if !output.status.success() {
        return Err(last(&output.stderr));
    }
    let words = last(&output.stdout);
    Ok(words.split(' ').map(str::to_owned).collect())
}
