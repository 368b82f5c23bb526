//! A kernel of the user's own: Debian's, given as if it had just been built.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::context::{Context, HUNG_SECONDS, read};
use super::runner::Step;
use super::warm::Room;
use hv_setup::cache::Cache;
use hv_setup::exit::Exit;
use hv_setup::stock::{self, Kernel, Stock};

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("own/tree", tree),
        Step::new("own/exec", commands),
        Step::new("own/modules-and-a-packed-kernel-on-stdin", modules),
        Step::new("own/without-modules", without_modules),
    ]
}

fn kernel() -> anyhow::Result<(Kernel, PathBuf)> {
    let (kernel, _) = stock::kernel(&Cache::open()?, Stock::Cloud612)?;
    let vmbus = kernel.modules.iter().find(|file| file.ends_with("hv_vmbus.ko.xz")).cloned();
    Ok((kernel.clone(), vmbus.context("the stock kernel has no hv_vmbus.ko.xz")?))
}

/// Writes a file and the folders above it.
fn put(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::create_dir_all(file.parent().context("a file without a folder")?)?;
    Ok(fs::write(file, bytes)?)
}

/// Checks that a built tree provides kernel, modules and names.
fn tree(context: &Context) -> anyhow::Result<()> {
    let (kernel, vmbus) = kernel()?;
    let dir = context.folder()?;
    put(&dir.join("arch/arm64/boot/Image"), &read(&kernel.image)?)?;
    put(&dir.join("drivers/hv/hv_vmbus.ko.xz"), &read(&vmbus)?)?;
    put(&dir.join("modules.order"), b"drivers/hv/hv_vmbus.o\n")?;
    put(&dir.join("System.map"), b"ffff800080010000 T _stext\n")?;
    let booted = context.boot(&["--tree", &dir.to_string_lossy()])?;
    booted.ended(Exit::Success, "power-off")?;
    booted.says("hv: loaded 000-hv_vmbus.ko")?;
    booted.is("/vmbus/version", "5.3")?;
    // The names of the tree are read: one that is none is refused.
    put(&dir.join("System.map"), b"nothing\n")?;
    let line = ["boot".as_ref(), "--tree".as_ref(), dir.as_os_str()];
    context.hv(&line)?.refused("has no symbols")?;
    fs::remove_dir_all(dir.join("arch"))?;
    fs::remove_file(dir.join("System.map"))?;
    context.hv(&line)?.refused("expected Image in arch/arm64/boot")
}

/// Checks that `hv exec` has a command's status from a built tree's kernel and, if that is built anew, from the new
/// one: the machine of the old one is not resumed.
fn commands(context: &Context) -> anyhow::Result<()> {
    let (kernel, vmbus) = kernel()?;
    let dir = context.folder()?;
    put(&dir.join("arch/arm64/boot/Image"), &read(&kernel.image)?)?;
    put(&dir.join("drivers/hv/hv_vmbus.ko.xz"), &read(&vmbus)?)?;
    let drivers = stock::drivers(&Cache::open()?, Stock::Cloud612)?;
    for name in ["vsock.ko.xz", "hv_sock.ko.xz"] {
        put(&dir.join("net/vmw_vsock").join(name), &read(&drivers.join(name))?)?;
    }
    put(
        &dir.join("modules.order"),
        b"drivers/hv/hv_vmbus.o\nnet/vmw_vsock/vsock.o\nnet/vmw_vsock/hv_sock.o\n",
    )?;
    let (room, json) = (Room::new(context)?, dir.join("report.json"));
    let (tree, report) = (dir.display().to_string(), json.display().to_string());
    let ran = |start: &str| -> anyhow::Result<String> {
        let script = "uname -rv; lsmod | grep -c ^hv_sock; exit 3";
        let line = ["exec", "--timeout", HUNG_SECONDS, "--tree", &tree, "--json", &report];
        let done = room.command(context, &[&line[..], &["--", "sh", "-c", script]].concat())?.output()?;
        ensure!(done.status.code() == Some(3), "{}: {}", done.status, String::from_utf8_lossy(&done.stderr));
        let report: Value = serde_json::from_slice(&read(&json)?)?;
        ensure!(report["start"] == start, "expected a start from {start}: {}", report["start"]);
        Ok(String::from_utf8(done.stdout)?)
    };
    let first = ran("boot")?;
    ensure!(first.starts_with("6.12") && first.ends_with("\n1\n"), "{first}");
    ensure!(ran("snapshot")? == first, "the resumed machine differs");
    put(&dir.join("arch/arm64/boot/Image"), &patched(&kernel)?)?;
    let second = ran("boot")?;
    ensure!(first.replacen("#1", "#2", 1) == second && first != second, "{first}{second}");
    Ok(())
}

/// What the stock kernel says of its build (uname(1), `-v`), and another text in its place.
const BUILD: &[u8; 13] = b"#1 SMP Debian";
const PATCHED: &[u8; 13] = b"#2 SMP Debian";

/// Returns a kernel's image with another text in place of what it says of its build.
fn patched(kernel: &Kernel) -> anyhow::Result<Vec<u8>> {
    let mut image = read(&kernel.image)?;
    let places: Vec<usize> =
        (0..image.len() - BUILD.len()).filter(|at| image[*at..].starts_with(BUILD)).collect();
    ensure!(!places.is_empty(), "the stock kernel does not say of its build {BUILD:?}");
    for at in places {
        image[at..at + PATCHED.len()].copy_from_slice(PATCHED);
    }
    Ok(image)
}

/// Checks that the output of `make modules_install` provides the modules, and standard input the kernel.
fn modules(context: &Context) -> anyhow::Result<()> {
    let (kernel, vmbus) = kernel()?;
    let dir = context.folder()?;
    let version = dir.join("lib/modules/6.12.0-own");
    put(&version.join("kernel/drivers/hv/hv_vmbus.ko.xz"), &read(&vmbus)?)?;
    put(&version.join("modules.dep"), b"kernel/drivers/hv/hv_vmbus.ko.xz:\n")?;
    let packed = dir.join("Image.gz");
    // Debian's base system has it.
    let mut gzip = Command::new("gzip");
    gzip.args(["-1", "-c"]).stdin(File::open(&kernel.image)?).stdout(File::create(&packed)?);
    ensure!(gzip.status()?.success(), "gzip failed");
    let line = ["boot".as_ref(), "--kernel".as_ref(), "-".as_ref(), "--modules".as_ref(), dir.as_os_str()];
    let mut command = context.command(&line)?;
    command.stdin(File::open(&packed)?).stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = command.output()?;
    let all = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    ensure!(done.status.success() && all.contains("Vmbus version:5.3"), "{}: {all}", done.status);
    let line =
        ["boot".as_ref(), "--kernel".as_ref(), packed.as_os_str(), "--modules".as_ref(), dir.as_os_str()];
    context
        .hv(&[&line[..], &["--load".as_ref(), "no_such".as_ref()]].concat())?
        .refused("no module no_such")?;
    context.hv(&["boot", "--modules", "/nonexistent/modules"])?.refused("/nonexistent/modules")
}

/// Checks that without modules the kernel reaches user space anyway, and that the user learns before the start
/// why it will not connect.
fn without_modules(context: &Context) -> anyhow::Result<()> {
    let (kernel, _) = kernel()?;
    let booted = context.boot(&["--kernel", &kernel.image.to_string_lossy(), "--run", "poweroff"])?;
    booted.ended(Exit::Success, "power-off")?;
    booted.says("hv: NOT connected to VMBus")?;
    booted.check(booted.stderr.contains("give --tree the built kernel tree"), "the missing module is named")
}
