//! The parts that the command-line clients share: flags for the target, the channel, output and exit codes.
//!
//! Data goes to standard output and everything else to standard error.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser;

mod chat;
mod connection;
mod failure;
mod input;
mod printer;

pub use chat::{Rest, chat};
pub use connection::{Channel, Connection};
pub use failure::Failure;
pub use input::input;
pub use printer::{Format, Printer, printable};

/// A client: a command line and its action.
pub trait Client: Parser {
    /// The format of printed messages.
    fn format(&self) -> Format;

    /// Runs the command line's action, and prints to `printer`.
    fn run(self, printer: &mut Printer<'_>) -> impl Future<Output = Result<(), Failure>>;
}

/// A client's entire `main`: parses the command line, runs, and reports errors.
///
/// Exits 0 on success, 64 plus the gRPC code when a call fails, 2 on a wrong command line, and 1 when
/// the output cannot be written.
pub fn main<C: Client>() -> ExitCode {
    let client = C::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::Output(error)),
    };
    let (mut data, mut rest) = (anstream::stdout(), anstream::stderr());
    let mut printer = Printer::new(client.format(), &mut data, &mut rest);
    let outcome = runtime.block_on(client.run(&mut printer));
    // A thread may still be blocked on standard input: do not wait for it.
    runtime.shutdown_background();
    drop(printer);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    // The reader of the output has closed it, as `head` does.
    if !matches!(failure, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
        let red = anstyle::AnsiColor::Red.on_default().bold();
        let _ = writeln!(anstream::stderr(), "{red}error:{red:#} {failure}");
    }
    failure.exit_code().into()
}
