//! Runs that are traced.

use anyhow::ensure;
use hv_wire::TraceKind;
use serde_json::Value;

use super::context::Context;
use super::runner::Step;
use crate::exit::Exit;
use crate::trace::{self, Checked};

/// The scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("trace/6.12", stock), Step::new("trace/hotplug", hotplug)]
}

/// Sums a number over a list of the report.
fn sum(report: &Value, list: &str, number: &str) -> u64 {
    let rows = report[list].as_array().into_iter().flatten();
    rows.filter_map(|row| row[number].as_u64()).sum()
}

/// Boots with a trace, and checks that nothing is missing in it.
fn traced(context: &Context, options: &[&str]) -> anyhow::Result<(Checked, std::path::PathBuf)> {
    let file = context.folder()?.join("boot.pftrace");
    let name = file.to_string_lossy().into_owned();
    let booted = context.boot(&[options, &["--trace", &name]].concat())?;
    booted.ended(Exit::Success, "power-off")?;
    let found = trace::check(&file)?;
    let count = |kind: TraceKind| found.records.get(&(kind as u32)).copied().unwrap_or_default();
    booted.is("/trace/file", name)?;
    booted.is("/trace/dropped", 0)?;
    booted.is("/trace/records", found.run.all_recorded())?;
    ensure!(found.run.all_dropped() == 0, "the trace lacks {} records", found.run.all_dropped());
    for (what, traced, counted) in [
        ("hypercalls", found.hypercalls, sum(&booted.json, "hypercalls", "count")),
        ("register reads", count(TraceKind::RegisterGet), sum(&booted.json, "registers", "gets")),
        ("register writes", count(TraceKind::RegisterSet), sum(&booted.json, "registers", "sets")),
    ] {
        ensure!(traced == counted && traced > 0, "{what}: {traced} in the trace, {counted} in the report");
    }
    for kind in [
        TraceKind::Enter,
        TraceKind::Smccc,
        TraceKind::MessagePosted,
        TraceKind::MessageDelivered,
        TraceKind::Vmbus,
        TraceKind::Bus,
        TraceKind::Interrupt,
        TraceKind::Injected,
        TraceKind::Forwarded,
        TraceKind::OwnInterrupt,
        TraceKind::SystemRegister,
        TraceKind::GicAccess,
    ] {
        ensure!(count(kind) > 0, "the trace has no {kind:?}");
    }
    ensure!(count(TraceKind::VpOnline) >= u64::from(found.run.vps), "not every VP came online");
    ensure!(found.flows > 0, "nothing leads to anything");
    Ok((found, file))
}

/// What is written is what the report counts, and `hv trace` finds what Linux did.
fn stock(context: &Context) -> anyhow::Result<()> {
    let (found, file) = traced(context, &[])?;
    let print = |options: &[&str]| -> anyhow::Result<String> {
        let mut line = vec!["trace".to_owned(), file.to_string_lossy().into_owned()];
        line.extend(options.iter().map(|&word| word.to_owned()));
        let done = context.hv(&line)?;
        ensure!(done.code == Some(Exit::Success as i32), "hv trace failed: {}", done.stderr);
        Ok(done.stdout)
    };
    ensure!(print(&["--check"])?.starts_with("a good trace: "), "hv trace --check does not say so");
    let lines = print(&[])?.lines().count() as u64;
    let records = found.run.all_recorded();
    ensure!(lines == records, "{lines} lines for {records} records");
    let posted = print(&["--kind", "message-posted", "--name", "initiate_contact"])?;
    ensure!(posted.contains("CHANNELMSG_INITIATE_CONTACT connection=0x4"), "no contact in {posted:?}");
    let summary: Value = serde_json::from_str(&print(&["--summary", "--json"])?)?;
    ensure!(summary["kinds"]["hypercall"] == found.hypercalls, "another number of hypercalls: {summary}");
    ensure!(sum(&summary, "exits", "count") == found.slices, "another number of exits: {summary}");
    Ok(())
}

/// VPs that go off and on again leave no exit open, and no time that goes back.
fn hotplug(context: &Context) -> anyhow::Result<()> {
    let (found, _) = traced(context, &["--vps", "4", "--run", "hotplug"])?;
    let count = |kind: TraceKind| found.records.get(&(kind as u32)).copied().unwrap_or_default();
    ensure!(count(TraceKind::VpOffline) == 3, "{} VPs went off", count(TraceKind::VpOffline));
    ensure!(count(TraceKind::VpOnline) == 7, "{} VPs came online", count(TraceKind::VpOnline));
    Ok(())
}
