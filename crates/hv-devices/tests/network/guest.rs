//! A guest with a driver for the network card, and a back end that keeps what was sent.

use hv_devices::network::{self, Lost, MAX_FRAME, Network, Received, Request, SEGMENTS};
use hv_memory::GuestMemory;
use hv_memory::save::{Reader, Writer};
use hv_memory::testing::Memory;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::nvsp::{MessageType, Version as Nvsp};
use hv_tlfs::vmbus::{Guid, guid};
use hv_vmbus::testing::{self, Extra, Partition, Serve};
use hv_vmbus::{Bus, BusFaults, Config, Contents, Pages, Slot, Started, Token};
use std::cell::{Cell, RefCell};

/// Bytes of the guest's memory.
const MEMORY: u64 = 8 << 20;
/// Pages of a channel's rings, half of them for each direction.
const RING_PAGES: u64 = 16;
const RING: u32 = (RING_PAGES as u32 / 2 - 1) * 4096;
/// First page of the receive buffer, of the send buffer, and of listed pages.
pub(crate) const RECEIVE: u64 = 0x200;
pub(crate) const SEND: u64 = 0x300;
pub(crate) const PAGES: u64 = 0x400;
pub(crate) const RECEIVE_GPADL: u32 = 100;
pub(crate) const SEND_GPADL: u32 = 101;
pub(crate) const MAC: [u8; 6] = [0, 0x15, 0x5d, 1, 2, 3];

/// What an observer is shown: from the guest, part, size, and beginning.
pub(crate) type Shown = (bool, u8, u32, Vec<u8>);

/// The partition.
pub(crate) type Host = Partition<BackEnd>;

/// The back end of the card, and what else the test sees.
pub(crate) struct BackEnd {
    /// Frames that came from the guest.
    pub(crate) sent: RefCell<Vec<Vec<u8>>>,
    /// Requests are kept until the test completes them.
    pub(crate) hold: Cell<bool>,
    pub(crate) held: RefCell<Vec<Token>>,
    /// Nothing is taken.
    pub(crate) full: Cell<bool>,
    /// An observer is shown the data of packets.
    pub(crate) observed: Cell<bool>,
    pub(crate) shown: RefCell<Vec<Shown>>,
    /// The newest version that the card speaks.
    pub(crate) newest: Cell<u32>,
}

impl Extra for BackEnd {
    fn sees_packets(&self) -> bool {
        self.observed.get()
    }

    fn contents(&self, contents: &Contents<'_>) {
        let Contents { from_guest, part, len, bytes, .. } = *contents;
        self.shown.borrow_mut().push((from_guest, part, len, bytes.to_vec()));
    }
}

impl BusFaults for BackEnd {
    fn is_planned(&self) -> bool {
        false
    }

    fn refuses(&self, interface: &Guid, version: u32) -> bool {
        *interface == guid::NETWORK && version > self.newest.get()
    }
}

impl Serve<Request> for BackEnd {
    fn start(
        &self,
        memory: &Memory,
        token: Token,
        request: &Request,
        data: Pages<'_>,
    ) -> Started<Result<(), Lost>> {
        if self.full.get() {
            return Started::Full;
        }
        let mut frame = vec![0; MAX_FRAME];
        let len = request.write(memory, data, &mut frame).unwrap();
        assert_eq!(len, request.len());
        frame.truncate(len);
        self.sent.borrow_mut().push(frame);
        if self.hold.get() {
            self.held.borrow_mut().push(token);
            return Started::Pending;
        }
        Started::Done(Ok(()))
    }
}

type Lock = spin::Mutex<()>;
type Card = Slot<Lock, Network, 4, 8, SEGMENTS>;

/// A guest that has opened the card's channel.
pub(crate) struct Guest {
    pub(crate) bus: Bus<Lock, Card>,
    pub(crate) host: Host,
    next: u64,
}

/// A packet from the host.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) kind: u16,
    pub(crate) id: u64,
    /// Length and offset in the receive buffer.
    pub(crate) ranges: Vec<(u32, u32)>,
    pub(crate) payload: Vec<u8>,
}

impl Packet {
    pub(crate) fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A frame that arrived: its bytes, and the information about it.
pub(crate) type Arrived = (Vec<u8>, Vec<(u32, u32)>);

/// The data of a packet: a section with its bytes, and listed bytes with the offset in their first page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Data<'a> {
    pub(crate) section: Option<(u32, &'a [u8])>,
    pub(crate) listed: Option<(u32, &'a [u8])>,
}

pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Builds an RNDIS message.
pub(crate) fn rndis(kind: u32, body: &[u8]) -> Vec<u8> {
    [&words(&[kind, body.len() as u32 + 8])[..], body].concat()
}

/// Builds the message of a frame, with information about it.
pub(crate) fn packet_message(frame: &[u8], infos: &[(u32, u32)]) -> Vec<u8> {
    let len = infos.len() as u32 * 16;
    let mut body = words(&[36 + len, frame.len() as u32, 0, 0, 0, if len > 0 { 36 } else { 0 }, len, 0, 0]);
    for (kind, value) in infos {
        body.extend(words(&[16, *kind, 12, *value]));
    }
    body.extend(frame);
    rndis(1, &body)
}

fn ring_of(channel: u32) -> u64 {
    16 + u64::from(channel - 1) * RING_PAGES
}

impl Guest {
    /// Creates a guest before the first packet.
    pub(crate) fn opened() -> Self {
        let mut card = Network::new();
        card.set_mac(MAC);
        let back_end = BackEnd {
            sent: RefCell::default(),
            hold: Cell::new(false),
            held: RefCell::default(),
            full: Cell::new(false),
            observed: Cell::new(false),
            shown: RefCell::default(),
            newest: Cell::new(u32::MAX),
        };
        let host = Partition::new(Memory::new(0, MEMORY).by_pages(), 4, back_end);
        let slot = Slot::offering(card, network::offer_of(MAC));
        let mut guest = Self { bus: Bus::new(Config::DEFAULT, slot), host, next: 1 };
        guest.post(&testing::contact());
        guest.post(&testing::request_offers());
        guest.open(1);
        guest
    }

    /// Creates a guest that has done what Linux does, with this version and maximum frame, up to its filter.
    pub(crate) fn with(version: Nvsp, frame: u32) -> Self {
        let mut guest = Self::opened();
        guest.connect(version, frame);
        guest
    }

    pub(crate) fn new() -> Self {
        Self::with(Nvsp::V61, 1514)
    }

    pub(crate) fn connect(&mut self, version: Nvsp, frame: u32) {
        self.connect_with(version, frame, 128);
    }

    /// Connects like [`connect`](Self::connect), with a receive buffer of this many pages.
    pub(crate) fn connect_with(&mut self, version: Nvsp, frame: u32, pages: u64) {
        let answer = self.nvsp(MessageType::INIT, &[version.0, version.0]);
        assert_eq!((answer.word(0), answer.word(12)), (2, 1));
        self.inband(MessageType::SEND_NDIS_CONFIG, &[frame, 0, 0xac, 0]);
        self.inband(MessageType::SEND_NDIS_VERSION, &[6, 0x1e]);
        self.buffer(RECEIVE_GPADL, RECEIVE, pages);
        self.buffer(SEND_GPADL, SEND, 16);
        let answer = self.nvsp(MessageType::SEND_RECEIVE_BUFFER, &[RECEIVE_GPADL, 0xcafe]);
        assert_eq!((answer.word(0), answer.word(4), answer.word(8), answer.word(12)), (102, 1, 1, 0));
        let answer = self.nvsp(MessageType::SEND_SEND_BUFFER, &[SEND_GPADL, 0]);
        assert_eq!((answer.word(0), answer.word(4), answer.word(8)), (105, 1, 6144));
        let (kind, body) = self.control(2, &words(&[7, 1, 0, 0x4000])).expect("an answer");
        assert_eq!((kind, &body[..8]), (0x8000_0002, &words(&[7, 0])[..]));
        assert_eq!(self.set(0x0001_010e, &words(&[0x0d])), 0);
    }

    /// Saves the bus, and continues with a new one that is restored from what was saved.
    pub(crate) fn restore(&mut self) {
        let mut image = Vec::new();
        let mut sink = |bytes: &[u8]| image.extend_from_slice(bytes);
        self.bus.save(&self.host, &mut Writer::new(&mut sink)).unwrap();
        let mut card = Network::new();
        card.set_mac(MAC);
        self.bus = Bus::new(Config::DEFAULT, Slot::offering(card, network::offer_of(MAC)));
        self.bus.restore(&self.host, &mut Reader::new(&image)).unwrap();
    }

    pub(crate) fn post(&mut self, message: &[u8]) {
        self.bus.message(4, message, &self.host).unwrap();
    }

    /// Returns the kinds of messages that came from the host.
    pub(crate) fn posted(&self) -> Vec<u32> {
        self.host.mail().iter().map(|kind| kind.0).collect()
    }

    /// Establishes a GPADL of the first channel's.
    pub(crate) fn buffer(&mut self, gpadl: u32, first: u64, pages: u64) {
        self.gpadl(1, gpadl, first, pages);
    }

    fn gpadl(&mut self, channel: u32, gpadl: u32, first: u64, pages: u64) {
        let list: Vec<u64> = (first..first + pages).collect();
        self.post(&testing::gpadl(channel, gpadl, &list));
    }

    pub(crate) fn open(&mut self, channel: u32) {
        self.gpadl(channel, channel, ring_of(channel), RING_PAGES);
        self.post(&testing::open(channel, channel, RING_PAGES as u32 / 2));
    }

    fn ring_word(&self, page: u64, offset: u64) -> u32 {
        self.host.memory.load_acquire(page * 4096 + offset).unwrap()
    }

    fn ring_bytes(&self, page: u64, at: u32, bytes: &mut [u8]) {
        for (offset, byte) in bytes.iter_mut().enumerate() {
            let gpa = (page + 1) * 4096 + u64::from((at + offset as u32) % RING);
            self.host.memory.read(gpa, core::slice::from_mut(byte)).unwrap();
        }
    }

    /// Puts a packet into a channel's ring. `head`: what lies between descriptor and payload.
    pub(crate) fn put(&mut self, channel: u32, kind: u16, flags: u16, id: u64, head: &[u8], payload: &[u8]) {
        let total = (16 + head.len() + payload.len()).next_multiple_of(8);
        let mut bytes = Vec::new();
        for half in [kind, (16 + head.len()) as u16 / 8, total as u16 / 8, flags] {
            bytes.extend(half.to_le_bytes());
        }
        bytes.extend(id.to_le_bytes());
        bytes.extend(head);
        bytes.extend(payload);
        bytes.resize(total, 0);
        let ring = ring_of(channel);
        let write = self.ring_word(ring, 0);
        bytes.extend((u64::from(write) << 32).to_le_bytes());
        for (at, byte) in bytes.iter().enumerate() {
            let gpa = (ring + 1) * 4096 + u64::from((write + at as u32) % RING);
            self.host.memory.write(gpa, &[*byte]).unwrap();
        }
        let next = (write + bytes.len() as u32) % RING;
        self.host.memory.store_release(ring * 4096, next).unwrap();
        self.bus.signal(0x2000 | channel, &self.host).unwrap();
    }

    /// Runs the card as long as it is due at once.
    pub(crate) fn run(&self) {
        while self.bus.deadline() == Some(ReferenceTime(0)) {
            self.bus.flush(&self.host);
        }
    }

    /// Returns where the host writes its next packet on a channel.
    pub(crate) fn written(&self, channel: u32) -> u32 {
        self.ring_word(ring_of(channel) + RING_PAGES / 2, 0)
    }

    /// Says that the guest has read a channel's packets up to here.
    pub(crate) fn set_read(&self, channel: u32, index: u32) {
        let ring = ring_of(channel) + RING_PAGES / 2;
        self.host.memory.store_release(ring * 4096 + 4, index).unwrap();
    }

    /// Takes the next packet from the host on a channel.
    pub(crate) fn take(&mut self, channel: u32) -> Option<Packet> {
        let ring = ring_of(channel) + RING_PAGES / 2;
        let (write, read) = (self.ring_word(ring, 0), self.ring_word(ring, 4));
        if write == read {
            return None;
        }
        let mut head = [0; 16];
        self.ring_bytes(ring, read, &mut head);
        let half = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
        let (kind, offset, total) = (half(0) as u16, half(2) * 8, half(4) * 8);
        let mut all = vec![0; total];
        self.ring_bytes(ring, read, &mut all);
        let word = |at: usize| u32::from_le_bytes(all[at..at + 4].try_into().unwrap());
        let count = if kind == 7 { word(20) as usize } else { 0 };
        let ranges = (0..count).map(|n| (word(24 + n * 8), word(28 + n * 8))).collect();
        let id = u64::from_le_bytes(head[8..].try_into().unwrap());
        self.host.memory.store_release(ring * 4096 + 4, (read + total as u32 + 8) % RING).unwrap();
        Some(Packet { kind, id, ranges, payload: all[offset..].to_vec() })
    }

    /// Sends a message of NVSP and returns its completion.
    pub(crate) fn nvsp(&mut self, kind: MessageType, body: &[u32]) -> Packet {
        let id = self.new_id();
        self.put(1, 6, 1, id, &[], &self.message(kind, body));
        let answer = self.take(1).expect("a completion");
        assert_eq!((answer.kind, answer.id), (11, id));
        answer
    }

    /// Sends one that has no answer.
    pub(crate) fn inband(&mut self, kind: MessageType, body: &[u32]) {
        self.put(1, 6, 0, 0, &[], &self.message(kind, body));
    }

    fn message(&self, kind: MessageType, body: &[u32]) -> Vec<u8> {
        let mut bytes = words(&[kind.0]);
        bytes.extend(words(body));
        bytes.resize(40, 0);
        bytes
    }

    fn new_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Sends RNDIS messages, without waiting for their end.
    pub(crate) fn start(&mut self, channel: u32, control: bool, data: &Data<'_>) -> u64 {
        let (index, size) = match data.section {
            Some((index, bytes)) => {
                let at = SEND * 4096 + u64::from(index % 10) * 6144;
                self.write(at, bytes);
                (index, bytes.len() as u32)
            }
            None => (u32::MAX, 0),
        };
        let id = self.new_id();
        let payload = self.message(MessageType::SEND_RNDIS_PACKET, &[control.into(), index, size]);
        match data.listed {
            None => self.put(channel, 6, 1, id, &[], &payload),
            Some((offset, bytes)) => {
                self.write(PAGES * 4096 + u64::from(offset), bytes);
                let mut head = words(&[0, 1, bytes.len() as u32, offset]);
                let pages = (u64::from(offset) + bytes.len() as u64).div_ceil(4096);
                head.extend((PAGES..PAGES + pages).flat_map(|pfn| pfn.to_le_bytes()));
                self.put(channel, 9, 1, id, &head, &payload);
            }
        }
        id
    }

    /// Writes to the guest's memory.
    pub(crate) fn write(&self, gpa: u64, bytes: &[u8]) {
        for (at, byte) in bytes.iter().enumerate() {
            self.host.memory.write(gpa + at as u64, &[*byte]).unwrap();
        }
    }

    /// Sends frames, and returns the status of the completion.
    pub(crate) fn send(&mut self, data: &Data<'_>) -> u32 {
        let id = self.start(1, false, data);
        self.run();
        self.completion(id)
    }

    pub(crate) fn completion(&mut self, id: u64) -> u32 {
        let answer = self.take(1).expect("a completion");
        assert_eq!((answer.kind, answer.id, answer.word(0)), (11, id, 108));
        answer.word(4)
    }

    /// Sends a control message; returns type and body of the answer, if there is one.
    pub(crate) fn control(&mut self, kind: u32, body: &[u8]) -> Option<(u32, Vec<u8>)> {
        let message = rndis(kind, body);
        let id = self.start(1, true, &Data { section: None, listed: Some((100, &message)) });
        let mut answer = None;
        while let Some(packet) = self.take(1) {
            match packet.kind {
                11 => assert_eq!((packet.id, packet.word(0)), (id, 108)),
                7 => {
                    assert_eq!(packet.word(4), 1, "an answer on the control channel");
                    answer = self.messages(&packet).pop();
                    self.complete(1, packet.id);
                }
                other => panic!("a packet of type {other}"),
            }
        }
        answer.map(|message| {
            let kind = u32::from_le_bytes(message[..4].try_into().unwrap());
            (kind, message[8..].to_vec())
        })
    }

    /// Returns the messages that a packet with transfer pages names.
    pub(crate) fn messages(&self, packet: &Packet) -> Vec<Vec<u8>> {
        let bytes = |(len, offset): &(u32, u32)| {
            let mut bytes = vec![0; *len as usize];
            for (at, byte) in bytes.iter_mut().enumerate() {
                let gpa = RECEIVE * 4096 + u64::from(*offset) + at as u64;
                self.host.memory.read(gpa, core::slice::from_mut(byte)).unwrap();
            }
            assert_eq!(bytes[4..8], len.to_le_bytes(), "a message is as long as its range");
            bytes
        };
        packet.ranges.iter().map(bytes).collect()
    }

    /// Completes a packet with transfer pages.
    pub(crate) fn complete(&mut self, channel: u32, id: u64) {
        self.put(channel, 11, 0, id, &[], &words(&[108, 1]));
    }

    /// Queries an object: status and value.
    pub(crate) fn query(&mut self, oid: u32) -> (u32, Vec<u8>) {
        let (kind, body) = self.control(4, &words(&[9, oid, 0, 20, 0])).expect("an answer");
        let word = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().unwrap());
        assert_eq!((kind, word(0)), (0x8000_0004, 9));
        let (status, len, offset) = (word(4), word(8) as usize, word(12) as usize);
        assert!(len == 0 || offset == 16);
        assert_eq!(body.len(), 16 + len);
        (status, body[16..].to_vec())
    }

    /// Sets an object.
    pub(crate) fn set(&mut self, oid: u32, value: &[u8]) -> u32 {
        let mut request = words(&[8, oid, value.len() as u32, 20, 0]);
        request.extend(value);
        let (kind, body) = self.control(5, &request).expect("an answer");
        assert_eq!((kind, &body[..4]), (0x8000_0005, &words(&[8])[..]));
        u32::from_le_bytes(body[4..8].try_into().unwrap())
    }

    /// Hands the card a frame from the back end.
    pub(crate) fn arrive(&self, frame: &[u8]) -> Received {
        self.bus.with(self.bus.devices(), &self.host, |card, io| card.receive(frame, io)).unwrap()
    }

    /// Hands the card these frames in one call.
    pub(crate) fn arrive_together(&self, frames: &[Vec<u8>]) -> Vec<Received> {
        self.bus
            .with(self.bus.devices(), &self.host, |card, io| {
                frames.iter().map(|frame| card.receive(frame, io)).collect()
            })
            .unwrap()
    }

    /// Returns the frames that wait on a channel, each with its information; they are completed if `complete`.
    pub(crate) fn frames(&mut self, channel: u32, complete: bool) -> Vec<Arrived> {
        let mut frames = Vec::new();
        while let Some(packet) = self.take(channel) {
            assert_eq!((packet.kind, packet.word(0), packet.word(4), packet.word(8)), (7, 107, 0, u32::MAX));
            for message in self.messages(&packet) {
                let word = |at: usize| u32::from_le_bytes(message[at..at + 4].try_into().unwrap()) as usize;
                assert_eq!(word(0), 1);
                let (from, len) = (8 + word(8), word(12));
                let (mut at, infos) = (8 + word(28), word(32));
                let end = at + infos;
                let mut list = Vec::new();
                while at < end {
                    list.push((word(at + 4) as u32, word(at + word(at + 8)) as u32));
                    at += word(at);
                }
                frames.push((message[from..from + len].to_vec(), list));
            }
            if complete {
                self.complete(channel, packet.id);
            }
        }
        frames
    }

    /// Returns the frames that came out since the last time.
    pub(crate) fn sent(&self) -> Vec<Vec<u8>> {
        self.host.sent.take()
    }
}
