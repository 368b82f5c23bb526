//! The suite's UEFI application: in a partition over a shim, which answers like Hyper-V; and with a real firmware on a
//! machine that is not a partition, which it must report.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use fatfs::{FileSystem, FsOptions};
use serde_json::Value;

use super::context::{Context, HUNG};
use super::runner::Step;
use hv_setup::cache::Cache;
use hv_setup::exit::Exit;
use hv_setup::{interrupt, process, programs};
use hv_setup::{qemu, stock};

/// The scenario that needs Debian's firmware.
pub(super) const FIRMWARE: &str = "conformance/uefi/other-firmware";
/// Where firmware for AArch64 looks for an application (UEFI Specification, "Removable Media Boot Behavior").
const BOOT_PATH: &str = "EFI/BOOT/BOOTAA64.EFI";
/// Where the application leaves its report.
const REPORT: &str = "hv-conformance.txt";
/// The disk image in the folder of `--uefi`, and where its partition begins.
const IMAGE: (&str, usize) = ("hv-conformance.img", 1 << 20);
/// Minimum number of cases that pass in the application, by each convention, and of those on VMBus.
const PASSED: [usize; 2] = [500, 200];
/// How their names begin.
const VMBUS: &str = "vmbus_";

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("conformance/uefi/partition", in_a_partition),
        Step::new(FIRMWARE, elsewhere),
        Step::new("conformance/uefi/folder", folder),
    ]
}

/// Checks that the application finds Hyper-V, runs the suite twice, and reports that the host conforms.
fn in_a_partition(context: &Context) -> anyhow::Result<()> {
    let (shim, application) = (programs::output("uefi-shim")?, programs::output(programs::APPLICATION)?);
    let (shim, application) = (shim.to_string_lossy(), application.to_string_lossy());
    let disk = context.folder()?.join("data.img");
    fs::write(&disk, vec![0; 1 << 20])?;
    let disk = format!("{},rw", disk.display());
    let line = ["--kernel", &shim, "--initrd", &application, "--firmware", "both", "--vps", "1"];
    let booted = context.boot(&[&line[..], &["--disk", &disk, "--net", "user"]].concat())?;
    booted.ended(Exit::Success, "power-off")?;
    booted.says("Hyper-V: the FADT names the hypervisor MsHyperV; the vendor UID call names Hyper-V")?;
    booted.says("shim: the application returned 0x0")?;
    booted.never_says("could not be put back")?;
    booted.never_says("do not trust this run")?;
    // As the firmware had it.
    booted.check(booted.json["synic"][0]["control"] == "0x0", "the SynIC is off again")?;
    let file = booted.console.rsplit_once("shim: file \\hv-conformance.txt").map_or("", |(_, text)| text);
    let text = file.split_once("shim: end of file").map_or("", |(text, _)| text);
    let path = context.folder()?.join(REPORT);
    fs::write(&path, text)?;
    let done = context.hv(&["conformance", "--read", &path.to_string_lossy(), "--format", "json"])?;
    let all = || format!("exit code {:?}\n{}\n{}\n{text}", done.code, done.stdout, done.stderr);
    ensure!(done.code == Some(Exit::Success as i32), "the host does not conform: {}", all());
    let report: Value = serde_json::from_str(&done.stdout).with_context(all)?;
    for (run, conduit) in ["smccc", "hvc1"].into_iter().enumerate() {
        let run = &report["runs"][run];
        ensure!(run["setting"]["conduit"] == conduit, "no run by {conduit}: {}", all());
        let results = run["results"].as_array().into_iter().flatten();
        let passed: Vec<_> = results.filter(|result| result["outcome"] == "passed").collect();
        let on_vmbus = passed
            .iter()
            .filter(|result| result["name"].as_str().is_some_and(|name| name.starts_with(VMBUS)));
        let counts = [passed.len(), on_vmbus.count()];
        ensure!(
            counts.iter().zip(PASSED).all(|(count, least)| *count >= least),
            "only {counts:?} cases passed by {conduit}: {}",
            all()
        );
    }
    Ok(())
}

/// Checks that on another hypervisor the application says so, on the console and in its file, and the firmware
/// continues.
fn elsewhere(context: &Context) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let made = context.hv(&["conformance", "--uefi", &folder.to_string_lossy()])?;
    ensure!(made.code == Some(Exit::Success as i32), "no image: {}", made.stderr);
    let image = folder.join(IMAGE.0);
    add_file(&image, "startup.nsh", b"reset -s\r\n")?;
    let firmware = stock::firmware(&Cache::open()?)?;
    let mut command = qemu::prepare(None)?.command();
    command.args(["-nodefaults", "-no-user-config", "-nic", "none", "-display", "none", "-monitor", "none"]);
    command.args(["-machine", "virt,gic-version=3", "-cpu", "cortex-a72", "-m", "512M", "-no-reboot"]);
    command.arg("-bios").arg(firmware).args(["-chardev", "stdio,id=console,signal=off"]);
    command.args(["-serial", "chardev:console", "-device", "virtio-blk-pci,drive=disk", "-drive"]);
    command.arg(format!("file={},format=raw,if=none,id=disk", image.display()));
    let console = run(&mut command)?;
    ensure!(console.contains("This machine is not a Hyper-V partition."), "the console says:\n{console}");
    ensure!(console.contains("reset -s"), "the firmware did not continue:\n{console}");
    let done = context.hv(&["conformance", "--read", &image.to_string_lossy()])?;
    done.refused("it ends with: This machine is not a Hyper-V partition.")
}

/// Adds a file to the disk image that `--uefi` makes.
fn add_file(image: &Path, name: &str, content: &[u8]) -> anyhow::Result<()> {
    let mut disk = fs::read(image)?;
    let partition = disk.get_mut(IMAGE.1..).context("the disk image has no partition")?;
    let volume = FileSystem::new(Cursor::new(partition), FsOptions::new())?;
    volume.root_dir().create_file(name)?.write_all(content)?;
    volume.unmount()?;
    Ok(fs::write(image, disk)?)
}

/// Runs a machine to its end, and returns its console.
pub(super) fn run(command: &mut Command) -> anyhow::Result<String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let reader = child.stdout.take().map(|pipe| process::collect(pipe, |_| {}));
    let started = Instant::now();
    let ended = loop {
        if child.try_wait()?.is_some() {
            break true;
        }
        if started.elapsed() >= HUNG || interrupt::requested() {
            child.kill()?;
            child.wait()?;
            break false;
        }
        std::thread::sleep(process::POLL);
    };
    let console = reader.map(process::Reader::finish).unwrap_or_default();
    ensure!(ended, "the firmware did not switch off in time:\n{console}");
    Ok(console)
}

/// Checks that `--uefi` makes what the book says.
fn folder(context: &Context) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let done = context.hv(&["conformance", "--uefi", &folder.to_string_lossy()])?;
    let application = fs::read(folder.join(BOOT_PATH)).unwrap_or_default();
    let image = folder.join("hv-conformance.img").is_file();
    let right = done.code == Some(Exit::Success as i32) && application.starts_with(b"MZ") && image;
    ensure!(right, "exit code {:?}\n{}\n{}", done.code, done.stdout, done.stderr);
    context.hv(&["conformance", "--read", "/nonexistent/report"])?.refused("/nonexistent/report")
}
