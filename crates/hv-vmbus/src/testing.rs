//! A partition for tests of devices and fuzz targets, and the messages that every guest sends.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::vec::Vec;

use hv_memory::testing::Memory;
use hv_tlfs::time::ReferenceTime;
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

use crate::protocol::{
    ChannelId, CloseChannel, GpadlHeader, GpadlId, InitiateContact, MessageHeader, MessageType, OpenChannel,
    TargetInfo, Version,
};
use crate::{
    Backend, BusFaults, BusPort, Contents, DeviceId, Event, GuestMemory, Never, Pages, Posted, REQUEST_LIMIT,
    Seen, Started, Token, Work,
};

/// SINT that [`contact`] asks for.
pub const SINT: u8 = 2;

/// Part of a [`Partition`] that is a test's own: what it observes, and the faults that it injects. With [`Serve`] it is
/// the back end of devices.
pub trait Extra: BusFaults {
    /// Is told of an event, after the partition has kept a device's note.
    fn observe(&self, event: Event) {
        let _ = event;
    }

    /// Returns true if [`packet`](Self::packet) has a use for packets.
    fn sees_packets(&self) -> bool {
        false
    }

    /// Is shown a packet.
    fn packet(&self, packet: &Seen<'_>) {
        let _ = packet;
    }

    /// Is shown a part of a packet's data.
    fn contents(&self, contents: &Contents<'_>) {
        let _ = contents;
    }
}

/// Back end of a device in a [`Partition`].
pub trait Serve<W: Work, M = Memory> {
    /// See [`Backend::REQUEST_LIMIT`].
    const REQUEST_LIMIT: u64 = REQUEST_LIMIT;

    /// Starts a request, as in [`Backend::start`].
    fn start(&self, memory: &M, token: Token, request: &W, data: Pages<'_>) -> Started<W::Outcome>;
}

impl<E: Extra, M> Serve<Never, M> for E {
    fn start(&self, _: &M, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

/// Nothing of a test's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl BusFaults for Nothing {
    fn is_planned(&self) -> bool {
        false
    }
}

impl Extra for Nothing {}

/// Partition that keeps what its bus does. Whatever is the test's own is reached as if it were the partition's.
#[derive(Debug)]
pub struct Partition<E = Nothing, M = Memory> {
    /// The guest's memory.
    pub memory: M,
    /// Number of VPs.
    pub vps: u32,
    /// The reference time.
    pub now: Cell<ReferenceTime>,
    /// Number of messages that still fit.
    pub room: Cell<usize>,
    /// Messages to the guest.
    pub posted: RefCell<Vec<Vec<u8>>>,
    /// Event flags of the interrupts.
    pub interrupts: RefCell<Vec<u16>>,
    /// Notes that devices gave the observer: number and value.
    pub notes: RefCell<Vec<(u32, u64)>>,
    extra: E,
}

impl<E, M> Partition<E, M> {
    /// Creates a partition with this memory.
    pub fn new(memory: M, vps: u32, extra: E) -> Self {
        Self {
            memory,
            vps,
            now: Cell::new(ReferenceTime::ZERO),
            room: Cell::new(usize::MAX),
            posted: RefCell::default(),
            interrupts: RefCell::default(),
            notes: RefCell::default(),
            extra,
        }
    }

    /// Takes the messages to the guest, and returns their types.
    ///
    /// # Panics
    ///
    /// If one is shorter than a message's header.
    pub fn mail(&self) -> Vec<MessageType> {
        let header = |message: &Vec<u8>| MessageHeader::read_from_prefix(message).expect("a header").0;
        self.posted.take().iter().map(|message| header(message).message_type).collect()
    }
}

impl<E, M> Deref for Partition<E, M> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.extra
    }
}

impl<E: Extra, M: GuestMemory> BusPort for Partition<E, M> {
    type Memory = M;

    fn memory(&self) -> &M {
        &self.memory
    }

    fn reference_time(&self) -> ReferenceTime {
        self.now.get()
    }

    fn post(&self, vp: u32, sint: u8, payload: &[u8]) -> Posted {
        assert!((8..=240).contains(&payload.len()) && sint < 16, "{} bytes to SINT{sint}", payload.len());
        if vp >= self.vps {
            return Posted::Undeliverable;
        }
        let Some(room) = self.room.get().checked_sub(1) else { return Posted::Full };
        self.room.set(room);
        self.posted.borrow_mut().push(payload.to_vec());
        Posted::Queued
    }

    fn interrupt(&self, vp: u32, sint: u8, flag: u16) {
        assert!(vp < self.vps && sint == SINT && flag < 2048, "flag {flag} of SINT{sint} of VP {vp}");
        self.interrupts.borrow_mut().push(flag);
    }

    fn has_vp(&self, vp: u32) -> bool {
        vp < self.vps
    }

    fn observe(&self, event: Event) {
        if let Event::Device { note, value, .. } = event {
            self.notes.borrow_mut().push((note, value));
        }
        self.extra.observe(event);
    }

    fn faults(&self) -> impl BusFaults {
        &self.extra
    }

    fn sees_packets(&self) -> bool {
        self.extra.sees_packets()
    }

    fn packet(&self, packet: &Seen<'_>) {
        self.extra.packet(packet);
    }

    fn contents(&self, contents: &Contents<'_>) {
        self.extra.contents(contents);
    }
}

impl<E: Extra + Serve<W, M>, M: GuestMemory, W: Work> Backend<W> for Partition<E, M> {
    const REQUEST_LIMIT: u64 = <E as Serve<W, M>>::REQUEST_LIMIT;

    fn start(&self, _: DeviceId, token: Token, request: &W, data: Pages<'_>) -> Started<W::Outcome> {
        self.extra.start(&self.memory, token, request, data)
    }
}

/// Returns INITIATE_CONTACT for version 5.3, with VP 0 and SINT 2.
pub fn contact() -> Vec<u8> {
    let mut contact = InitiateContact::new_zeroed();
    contact.header = MessageHeader::new(MessageType::INITIATE_CONTACT);
    contact.version = Version::V5_3;
    contact.target_info = TargetInfo(0).with_sint(SINT);
    contact.as_bytes().to_vec()
}

/// Returns REQUEST_OFFERS.
pub fn request_offers() -> Vec<u8> {
    MessageHeader::new(MessageType::REQUEST_OFFERS).as_bytes().to_vec()
}

/// Returns GPADL_HEADER for whole pages, which fit into one message.
pub fn gpadl(channel: u32, gpadl: u32, pages: &[u64]) -> Vec<u8> {
    let header = GpadlHeader {
        header: MessageHeader::new(MessageType::GPADL_HEADER),
        channel: ChannelId(channel),
        gpadl: GpadlId(gpadl),
        range_buffer_len: (pages.len() as u16 + 1) * 8,
        range_count: 1,
    };
    let bytes = pages.len() as u64 * 4096;
    [header.as_bytes(), bytes.as_bytes(), pages.as_bytes()].concat()
}

/// Returns OPEN_CHANNEL for rings of which the second begins `split` pages after the first.
pub fn open(channel: u32, gpadl: u32, split: u32) -> Vec<u8> {
    let open = OpenChannel {
        header: MessageHeader::new(MessageType::OPEN_CHANNEL),
        channel: ChannelId(channel),
        open_id: channel,
        ring_gpadl: GpadlId(gpadl),
        target_vp: 0,
        downstream_page_offset: split,
        user_data: [0; 120],
    };
    open.as_bytes().to_vec()
}

/// Returns CLOSE_CHANNEL.
pub fn close(channel: u32) -> Vec<u8> {
    let header = MessageHeader::new(MessageType::CLOSE_CHANNEL);
    CloseChannel { header, channel: ChannelId(channel) }.as_bytes().to_vec()
}
