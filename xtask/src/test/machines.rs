//! A stock kernel's use of the machine beside Hyper-V: event counters; and machines that are newer than this program.

use anyhow::Context as _;
use hv_machine::initrd::Archive;

use super::context::{Booted, Context};
use super::runner::Step;
use super::{debugger, programs};
use hv_setup::cache::Cache;
use hv_setup::exit::Exit;
use hv_setup::newest;

/// The Linux programs that the scenarios need.
pub(super) const PROGRAMS: [&str; 3] = ["cost-init", "disk-init", "perf-init"];

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("perf/6.12", perf),
        Step::new("newest-qemu/boot", |context| {
            let qemu = newest()?;
            linux(&context.boot(&["--vps", "2", "--cpu", "max", "--qemu", &qemu])?)
        })
        .slow(),
        Step::new("newest-qemu/stress", |context| {
            let qemu = newest()?;
            let options = ["--vps", "2", "--cpu", "max", "--qemu", &qemu];
            programs::stressed(&programs::program(context, "stress", &options)?)
        })
        .slow(),
        Step::new("newest-qemu/debugger", |context| {
            let qemu = newest()?;
            debugger::private(context, &["--cpu", "max", "--qemu", &qemu])
        })
        .slow(),
    ]
}

fn newest() -> anyhow::Result<String> {
    Ok(newest::prepare(&Cache::open()?)?.to_string_lossy().into_owned())
}

/// Checks that Linux uses what the newest CPU announces.
fn linux(booted: &Booted) -> anyhow::Result<()> {
    booted.ended(Exit::Success, "power-off")?;
    for word in ["Oops", "WARNING:", "Internal error", "undefined instruction"] {
        booted.never_says(word)?;
    }
    booted.says("Vmbus version:5.3")
}

/// Counts and samples, as `perf stat` and `perf record` do. Instructions are time, so the numbers are always the same.
fn perf(context: &Context) -> anyhow::Result<()> {
    let init = hv_setup::programs::output("perf-init")?;
    let init = std::fs::read(&init).with_context(|| format!("cannot read {}", init.display()))?;
    let mut archive = Archive::new();
    archive.dir("dev")?;
    archive.character_device("dev/console", 5, 1)?;
    archive.file("init", 0o755, &init)?;
    let initrd = context.folder()?.join("initrd");
    std::fs::write(&initrd, archive.finish()?)?;
    let booted = context.boot(&["--deterministic", "--vps", "1", "--initrd", &initrd.to_string_lossy()])?;
    booted.ended(Exit::Success, "power-off")?;
    booted.says("perf: done")?;
    for (what, least) in [("counted", 8_000_000), ("sampled", 1000)] {
        let line = booted.console.lines().find_map(|line| {
            line.trim_end()
                .strip_prefix("perf: ")?
                .strip_prefix(what)?
                .strip_suffix("cycles")
                .map(str::to_owned)
        });
        let number = line.as_deref().and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        booted.check(
            number.is_some_and(|number| number >= least),
            &format!("cycles: {what} at least {least}"),
        )?;
    }
    Ok(())
}
