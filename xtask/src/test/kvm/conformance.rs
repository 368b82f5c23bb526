//! The conformance suite over KVM: the tool runs it, with the machine that it has under QEMU.

use anyhow::{Context as _, ensure};
use hv_setup::{programs, target};
use serde_json::Value;

use super::{Computer, Program, USUAL, built, expect, host_on, runs};
use crate::test::context::{Context, HUNG_SECONDS, read};
use crate::test::runner::Step;
use crate::test::schema;

/// Numbers of VPs, and page sizes.
const SHAPES: [(&str, &str); 9] = [
    ("1", "4k"),
    ("2", "4k"),
    ("8", "4k"),
    ("1", "16k"),
    ("2", "16k"),
    ("8", "16k"),
    ("1", "64k"),
    ("2", "64k"),
    ("8", "64k"),
];
/// The one that is not slow.
const USUAL_SHAPE: (&str, &str) = ("2", "4k");

/// Why cases are skipped under QEMU.
const SKIPPED: [&str; 5] = [
    "the environment cannot migrate the guest",
    "the environment cannot make the page invalid",
    "the host cannot be asked what it recorded",
    "the partition may not ask for its id",
    "direct timers are offered",
];
/// Why they are on one VP.
const SKIPPED_ON_ONE: &str = "one VP only";
/// Cases that are skipped over KVM alone: it answers the Arm architecture's functions itself, and says SMCCC 1.1, which
/// has no SMCCC_ARCH_FEATURES for SMCCC_VERSION.
const SKIPPED_OVER_KVM: [&str; 2] = [
    "feature_discovery/smccc_is_of_version_1_2_or_later",
    "feature_discovery/features_are_told_for_functions_that_exist_and_not_for_others",
];
/// Minimum number of cases that pass on one VP.
const PASSED: usize = 680;

/// Returns the scenarios, each with both calling conventions.
pub(super) fn steps() -> impl Iterator<Item = Step> {
    SHAPES.into_iter().map(|shape @ (vps, granule)| {
        // As under QEMU: this one has the page size, and the usual one has not.
        let cpu = if granule == "16k" { "cortex-a76" } else { USUAL.cpu };
        // Two runs, of which each has its own limit.
        let computer = Computer { cpu, limit: "2700", ..USUAL };
        let name = format!("kvm/conformance/{vps}-vps/{granule}");
        let step = Step::new(name, move |context| conforms(context, &computer, shape));
        if shape == USUAL_SHAPE { step } else { step.slow() }
    })
}

/// Checks that a guest finds what the suite is about, by both calling conventions.
pub(super) fn conforms(
    context: &Context,
    computer: &Computer<'_>,
    (vps, granule): (&str, &str),
) -> anyhow::Result<()> {
    let programs = [
        Program { name: "hv", content: built("hv-cli", &["--no-default-features", "--bin", "hv"])? },
        Program { name: "guest", content: read(&programs::build(&target::prepare()?, "guest")?)? },
    ];
    let script = format!(
        "run /hv conformance --accel kvm --kernel /guest --vps {vps} --granule {granule} --format json \
         --output /report.json --timeout {HUNG_SECONDS}\necho 'json: begin'\ncat /report.json\necho 'json: end'\n"
    );
    let console = host_on(context, computer, &script, (&programs, &[]))?;
    let [run] = runs(&console)?;
    let json = run.split("json: begin").nth(1).and_then(|rest| rest.split("json: end").next());
    let report: Value =
        serde_json::from_str(json.context("no report")?).with_context(|| format!("no report:\n{console}"))?;
    schema::check("hv conformance --format json", &report)?;
    let found = report["runs"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(found.len() == 2, "expected two runs:\n{console}");
    for (found, conduit) in found.iter().zip(["smccc", "hvc1"]) {
        let setting = &found["setting"];
        ensure!(setting["vps"] == vps && setting["conduit"] == conduit, "another run: {setting}");
        judge(found, vps)?;
    }
    expect(&[(run, &["host: status 0"])])
}

/// Checks that in a run no case failed, that enough passed, and that those that pass under QEMU were not skipped.
fn judge(run: &Value, vps: &str) -> anyhow::Result<()> {
    ensure!(run["problems"].as_array().is_none_or(Vec::is_empty), "{}", run["problems"]);
    let results = run["results"].as_array().context("a run without results")?;
    let passed = results.iter().filter(|result| result["outcome"] == "passed").count();
    let mut over_kvm = Vec::new();
    for result in results.iter().filter(|result| result["outcome"] != "passed") {
        let [name, why] = ["name", "detail"].map(|field| result[field].as_str().unwrap_or_default());
        ensure!(result["outcome"] == "skipped", "failed: {result:#}");
        if SKIPPED_OVER_KVM.contains(&name) {
            over_kvm.push(name);
        } else {
            ensure!(SKIPPED.contains(&why) || (vps == "1" && why == SKIPPED_ON_ONE), "skipped: {result:#}");
        }
    }
    ensure!(over_kvm == SKIPPED_OVER_KVM, "skipped over KVM alone: {over_kvm:?}");
    ensure!(passed >= PASSED, "only {passed} cases passed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{PASSED, SKIPPED, SKIPPED_OVER_KVM, judge};

    fn run(more: &Value) -> Value {
        let mut results = vec![json!({ "name": "a/b", "outcome": "passed" }); PASSED];
        results.extend(
            SKIPPED_OVER_KVM.map(|name| json!({ "name": name, "outcome": "skipped", "detail": "KVM's" })),
        );
        results.push(more.clone());
        json!({ "problems": [], "results": results })
    }

    #[test]
    fn a_case_that_passes_under_qemu_is_not_skipped_over_kvm() {
        let skipped = |why: &str| json!({ "name": "a/c", "outcome": "skipped", "detail": why });
        judge(&run(&skipped(SKIPPED[0])), "2").unwrap();
        judge(&run(&skipped("one VP only")), "1").unwrap();
        for (more, vps) in [
            (skipped("one VP only"), "2"),
            (skipped("the host offers no SCSI controller"), "2"),
            (json!({ "name": "a/c", "outcome": "failed", "detail": SKIPPED[0] }), "2"),
            (json!({ "name": "a/c", "outcome": "stopped" }), "2"),
        ] {
            judge(&run(&more), vps).unwrap_err();
        }
        let mut few = run(&skipped(SKIPPED[0]));
        few["results"].as_array_mut().unwrap().remove(0);
        judge(&few, "2").unwrap_err();
    }
}
