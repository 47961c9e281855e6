//! Who may import whom, and whether the README and the other documents tell the truth about what they can
//! be checked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use harness::{command, output};
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The local crates that each local crate depends on, by folder.
fn imports() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(ROOT)
        .output()
        .expect("cargo");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let root = metadata["workspace_root"].as_str().expect("a path");
    let folder = |path: &str| {
        let path = path.strip_prefix(root).expect("inside the workspace");
        path.trim_start_matches('/')
            .trim_end_matches("/Cargo.toml")
            .to_owned()
    };
    let packages = metadata["packages"].as_array().expect("packages").iter();
    packages
        .map(|package| {
            let dependencies = package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter();
            let local = dependencies.filter_map(|dependency| dependency["path"].as_str());
            (
                folder(package["manifest_path"].as_str().expect("a path")),
                local.map(folder).collect(),
            )
        })
        .collect()
}

#[test]
fn imports_point_one_way() {
    let imports = imports();
    assert!(imports.len() >= 7, "{imports:?}");
    for (importer, imported) in &imports {
        let kind = importer.split('/').next().expect("a first part");
        let allowed: &[&str] = match (kind, importer.as_str()) {
            ("proto", _) | (_, "clients/pem") => &[],
            (_, "clients/channel") => &["clients/pem"],
            // A server probes itself through the channel.
            (_, "services/chassis") => &["clients/channel", "clients/pem"],
            (_, "clients/cli") => &["clients/channel"],
            // The same server, in a function.
            (_, "services/greeter-lambda") => &["services/chassis", "services/greeter"],
            ("services", _) => &["proto", "services/chassis", "clients/channel"],
            ("clients", _) => &["proto", "clients/channel", "clients/cli"],
            ("tests", _) => continue,
            other => panic!("{other:?} has no rule"),
        };
        for folder in imported {
            assert!(
                allowed.contains(&folder.as_str()),
                "{importer} imports {folder}"
            );
        }
    }
}

/// The folders of the chassis, from the top.
const LAYERS: [&str; 10] = [
    "fuzzing",
    "process",
    "server",
    "connection",
    "call",
    "services",
    "telemetry",
    "state",
    "wire",
    "settings",
];

/// The layer that a file of the chassis is in; None for what is in no folder.
fn layer(path: &Path) -> Option<usize> {
    let root = Path::new(ROOT).join("services/chassis/src");
    let mut folders = path.strip_prefix(root).ok()?.parent()?.iter();
    let folder = folders.next()?.to_str()?;
    let layer = LAYERS.iter().position(|layer| *layer == folder);
    assert!(layer.is_some(), "{folder} is no layer");
    layer
}

/// The layers that a file imports from: every `crate::name::`, and every first name in `crate::{…}`.
fn imported_layers(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (_, path) in code
        .match_indices("crate::")
        .map(|(at, _)| code[at..].split_at(7))
    {
        let mut depth = 0;
        let braces = path.starts_with('{');
        let list = if braces { &path[1..] } else { path };
        let is_end = |letter: char| {
            depth += i32::from(letter == '{') - i32::from(letter == '}');
            depth < 0 || (depth == 0 && (letter == ';' || (!braces && !letter.is_alphanumeric())))
        };
        let list = &list[..list.find(is_end).unwrap_or(list.len())];
        let mut depth = 0;
        let items = list.split(|letter: char| {
            depth += i32::from(letter == '{') - i32::from(letter == '}');
            letter == ',' && depth == 0
        });
        found.extend(items.filter_map(|item| item.trim().split(':').next()));
    }
    found.retain(|name| !name.is_empty() && *name != "self");
    found
}

#[test]
fn layers_of_the_chassis_import_only_what_is_below_them() {
    let files = files("rs", &["services/chassis/src"]);
    let mut imports = 0;
    for (path, code) in files {
        let Some(own) = layer(&path) else { continue };
        let code = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for name in imported_layers(&code.collect::<String>()) {
            let imported = LAYERS.iter().position(|layer| *layer == name);
            let imported = imported.unwrap_or_else(|| panic!("{}: crate::{name}", path.display()));
            assert!(imported >= own, "{} imports crate::{name}", path.display());
            imports += 1;
        }
    }
    assert!(imports > 50, "{imports} imports");
}

#[test]
fn a_folder_is_named_as_its_crate() {
    for folder in imports().keys() {
        let manifest = std::fs::read_to_string(Path::new(ROOT).join(folder).join("Cargo.toml"));
        let name = folder.rsplit('/').next().expect("a last part");
        let line = format!("name = \"{name}\"");
        assert!(
            manifest
                .expect("a manifest")
                .lines()
                .any(|found| found == line),
            "{folder}"
        );
    }
}

const README: &str = include_str!("../../README.md");

#[tokio::test]
async fn every_flag_of_the_readme_exists() {
    let mut help = String::new();
    for program in [
        "route-guide",
        "greeter",
        "route-guide-client",
        "greeter-client",
    ] {
        help += &String::from_utf8_lossy(&output(&mut command(program, &["--help"])).await.stdout);
    }
    // Where a flag is explained, it stands first in its line.
    let explained = help
        .lines()
        .filter_map(|line| line.split("--").nth(1)?.split([' ', ',']).next());
    let explained: Vec<_> = explained.collect();
    let flags = README
        .split('`')
        .filter_map(|quoted| quoted.strip_prefix("--")?.split(' ').next());
    for flag in flags {
        assert!(explained.contains(&flag), "--{flag} is in no --help");
    }
}

#[test]
fn the_readme_shows_the_folders_that_exist() {
    let is_folder = |path: &&str| path.ends_with('/') && !path.contains("://");
    let shown = README
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(is_folder);
    for folder in shown.clone() {
        assert!(Path::new(ROOT).join(folder).is_dir(), "{folder}");
    }
    let shown: Vec<_> = shown.map(|folder| folder.trim_end_matches('/')).collect();
    for folder in imports().keys() {
        assert!(
            shown.contains(&folder.as_str()),
            "{folder} is not in the tree"
        );
    }
}

/// Every file of a kind under these folders of the workspace, with its text.
fn files(kind: &str, folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut waiting: Vec<_> = folders
        .iter()
        .map(|folder| Path::new(ROOT).join(folder))
        .collect();
    let mut found = Vec::new();
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == kind) {
                let text = fs::read_to_string(&path).expect("text");
                found.push((path, text));
            }
        }
    }
    found
}

/// The functions of a file, by their names, and how many lines each has. rustfmt ends a function with a brace where
/// it has begun.
fn functions(code: &str) -> Vec<(&str, usize)> {
    let lines: Vec<_> = code.lines().collect();
    let mut found = Vec::new();
    for (begin, line) in lines.iter().enumerate() {
        let bare = line.trim_start();
        let Some((before, after)) = bare.split_once("fn ") else {
            continue;
        };
        let qualifiers = ["", "pub", "pub(crate)", "pub(super)", "const", "async"];
        if !before.split(' ').all(|word| qualifiers.contains(&word)) {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - bare.len()]);
        let length = lines[begin..].iter().position(|line| **line == end);
        let name = after.split(['(', '<']).next().unwrap_or(after);
        found.extend(length.map(|length| (name, length + 1)));
    }
    found
}

#[test]
fn a_function_is_seen_at_once() {
    let mut count = 0;
    for (path, code) in files("rs", &["proto", "services", "clients", "tests"]) {
        for (name, lines) in functions(&code) {
            assert!(lines <= 60, "{}: {name} has {lines} lines", path.display());
            count += 1;
        }
    }
    assert!(count > 1000, "{count} functions");
}

#[test]
fn nothing_here_asks_for_the_time_of_day() {
    let sources = files("rs", &["services", "clients"]);
    assert!(sources.len() > 30, "{} files", sources.len());
    // Lambda says its deadlines as a time of day, and a log line when it was written.
    let may = [
        "greeter-lambda/src/lib.rs",
        "greeter-caller/src/lib.rs",
        "chassis/src/telemetry/json.rs",
    ];
    for (path, text) in sources {
        let may = may.iter().any(|file| path.ends_with(file));
        assert!(may || !text.contains("SystemTime"), "{}", path.display());
    }
}

#[test]
fn every_test_that_the_documents_name_exists() {
    let documents = ["clients", "notes", "reliability"];
    let text: String = documents
        .map(|name| Path::new(ROOT).join(format!("docs/{name}.md")))
        .map(|path| fs::read_to_string(path).expect("text"))
        .concat();
    let tests = files(
        "rs",
        &[
            "tests/alb",
            "tests/conformance",
            "tests/deploy",
            "tests/samples",
        ],
    );
    let names = text.split('`').filter_map(|word| word.split_once("::"));
    let names: Vec<_> = names.filter(|(_, name)| !name.contains(' ')).collect();
    assert!(names.len() > 50, "{names:?}");
    for (module, name) in names {
        let found = tests.iter().any(|(path, code)| {
            path.file_stem().is_some_and(|stem| stem == module)
                && code.contains(&format!("fn {name}("))
        });
        assert!(found, "{module}::{name}");
    }
}

/// The blocks of commands of a deployment guide, each with the heading that it stands under.
fn commands(guide: &str) -> Vec<(&str, &str)> {
    let mut heading = "";
    let mut commands = Vec::new();
    // Prose and fenced blocks take turns.
    for (index, piece) in guide.split("```").enumerate() {
        if index % 2 == 0 {
            let last = piece.lines().rfind(|line| line.starts_with('#'));
            heading = last.unwrap_or(heading);
            continue;
        }
        match piece.split_once('\n').expect("a language, and a line") {
            ("sh", block) => commands.push((heading, block)),
            ("" | "yaml", _) => {}
            (language, _) => panic!("{heading}: a block of {language}, which no test reads"),
        }
    }
    commands
}

#[test]
fn the_commands_of_deployment_guides_are_bash_name_what_exists_and_say_how_far_they_are_tried() {
    let marks = [
        "(run here)",
        "(validated offline)",
        "(needs an AWS account)",
    ];
    let folders = ["k8s/", "ecs/", "docker/", "proto/", "data/", "docs/"];
    let mut paths = 0;
    for (guide, text) in files("md", &["docs/deploy"]) {
        let guide = guide.display();
        for (heading, block) in commands(&text) {
            let marked = marks.iter().filter(|mark| heading.contains(**mark));
            assert_eq!(marked.count(), 1, "{guide}: the mark of {heading:?}");

            let bash = Command::new("bash").args(["-n", "-c", block]).output();
            let said = bash.expect("bash").stderr;
            let said = String::from_utf8_lossy(&said);
            assert!(said.is_empty(), "{guide}, {heading:?}: {said}");

            let words = block.split(|c: char| c.is_whitespace() || "\"'<>|;:=,()[]{}".contains(c));
            // Some are seen from a folder of the reader's.
            let words = words.map(|word| word.trim_start_matches("../"));
            for path in words.filter(|word| folders.iter().any(|folder| word.starts_with(folder))) {
                let exists = Path::new(ROOT).join(path).exists();
                assert!(exists, "{guide}, {heading:?}: {path}");
                paths += 1;
            }
        }
    }
    assert!(paths > 5, "{paths}");
}

#[test]
fn every_variable_of_what_is_deployed_is_exported_by_its_guide() {
    for (folder, kind, guide) in [
        ("k8s", "yaml", "eks"),
        ("ecs/task-definitions", "json", "ecs"),
    ] {
        let guide = Path::new(ROOT).join(format!("docs/deploy/{guide}.md"));
        let guide = fs::read_to_string(guide).expect("text");
        let exports = guide
            .lines()
            .filter_map(|line| line.strip_prefix("export "));
        let exported = exports.flat_map(|export| export.split(' '));
        let exported: Vec<_> = exported.filter_map(|word| word.split_once('=')).collect();
        let texts = files(kind, &[folder]);
        let variables = texts.iter().flat_map(|(_, text)| text.split("${").skip(1));
        let variables = variables.map(|text| text.split_once('}').expect("an end").0);
        let variables: BTreeSet<_> = variables.collect();
        assert!(!variables.is_empty());
        for variable in variables {
            let found = exported.iter().any(|(name, _)| *name == variable);
            assert!(found, "{folder}: {variable} is exported nowhere");
        }
    }
}

/// The name and version of each package that a file names, without the extras, which a lock file lists.
fn packages(file: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(file).expect("text").to_lowercase();
    let pairs = text.lines().filter_map(|line| line.split_once("=="));
    let up_to = |text: &str, ends: &[char]| text.split(ends).next().expect("a part").to_owned();
    pairs
        .map(|(name, version)| (up_to(name, &['[']), up_to(version, &[' ', ';'])))
        .collect()
}

#[test]
fn every_python_package_that_is_asked_for_is_locked_with_hashes() {
    let locks = files("txt", &["tests/full/requirements"]);
    assert!(locks.len() > 5, "{} files", locks.len());
    for (path, text) in locks {
        let locked = packages(&path);
        for asked in packages(&path.with_extension("in")) {
            let found = locked.contains(&asked);
            assert!(found, "{}: no {asked:?}: tests/full/lock", path.display());
        }
        // The first line says which command makes the file.
        let all = text.lines().skip(2).collect::<Vec<_>>().join("\n");
        assert!(!all.contains("://"), "{}: a host", path.display());
        for entry in all.split("\n").filter(|line| line.contains("==")) {
            assert!(entry.ends_with('\\'), "{}: {entry}", path.display());
        }
        let hashes = all.matches("--hash=sha256:").count();
        assert!(hashes >= locked.len(), "{}", path.display());
    }
}

#[test]
fn every_node_package_is_locked_with_its_hash_and_names_no_host() {
    for folder in ["tests/full", "ecs/cdk"] {
        let path = Path::new(ROOT).join(folder).join("package-lock.json");
        let lock = fs::read_to_string(path).expect("text");
        let lock: Value = serde_json::from_str(&lock).expect("JSON");
        let packages = lock["packages"].as_object().expect("packages");
        // The first is the folder itself.
        assert!(packages.len() > 5, "{folder}");
        for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
            // What another package has in itself comes under its hash.
            let inside = package["inBundle"] == true;
            let hashed = package["integrity"]
                .as_str()
                .is_some_and(|hash| hash.starts_with("sha512-"));
            assert!(inside || hashed, "{folder}: {name}");
            assert!(package["resolved"].is_null(), "{folder}: {name}");
        }
    }
}

/// What stands between these in a file of the workspace.
fn between(file: &str, before: &str, after: char) -> String {
    let text = fs::read_to_string(Path::new(ROOT).join(file)).expect("text");
    let rest = text.split_once(before).expect(before).1;
    rest.split_once(after).expect("an end").0.to_owned()
}

#[test]
fn images_are_built_with_one_version_of_rust_which_the_documents_name_and_this_code_can_do_with() {
    let tag = between("docker/Dockerfile", "\nARG BUILDER=rust:", '\n');
    assert_eq!(between("docs/docker.md", "`BUILDER` (rust:", ')'), tag);
    let numbers = |version: &str| -> Vec<u32> {
        let parts = version.split('.').map(str::parse);
        parts.map(|part| part.expect("a number")).collect()
    };
    let release = numbers(tag.split_once('-').expect("a Debian").0);
    assert_eq!(release.len(), 3, "{tag} moves on by itself");
    let least = numbers(&between("Cargo.toml", "rust-version = \"", '"'));
    assert!(release >= least, "{release:?} < {least:?}");
}
