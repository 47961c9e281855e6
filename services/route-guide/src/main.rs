//! The `route-guide` server.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::main(route_guide::APP)
}
