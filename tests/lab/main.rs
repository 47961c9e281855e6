//! The laboratory: programs that measure the suite's servers beside others.
//!
//! `cargo run --release --bin lab measure [ROW…]`, and likewise `rollout` and `bench`.

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

mod bench;
mod measure;
mod rollout;

/// Measures the suite's servers beside others
#[derive(Debug, Parser)]
#[command(name = "lab")]
struct CommandLine {
    #[command(subcommand)]
    program: Program,
}

#[derive(Debug, Subcommand)]
enum Program {
    Measure(measure::Options),
    Rollout(rollout::Options),
    Bench(bench::Options),
}

fn main() -> io::Result<ExitCode> {
    let program = CommandLine::parse().program;
    let mut runtime = match program {
        // Its client has one core.
        Program::Bench(_) => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    runtime.enable_all().build()?.block_on(async {
        match program {
            Program::Measure(options) => measure::main(options).await,
            Program::Rollout(options) => rollout::main(options).await,
            Program::Bench(options) => bench::main(options).await,
        }
    })
}
