//! Consoles in, reports out.

use super::{Report, Verdict};
use crate::env::Convention;
use crate::outcome::{Failure, Stop};
use crate::protocol::Lines;
use crate::suite::{Setting, Sink as _, Totals, cases};

const BEGIN: &str = "@hv begin 1 cases=3 vps=2 conduit=hvc1 granule=65536\n";

fn whole() -> String {
    format!(
        "U-Boot\n{BEGIN}@hv run clock/a\n@hv pass clock/a\n[0.1] noise @hv run clock/b\n\
         @hv fail clock/b clock.rs:3: x < y & z: 0x1, not 0x2\n@hv run clock/c\n@hv skip clock/c no <clock> #1\n\
         @hv end passed=1 failed=1 skipped=1\nbye\n"
    )
}

#[test]
fn a_whole_run_is_collected_between_other_output() {
    let report = Report::from_console(&whole());
    let [run] = report.runs.as_slice() else { panic!("one run, not {}", report.runs.len()) };
    assert_eq!(run.title(), "2 VPs, hvc #1, 64K pages");
    assert_eq!(run.problems, [""; 0]);
    assert_eq!(report.totals(), Totals { passed: 1, failed: 1, skipped: 1 });
    assert_eq!(run.results[1].verdict, Verdict::Failed("clock.rs:3: x < y & z: 0x1, not 0x2".to_owned()));
    assert!(!report.conforms());
}

#[test]
fn what_the_guest_writes_is_what_the_tool_reads() {
    let case = cases().next().unwrap();
    let mut lines = Lines(String::new());
    lines.begin(&Setting {
        cases: 3,
        vps: 4,
        convention: Convention::Smccc,
        granule: 4096,
        version: hv_tlfs::features::HypervisorVersion::from_register(
            hv_tlfs::register::RegisterValue::from_dwords([26100, 10 << 16, 0, 0]),
        ),
        features: (5, 6),
    });
    let failure =
        Failure { what: "a\n    == b", file: "cases/timers/clock.rs", line: 7, values: Some((1, 2)) };
    for outcome in [Ok(()), Err(Stop::Skip("none there")), Err(Stop::Fail(failure))] {
        lines.case(case);
        lines.outcome(case, &outcome);
    }
    lines.end(&Totals { passed: 1, failed: 1, skipped: 1 });
    let report = Report::from_console(&lines.0);
    let run = &report.runs[0];
    assert_eq!(run.title(), "4 VPs, hvc #0, 4K pages");
    assert_eq!(run.setting["version"], "10.0.26100");
    assert_eq!(run.setting["features"], "0x5,0x6");
    assert!(run.problems.is_empty(), "{:?}", run.problems);
    assert_eq!(run.results[2].verdict, Verdict::Failed("clock.rs:7: a == b: 0x1, not 0x2".to_owned()));
    assert_eq!(run.results[0].source.as_deref(), Some(&*format!("{}, \"{}\"", case.page, case.section)));
}

#[test]
fn a_guest_that_stops_fails_the_case_and_the_run() {
    let report = Report::from_console(&format!("{BEGIN}@hv run clock/a\nguest panic\n"));
    let run = &report.runs[0];
    assert_eq!(run.results[0].verdict, Verdict::Stopped);
    assert_eq!(run.problems, ["the run has no end"]);
    assert!(report.text().contains("the guest stopped here"));
    assert!(!report.conforms());
}

#[test]
fn numbers_that_do_not_agree_fail_the_run() {
    for (from, to) in
        [("passed=1", "passed=2"), ("cases=3", "cases=4"), ("begin 1", "begin 2"), ("run clock/a\n", "\n")]
    {
        let report = Report::from_console(&whole().replace("fail clock/b", "pass clock/b").replace(from, to));
        assert_ne!(report.runs[0].problems, [""; 0], "{to}");
    }
}

#[test]
fn nothing_is_no_conformance() {
    assert!(!Report::from_console("").conforms());
    assert!(!Report::from_console("@hv end passed=1 failed=0 skipped=0\n").conforms());
    let none = "@hv begin 1 cases=0 vps=1 conduit=smccc granule=4096\n@hv end passed=0 failed=0 skipped=0\n";
    assert!(!Report::from_console(none).conforms());
}

#[test]
fn text_shows_chapters_of_one_run_and_failures_of_all() {
    let one = Report::from_console(&whole()).text();
    assert!(one.contains("  clock                  1 passed, 1 FAILED, 1 skipped\n"), "{one}");
    let two = Report::from_console(&whole().repeat(2)).text();
    assert!(!two.contains("\n  clock "), "{two}");
    assert_eq!(two.matches("FAILED clock/b\n    clock.rs:3").count(), 2, "{two}");
    assert!(two.contains(
        "skipped: no <clock> #1 (1 case)\n2 runs: 2 passed, 2 failed, 2 skipped; the host does NOT"
    ));
}

#[test]
fn tap_numbers_its_tests_and_escapes_directives() {
    let tap = Report::from_console(&whole()).tap();
    assert!(tap.starts_with("TAP version 13\n1..3\n"), "{tap}");
    assert!(tap.contains("\nok 1 - clock/a\nnot ok 2 - clock/b\n# clock.rs:3"), "{tap}");
    assert!(tap.contains("\nok 3 - clock/c # SKIP no <clock> #1\n"), "{tap}");
}

#[test]
fn junit_escapes_what_has_a_meaning_in_xml() {
    let xml = Report::from_console(&whole()).junit();
    assert!(xml.contains("x &lt; y &amp; z"), "{xml}");
    assert!(xml.contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\""), "{xml}");
    assert!(!xml.contains("no <clock>"), "{xml}");
}

#[test]
fn json_can_be_read_again() {
    let json = Report::from_console(&whole()).json();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let results = &value["runs"][0]["results"];
    assert_eq!(results[0]["outcome"], "passed");
    assert_eq!(results[1]["outcome"], "failed");
    assert_eq!(results[2]["detail"], "no <clock> #1");
    assert_eq!(value["runs"][0]["setting"]["vps"], "2");
}
