//! The mouse, with a guest that does what Linux's drivers/hid/hid-hyperv.c does.

use crate::guest::{Guest, Packet, Played, words};
use crate::single::Host;
use hv_devices::ic::{AGREED, IGNORED, Outcome, READY, Refused, State};
use hv_devices::input::EVENTS;
use hv_devices::mouse::{EDGE, Mouse, OFFER, Pointer};
use hv_tlfs::vmbus::PacketType;
use hv_tlfs::vmbus::ic::{Status, Version};
use hv_tlfs::vmbus::mouse::DeviceInfo;
use hv_vmbus::{Io, Never};
use zerocopy::FromBytes;

const DONE: Outcome = Outcome::Answered(Status::SUCCESS);

impl Played for Mouse {
    fn ask(&mut self, io: &mut Io<'_, Host, Never>, many: bool) -> Result<(), Refused> {
        let states = [Pointer::at(1, 2); EVENTS];
        self.point(io, &states[..if many { EVENTS } else { 1 }])
    }

    fn outcome(&mut self) -> Option<Outcome> {
        self.take()
    }
}

/// Builds a message after its pipe header, of this length.
fn message(message: &[u32], bytes: u32) -> Vec<u8> {
    words(&[&[1, bytes], message].concat())
}

/// Returns the message in a packet, without the padding.
fn of(packet: &Packet) -> &[u8] {
    assert_eq!((packet.kind, &packet.payload[..4]), (PacketType::DATA_IN_BAND, &[1, 0, 0, 0][..]));
    let len = u32::from_le_bytes(packet.payload[4..8].try_into().unwrap()) as usize;
    &packet.payload[8..8 + len]
}

fn opened() -> Guest<Mouse> {
    Guest::opened(Mouse::new(), OFFER)
}

fn state(guest: &Guest<Mouse>) -> State {
    guest.with(|device, _| device.state())
}

fn point(guest: &Guest<Mouse>, states: &[Pointer]) -> Result<(), Refused> {
    guest.with(|device, io| device.point(io, states))
}

/// Creates a guest whose driver takes reports.
fn ready() -> Guest<Mouse> {
    let guest = opened();
    guest.say(7, &message(&[0, 4, 0x2_0000], 12));
    guest.receive_all();
    guest.say(8, &message(&[3, 1, 0], 9));
    guest.receive_all();
    guest
}

#[test]
fn the_device_is_described_before_there_are_reports() {
    let guest = opened();
    guest.say(7, &message(&[0, 4, 0x2_0000], 12));
    let answers = guest.receive_all();
    assert_eq!((answers.len(), answers[0].kind, answers[0].id), (3, PacketType::COMPLETION, 7));
    assert_eq!(of(&answers[1]), [&words(&[1, 5, 0x2_0000])[..], &[1]].concat());
    let (info, report) = DeviceInfo::read_from_prefix(of(&answers[2])).unwrap();
    assert_eq!((info.header.message_type.get(), info.header.size.get() as usize), (2, 41 + report.len()));
    assert_eq!((info.attributes.size.get(), info.attributes.vendor.get()), (32, 0x045e));
    assert_eq!(info.attributes.product.get(), 0x0621, "Linux binds its driver to this");
    assert_eq!((info.descriptor.length, info.descriptor.report_length.get() as usize), (9, report.len()));
    // Linux overwrites byte 14 of some descriptors, which it does not check to be there.
    assert!(report.len() > 14 && report[14] != 0x25);
    assert_eq!(state(&guest), State::Negotiating);
    assert_eq!(point(&guest, &[Pointer::at(0, 0)]), Err(Refused::Negotiating));
    assert!(guest.host.notes.borrow().is_empty());
    guest.say(8, &message(&[3, 1, 0], 9));
    assert_eq!(guest.receive_all().len(), 1, "its completion");
    let version = Version { major: 2, minor: 0 };
    assert_eq!(state(&guest), State::Ready { framework: version, version });
    assert_eq!(guest.host.notes.take(), [(AGREED, 2 << 16)]);
}

#[test]
fn reports_have_the_form_that_the_descriptor_says() {
    let guest = opened();
    guest.say(7, &message(&[0, 4, 0x2_0000], 12));
    let answers = guest.receive_all();
    let (_, report) = DeviceInfo::read_from_prefix(of(&answers[2])).unwrap();
    // Size and count of each input item.
    let (mut size, mut count, mut bits, mut at) = (0_u32, 0_u32, Vec::new(), 0);
    while at < report.len() {
        let data = [0, 1, 2, 4][usize::from(report[at] & 3)];
        match report[at] & 0xfc {
            0x74 => size = report[at + 1].into(),
            0x94 => count = report[at + 1].into(),
            0x80 => bits.push(size * count),
            _ => {}
        }
        at += 1 + data;
    }
    assert_eq!((at, bits), (report.len(), vec![3, 5, 32, 8]));
    guest.say(8, &message(&[3, 1, 0], 9));
    guest.receive_all();
    let pressed =
        Pointer { buttons: Pointer::LEFT | Pointer::MIDDLE, wheel: -1, ..Pointer::at(0x1234, EDGE) };
    point(&guest, &[pressed, Pointer::at(1, 2)]).unwrap();
    assert_eq!(guest.outcome(), Some(DONE));
    let reports = guest.receive_all();
    assert_eq!(of(&reports[0]), [&words(&[4, 6])[..], &[5, 0x34, 0x12, 0xff, 0x7f, 0xff]].concat());
    assert_eq!(of(&reports[1]), [&words(&[4, 6])[..], &[0, 1, 0, 2, 0, 0]].concat());
    assert_eq!(guest.host.notes.take().last(), Some(&(READY, 0)));
}

#[test]
fn what_is_no_state_of_the_mouse_is_refused() {
    let guest = ready();
    let right = Pointer::at(0, 0);
    for bad in [
        Pointer::at(EDGE + 1, 0),
        Pointer::at(0, EDGE + 1),
        Pointer { buttons: 8, ..right },
        Pointer { wheel: -128, ..right },
    ] {
        assert_eq!(point(&guest, &[right, bad]), Err(Refused::Invalid), "{bad:?}");
    }
    assert!(guest.receive().is_none());
}

#[test]
fn a_refused_version_gets_no_description() {
    let guest = opened();
    guest.say(7, &message(&[0, 4, 0x1_0000], 12));
    let answers = guest.receive_all();
    assert_eq!(answers.len(), 2);
    assert_eq!(of(&answers[1]), [&words(&[1, 5, 0x1_0000])[..], &[0]].concat());
    guest.say(8, &message(&[3, 1, 0], 9));
    assert_eq!(state(&guest), State::Incompatible);
}

#[test]
fn a_mouse_survives_save_and_restore() {
    let guest = opened();
    guest.say(7, &message(&[0, 4, 0x2_0000], 12));
    guest.saved_and_restored();
    guest.receive_all();
    guest.say(8, &message(&[3, 1, 0], 9));
    guest.receive_all();
    let mut handed = 0;
    while guest.outcome().is_some() || handed == 0 {
        point(&guest, &[Pointer::at(3, 4); EVENTS]).unwrap();
        handed += EVENTS;
    }
    guest.saved_and_restored();
    assert_eq!(guest.receive_all().len(), handed);
    assert_eq!(guest.outcome(), Some(DONE));
    guest.hostile_images();
}

#[test]
fn what_the_protocol_does_not_have_is_noted_and_ignored() {
    let guest = ready();
    guest.host.notes.take();
    // No message at all, an unknown one, the host's own, a request without its version.
    for words in [&[][..], &[9, 0], &[1, 5, 0x2_0000, 1], &[4, 0], &[0, 0]] {
        guest.say(9, &message(words, words.len() as u32 * 4));
    }
    assert!(guest.send(PacketType::COMPLETION, 0, 9, &message(&[3, 1, 0], 9)));
    let notes = guest.host.notes.take();
    assert_eq!(notes.len(), 6, "{notes:?}");
    assert!(notes.iter().all(|(note, _)| *note == IGNORED), "{notes:?}");
    point(&guest, &[Pointer::at(1, 2)]).unwrap();
}
