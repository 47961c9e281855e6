//! The process around a server: command line, signals, exit code.

pub(crate) mod app;
pub(crate) mod command_line;
pub(crate) mod probe;

use std::{
    env,
    ffi::OsString,
    io::{self, Write as _},
    pin::pin,
    process::ExitCode,
};

use futures_util::future::{Either, select};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    process::{app::App, command_line::Invocation},
    server::{descriptors, workers::Workers},
    settings::{Error, VERSION, config::Config},
    telemetry::logging::start_logging,
};

/// The whole of a server's `main`. Exits 2 on a wrong setting, 1 on a start that fails, and 0 after a
/// graceful shutdown; `healthcheck` has different exit codes.
pub fn main<S: clap::Args + Send + 'static>(app: App<S>) -> ExitCode {
    run(&app).unwrap_or_else(|error| {
        eprintln!("{}: {error}", app.name);
        ExitCode::FAILURE
    })
}

fn run<S: clap::Args + Send + 'static>(app: &App<S>) -> Result<ExitCode, Error> {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let usage_code = if arguments
        .first()
        .is_some_and(|first| first == "healthcheck")
    {
        1
    } else {
        2
    };
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match app.parse(arguments, |variable| env::var_os(variable)) {
        // --help and --version arrive as errors, too.
        Err(error) if !error.use_stderr() => error.print()?,
        Err(error) => {
            eprintln!("{}: {}", app.name, command_line::one_line(&error));
            return Ok(usage_code.into());
        }
        Ok(Invocation::PrintConfig(lines)) => io::stdout().write_all(lines.as_bytes())?,
        Ok(Invocation::Healthcheck(probe)) => {
            let exit_code = runtime.block_on(probe.run());
            // Resolving a name can outlast the timeout: do not wait for it.
            runtime.shutdown_background();
            return Ok(exit_code);
        }
        Ok(Invocation::Serve(config, settings)) => {
            let _logging = start_logging(&config);
            descriptors::raise_limit();
            let ended = runtime.block_on(serve(app, &config, settings));
            // A file without an end may still be read: do not wait for it.
            runtime.shutdown_background();
            return ended;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve<S: clap::Args + Send + 'static>(
    app: &App<S>,
    config: &Config,
    settings: S,
) -> Result<ExitCode, Error> {
    // Before the start; otherwise a signal during it would kill the process.
    let mut first = Signals::listen()?;
    let mut second = Signals::listen()?;
    let starts = pin!(app.bind(config, settings));
    let server = match select(starts, pin!(first.next())).await {
        Either::Left((server, _)) => server?,
        Either::Right(_) => {
            tracing::info!("told to stop before the start was done");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let workers = Workers::one_per_core()?;
    tracing::info!(
        name = app.name,
        version = VERSION,
        grpc = %server.addr()?,
        admin = %server.admin_addr()?,
        tls = config.tls_cert.is_some(),
        mtls = config.tls_client_ca.is_some(),
        pod_name = config.pod_name,
        node_name = config.node_name,
        "listening"
    );
    let in_order = server.run_on(&workers, async move { first.next().await });
    let at_once = async {
        second.next().await;
        second.next().await;
    };
    Ok(match select(pin!(in_order), pin!(at_once)).await {
        Either::Left(_) => ExitCode::SUCCESS,
        Either::Right(_) => {
            tracing::warn!("second signal: exiting at once");
            ExitCode::FAILURE
        }
    })
}

/// The signals that end the process: SIGTERM from platforms, SIGINT from people.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        select(pin!(self.terminate.recv()), pin!(self.interrupt.recv())).await;
    }
}
