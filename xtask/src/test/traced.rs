//! Runs that are traced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::browser::{Page, SHIFT};
use super::context::{Booted, Context};
use super::programs::program;
use super::runner::Step;
use hv_setup::exit::Exit;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("trace/6.12", stock),
        Step::new("trace/hotplug", hotplug),
        Step::new("trace/stress", stress),
        Step::new("trace/limit", limit),
        Step::new("trace/strict", strict),
        Step::new("trace/html", html).slow(),
    ]
}

/// Sums a number over a list of the report.
fn sum(report: &Value, list: &str, number: &str) -> u64 {
    let rows = report[list].as_array().into_iter().flatten();
    rows.filter_map(|row| row[number].as_u64()).sum()
}

/// The result of `hv trace --check` for a valid trace.
struct Checked(Value);

impl Checked {
    /// Returns one of its numbers.
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

/// Checks that a trace is valid, and that the report agrees.
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
        // The report has room for a limited number of different calls and registers, and says when that was too little.
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

/// Checks that the records match the report's counts, and that `hv trace` finds what Linux did.
fn stock(context: &Context) -> anyhow::Result<()> {
    let (found, file) = traced(context, &[])?;
    let print = |options: &[&str]| -> anyhow::Result<String> {
        let mut line = vec!["trace".to_owned(), file.to_string_lossy().into_owned()];
        line.extend(options.iter().map(|&word| word.to_owned()));
        let done = context.hv(&line)?;
        ensure!(done.code == Some(Exit::Success as i32), "hv trace failed: {}", done.stderr);
        Ok(done.stdout)
    };
    ensure!(print(&["--check"])?.starts_with("a valid trace: "), "hv trace --check does not say so");
    let lines = print(&["--records"])?.lines().count() as u64;
    let records = found.number("recorded");
    ensure!(lines == records, "{lines} lines for {records} records");
    ensure!(found.count("console") > 100, "the trace has no console");
    // An exit, what it was about, and the return are one line, which says where the guest was.
    let calls = print(&["--kind", "hypercall", "--name", "hvcall_post_message"])?;
    let first = calls.lines().next().unwrap_or_default();
    let whole = first.contains(" exit=") && first.contains(" took=") && first.contains("hv_do_hypercall");
    ensure!(whole, "no exit, no duration or no symbol in {first:?}");
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

/// Checks that VPs that go off and on again leave no exit open, and that time does not go back.
fn hotplug(context: &Context) -> anyhow::Result<()> {
    let (found, _) = traced(context, &["--vps", "4", "--run", "hotplug"])?;
    let (off, on) = (found.count("vp-offline"), found.count("vp-online"));
    ensure!((off, on) == (3, 7), "{off} VPs went off, {on} came online");
    Ok(())
}

/// Checks that a misbehaving guest is traced as well, together with the strict mode's findings.
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

/// Checks that a guest that makes calls without end makes a trace no longer than allowed, and that the omitted records
/// are counted.
fn limit(context: &Context) -> anyhow::Result<()> {
    /// In bytes, and in records of 64 bytes.
    const LIMIT: [u64; 2] = [1 << 20, (1 << 20) / 64];
    let file = context.folder()?.join("limited.pftrace");
    let name = file.to_string_lossy().into_owned();
    // Of the random calls only those by SMCCC, a tenth (bare/stress/src/attack.rs, `kind`), with an exit and a return
    // each.
    let append = "stress.only=random stress.random=100000 stress.kinds=2";
    let limit = (LIMIT[0] >> 20).to_string();
    let options = ["--vps", "2", "--append", append, "--trace", &name, "--trace-limit", &limit];
    let booted = program(context, "stress", &options)?;
    booted.ended(Exit::Success, "power-off")?;
    let left_out = booted.json["trace"]["left_out"].as_u64().unwrap_or_default();
    booted.check(left_out > 5_000, "what came later is counted")?;
    let warned = booted
        .strings("/warnings")
        .iter()
        .any(|warning| warning.contains("the trace ends ") && warning.contains(&left_out.to_string()));
    booted.check(warned, "the report warns that the trace ends early")?;
    let checked = context.hv(&["trace", "--check", "--json", &name])?;
    ensure!(checked.code == Some(Exit::Success as i32), "no good trace: {}", checked.stderr);
    let found = Checked(serde_json::from_str(&checked.stdout)?);
    ensure!(found.number("left_out") == left_out, "another number was left out: {}", found.0);
    // The console's records are the tool's own.
    let records = found.number("recorded").saturating_sub(left_out);
    booted.is("/trace/records", records)?;
    let guests = records.saturating_sub(found.count("console"));
    ensure!((LIMIT[1] / 8..=LIMIT[1]).contains(&guests), "{guests} records are in the trace");
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

/// Checks that the judge finds in the records what it found while the guest ran. One VP: the order in which VPs are
/// judged is that of their records only as far as a counter tells.
fn strict(context: &Context) -> anyhow::Result<()> {
    let file = context.folder()?.join("strict.pftrace");
    let name = file.to_string_lossy().into_owned();
    let booted = program(context, "stress", &["--vps", "1", "--strict", "--trace", &name])?;
    booted.ended(Exit::Success, "power-off")?;
    let done = context.hv(&["trace", &name, "--strict", "--json"])?;
    ensure!(done.code == Some(Exit::Success as i32), "hv trace --strict failed: {}", done.stderr);
    let verdict: Value = serde_json::from_str(&done.stdout)?;
    let rules = |findings: &Value| -> BTreeMap<String, u64> {
        let rows = findings.as_array().into_iter().flatten();
        let counts = rows.filter_map(|row| Some((row["rule"].as_str()?.to_owned(), row["count"].as_u64()?)));
        counts.collect()
    };
    let (online, offline) = (rules(&booted.json["findings"]), rules(&verdict["findings"]));
    ensure!(online.len() >= 10, "the guest breaks too few rules: {online:?}");
    ensure!(online == offline, "online {online:?}, in the records {offline:?}");
    ensure!(verdict["gaps"] == serde_json::json!([]), "records are missing: {}", verdict["gaps"]);
    ensure!(
        verdict["not_judged"] == serde_json::json!([]),
        "rules are not judged: {}",
        verdict["not_judged"]
    );
    Ok(())
}

/// Checks that the page of a trace opens in a browser, shows all of it, and finds search terms.
fn html(context: &Context) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let file = folder.join("page.pftrace").to_string_lossy().into_owned();
    let page = folder.join("page.html").to_string_lossy().into_owned();
    let options = ["--vps", "2", "--append", "stress.random=2000", "--strict", "--trace", &file];
    program(context, "stress", &options)?.ended(Exit::Success, "power-off")?;
    let done = context.hv(&["trace", &file, "--html", &page])?;
    ensure!(done.code == Some(Exit::Success as i32), "hv trace --html failed: {}", done.stderr);
    let check = context.hv(&["trace", "--check", "--json", &file])?;
    let found = Checked(serde_json::from_str(&check.stdout)?);
    let mut shown = Page::open(&format!("file://{page}#q=finding"), &folder.join("profile"))?;
    shown.until("document.body.dataset.found !== undefined")?;
    let mut said = |name: &str| shown.number(&format!("Number(document.body.dataset.{name})"));
    let [exits, hits, problems] = [said("exits")?, said("found")?, said("problems")?];
    ensure!(exits == found.number("slices") as f64, "{exits} exits are shown");
    ensure!(hits >= found.count("finding").max(1) as f64, "{hits} findings are found");
    ensure!(problems >= hits, "{problems} problems are shown");
    shown.until("document.querySelector('.row.bad') !== null")?;
    by_mouse(&mut shown).context("mouse")?;
    by_keys(&mut shown).context("keys")?;
    drawn(&mut shown, &folder)
}

const SPAN: &str = "state.to - state.from";

/// Checks that the wheel zooms around the pointer, and moves with shift, and that dragging moves, and measures with
/// shift.
fn by_mouse(page: &mut Page) -> anyhow::Result<()> {
    let (x, y) = page.middle("view")?;
    let quarter = (x / 2.0, y);
    let pointed = format!("timeAt({} - view.getBoundingClientRect().x)", quarter.0);
    let (before, at) = (page.number(SPAN)?, page.number(&pointed)?);
    for _ in 0..10 {
        page.wheel(quarter, -120.0, 0)?;
    }
    page.until(&format!("{SPAN} < {before} / 5"))?;
    let (span, now) = (page.number(SPAN)?, page.number(&pointed)?);
    ensure!((now - at).abs() < span / 100.0, "the wheel zooms around {now}, not {at}, of a span of {span}");
    let from = page.number("state.from")?;
    page.wheel((x, y), 300.0, SHIFT)?;
    page.until(&format!("state.from > {from} + {span} / 20"))?;
    let from = page.number("state.from")?;
    page.drag((x, y), (x + 200.0, y), 0)?;
    page.until(&format!("state.from < {from} - {span} / 20"))?;
    ensure!((page.number(SPAN)? / span - 1.0).abs() < 0.01, "moving changes the span");
    page.drag((x - 100.0, y), (x + 100.0, y), SHIFT)?;
    page.until("state.range !== null && state.range[1] > state.range[0]")?;
    let fit = page.middle("fit")?;
    page.click(fit)?;
    page.until(&format!("{SPAN} >= end - begin"))
}

/// Checks that keys zoom, move and search.
fn by_keys(page: &mut Page) -> anyhow::Result<()> {
    page.key("Escape")?;
    page.until("state.range === null && state.hits === null && search.value === ''")?;
    for (key, changed) in [
        ("w", "to - from < span * 0.9"),
        ("w", "to - from < span * 0.9"),
        ("d", "from > old"),
        ("ArrowLeft", "from < old"),
        ("s", "to - from > span * 1.1"),
        ("0", "to - from >= end - begin"),
    ] {
        let (old, span) = (page.number("state.from")?, page.number(SPAN)?);
        page.key(key)?;
        let test = format!("(({{ from, to }}, old, span) => {changed})(state, {old}, {span})");
        page.until(&test).context(key)?;
    }
    page.key("/")?;
    page.until("document.activeElement === search")?;
    page.text("hypercall")?;
    page.until(
        "search.value === 'hypercall' && state.hits !== null && $('hits').textContent.endsWith('found')",
    )?;
    ensure!(page.number("state.hits.length")? > 0.0, "no hypercall is found");
    let mut last = -1.0;
    for _ in 0..3 {
        page.key("Enter")?;
        page.until(&format!("state.selected > {last} && state.hits.includes(state.selected)"))?;
        last = page.number("state.selected")?;
    }
    let next = page.middle("next")?;
    page.click(next)?;
    page.until(&format!("state.selected > {last} && state.hits.includes(state.selected)"))
}

/// Checks that the timeline is a picture, not a blank: it has many colours.
fn drawn(page: &mut Page, folder: &Path) -> anyhow::Result<()> {
    let colours = "new Set(new Uint32Array(view.getContext('2d').getImageData(0, 0, view.width, view.height).data.buffer)).size";
    let colours = page.number(colours)?;
    ensure!(colours > 20.0, "the timeline has {colours} colours");
    let picture = page.picture()?;
    ensure!(
        picture.starts_with(b"\x89PNG") && picture.len() > 20_000,
        "{} bytes are not a picture",
        picture.len()
    );
    if let Some(place) = std::env::var_os("HV_TEST_PICTURES") {
        std::fs::write(Path::new(&place).join("trace.png"), &picture)?;
    }
    std::fs::write(folder.join("trace.png"), picture)?;
    Ok(())
}
