//! Tests of the report.

use zerocopy::FromZeros as _;

use super::*;

#[test]
fn counters_stay_at_their_most() {
    let mut vp = VpReport::new_zeroed();
    vp.fault(Fault::Address, 1, Place::new_zeroed);
    vp.finding(3, 1, Place::new_zeroed);
    for count in [&mut vp.faults[0].count, &mut vp.findings[3].count, &mut vp.faults_lost] {
        *count = u32::MAX - 1;
        one_more(count);
        one_more(count);
        assert_eq!(*count, u32::MAX);
    }
    vp.fault(Fault::Address, 1, Place::new_zeroed);
    vp.finding(3, 1, Place::new_zeroed);
    vp.finding(FINDING_SLOTS, 1, Place::new_zeroed);
    assert_eq!((vp.faults[0].count, vp.findings[3].count, vp.faults_lost), (u32::MAX, u32::MAX, u32::MAX));
}

#[test]
fn calls_and_registers_are_counted_with_their_failures() {
    let mut vp = VpReport::new_zeroed();
    vp.start();
    assert_eq!((vp.started, vp.online, vp.synic.sints), (1, 1, [1 << 16; 16]));
    vp.hypercall(0x5c, 0);
    vp.hypercall(0x5c, 0x13);
    let call = vp.calls.iter().find(|slot| slot.number() == Some(0x5c)).unwrap();
    assert_eq!((call.count, call.failed, call.last_failure), (2, 1, 0x13));
    vp.register_get(RegisterName::SCONTROL.0, true);
    vp.register_set(RegisterName::SCONTROL.0, false);
    let name = Some(RegisterName::SCONTROL.0);
    let register = vp.registers.iter().find(|slot| slot.number() == name).unwrap();
    assert_eq!((register.gets, register.sets, register.failed), (1, 1, 1));
    for (function, result) in [(ARCH_FEATURES, u64::MAX), (0x8400_0050, u64::MAX), (0x8400_0050, 1)] {
        vp.firmware(function, result);
    }
    let unknown = |function| vp.smccc.iter().find(|slot| slot.number() == Some(function)).unwrap().unknown;
    assert_eq!((unknown(ARCH_FEATURES), unknown(0x8400_0050)), (0, 1));
}

#[test]
fn registers_of_the_synic_are_kept_and_no_others() {
    let mut synic = SynicState::default();
    let sint = RegisterName(RegisterName::SINT0.0 + 15);
    for (name, value) in [(RegisterName::SIMP, 1), (RegisterName::SIEFP, 2), (sint, 3)] {
        assert!(SynicState::shows(name));
        synic.remember(name, value);
    }
    assert_eq!((synic.message_page, synic.event_flags_page, synic.sints[15]), (1, 2, 3));
    assert!(SynicState::shows(RegisterName::GUEST_OS_ID));
    assert!(!SynicState::shows(RegisterName::EOM) && !SynicState::shows(RegisterName::STIMER0_CONFIG));
}

#[test]
fn the_last_crash_is_kept() {
    let mut crash = CrashReport::new_zeroed();
    crash.report(1, 3, [7; 5], &[b'x'; CRASH_TEXT_BYTES + 1]);
    assert_eq!((crash.count, crash.text_len), (1, CRASH_TEXT_BYTES as u64));
    crash.report(0, 4, [8; 5], b"again");
    assert_eq!((crash.count, crash.vp, crash.control), (2, 0, 4));
    assert_eq!((&crash.text[..5], crash.text_len), (&b"again"[..], 5));
}

#[test]
fn slots_are_found_again_and_run_out() {
    let mut table = [CallCount::new_zeroed(); 4];
    for code in [0x5c, 0x50, 0x51, 0x5d, 0x5c, 0x50] {
        CallCount::slot(&mut table, code).unwrap().count += 1;
    }
    assert_eq!(CallCount::slot(&mut table, 0x5c).unwrap().count, 2);
    assert_eq!(CallCount::slot(&mut table, 0x51).unwrap().count, 1);
    assert_eq!(CallCount::slot(&mut table, 0x5d).unwrap().order, 4);
    assert!(CallCount::slot(&mut table, 0x99).is_none());
}

#[test]
fn faults_merge_by_kind_and_value() {
    let mut vp = VpReport::new_zeroed();
    vp.fault(Fault::Address, 0x1000, || Place::at(1));
    vp.fault(Fault::Address, 0x1000, || unreachable!("the place of the first one is kept"));
    vp.fault(Fault::Address, 0x2000, || Place::at(3));
    assert_eq!((vp.faults[0].count, vp.faults[0].place.pc), (2, 1));
    assert_eq!(vp.faults[1].value, 0x2000);
}
