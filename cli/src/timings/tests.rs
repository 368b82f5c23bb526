use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use zerocopy::FromZeros as _;

use super::*;
use crate::machine::{Accel, End};

const LOG: &str = "[    0.000000] Booting Linux\r\n[    0.100000] one\r\nno time\r\n\
    [    0.350000] \u{1b}[31mtwo\r\n[    0.355000] Run /init as init process\r\n\
    [    0.355001] initcall late+0x0/0x10 returned 0 after 20000 usecs\r\n\
    [    0.355002] initcall slow+0x0/0x10 [hv_utils] returned -19 after 31000 usecs\r\n\
    [    0.355003] initcall fast+0x0/0x10 returned 0 after 12 usecs\r\n[    0.655000] reboot: Power down\r\n";

/// Returns a run of 3 s, whose end was seen after 2.9 s, when the counter stood at 2.5 s.
fn outcome() -> Outcome {
    let mut report = Report::new_box_zeroed().unwrap();
    report.counter_frequency = 1000;
    (report.start_counter, report.end_counter) = (100, 2500);
    Outcome {
        accel: Accel::Tcg,
        end: End::Exited(ExitStatus::from_raw(0)),
        report,
        vps: Vec::new(),
        console: LOG.to_owned(),
        console_dropped: 0,
        console_earlier: 0,
        console_left_out: 0,
        log_failed: None,
        complaints: String::new(),
        over: Some(Duration::from_millis(2900)),
        wall: Duration::from_secs(3),
    }
}

fn parts(outcome: &Outcome, counter: Counter) -> Vec<(String, u64)> {
    machine(outcome, counter).into_iter().map(|part| (part.part.into_owned(), part.ms)).collect()
}

#[test]
fn the_machines_parts_are_its_time() {
    let all = parts(&outcome(), Counter::Wall);
    let expected = [
        ("QEMU's start", 400),
        ("hypervisor's start", 100),
        ("kernel", 2100),
        ("init", 300),
        ("QEMU's end", 100),
    ];
    assert_eq!(all, expected.map(|(name, ms)| (name.to_owned(), ms)));
    let silent = parts(&Outcome { console: String::new(), ..outcome() }, Counter::Wall);
    assert_eq!(silent[2], ("guest".to_owned(), 2400));
    assert_eq!(silent.iter().map(|(_, ms)| ms).sum::<u64>(), 3000);
}

#[test]
fn a_machine_that_cannot_be_divided_is_one_part() {
    let whole = [("machine".to_owned(), 3000)];
    assert_eq!(parts(&outcome(), Counter::Other), whole);
    assert_eq!(parts(&Outcome { over: None, ..outcome() }, Counter::Wall), whole);
    // A counter that is ahead of the wall's clock.
    assert_eq!(parts(&Outcome { over: Some(Duration::from_secs(1)), ..outcome() }, Counter::Wall), whole);
}

#[test]
fn the_kernels_longest_times_are_listed() {
    let log = kernel::Log::new(LOG);
    let gaps: Vec<(u64, String)> = log.gaps().into_iter().map(|gap| (gap.ms, gap.line)).collect();
    let expected = [
        (300, "[    0.655000] reboot: Power down"),
        (250, "[    0.350000] \u{1b}[31mtwo"),
        (100, "[    0.100000] one"),
    ];
    assert_eq!(gaps, expected.map(|(ms, line)| (ms, line.to_owned())));
    let calls: Vec<(u64, String)> =
        kernel::initcalls(LOG).into_iter().map(|call| (call.ms, call.name)).collect();
    assert_eq!(calls, [(31, "slow".to_owned()), (20, "late".to_owned())]);
    assert!(kernel::Log::new("[x] a\n[ 1.5] b\n[99999999999.000000] c\n[").gaps().is_empty());
}

#[test]
fn what_a_machine_printed_before_it_was_saved_is_not_of_this_run() {
    let resumed =
        "[   70.000000] one\r\n[   70.020000] initcall new+0x0/0x10 returned 0 after 15000 usecs\r\n";
    let outcome = Outcome { console: format!("{LOG}{resumed}"), console_earlier: LOG.len(), ..outcome() };
    let timings = Timings::since(Began { at: Instant::now(), age: Duration::ZERO }, &outcome, Counter::Other);
    // Neither a gap of the log before, nor the time between the two runs.
    let gaps: Vec<u64> = timings.gaps.iter().map(|gap| gap.ms).collect();
    let calls: Vec<&str> = timings.initcalls.iter().map(|call| &*call.name).collect();
    assert_eq!((gaps, calls), (vec![20], vec!["new"]));
}

#[test]
fn what_a_guest_prints_is_only_text() {
    let timings = Timings::since(
        Began { at: Instant::now(), age: Duration::from_millis(50) },
        &outcome(),
        Counter::Wall,
    );
    let text = timings.to_string();
    assert!(!text.contains('\u{1b}') && text.contains("two"), "{text}");
    assert!(text.contains(&format!("  {START:<24} {:>6}\n", 50)), "{text}");
}

#[test]
fn the_age_of_a_process_is_since_its_start() {
    let stat = "12 (a) b) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 5000 20";
    assert_eq!(age(stat, "51.25 9.0\n"), Some(Duration::from_millis(1250)));
    assert_eq!(age(stat, "49.0 9.0\n"), None);
    assert_eq!(age("", ""), None);
    assert!(Began::now().age < Duration::from_secs(3600));
}

#[test]
fn a_part_inside_another_is_below_it() {
    part("outer of the test", || part_of("outer of the test", "inner of the test", || ()));
    let parts = PARTS.lock().unwrap();
    let place = |name| parts.iter().position(|part| part.part == name).unwrap();
    assert!(place("outer of the test") < place("inner of the test"));
    assert_eq!(parts[place("inner of the test")].within, Some("outer of the test"));
}
