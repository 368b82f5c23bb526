//! A network card: packets of NVSP, messages of RNDIS with frames, and a driver that does anything on rings and in data
//! that change between two looks of the host.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use hv_devices::Network;
use hv_devices::network::{self, Lost, MAX_FRAME, Request, SEGMENTS};
use hv_memory::GuestMemory as _;
use hv_partition::BusEvent;
use hv_partition::record::{Replay, bus_records};
use hv_partition::strict::Judge;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::{ChannelId, CloseChannel, GpadlId, GpadlTeardown, MessageHeader, MessageType};
use hv_trace::Record;
use hv_vmbus::testing::{Extra, Partition, Serve};
use hv_vmbus::{
    Bus, BusFaults, CONTENTS_BYTES, Config, Contents, DeviceId, Event, Pages, Seen, Slot, Started, Token,
};
use zerocopy::IntoBytes as _;

use crate::input::Input;
use crate::memory::{Memory, RAM};
use crate::messages;

/// Maximum number of steps in a run.
const STEPS: usize = 256;
/// Bytes of the guest's memory, and the number of its first page.
const SIZE: u64 = 1 << 20;
const FIRST: u64 = RAM / 4096;
/// First page of a channel's rings, and pages of both.
const RINGS: u64 = FIRST;
const RING_PAGES: u64 = 8;
const RING: u32 = (RING_PAGES as u32 / 2 - 1) * 4096;
/// The receive buffer, the send buffer, and listed pages: first page, pages, GPADL.
const LISTED: u64 = FIRST + 16;
const SEND: (u64, u64, u32) = (FIRST + 24, 4, 101);
const RECEIVE: (u64, u64, u32) = (FIRST + 32, 16, 100);
const MAC: [u8; 6] = [0, 0x15, 0x5d, 1, 2, 3];
/// Bytes of a section of the send buffer.
const SECTION: u64 = 6144;

type Lock = spin::Mutex<()>;
type Card = Slot<Lock, Network, 2, 3, SEGMENTS>;

/// The back end, and the strict mode's judge: over what happens, and over the records of it.
struct Watch {
    /// Requests that wait for their end.
    held: RefCell<Vec<Token>>,
    /// Fate of the next requests: a bit for each of the choices.
    mood: Cell<u8>,
    judge: RefCell<Judge<1>>,
    replay: RefCell<Replay<1>>,
}

impl Watch {
    /// Checks that the judge finds the same in the records of an event as in the event.
    fn judge(&self, event: &BusEvent<'_>) {
        let (mut found, mut again) = (Vec::new(), Vec::new());
        self.judge.borrow_mut().bus_event(event, &mut |finding| found.push(finding));
        bus_records(event, |what| {
            let record = Record::decode(&Record { time: 0, vp: 0, what }.encode());
            self.replay.borrow_mut().record(&record, &mut |finding| again.push(finding));
        });
        assert_eq!(found, again, "{event:?}");
    }
}

impl Extra for Watch {
    fn observe(&self, event: Event) {
        self.judge(&BusEvent::Server(event));
    }

    fn sees_packets(&self) -> bool {
        true
    }

    fn packet(&self, packet: &Seen<'_>) {
        assert!(packet.payload.len() == hv_vmbus::SEEN_BYTES.min(packet.len as usize));
        self.judge(&BusEvent::Packet(*packet));
    }

    fn contents(&self, contents: &Contents<'_>) {
        assert!(contents.bytes.len() <= CONTENTS_BYTES.min(contents.len as usize), "{contents:?}");
        self.judge(&BusEvent::Contents(*contents));
    }
}

impl BusFaults for Watch {
    fn is_planned(&self) -> bool {
        self.mood.get() & 8 != 0
    }
}

impl Serve<Request, Memory> for Watch {
    fn start(
        &self,
        memory: &Memory,
        token: Token,
        request: &Request,
        data: Pages<'_>,
    ) -> Started<Result<(), Lost>> {
        for part in data.segments() {
            assert!(part.gpa() >= RAM && part.gpa() + part.len() <= RAM + SIZE, "{part:?}");
        }
        let mood = self.mood.get();
        if mood & 1 != 0 {
            return Started::Full;
        }
        let mut frame = [0; MAX_FRAME];
        let len = request.write(memory, data, &mut frame).expect("guest memory");
        assert!(len == request.len() && (14..=MAX_FRAME).contains(&len), "a frame of {len} bytes");
        if mood & 2 != 0 {
            self.held.borrow_mut().push(token);
            return Started::Pending;
        }
        Started::Done(if mood & 4 != 0 { Err(Lost) } else { Ok(()) })
    }
}

struct Guest {
    bus: Bus<Lock, Card>,
    host: Partition<Watch, Memory>,
    /// Packets from the host that the guest has not completed.
    outstanding: BTreeSet<u64>,
    /// Something writes to the rings: what is in them means nothing.
    hostile: bool,
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Guest {
    fn new(hostile: bool) -> Self {
        let mut card = Network::new();
        card.set_mac(MAC);
        let watch = Watch {
            held: RefCell::default(),
            mood: Cell::new(0),
            judge: RefCell::new(Judge::new(RAM, SIZE)),
            replay: RefCell::new(Replay::new(RAM, SIZE)),
        };
        let host = Partition::new(Memory::of(SIZE), 1, watch);
        let slot = Slot::offering(card, network::offer_of(MAC));
        let bus = Bus::new(Config::DEFAULT, slot);
        let guest = Self { bus, host, outstanding: BTreeSet::new(), hostile };
        guest.begin();
        guest
    }

    /// Connects, and opens the card's channel.
    fn begin(&self) {
        self.post(&messages::contact(0x5_0003, 0));
        self.post(&messages::request_offers());
        self.open(1);
        for (first, pages, gpadl) in [RECEIVE, SEND] {
            self.gpadl(1, gpadl, first, pages);
        }
    }

    fn post(&self, message: &[u8]) {
        let _ = self.bus.message(4, message, &self.host);
    }

    fn gpadl(&self, channel: u32, gpadl: u32, first: u64, pages: u64) {
        let list: Vec<u64> = (first..first + pages).collect();
        self.post(&messages::gpadl(channel, gpadl, &list));
    }

    fn open(&self, channel: u32) {
        self.gpadl(channel, channel, RINGS + u64::from(channel - 1) * RING_PAGES, RING_PAGES);
        self.post(&messages::open(channel, channel, 0, RING_PAGES as u32 / 2));
    }

    fn word(&self, page: u64, offset: u64) -> u32 {
        self.host.memory.load_acquire(page * 4096 + offset).expect("a ring")
    }

    fn write(&self, gpa: u64, bytes: &[u8]) {
        for (at, byte) in bytes.iter().enumerate() {
            let _ = self.host.memory.write(gpa + at as u64, &[*byte]);
        }
    }

    /// Puts a packet into a channel's ring.
    fn put(&self, channel: u32, kind: u16, flags: u16, id: u64, head: &[u8], payload: &[u8]) {
        let total = (16 + head.len() + payload.len()).next_multiple_of(8);
        let mut bytes = Vec::new();
        for half in [kind, (16 + head.len()) as u16 / 8, total as u16 / 8, flags] {
            bytes.extend(half.to_le_bytes());
        }
        bytes.extend(id.to_le_bytes());
        bytes.extend(head);
        bytes.extend(payload);
        bytes.resize(total, 0);
        let ring = RINGS + u64::from(channel - 1) * RING_PAGES;
        let write = self.word(ring, 0) % RING;
        bytes.extend((u64::from(write) << 32).to_le_bytes());
        for (at, byte) in bytes.iter().enumerate() {
            self.write((ring + 1) * 4096 + u64::from((write + at as u32) % RING), &[*byte]);
        }
        let next = (write + bytes.len() as u32) % RING;
        self.host.memory.store_release(ring * 4096, next).expect("a ring");
        let _ = self.bus.signal(0x2000 | channel, &self.host);
    }

    /// Takes what the host has sent on a channel, and judges it.
    fn drain(&mut self, channel: u32) {
        let ring = RINGS + u64::from(channel - 1) * RING_PAGES + RING_PAGES / 2;
        // In a hostile ring the packets may have no end.
        for _ in 0..RING / 16 {
            let (write, read) = (self.word(ring, 0), self.word(ring, 4) % RING);
            if write == read {
                return;
            }
            let word = |at: u32| {
                let byte = |at: u32| {
                    let mut byte = [0];
                    let gpa = (ring + 1) * 4096 + u64::from((read + at) % RING);
                    self.host.memory.read(gpa, &mut byte).expect("a ring");
                    byte[0]
                };
                u32::from_le_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)])
            };
            let (kind, total) = (word(0) as u16, (word(4) & 0xffff) * 8);
            let id = u64::from(word(8)) | u64::from(word(12)) << 32;
            let count = word(20);
            if kind == 7 && !self.hostile {
                assert!((1..=16).contains(&count), "{count} ranges");
                let mut sections = BTreeSet::new();
                for at in (24..24 + 8 * count).step_by(8) {
                    let (len, offset) = (word(at), word(at + 4));
                    assert!(len >= 8 && sections.insert(offset), "{len} bytes at {offset:#x}");
                    assert!(
                        u64::from(offset) + u64::from(len) <= RECEIVE.1 * 4096,
                        "beyond the receive buffer"
                    );
                }
                assert!(id != 0 && !self.outstanding.contains(&id), "id {id:#x} twice");
            }
            if kind == 7 && self.outstanding.len() < STEPS {
                self.outstanding.insert(id);
            }
            let next = (read + total + 8) % RING;
            self.host.memory.store_release(ring * 4096 + 4, next).expect("a ring");
        }
    }

    /// Sends a packet of NVSP.
    fn nvsp(&self, input: &mut Input<'_>) {
        let kinds = [1, 2, 100, 101, 103, 104, 106, 107, 125, 128, 129, 133, 134];
        let kind = if input.below(8) == 0 { input.word() } else { input.of(&kinds) };
        let mut payload = words(&[kind]);
        for _ in 0..input.below(10) {
            let known = input.of(&[1, 2, 0x6_0001, 0x5_0000, RECEIVE.2, SEND.2, 0xcafe, 1514, 9014]);
            payload.extend(words(&[if input.below(4) == 0 { input.word() } else { known }]));
        }
        let kind = input.of(&[6, 6, 6, 9, 11]);
        self.put(1 + u32::from(input.below(8) == 0), kind, u16::from(input.flag()), 9, &[], &payload);
    }

    /// Sends a packet with RNDIS messages.
    fn rndis(&self, input: &mut Input<'_>, message: &[u8]) {
        let channel = 1 + u32::from(input.below(8) == 0);
        let (front, back) = message.split_at(message.len() * input.below(3) / 2);
        let index = if input.below(16) == 0 { input.word() } else { input.below(4) as u32 };
        let (index, size) = match front {
            [] => (u32::MAX, 0),
            _ => (index, if input.below(16) == 0 { input.word() } else { front.len() as u32 }),
        };
        self.write(SEND.0 * 4096 + u64::from(index % 2) * SECTION, front);
        let kind = if input.below(16) == 0 { input.word() } else { u32::from(input.flag()) };
        let payload = words(&[107, kind, index, size]);
        let mut head = Vec::new();
        if !back.is_empty() {
            let offset = input.of(&[0, 8, 4000, 4090, 4095]);
            self.write(LISTED * 4096 + u64::from(offset), back);
            head = words(&[0, 1, back.len() as u32, offset]);
            head.extend((0..8_u64).flat_map(|page| (LISTED + page).to_le_bytes()));
            let pages = (offset as usize + back.len()).div_ceil(4096);
            head.truncate(16 + pages * 8);
        }
        self.put(channel, if head.is_empty() { 6 } else { 9 }, 1, 5, &head, &payload);
    }

    /// Does one of the other things that guests and networks do.
    fn other(&mut self, input: &mut Input<'_>) {
        match input.below(12) {
            0 => self.drain(1),
            1 => self.drain(2),
            2 => {
                let id = self.outstanding.iter().nth(input.below(8)).copied();
                let id = if input.below(8) == 0 { Some(input.long()) } else { id };
                if let Some(id) = id {
                    self.outstanding.remove(&id);
                    self.put(1 + u32::from(input.flag()), 11, 0, id, &[], &words(&[108, 1]));
                }
            }
            3 | 4 => {
                let mut frame = input.bytes(64).to_vec();
                let group = if input.flag() { MAC } else { [0xff; 6] };
                frame.splice(..frame.len().min(6), group);
                frame.resize(frame.len() + usize::from(input.half()) % 2000, 7);
                let (frames, link) = (1 + input.below(20), input.below(80));
                let _ = self.bus.with(self.bus.devices(), &self.host, |card, io| {
                    for n in 0..frames {
                        if n == link {
                            card.set_link(false, io);
                        }
                        card.receive(&frame, io);
                    }
                });
            }
            5 => {
                let up = input.flag();
                let _ = self.bus.with(self.bus.devices(), &self.host, |card, io| card.set_link(up, io));
            }
            6 => self.host.mood.set(input.byte() & 15),
            7 => {
                let held = self.host.held.borrow().len();
                if held > 0 {
                    let token = self.host.held.borrow_mut().swap_remove(input.below(held));
                    let outcome = if input.below(8) == 0 { Err(Lost) } else { Ok(()) };
                    let _ = self.bus.completed(self.bus.devices(), token, outcome, &self.host);
                }
            }
            8 => self.bus.resume(DeviceId(0), &self.host),
            9 => {
                let header = MessageHeader::new(MessageType::GPADL_TEARDOWN);
                let gpadl = GpadlId(input.of(&[RECEIVE.2, SEND.2, 1]));
                self.post(GpadlTeardown { header, channel: ChannelId(1), gpadl }.as_bytes());
            }
            10 => {
                let header = MessageHeader::new(MessageType::CLOSE_CHANNEL);
                self.post(CloseChannel { header, channel: ChannelId(1) }.as_bytes());
                self.open(1);
            }
            _ => self.open(2),
        }
    }

    /// Connects as drivers do, with any configuration.
    fn connect(&mut self, input: &mut Input<'_>) {
        let version = input.of(&[0x6_0001, 0x6_0000, 0x5_0000, 0x4_0000, 0x3_0002, 2]);
        let mtu = if input.flag() { input.half().into() } else { 1514 };
        let messages = [
            words(&[1, version, version]),
            words(&[125, mtu, 0, 0xff, 0]),
            words(&[101, RECEIVE.2, 0xcafe]),
            words(&[104, SEND.2, 0]),
            words(&[133, 1, 1]),
        ];
        for message in messages {
            self.put(1, 6, 1, 3, &[], &message);
        }
        self.open(2);
        for message in [words(&[2, 24, 1, 1, 0, 0x4000]), words(&[5, 32, 2, 0x1_010e, 4, 20, 0, 0x2f])] {
            self.write(LISTED * 4096, &message);
            let mut head = words(&[0, 1, message.len() as u32, 0]);
            head.extend(LISTED.to_le_bytes());
            self.put(1, 9, 1, 4, &head, &words(&[107, 1, u32::MAX, 0]));
        }
        self.drain(1);
    }

    /// Checks that nothing stays in flight when the guest unloads, and one that starts over finds a card, whatever
    /// happened.
    fn ends_well(mut self) {
        self.host.memory.calm();
        self.host.mood.set(0);
        self.post(&messages::unload());
        for token in self.host.held.take() {
            let _ = self.bus.completed(self.bus.devices(), token, Ok(()), &self.host);
        }
        while self.bus.deadline() == Some(ReferenceTime::ZERO) {
            self.bus.flush(&self.host);
        }
        assert!(self.bus.is_idle(), "a request is left");
        for page in RINGS..RINGS + 2 * RING_PAGES {
            self.write(page * 4096, &[0; 4096]);
        }
        (self.hostile, self.outstanding) = (false, BTreeSet::new());
        self.begin();
        self.connect(&mut Input::new(&[]));
        assert_eq!(self.outstanding.len(), 2, "the answers to an initialization and to a filter");
    }
}

/// Generates a message: one that means something more often than not.
fn message(input: &mut Input<'_>) -> Vec<u8> {
    let body = |input: &mut Input<'_>| {
        let len = usize::from(input.half()) % 300;
        input.bytes(len).to_vec()
    };
    let mut bytes = match input.below(4) {
        0 => return body(input),
        1 => {
            let oid =
                input.of(&[0x1_010e, 0x1_0204, 0x1_021b, 0xfc01_020c, 0xfc01_020d, 0x101_0103, 0x1_0203]);
            let info = body(input);
            [words(&[4 + u32::from(input.flag()), 0, 1, oid, info.len() as u32, 20, 0]), info].concat()
        }
        2 => [words(&[u32::from(input.byte()) % 10, 0]), body(input)].concat(),
        _ => {
            let kind = input.of(&[0, 2, 6, 8]);
            let info = words(&[16, kind, 12, input.word()]);
            let mut frame = body(input);
            if frame.len() > 60 && input.flag() {
                let v6 = input.flag();
                frame[12..15].copy_from_slice(if v6 { &[0x86, 0xdd, 0x60] } else { &[8, 0, 0x45] });
                frame[if v6 { 20 } else { 23 }] = input.of(&[6, 17]);
            }
            frame.resize(frame.len() + usize::from(input.half()) % 12_000 / 8, 3);
            [words(&[1, 0, 52, frame.len() as u32, 0, 0, 0, 36, 16, 0, 0]), info, frame].concat()
        }
    };
    let len = if input.below(16) == 0 { input.word() } else { bytes.len() as u32 };
    bytes[4..8].copy_from_slice(&len.to_le_bytes());
    bytes
}

/// Does something with a guest until the bytes are used up.
fn run(mut guest: Guest, input: &mut Input<'_>, step: impl Fn(&mut Guest, &mut Input<'_>)) {
    let mut steps = 0;
    while !input.is_empty() && steps < STEPS {
        step(&mut guest, input);
        steps += 1;
    }
    guest.ends_well();
}

/// Fuzzes a card with packets of NVSP, before anything was agreed on.
pub fn nvsp(data: &[u8]) {
    run(Guest::new(false), &mut Input::new(data), |guest, input| match input.below(4) {
        0 => guest.other(input),
        _ => guest.nvsp(input),
    });
}

/// Fuzzes a connected card with messages of RNDIS, while frames arrive.
pub fn rndis(data: &[u8]) {
    let input = &mut Input::new(data);
    let mut guest = Guest::new(false);
    guest.connect(input);
    run(guest, input, |guest, input| match input.below(3) {
        0 => guest.other(input),
        _ => {
            let message = message(input);
            guest.rndis(input, &message);
        }
    });
}

/// Fuzzes a card by a driver that does anything, and another VP that writes to its rings and to its data meanwhile.
pub fn network(data: &[u8]) {
    let input = &mut Input::new(data);
    let mut guest = Guest::new(true);
    if input.below(4) > 0 {
        guest.connect(input);
    }
    run(guest, input, |guest, input| match input.below(8) {
        0 | 1 => guest.other(input),
        2 => guest.nvsp(input),
        3 | 4 => {
            let message = message(input);
            guest.rndis(input, &message);
        }
        5 => guest.host.memory.race(input),
        6 => {
            let pages = [RINGS, RINGS + 1, RINGS + 4, RINGS + 5, RINGS + RING_PAGES, SEND.0, LISTED];
            let at = input.of(&pages) * 4096 + (u64::from(input.half()) & 0xffc);
            let _ = guest.host.memory.store_release(at, input.value() as u32);
        }
        _ => guest.post(&input.vmbus_message()),
    });
}
