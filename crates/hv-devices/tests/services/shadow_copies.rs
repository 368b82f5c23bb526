//! Shadow copies.

use crate::guest::{Guest, version};
use hv_devices::Vss;
use hv_devices::ic::{Outcome, Refused};
use hv_devices::vss::OFFER;
use hv_tlfs::vmbus::ic::Status;
use hv_tlfs::vmbus::vss::{Message, NO_AUTO_RECOVERY, Operation};
use zerocopy::{FromBytes, IntoBytes};

fn guest() -> Guest<Vss> {
    Guest::new(Vss::new(), OFFER, version(3, 0), version(5, 0))
}

#[test]
fn freeze_and_thaw_are_asked_one_after_the_other() {
    let guest = guest();
    for operation in [Operation::HOT_BACKUP, Operation::FREEZE, Operation::THAW] {
        guest.with(|device, io| device.ask(io, operation)).unwrap();
        assert_eq!(guest.with(|device, io| device.ask(io, Operation::THAW)), Err(Refused::Busy));
        let request = guest.receive().unwrap();
        let mut message = Message::read_from_bytes(request.body()).unwrap();
        assert_eq!(message.header.operation, operation);
        let flags = if operation == Operation::HOT_BACKUP { NO_AUTO_RECOVERY } else { 0 };
        message.flags = flags;
        guest.answer(&request, Status::SUCCESS, message.as_bytes());
        let outcome = guest.with(|device, _| device.take());
        assert_eq!(outcome, Some((operation, Outcome::Answered(Status::SUCCESS), flags)));
    }
}

#[test]
fn an_answer_without_its_message_is_malformed() {
    let guest = guest();
    guest.with(|device, io| device.ask(io, Operation::FREEZE)).unwrap();
    let request = guest.receive().unwrap();
    guest.answer(&request, Status::SUCCESS, &request.body()[..11]);
    let outcome = guest.with(|device, _| device.take());
    assert_eq!(outcome, Some((Operation::FREEZE, Outcome::Malformed, 0)));
}

#[test]
fn a_freeze_survives_save_and_restore() {
    let guest = guest();
    guest.with(|device, io| device.ask(io, Operation::FREEZE)).unwrap();
    guest.saved_and_restored();
    let request = guest.receive().unwrap();
    guest.answer(&request, Status::FAIL, request.body());
    guest.saved_and_restored();
    let outcome = guest.with(|device, _| device.take());
    assert_eq!(outcome, Some((Operation::FREEZE, Outcome::Answered(Status::FAIL), 0)));
    guest.hostile_images();
}
