//! A kernel that starts the next one in place of itself, and leaves its VPs, its SynIC and its connection as they are.

use anyhow::Context as _;
use hv_machine::initrd::{Archive, Module};

use super::context::{Context, read};
use super::runner::Step;
use hv_setup::cache::Cache;
use hv_setup::exit::Exit;
use hv_setup::stock::{self, Stock};

/// The Linux program that the scenarios need.
pub(super) const PROGRAM: &str = "kexec-init";

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("kexec/2-vps", two_kernels)]
}

/// Checks that both kernels have both VPs and connect to VMBus, one after the other. By ACPI: Linux 6.12 detects
/// Hyper-V in no other way.
fn two_kernels(context: &Context) -> anyhow::Result<()> {
    let (kernel, _) = stock::kernel(&Cache::open()?, Stock::Cloud612)?;
    let vmbus = kernel.modules.iter().find(|file| file.to_string_lossy().contains("hv_vmbus.ko"));
    let vmbus = read(vmbus.context("the stock kernel has no hv_vmbus.ko")?)?;
    let vmbus = Module::read("hv_vmbus.ko", vmbus)?.bytes;
    let init = read(&hv_setup::programs::output(PROGRAM)?)?;
    let archive = || -> anyhow::Result<Archive> {
        let mut archive = Archive::new();
        ["dev", "proc", "sys"].into_iter().try_for_each(|folder| archive.dir(folder))?;
        archive.character_device("dev/console", 5, 1)?;
        archive.file("hv_vmbus.ko", 0o644, &vmbus)?;
        archive.file("init", 0o755, &init)?;
        Ok(archive)
    };
    let second = archive()?.finish()?;
    let mut first = archive()?;
    first.file("Image", 0o644, &hv_machine::unpack_kernel(read(&kernel.image)?, 1 << 30)?)?;
    first.file("initrd", 0o644, &second)?;
    let initrd = context.folder()?.join("initrd");
    std::fs::write(&initrd, first.finish()?)?;
    let booted = context.boot(&["--vps", "2", "--initrd", &initrd.to_string_lossy()])?;
    booted.ended(Exit::Success, "power-off")?;
    booted.never_says("kexec: FAILED")?;
    let said: Vec<_> =
        booted.console.lines().filter(|line| line.contains("kexec: ")).map(str::trim).collect();
    let expected = [
        "kexec: first kernel, 2 processors",
        "kexec: first kernel connected",
        "kexec: second kernel, 2 processors",
        "kexec: second kernel connected",
    ];
    booted.check(said == expected, &format!("it says {expected:?}, not {said:?}"))?;
    booted
        .check(booted.console.matches("Booting Linux on physical CPU").count() == 2, "two kernels start")?;
    booted.is("/vmbus/version", "5.3")
}
