//! The `greeter` server.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::main(greeter::APP)
}
