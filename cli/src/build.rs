//! `hv build`: the programs in `bare/`, for the bare-metal target.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use hv_machine::is_aarch64_elf;

use crate::exit::Exit;
use crate::input::{Input, LONGEST, Named};
use crate::setup::target::{self, TARGET, Toolchain, UEFI_TARGET};
use crate::sources::root;
use crate::{process, ui};

/// Build the hypervisor, or another program in bare/
///
/// Installs the Rust target that it needs first, if that is missing, and prints the path of each file. `hv boot` and
/// `hv test` build what they need by themselves.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folders in bare/ to build
    #[arg(value_name = "PROGRAM", default_value = "hypervisor")]
    programs: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  cargo hv build
  cargo hv build hello stress
  cargo hv boot --firmware dt --kernel $(cargo hv build hello)";

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    for name in &args.programs {
        known(name)?;
    }
    for name in &args.programs {
        let toolchain = target::prepare_for(target_of(name))?;
        ui::note(&format!("Using {}", toolchain.description));
        ui::out(&format!("{}\n", program(&toolchain, name)?.display()));
    }
    Ok(Exit::Success)
}

/// Fails unless there is such a program.
fn known(name: &str) -> anyhow::Result<()> {
    let bare = root()?.join("bare");
    let is_program = |name: &str| bare.join(name).join("src/main.rs").is_file();
    if !name.contains('/') && is_program(name) {
        return Ok(());
    }
    let entries = std::fs::read_dir(&bare)?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| is_program(name)).collect();
    names.sort();
    bail!("there is no program {name:?} in bare/; expected one of {}", names.join(", "))
}

/// The program that is a UEFI application.
pub(crate) const APPLICATION: &str = "uefi-guest";

/// The target of a program.
fn target_of(name: &str) -> &'static str {
    if name == APPLICATION { UEFI_TARGET } else { TARGET }
}

/// The hypervisor to use: the one given, else that of this source tree, which is built.
pub(crate) fn hypervisor(given: Option<&Input>) -> anyhow::Result<Named> {
    match given {
        Some(file) => {
            let bytes = file.read("the hypervisor", LONGEST)?;
            if !is_aarch64_elf(&bytes) {
                bail!("the hypervisor {file} is not an AArch64 ELF program");
            }
            file.named(&bytes)
        }
        None => Ok(program(&target::prepare()?, "hypervisor")?.into()),
    }
}

/// Where the file of a program is once it was built.
pub(crate) fn output(name: &str) -> anyhow::Result<PathBuf> {
    let target = target_of(name);
    let folder = root()?.join("bare/target").join(target).join("release");
    Ok(folder.join(if target == UEFI_TARGET { format!("{name}.efi") } else { name.to_owned() }))
}

/// The UEFI application, built.
pub(crate) fn application() -> anyhow::Result<PathBuf> {
    program(&target::prepare_for(UEFI_TARGET)?, APPLICATION)
}

/// Builds one of the programs with a toolchain for its target, and gives the path of its file.
pub(crate) fn program(toolchain: &Toolchain, name: &str) -> anyhow::Result<PathBuf> {
    let bare = root()?.join("bare");
    let target = toolchain.target;
    let title = format!("Building {name} for {target}");
    let task = ui::Task::quiet(title.clone());
    let mut command = Command::new(&toolchain.cargo);
    command
        .current_dir(&bare)
        .args(["build", "--release", "--bin", name, "--target", target])
        .args(&toolchain.arguments)
        .arg("--target-dir")
        .arg(bare.join("target"))
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
        bail!("cannot build {name} for {target} with {}; cargo's messages are above", toolchain.description);
    }
    let file = output(name)?;
    if !file.is_file() {
        bail!("cargo built {name}, but {} is not there", file.display());
    }
    Ok(file)
}
