//! A short form of `hv conformance`: the suite in a guest, on a few machines that together have every number of VPs but
//! 8, both conventions and each page size. `cargo test` runs it in process. Then the suite against wrong hosts.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::context::{Context, HUNG_SECONDS};
use super::runner::Step;
use super::schema;
use hv_setup::exit::Exit;

/// VPs, convention, page size.
const SHAPES: [[&str; 3]; 4] =
    [["1", "smccc", "4k"], ["4", "hvc1", "4k"], ["2", "smccc", "64k"], ["1", "hvc1", "16k"]];
/// Minimum number of cases that pass on one VP. With fewer, the guest or the host has lost something.
const PASSED: usize = 600;

/// Minimum number of mutants.
const MUTANTS: u64 = 400;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = SHAPES
        .into_iter()
        .map(|shape| {
            let [vps, conduit, granule] = shape;
            let name = format!("conformance/{vps}-vps/{conduit}/{granule}");
            Step::new(name, move |context| conforms(context, shape))
        })
        .collect();
    // Sets of VPs reach their second bank. Cases that ask each VP about each other one take their time.
    let many = ["100", "smccc", "4k"];
    let step = Step::new("conformance/100-vps/smccc/4k", move |context| conforms(context, many));
    steps.push(step.slow());
    steps.push(Step::new("conformance/mutants", mutants));
    steps.push(Step::new("conformance/options", |context| {
        context.hv(&["conformance", "--filter", "no-such-case"])?.refused("no case matches")?;
        context.hv(&["conformance", "--mutants=no-such-mutant"])?.refused("no mutant has no-such-mutant")?;
        context.hv(&["conformance", "--mutants", "--format", "tap"])?.refused("--format text or json")?;
        context.hv(&["conformance", "--kernel", "/nonexistent/guest"])?.refused("/nonexistent/guest")
    }));
    steps
}

/// Checks that every case passes or is skipped, and that enough of them pass.
fn conforms(context: &Context, [vps, conduit, granule]: [&str; 3]) -> anyhow::Result<()> {
    let mut line = vec!["conformance", "--vps", vps, "--conduit", conduit, "--granule", granule];
    line.extend(["--format", "json", "--timeout", HUNG_SECONDS]);
    let done = context.hv(&line)?;
    let all = || format!("exit code {:?}\n{}\n{}", done.code, done.stdout, done.stderr);
    ensure!(done.code == Some(Exit::Success as i32), "the host does not conform: {}", all());
    let report: Value = serde_json::from_str(&done.stdout).with_context(all)?;
    schema::check("hv conformance --format json", &report)?;
    let run = &report["runs"][0];
    ensure!(run["setting"]["vps"] == vps && run["setting"]["conduit"] == conduit, "another run: {}", all());
    let results = run["results"].as_array().into_iter().flatten();
    let passed = results.filter(|result| result["outcome"] == "passed").count();
    ensure!(passed >= PASSED, "only {passed} cases passed: {}", all());
    Ok(())
}

/// Checks that every mutant is caught or survives for a reason, and that every case catches one.
fn mutants(context: &Context) -> anyhow::Result<()> {
    let done = context.hv(&["conformance", "--mutants", "--format", "json"])?;
    let all = || format!("exit code {:?}\n{}\n{}", done.code, done.stdout, done.stderr);
    ensure!(done.code == Some(Exit::Success as i32), "the suite is blind: {}", all());
    let found: Value = serde_json::from_str(&done.stdout).with_context(all)?;
    schema::check("hv conformance --mutants --format json", &found)?;
    let total = found["total"].as_u64().unwrap_or(0);
    ensure!(total >= MUTANTS, "only {total} mutants: {}", all());
    Ok(())
}
