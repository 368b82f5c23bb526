//! Runs that are traced.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use serde_json::Value;

use super::context::{Booted, Context};
use super::programs::program;
use super::runner::Step;
use hv_setup::exit::Exit;

/// The scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("trace/6.12", stock),
        Step::new("trace/hotplug", hotplug),
        Step::new("trace/stress", stress),
        Step::new("trace/limit", limit),
    ]
}

/// Sums a number over a list of the report.
fn sum(report: &Value, list: &str, number: &str) -> u64 {
    let rows = report[list].as_array().into_iter().flatten();
    rows.filter_map(|row| row[number].as_u64()).sum()
}

/// What `hv trace --check` says of a good trace.
struct Checked(Value);

impl Checked {
    /// One of its numbers.
    fn number(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_default()
    }

    /// Records of a kind.
    fn count(&self, kind: &str) -> u64 {
        self.0["kinds"][kind].as_u64().unwrap_or_default()
    }

    /// Fails unless there are records of all these kinds.
    fn has(&self, kinds: &[&str]) -> anyhow::Result<()> {
        for kind in kinds {
            ensure!(self.count(kind) > 0, "the trace has no {kind}");
        }
        Ok(())
    }
}

/// Checks that a trace is good, and that the report says the same.
fn complete(context: &Context, booted: &Booted, file: &Path) -> anyhow::Result<Checked> {
    let checked = context.hv(&["trace".as_ref(), "--check".as_ref(), "--json".as_ref(), file.as_os_str()])?;
    ensure!(checked.code == Some(Exit::Success as i32), "no good trace: {}", checked.stderr);
    let found = Checked(serde_json::from_str(&checked.stdout)?);
    booted.is("/trace/file", file.to_string_lossy().into_owned())?;
    booted.is("/trace/dropped", 0)?;
    booted.is("/trace/records", found.number("recorded"))?;
    ensure!(found.number("dropped") == 0, "the trace lacks {} records", found.number("dropped"));
    let lacking = booted.strings("/warnings").iter().any(|warning| warning.contains("were not counted"));
    for (what, traced, counted) in [
        ("hypercalls", found.number("hypercalls"), sum(&booted.json, "hypercalls", "count")),
        ("register reads", found.count("register-get"), sum(&booted.json, "registers", "gets")),
        ("register writes", found.count("register-set"), sum(&booted.json, "registers", "sets")),
        ("findings", found.count("finding"), sum(&booted.json, "findings", "count")),
    ] {
        // The report has room for so many different calls and registers, and says when that was too little.
        let whole = traced == counted || (lacking && traced > counted);
        ensure!(whole, "{what}: {traced} in the trace, {counted} in the report");
    }
    ensure!(found.number("hypercalls") > 0 && found.number("flows") > 0, "too little in {}", found.0);
    Ok(found)
}

/// Boots Linux with a trace, and checks that nothing is missing in it.
fn traced(context: &Context, options: &[&str]) -> anyhow::Result<(Checked, PathBuf)> {
    let file = context.folder()?.join("boot.pftrace");
    let booted = context.boot(&[options, &["--trace", &file.to_string_lossy()]].concat())?;
    booted.ended(Exit::Success, "power-off")?;
    let found = complete(context, &booted, &file)?;
    found.has(&[
        "enter",
        "register-get",
        "register-set",
        "smccc",
        "message-posted",
        "message-delivered",
        "vmbus-message",
        "vmbus-state-contact",
        "interrupt-asserted",
        "interrupt-injected",
        "interrupt-forwarded",
        "interrupt-own",
        "system-register",
        "gic-access",
    ])?;
    let online = found.count("vp-online");
    ensure!(online >= found.number("vps"), "{online} VPs came online");
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
    let records = found.number("recorded");
    ensure!(lines == records, "{lines} lines for {records} records");
    let posted = print(&["--kind", "message-posted", "--name", "initiate_contact"])?;
    ensure!(posted.contains("CHANNELMSG_INITIATE_CONTACT connection=0x4"), "no contact in {posted:?}");
    let summary: Value = serde_json::from_str(&print(&["--summary", "--json"])?)?;
    ensure!(
        summary["kinds"]["hypercall"] == found.number("hypercalls"),
        "another number of hypercalls: {summary}"
    );
    ensure!(sum(&summary, "exits", "count") == found.number("slices"), "another number of exits: {summary}");
    Ok(())
}

/// VPs that go off and on again leave no exit open, and no time that goes back.
fn hotplug(context: &Context) -> anyhow::Result<()> {
    let (found, _) = traced(context, &["--vps", "4", "--run", "hotplug"])?;
    let (off, on) = (found.count("vp-offline"), found.count("vp-online"));
    ensure!((off, on) == (3, 7), "{off} VPs went off, {on} came online");
    Ok(())
}

/// A guest that does what it should not is traced as well, together with what the strict mode finds.
fn stress(context: &Context) -> anyhow::Result<()> {
    let file = context.folder()?.join("stress.pftrace");
    let name = file.to_string_lossy().into_owned();
    let options = ["--vps", "4", "--append", "stress.random=5000", "--strict", "--trace", &name];
    let booted = program(context, "stress", &options)?;
    booted.ended(Exit::Success, "power-off")?;
    let found = complete(context, &booted, &file)?;
    found.has(&["finding", "fault", "unknown-immediate", "timer"])?;
    Ok(())
}

/// A guest that calls one function after the other makes a trace no longer than it may be, and what was left out is counted.
fn limit(context: &Context) -> anyhow::Result<()> {
    /// In bytes, and in records of 64 bytes.
    const LIMIT: [u64; 2] = [1 << 20, (1 << 20) / 64];
    let file = context.folder()?.join("limited.pftrace");
    let name = file.to_string_lossy().into_owned();
    // Of the random calls only those by SMCCC, a tenth (bare/stress/src/attack.rs, `kind`), with an exit and a return each.
    let append = "stress.only=random stress.random=100000 stress.kinds=2";
    let limit = (LIMIT[0] >> 20).to_string();
    let options = ["--vps", "2", "--append", append, "--trace", &name, "--trace-limit", &limit];
    let booted = program(context, "stress", &options)?;
    booted.ended(Exit::Success, "power-off")?;
    booted.is("/trace/records", LIMIT[1])?;
    let left_out = booted.json["trace"]["left_out"].as_u64().unwrap_or_default();
    booted.check(left_out > 5_000, "what came later is counted")?;
    let warned = booted
        .strings("/warnings")
        .iter()
        .any(|warning| warning.contains("the trace ends early") && warning.contains(&left_out.to_string()));
    booted.check(warned, "the report warns that the trace ends early")?;
    let checked = context.hv(&["trace", "--check", "--json", &name])?;
    ensure!(checked.code == Some(Exit::Success as i32), "no good trace: {}", checked.stderr);
    let found = Checked(serde_json::from_str(&checked.stdout)?);
    ensure!(found.number("left_out") == left_out, "another number was left out: {}", found.0);
    let functions = context.hv(&["trace", &name, "--kind", "smccc", "--json"])?.stdout;
    let mut names: Vec<_> = functions
        .lines()
        .filter_map(|line| Some(serde_json::from_str::<Value>(line).ok()?["name"].as_str()?.to_owned()))
        .collect();
    names.sort();
    names.dedup();
    ensure!(names.len() > 200, "only {} functions were called", names.len());
    let summary: Value = serde_json::from_str(&context.hv(&["trace", &name, "--summary", "--json"])?.stdout)?;
    ensure!(summary["left_out"] == left_out, "the summary does not count what was left out: {summary}");
    Ok(())
}
