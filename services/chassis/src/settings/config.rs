//! Settings: each is a flag and an environment variable, and the flag wins.
//!
//! The variable is the name of the field in capitals. That is also what `--help` and every error show
//! as the placeholder of the flag's value, so an error names both. A setting whose name ends in `_password`
//! is never shown.

use std::{
    ffi::{OsStr, OsString},
    io::{self, IsTerminal as _},
    net::SocketAddr,
    path::PathBuf,
};

use clap::{
    ArgMatches, CommandFactory as _, FromArgMatches as _, ValueEnum, builder::BoolishValueParser,
};
use http::HeaderValue;
use humantime::Duration;
use tracing_subscriber::filter::Targets;

use crate::{
    App,
    process::probe::Probe,
    settings::limits::{Limits, period},
};

/// The settings that every service has.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Where to listen for gRPC; port 0 takes a free port
    #[arg(long = "listen", required = false)]
    pub listen_addr: SocketAddr,

    /// Where to listen for /healthz, /readyz, /metrics and /version, and for plaintext gRPC health checks
    /// [default: the port after --listen]
    #[arg(long = "admin-listen")]
    pub admin_listen_addr: Option<SocketAddr>,

    /// PEM file with the server's certificate chain; turns TLS on
    #[arg(long, requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with the private key of --tls-cert
    #[arg(long, requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// PEM file with the authorities whose client certificates are accepted; turns mTLS on
    #[arg(long, requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,

    /// After SIGTERM: how long to answer NOT_SERVING and still take calls
    #[arg(long, default_value = "5s", value_parser = period)]
    pub lame_duck: Duration,

    /// After that: how long open calls may take to finish
    #[arg(long, default_value = "25s", value_parser = period)]
    pub drain_timeout: Duration,

    /// What one peer, or all of them, can take from the process.
    #[command(flatten)]
    pub limits: Limits,

    /// File with the bearer tokens that are accepted, one a line; with it, calls must show one
    #[arg(long)]
    pub tokens_file: Option<PathBuf>,

    /// File with what client certificates may call: lines of a URI, with :// in it, or a
    /// DNS name, and its methods, each /package.Service/Method, /package.Service/* or *
    #[arg(long, requires = "tls_client_ca")]
    pub allow_file: Option<PathBuf>,

    /// Whether to serve gRPC reflection, v1 and v1alpha
    #[arg(long, default_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub reflection: bool,

    /// Whether responses carry x-served-by, x-served-version and x-served-zone
    #[arg(long, default_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub served_by: bool,

    /// How to write log lines; text is the default on a terminal, json elsewhere
    #[arg(long, required = false, value_enum)]
    pub log_format: LogFormat,

    /// Which log lines to write: a level, or target=level, separated by commas
    #[arg(long = "log", default_value = "info")]
    pub rust_log: Targets,

    /// Address of this pod, for x-served-by [default: the ECS task's address, else the host name]
    #[arg(long)]
    pub pod_ip: Option<HeaderValue>,

    /// Name of this pod, for the log
    #[arg(long)]
    pub pod_name: Option<String>,

    /// Name of the node that the pod runs on, for the log
    #[arg(long)]
    pub node_name: Option<String>,

    /// Availability zone, for x-served-zone [default: the ECS task's]
    #[arg(long)]
    pub zone: Option<HeaderValue>,

    /// Where ECS answers for this task; ECS sets it
    #[arg(long = "ecs-metadata")]
    pub ecs_container_metadata_uri_v4: Option<String>,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// Columns, for people.
    Text,
}

impl Config {
    /// The admin address, as given or the port after the gRPC one; free where that one is.
    pub fn admin_listen(&self) -> SocketAddr {
        self.admin_listen_addr.unwrap_or_else(|| {
            let port = match self.listen_addr.port() {
                0 => 0,
                port => port.checked_add(1).unwrap_or(0),
            };
            SocketAddr::new(self.listen_addr.ip(), port)
        })
    }
}

/// What a command line asks for. `S` is what the service has for settings of its own.
#[derive(Debug)]
pub enum Invocation<S> {
    /// Run the server.
    Serve(Box<Config>, S),
    /// Print these lines, `VARIABLE=value`, the effective settings.
    PrintConfig(String),
    /// Ask a server how it is.
    Healthcheck(Probe),
}

#[derive(Debug, clap::Parser)]
#[command(version)]
struct CommandLine<S: clap::Args> {
    #[command(flatten)]
    config: Config,
    #[command(flatten)]
    settings: S,
    /// Print the effective settings, one VARIABLE=value a line, and exit
    #[arg(long)]
    print_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Ask a server how it is; exits 0 serving, 1 usage, 2 cannot connect, 3 RPC failed, 4 not serving
    Healthcheck(Probe),
}

/// The command line of an app.
pub(crate) fn command<S: clap::Args>(app: &App<S>) -> clap::Command {
    let log_format = if io::stdout().is_terminal() {
        "text"
    } else {
        "json"
    };
    CommandLine::<S>::command()
        .name(app.name)
        .about(app.about)
        .mut_arg("listen_addr", |flag| flag.default_value(app.listen))
        .mut_arg("log_format", |flag| flag.default_value(log_format))
}

/// Reads a command line, with `lookup` for the environment. An empty variable counts as unset.
pub(crate) fn parse<S: clap::Args>(
    command: clap::Command,
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<Invocation<S>, clap::Error> {
    let mut command = command.no_binary_name(true);
    let mut arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let from_environment = flags_from_environment(&command, &arguments, lookup);
    arguments.splice(0..0, from_environment);

    let matches = command.try_get_matches_from_mut(arguments)?;
    let asked = CommandLine::<S>::from_arg_matches(&matches)?;
    let admin = asked.config.admin_listen();
    let calls_per_peer = asked.config.limits.max_calls_per_peer();
    let derived = [
        ("admin_listen_addr", admin.to_string()),
        ("max_calls_per_peer", calls_per_peer.to_string()),
    ];
    Ok(match asked.command {
        Some(Command::Healthcheck(probe)) => Invocation::Healthcheck(probe.or_ask(admin)),
        None if asked.print_config => Invocation::PrintConfig(print(&command, &matches, &derived)),
        None => Invocation::Serve(Box::new(asked.config), asked.settings),
    })
}

/// A `--flag=value` for each variable that is set and whose flag is not on the command line.
fn flags_from_environment(
    command: &clap::Command,
    arguments: &[OsString],
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Vec<OsString> {
    let given = |flag: &OsStr| {
        arguments.iter().any(|argument| {
            let rest = argument
                .as_encoded_bytes()
                .strip_prefix(flag.as_encoded_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
        })
    };
    settings(command)
        .filter_map(|flag| {
            let name = OsString::from(format!("--{}", flag.get_long()?));
            let value = lookup(&variable(flag)).filter(|value| !value.is_empty())?;
            (!given(&name)).then(|| {
                [name.as_os_str(), "=".as_ref(), &value]
                    .into_iter()
                    .collect()
            })
        })
        .collect()
}

/// A line `VARIABLE=value` for each setting; `derived` are those that follow from others.
fn print(command: &clap::Command, matches: &ArgMatches, derived: &[(&str, String)]) -> String {
    settings(command)
        .map(|flag| {
            let id = flag.get_id().as_str();
            let mut given = matches.get_raw(id).into_iter().flatten();
            let value = match given.next() {
                Some(_) if id.ends_with("_password") => "…".to_owned(),
                Some(value) => value.to_string_lossy().into_owned(),
                None => {
                    let derived = derived.iter().find(|(name, _)| *name == id);
                    derived.map(|(_, value)| value.clone()).unwrap_or_default()
                }
            };
            format!("{}={value}\n", variable(flag))
        })
        .collect()
}

/// The flags that are settings: those that take a value.
fn settings(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
    command
        .get_arguments()
        .filter(|flag| flag.get_action().takes_values())
}

fn variable(flag: &clap::Arg) -> String {
    flag.get_id().as_str().to_ascii_uppercase()
}

/// What is wrong with a command line, in one line.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let first_paragraph = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = first_paragraph.split_whitespace().collect();
    words.join(" ")
}
