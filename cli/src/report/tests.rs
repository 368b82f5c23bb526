use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use hv_tlfs::rules::RULES;
use hv_wire::{CallCount, Counted as _, Fault, Place, RegisterCount, SmcccCount};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::*;
use crate::machine::End;
use crate::symbols::Symbols;
use hv_wire::ExitKind;

fn outcome(exit: ExitKind) -> Outcome {
    let mut report = Report::new_box_zeroed().unwrap();
    report.magic = Report::MAGIC;
    report.exit = exit as u32;
    report.counter_frequency = 62_500_000;
    report.start_counter = 1_000_000;
    report.end_counter = 1_000_000 + 62_500_000 * 3 / 2;
    report.guest_os_id = 0x8100_0006_0c75_0000;
    report.uid_calls = 1;
    report.longest_queue = 1;
    report.vmbus_version = 0x5_0003;
    let device = &mut report.devices[0];
    device.class.copy_from_slice(hv_tlfs::vmbus::guid::SCSI.as_bytes());
    device.instance.copy_from_slice(controller().as_bytes());
    (device.version, device.opened, device.requests, device.errors) = (0x0602, 2, 3, 1);
    device.most_packets = 2;
    (device.packets_in, device.bytes_in, device.packets_out, device.bytes_out) = (5, 320, 5, 320);
    (device.service[1], device.service[3]) = (2, 1);
    let mut first = VpReport::new_box_zeroed().unwrap();
    first.started = 1;
    first.synic.control = 1;
    first.synic.message_page = 0x4567_8001;
    first.synic.event_flags_page = 0x4567_9001;
    first.synic.sints = [1 << 16; 16];
    first.synic.sints[2] = 0x12;
    let second = first.clone();
    for (vp, register, order) in [(0, 0x9_0002, 1), (0, 0x200, 2), (1, 0x9_0003, 1), (0, 0x9_0003, 3)] {
        let vp: &mut VpReport = if vp == 0 { &mut first } else { continue };
        let slot = RegisterCount::slot(&mut vp.registers, register).unwrap();
        (slot.order, slot.gets) = (order, 1);
    }
    first.registers.iter_mut().find(|slot| slot.number() == Some(0x9_0002)).unwrap().sets = 1;
    let mut second = second;
    for (register, order) in [(0xa_0013, 2), (0x9_0003, 1)] {
        let slot = RegisterCount::slot(&mut second.registers, register).unwrap();
        (slot.order, slot.gets) = (order, 1);
    }
    for vp in [&mut first, &mut second] {
        CallCount::slot(&mut vp.calls, 0x5c).unwrap().count = 4;
        CallCount::slot(&mut vp.calls, 0x51).unwrap().count = 7;
    }
    let failing = CallCount::slot(&mut second.calls, 0x5c).unwrap();
    (failing.failed, failing.last_failure) = (3, 18);
    Outcome {
        accel: Accel::Tcg,
        end: End::Exited(ExitStatus::from_raw(0)),
        report,
        vps: vec![first, second],
        console: String::new(),
        console_dropped: 0,
        console_earlier: 0,
        console_left_out: 0,
        log_failed: None,
        complaints: String::new(),
        over: None,
        wall: Duration::from_secs(9),
    }
}

/// Returns the class of the first SCSI controller of a machine on Azure.
fn controller() -> hv_tlfs::vmbus::Guid {
    hv_tlfs::vmbus::Guid::new(0xf8b3_781a, 0x1e82, 0x4818, [0xa1, 0xc3, 0x63, 0xd8, 0x06, 0xec, 0x15, 0xbb])
}

fn known() -> Known {
    Known {
        firmware: Firmware::Acpi,
        symbols: Symbols::default().into(),
        rules: Vec::new(),
        strict: false,
        fails_from: None,
        about: About::default(),
    }
}

fn judged(outcome: &Outcome) -> (&'static str, Exit) {
    let summary = Summary::new(outcome, &known());
    let (word, exit) = (summary.exit, summary.outcome());
    let book = include_str!("../../../docs/src/run.md");
    let row = book.lines().find(|line| line.starts_with(&format!("| {} |", exit as u8)));
    assert!(row.is_some_and(|row| row.ends_with(&format!("| `{word}` |"))), "{word}: the book has {row:?}");
    (word, exit)
}

/// They are memory of the hypervisor's, and the hypervisor may be that of a snapshot.
#[test]
fn reports_of_any_bytes_are_reported() {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        state >> 11
    };
    let mut fill = |bytes: &mut [u8]| {
        let kinds = [next() % 6, next() % 6];
        for word in bytes.as_chunks_mut::<8>().0 {
            let value = match kinds[(next() % 2) as usize] {
                0 => 0,
                1 => u64::MAX,
                2 => next() % 64,
                3 => 1 << (next() % 64),
                4 => next() << 11,
                _ => u64::from_ne_bytes(*word),
            };
            *word = value.to_ne_bytes();
        }
    };
    for _ in 0..500 {
        let mut outcome = outcome(ExitKind::PowerOff);
        fill(outcome.report.as_mut_bytes());
        outcome.report.magic = Report::MAGIC;
        outcome.vps.iter_mut().for_each(|vp| fill(vp.as_mut_bytes()));
        let mut summary = Summary::new(&outcome, &known());
        summary.set_timings(Timings::new(&outcome, crate::timings::Counter::Wall));
        assert!(serde_json::to_string(&summary).is_ok() && !summary.to_string().is_empty());
    }
}

#[test]
fn the_json_has_the_promised_keys() {
    let summary = Summary::new(&outcome(ExitKind::PowerOff), &known());
    let json: serde_json::Value = serde_json::to_value(&summary).unwrap();
    let expected = serde_json::json!({
        "schema": 1,
        "exit": "power-off",
        "exit_code": 0,
        "reason": "the guest powered off",
        "firmware": "acpi",
        "hv_version": env!("CARGO_PKG_VERSION"),
        "vps": 2,
        "guest_os_id":
            {"value": "0x810000060c750000", "vendor": "open source", "os": "Linux", "version": "6.12.117"},
        "detection": "ACPI FADT hypervisor identity",
        "hypercalls": [
            {"code": 0x51, "name": "HVCALL_SET_VP_REGISTERS", "count": 14, "failed": 0, "last_failure": null},
            {"code": 0x5c, "name": "HVCALL_POST_MESSAGE", "count": 8, "failed": 3,
                "last_failure": {"code": 18, "name": "HV_STATUS_INVALID_CONNECTION_ID"}},
        ],
        "registers": [
            {"name": "HV_REGISTER_GUEST_OS_ID", "number": 0x9_0002, "gets": 1, "sets": 1, "failed": 0},
            {"name": names::known("register", 0x200), "number": 0x200, "gets": 1, "sets": 0, "failed": 0},
            {"name": "HV_REGISTER_VP_INDEX", "number": 0x9_0003, "gets": 2, "sets": 0, "failed": 0},
            {"name": "HV_REGISTER_SIMP", "number": 0xa_0013, "gets": 1, "sets": 0, "failed": 0},
        ],
        "vmbus": {"version": "5.3"},
        "crash": null,
        "warnings": ["HVCALL_POST_MESSAGE failed 3 times, last with HV_STATUS_INVALID_CONNECTION_ID"],
        "longest_queue": 1,
        "devices": [{
            "name": "SCSI controller",
            "class": "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f",
            "instance": "f8b3781a-1e82-4818-a1c3-63d806ec15bb",
            "version": "6.2",
            "opened": 2,
            "packets_in": 5,
            "bytes_in": 320,
            "packets_out": 5,
            "bytes_out": 320,
            "requests": 3,
            "errors": 1,
            "most_packets_in": 2,
            "service_ns": { "median": 200, "p99": 800 },
        }],
        "run_ms": 1500,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&json[key], value, "{key}");
    }
    assert_eq!(
        json["synic"][1]["sints"],
        serde_json::json!([
            {"sint": 2, "value": "0x12", "intid": 18, "masked": false}
        ])
    );
}

#[test]
fn the_text_says_the_same() {
    let text = Summary::new(&outcome(ExitKind::PowerOff), &known()).to_string();
    let expected = "
report
  exit         power-off after 1500 ms (the guest powered off)
  VPs          2
  detection    ACPI FADT hypervisor identity
  guest OS id  0x810000060c750000 (open source, Linux 6.12.117)
  VMBus        5.3
  device       SCSI controller f8b3781a-1e82-4818-a1c3-63d806ec15bb: version 6.2, channels opened 2, packets 5 in, 5 out, requests 3, errors 1, half done in 0.2 us, 99 % in 0.8 us

  hypercall                                    code    count   failed
  HVCALL_SET_VP_REGISTERS                      0x51       14        0
  HVCALL_POST_MESSAGE                          0x5c        8        3
";
    assert!(text.starts_with(expected), "{text}");
    assert!(
        text.contains("VP 1: off, SCONTROL 0x1, SIMP 0x45678001, SIEFP 0x45679001, SINT2 0x12 (INTID 18)\n")
    );
    assert!(
        text.ends_with("    HVCALL_POST_MESSAGE failed 3 times, last with HV_STATUS_INVALID_CONNECTION_ID\n")
    );
}

#[test]
fn each_end_has_its_name_and_exit_code() {
    assert_eq!(judged(&outcome(ExitKind::PowerOff)), ("power-off", Exit::Success));
    assert_eq!(judged(&outcome(ExitKind::Reset)), ("reset", Exit::Reset));
    assert_eq!(judged(&outcome(ExitKind::Panic)), ("error", Exit::Machine));
    assert_eq!(judged(&outcome(ExitKind::BadBootInfo)), ("error", Exit::Machine));
    assert_eq!(judged(&outcome(ExitKind::AllVpsOff)), ("vps-off", Exit::VpsOff));
    assert_eq!(judged(&outcome(ExitKind::Running)), ("error", Exit::Machine));
    let mut late = outcome(ExitKind::Running);
    late.end = End::Timeout;
    assert_eq!(judged(&late), ("timeout", Exit::Timeout));
    late.end = End::Interrupted;
    assert_eq!(judged(&late), ("interrupted", Exit::Interrupted));
}

#[test]
fn a_crash_wins_over_how_the_machine_was_left() {
    for exit in [ExitKind::PowerOff, ExitKind::Reset, ExitKind::AllVpsOff] {
        let mut crashed = outcome(exit);
        crashed.report.crash.count = 1;
        assert_eq!(judged(&crashed), ("crash", Exit::Crash));
    }
    let mut hung = outcome(ExitKind::Running);
    hung.end = End::Timeout;
    hung.report.crash.count = 1;
    assert_eq!(judged(&hung), ("crash", Exit::Crash));
    let mut panicked = outcome(ExitKind::Panic);
    panicked.report.crash.count = 1;
    assert_eq!(judged(&panicked), ("error", Exit::Machine));
}

#[test]
fn crash_data_is_shown_and_cannot_drive_the_terminal() {
    let mut crashed = outcome(ExitKind::Reset);
    let crash = &mut crashed.report.crash;
    (crash.count, crash.vp, crash.control, crash.parameters) = (1, 1, 3 << 62, [1, 2, 3, 4, 5]);
    let text = b"Kernel panic\n\x1b[2Jsysrq";
    crash.text[..text.len()].copy_from_slice(text);
    crash.text_len = text.len() as u64;
    let summary = Summary::new(&crashed, &known());
    let shown = summary.to_string();
    assert!(shown.contains("crash reported by VP 1 with control 0xc000000000000000"), "{shown}");
    assert!(shown.contains("    P4 0x5\n    | Kernel panic\n    | \\u001b[2Jsysrq\n"), "{shown}");
    assert_eq!(serde_json::to_value(&summary).unwrap()["crash"]["parameters"][0], "0x1");
}

#[test]
fn lengths_that_a_broken_report_claims_are_not_believed() {
    let mut broken = outcome(ExitKind::Panic);
    broken.report.log_len = u64::MAX;
    broken.report.crash.count = 1;
    broken.report.crash.text_len = u64::MAX;
    broken.report.counter_frequency = 0;
    broken.report.start_counter = u64::MAX;
    assert_eq!(Summary::new(&broken, &known()).run_ms, None);
    broken.report.exit = 77;
    assert_eq!(judged(&broken), ("error", Exit::Machine));
}

#[test]
fn what_qemu_refuses_is_the_users_error() {
    let mut refused = outcome(ExitKind::Running);
    refused.report.magic = 0;
    refused.end = End::Exited(ExitStatus::from_raw(256));
    refused.complaints = "qemu-system-aarch64: unable to find CPU model 'z80'\n\n".to_owned();
    let summary = Summary::new(&refused, &known());
    assert_eq!(summary.outcome(), Exit::Usage);
    assert_eq!(
        summary.explanation(),
        "QEMU did not start the machine (exit status: 1): qemu-system-aarch64: unable to find CPU model 'z80'"
    );
}

#[test]
fn a_qemu_that_ends_without_a_word_is_told_with_its_status_and_what_to_do() {
    let ended = |magic, status| {
        let mut outcome = outcome(ExitKind::Running);
        outcome.report.magic = magic;
        outcome.end = End::Exited(ExitStatus::from_raw(status));
        outcome.complaints = "\n".to_owned();
        let summary = Summary::new(&outcome, &known());
        assert_eq!(summary.outcome(), Exit::Machine);
        summary.explanation().to_owned()
    };
    let by_hand = "; `--keep DIR` writes its command line to DIR/qemu.txt, to run it by hand";
    assert_eq!(
        ended(0, 256),
        format!("QEMU did not start the machine: it ended without a message (exit status: 1){by_hand}")
    );
    for magic in [0, Report::MAGIC] {
        let killed = ended(magic, 9);
        assert!(killed.contains("signal: 9") && killed.contains("when memory is short"), "{killed}");
        assert!(killed.ends_with(by_hand) && !ended(magic, 11).contains("memory"), "{killed}");
    }
}

#[test]
fn what_kept_the_hypervisor_from_its_work_is_told_with_its_log() {
    let mut refused = outcome(ExitKind::BadBootInfo);
    let log = b"version 1, and this is 2";
    refused.report.log[..log.len()].copy_from_slice(log);
    refused.report.log_len = log.len() as u64;
    let said = trouble(&refused).unwrap();
    assert_eq!(said, "the hypervisor refused to start: version 1, and this is 2");
    assert!(trouble(&outcome(ExitKind::Panic)).is_some());
    for exit in [ExitKind::PowerOff, ExitKind::Reset, ExitKind::AllVpsOff] {
        assert_eq!(trouble(&outcome(exit)), None, "{exit:?}");
    }
}

#[test]
fn what_a_guest_should_not_do_is_a_warning() {
    let mut odd = outcome(ExitKind::PowerOff);
    for vp in &mut odd.vps {
        vp.fault(Fault::HvcImmediate, 7, || Place::at(0x1000));
        vp.fault(Fault::Address, 0x4020_0000, || Place {
            callers: [0x3000, 0x4000, 0, 0, 0, 0, 0, 0],
            ..Place::at(0x2000)
        });
        let call = SmcccCount::slot(&mut vp.smccc, 0x8400_0050).unwrap();
        (call.count, call.unknown) = (1, 1);
    }
    let warnings = Summary::new(&odd, &known()).warnings;
    for expected in [
        "hvc #7, which is undefined, 2 times, first at PC 0x1000",
        "access to address 0x40200000, where nothing exists, 2 times, first at PC 0x2000, called from 0x3000, 0x4000",
        "SMCCC function 0x84000050 (TRNG_VERSION) answered NOT_SUPPORTED 2 times",
    ] {
        assert!(warnings.iter().any(|warning| warning == expected), "{expected}: {warnings:?}");
    }
}

#[test]
fn detection_is_by_the_uid_only_with_a_device_tree() {
    let mut found = outcome(ExitKind::PowerOff);
    assert_eq!(
        Summary::new(&found, &Known { firmware: Firmware::DeviceTree, ..known() }).detection,
        "SMCCC vendor hypervisor UID"
    );
    assert_eq!(Summary::new(&found, &known()).detection, "ACPI FADT hypervisor identity");
    found.report.guest_os_id = 0;
    assert_eq!(Summary::new(&found, &known()).detection, "none");
}

#[test]
fn a_rule_of_a_plan_says_how_often_it_fired() {
    let mut ran = outcome(ExitKind::PowerOff);
    ran.report.rules_fired[..3].copy_from_slice(&[3, 0, 1]);
    let rules = ["lost=18", "migrate@50ms", "again@1"].map(str::to_owned).to_vec();
    let summary = Summary::new(&ran, &Known { rules, ..known() });
    let text = summary.to_string();
    let expected = "
  injected faults
    lost=18: fired 3 times
    migrate@50ms: NEVER FIRED
    again@1: fired once
";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("    the fault migrate@50ms NEVER FIRED: nothing was tried\n"), "{text}");
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["faults"][0], serde_json::json!({"rule": "lost=18", "fired": 3}));
    assert_eq!(json["faults"].as_array().unwrap().len(), 3);
}

#[test]
fn a_broken_rule_is_a_failure_from_the_level_that_was_given() {
    // The first rule of each severity.
    let rule = |severity| RULES.iter().position(|rule| rule.severity == severity).unwrap();
    let exit = |exit, end, broken: Severity, fails_from| {
        let mut ran = outcome(exit);
        ran.end = end;
        ran.vps[1].finding(rule(broken), 1, || Place::at(2));
        let summary = Summary::new(&ran, &Known { fails_from, ..known() });
        (summary.outcome(), summary.exit)
    };
    let ended = End::Exited(ExitStatus::from_raw(0));
    for (fails_from, failing) in [
        (None, &[][..]),
        (Some(Severity::Error), &[Severity::Error][..]),
        (Some(Severity::Warning), &[Severity::Error, Severity::Warning]),
        (Some(Severity::Note), &[Severity::Error, Severity::Warning, Severity::Note]),
    ] {
        for broken in [Severity::Error, Severity::Warning, Severity::Note] {
            let code = if failing.contains(&broken) { Exit::Strict } else { Exit::Success };
            assert_eq!(exit(ExitKind::PowerOff, ended, broken, fails_from), (code, "power-off"));
        }
    }
    let failing = Some(Severity::Note);
    let note = Severity::Note;
    assert_eq!(exit(ExitKind::Reset, ended, note, failing), (Exit::Strict, "reset"));
    assert_eq!(exit(ExitKind::Running, End::Timeout, note, failing), (Exit::Strict, "timeout"));
    assert_eq!(exit(ExitKind::Running, End::Interrupted, note, failing).0, Exit::Interrupted);
    assert_eq!(exit(ExitKind::Panic, ended, note, failing).0, Exit::Machine);
    let clean = Summary::new(&outcome(ExitKind::PowerOff), &Known { fails_from: failing, ..known() });
    assert_eq!(clean.outcome(), Exit::Success);
}

#[test]
fn a_strict_run_says_how_many_rules_were_checked_and_broken() {
    let mut ran = outcome(ExitKind::PowerOff);
    let summary = |ran: &Outcome, strict| Summary::new(ran, &Known { strict, ..known() });
    let of = |summary: &Summary| serde_json::to_value(summary).unwrap()["rules"].clone();
    let (rules, plain) = (RULES.len(), summary(&ran, false));
    assert!(!plain.to_string().contains("rules ") && of(&plain).is_null(), "{plain}");
    let clean = summary(&ran, true);
    assert!(
        clean.to_string().contains(&format!("\n  rules        {rules} checked, none broken\n")),
        "{clean}"
    );
    assert_eq!(of(&clean), serde_json::json!({"checked": rules, "broken": 0}));
    for rule in [3, 3, 5] {
        ran.vps[1].finding(rule, 1, || Place::at(2));
    }
    let broken = summary(&ran, true);
    assert!(broken.to_string().contains(&format!("{rules} checked, 2 broken\n")), "{broken}");
    assert_eq!(of(&broken), serde_json::json!({"checked": rules, "broken": 2}));
}

#[test]
fn a_run_that_never_began_took_no_time() {
    let mut refused = outcome(ExitKind::BadBootInfo);
    refused.report.start_counter = 0;
    assert_eq!(Summary::new(&refused, &known()).run_ms, None);
}
