//! The crash report.

use crate::common::{FREQUENCY, Guest, everywhere, everywhere_on};
use hv_guest::crash::{self, CrashError, CrashReporter, Reported};
use hv_testbed::{Config, Effect, Profile};

const NOTIFY: u64 = 1 << 63;
const MESSAGE: u64 = 1 << 62;

fn only_crash(guest: &Guest) -> (u64, [u64; 5], Vec<u8>) {
    let mut effects = guest.bed.take_effects();
    assert_eq!(effects.len(), 1, "one report: {effects:?}");
    match effects.remove(0) {
        Effect::Crash { control, parameters, text } => (control, parameters, text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn five_numbers_arrive_with_the_notify_bit_alone() {
    everywhere(|guest| {
        let wire = guest.bed.wire(guest.vps - 1, guest.convention);
        assert_eq!(CrashReporter::new().report(&wire, [1, 2, 3, 4, 5]), Ok(Reported::Everything));
        assert_eq!(only_crash(guest), (NOTIFY, [1, 2, 3, 4, 5], vec![]));
    });
}

#[test]
fn a_text_of_any_length_arrives_and_of_a_longer_one_the_end() {
    everywhere(|guest| {
        let page = guest.bed.page();
        let text: Vec<u8> = (0..5000_u32).map(|i| b'a' + (i % 26) as u8).collect();
        for length in [7, 4097, 1, 8, 4095, 4096, 5000].into_iter().take(if cfg!(miri) { 2 } else { 7 }) {
            let reporter = CrashReporter::new();
            let text = &text[..length];
            let wire = guest.bed.wire(0, guest.convention);
            reporter.report_text(&wire, [9, 8, 7], text, page, guest.bed.memory()).unwrap();
            let (control, [p0, p1, p2, _, p4], arrived) = only_crash(guest);
            assert_eq!((control, [p0, p1, p2]), (NOTIFY | MESSAGE, [9, 8, 7]));
            assert_eq!(arrived, &text[length.saturating_sub(4096)..]);
            assert_eq!(p4, arrived.len() as u64);
        }
    });
}

#[test]
fn an_empty_text_is_a_report_all_the_same() {
    everywhere(|guest| {
        let page = guest.bed.page();
        let reporter = CrashReporter::new();
        let result = reporter.report_text(guest.partition, [9, 8, 7], b"", page, guest.bed.memory());
        assert_eq!(result, Ok(Reported::Everything));
        assert_eq!(only_crash(guest), (NOTIFY, [9, 8, 7, 0, 0], vec![]));
    });
}

#[test]
fn there_is_one_report_whoever_comes_second() {
    everywhere(|guest| {
        let reporter = CrashReporter::new();
        let page = guest.bed.page();
        reporter.report(guest.partition, [1; 5]).unwrap();
        for n in 0..guest.vps {
            let wire = guest.bed.wire(n, guest.convention);
            assert_eq!(reporter.report(&wire, [2; 5]), Err(CrashError::Already));
            let text = reporter.report_text(&wire, [2; 3], b"again", page, guest.bed.memory());
            assert_eq!(text, Err(CrashError::Already));
        }
        assert_eq!(only_crash(guest).1, [1; 5]);
    });
}

#[test]
fn a_crash_before_the_guest_has_an_id_is_reported() {
    let bed = hv_testbed::Testbed::new(Config::new(FREQUENCY), 1);
    let wire = bed.wire(0, hv_testbed::Convention::Smccc);
    assert!(crash::capabilities(&wire).unwrap().crash_notify());
    assert_eq!(CrashReporter::new().report(&wire, [1, 2, 3, 4, 5]), Ok(Reported::Everything));
    assert_eq!(bed.take_effects().len(), 1);
}

#[test]
fn a_host_without_crash_registers_gets_no_report() {
    everywhere_on(Config::new(FREQUENCY).with_profile(Profile::MINIMAL), |guest| {
        let reporter = CrashReporter::new();
        for _ in 0..2 {
            let result = reporter.report(guest.partition, [1; 5]);
            assert!(
                matches!(result, Err(CrashError::Unsupported | CrashError::Hypervisor(_))),
                "not `Already`: {result:?}"
            );
        }
        assert_eq!(guest.bed.take_effects(), []);
    });
}
