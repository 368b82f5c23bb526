//! The guest programs in bare/: how they are booted, and the stress guest.

use super::context::{Booted, Context};
use super::runner::Step;
use hv_setup::exit::Exit;

/// The programs that the scenarios need.
pub(super) const PROGRAMS: [&str; 10] = [
    "bench",
    "bench-client",
    "bench-drivers",
    "drivers",
    "guest",
    "hello",
    "routines",
    "serve",
    "stress",
    "uefi-shim",
];

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for (vps, cpu) in [("1", "cortex-a72"), ("2", "cortex-a72"), ("8", "cortex-a72"), ("2", "max")] {
        steps.push(Step::new(format!("program/stress/{vps}-vps/{cpu}"), move |context| {
            stressed(&program(context, "stress", &["--vps", vps, "--cpu", cpu])?)
        }));
    }
    for (granule, cpu) in [("16k", "cortex-a76"), ("64k", "cortex-a72")] {
        steps.push(Step::new(format!("program/stress/{granule}"), move |context| {
            let append = format!("rt.granule={granule}");
            stressed(&program(context, "stress", &["--cpu", cpu, "--append", &append])?)
        }));
    }
    for (vps, seed) in [("2", "1"), ("4", "2"), ("8", "3")] {
        steps.push(Step::new(format!("program/stress/{vps}-vps/random-{seed}"), move |context| {
            let append = format!("stress.only=random stress.random=5000 stress.seed={seed}");
            stressed(&program(context, "stress", &["--vps", vps, "--append", &append])?)
        }));
    }
    for vps in [2, 4] {
        steps.push(Step::new(format!("program/stress/{vps}-vps/flood"), move |context| flood(context, vps)));
    }
    for cpu in ["cortex-a72", "max"] {
        steps.push(Step::new(format!("program/stress/frames/{cpu}"), move |context| frames(context, cpu)));
    }
    steps.push(
        Step::new("program/stress/4-vps/million", |context| {
            let append = "stress.only=random stress.random=1000000";
            stressed(&program(context, "stress", &["--vps", "4", "--timeout", "3600", "--append", append])?)
        })
        .slow(),
    );
    steps
}

/// Boots a program, which was built before the first scenario.
pub(super) fn program(context: &Context, name: &str, options: &[&str]) -> anyhow::Result<Booted> {
    let file = hv_setup::programs::output(name)?;
    let mut line = vec!["--firmware", "dt", "--kernel"];
    let file = file.to_string_lossy();
    line.push(&file);
    line.extend(options);
    context.boot(&line)
}

/// Checks that while a call waits for a lock, each other VP is served there once at most, whatever the others call.
fn flood(context: &Context, vps: u64) -> anyhow::Result<()> {
    let append = "stress.only=flood stress.flood=200";
    let booted = program(context, "stress", &["--vps", &vps.to_string(), "--append", append])?;
    stressed(&booted)?;
    for line in booted.console.lines().filter(|line| line.contains("us at most")) {
        eprintln!("  {}", line.trim_end());
    }
    let longest = booted.json["longest_queue"].as_u64();
    booted.check(
        longest.is_some_and(|longest| (1..vps).contains(&longest)),
        &format!("a lock's longest queue of others, {longest:?}, is from 1 to {}", vps - 1),
    )
}

/// Checks that the guest's place is found from its stack, whatever is in the stack.
fn frames(context: &Context, cpu: &str) -> anyhow::Result<()> {
    let booted = program(context, "stress", &["--cpu", cpu, "--strict", "--append", "stress.only=frames"])?;
    stressed(&booted)?;
    // bare/stress/src/frames.rs: immediates and return addresses.
    let warnings = booted.strings("/warnings");
    let called = |immediate: u32, callers: &str| {
        let begin = format!("hvc #{immediate}, which is undefined,");
        warnings.iter().any(|warning| warning.starts_with(&begin) && warning.ends_with(callers))
    };
    booted.check(called(0x1100, ", 0x11111000, 0x22222000, 0x33333000"), "the callers are found")?;
    booted.check(called(0x1080, ", 0x1000".repeat(7).as_str()), "a circle has eight callers")?;
    booted.check(called(0x1082, ", 0x1000"), "what leads to the hypervisor ends there")
}

/// Checks the program's own count of checks; a run that made none is not success.
pub(super) fn stressed(booted: &Booted) -> anyhow::Result<()> {
    booted.ended(Exit::Success, "power-off")?;
    counted(booted)
}

/// Checks the count alone, for a run whose exit code is another one.
pub(super) fn counted(booted: &Booted) -> anyhow::Result<()> {
    booted.never_says("FAILED")?;
    let passed =
        booted.console.lines().rev().find_map(|line| line.trim_end().strip_suffix(" passed, 0 failed"));
    let passed = passed.and_then(|count| count.parse::<u32>().ok());
    booted.check(passed.is_some_and(|count| count > 0), "the program passed all of its checks")
}
