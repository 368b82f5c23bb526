//! A copy of the crates in which every mutant can be selected at run time, and the program that is built from it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use hv_conformance::mutants::{self, SWITCH};

use hv_setup::{process, sources, ui};

/// The example of hv-conformance that runs the suite.
const EXAMPLE: &str = "in_process";

/// How the copy is optimized. The tool is not, but the suite runs thousands of times; what it uses from elsewhere stays
/// as it is for the tool, so that it is built once.
const OPTIMIZED: [&str; 2] = ["profile.release.opt-level=2", "profile.release.package.\"*\".opt-level=0"];

/// Makes the copy and builds it. Returns the program's path.
pub(super) fn build() -> anyhow::Result<PathBuf> {
    let root = sources::checkout()?;
    // The target folder of this tool, so that shared dependencies are built once.
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let target = std::path::absolute(target)?;
    let tree = target.join("mutants");
    fill(&root, &tree).with_context(|| format!("cannot copy the sources to {}", tree.display()))?;
    compile(&tree, &target)
}

/// Brings the copy up to date. Unchanged files are not touched, so that cargo rebuilds only the others.
fn fill(root: &Path, tree: &Path) -> anyhow::Result<()> {
    let mut wanted = BTreeSet::new();
    let mut put = |file: &Path, bytes: &[u8]| -> anyhow::Result<()> {
        let place = tree.join(file);
        if fs::read(&place).ok().as_deref() != Some(bytes) {
            fs::create_dir_all(place.parent().context("a file is in a folder")?)?;
            fs::write(&place, bytes)?;
        }
        wanted.insert(place);
        Ok(())
    };
    put(Path::new("Cargo.toml"), workspace(&fs::read_to_string(root.join("Cargo.toml"))?)?.as_bytes())?;
    put(Path::new("Cargo.lock"), &fs::read(root.join("Cargo.lock"))?)?;
    let changed = mutants::files();
    let switched: BTreeSet<PathBuf> = changed.iter().filter_map(|file| lib(file)).collect();
    for file in files(&root.join("crates"))? {
        let name = file.strip_prefix(root.join("crates"))?;
        let mut bytes = fs::read(&file)?;
        if let Some(name) = changed.iter().find(|changed| name == Path::new(changed)) {
            bytes = mutants::instrument(name, std::str::from_utf8(&bytes)?)?.into_bytes();
        }
        if switched.contains(name) {
            bytes.extend(SWITCH.bytes());
        }
        put(&Path::new("crates").join(name), &bytes)?;
    }
    for file in files(tree)?.iter().filter(|file| !wanted.contains(*file)) {
        fs::remove_file(file)?;
    }
    Ok(())
}

/// Returns the root of the crate that a file belongs to.
fn lib(file: &str) -> Option<PathBuf> {
    Some(Path::new(file.split('/').next()?).join("src/lib.rs"))
}

/// Returns the manifest of the copy's workspace: the crates, without the programs. A selected mutant may trip some
/// lint.
fn workspace(manifest: &str) -> anyhow::Result<String> {
    let members = manifest.lines().find(|line| line.starts_with("members = "));
    let members = members.context("Cargo.toml has no line with the workspace's members")?;
    let lints = "[workspace.lints.rust]\n";
    let quiet = format!("{lints}warnings = \"allow\"\n");
    Ok(manifest.replacen(members, "members = [\"crates/*\"]", 1).replacen(lints, &quiet, 1))
}

/// Returns all files below a folder.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

fn compile(tree: &Path, target: &Path) -> anyhow::Result<PathBuf> {
    let _task = ui::Task::new("Building the wrong hosts");
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut command = Command::new(cargo);
    command
        .current_dir(tree)
        .args(["build", "--release", "--package", "hv-conformance", "--example", EXAMPLE, "--target-dir"])
        .arg(target)
        .args(OPTIMIZED.iter().flat_map(|setting| ["--config", setting]));
    let done = process::run(&mut command, || {})?;
    if !done.status.success() {
        bail!("the sources do not build with their mutants:\n{}", done.stderr.trim_end());
    }
    Ok(target.join("release/examples").join(EXAMPLE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_has_a_choice_for_each_mutant_and_follows_the_sources() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        let root = sources::checkout().unwrap();
        fill(&root, &tree).unwrap();
        let stale = tree.join("crates/hv-host/src/stale.rs");
        fs::write(&stale, "").unwrap();
        let same = tree.join("crates/hv-tlfs/src/lib.rs");
        let before = fs::metadata(&same).unwrap().modified().unwrap();
        fill(&root, &tree).unwrap();
        assert!(!stale.exists());
        assert_eq!(fs::metadata(&same).unwrap().modified().unwrap(), before);
        let read = |file: &&str| fs::read_to_string(tree.join("crates").join(file)).unwrap();
        let text: String = mutants::files().iter().map(read).collect();
        for (number, mutant) in mutants::mutants().enumerate() {
            let choice = format!("(if crate::mutants::on({number}) {{");
            assert_eq!(text.matches(&choice).count(), 1, "{}", mutant.name);
        }
    }

    #[test]
    fn the_copy_is_a_quiet_workspace_of_the_crates_alone() {
        let manifest =
            workspace("[workspace]\nmembers = [\"crates/*\", \"cli\"]\n[workspace.lints.rust]\nx = 1\n");
        let want =
            "[workspace]\nmembers = [\"crates/*\"]\n[workspace.lints.rust]\nwarnings = \"allow\"\nx = 1\n";
        assert_eq!(manifest.unwrap(), want);
        assert!(workspace("[workspace]\n").is_err());
    }
}
