//! The library for kernels in C: a kernel that links it and uses every routine, and what the hot routines cost.

use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;

use super::context::Context;
use super::runner::Step;
use hv_setup::exit::Exit;
use hv_setup::system;
use hv_setup::target::{TARGET, Toolchain};
use hv_setup::{process, sources, ui};

/// The compiler that bare/c-guest's Makefile uses.
const COMPILER: &str = "aarch64-linux-gnu-gcc";

/// The scenarios.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for convention in ["hvc0", "hvc1"] {
        for vps in ["1", "2", "4"] {
            steps.push(Step::new(format!("c-guest/{convention}/{vps}-vps"), move |context| {
                all_routines(context, convention, vps)
            }));
        }
    }
    steps.push(Step::new("cost", cost));
    steps
}

/// Where the Makefile puts the kernel.
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

/// The kernel counts its checks and says how many went wrong; then it reports a crash.
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

/// The clock read is at its least, and no hot routine can panic; the example's exit status says both.
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
