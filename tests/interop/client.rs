//! The `interop-client` program: plays gRPC's interop cases with the channel of the suite's clients.
//! <https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md>

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, ValueEnum as _};
use cli::{Connection, printable};

mod cases;
mod packing;
mod testing;
mod unpacking;
mod wire;

use cases::Case;

/// Plays gRPC's interop cases against a server
#[derive(Debug, Clone, Parser)]
#[command(name = "interop-client", version)]
struct CommandLine {
    /// Target: http://HOST:PORT, https://HOST:PORT, or HOST:PORT
    #[arg(long)]
    addr: String,

    #[command(flatten)]
    connection: Connection,

    /// How many calls concurrent_large_unary makes at once
    #[arg(long, default_value_t = 1000)]
    concurrency: usize,

    /// How many calls each soak makes, one after the other
    #[arg(long, default_value_t = 100)]
    iterations: usize,

    /// How long one call of a soak may take
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    longest_call: Duration,

    /// Which cases to play [default: all]
    #[arg(value_name = "CASE")]
    cases: Vec<Case>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    match play(&command_line).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("interop-client: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Plays the cases one after the other, prints a line for each, and says whether all went well.
async fn play(command_line: &CommandLine) -> io::Result<bool> {
    let cases = match command_line.cases.as_slice() {
        [] => Case::value_variants(),
        some => some,
    };
    let mut well = true;
    for case in cases {
        if let Err(why) = case.play(command_line).await {
            well = false;
            let why = printable(&why.to_string());
            writeln!(io::stdout(), "{case} failed: {why}")?;
        } else {
            writeln!(io::stdout(), "{case} ok")?;
        }
    }
    Ok(well)
}
