//! The contents of each published crate: all that it needs, and nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use hv_setup::{process, sources};
use serde_json::Value;

/// What every package contains.
const NEEDED: [&str; 6] =
    ["CHANGELOG.md", "Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "src/lib.rs"];
/// What a package may contain at its root, beside what cargo adds.
const ALLOWED: [&str; 7] = [
    ".cargo_vcs_info.json",
    "Cargo.lock",
    "Cargo.toml.orig",
    "build.rs",
    "cbindgen.toml",
    "cbindgen-vmbus.toml",
    "guide.md",
];
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

/// Checks every crate that is published.
pub(super) fn check() -> anyhow::Result<()> {
    let root = sources::checkout()?;
    let mut metadata = cargo(&root);
    metadata.args(["metadata", "--locked", "--no-deps", "--format-version", "1"]);
    let done = process::run(&mut metadata, || {})?;
    let metadata: Value = serde_json::from_str(&done.stdout).context("cargo metadata failed")?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let changes = fs::read_to_string(root.join("CHANGELOG.md")).context("cannot read CHANGELOG.md")?;
    let mut named = Vec::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    // A list of registries is `null` for a package that goes to the usual one, and empty for one that is not published.
    for package in packages.iter().filter(|package| package["publish"].is_null()) {
        let name = package["name"].as_str().context("a package without a name")?;
        named.push(format!("- `{name}`"));
        let manifest = package["manifest_path"].as_str().context("a package without a manifest")?;
        let own = fs::read_to_string(Path::new(manifest).with_file_name("CHANGELOG.md")).unwrap_or_default();
        wrong.extend(flaw_of_changelog(&own).map(|flaw| format!("{name}: its CHANGELOG.md {flaw}")));
        let docs = &package["metadata"]["docs"]["rs"];
        let targets = || docs["targets"].as_array().into_iter().flatten().chain([&docs["default-target"]]);
        if !targets().any(|target| target.as_str().is_some_and(|target| target.starts_with("aarch64"))) {
            wrong.push(format!("{name}: package.metadata.docs.rs has no target of aarch64"));
        }
        wrong.extend(flaw_of_docs(docs, &package["features"]).map(|flaw| format!("{name}: {flaw}")));
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
    for line in changes.lines().filter(|line| named.iter().any(|name| line.starts_with(name))) {
        wrong.push(format!("CHANGELOG.md has a line of a crate, which belongs to the crate's own: {line}"));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(count >= 10, "only {count} crates are published");
    Ok(())
}

/// Returns what a crate's settings for docs.rs lack: they show all of its features.
fn flaw_of_docs(docs: &Value, features: &Value) -> Option<&'static str> {
    let named = features.as_object().into_iter().flatten().any(|(name, _)| name != "default");
    let shown = docs["all-features"] == true;
    (named && !shown).then_some(
        "it has features, and package.metadata.docs.rs does not show them: set all-features = true",
    )
}

/// Returns what a crate's changelog lacks: a release or what is to be in the next one, with at least one change.
fn flaw_of_changelog(text: &str) -> Option<&'static str> {
    if !text.starts_with("# Changelog\n") {
        return Some("is missing, or does not begin with `# Changelog`");
    }
    let Some((_, releases)) = text.split_once("\n## ") else { return Some("has no section of a release") };
    let changes = releases.lines().any(|line| line.starts_with("- "));
    if changes { None } else { Some("names no change") }
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Returns the complaints about a package's files.
fn complaints(list: &str) -> Vec<String> {
    let files: Vec<&str> = list.lines().collect();
    let missing =
        NEEDED.iter().filter(|needed| !files.contains(needed)).map(|file| format!("{file} is missing"));
    let stray =
        files.iter().filter(|file| !belongs(file)).map(|file| format!("{file} is not part of a package"));
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
    fn a_changelog_has_a_release_with_changes() {
        let good = "# Changelog\n\nWords.\n\n## Unreleased\n\n### Added\n\n- Something.\n";
        assert_eq!(flaw_of_changelog(good), None);
        let flaw = |text: &str| flaw_of_changelog(text).unwrap_or_default().to_owned();
        assert!(flaw("").contains("missing"));
        assert!(flaw("# Changelog\n\n- Something.\n").contains("no section"));
        assert!(flaw(&good.replace("- Something.\n", "")).contains("no change"));
    }

    #[test]
    fn a_crate_with_features_shows_them() {
        let (all, none) = (serde_json::json!({"all-features": true}), serde_json::json!({}));
        let features = serde_json::json!({"default": ["a"], "a": []});
        assert_eq!(flaw_of_docs(&all, &features), None);
        assert!(flaw_of_docs(&none, &features).unwrap().contains("all-features"));
        assert!(flaw_of_docs(&Value::Null, &features).is_some());
        assert_eq!(flaw_of_docs(&none, &serde_json::json!({"default": []})), None);
    }

    #[test]
    fn what_is_missing_and_what_is_stray_are_named() {
        let good = "CHANGELOG.md\nCargo.toml\nCargo.toml.orig\nLICENSE-APACHE\nLICENSE-MIT\nREADME.md\nsrc/lib.rs\nsrc/a/b.rs\n";
        assert_eq!(complaints(good), [""; 0]);
        assert_eq!(complaints(&good.replace("README.md\n", "")), ["README.md is missing"]);
        let stray = format!("{good}notes.txt\nsrc/lib.rs.orig\n");
        assert_eq!(
            complaints(&stray),
            ["notes.txt is not part of a package", "src/lib.rs.orig is not part of a package"]
        );
    }
}
