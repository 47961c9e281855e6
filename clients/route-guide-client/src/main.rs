//! The `route-guide-client` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main::<route_guide_client::CommandLine>()
}
