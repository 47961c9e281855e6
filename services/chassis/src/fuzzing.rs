//! What fuzzers try. Each function takes any bytes, makes of them what a peer or a file may bring, and panics if
//! the chassis does not do with it what it must. `tests/fuzz` has a target for each, and keeps the inputs that
//! were worth keeping: the tests here replay them, so that neither can rot.
//!
//! Time is virtual under a fuzzer. The replay has the real clock, because tokio's virtual one is a feature that would
//! have all crates compiled twice. There, a peer waits for milliseconds where it is to wait for seconds, and what only
//! a time of the server's can bring about does not come.

use std::time::Duration;

use arbitrary::Unstructured;

mod auth;
mod connection;
mod framing;
mod json;
mod request_body;
mod stall_guard;

pub use auth::auth;
pub use connection::{Played, connection};
pub use framing::framing;
pub use json::json;
pub use request_body::request_body;
pub use stall_guard::stall_guard;

/// The next byte, or 0.
fn byte(input: &mut Unstructured<'_>) -> u8 {
    input.arbitrary().unwrap_or_default()
}

/// The next bytes behind one that says how many there are, or what is left.
fn bytes<'a>(input: &mut Unstructured<'a>) -> &'a [u8] {
    let length = usize::from(byte(input)).min(input.len());
    input.bytes(length).unwrap_or_default()
}

/// A stream in pieces as long as `cuts` says, over and over; 0 is for the rest.
fn pieces<'a>(cuts: &[impl Into<usize> + Copy], mut stream: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut cuts = cuts.iter().cycle().map(|cut| (*cut).into());
    while !stream.is_empty() {
        let cut = match cuts.next() {
            None | Some(0) => stream.len(),
            Some(cut) => cut.min(stream.len()),
        };
        let (piece, rest) = stream.split_at(cut);
        pieces.push(piece);
        stream = rest;
    }
    pieces
}

/// A runtime of one thread, whose time is virtual under a fuzzer.
fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    #[cfg(fuzzing)]
    runtime.start_paused(true);
    runtime.enable_time().build().expect("a runtime")
}

/// A time in which nothing happens; a thousandth of it where time is real.
fn pause(milliseconds: u64) -> Duration {
    match cfg!(fuzzing) {
        true => Duration::from_millis(milliseconds),
        false => Duration::from_micros(milliseconds),
    }
}

/// The settings of a server with these flags.
fn config(flags: &[&str]) -> crate::Config {
    #[derive(Debug, clap::Args)]
    struct None {}
    let app = crate::App::<None> {
        name: "fuzzed",
        about: "What fuzzers try.",
        listen_port: 0,
        build: |_, _| Box::pin(std::future::ready(Ok(crate::Services::default()))),
    };
    match app.parse(flags, |_| None) {
        Ok(crate::Invocation::Serve(config, _)) => *config,
        other => panic!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    /// The kept inputs of a target, each with its name.
    fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus");
        let files = fs::read_dir(folder.join(target)).expect("a corpus");
        let kept: Vec<_> = files
            .map(|file| file.expect("a file"))
            .map(|file| {
                let name = file.file_name().to_string_lossy().into_owned();
                (name, fs::read(file.path()).expect("an input"))
            })
            .collect();
        assert!(kept.len() >= 10, "{target}: {} inputs", kept.len());
        kept
    }

    fn replay(target: &str, run: impl Fn(&[u8])) {
        for (name, input) in corpus(target) {
            eprintln!("{target}/{name}");
            run(&input);
        }
    }

    #[test]
    fn the_kept_inputs_of_the_splitter_pass() {
        replay("framing", super::framing);
    }

    #[test]
    fn the_kept_inputs_of_the_request_body_pass() {
        replay("request_body", super::request_body);
    }

    #[test]
    fn the_kept_inputs_of_the_stall_guard_pass() {
        replay("stall_guard", super::stall_guard);
    }

    #[test]
    fn the_kept_inputs_of_tokens_and_rules_pass() {
        replay("auth", super::auth);
    }

    #[test]
    fn the_kept_inputs_of_json_lines_pass() {
        replay("json", super::json);
    }

    #[test]
    fn the_kept_inputs_of_connections_pass_and_reach_what_they_are_for() {
        let mut endings = BTreeSet::new();
        let mut answered = 0;
        for (name, input) in corpus("connection") {
            let played = super::connection(&input);
            eprintln!("connection/{name}: {played:?}");
            endings.insert(played.ending);
            answered += played.answered;
        }
        let expected = [
            "closed",
            "control_frames",
            "enhance_your_calm",
            "lost",
            "protocol_error",
        ];
        assert!(
            expected.iter().all(|ending| endings.contains(ending)),
            "{endings:?}"
        );
        assert!(answered >= 20, "{answered} calls answered");
    }
}
