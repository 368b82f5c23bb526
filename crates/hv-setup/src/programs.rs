//! The programs in `bare/`, built for the bare-metal target.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::sources::root;
use crate::target::{self, LINUX_TARGET, TARGET, Toolchain, UEFI_TARGET};
use crate::{process, ui};

/// Checks that a program of this name exists.
pub fn known(name: &str) -> anyhow::Result<()> {
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
pub const APPLICATION: &str = "uefi-guest";

/// The program for Linux in the guest that runs a command for `hv exec`.
pub const AGENT: &str = "agent";

/// Returns the target of a program.
pub fn target_of(name: &str) -> &'static str {
    match name {
        APPLICATION => UEFI_TARGET,
        AGENT => LINUX_TARGET,
        _ => TARGET,
    }
}

/// Returns the package of a program: that of its name, or the one that has it beside its main program.
fn package_of(bare: &Path, name: &str) -> anyhow::Result<String> {
    if bare.join(name).is_dir() {
        return Ok(name.to_owned());
    }
    let file = format!("src/bin/{name}.rs");
    let entries = std::fs::read_dir(bare).with_context(|| format!("cannot read {}", bare.display()))?;
    let mut packages = entries.flatten().filter(|entry| entry.path().join(&file).is_file());
    let package = packages.find_map(|entry| entry.file_name().into_string().ok());
    package.with_context(|| format!("no package in {} has a program {name:?}", bare.display()))
}

/// Returns the path of a program's file once it is built.
pub fn output(name: &str) -> anyhow::Result<PathBuf> {
    let target = target_of(name);
    let folder = root()?.join("bare/target").join(target).join("release");
    Ok(folder.join(if target == UEFI_TARGET { format!("{name}.efi") } else { name.to_owned() }))
}

/// Builds the UEFI application.
pub fn application() -> anyhow::Result<PathBuf> {
    build(&target::prepare_for(UEFI_TARGET)?, APPLICATION)
}

/// Builds the agent.
pub fn agent() -> anyhow::Result<PathBuf> {
    build(&target::prepare_for(LINUX_TARGET)?, AGENT)
}

/// Builds one of the programs with a toolchain for its target, and returns the path of its file.
pub fn build(toolchain: &Toolchain, name: &str) -> anyhow::Result<PathBuf> {
    let bare = root()?.join("bare");
    let target = toolchain.target;
    let title = format!("Building {name} for {target}");
    let task = ui::Task::quiet(title.clone());
    let package = package_of(&bare, name)?;
    let mut command = Command::new(&toolchain.cargo);
    command
        .current_dir(&bare)
        // The package by its name: the features of the others' dependencies are for other targets.
        .args(["build", "--release", "--package", &package, "--bin", name, "--target", target])
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
                // If there is nothing to build, nothing is printed.
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
        ui::lines(&log);
        bail!("cannot build {name} for {target} with {}; cargo's messages are above", toolchain.description);
    }
    let file = output(name)?;
    if !file.is_file() {
        bail!("cargo built {name}, but {} does not exist", file.display());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::package_of;
    use crate::sources::root;

    #[test]
    fn every_program_beside_another_is_found_in_its_package() {
        let bare = root().expect("a checkout").join("bare");
        let mut seen = 0;
        for package in std::fs::read_dir(&bare).expect("bare/").flatten() {
            let programs = std::fs::read_dir(package.path().join("src/bin")).into_iter().flatten().flatten();
            for program in programs {
                let file = program.file_name().into_string().expect("a name in UTF-8");
                let name = file.strip_suffix(".rs").expect("a program in one file");
                assert_eq!(package_of(&bare, name).ok(), package.file_name().into_string().ok(), "{name}");
                seen += 1;
            }
        }
        assert!(seen >= 2, "no programs in bare/*/src/bin");
        assert!(package_of(&bare, "no-such-program").is_err());
    }
}
