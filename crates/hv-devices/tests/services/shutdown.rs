//! Shutdown: power off, restart, hibernate.

use crate::guest::{Guest, version};
use hv_devices::ic::{AGREED, IGNORED, Outcome, READY, Refused};
use hv_devices::shutdown::{Action, OFFER, Shutdown};
use hv_tlfs::vmbus::ic::{MessageType, Shutdown as Body, Status, Version};
use zerocopy::FromBytes;

/// What the observer hears of the negotiation.
const AGREED_3_2: (u32, u64) = (AGREED, 3 << 16 | 2);

fn guest(service: Version) -> Guest<Shutdown> {
    Guest::new(Shutdown::new(), OFFER, version(3, 0), service)
}

fn ask(guest: &Guest<Shutdown>, action: Action, force: bool) -> Result<(), Refused> {
    guest.with(|device, io| device.ask(io, action, force))
}

fn take(guest: &Guest<Shutdown>) -> Option<Outcome> {
    guest.with(|device, _| device.take())
}

#[test]
fn each_action_has_its_flags_and_the_whole_message() {
    let cases = [
        (Action::PowerOff, false, 0),
        (Action::PowerOff, true, 1),
        (Action::Restart, false, 2),
        (Action::Restart, true, 3),
        (Action::Hibernate, false, 4),
    ];
    for (action, force, flags) in cases {
        let guest = guest(version(3, 2));
        ask(&guest, action, force).unwrap();
        let request = guest.receive().unwrap();
        assert_eq!(request.header.message_type, MessageType::SHUTDOWN);
        assert_eq!(
            (request.header.framework_version, request.header.message_version),
            (version(3, 0), version(3, 2))
        );
        assert_eq!(request.header.message_size, 2060);
        let body = Body::read_from_bytes(request.body()).unwrap();
        assert_eq!((body.flags, body.reason_code, body.timeout_seconds), (flags, 0, 0));
        assert!(body.display_message.iter().all(|&byte| byte == 0));
        guest.answer(&request, Status::SUCCESS, request.body());
        assert_eq!(take(&guest), Some(Outcome::Answered(Status::SUCCESS)));
        assert_eq!(guest.host.notes.take(), [AGREED_3_2, (READY, 0)]);
    }
}

#[test]
fn old_versions_lack_actions() {
    for (service, restart, hibernate) in [
        (version(1, 0), false, false),
        (version(3, 0), false, false),
        (version(3, 1), true, false),
        (version(3, 2), true, true),
    ] {
        for (action, allowed) in
            [(Action::PowerOff, true), (Action::Restart, restart), (Action::Hibernate, hibernate)]
        {
            let expected = if allowed { Ok(()) } else { Err(Refused::Unsupported) };
            assert_eq!(ask(&guest(service), action, false), expected, "{service:?} {action:?}");
        }
    }
}

#[test]
fn one_request_waits_at_a_time_and_its_outcome_is_taken_once() {
    let guest = guest(version(3, 2));
    ask(&guest, Action::Restart, false).unwrap();
    assert_eq!(ask(&guest, Action::PowerOff, false), Err(Refused::Busy));
    let request = guest.receive().unwrap();
    assert!(guest.receive().is_none());
    guest.answer(&request, Status::FAIL, &[]);
    // The outcome was not taken yet.
    assert_eq!(ask(&guest, Action::PowerOff, false), Err(Refused::Busy));
    assert_eq!(take(&guest), Some(Outcome::Answered(Status::FAIL)));
    assert_eq!(take(&guest), None);
    ask(&guest, Action::PowerOff, false).unwrap();
}

#[test]
fn answers_to_nothing_change_nothing() {
    let guest = guest(version(3, 2));
    ask(&guest, Action::PowerOff, false).unwrap();
    let request = guest.receive().unwrap();
    // Of another kind, and no response.
    let mut other = request;
    other.header.message_type = MessageType::HEARTBEAT;
    guest.answer(&other, Status::SUCCESS, &[]);
    guest.send(&request.header, request.body());
    assert_eq!(take(&guest), None);
    for _ in 0..3 {
        guest.answer(&request, Status::SUCCESS, request.body());
    }
    assert_eq!(take(&guest), Some(Outcome::Answered(Status::SUCCESS)));
    assert_eq!(take(&guest), None);
    let (ignored, notes): (Vec<_>, Vec<_>) =
        guest.host.notes.take().into_iter().partition(|(note, _)| *note == IGNORED);
    assert_eq!(notes, [AGREED_3_2, (READY, 0)]);
    assert_eq!(ignored.len(), 2, "those that are not answers: {ignored:?}");
}

#[test]
fn who_closes_the_channel_has_answered_too() {
    let guest = guest(version(3, 2));
    ask(&guest, Action::PowerOff, false).unwrap();
    guest.close();
    assert_eq!(take(&guest), Some(Outcome::Closed));
    assert_eq!(guest.host.notes.take(), [AGREED_3_2, (READY, Outcome::Closed.number())]);
}

#[test]
fn every_packet_has_an_interrupt_of_its_own() {
    let guest = guest(version(3, 2));
    let mut before = guest.host.interrupts.borrow().len();
    for _ in 0..3 {
        // The guest has not read the last request yet, so the ring is not empty.
        ask(&guest, Action::PowerOff, false).unwrap();
        assert_eq!(guest.host.interrupts.borrow().len(), before + 1);
        let request = guest.receive().unwrap();
        guest.answer(&request, Status::SUCCESS, &[]);
        before = guest.host.interrupts.borrow().len();
        take(&guest);
    }
}

#[test]
fn a_request_survives_save_and_restore() {
    let guest = guest(version(3, 1));
    ask(&guest, Action::Restart, false).unwrap();
    guest.saved_and_restored();
    assert_eq!(ask(&guest, Action::PowerOff, false), Err(Refused::Busy));
    let request = guest.receive().unwrap();
    guest.answer(&request, Status(0x8007_0032), request.body());
    guest.saved_and_restored();
    assert_eq!(take(&guest), Some(Outcome::Answered(Status::NOT_SUPPORTED)));
    assert_eq!(ask(&guest, Action::Hibernate, false), Err(Refused::Unsupported));
    guest.hostile_images();
}
