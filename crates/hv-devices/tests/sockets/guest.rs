//! A guest with sockets, and a host that writes down what it is told.

use hv_devices::sockets::{News, Sockets, StreamId, note};
use hv_memory::GuestMemory as _;
use hv_memory::save::{Reader, Writer};
use hv_memory::testing::Memory;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::socket;
use hv_tlfs::vmbus::{
    ChannelId, Guid, MessageHeader, MessageType, OfferChannel, RelIdReleased, TlConnectRequest,
};
use hv_vmbus::testing::{self, Extra, Partition};
use hv_vmbus::{Bus, BusFaults, Config, Event, Io, Moment, Never, Refused, Slot};
use std::cell::Cell;
use zerocopy::{FromBytes, IntoBytes};

/// Connections at a time.
pub(crate) const STREAMS: usize = 4;
/// Bytes of the output.
pub(crate) const OUTPUT: usize = 20 << 10;
/// Pages of a channel's rings, half of them for each direction.
pub(crate) const PAGES: u64 = 12;
/// Bytes of a ring's data.
pub(crate) const RING: u32 = (PAGES as u32 / 2 - 1) * 4096;

type Tested = Sockets<STREAMS, OUTPUT>;
type Lock = spin::Mutex<()>;

/// What the host was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Connect(StreamId, u32),
    Opened(u32, StreamId, u32),
    Refused(u32),
    Credit(StreamId, u32),
    Data(StreamId, Vec<u8>),
    Finished(StreamId),
    Ended(StreamId),
}

impl From<News<'_>> for Told {
    fn from(news: News<'_>) -> Self {
        match news {
            News::Connect { stream, port } => Self::Connect(stream, port),
            News::Opened { request, stream, own } => Self::Opened(request, stream, own),
            News::Refused { request } => Self::Refused(request),
            News::Credit { stream, bytes } => Self::Credit(stream, bytes),
            News::Data { stream, bytes } => Self::Data(stream, bytes.to_vec()),
            News::Finished { stream } => Self::Finished(stream),
            News::Ended { stream } => Self::Ended(stream),
        }
    }
}

/// The partition.
pub(crate) type Host = Partition<Watch>;

/// What the test sees besides, and the faults.
#[derive(Default)]
pub(crate) struct Watch {
    /// How often the observer heard of news.
    pub(crate) calls: Cell<usize>,
    pub(crate) faults: Cell<usize>,
    /// When the next connection is taken away.
    pub(crate) taken: Cell<Option<Moment>>,
    /// No packets are taken.
    pub(crate) mute: Cell<bool>,
}

impl Extra for Watch {
    fn observe(&self, event: Event) {
        match event {
            Event::Device { note: note::NEWS, .. } => self.calls.set(self.calls.get() + 1),
            Event::Fault { .. } | Event::RingCorrupt { .. } => self.faults.set(self.faults.get() + 1),
            _ => {}
        }
    }
}

impl BusFaults for Watch {
    fn rescinds(&self, interface: &Guid, moment: Moment) -> bool {
        assert!(socket::port(*interface).is_some());
        let strikes = self.taken.get() == Some(moment);
        if strikes {
            self.taken.set(None);
        }
        strikes
    }

    fn is_mute(&self) -> bool {
        self.mute.get()
    }
}

/// A connected guest.
pub(crate) struct Guest {
    pub(crate) bus: Bus<Lock, Slot<Lock, Tested, STREAMS>>,
    pub(crate) host: Host,
    /// Number of its last GPADL.
    gpadls: u32,
}

fn header(kind: MessageType) -> MessageHeader {
    MessageHeader::new(kind)
}

/// Returns the first page of a channel's rings: the one with its guest-to-host ring's header.
fn first_page(channel: u32) -> u64 {
    16 + u64::from(channel) * PAGES
}

impl Guest {
    /// Creates a guest of a host that serves its sockets.
    pub(crate) fn new() -> Self {
        let guest = Self::alone();
        guest.with(|sockets, _| sockets.serve());
        guest
    }

    /// Creates a guest of a host that has none.
    pub(crate) fn alone() -> Self {
        let host = Partition::new(Memory::new(0, 1 << 20), 1, Watch::default());
        let guest = Self { bus: Bus::new(Config::DEFAULT, Slot::new(Tested::new())), host, gpadls: 0 };
        guest.contact();
        guest
    }

    /// Makes contact, as a kernel does when it starts.
    pub(crate) fn contact(&self) {
        self.post(&testing::contact()).unwrap();
        self.post(&testing::request_offers()).unwrap();
        self.host.posted.take();
    }

    pub(crate) fn post(&self, message: &[u8]) -> Result<(), Refused> {
        self.bus.message(4, message, &self.host)
    }

    /// Returns the kinds of the messages that came from the host.
    pub(crate) fn mail(&self) -> Vec<MessageType> {
        self.host.mail()
    }

    /// Takes what devices told the observer, but for news: note and value.
    pub(crate) fn notes(&self) -> Vec<(u32, u64)> {
        self.host.notes.take().into_iter().filter(|(note, _)| *note != note::NEWS).collect()
    }

    /// Returns the one offer that came from the host.
    pub(crate) fn offered(&self) -> OfferChannel {
        let mail = self.host.posted.take();
        assert_eq!(mail.len(), 1, "{mail:?}");
        OfferChannel::read_from_bytes(&mail[0]).expect("an offer")
    }

    /// Asks for a connection from port `own` to the host's port `port`.
    pub(crate) fn connect(&self, own: u32, port: u32) {
        let request = TlConnectRequest {
            header: header(MessageType::TL_CONNECT_REQUEST),
            endpoint: socket::service(own),
            service: socket::service(port),
        };
        self.post(request.as_bytes()).unwrap();
    }

    /// Opens a channel, with empty rings.
    pub(crate) fn open(&mut self, channel: u32) {
        self.clear(channel);
        self.open_as_it_is(channel);
    }

    /// Opens a channel, with rings that have what is in their pages.
    pub(crate) fn open_as_it_is(&mut self, channel: u32) {
        self.gpadls += 1;
        let pages: Vec<u64> = (first_page(channel)..).take(PAGES as usize).collect();
        self.post(&testing::gpadl(channel, self.gpadls, &pages)).unwrap();
        self.post(&testing::open(channel, self.gpadls, PAGES as u32 / 2)).unwrap();
    }

    /// Empties the rings.
    fn clear(&self, channel: u32) {
        for page in [first_page(channel), first_page(channel) + PAGES / 2] {
            self.host.memory.write(page * 4096, &[0; 64]).unwrap();
        }
    }

    /// Closes a channel and releases its number, as Linux does after a rescind.
    pub(crate) fn release(&self, channel: u32) {
        self.close(channel);
        let channel = ChannelId(channel);
        self.post(RelIdReleased { header: header(MessageType::RELID_RELEASED), channel }.as_bytes()).unwrap();
    }

    pub(crate) fn close(&self, channel: u32) {
        self.post(&testing::close(channel)).unwrap();
    }

    fn word(&self, page: u64, offset: u64) -> u32 {
        self.host.memory.load_acquire(page * 4096 + offset).unwrap()
    }

    /// Puts bytes of a stream into the ring and signals. Returns false if there is no room.
    pub(crate) fn write(&self, channel: u32, bytes: &[u8]) -> bool {
        self.put(channel, bytes) && self.signal(channel)
    }

    /// Writes a packet without signalling.
    pub(crate) fn put(&self, channel: u32, bytes: &[u8]) -> bool {
        self.raw(channel, 6, bytes.len() as u32, bytes)
    }

    /// Puts a packet into the ring whose pipe header claims `claimed` bytes.
    pub(crate) fn raw(&self, channel: u32, kind: u16, claimed: u32, bytes: &[u8]) -> bool {
        let ring = first_page(channel);
        let len = (24 + bytes.len()).next_multiple_of(8);
        let (write, read) = (self.word(ring, 0) % RING, self.word(ring, 4) % RING);
        let free = (read + RING - write - 1) % RING;
        if (free as usize) < len + 8 {
            return false;
        }
        let mut packet = Vec::new();
        for half in [kind, 2, len as u16 / 8, 0] {
            packet.extend(half.to_le_bytes());
        }
        packet.extend([0; 8]);
        packet.extend(1_u32.to_le_bytes());
        packet.extend(claimed.to_le_bytes());
        packet.extend(bytes);
        packet.resize(len, 0);
        packet.extend((u64::from(write) << 32).to_le_bytes());
        let wrapped = packet.len().min((RING - write) as usize);
        let data = (ring + 1) * 4096;
        self.host.memory.write(data + u64::from(write), &packet[..wrapped]).unwrap();
        self.host.memory.write(data, &packet[wrapped..]).unwrap();
        let next = (write + packet.len() as u32) % RING;
        self.host.memory.store_release(ring * 4096, next).unwrap();
        true
    }

    pub(crate) fn signal(&self, channel: u32) -> bool {
        self.bus.signal(0x2000 | channel, &self.host).is_ok()
    }

    /// Reads the payloads of all packets in the ring to the guest, and signals.
    pub(crate) fn read(&self, channel: u32) -> Vec<Vec<u8>> {
        let found = self.look(channel);
        self.swallow(channel);
        found
    }

    /// Returns the room of all packets without a look at them, and signals.
    pub(crate) fn swallow(&self, channel: u32) {
        let ring = first_page(channel) + PAGES / 2;
        self.host.memory.store_release(ring * 4096 + 4, self.word(ring, 0)).unwrap();
        self.signal(channel);
    }

    /// Reads them, and returns no room.
    pub(crate) fn look(&self, channel: u32) -> Vec<Vec<u8>> {
        let ring = first_page(channel) + PAGES / 2;
        let (write, mut read) = (self.word(ring, 0), self.word(ring, 4));
        let mut found = Vec::new();
        while read != write {
            let byte = |at: u32| {
                let mut byte = [0];
                let gpa = (ring + 1) * 4096 + u64::from((read + at) % RING);
                self.host.memory.read(gpa, &mut byte).unwrap();
                byte[0]
            };
            let word = |at: u32| u32::from_le_bytes(std::array::from_fn(|i| byte(at + i as u32)));
            assert_eq!((word(0), word(16)), (6 | 2 << 16, 1), "kind and offset, kind of pipe packet");
            let (len, size) = (word(20), u32::from(byte(4)) * 8 + u32::from(byte(5)) * 2048);
            assert_eq!(size, (24 + len).next_multiple_of(8));
            found.push((0..len).map(|at| byte(24 + at)).collect());
            read = (read + size + 8) % RING;
        }
        found
    }

    /// Sets an index of the ring to the host (`false`) or to the guest (`true`): 0 write, 4 read.
    pub(crate) fn set_index(&self, channel: u32, inbound: bool, offset: u64, value: u32) {
        let ring = first_page(channel) + if inbound { PAGES / 2 } else { 0 };
        self.host.memory.store_release(ring * 4096 + offset, value).unwrap();
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Tested, &mut Io<'_, Host, Never>) -> T) -> T {
        self.bus.with(self.bus.devices(), &self.host, work).unwrap()
    }

    /// Returns everything that the host is told now.
    pub(crate) fn news(&self) -> Vec<Told> {
        self.news_of(usize::MAX)
    }

    /// Returns what the host is told now, if it takes `room` messages.
    pub(crate) fn news_of(&self, room: usize) -> Vec<Told> {
        let mut told = Vec::new();
        self.with(|sockets, io| {
            sockets.drain(io, |news| {
                if told.len() == room {
                    return false;
                }
                told.push(Told::from(news));
                true
            })
        });
        told
    }

    /// Advances the time to this.
    pub(crate) fn at(&self, now: ReferenceTime) {
        self.host.now.set(now);
        self.bus.flush(&self.host);
    }

    pub(crate) fn connections(&self) -> usize {
        self.with(|sockets, _| sockets.connections())
    }

    /// Connects the guest's port 1000 + n to the host's port `port`; returns the stream and its channel.
    pub(crate) fn connected(&mut self, own: u32, port: u32) -> (StreamId, u32, u32) {
        self.mail();
        self.connect(own, port);
        let [Told::Connect(stream, found)] = self.news()[..] else { panic!("one connection") };
        assert_eq!(found, port);
        self.with(|sockets, io| sockets.accept(io, stream));
        let channel = self.offered().channel.0;
        self.open(channel);
        let [Told::Credit(of, credit)] = self.news()[..] else { panic!("credit") };
        assert_eq!(of, stream);
        self.mail();
        (stream, channel, credit)
    }

    /// Saves and restores the machine.
    pub(crate) fn restore(&self) {
        let mut image = Vec::new();
        self.bus.save(&self.host, &mut Writer::new(&mut |bytes| image.extend(bytes))).unwrap();
        self.bus.restore(&self.host, &mut Reader::new(&image)).unwrap();
    }
}
