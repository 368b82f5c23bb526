//! QEMU: found, installed if necessary, and checked for its version.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{process, system, ui};

/// Oldest version known to work.
const OLDEST: (u32, u32) = (7, 2);
/// What QEMU may not do once it has started: run programs, gain privileges, change its scheduling, use obsolete system
/// calls. It runs untrusted guests, and anyone connected to its debug stub can control it.
pub const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
/// The program.
const PROGRAM: &str = "qemu-system-aarch64";

/// A suitable QEMU.
#[derive(Debug, Clone)]
pub struct Qemu {
    /// The program.
    pub path: PathBuf,
    /// Its version.
    pub version: String,
    /// True if [`SANDBOX`] works: QEMU is built with seccomp, and the kernel permits it.
    pub sandbox: bool,
}

impl Qemu {
    /// Returns a command that starts it, in its sandbox if available.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        if self.sandbox {
            command.args(["-sandbox", SANDBOX]);
        }
        command
    }
}

/// Finds QEMU in `$PATH`, without installing it.
pub fn find() -> Option<PathBuf> {
    process::which(PROGRAM)
}

/// Returns the QEMU to use: the one given, else the one in `$PATH`, installing it if necessary.
pub fn prepare(given: Option<&Path>) -> anyhow::Result<Qemu> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => match find() {
            Some(path) => path,
            None => {
                system::install("QEMU for Arm machines", &["qemu-system-arm"])?;
                find()
                    .with_context(|| format!("{PROGRAM} is not in $PATH, though its package was installed"))?
            }
        },
    };
    let qemu = check(path)?;
    if !qemu.sandbox {
        ui::note(&format!(
            "QEMU {} runs without its sandbox here: it was built without seccomp, or the system forbids it",
            qemu.version
        ));
    }
    Ok(qemu)
}

/// Queries a QEMU's version, and whether it supports the sandbox.
pub fn check(path: PathBuf) -> anyhow::Result<Qemu> {
    let done = process::run(Command::new(&path).arg("--version"), || {})?;
    let Some((version, number)) = parse_version(&done.stdout) else {
        bail!(
            "{} does not report a QEMU version; expected {PROGRAM} {}.{} or later",
            path.display(),
            OLDEST.0,
            OLDEST.1
        );
    };
    if number < OLDEST {
        bail!(
            "{} is QEMU {version}, which is too old; expected {}.{} or later: install a newer one, or name it \
             with --qemu",
            path.display(),
            OLDEST.0,
            OLDEST.1
        );
    }
    // The list of CPUs is printed after the filter is in force, and needs no machine.
    let mut trial = Command::new(&path);
    trial.args(["-sandbox", SANDBOX, "-machine", "none", "-cpu", "help"]);
    let sandbox = process::run(&mut trial, || {})?.status.success();
    Ok(Qemu { path, version, sandbox })
}

/// Parses the version and its first two numbers from `QEMU emulator version 7.2.22 (Debian ...)`.
fn parse_version(text: &str) -> Option<(String, (u32, u32))> {
    let version = text.lines().next()?.strip_prefix("QEMU emulator version ")?.split_whitespace().next()?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    let number = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some((version.to_owned(), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_and_without_a_vendor() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright";
        assert_eq!(parse_version(debian), Some(("7.2.22".to_owned(), (7, 2))));
        assert_eq!(parse_version("QEMU emulator version 10.0.0-rc1").map(|v| v.1), Some((10, 0)));
        assert_eq!(parse_version("GNU Emacs 28.1"), None);
    }

    #[test]
    fn ten_is_newer_than_seven() {
        assert!((10, 0) > OLDEST && (7, 1) < OLDEST && (6, 9) < OLDEST);
    }
}
