//! A guest whose other VP changes an index of a ring whenever the host looks at it.

use crate::common::{GuestRing, Lock, Memory, PAGES, SPLIT, contact, gpadl, header, memory, offer_of, open};
use hv_devices::any::Any;
use hv_memory::{BadAddress, GuestMemory};
use hv_tlfs::time::ReferenceTime;
use hv_vmbus::protocol::{Guid, MessageType, Version};
use hv_vmbus::{Backend, Bus, BusPort, Config, DeviceId, Never, Pages, Posted, Slot, Started, Token};
use std::cell::Cell;
use zerocopy::IntoBytes;

/// Looks at the index after which the host has looked for too long.
const PATIENCE: usize = 10_000;

/// The partition, and its memory: the ring is empty for the host that takes packets, and has one for the host that
/// looks for more of them.
struct Restless {
    memory: Memory,
    /// Number of looks at the guest's write index since it moves.
    looks: Cell<Option<usize>>,
}

impl GuestMemory for Restless {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), BadAddress> {
        self.memory.read(gpa, buf)
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress> {
        self.memory.write(gpa, data)
    }

    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress> {
        let looks = self.looks.get().filter(|_| gpa == PAGES[0] * 4096);
        let Some(looks) = looks else { return self.memory.load_acquire(gpa) };
        assert!(looks < PATIENCE, "the host looks forever");
        self.looks.set(Some(looks + 1));
        Ok(if looks.is_multiple_of(2) { 0 } else { 64 })
    }

    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        self.memory.store_release(gpa, value)
    }

    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        self.memory.fetch_or(gpa, bits)
    }

    fn swap(&self, gpa: u64, value: u32) -> Result<u32, BadAddress> {
        self.memory.swap(gpa, value)
    }

    fn contains(&self, gpa: u64, len: u64) -> bool {
        self.memory.contains(gpa, len)
    }
}

impl BusPort for Restless {
    type Memory = Self;

    fn memory(&self) -> &Self {
        self
    }

    fn reference_time(&self) -> ReferenceTime {
        ReferenceTime(0)
    }

    fn post(&self, _: u32, _: u8, _: &[u8]) -> Posted {
        Posted::Queued
    }

    fn interrupt(&self, _: u32, _: u8, _: u16) {}

    fn has_vp(&self, _: u32) -> bool {
        true
    }
}

impl Backend<Never> for Restless {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

#[test]
fn an_index_that_moves_with_every_look_ends_a_signal_all_the_same() {
    let offer = offer_of(Guid::ZERO, Guid::ZERO, Any::ECHO);
    let bus: Bus<Lock, [Slot<Lock, Any>; 1]> =
        Bus::new(Config::DEFAULT, [Slot::offering(offer.device, offer.channel)]);
    let port = Restless { memory: memory(1 << 20), looks: Cell::new(None) };
    let post = |message: &[u8]| bus.message(4, message, &port).unwrap();
    post(contact(Version::V5_3).as_bytes());
    post(header(MessageType::REQUEST_OFFERS).as_bytes());
    gpadl(1, 9, &PAGES).iter().for_each(|message| post(message));
    post(open(1, 9, 1, SPLIT).as_bytes());
    assert_eq!(GuestRing::new(&PAGES).word(&port.memory, 0), 0);

    port.looks.set(Some(0));
    bus.signal(0x2001, &port).unwrap();
    assert!(port.looks.get() > Some(3), "a packet that comes in between is looked for");
    assert_eq!(bus.deadline(), Some(ReferenceTime::ZERO), "it will look again later");
}
