use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::vmbus::{ChannelId, MessageType as BusMessageType, Version};
use hv_trace::{BODY, Cause, Trap};

use super::*;
use crate::trace::samples::*;

fn text(what: What) -> String {
    let Decoded { name, fields, .. } = decode(&what);
    fields.into_iter().fold(name, |line, (name, value)| format!("{line} {name}={value}"))
}

fn call(convention: Convention, control: u64, parameters: [u64; 2], result: u64, retry: bool) -> String {
    let (control, result) = (HypercallInput(control), HypercallOutput(result));
    text(What::Hypercall { convention, retry, control, parameters, result })
}

#[test]
fn hypercalls_show_how_they_were_made_and_how_they_ended() {
    // Get one register, fast: rep count 1.
    assert_eq!(
        call(Convention::Hvc1, 0x1_0001_0050, [u64::MAX, 0xfe], 0x1_0000_0000, false),
        "HVCALL_GET_VP_REGISTERS hvc=1 first=0xffffffffffffffff second=0xfe reps=1 start=0 done=1 \
         status=HV_STATUS_SUCCESS"
    );
    let continued = call(Convention::Smccc, 0x0003_0010_0000_0050, [0x1000, 0x2000], 0, true);
    assert!(continued.ends_with("hvc=0 input=0x1000 output=0x2000 reps=16 start=3 done=0 status=continued"));
    let failed = call(Convention::Hvc1, 0x5c, [0, 0], 18, false);
    assert!(failed.ends_with("status=HV_STATUS_INVALID_CONNECTION_ID"));
}

#[test]
fn registers_show_their_values_and_failures() {
    let status = HvStatus::SUCCESS;
    let set = What::RegisterSet { target: 1, name: RegisterName::SIMP, status, value: [0x4567_8001, 0] };
    assert_eq!(text(set), "HV_REGISTER_SIMP of-vp=1 value=0x45678001");
    let get = What::RegisterGet { target: 0, name: RegisterName(0x200), status, value: [1, 2] };
    assert_eq!(text(get).split_once(' ').unwrap().1, "of-vp=0 value=0x1 high=0x2");
    let status = HvStatus::INVALID_PARAMETER;
    let failed = What::RegisterGet { target: 0, name: RegisterName(0x77_7777), status, value: [0; 2] };
    assert!(text(failed).ends_with("status=HV_STATUS_INVALID_PARAMETER"));
}

#[test]
fn a_payload_is_shown_as_far_as_the_record_has_it() {
    let mut offer = [0; 200];
    offer[0] = 1;
    let long = text(message(0, 2, &offer));
    assert!(
        long.contains("CHANNELMSG_OFFERCHANNEL to-vp=0 sint=2 pending=0 bytes=200 payload=0100"),
        "{long}"
    );
    assert!(long.ends_with(".."));
    let short = text(message(0, 2, &[0xef, 0xbe]));
    assert!(short.ends_with("pending=0 bytes=2 payload=efbe"), "{short}");
    assert!(!short.contains("CHANNELMSG"), "a payload of two bytes has no type: {short}");
}

#[test]
fn vmbus_is_told_from_both_sides() {
    let payload = Payload::new(&[3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        text(What::VmbusMessage { target: 1, from_guest: true, payload }),
        "CHANNELMSG_REQUESTOFFERS from-vp=1 bytes=8 payload=0300000000000000"
    );
    let contact = What::VmbusContact { version: Version(0x5_0003), accepted: true, target: 0 };
    assert_eq!(text(contact), "contact version=5.3 answer=accepted to-vp=0");
    let rejected = What::VmbusRejected {
        message: BusMessageType::INITIATE_CONTACT,
        reason: Payload::text(format_args!("TooShort")),
    };
    assert_eq!(text(rejected), "message rejected message=CHANNELMSG_INITIATE_CONTACT reason=TooShort");
    let ring = What::VmbusRing { channel: ChannelId(3), error: Payload::text(format_args!("Memory")) };
    assert_eq!(text(ring), "ring corrupt channel=3 reason=Memory");
}

#[test]
fn timers_and_interrupts_say_what_and_why() {
    let timer = |timer, change| text(What::Timer { target: 1, timer, change });
    assert_eq!(timer(3, TimerChange::Armed(12345)), "timer 3 armed timer=3 due=12345 of-vp=1");
    assert_eq!(timer(0, TimerChange::Expired(100, 130)), "timer 0 expired timer=0 due=100 late=30 of-vp=1");
    let interrupt = |intid, cause| text(What::Interrupt { target: 1, intid, cause });
    assert_eq!(interrupt(18, Cause::Message(2)), "interrupt 18 to-vp=1 cause=message sint=2");
    assert_eq!(interrupt(5, Cause::Ipi), "interrupt 5 to-vp=1 cause=ipi");
    assert_eq!(text(What::Forwarded { intid: 27 }), "interrupt 27 (virtual timer)");
}

#[test]
fn exits_show_where_the_guest_was() {
    let exit = What::Exit {
        trap: Trap::GicMmio,
        syndrome: 0x9380_8046,
        pc: 0x1000,
        address: 0x0800_0104,
        vectors: 0,
    };
    assert_eq!(text(exit), "GIC access esr=0x93808046 pc=0x1000 address=0x8000104");
    let access = What::GicAccess { address: 0x0800_0104, value: 0x10, bytes: 4, write: true };
    assert_eq!(text(access), "GICD_ISENABLER access=write address=0x8000104 value=0x10 bytes=4");
}

#[test]
fn a_kind_from_the_future_is_shown_as_it_is() {
    let decoded = decode(&What::Unknown { kind: 999, body: [1; BODY] });
    assert_eq!((decoded.kind, &*decoded.name, decoded.fields.len()), (UNKNOWN, "kind 999", 6));
}

#[test]
fn a_finding_shows_who_called() {
    let shown = text(What::Finding { rule: 0, value: 1, pc: 0x1000, callers: [0x2000, 0x3000, 0] });
    assert!(shown.ends_with(" value=0x1 pc=0x1000 caller=0x2000 caller-2=0x3000"), "{shown}");
    assert_eq!(text(What::FaultInjected { rule: 2, times: 7 }), "rule 2 times=7");
}
