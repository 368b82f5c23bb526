//! Signals that come while their device is in use.

use crate::common::{GuestPacket, GuestRing, Memory, PAGES, SPLIT, TestPort, contact, gpadl, header, open};
use crate::sample::{OFFER, Op, REQUEST, SUBCHANNELS, Sample, command, sample};
use hv_lock::{FairLock, Wait};
use hv_tlfs::time::ReferenceTime;
use hv_vmbus::protocol::{MessageType, Version};
use hv_vmbus::{Backend, Bus, BusPort, Config, Device, DeviceId, Pages, Posted, Slot, Started, Token};
use std::cell::Cell;
use zerocopy::IntoBytes;

/// Lock that fails the test if a call waits for it: the tests have one thread, so it would wait forever.
struct Impatient;

impl Wait for Impatient {
    fn relax() {
        panic!("a call waits for a lock");
    }
}

type Lock = FairLock<Impatient>;
type Devices = Slot<Lock, Sample, 4, 3, 8>;

/// Pages of a sub-channel's rings, and where the second begins.
const SUB_PAGES: [u64; 8] = [0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7];
const SUB_SPLIT: u32 = 4;

/// A machine with two VPs: one sends a packet, and whenever the device works on one, the other sends one too.
struct TwoVps<'b> {
    port: TestPort,
    bus: &'b Bus<Lock, Devices>,
    /// The rings of the device's channel and sub-channel, from and to the guest.
    rings: [(GuestRing, GuestRing); 2],
    /// Number of requests that the back end has carried out.
    started: Cell<usize>,
    /// The channel to which the other VP sends while the n-th request is carried out.
    other: Cell<fn(usize) -> Option<u32>>,
}

impl BusPort for TwoVps<'_> {
    type Memory = Memory;

    fn memory(&self) -> &Memory {
        &self.port.memory
    }

    fn reference_time(&self) -> ReferenceTime {
        self.port.reference_time()
    }

    fn post(&self, vp: u32, sint: u8, payload: &[u8]) -> Posted {
        self.port.post(vp, sint, payload)
    }

    fn interrupt(&self, vp: u32, sint: u8, flag: u16) {
        self.port.interrupt(vp, sint, flag);
    }

    fn has_vp(&self, vp: u32) -> bool {
        self.port.has_vp(vp)
    }
}

impl Backend<Op> for TwoVps<'_> {
    fn start(&self, _: DeviceId, _: Token, _: &Op, _: Pages<'_>) -> Started<u8> {
        self.started.set(self.started.get() + 1);
        if let Some(channel) = (self.other.get())(self.started.get()) {
            self.send(channel);
        }
        Started::Done(0)
    }
}

impl<'b> TwoVps<'b> {
    /// Creates a guest that has opened the device's channel and a sub-channel.
    fn new(bus: &'b Bus<Lock, Devices>) -> Self {
        let rings = [(&PAGES[..], SPLIT), (&SUB_PAGES, SUB_SPLIT)].map(|(pages, split)| {
            let (out, back) = pages.split_at(split as usize);
            (GuestRing::new(out), GuestRing::new(back))
        });
        let (started, other) = (Cell::new(0), Cell::new((|_| None) as fn(usize) -> Option<u32>));
        let machine = Self { port: TestPort::new(), bus, rings, started, other };
        machine.post(contact(Version::V5_3).as_bytes());
        machine.post(header(MessageType::REQUEST_OFFERS).as_bytes());
        gpadl(1, 9, &PAGES).iter().for_each(|message| machine.post(message));
        machine.post(open(1, 9, 0, SPLIT).as_bytes());
        machine.command(1, command(SUBCHANNELS, 1, 0));
        assert_eq!(machine.answers(1), 1);
        gpadl(2, 30, &SUB_PAGES).iter().for_each(|message| machine.post(message));
        machine.post(open(2, 30, 1, SUB_SPLIT).as_bytes());
        machine
    }

    fn post(&self, message: &[u8]) {
        self.bus.message(4, message, self).unwrap();
    }

    /// Sends a packet that becomes a request.
    fn send(&self, channel: u32) {
        self.command(channel, command(REQUEST, 0, 0));
    }

    fn command(&self, channel: u32, payload: [u8; 8]) {
        let packet = GuestPacket { kind: 6, flags: 1, transaction: 1, payload: payload.to_vec() };
        let (out, _) = &self.rings[channel as usize - 1];
        out.send(&self.port.memory, &packet).expect("the ring has room");
        self.bus.signal(0x2000 | channel, self).unwrap();
    }

    /// Takes the answers from a channel's ring.
    fn answers(&self, channel: u32) -> usize {
        let (_, back) = &self.rings[channel as usize - 1];
        std::iter::from_fn(|| back.receive(&self.port.memory)).count()
    }
}

fn bus() -> Bus<Lock, Devices> {
    Bus::new(Config::DEFAULT, Slot::offering(sample(), hv_vmbus::offer(OFFER, OFFER)))
}

#[test]
fn a_signal_that_finds_its_device_in_use_is_served_by_the_call_that_has_it() {
    let bus = bus();
    let machine = TwoVps::new(&bus);
    // The last one comes while signals that came in between are served.
    machine.other.set(|request| [Some(2), Some(1), Some(2), None][request - 1]);
    machine.send(1);
    assert_eq!(machine.started.get(), 4);
    assert_eq!((machine.answers(1), machine.answers(2)), (2, 2));
    assert_eq!(bus.deadline(), None);
}

#[test]
fn a_call_serves_signals_without_end_only_for_a_while() {
    let bus = bus();
    let machine = TwoVps::new(&bus);
    machine.other.set(|request| Some(if request % 2 == 0 { 1 } else { 2 }));
    machine.send(1);
    // As much as a call does for itself, and as much again.
    let least = 512;
    assert!(machine.started.get() <= 2 * Sample::WORK_LIMIT / least, "{}", machine.started.get());
    let answered = machine.answers(1) + machine.answers(2);
    assert_eq!(answered, machine.started.get());
    assert_eq!(bus.deadline(), Some(ReferenceTime::ZERO), "the rest is due");
    machine.other.set(|_| None);
    bus.flush(&machine);
    assert_eq!((machine.answers(1) + machine.answers(2), machine.started.get()), (1, answered + 1));
    assert_eq!(bus.deadline(), None);
}
