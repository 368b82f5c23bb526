use hv_wire::Trap;

use super::*;
use crate::trace::samples::*;

fn text(kind: TraceKind, values: [u64; 6]) -> String {
    let Decoded { name, fields, .. } = decode(&record(0, 0, kind, values));
    fields.into_iter().fold(name, |line, (name, value)| format!("{line} {name}={value}"))
}

#[test]
fn every_kind_has_a_label_of_its_own() {
    for &kind in TraceKind::ALL {
        assert_ne!(label(kind), UNKNOWN, "{kind:?}");
    }
    let mut all: Vec<_> = labels().collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), TraceKind::ALL.len());
}

#[test]
fn hypercalls_show_how_they_were_made_and_how_they_ended() {
    // Get one register, fast: rep count 1.
    let fast = [0x1_0001_0050, u64::MAX, 0xfe, 0x1_0000_0000, 1, 0];
    assert_eq!(
        text(TraceKind::Hypercall, fast),
        "HVCALL_GET_VP_REGISTERS hvc=1 first=0xffffffffffffffff second=0xfe reps=1 start=0 done=1 \
         status=HV_STATUS_SUCCESS"
    );
    let continued = [0x0003_0010_0000_0050, 0x1000, 0x2000, 0, 0, 1];
    assert!(text(TraceKind::Hypercall, continued).ends_with("reps=16 start=3 done=0 status=continued"));
    assert!(
        text(TraceKind::Hypercall, [0x5c, 0, 0, 18, 1, 0])
            .ends_with("status=HV_STATUS_INVALID_CONNECTION_ID")
    );
}

#[test]
fn registers_show_their_values_and_failures() {
    assert_eq!(
        text(TraceKind::RegisterSet, [1, 0xa_0013, 0x4567_8001, 0, 0, 0]),
        "HV_REGISTER_SIMP of-vp=1 value=0x45678001"
    );
    assert_eq!(
        text(TraceKind::RegisterGet, [0, 0x200, 1, 2, 0, 0]).split_once(' ').unwrap().1,
        "of-vp=0 value=0x1 high=0x2"
    );
    assert!(
        text(TraceKind::RegisterGet, [0, 0x77_7777, 0, 0, 5, 0])
            .ends_with("status=HV_STATUS_INVALID_PARAMETER")
    );
}

#[test]
fn a_payload_is_shown_as_far_as_the_record_has_it() {
    let long = text(TraceKind::MessageDelivered, [0, 2, 1, 200, 1, 0]);
    assert!(
        long.contains("CHANNELMSG_OFFERCHANNEL to-vp=0 sint=2 pending=0 bytes=200 payload=0100"),
        "{long}"
    );
    assert!(long.ends_with(".."));
    let short = text(TraceKind::MessageDelivered, [0, 0x102, 1, 2, 0xffff_beef, 0]);
    assert!(short.ends_with("pending=1 bytes=2 payload=efbe"), "{short}");
    assert!(!short.contains("CHANNELMSG"), "a payload of two bytes has no type: {short}");
}

#[test]
fn vmbus_is_told_from_both_sides() {
    assert_eq!(
        text(TraceKind::Vmbus, [1, 1, 8, 3, 0, 0]),
        "CHANNELMSG_REQUESTOFFERS from-vp=1 bytes=8 payload=0300000000000000"
    );
    let contact = [BusChange::Contact as u64, 0x5_0003, 1, 0, 0, 0];
    assert_eq!(text(TraceKind::Bus, contact), "contact version=5.3 answer=accepted to-vp=0");
    let reason = u64::from_le_bytes(*b"TooShort");
    let rejected = [BusChange::Rejected as u64, 14, reason, 0, 0, 0];
    assert_eq!(
        text(TraceKind::Bus, rejected),
        "message rejected message=CHANNELMSG_INITIATE_CONTACT reason=TooShort"
    );
}

#[test]
fn timers_and_interrupts_say_what_and_why() {
    assert_eq!(text(TraceKind::Timer, [3, 0, 12345, 0, 0, 0]), "timer 3 armed timer=3 due=12345");
    assert_eq!(text(TraceKind::Timer, [0, 2, 100, 130, 0, 0]), "timer 0 expired timer=0 due=100 late=30");
    assert_eq!(text(TraceKind::Interrupt, [1, 18, 0, 2, 0, 0]), "interrupt 18 to-vp=1 cause=message sint=2");
    assert_eq!(text(TraceKind::Interrupt, [1, 5, 3, 0, 0, 0]), "interrupt 5 to-vp=1 cause=ipi");
    assert_eq!(text(TraceKind::Forwarded, [27, 0, 0, 0, 0, 0]), "interrupt 27 (virtual timer)");
}

#[test]
fn exits_show_where_the_guest_was() {
    assert_eq!(
        text(TraceKind::Exit, [Trap::GicMmio as u64, 0x9380_8046, 0x1000, 0x0800_0104, 0, 0]),
        "GIC access esr=0x93808046 pc=0x1000 address=0x8000104"
    );
    assert_eq!(
        text(TraceKind::GicAccess, [0x0800_0104, 0x10, 4, 1, 0, 0]),
        "GICD_ISENABLER access=write address=0x8000104 value=0x10 bytes=4"
    );
}

#[test]
fn a_kind_from_the_future_is_shown_as_it_is() {
    let future = TraceRecord { kind: 999, ..record(0, 0, TraceKind::Enter, [1, 2, 3, 4, 5, 6]) };
    let decoded = decode(&future);
    assert_eq!((decoded.kind, &*decoded.name, decoded.fields.len()), (UNKNOWN, "kind 999", 6));
}

#[test]
fn a_finding_shows_who_called() {
    let shown = text(TraceKind::Finding, [0, 1, 0x1000, 0x2000, 0x3000, 0]);
    assert!(shown.ends_with(" value=0x1 pc=0x1000 caller=0x2000 caller-2=0x3000"), "{shown}");
    assert_eq!(text(TraceKind::FaultInjected, [2, 7, 0, 0, 0, 0]), "rule 2 times=7");
}
