//! The keyboard, with a guest that does what Linux's drivers/input/serio/hyperv-keyboard.c does.

use crate::guest::{Guest, Packet, Played, RING, words};
use crate::single::Host;
use hv_devices::ic::{AGREED, IGNORED, Outcome, READY, Refused, State};
use hv_devices::input::EVENTS;
use hv_devices::keyboard::{Key, Keyboard, OFFER};
use hv_memory::save::Reader;
use hv_tlfs::vmbus::PacketType;
use hv_tlfs::vmbus::ic::{Status, Version};
use hv_tlfs::vmbus::keyboard::{PREFIX_E0, RELEASED};
use hv_vmbus::{Device, Io, Never};
use zerocopy::IntoBytes;

/// Address of Linux's request, which is its id.
const ID: u64 = 0xffff_8000_1234_5678;
const DONE: Outcome = Outcome::Answered(Status::SUCCESS);
const AGREED_1_0: (u32, u64) = (AGREED, 1 << 16);

impl Played for Keyboard {
    fn ask(&mut self, io: &mut Io<'_, Host, Never>, many: bool) -> Result<(), Refused> {
        let keys = [Key::press(0x1e); EVENTS];
        self.press(io, &keys[..if many { EVENTS } else { 1 }])
    }

    fn outcome(&mut self) -> Option<Outcome> {
        self.take()
    }
}

fn opened() -> Guest<Keyboard> {
    Guest::opened(Keyboard::new(), OFFER)
}

/// Creates a guest whose driver takes keys.
pub(crate) fn ready() -> Guest<Keyboard> {
    let guest = opened();
    guest.say(ID, &words(&[1, 0x1_0000]));
    guest.receive_all();
    assert!(matches!(state(&guest), State::Ready { .. }));
    guest
}

fn state(guest: &Guest<Keyboard>) -> State {
    guest.with(|device, _| device.state())
}

fn press(guest: &Guest<Keyboard>, keys: &[Key]) -> Result<(), Refused> {
    guest.with(|device, io| device.press(io, keys))
}

/// Decodes a key as Linux does: prefix, code, and whether it is released.
fn key(packet: &Packet) -> (u16, bool, bool) {
    let Packet { kind, payload, .. } = packet;
    assert_eq!((*kind, payload.len()), (PacketType::DATA_IN_BAND, 16), "rounded up");
    assert_eq!((&payload[..4], &payload[6..8]), (&[3, 0, 0, 0][..], &[0; 2][..]));
    let flags = u32::from_le_bytes(payload[8..12].try_into().unwrap());
    (u16::from_le_bytes([payload[4], payload[5]]), flags & PREFIX_E0 != 0, flags & RELEASED != 0)
}

#[test]
fn the_version_is_answered_in_band_and_the_request_completed() {
    let guest = opened();
    assert_eq!(state(&guest), State::Negotiating);
    guest.say(ID, &words(&[1, 0x1_0000]));
    let completion = Packet { kind: PacketType::COMPLETION, id: ID, payload: Vec::new() };
    let response = Packet { kind: PacketType::DATA_IN_BAND, id: 0, payload: words(&[2, 1]) };
    assert_eq!(guest.receive_all(), [completion, response]);
    let version = Version { major: 1, minor: 0 };
    assert_eq!(state(&guest), State::Ready { framework: version, version });
    assert_eq!(guest.host.notes.take(), [AGREED_1_0]);
}

#[test]
fn other_versions_are_refused_and_another_may_be_asked_for() {
    for refuses in [false, true] {
        let guest = opened();
        guest.host.refuses.set(refuses);
        guest.say(ID, &words(&[1, if refuses { 0x1_0000 } else { 0x2_0000 }]));
        assert_eq!(guest.receive_all()[1].payload, words(&[2, 0]));
        assert_eq!(state(&guest), State::Incompatible);
        assert_eq!(press(&guest, &[Key::press(1)]), Err(Refused::Incompatible));
        guest.host.refuses.set(false);
        guest.say(ID + 8, &words(&[1, 0x1_0000]));
        assert_eq!(guest.receive_all()[1].payload, words(&[2, 1]));
        press(&guest, &[Key::press(1)]).unwrap();
    }
}

#[test]
fn a_driver_that_wants_no_completion_gets_none() {
    let guest = opened();
    assert!(guest.send(PacketType::DATA_IN_BAND, 0, 0, &words(&[1, 0x1_0000])));
    let answers = guest.receive_all();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].payload, words(&[2, 1]));
}

#[test]
fn what_the_protocol_does_not_have_is_noted_and_ignored() {
    let guest = ready();
    guest.host.notes.take();
    // The lights of its keys, which need no answer.
    guest.say(ID, &words(&[4, 7]));
    assert_eq!(guest.host.notes.take(), []);
    // No message at all, an unknown one, the host's own.
    for message in [&[][..], &[9, 1], &[2, 1], &[3, 0, 0]] {
        guest.say(ID, &words(message));
    }
    assert!(guest.send(PacketType::COMPLETION, 0, ID, &words(&[4, 7])));
    let notes = guest.host.notes.take();
    assert_eq!(notes.len(), 5, "{notes:?}");
    assert!(notes.iter().all(|(note, _)| *note == IGNORED), "{notes:?}");
    press(&guest, &[Key::press(1)]).unwrap();
}

#[test]
fn keys_arrive_in_their_order() {
    let guest = ready();
    let before = guest.host.interrupts.borrow().len();
    let up = |code| Key { code, flags: Key::E0 };
    let keys = [Key::press(0x2a), Key::press(0x1e), Key::release(0x1e), Key::release(0x2a), up(0x48)];
    press(&guest, &keys).unwrap();
    assert_eq!(guest.host.interrupts.borrow().len(), before + 1, "one interrupt for all of them");
    assert_eq!(guest.outcome(), Some(DONE));
    assert_eq!(guest.outcome(), None);
    let got: Vec<_> = guest.receive_all().iter().map(key).collect();
    let expected = [
        (0x2a, false, false),
        (0x1e, false, false),
        (0x1e, false, true),
        (0x2a, false, true),
        (0x48, true, false),
    ];
    assert_eq!(got, expected);
    assert_eq!(guest.host.notes.take(), [AGREED_1_0, (READY, 0)]);
}

#[test]
fn what_is_no_key_is_refused() {
    let guest = ready();
    let e0_and_e1 = Key { code: 1, flags: Key::E0 | Key::E1 };
    for bad in
        [Key::press(0), Key::press(0x80), Key { code: 1, flags: 1 }, Key { code: 1, flags: 0x10 }, e0_and_e1]
    {
        assert_eq!(press(&guest, &[Key::press(1), bad]), Err(Refused::Invalid), "{bad:?}");
    }
    assert_eq!(press(&guest, &[]), Err(Refused::Invalid));
    assert_eq!(press(&guest, &[Key::press(1); EVENTS + 1]), Err(Refused::Invalid));
    assert!(guest.receive().is_none());
    press(&guest, &[Key::press(0x7f); EVENTS]).unwrap();
    assert_eq!(guest.receive_all().len(), EVENTS);
}

#[test]
fn keys_need_a_driver() {
    let guest = Guest::before_opening(Keyboard::new(), OFFER);
    assert_eq!(press(&guest, &[Key::press(1)]), Err(Refused::Closed));
    guest.open();
    assert_eq!(press(&guest, &[Key::press(1)]), Err(Refused::Negotiating));
}

#[test]
fn the_next_keys_are_taken_when_the_outcome_of_the_last_was() {
    let guest = ready();
    press(&guest, &[Key::press(1)]).unwrap();
    assert_eq!(press(&guest, &[Key::release(1)]), Err(Refused::Busy));
    assert_eq!(guest.outcome(), Some(DONE));
    press(&guest, &[Key::release(1)]).unwrap();
}

/// Presses keys until the guest's ring is full, and returns how many were handed over.
fn fill(guest: &Guest<Keyboard>) -> usize {
    let mut handed = 0;
    loop {
        press(guest, &[Key::press(1); EVENTS]).unwrap();
        handed += EVENTS;
        if guest.outcome().is_none() {
            return handed;
        }
    }
}

#[test]
fn a_guest_that_does_not_read_has_them_wait_and_gets_them_all() {
    for signals in [true, false] {
        let guest = ready();
        let handed = fill(&guest);
        assert!(handed * 40 > RING as usize && (handed - EVENTS) * 40 < RING as usize, "{handed}");
        assert_eq!(press(&guest, &[Key::press(2)]), Err(Refused::Busy));
        let mut got = 0;
        while got < handed {
            let packet = if signals { guest.receive() } else { guest.receive_quietly() };
            match packet {
                Some(packet) => assert_eq!(key(&packet), (1, false, false)),
                // A guest that forgets to signal is looked at again.
                None => {
                    assert!(!signals);
                    guest.wait(200_000);
                    continue;
                }
            }
            got += 1;
        }
        assert!(guest.receive().is_none());
        assert_eq!(guest.outcome(), Some(DONE));
    }
}

#[test]
fn a_request_waits_for_the_room_that_its_answers_need() {
    for flags in [0, 1] {
        let guest = ready();
        let handed = fill(&guest);
        assert!(guest.send(PacketType::DATA_IN_BAND, flags, ID, &words(&[1, 0x1_0000])));
        // The events' request for room was replaced, and they continue anyway.
        let packets = guest.receive_all();
        let keys = packets.iter().filter(|packet| packet.payload.len() == 16).count();
        assert_eq!((keys, packets.len()), (handed, handed + 1 + usize::from(flags)));
        assert_eq!(guest.outcome(), Some(DONE));
    }
}

#[test]
fn other_messages_change_nothing() {
    let guest = ready();
    guest.say(1, &words(&[4, 7]));
    guest.say(2, &words(&[9, 0]));
    guest.say(3, &[]);
    assert!(guest.send(PacketType::COMPLETION, 0, 5, &words(&[1, 0x2_0000])));
    assert!(guest.send(PacketType::DATA_USING_GPA_DIRECT, 1, 6, &words(&[1, 0x2_0000])));
    let ids: Vec<_> = guest.receive_all().iter().map(|packet| (packet.kind, packet.id)).collect();
    assert_eq!(ids, [1, 2, 3, 6].map(|id| (PacketType::COMPLETION, id)));
    press(&guest, &[Key::press(1)]).unwrap();
}

#[test]
fn who_closes_the_channel_ends_the_keys() {
    let guest = ready();
    fill(&guest);
    guest.close();
    assert_eq!(guest.outcome(), Some(Outcome::Closed));
    assert_eq!(guest.host.notes.take().last(), Some(&(READY, Outcome::Closed.number())));
    guest.open();
    assert_eq!(state(&guest), State::Negotiating);
    guest.say(ID, &words(&[1, 0x1_0000]));
    assert_eq!(guest.receive_all().len(), 2, "keys of the time before are gone");
}

#[test]
fn keys_end_with_a_ring_that_is_corrupt() {
    // It is found as packets are taken, as a signal comes, and as it is looked at again.
    type Breaks = fn(&Guest<Keyboard>);
    let breaks: [Breaks; 3] = [
        |guest| {
            guest.write(false, 0, 3);
            guest.signal();
        },
        |guest| {
            guest.write(true, 1, 3);
            guest.send(PacketType::DATA_IN_BAND, 0, ID, &words(&[1, 0x1_0000]));
        },
        |guest| {
            guest.write(true, 1, 3);
            guest.wait(200_000);
        },
    ];
    for (at, breaks) in breaks.into_iter().enumerate() {
        let guest = ready();
        fill(&guest);
        guest.host.notes.take();
        breaks(&guest);
        assert_eq!(guest.host.notes.take(), [(READY, Outcome::Closed.number())], "{at}");
        assert_eq!(guest.outcome(), Some(Outcome::Closed), "{at}");
    }
}

#[test]
fn nonsense_is_not_restored() {
    const READY: u8 = 3;
    let image = |step: u8, ended: u8, sent: u8, keys: &[Key]| {
        [&[step, ended, sent][..], &(keys.len() as u32).to_le_bytes(), keys.as_bytes()].concat()
    };
    let restore = |image: &[u8]| Keyboard::new().restore(&mut Reader::new(image));
    let keys = [Key::press(1), Key::release(1)];
    for right in [image(READY, 0, 1, &keys), image(READY, 1, 0, &[]), image(0, 2, 0, &[])] {
        assert_eq!(restore(&right), Ok(()), "{right:?}");
    }
    for wrong in [
        image(2, 0, 0, &[]),
        image(5, 0, 0, &[]),
        image(READY, 3, 0, &[]),
        image(READY, 0, 1, &[]),
        image(READY, 0, 2, &keys),
        image(READY, 1, 1, &keys),
        image(1, 0, 1, &keys),
        image(READY, 0, 0, &[Key::press(0)]),
        image(READY, 0, 0, &[Key::press(1); EVENTS + 1]),
    ] {
        assert!(restore(&wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn keys_survive_save_and_restore() {
    let guest = ready();
    let handed = fill(&guest);
    guest.saved_and_restored();
    assert_eq!(press(&guest, &[Key::press(2)]), Err(Refused::Busy));
    assert_eq!(guest.receive_all().len(), handed);
    guest.saved_and_restored();
    assert_eq!(guest.outcome(), Some(DONE));
    fill(&guest);
    guest.hostile_images();
}
