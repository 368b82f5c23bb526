//! The library for kernels in C: a kernel that links it and uses every routine, and what the hot routines cost.

use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;

use super::context::Context;
use super::drivers::{bytes, sum};
use super::runner::Step;
use hv_setup::exit::Exit;
use hv_setup::system;
use hv_setup::target::{TARGET, Toolchain};
use hv_setup::{process, sources, ui};

/// The compiler that bare/c-guest's Makefile uses.
const COMPILER: &str = "aarch64-linux-gnu-gcc";

/// Bytes of a block, of a page, and of the disk.
const BLOCK: usize = 512;
const PAGE: usize = 4096;
const DISK: usize = 1 << 20;
/// Requests that the kernel has in flight, of a page each.
const IN_FLIGHT: usize = 8;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for convention in ["hvc0", "hvc1"] {
        for vps in ["1", "2", "4"] {
            steps.push(Step::new(format!("c-guest/{convention}/{vps}-vps"), move |context| {
                all_routines(context, convention, vps)
            }));
        }
    }
    for convention in ["hvc0", "hvc1"] {
        for vps in ["1", "2"] {
            steps.push(Step::new(format!("c-guest/devices/{convention}/{vps}-vps"), move |context| {
                devices(context, convention, vps)
            }));
        }
    }
    steps.push(Step::new("cost", cost));
    steps
}

/// Returns the path at which the Makefile puts the kernel.
fn kernel() -> anyhow::Result<PathBuf> {
    Ok(sources::checkout()?.join("bare/target/c-guest/c-guest"))
}

/// Builds the kernel, after installing the compiler if that is missing.
pub(super) fn prepare(toolchain: &Toolchain) -> anyhow::Result<()> {
    if process::which(COMPILER).is_none() || process::which("make").is_none() {
        system::install("a C compiler for arm64", &["gcc-aarch64-linux-gnu", "make"])?;
    }
    let _task = ui::Task::quiet(format!("Building c-guest for {TARGET}"));
    let mut make = Command::new("make");
    make.args(["-s", "-C"])
        .arg(sources::checkout()?.join("bare/c-guest"))
        .arg(format!("CARGO={}", toolchain.cargo.display()))
        .arg(format!("CARGOFLAGS={}", toolchain.arguments.join(" ")))
        .envs(toolchain.environment.iter().map(|(key, value)| (key, value)));
    let done = process::run(&mut make, || {})?;
    ensure!(done.status.success(), "cannot build bare/c-guest:\n{}", done.stderr.trim_end());
    Ok(())
}

/// Checks that the kernel counts its checks and says how many went wrong; then it reports a crash.
fn all_routines(context: &Context, convention: &str, vps: &str) -> anyhow::Result<()> {
    let file = kernel()?;
    let line =
        ["--firmware", "dt", "--kernel", &file.to_string_lossy(), "--vps", vps, "--append", convention]
            .map(str::to_owned);
    let booted = context.boot(&line.each_ref().map(String::as_str))?;
    booted.ended(Exit::Crash, "crash")?;
    booted.never_says("WRONG")?;
    let number = if convention == "hvc1" { 1 } else { 0 };
    booted.says(&format!("checks over hvc #{number} on {vps} CPUs, 0 wrong"))?;
    booted.is("/crash/text", "c-guest: a deliberate crash")
}

/// Checks that the kernel uses a disk and a network card, by interrupt, and gives all memory back.
fn devices(context: &Context, convention: &str, vps: &str) -> anyhow::Result<()> {
    let disk = context.folder()?.join("data.img");
    let before = bytes(DISK, 1);
    std::fs::write(&disk, &before)?;
    let (file, image) = (kernel()?, format!("{},rw", disk.display()));
    let append = format!("{convention} devices");
    let line = ["--firmware", "dt", "--kernel", &file.to_string_lossy(), "--vps", vps, "--append", &append]
        .map(str::to_owned);
    let options = ["--disk", &image, "--net", "user", "--strict"].map(str::to_owned);
    let booted = context.boot(&line.iter().chain(&options).map(String::as_str).collect::<Vec<_>>())?;
    booted.ended(Exit::Success, "power-off")?;
    booted.never_says("WRONG")?;
    booted.says(&format!("c-guest: sectors 1 to 3 sum to {}", sum(&before[BLOCK..4 * BLOCK])))?;
    // QEMU's gateway has this address (slirp, `special_ethaddr`).
    booted.says("c-guest: the gateway is at 82:85:10:0:2:2")?;
    let number = if convention == "hvc1" { 1 } else { 0 };
    booted.says(&format!("checks over hvc #{number} on {vps} CPUs, 0 wrong"))?;
    booted.is("/devices/1/errors", 0)?;

    let mut expected = before;
    let pattern = |block: usize, at: usize| (block * 31 + at * 7 + 5) as u8;
    let last = DISK - IN_FLIGHT * PAGE;
    (0..BLOCK).for_each(|at| expected[at] = pattern(0, at));
    for n in 0..IN_FLIGHT {
        (0..PAGE).for_each(|at| expected[last + n * PAGE + at] = pattern(last / BLOCK + n, at));
    }
    let after = std::fs::read(&disk)?;
    // What is discarded may read as anything.
    let kept = DISK - 8 * BLOCK;
    ensure!(
        after.len() == DISK && after[..kept] == expected[..kept],
        "the disk has not what was written to it"
    );
    Ok(())
}

/// Checks that the clock read is at its least, and that no hot routine can panic; the example's exit status says both.
fn cost(_: &Context) -> anyhow::Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(sources::checkout()?).args([
        "run",
        "--quiet",
        "--package",
        "hv-guest-c",
        "--example",
        "cost",
    ]);
    let done = process::run(&mut cargo, || {})?;
    ensure!(done.status.success(), "{}{}", done.stdout, done.stderr);
    Ok(())
}
