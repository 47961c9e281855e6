//! Who may import whom, and whether the README tells the truth about what it can be checked for.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

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
            ("proto", _) | (_, "services/chassis" | "clients/cli") => &[],
            ("services", _) => &["proto", "services/chassis"],
            ("clients", _) => &["proto", "clients/cli"],
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
