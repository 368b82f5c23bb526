//! QEMU: found, installed if necessary, and checked for its version.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{input, process, system, ui};

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
    let expected = || format!("expected {PROGRAM} {}.{} or later", OLDEST.0, OLDEST.1);
    let name = path.display();
    if path.is_dir() {
        bail!("the QEMU program {name} is a folder; {}", expected());
    }
    let done = process::run(Command::new(&path).arg("--version"), || {}).with_context(|| {
        // A name without a folder is looked for in $PATH alone.
        let here = path.components().count() == 1 && path.is_file();
        let here = if here { format!(", for the file in this folder as ./{name}") } else { String::new() };
        format!("the QEMU program {name} cannot be run; {}{here}", expected())
    })?;
    let Some((version, number)) = parse_version(&done.stdout) else {
        bail!("the program {name} does not report a QEMU version; {}", expected());
    };
    if number < OLDEST {
        bail!(
            "{name} is QEMU {version}, which is too old; {}: install a newer one, or name it with --qemu",
            expected()
        );
    }
    // The list of CPUs is printed after the filter is in force, and needs no machine.
    let mut trial = Command::new(&path);
    trial.args(["-sandbox", SANDBOX, "-machine", "none", "-cpu", "help"]);
    let sandbox = process::run(&mut trial, || {})?.status.success();
    Ok(Qemu { path, version, sandbox })
}

/// Checks that a QEMU has this CPU model, with these properties, and that it has 64 bits: QEMU builds the machine,
/// writes its device tree, and ends before it runs.
///
/// # Errors
/// QEMU's reason, and where the models are listed.
pub fn check_cpu(qemu: &Qemu, model: &str) -> anyhow::Result<()> {
    // A folder of its own, since QEMU writes the tree to another name and renames it, whatever the name was before.
    let folder = tempfile::tempdir().context("cannot make a temporary folder; set TMPDIR")?;
    let tree = folder.path().join("tree");
    // A comma is written twice in QEMU's options.
    let name = tree.display().to_string().replace(',', ",,");
    let mut trial = qemu.command();
    trial.args(["-nodefaults", "-no-user-config", "-nic", "none", "-display", "none", "-cpu", model]);
    trial.args(["-machine", &format!("virt,virtualization=on,gic-version=3,dumpdtb={name}")]);
    let done = process::run(&mut trial, || {})?;
    let reason = if !done.status.success() {
        // QEMU says why it refuses a model. This is an end that it did not choose.
        anyhow::ensure!(
            !done.stderr.trim().is_empty(),
            "QEMU {} cannot be asked about --cpu {model:?}: {}; try again, or name another QEMU with --qemu",
            qemu.version,
            process::silent(done.status)
        );
        let complaint = done.complaint(PROGRAM);
        complaint.strip_prefix(PROGRAM).unwrap_or(&complaint).trim_start_matches([':', ' ']).to_owned()
    } else if !is_64_bit(&input::read(&tree, LONGEST_TREE).context("cannot read QEMU's device tree")?) {
        "it has 32 bits".to_owned()
    } else {
        return Ok(());
    };
    bail!(
        "--cpu {model:?} is refused by QEMU {} ({reason}); expected a 64-bit model of `{} -machine virt -cpu help`, such as \
         cortex-a72, neoverse-n1 or max, with its properties after commas",
        qemu.version,
        qemu.path.display()
    );
}

/// Maximum size of QEMU's device tree in bytes.
const LONGEST_TREE: u64 = 16 << 20;

/// Returns true if a device tree of QEMU's is that of a machine with an Armv8 CPU: its timer is compatible with Armv8's
/// (QEMU, hw/arm/virt.c, `fdt_add_timer_nodes`).
fn is_64_bit(tree: &[u8]) -> bool {
    const TIMER: &[u8] = b"arm,armv8-timer\0";
    tree.windows(TIMER.len()).any(|part| part == TIMER)
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
