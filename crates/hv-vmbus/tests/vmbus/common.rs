//! A guest and a partition for tests: memory, message slots, interrupts and what was observed.

use hv_vmbus::protocol::{FeatureFlags, InitiateContact, MessageHeader, MessageType, TargetInfo, Version};
use hv_vmbus::{BadAddress, Event, Port, Posted, Reason, Refused, RingMemory, Server};
use std::cell::RefCell;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Guest memory from address 0 on.
pub(crate) struct Memory {
    bytes: RefCell<Vec<u8>>,
}

impl Memory {
    pub(crate) fn new(size: usize) -> Self {
        Self { bytes: RefCell::new(vec![0; size]) }
    }

    fn range(&self, gpa: u64, len: usize) -> Result<std::ops::Range<usize>, BadAddress> {
        let start = usize::try_from(gpa).map_err(|_| BadAddress)?;
        let end = start.checked_add(len).ok_or(BadAddress)?;
        if end > self.bytes.borrow().len() { Err(BadAddress) } else { Ok(start..end) }
    }
}

impl RingMemory for Memory {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), BadAddress> {
        assert!(gpa % 4096 + into.len() as u64 <= 4096, "an access crosses a page");
        into.copy_from_slice(&self.bytes.borrow()[self.range(gpa, into.len())?]);
        Ok(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), BadAddress> {
        assert!(gpa % 4096 + from.len() as u64 <= 4096, "an access crosses a page");
        let range = self.range(gpa, from.len())?;
        self.bytes.borrow_mut()[range].copy_from_slice(from);
        Ok(())
    }

    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress> {
        let mut word = [0; 4];
        self.read(gpa, &mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        self.write(gpa, &value.to_le_bytes())
    }
}

/// A message that the guest received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) vp: u32,
    pub(crate) sint: u8,
    pub(crate) payload: Vec<u8>,
}

impl Received {
    pub(crate) fn kind(&self) -> MessageType {
        MessageHeader::read_from_prefix(&self.payload).unwrap().0.message_type
    }

    /// The whole message, which must have exactly this type's length.
    pub(crate) fn message<T: FromBytes>(&self) -> T {
        T::read_from_bytes(&self.payload).expect("the message has another length")
    }
}

/// The partition.
pub(crate) struct TestPort {
    pub(crate) memory: Memory,
    pub(crate) received: Vec<Received>,
    /// How many messages fit; the rest must wait.
    pub(crate) room: usize,
    pub(crate) interrupts: Vec<(u32, u8, u16)>,
    pub(crate) events: Vec<Event>,
    pub(crate) vps: u32,
    pub(crate) time: u64,
}

impl TestPort {
    pub(crate) fn new() -> Self {
        Self {
            memory: Memory::new(1 << 20),
            received: Vec::new(),
            room: usize::MAX,
            interrupts: Vec::new(),
            events: Vec::new(),
            vps: 4,
            time: 0,
        }
    }

    /// Takes the messages that have come.
    pub(crate) fn take(&mut self) -> Vec<Received> {
        std::mem::take(&mut self.received)
    }

    /// Takes the one message that has come.
    pub(crate) fn one(&mut self) -> Received {
        let mut all = self.take();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// Takes the reason for which the last message was rejected.
    pub(crate) fn rejection(&mut self) -> Option<Reason> {
        let reason = self.events.iter().rev().find_map(|e| match e {
            Event::Rejected { reason, .. } => Some(*reason),
            _ => None,
        });
        self.events.clear();
        reason
    }
}

impl Port for TestPort {
    type Memory = Memory;

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn reference_time(&self) -> u64 {
        self.time
    }

    fn post(&mut self, vp: u32, sint: u8, payload: &[u8]) -> Posted {
        assert!(payload.len() <= 240);
        if vp >= self.vps {
            return Posted::Undeliverable;
        }
        if self.received.len() >= self.room {
            return Posted::Full;
        }
        self.received.push(Received { vp, sint, payload: payload.to_vec() });
        Posted::Queued
    }

    fn interrupt(&mut self, vp: u32, sint: u8, flag: u16) {
        self.interrupts.push((vp, sint, flag));
    }

    fn has_vp(&self, vp: u32) -> bool {
        vp < self.vps
    }

    fn observe(&mut self, event: Event) {
        self.events.push(event);
    }
}

/// INITIATE_CONTACT as Linux sends it: target SINT 2, VTL 0, monitor pages given.
pub(crate) fn contact(version: Version) -> InitiateContact {
    let mut contact = InitiateContact::new_zeroed();
    contact.header = MessageHeader::new(MessageType::INITIATE_CONTACT);
    contact.version = version;
    contact.target_info = TargetInfo(0).with_sint(2);
    contact.monitor_page_in = 0x1000;
    contact.monitor_page_out = 0x2000;
    contact
}

/// The same for version 6.0 with features.
pub(crate) fn contact_with(features: FeatureFlags) -> InitiateContact {
    let mut contact = contact(Version::V6_0);
    contact.target_info = contact.target_info.with_features(features);
    contact
}

/// A message of only a header.
pub(crate) fn header(kind: MessageType) -> MessageHeader {
    MessageHeader::new(kind)
}

/// Sends a message on connection 4.
pub(crate) fn send<const C: usize, const G: usize, const W: usize>(
    server: &mut Server<C, G, W>,
    port: &mut TestPort,
    message: &(impl IntoBytes + Immutable),
) {
    assert_eq!(server.message(4, message.as_bytes(), port), Ok::<(), Refused>(()));
}

/// Connects, asks for offers, and returns the channels offered.
pub(crate) fn connect<const C: usize, const G: usize, const W: usize>(
    server: &mut Server<C, G, W>,
    port: &mut TestPort,
    version: Version,
) {
    send(server, port, &contact(version));
    assert_eq!(server.version(), Some(version));
    send(server, port, &header(MessageType::REQUEST_OFFERS));
    port.take();
    port.events.clear();
}
