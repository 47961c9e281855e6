//! The `echo` server.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::main(echo::APP)
}
