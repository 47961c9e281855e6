//! The command line: each setting is a flag and an environment variable, and the flag wins.
//!
//! The variable is the name of the field in capitals. That is also what `--help` and every error show
//! as the placeholder of the flag's value, so an error names both. A setting whose name ends in `_password`
//! is never shown.

use std::{
    ffi::{OsStr, OsString},
    io::{self, IsTerminal as _},
};

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

use crate::{process::probe::Probe, settings::config::Config};

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

/// The command line of a server that listens at `listen` unless told otherwise.
pub(crate) fn command<S: clap::Args>(
    name: &'static str,
    about: &'static str,
    listen: String,
) -> clap::Command {
    let log_format = if io::stdout().is_terminal() {
        "text"
    } else {
        "json"
    };
    CommandLine::<S>::command()
        .name(name)
        .about(about)
        .mut_arg("listen_addr", |flag| flag.default_value(listen.clone()))
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
