//! The command line: each setting is a flag and an environment variable, and the flag wins.
//!
//! The variable is the name of the field in capitals. That is also what `--help` and every error show
//! as the placeholder of the flag's value, so an error names both. A setting whose name ends in `_password`
//! is never shown.

use std::ffi::{OsStr, OsString};

use clap::{
    ArgMatches, CommandFactory as _, FromArgMatches as _, ValueEnum as _, parser::ValueSource,
};

use crate::{process::probe::Probe, settings::config::Config};

/// The action that a command line requests. `S` is the type of the service's own settings.
#[derive(Debug)]
pub enum Invocation<S> {
    /// Run the server.
    Serve(Box<Config>, S),
    /// Print these lines, the effective settings: `VARIABLE=value # source`, under comment lines for groups.
    PrintConfig(String),
    /// Check the health of a server.
    Healthcheck(Probe),
}

#[derive(Debug, clap::Parser)]
#[command(version)]
struct CommandLine<S: clap::Args> {
    /// Print the effective settings, one VARIABLE=value a line with a comment that says where the value comes
    /// from, and exit
    // Before the groups; otherwise it would belong to the last group.
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    config: Config,
    #[command(flatten)]
    settings: S,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Ask a server how it is; exits 0 serving, 1 usage, 2 cannot connect, 3 RPC failed, 4 not serving
    Healthcheck(Probe),
}

/// The command line of a server whose default listen address is `listen`.
pub(crate) fn command<S: clap::Args>(
    name: &'static str,
    about: &'static str,
    listen: &str,
) -> clap::Command {
    CommandLine::<S>::command()
        .name(name)
        .about(about)
        .mut_args(|flag| match flag.get_id() == "listen_addr" {
            true => with_variable(flag.default_value(listen.to_owned())),
            false => with_variable(flag),
        })
}

/// Adds a setting's variable and its default to its help, in one line. Clap would do that itself if it read
/// this process's environment, but the environment is read through `lookup`.
fn with_variable(flag: clap::Arg) -> clap::Arg {
    let Some(help) = flag.get_help().filter(|_| is_setting(&flag)) else {
        return flag;
    };
    let (help, variable) = (help.to_string(), variable(&flag));
    let (what, derived) = help.split_at(help.find(" [default: ").unwrap_or(help.len()));
    let default = match flag.get_default_values() {
        [default, ..] => format!(" [default: {}]", default.to_string_lossy()),
        [] => derived.to_owned(),
    };
    flag.help(format!("{what} [env: {variable}]{default}"))
        .long_help(format!("{what}\n\n[env: {variable}]{default}"))
        .hide_default_value(true)
}

/// Reads a command line, with `lookup` for the environment. An empty variable counts as unset.
pub(crate) fn parse<S: clap::Args>(
    command: clap::Command,
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<Invocation<S>, clap::Error> {
    let mut command = command.no_binary_name(true);
    let mut arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let environment = flags_from_environment(&command, &arguments, lookup);
    arguments.splice(0..0, environment.iter().map(|(_, flag)| flag.clone()));

    let matches = command.try_get_matches_from_mut(arguments)?;
    let asked = CommandLine::<S>::from_arg_matches(&matches)?;
    let admin = asked.config.admin_listen();
    Ok(match asked.command {
        Some(Command::Healthcheck(probe)) => Invocation::Healthcheck(probe.or_ask(admin.to_dial())),
        None if asked.print_config => {
            let derived = derived(&asked.config);
            let environment: Vec<_> = environment.into_iter().map(|(id, _)| id).collect();
            Invocation::PrintConfig(print(&command, &matches, &environment, &derived))
        }
        None => Invocation::Serve(Box::new(asked.config), asked.settings),
    })
}

/// The name and a `--flag=value` of each variable that is set and whose flag is not on the command line.
fn flags_from_environment(
    command: &clap::Command,
    arguments: &[OsString],
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Vec<(clap::Id, OsString)> {
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
            let argument = [name.as_os_str(), "=".as_ref(), &value];
            (!given(&name)).then(|| (flag.get_id().clone(), argument.into_iter().collect()))
        })
        .collect()
}

/// The effective values of settings that are unset and derive from other settings.
fn derived(config: &Config) -> [(&'static str, String); 3] {
    let log_format = config.log_format().to_possible_value();
    [
        ("admin_listen_addr", config.admin_listen().to_string()),
        (
            "max_calls_per_peer",
            config.limits.max_calls_per_peer().to_string(),
        ),
        (
            "log_format",
            log_format.map_or_else(String::new, |value| value.get_name().to_owned()),
        ),
    ]
}

/// A line `VARIABLE=value # source` for each setting, in the order of the help and under its headings, which
/// are comments. The source is always printed, so that the last ` # ` of a line ends the value.
fn print(
    command: &clap::Command,
    matches: &ArgMatches,
    environment: &[clap::Id],
    derived: &[(&str, String)],
) -> String {
    let mut lines = String::new();
    let mut heading = None;
    for flag in settings(command) {
        if flag.get_help_heading() != heading {
            heading = flag.get_help_heading();
            lines += &format!("# {}\n", heading.unwrap_or("Options"));
        }
        let id = flag.get_id();
        let given = matches
            .get_raw(id.as_str())
            .and_then(|mut given| given.next());
        let (value, source) = match (given, matches.value_source(id.as_str())) {
            (Some(value), Some(ValueSource::DefaultValue)) => (value.to_string_lossy(), "default"),
            (Some(_), _) if id.as_str().ends_with("_password") => {
                ("…".into(), source(environment, id))
            }
            (Some(value), _) => (value.to_string_lossy(), source(environment, id)),
            (None, _) => match derived.iter().find(|(name, _)| id == *name) {
                Some((_, value)) => (value.into(), "derived"),
                None => ("".into(), "not set"),
            },
        };
        lines += &format!("{}={value} # {source}\n", variable(flag));
    }
    lines
}

/// The source of a value that was set.
fn source(environment: &[clap::Id], id: &clap::Id) -> &'static str {
    match environment.contains(id) {
        true => "environment",
        false => "flag",
    }
}

/// The flags that are settings.
fn settings(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
    command.get_arguments().filter(|flag| is_setting(flag))
}

/// A flag with a value is a setting.
fn is_setting(flag: &clap::Arg) -> bool {
    flag.get_action().takes_values()
}

fn variable(flag: &clap::Arg) -> String {
    flag.get_id().as_str().to_ascii_uppercase()
}

/// A command-line error, in one line.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let first_paragraph = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = first_paragraph.split_whitespace().collect();
    words.join(" ")
}
