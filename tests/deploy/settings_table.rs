//! The README's table of settings, which is made of the servers' command lines.

use std::{env, fs, path::Path};

use clap::{Arg, Command};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const BEGIN: &str =
    "<!-- settings: made of --help; UPDATE=1 cargo test -p deploy settings_table -->\n";
const END: &str = "<!-- end of settings -->\n";

/// The flags that are settings: those that take a value.
fn settings(server: &Command) -> impl Iterator<Item = &Arg> {
    server
        .get_arguments()
        .filter(|flag| flag.get_action().takes_values())
}

/// A setting's sentence, and what its help says of a default that follows from other things.
fn sentence(flag: &Arg) -> (String, Option<String>) {
    let help = flag.get_help().expect("a sentence").to_string();
    let variable = flag.get_id().as_str().to_uppercase();
    let (what, rest) = help
        .split_once(&format!(" [env: {variable}]"))
        .unwrap_or_else(|| panic!("{variable} is not in {help:?}"));
    let default = rest.trim().strip_prefix("[default: ");
    let default = default.map(|text| text.trim_end_matches(']').to_owned());
    // A bar would end the cell, and angle brackets are for HTML.
    assert!(!what.contains(['|', '<', '`']), "{what}");
    (what.to_owned(), default)
}

/// A row for a setting of all these servers, which may differ in its default.
fn row(flags: &[&Arg]) -> String {
    let (what, derived) = sentence(flags[0]);
    let mut defaults: Vec<_> = flags
        .iter()
        .flat_map(|flag| flag.get_default_values().first())
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    defaults.dedup();
    let default = match (defaults.is_empty(), derived) {
        (true, derived) => derived.unwrap_or_default(),
        (false, _) => defaults.join(", "),
    };
    let long = flags[0].get_long().expect("a flag");
    let variable = flags[0].get_id().as_str().to_uppercase();
    format!("| `--{long}` | `{variable}` | {default} | {what} |\n")
}

fn table(servers: &[Command]) -> String {
    let mut table = "| flag | variable | default | |\n|---|---|---|---|\n".to_owned();
    let mut heading = None;
    let mut named = Vec::new();
    for flag in servers.iter().flat_map(settings) {
        if named.contains(&flag.get_id()) {
            continue;
        }
        named.push(flag.get_id());
        let same = servers.iter().filter_map(|server| {
            let same = settings(server).find(|other| other.get_id() == flag.get_id())?;
            Some((server.get_name(), same))
        });
        let same: Vec<_> = same.collect();
        if flag.get_help_heading() != heading {
            heading = flag.get_help_heading();
            let heading = heading.expect("a group");
            table += &match &same[..] {
                [(server, _)] => format!("| **{heading}** ({server}) | | | |\n"),
                _ => format!("| **{heading}** | | | |\n"),
            };
        }
        let same: Vec<_> = same.into_iter().map(|(_, flag)| flag).collect();
        table += &row(&same);
    }
    table
}

#[test]
fn the_readme_has_every_setting_as_help_explains_it() {
    let path = Path::new(ROOT).join("README.md");
    let readme = fs::read_to_string(&path).expect("text");
    let (before, rest) = readme.split_once(BEGIN).expect("the marker of the table");
    let (found, after) = rest.split_once(END).expect("the marker of its end");
    let expected = table(&[route_guide::APP.command(), greeter::APP.command()]);
    if env::var_os("UPDATE").is_some() {
        let whole = [before, BEGIN, &expected, END, after].concat();
        fs::write(&path, whole).expect("written");
    } else {
        let differs =
            (expected.lines().zip(found.lines())).find(|(expected, found)| expected != found);
        assert!(
            found == expected,
            "differs at {differs:#?}; to write it anew: UPDATE=1 cargo test -p deploy settings_table"
        );
    }
}
