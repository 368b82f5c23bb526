//! `hv build`: the programs in `bare/`, for the bare-metal target.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::exit::Exit;
use crate::setup::target::{self, TARGET, Toolchain};
use crate::{process, ui};

/// Build the hypervisor
///
/// Installs the Rust target that it needs first, if that is missing. `hv boot` and `hv test` do the same by themselves.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
pub(crate) fn run(_args: &Args) -> anyhow::Result<Exit> {
    let toolchain = target::prepare()?;
    ui::note(&format!("Using {}", toolchain.description));
    let file = program(&toolchain, "hypervisor")?;
    ui::out(&format!("{}\n", file.display()));
    Ok(Exit::Success)
}

/// The project's root: the programs in `bare/` are built from source.
pub(crate) fn root() -> anyhow::Result<&'static Path> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("cli/ has no parent")?;
    if !root.join("bare/Cargo.toml").is_file() {
        bail!("the sources are gone from {}, where this hv was built; build hv again", root.display());
    }
    Ok(root)
}

/// Builds one of the programs and gives the path of its ELF file.
pub(crate) fn program(toolchain: &Toolchain, name: &str) -> anyhow::Result<PathBuf> {
    let bare = root()?.join("bare");
    let output = bare.join("target");
    let title = format!("Building {name} for {TARGET}");
    let task = ui::Task::quiet(title.clone());
    let mut command = Command::new(&toolchain.cargo);
    command
        .current_dir(&bare)
        .args(["build", "--release", "--bin", name, "--target", TARGET])
        .args(&toolchain.arguments)
        .arg("--target-dir")
        .arg(&output)
        .envs(toolchain.environment.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", toolchain.cargo.display()))?;
    let bar = task.clone();
    let mut said = false;
    let reader = child.stderr.take().map(|pipe| {
        process::collect(pipe, move |line| {
            if let Some(package) = line.trim_start().strip_prefix("Compiling ") {
                // Nothing to build is nothing to tell.
                if !std::mem::replace(&mut said, true) && !bar.is_shown() {
                    ui::note(&title);
                }
                bar.say(format!("{title}: {package}"));
            }
        })
    });
    let status = process::wait(&mut child, &mut || {})?;
    let log = reader.map(process::Reader::finish).unwrap_or_default();
    drop(task);
    if !status.success() {
        ui::note(log.trim_end());
        bail!("cannot build {name} for {TARGET} with {}; cargo's messages are above", toolchain.description);
    }
    let file = output.join(TARGET).join("release").join(name);
    if !file.is_file() {
        bail!("cargo built {name}, but {} is not there", file.display());
    }
    Ok(file)
}
