//! Time synchronisation.

use crate::guest::{Guest, version};
use hv_devices::TimeSync;
use hv_devices::ic::Refused;
use hv_devices::time_sync::OFFER;
use hv_tlfs::time::FileTime;
use hv_tlfs::vmbus::ic::{MessageType, Status, TimeSync as Old, TimeSyncRef, Version};
use zerocopy::FromBytes;

/// The host's time when the partition began.
const ORIGIN: u64 = FileTime::UNIX_EPOCH.0 + 17_000_000_000_000_000;

fn guest(service: Version) -> Guest<TimeSync> {
    Guest::new(TimeSync::new(FileTime(ORIGIN)), OFFER, version(3, 0), service)
}

/// Takes a message of version 4, answers it, and returns host time, reference time and flags.
fn message(guest: &Guest<TimeSync>) -> Option<(u64, u64, u8)> {
    let request = guest.receive()?;
    assert_eq!(request.header.message_type, MessageType::TIME_SYNC);
    let body = TimeSyncRef::read_from_bytes(request.body()).unwrap();
    guest.answer(&request, Status::SUCCESS, request.body());
    Some((body.parent_time.get(), body.reference_time.get(), body.flags))
}

#[test]
fn the_clock_is_set_once_and_samples_follow_every_five_seconds() {
    let guest = guest(version(4, 0));
    assert_eq!(message(&guest), Some((ORIGIN, 0, 1)));
    guest.at(49_999_999);
    assert_eq!(message(&guest), None);
    for second in [5, 10, 15] {
        let now = second * 10_000_000;
        guest.at(now);
        assert_eq!(message(&guest), Some((ORIGIN + now, now, 2)));
        assert_eq!(message(&guest), None);
    }
}

#[test]
fn a_sample_waits_for_the_answer_to_the_last() {
    let guest = guest(version(4, 0));
    let first = guest.receive().unwrap();
    guest.at(600_000_000);
    assert!(guest.receive().is_none());
    assert_eq!(guest.bus.deadline(), None, "nothing is due while an answer is pending");
    guest.answer(&first, Status::SUCCESS, first.body());
    // What is late is sent once, with the time that it is now.
    assert_eq!(message(&guest), Some((ORIGIN + 600_000_000, 600_000_000, 2)));
    assert_eq!(message(&guest), None);
}

#[test]
fn old_versions_have_no_reference_time() {
    for service in [version(3, 0), version(1, 0)] {
        let guest = guest(service);
        let request = guest.receive().unwrap();
        let body = Old::read_from_bytes(request.body()).unwrap();
        assert_eq!((body.parent_time.get(), body.flags), (ORIGIN, 1));
    }
}

#[test]
fn the_clock_is_set_again_on_demand_and_after_reopening() {
    let guest = guest(version(4, 0));
    message(&guest).unwrap();
    guest.at(10_000_000);
    let other = ORIGIN + 7;
    guest.with(|device, io| {
        device.set_origin(FileTime(other));
        device.sync(io).unwrap();
    });
    assert_eq!(message(&guest), Some((other + 10_000_000, 10_000_000, 1)));
    guest.close();
    assert_eq!(guest.with(|device, io| device.sync(io)), Err(Refused::Closed));
    guest.open();
    guest.choose(&[version(1, 0)], &[version(4, 0)]);
    assert_eq!(message(&guest), Some((other + 10_000_000, 10_000_000, 1)));
}

#[test]
fn time_goes_on_over_save_and_restore() {
    let guest = guest(version(4, 0));
    message(&guest).unwrap();
    guest.at(30_000_000);
    guest.saved_and_restored();
    guest.at(49_000_000);
    assert_eq!(message(&guest), None);
    guest.at(50_000_000);
    assert_eq!(message(&guest), Some((ORIGIN + 50_000_000, 50_000_000, 2)));
    guest.hostile_images();
}
