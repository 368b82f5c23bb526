//! A device that sends of itself, and takes the guest's completions.

use crate::common::{
    GuestPacket, GuestRing, Lock, PAGES, SPLIT, TestPort, close, contact, gpadl, header, open,
};
use hv_vmbus::protocol::{
    FeatureFlags, Guid, MessageType, OpenChannelFlags, OpenChannelSignal, OpenResult, PacketType, Version,
};
use hv_vmbus::{
    Backend, Bus, Channel, Config, Device, Event, Io, Message, Never, Packet, Refused, SendError, Slot, Taken,
};
use zerocopy::IntoBytes;

/// Device that fills its ring, sends two packets, waits for room, or breaks down, as the first byte of a packet says.
#[derive(Debug, Default)]
struct Chatty<const EACH: bool> {
    sent: u64,
    full: u32,
    rooms: Vec<usize>,
    completed: Vec<u64>,
    taken: u32,
    corrupt: Vec<usize>,
}

const FILL: u8 = 1;
const FAULT: u8 = 2;
const TWICE: u8 = 3;
const AWAIT: u8 = 4;

impl<const EACH: bool> Chatty<EACH> {
    fn send<P: Backend<Never>>(&mut self, io: &mut Io<'_, P, Never>) -> Result<(), SendError> {
        let message = Message { transaction: self.sent + 100, wants_completion: true };
        io.send(Channel::PRIMARY, message, &[5; 1000])?;
        self.sent += 1;
        Ok(())
    }
}

impl<const EACH: bool> Device for Chatty<EACH> {
    type Request = Never;

    const NAME: [u8; 4] = *b"chat";
    const SIGNAL_EACH: bool = EACH;

    fn packet<P: Backend<Never>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) -> Taken {
        self.taken += 1;
        if packet.kind() == PacketType::COMPLETION {
            self.completed.push(packet.transaction());
            return Taken::Done;
        }
        let bytes: [u8; 8] = packet.take().unwrap_or_default();
        match bytes[0] {
            FILL => {
                while self.send(io).is_ok() {}
                assert_eq!(self.send(io), Err(SendError::Full));
                self.full += 1;
            }
            TWICE => {
                self.send(io).unwrap();
                self.send(io).unwrap();
            }
            AWAIT => assert!(!io.await_room(Channel::PRIMARY, 1000)),
            FAULT => return Taken::Fault,
            _ => {}
        }
        Taken::Done
    }

    fn room<P: Backend<Never>>(&mut self, channel: Channel, io: &mut Io<'_, P, Never>) {
        self.rooms.push(channel.index());
        self.send(io).unwrap();
    }

    fn corrupt<P: Backend<Never>>(&mut self, channel: Channel, _: &mut Io<'_, P, Never>) {
        self.corrupt.push(channel.index());
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

type Devices<const EACH: bool> = [Slot<Lock, Chatty<EACH>>; 2];

struct Guest<const EACH: bool> {
    bus: Bus<Lock, Devices<EACH>>,
    port: TestPort,
    out: GuestRing,
    back: GuestRing,
}

impl<const EACH: bool> Guest<EACH> {
    fn new() -> Self {
        let mut guest = Self::connected(contact(Version::V5_3).as_bytes());
        guest.post(open(1, 9, 1, SPLIT).as_bytes());
        guest.port.take();
        guest
    }

    /// Creates a guest with rings that are not open yet.
    fn connected(contact: &[u8]) -> Self {
        let slot = |n| {
            let id = Guid::new(n, 0, 0, [0; 8]);
            Slot::offering(Chatty::default(), hv_vmbus::offer(id, id))
        };
        let (out, back) = PAGES.split_at(SPLIT as usize);
        let bus = Bus::new(Config::DEFAULT, [slot(1), slot(2)]);
        let mut guest =
            Self { bus, port: TestPort::new(), out: GuestRing::new(out), back: GuestRing::new(back) };
        guest.post(contact);
        guest.post(header(MessageType::REQUEST_OFFERS).as_bytes());
        gpadl(1, 9, &PAGES).iter().for_each(|message| guest.post(message));
        guest.port.take();
        guest
    }

    fn post(&mut self, message: &[u8]) {
        self.bus.message(4, message, &self.port).unwrap();
    }

    fn send(&mut self, kind: u16, id: u64, command: u8) {
        let packet = GuestPacket { kind, flags: 0, transaction: id, payload: vec![command; 8] };
        self.out.send(&self.port.memory, &packet).expect("the ring has room");
        self.bus.signal(0x2001, &self.port).unwrap();
    }

    fn state<T>(&self, look: impl FnOnce(&mut Chatty<EACH>) -> T) -> T {
        self.bus.with(&self.bus.devices()[0], &self.port, |device, _| look(device)).unwrap()
    }
}

#[test]
fn a_sender_that_found_the_ring_full_is_told_of_room_once() {
    let mut guest = Guest::<false>::new();
    guest.send(6, 1, FILL);
    let sent = guest.state(|device| (device.full, device.sent)).1;
    assert!(sent > 10);
    assert!(guest.state(|device| device.rooms.is_empty()));
    let (packet, signal) = guest.back.receive(&guest.port.memory).unwrap();
    assert_eq!((packet.kind, packet.flags, packet.transaction), (6, 1, 100));
    assert!(signal, "the guest was asked for a signal");
    guest.bus.signal(0x2001, &guest.port).unwrap();
    assert_eq!(guest.state(|device| (device.rooms.clone(), device.sent)), (vec![0], sent + 1));
    let mut next = 101;
    while let Some((packet, _)) = guest.back.receive(&guest.port.memory) {
        assert_eq!(packet.transaction, next);
        next += 1;
    }
    guest.bus.signal(0x2001, &guest.port).unwrap();
    assert_eq!(next, 100 + sent + 1);
    assert_eq!(guest.state(|device| device.rooms.len()), 1, "once for each time that it was full");
}

#[test]
fn a_guest_that_forgets_the_signal_for_room_is_looked_at_again() {
    let mut guest = Guest::<false>::new();
    guest.send(6, 1, FILL);
    let due = guest.bus.deadline().expect("a full ring is looked at later");
    guest.back.receive(&guest.port.memory).unwrap();
    guest.port.time = due.ticks();
    guest.bus.flush(&guest.port);
    assert_eq!(guest.state(|device| device.rooms.clone()), [0]);
}

#[test]
fn a_device_that_waits_for_room_is_told_that_the_ring_is_corrupt() {
    for signals in [true, false] {
        let mut guest = Guest::<false>::new();
        guest.back.set_word(&guest.port.memory, 4, 3);
        guest.send(6, 1, AWAIT);
        assert_eq!(guest.state(|device| device.corrupt.len()), 0);
        if signals {
            guest.bus.signal(0x2001, &guest.port).unwrap();
        } else {
            guest.port.time = guest.bus.deadline().expect("a ring without room is checked later").ticks();
            guest.bus.flush(&guest.port);
        }
        assert_eq!(guest.state(|device| (device.corrupt.clone(), device.rooms.len())), (vec![0], 0));
        assert!(matches!(guest.port.events.get_mut().last(), Some(Event::RingCorrupt { .. })));
        assert_eq!(guest.bus.deadline(), None);
    }
}

#[test]
fn completions_of_the_guest_reach_the_device_by_their_transaction() {
    let mut guest = Guest::<false>::new();
    guest.send(6, 1, TWICE);
    guest.send(11, 101, 0);
    guest.send(11, 100, 0);
    // A number that the host has not given is the device's to judge.
    guest.send(11, 0xffff_8000_0000_1000, 0);
    assert_eq!(guest.state(|device| device.completed.clone()), [101, 100, 0xffff_8000_0000_1000]);
}

#[test]
fn only_a_device_that_wants_it_interrupts_for_each_packet() {
    let interrupts = |mut port: TestPort| port.interrupts.get_mut().len();
    let mut first = Guest::<false>::new();
    first.send(6, 1, TWICE);
    first.send(6, 2, TWICE);
    assert_eq!(interrupts(first.port), 1, "for the first packet in an empty ring");
    let mut each = Guest::<true>::new();
    each.send(6, 1, TWICE);
    each.send(6, 2, TWICE);
    assert_eq!(interrupts(each.port), 2, "one at each call in which packets were sent");
}

#[test]
fn a_fault_ends_the_channels_service_until_it_is_opened_anew() {
    let mut guest = Guest::<false>::new();
    guest.send(6, 1, FAULT);
    assert!(matches!(guest.port.events.get_mut().last(), Some(Event::Fault { .. })));
    guest.send(6, 2, TWICE);
    assert_eq!(guest.state(|device| (device.taken, device.sent)), (1, 0));
    assert_eq!(guest.bus.deadline(), None);
    guest.post(close(1).as_bytes());
    for ring in [&guest.out, &guest.back] {
        [0, 4, 8, 12].iter().for_each(|word| ring.set_word(&guest.port.memory, *word, 0));
    }
    guest.post(open(1, 9, 1, SPLIT).as_bytes());
    guest.send(6, 3, TWICE);
    assert_eq!(guest.state(|device| (device.taken, device.sent)), (2, 2));
}

#[test]
fn connections_that_the_guest_chooses_lead_to_the_device_that_it_opened() {
    let feature = FeatureFlags(0).with_guest_specified_signal(true);
    let mut guest = Guest::<false>::connected(crate::common::contact_with(feature).as_bytes());
    let second: Vec<u64> = (0xa0..0xa4).collect();
    gpadl(2, 30, &second).iter().for_each(|message| guest.post(message));
    let flags = OpenChannelFlags(0);
    // The second device's own number as the first one's choice, and the reverse.
    let opens = [(open(1, 9, 1, SPLIT), 0x2002), (open(2, 30, 1, 2), 0x2001)];
    guest.port.take();
    for (open, connection) in opens {
        guest.post(OpenChannelSignal { open, connection, event_flag: 7, flags }.as_bytes());
        let status = guest.port.one().message::<OpenResult>().status;
        assert_eq!(status, hv_vmbus::protocol::NtStatus::SUCCESS);
    }
    let packet = GuestPacket { kind: 6, flags: 0, transaction: 1, payload: vec![TWICE; 8] };
    guest.out.send(&guest.port.memory, &packet).unwrap();
    assert_eq!(guest.bus.signal(0x2001, &guest.port), Ok(()));
    assert_eq!(guest.state(|device| device.taken), 0, "0x2001 is the second device's");
    assert_eq!(guest.bus.signal(0x2002, &guest.port), Ok(()));
    assert_eq!(guest.state(|device| device.taken), 1);
    assert_eq!(guest.bus.signal(0x77, &guest.port), Err(Refused::NoConnection));
    guest.post(close(1).as_bytes());
    assert_eq!(guest.bus.signal(0x2002, &guest.port), Err(Refused::NoConnection));
}
