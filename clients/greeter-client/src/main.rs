//! The `greeter-client` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main::<greeter_client::CommandLine>()
}
