//! Who is measured, and how each is made and started.

use std::{path::Path, process::Stdio};

use tokio::process::Command;

use crate::{
    call::{Call, Files},
    server::Server,
};

/// The root of the workspace.
pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

pub(crate) const OURS: &str = "ours";

/// A server that does the same work.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// What it is, for the reader of the table.
    pub(crate) what: &'static str,
    program: Program,
}

#[derive(Debug)]
enum Program {
    /// The released servers, one for each service.
    Ours,
    /// Of this workspace, built as those are.
    Release(&'static str, &'static [&'static str]),
    /// Made by `tests/bench/peers/build NAME`, which says how it is run.
    Built,
}

pub(crate) const PEERS: &[Peer] = &[
    Peer {
        name: OURS,
        what: "`greeter` and `route-guide` as released: every guard and the access log on",
        program: Program::Ours,
    },
    Peer {
        name: "stock",
        what: "tonic's own examples, built as cargo builds a release",
        program: Program::Built,
    },
    Peer {
        name: "go",
        what: "grpc-go",
        program: Program::Built,
    },
    Peer {
        name: "cpp",
        what: "C++ gRPC of Debian: callbacks for unary calls, the synchronous API for streams",
        program: Program::Built,
    },
    Peer {
        name: "python",
        what: "grpcio with ten threads",
        program: Program::Built,
    },
    Peer {
        name: "limit-hyper",
        what: "hyper alone: ready bytes and trailers, whatever is asked",
        program: Program::Release("bench-limit", &["hyper"]),
    },
    Peer {
        name: "limit-h2",
        what: "h2 alone: likewise",
        program: Program::Release("bench-limit", &["h2"]),
    },
];

impl Peer {
    /// Makes it, which may take minutes the first time, or says why it cannot be had.
    pub(crate) async fn make(&self) -> Result<Vec<String>, String> {
        match self.program {
            Program::Ours => Ok(Vec::new()),
            Program::Release(binary, flags) => {
                let command = harness::command(binary, flags);
                let program = command.as_std();
                let words = [program.get_program()]
                    .into_iter()
                    .chain(program.get_args());
                Ok(words.map(|word| word.to_string_lossy().into()).collect())
            }
            Program::Built => build(self.name).await,
        }
    }

    /// Starts it for this call, as `made` says. None if it does not come up.
    pub(crate) async fn start(&self, made: &[String], call: Call, files: &Files) -> Option<Server> {
        let mut command = match made.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
            None => harness::command(call.binary(), &["--admin-listen", "127.0.0.1:0"]),
        };
        // Our Greeter knows no features.
        if !made.is_empty() || call != Call::Hello {
            command.arg("--features-file").arg(files.features(call));
        }
        command.args(["--listen", "127.0.0.1:0"]).env_clear();
        Server::start(command.current_dir(ROOT)).await
    }
}

/// The last line of what it says is the command.
async fn build(name: &str) -> Result<Vec<String>, String> {
    let script = Path::new(ROOT).join("tests/bench/peers/build");
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
