//! A guest and a partition for tests: memory, message slots, interrupts and what was observed.

mod ring;

use hv_devices::any::Any;
use hv_devices::any::Offer;
use hv_memory::save::{Reader, RestoreError, Writer};
pub(crate) use hv_memory::testing::Memory;
use hv_tlfs::time::ReferenceTime;
use hv_vmbus::protocol::{
    ChannelId, CloseChannel, FeatureFlags, GpadlBody, GpadlCreated, GpadlHeader, GpadlId, GpadlTeardown,
    Guid, InitiateContact, MessageHeader, MessageType, NtStatus, OpenChannel, OpenResult, TargetInfo,
    Version,
};
use hv_vmbus::{
    Backend, Bus, BusFaults, BusPort, Config, DeviceId, Event, Never, Pages, Posted, Reason, Refused, Slot,
    Started, Token,
};
use std::cell::RefCell;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

pub(crate) use ring::{GuestPacket, GuestRing};

/// Creates guest memory from address 0 on, of which the bus never asks for bytes beyond a page.
pub(crate) fn memory(size: u64) -> Memory {
    Memory::new(0, size).by_pages()
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

    /// Returns the whole message, which must have exactly this type's length.
    pub(crate) fn message<T: FromBytes>(&self) -> T {
        T::read_from_bytes(&self.payload).expect("the message has another length")
    }
}

/// Ranges of guest memory: address and length.
pub(crate) type Ranges = Vec<(u64, u64)>;

/// The partition.
pub(crate) struct TestPort {
    pub(crate) memory: Memory,
    pub(crate) received: RefCell<Vec<Received>>,
    /// How many messages fit; the rest must wait.
    pub(crate) room: usize,
    pub(crate) interrupts: RefCell<Vec<(u32, u8, u16)>>,
    pub(crate) events: RefCell<Vec<Event>>,
    pub(crate) vps: u32,
    pub(crate) time: u64,
    /// What back ends were asked for: token and memory.
    pub(crate) started: RefCell<Vec<(hv_vmbus::Token, Ranges)>>,
    /// How many more requests the back ends take.
    pub(crate) capacity: std::cell::Cell<usize>,
    /// Back ends are done at once.
    pub(crate) at_once: bool,
    /// There may be injected faults, so that every request enters the table.
    pub(crate) planned: bool,
}

impl TestPort {
    pub(crate) fn new() -> Self {
        Self {
            memory: memory(1 << 20),
            received: RefCell::default(),
            room: usize::MAX,
            interrupts: RefCell::default(),
            events: RefCell::default(),
            vps: 4,
            time: 0,
            started: RefCell::default(),
            capacity: std::cell::Cell::new(usize::MAX),
            at_once: false,
            planned: false,
        }
    }

    /// Creates a port without memory, where no message fits.
    fn shut() -> Self {
        Self { memory: memory(0), room: 0, ..Self::new() }
    }

    /// Takes the messages that have come.
    pub(crate) fn take(&mut self) -> Vec<Received> {
        self.received.take()
    }

    /// Takes the one message that has come.
    pub(crate) fn one(&mut self) -> Received {
        let mut all = self.take();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// Takes the reason for which the last message was rejected.
    pub(crate) fn rejection(&mut self) -> Option<Reason> {
        let events = self.events.take();
        events.iter().rev().find_map(|e| match e {
            Event::Rejected { reason, .. } => Some(*reason),
            _ => None,
        })
    }
}

impl BusPort for TestPort {
    type Memory = Memory;

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn reference_time(&self) -> ReferenceTime {
        ReferenceTime(self.time)
    }

    fn post(&self, vp: u32, sint: u8, payload: &[u8]) -> Posted {
        assert!(payload.len() <= 240);
        if vp >= self.vps {
            return Posted::Undeliverable;
        }
        let mut received = self.received.borrow_mut();
        if received.len() >= self.room {
            return Posted::Full;
        }
        received.push(Received { vp, sint, payload: payload.to_vec() });
        Posted::Queued
    }

    fn interrupt(&self, vp: u32, sint: u8, flag: u16) {
        self.interrupts.borrow_mut().push((vp, sint, flag));
    }

    fn has_vp(&self, vp: u32) -> bool {
        vp < self.vps
    }

    fn observe(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }

    fn faults(&self) -> impl BusFaults {
        self
    }
}

impl BusFaults for TestPort {
    fn is_planned(&self) -> bool {
        self.planned
    }
}

impl Backend<Never> for TestPort {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

pub(crate) type Lock = spin::Mutex<()>;

/// A bus of places for small devices, where what is offered or taken away is told to the guest at the next flush.
pub(crate) struct Server<const C: usize = 8, const G: usize = 16, const W: usize = 1024> {
    bus: Bus<Lock, [Slot<Lock, Any>; C], G, W>,
}

impl<const C: usize, const G: usize, const W: usize> Server<C, G, W> {
    pub(crate) const fn new(config: Config) -> Self {
        Self { bus: Bus::new(config, [const { Slot::new(Any::SILENT) }; C]) }
    }

    pub(crate) const fn with(config: Config, devices: [Slot<Lock, Any>; C]) -> Self {
        Self { bus: Bus::new(config, devices) }
    }

    /// Offers a device in the first place that is free; a second one of its kind gets another instance.
    pub(crate) fn offer(&mut self, mut offer: Offer) -> Option<ChannelId> {
        let shut = TestPort::shut();
        let free = |slot: &Slot<Lock, Any>| {
            let put = self.bus.with(slot, &shut, |device, io| {
                let vacant = io.vacant().is_some();
                if vacant {
                    *device = offer.device;
                }
                vacant
            });
            put == Ok(true)
        };
        let at = self.bus.devices().iter().position(free)?;
        offer.channel.instance.as_mut_bytes()[15] ^= at as u8;
        let id = self.bus.offer(DeviceId(at as u16), &offer.channel, &shut).ok()?;
        Some(id)
    }

    pub(crate) fn rescind(&mut self, id: ChannelId) -> bool {
        self.bus.rescind(id, &TestPort::shut())
    }

    pub(crate) fn reset(&mut self) {
        self.bus.reset(&TestPort::shut());
    }

    pub(crate) fn version(&self) -> Option<Version> {
        self.bus.version()
    }

    pub(crate) fn rejected(&self) -> u64 {
        self.bus.rejected()
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.bus.has_pending()
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        self.bus.deadline().map(ReferenceTime::ticks)
    }

    pub(crate) fn message<P: Backend<Never>>(
        &mut self,
        connection: u32,
        payload: &[u8],
        port: &mut P,
    ) -> Result<(), Refused> {
        self.bus.message(connection, payload, port)
    }

    pub(crate) fn signal(&mut self, connection: u32, port: &mut TestPort) -> Result<(), Refused> {
        self.bus.signal(connection, port)
    }

    pub(crate) fn flush(&mut self, port: &mut TestPort) {
        self.bus.flush(port);
    }

    pub(crate) fn save(&self, w: &mut Writer<'_>) {
        self.bus.save(&TestPort::shut(), w).unwrap();
    }

    pub(crate) fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        let (shut, outcome) = (TestPort::shut(), self.bus.restore(&TestPort::shut(), r));
        if outcome.is_err() {
            // What stands in the places is the embedder's.
            for slot in self.bus.devices() {
                self.bus.with(slot, &shut, |device, _| *device = Any::SILENT).unwrap();
            }
        }
        outcome
    }
}

/// The whole state, as it is saved.
impl<const C: usize, const G: usize, const W: usize> std::fmt::Debug for Server<C, G, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut image = Vec::new();
        self.save(&mut Writer::new(&mut |part| image.extend_from_slice(part)));
        write!(f, "{image:x?}")
    }
}

/// Builds an offer of a device with no further properties.
pub(crate) fn offer_of(interface: Guid, instance: Guid, device: Any) -> Offer {
    Offer { channel: hv_vmbus::offer(interface, instance), device }
}

/// Builds INITIATE_CONTACT as Linux sends it: target SINT 2, VTL 0, monitor pages given.
pub(crate) fn contact(version: Version) -> InitiateContact {
    let mut contact = InitiateContact::new_zeroed();
    contact.header = MessageHeader::new(MessageType::INITIATE_CONTACT);
    contact.version = version;
    contact.target_info = TargetInfo(0).with_sint(2);
    contact.monitor_page_in = 0x1000;
    contact.monitor_page_out = 0x2000;
    contact
}

/// Builds such a contact for version 6.0 with features.
pub(crate) fn contact_with(features: FeatureFlags) -> InitiateContact {
    let mut contact = contact(Version::V6_0);
    contact.target_info = contact.target_info.with_features(features);
    contact
}

/// Builds a message of only a header.
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
    port.events.get_mut().clear();
}

/// Builds GPADL_HEADER and GPADL_BODY messages for one range of whole pages, cut as Linux cuts them.
pub(crate) fn gpadl(channel: u32, id: u32, pages: &[u64]) -> Vec<Vec<u8>> {
    gpadl_ranges(channel, id, &[(pages.len() as u32 * 4096, 0, pages)])
}

/// Builds such messages for any ranges of (bytes, offset, pages).
pub(crate) fn gpadl_ranges(channel: u32, id: u32, ranges: &[(u32, u32, &[u64])]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    for (bytes, offset, pages) in ranges {
        words.push(u64::from(*bytes) | u64::from(*offset) << 32);
        words.extend(*pages);
    }
    let header = GpadlHeader {
        header: header(MessageType::GPADL_HEADER),
        channel: ChannelId(channel),
        gpadl: GpadlId(id),
        range_buffer_len: words.len() as u16 * 8,
        range_count: ranges.len() as u16,
    };
    let body =
        GpadlBody { header: self::header(MessageType::GPADL_BODY), message_number: 0, gpadl: GpadlId(id) };
    let (first, rest) = words.split_at(words.len().min(27));
    let mut messages = vec![[header.as_bytes(), first.as_bytes()].concat()];
    messages.extend(rest.chunks(28).map(|part| [body.as_bytes(), part.as_bytes()].concat()));
    messages
}

/// Builds OPENCHANNEL as Linux sends it: the open id is the channel's number.
pub(crate) fn open(channel: u32, gpadl: u32, vp: u32, split: u32) -> OpenChannel {
    OpenChannel {
        header: header(MessageType::OPEN_CHANNEL),
        channel: ChannelId(channel),
        open_id: channel,
        ring_gpadl: GpadlId(gpadl),
        target_vp: vp,
        downstream_page_offset: split,
        user_data: [0; 120],
    }
}

pub(crate) fn close(channel: u32) -> CloseChannel {
    CloseChannel { header: header(MessageType::CLOSE_CHANNEL), channel: ChannelId(channel) }
}

pub(crate) fn teardown(channel: u32, gpadl: u32) -> GpadlTeardown {
    GpadlTeardown {
        header: header(MessageType::GPADL_TEARDOWN),
        channel: ChannelId(channel),
        gpadl: GpadlId(gpadl),
    }
}

/// Page numbers of the rings in these tests; no two are neighbours. The first five are the ring from guest to host.
pub(crate) const PAGES: [u64; 10] = [0x50, 0x58, 0x52, 0x5c, 0x54, 0x90, 0x81, 0x83, 0x85, 0x87];
pub(crate) const SPLIT: u32 = 5;

/// A guest that has opened channel 1 on [`PAGES`].
pub(crate) struct Opened {
    pub(crate) server: Server,
    pub(crate) port: TestPort,
    /// Guest to host.
    pub(crate) outbound: GuestRing,
    /// Host to guest.
    pub(crate) inbound: GuestRing,
}

impl Opened {
    pub(crate) fn new(offer: Offer) -> Self {
        Self::split(offer, SPLIT)
    }

    /// Opens a channel whose ring from host to guest begins at this page.
    pub(crate) fn split(offer: Offer, split: u32) -> Self {
        Self::pages(offer, &PAGES, split)
    }

    /// Opens such a channel with other pages.
    pub(crate) fn pages(offer: Offer, pages: &[u64], split: u32) -> Self {
        let mut server: Server = Server::new(Config::DEFAULT);
        let mut port = TestPort::new();
        server.offer(offer).unwrap();
        connect(&mut server, &mut port, Version::V5_3);
        for message in gpadl(1, 0xe1e10, pages) {
            server.message(4, &message, &mut port).unwrap();
        }
        send(&mut server, &mut port, &open(1, 0xe1e10, 1, split));
        let answers = port.take();
        assert_eq!(answers[0].message::<GpadlCreated>().status, NtStatus::SUCCESS);
        assert_eq!(answers[1].message::<OpenResult>().status, NtStatus::SUCCESS);
        let (outbound, inbound) = pages.split_at(split as usize);
        Self { server, port, outbound: GuestRing::new(outbound), inbound: GuestRing::new(inbound) }
    }

    /// Sends a packet from the guest, and signals if needed.
    pub(crate) fn send(&mut self, packet: &GuestPacket) -> Option<bool> {
        let signal = self.outbound.send(&self.port.memory, packet)?;
        if signal {
            self.server.signal(0x2001, &mut self.port).unwrap();
        }
        Some(signal)
    }

    /// Receives a packet in the guest, and signals if needed.
    pub(crate) fn receive(&mut self) -> Option<GuestPacket> {
        let (packet, signal) = self.inbound.receive(&self.port.memory)?;
        if signal {
            self.server.signal(0x2001, &mut self.port).unwrap();
        }
        Some(packet)
    }
}
