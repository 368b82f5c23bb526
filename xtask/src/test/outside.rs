//! The kernel of the book's section "A Rust kernel outside this repository": built in a folder outside, as the book
//! says.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::context::Context;
use super::runner::Step;
use hv_setup::exit::Exit;
use hv_setup::{process, sources, target};

/// Returns the scenario.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("outside/kernel", kernel)]
}

/// Copies a folder and what is in it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

fn kernel(context: &Context) -> anyhow::Result<()> {
    let (root, folder) = (sources::checkout()?, context.folder()?);
    symlink(&root, folder.join("hv-arm64"))?;
    let package = folder.join("kernel");
    copy(&root.join("docs/kernel"), &package)?;
    // The versions that the programs in bare/ are built with.
    fs::copy(root.join("bare/Cargo.lock"), package.join("Cargo.lock"))?;
    let toolchain = target::prepare()?;
    let mut cargo = Command::new(&toolchain.cargo);
    cargo
        .current_dir(&package)
        .args(["build", "--release", "--target", toolchain.target, "--target-dir", "target"])
        .args(&toolchain.arguments)
        .envs(toolchain.environment.iter().map(|(key, value)| (key, value)));
    let done = process::run(&mut cargo, || {})?;
    ensure!(done.status.success(), "cannot build docs/kernel:\n{}", done.stderr.trim_end());
    let file = package.join("target").join(toolchain.target).join("release/kernel");
    let booted = context.boot(&["--firmware", "dt", "--strict", "--kernel", &file.to_string_lossy()])?;
    booted.ended(Exit::Success, "power-off")?;
    booted.says(" ns since the partition was created")?;
    booted.never_says("panicked")?;
    booted.is("/guest_os_id/value", "0xff00000100000000")
}
