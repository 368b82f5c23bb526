//! A guest with the driver of dynamic memory.

use std::cell::RefCell;
use std::sync::atomic::AtomicU64;

use crate::single::{self, Host, Left, OneBus, Surroundings};
use hv_devices::Balloon;
use hv_devices::balloon::{Discard, OFFER};
use hv_devices::ic::{Outcome, Refused};
use hv_memory::GuestMemory as _;
use hv_memory::testing::Memory;
use hv_tlfs::vmbus::balloon::{BalloonHeader, MessageType, PageRange};
use hv_vmbus::testing::Serve;
use hv_vmbus::{Io, Pages, Started, Token};
use zerocopy::{FromBytes, IntoBytes};

/// Pages of the rings: as many as Linux's driver takes, half of them for each direction.
const RINGS: [u64; 10] = [16, 17, 18, 19, 20, 21, 22, 23, 24, 25];
const SPLIT: usize = 5;
const RING: u32 = (SPLIT as u32 - 1) * 4096;

/// The guest's memory: 64 MiB from the first GiB on.
pub(crate) const FIRST: u64 = 0x4_0000;
pub(crate) const PAGES: u64 = 1 << 14;

thread_local! {
    /// Requests that the back end keeps; `None` while it does each at once.
    static KEPT: RefCell<Option<Vec<Token>>> = const { RefCell::new(None) };
}

impl Serve<Discard> for Surroundings {
    fn start(&self, _: &Memory, token: Token, _: &Discard, _: Pages<'_>) -> Started<()> {
        KEPT.with_borrow_mut(|kept| match kept {
            Some(kept) => {
                kept.push(token);
                Started::Pending
            }
            None => Started::Done(()),
        })
    }
}

/// A guest whose driver has the channel open.
pub(crate) struct Guest {
    pub(crate) bus: OneBus<Balloon, 1>,
    pub(crate) host: Host,
}

/// Allocates the words of a record for the guest's memory.
fn words() -> &'static [AtomicU64] {
    let words: Vec<AtomicU64> = (0..PAGES / 64).map(|_| AtomicU64::new(0)).collect();
    Box::leak(words.into_boxed_slice())
}

impl Guest {
    /// Creates a guest whose driver has opened the channel.
    pub(crate) fn opened() -> Self {
        KEPT.set(None);
        let mut device = Balloon::new();
        device.set_record(words(), FIRST, PAGES);
        let (bus, host) = single::before_opening(device, OFFER);
        let guest = Self { bus, host };
        guest.open();
        guest
    }

    /// Creates a guest whose driver has agreed on a version, and has declared these capabilities.
    pub(crate) fn new(version: u32, capabilities: u64) -> Self {
        let guest = Self::opened();
        guest.negotiate(version, capabilities);
        guest
    }

    pub(crate) fn negotiate(&self, version: u32, capabilities: u64) {
        self.say(MessageType::VERSION_REQUEST, &[u64::from(version)]);
        assert_eq!(self.heard(), (MessageType::VERSION_RESPONSE, vec![1]));
        self.say(MessageType::CAPABILITIES_REPORT, &[capabilities, 0, u64::MAX]);
        assert_eq!(self.heard(), (MessageType::CAPABILITIES_RESPONSE, vec![1]));
    }

    /// Opens the channel, with empty rings.
    pub(crate) fn open(&self) {
        single::open(&self.bus, &self.host, &RINGS, SPLIT);
    }

    pub(crate) fn close(&self) {
        single::close(&self.bus, &self.host);
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Balloon, &mut Io<'_, Host, Discard>) -> T) -> T {
        self.bus.with(self.bus.devices(), &self.host, work).unwrap()
    }

    pub(crate) fn resize(&self, wanted: u64) -> Result<bool, Refused> {
        self.with(|device, io| device.resize(io, wanted))
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.with(|device, _| device.take())
    }

    pub(crate) fn taken(&self) -> u64 {
        self.with(|device, _| device.taken())
    }

    /// Makes the back end keep requests from now on.
    pub(crate) fn keeps(&self) {
        KEPT.set(Some(Vec::new()));
    }

    /// Completes the requests that the back end has. Returns their number.
    pub(crate) fn discarded(&self) -> usize {
        let kept = KEPT.with_borrow_mut(|kept| kept.as_mut().map(std::mem::take)).unwrap_or_default();
        for token in &kept {
            assert_eq!(self.bus.completed(self.bus.devices(), *token, (), &self.host), Ok(()));
        }
        kept.len()
    }

    /// Returns the ranges that the back end is to discard.
    pub(crate) fn discarding(&self) -> Vec<(u64, u32)> {
        self.with(|device, _| {
            device.discarding().iter().map(|range| (range.start(), range.count())).collect()
        })
    }

    fn word(&self, page: u64, offset: u64) -> u32 {
        self.host.memory.load_acquire(page * 4096 + offset).unwrap()
    }

    /// Receives the host's next message.
    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        let ring = RINGS[SPLIT];
        let (write, read) = (self.word(ring, 0), self.word(ring, 4));
        if write == read {
            return None;
        }
        let byte = |at: u32| {
            let mut byte = [0];
            self.host.memory.read((ring + 1) * 4096 + u64::from((read + at) % RING), &mut byte).unwrap();
            byte[0]
        };
        let half = |at: u32| u16::from_le_bytes([byte(at), byte(at + 1)]);
        let (offset, total) = (u32::from(half(2)) * 8, u32::from(half(4)) * 8);
        let bytes: Vec<u8> = (offset..total).map(byte).collect();
        self.host.memory.store_release(ring * 4096 + 4, (read + total + 8) % RING).unwrap();
        assert_eq!(half(0), 6, "it is in-band");
        // The guest may have made room that the device waits for.
        self.bus.signal(0x2001, &self.host).unwrap();
        Some(bytes)
    }

    /// Takes the next message, and returns the words after its header.
    pub(crate) fn heard(&self) -> (MessageType, Vec<u64>) {
        let bytes = self.receive().expect("a message of the host's");
        let (header, rest) = BalloonHeader::read_from_prefix(&bytes).unwrap();
        assert_eq!(usize::from(header.size), bytes.len(), "Linux takes as many bytes as the header says");
        let words = rest.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        (header.message_type, words.collect())
    }

    /// Sends bytes as a packet. Returns false if the ring has no room for it.
    pub(crate) fn send(&self, message: &[u8]) -> bool {
        let payload = [message, &vec![0; message.len().next_multiple_of(8) - message.len()]].concat();
        let mut bytes = Vec::new();
        for half in [6, 2, (16 + payload.len()) as u16 / 8, 0] {
            bytes.extend(half.to_le_bytes());
        }
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(payload);
        let (write, read) = (self.word(RINGS[0], 0), self.word(RINGS[0], 4));
        let used = (write + RING - read) % RING;
        if used + bytes.len() as u32 + 8 >= RING {
            return false;
        }
        bytes.extend((u64::from(write) << 32).to_le_bytes());
        for (at, byte) in bytes.iter().enumerate() {
            let gpa = (RINGS[1] * 4096) + u64::from((write + at as u32) % RING);
            self.host.memory.write(gpa, &[*byte]).unwrap();
        }
        self.host.memory.store_release(RINGS[0] * 4096, (write + bytes.len() as u32) % RING).unwrap();
        self.bus.signal(0x2001, &self.host).unwrap();
        true
    }

    /// Sends a message of these words after its header.
    pub(crate) fn say(&self, message_type: MessageType, words: &[u64]) {
        let size = (size_of::<BalloonHeader>() + words.len() * 8) as u16;
        let header = BalloonHeader { message_type, size, transaction: 77 };
        assert!(self.send(&[header.as_bytes(), words.as_bytes()].concat()));
    }

    /// Gives up ranges of pages.
    pub(crate) fn give_up(&self, ranges: &[(u64, u32)], more: bool) {
        let head = (ranges.len() as u64) << 33 | u64::from(more) << 32;
        let ranges = ranges.iter().map(|(start, count)| range(*start, *count));
        self.say(MessageType::BALLOON_RESPONSE, &[head].into_iter().chain(ranges).collect::<Vec<_>>());
    }

    /// Returns what a run leaves.
    pub(crate) fn left(&self) -> Left {
        single::left(&self.bus, &self.host)
    }

    /// Saves the bus and restores it into itself.
    pub(crate) fn saved_and_restored(&self) {
        single::saved_and_restored(&self.bus, &self.host);
    }

    /// Restores every image that differs from the device's in one byte, or ends before its end.
    pub(crate) fn hostile_images(&self) {
        single::hostile_images(&self.bus, &self.host, 2000);
    }
}

/// Encodes a range.
pub(crate) fn range(start: u64, count: u32) -> u64 {
    PageRange(0).with_start(start).with_count(count).bits()
}
