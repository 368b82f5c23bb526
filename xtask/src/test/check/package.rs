//! The contents of each published crate: all that it needs, and nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use hv_setup::{process, sources};
use serde_json::Value;

/// What every package contains.
const NEEDED: [&str; 5] = ["Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "src/lib.rs"];
/// What a package may contain at its root, beside what cargo adds.
const ALLOWED: [&str; 6] =
    [".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml.orig", "build.rs", "cbindgen.toml", "guide.md"];
/// Folders of a package, and the extensions of their files.
const FOLDERS: [(&str, &[&str]); 6] = [
    ("src/", &[".rs", ".s", ".sh"]),
    // One text, compressed by each program.
    ("src/unpack/samples/text", &[""]),
    ("tests/", &[".rs", ".tsv", ".txt", ".proptest-regressions"]),
    ("examples/", &[".rs"]),
    ("benches/", &[".rs"]),
    ("include/", &[".h"]),
];

/// Every crate that is published.
pub(super) fn check() -> anyhow::Result<()> {
    let root = sources::checkout()?;
    let mut metadata = cargo(&root);
    metadata.args(["metadata", "--locked", "--no-deps", "--format-version", "1"]);
    let done = process::run(&mut metadata, || {})?;
    let metadata: Value = serde_json::from_str(&done.stdout).context("cargo metadata failed")?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let changes = fs::read_to_string(root.join("CHANGELOG.md")).context("cannot read CHANGELOG.md")?;
    let mut wrong = Vec::new();
    let mut count = 0;
    // A list of registries is `null` for a package that goes to the usual one, and empty for one that is not published.
    for package in packages.iter().filter(|package| package["publish"].is_null()) {
        let name = package["name"].as_str().context("a package without a name")?;
        if !changes.lines().any(|line| line.starts_with(&format!("- `{name}`:"))) {
            wrong.push(format!("{name}: no line of CHANGELOG.md begins with its name"));
        }
        let docs = &package["metadata"]["docs"]["rs"];
        let targets = || docs["targets"].as_array().into_iter().flatten().chain([&docs["default-target"]]);
        if !targets().any(|target| target.as_str().is_some_and(|target| target.starts_with("aarch64"))) {
            wrong.push(format!("{name}: package.metadata.docs.rs has no target of aarch64"));
        }
        for field in ["description", "license", "readme", "rust_version"] {
            if package[field].is_null() {
                wrong.push(format!("{name}: its manifest has no {field}"));
            }
        }
        for field in ["keywords", "categories"] {
            if package[field].as_array().is_none_or(Vec::is_empty) {
                wrong.push(format!("{name}: its manifest has no {field}"));
            }
        }
        let mut list = cargo(&root);
        list.args(["package", "--list", "--locked", "--allow-dirty", "--quiet", "--package", name]);
        let done = process::run(&mut list, || {})?;
        ensure!(done.status.success(), "{name}: {}", done.complaint("error"));
        wrong.extend(complaints(&done.stdout).into_iter().map(|what| format!("{name}: {what}")));
        count += 1;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(count >= 10, "only {count} crates are published");
    Ok(())
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// The complaints about a package's files.
fn complaints(list: &str) -> Vec<String> {
    let files: Vec<&str> = list.lines().collect();
    let missing =
        NEEDED.iter().filter(|needed| !files.contains(needed)).map(|file| format!("{file} is missing"));
    let stray =
        files.iter().filter(|file| !belongs(file)).map(|file| format!("{file} is no part of a package"));
    missing.chain(stray).collect()
}

fn belongs(file: &str) -> bool {
    let in_folder = |(folder, ends): &(&str, &[&str])| {
        file.starts_with(folder) && ends.iter().any(|end| file.ends_with(end))
    };
    NEEDED.contains(&file) || ALLOWED.contains(&file) || FOLDERS.iter().any(in_folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_is_stray_are_named() {
        let good =
            "Cargo.toml\nCargo.toml.orig\nLICENSE-APACHE\nLICENSE-MIT\nREADME.md\nsrc/lib.rs\nsrc/a/b.rs\n";
        assert_eq!(complaints(good), [""; 0]);
        assert_eq!(complaints(&good.replace("README.md\n", "")), ["README.md is missing"]);
        let stray = format!("{good}notes.txt\nsrc/lib.rs.orig\n");
        assert_eq!(
            complaints(&stray),
            ["notes.txt is no part of a package", "src/lib.rs.orig is no part of a package"]
        );
    }
}
