//! Tests from console output to reports.

use super::{Report, Verdict};
use crate::env::Convention;
use crate::outcome::{Failure, Stop};
use crate::protocol::Lines;
use crate::suite::{Setting, Sink as _, Totals, cases};

/// Returns three cases of the suite.
fn names() -> [String; 3] {
    let mut all = cases().map(|case| format!("{case:?}"));
    std::array::from_fn(|_| all.next().unwrap())
}

/// Returns the line that begins a run of these cases.
fn begin() -> String {
    let filter = names().join(",");
    format!("@hv begin 2 cases=3 vps=2 conduit=hvc1 granule=65536 filter={filter}\n")
}

fn whole() -> String {
    let [a, b, c] = names();
    format!(
        "U-Boot\n{}@hv run {a}\n@hv pass {a}\n[0.1] noise @hv run {b}\n\
         @hv fail {b} clock.rs:3: x < y & z: 0x1, not 0x2\n@hv run {c}\n@hv skip {c} no <clock> #1\n\
         @hv end passed=1 failed=1 skipped=1\nbye\n",
        begin()
    )
}

/// Returns the same, without a failure.
fn passed() -> String {
    let [_, b, _] = names();
    whole()
        .replace(&format!("fail {b} clock.rs:3: x < y & z: 0x1, not 0x2"), &format!("pass {b}"))
        .replace("passed=1 failed=1", "passed=2 failed=0")
}

#[test]
fn a_whole_run_is_collected_between_other_output() {
    let report = Report::from_console(&whole());
    let [run] = report.runs.as_slice() else { panic!("one run, not {}", report.runs.len()) };
    assert_eq!(run.title(), format!("2 VPs, hvc #1, 64K pages, only {}", names().join(",")));
    assert_eq!(run.problems, [""; 0]);
    assert_eq!(report.totals(), Totals { passed: 1, failed: 1, skipped: 1 });
    assert_eq!(run.results[1].verdict, Verdict::Failed("clock.rs:3: x < y & z: 0x1, not 0x2".to_owned()));
    assert!(!report.conforms());
}

#[test]
fn what_the_guest_writes_is_what_the_tool_reads() {
    let filter = names().join(",");
    let mut lines = Lines(String::new());
    lines.begin(&Setting {
        cases: 3,
        filter: &filter,
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
    let outcomes = [Ok(()), Err(Stop::Skip("none there")), Err(Stop::Fail(failure))];
    for (case, outcome) in cases().zip(outcomes) {
        lines.case(case);
        lines.outcome(case, &outcome);
    }
    lines.end(&Totals { passed: 1, failed: 1, skipped: 1 });
    let mut report = Report::from_console(&lines.0);
    let run = &report.runs[0];
    assert_eq!(run.title(), format!("4 VPs, hvc #0, 4K pages, only {filter}"));
    assert_eq!(run.setting["version"], "10.0.26100");
    assert_eq!(run.setting["features"], "0x5,0x6");
    assert!(run.problems.is_empty(), "{:?}", run.problems);
    assert_eq!(run.results[2].verdict, Verdict::Failed("clock.rs:7: a == b: 0x1, not 0x2".to_owned()));
    let case = cases().next().unwrap();
    assert_eq!(run.results[0].source, format!("{}, \"{}\"", case.page, case.section));
    report.expect_filter(&filter);
    assert!(report.runs[0].problems.is_empty());
    report.expect_filter("");
    assert!(report.runs[0].problems[0].contains("was asked for"), "{:?}", report.runs[0].problems);
}

#[test]
fn a_guest_that_stops_fails_the_case_and_the_run() {
    let [a, ..] = names();
    let report = Report::from_console(&format!("{}@hv run {a}\nguest panic\n", begin()));
    let run = &report.runs[0];
    assert_eq!(run.results[0].verdict, Verdict::Stopped);
    assert_eq!(run.problems, ["the run has no end"]);
    assert!(report.text().contains("the guest stopped here"));
    assert!(!report.conforms());
}

#[test]
fn a_run_conforms_with_its_plan_alone() {
    assert!(Report::from_console(&passed()).conforms());
    let [a, b, c] = names();
    let other = cases().nth(3).map(|case| format!("{case:?}")).unwrap();
    let filter = format!(" filter={a},{b},{c}");
    for (from, to, problem) in [
        ("passed=2", "passed=3", "other numbers of cases"),
        ("passed=2", "passed=4294967295", "other numbers of cases"),
        ("cases=3", "cases=4", "announced 4 cases, and this suite has 3"),
        ("cases=3", "", "no number of cases"),
        ("begin 2", "begin 1", "speaks version 1"),
        (&filter, "", "without a plan"),
        (&filter, " filter=", "cases of the plan did not run"),
        (&filter, &format!(" filter={a},{b}"), "1 cases ran that filter="),
        (&format!("@hv run {a}\n@hv pass {a}\n"), "", &format!("1 case of the plan did not run: {a}")),
        (&format!("@hv run {a}\n"), "", &format!("1 case ended without having begun: {a}")),
        (&format!("@hv run {a}\n"), &format!("@hv run {a}\n@hv run {a}\n"), "1 case began again"),
        (
            &format!("@hv pass {a}\n"),
            &format!("@hv pass {a}\n@hv fail {a} x\n"),
            "ended without having begun",
        ),
        (&format!("{a}\n"), "clock/invented\n", "1 case is not of this suite: clock/invented"),
        (&format!("{a}\n"), &format!("{other}\n"), "1 cases ran that filter="),
        ("@hv end", "@hv fin", "has no end"),
    ] {
        let text = passed().replace(from, to);
        assert_ne!(text, passed(), "{from}");
        let report = Report::from_console(&text);
        let problems = &report.runs[0].problems;
        assert!(problems.iter().any(|found| found.contains(problem)), "{from} -> {to}: {problems:?}");
        assert!(!report.conforms(), "{from} -> {to}");
    }
}

/// Checks that a run with one invented case does not conform, even if it passed.
#[test]
fn an_invented_case_is_no_conformance() {
    let text = "@hv begin 2 cases=1 vps=1 conduit=smccc granule=4096 filter=a/b\n@hv run a/b\n@hv pass a/b\n\
                @hv end passed=1 failed=0 skipped=0\n";
    assert!(!Report::from_console(text).conforms());
    let [a, ..] = names();
    let one = text.replace("a/b", &a).replace(&format!("filter={a}"), "filter=");
    assert!(!Report::from_console(&one).conforms());
}

/// Checks that the size of a report is bounded by the suite and by the text's length.
#[test]
fn a_long_text_makes_no_long_report() {
    let [a, ..] = names();
    let mut text = begin();
    for n in 0..50_000 {
        text.push_str(&format!("@hv run x/{n}\n@hv pass y/{n}\n@hv run {a}\n@hv fail {a} what\n"));
    }
    let report = Report::from_console(&text);
    assert_eq!((report.runs.len(), report.runs[0].results.len()), (1, 1));
    assert!(report.json().len() < 2000, "{}", report.json());
    assert_eq!(report.runs[0].problems[0], "50000 cases are not of this suite, first x/0");

    let report = Report::from_console(&begin().repeat(10_000));
    assert_eq!(report.runs.len(), super::collect::MOST_RUNS + 1);
    assert!(!report.conforms());

    let long = "k=v ".repeat(1 << 18) + &"é".repeat(1 << 18);
    let report = Report::from_console(&format!("@hv begin 2 {long}\n@hv run {long}\n@hv pass {long}\n"));
    assert!(report.json().len() < 8000, "{}", report.json().len());
}

#[test]
fn nothing_is_no_conformance() {
    assert!(!Report::from_console("").conforms());
    assert!(!Report::from_console("@hv end passed=1 failed=0 skipped=0\n").conforms());
    let none = "@hv begin 2 cases=0 vps=1 conduit=smccc granule=4096 filter=none-has-this\n\
                @hv end passed=0 failed=0 skipped=0\n";
    assert!(!Report::from_console(none).conforms());
}

#[test]
fn text_shows_chapters_of_one_run_and_failures_of_all() {
    let one = Report::from_console(&whole()).text();
    let [_, b, _] = names();
    let (chapter, _) = b.split_once('/').unwrap();
    assert!(one.contains(&format!("  {chapter:<20}   1 passed, 1 FAILED, 1 skipped\n")), "{one}");
    let two = Report::from_console(&whole().repeat(2)).text();
    assert!(!two.contains(&format!("\n  {chapter} ")), "{two}");
    assert_eq!(two.matches(&format!("FAILED {b}\n    clock.rs:3")).count(), 2, "{two}");
    assert!(two.contains(
        "skipped: no <clock> #1 (1 case)\n2 runs: 2 passed, 2 failed, 2 skipped; the host does NOT"
    ));
}

#[test]
fn tap_numbers_its_tests_and_escapes_directives() {
    let tap = Report::from_console(&whole()).tap();
    assert!(tap.starts_with("TAP version 13\n1..3\n"), "{tap}");
    let [a, b, c] = names();
    assert!(tap.contains(&format!("\nok 1 - {a}\nnot ok 2 - {b}\n# clock.rs:3")), "{tap}");
    assert!(tap.contains(&format!("\nok 3 - {c} # SKIP no <clock> \\#1\n")), "{tap}");
}

#[test]
fn junit_escapes_what_has_a_meaning_in_xml() {
    let xml = Report::from_console(&whole()).junit();
    assert!(xml.contains("x &lt; y &amp; z"), "{xml}");
    assert!(xml.contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\""), "{xml}");
    assert!(!xml.contains("no <clock>"), "{xml}");
}

/// Checks that an XML parser reads the report, whatever the text, and returns what was said.
#[test]
fn junit_is_xml_whatever_the_text() {
    let all: Vec<char> =
        (0..=u32::from(char::MAX)).filter_map(char::from_u32).filter(|c| *c != '\n').collect();
    let [_, b, c] = names();
    for chars in all.chunks(0x1_0000) {
        let said: String = chars.iter().collect();
        let line = format!("@hv fail {b} {said} end\n@hv run {c}\n");
        let console = whole()
            .replace(&format!("@hv fail {b} clock.rs:3: x < y & z: 0x1, not 0x2\n@hv run {c}\n"), &line);
        let console =
            console.replace("granule=65536", &format!("granule={}", &chars[..64].iter().collect::<String>()));
        let xml = Report::from_console(&console).junit();
        let document = roxmltree::Document::parse(&xml).unwrap_or_else(|error| panic!("{error}"));
        let failure = document.descendants().find(|node| node.has_tag_name("failure")).unwrap();
        let read = failure.attribute("message").unwrap();
        let kept = |c: char| matches!(c, '\t' | '\r' | ' '..='\u{fffd}' | '\u{1_0000}'..);
        let expected: String = chars.iter().map(|&c| if kept(c) { c } else { '\u{fffd}' }).collect();
        assert_eq!(read, format!("{expected} end"));
    }
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
