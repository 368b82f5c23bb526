//! Hyper-V sockets: a guest that connects, opens, closes and fills rings as it likes, and a host that keeps to its
//! credit.

use hv_devices::sockets::{MAX_PAYLOAD, News, Sockets, StreamId, WINDOW, cost};
use hv_memory::GuestMemory as _;
use hv_memory::save::{Reader, Writer};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::{
    ChannelId, CloseChannel, GpadlId, GpadlTeardown, MessageHeader, MessageType, RelIdReleased,
    TlConnectRequest, socket,
};
use hv_vmbus::testing::{self, Nothing, Partition};
use hv_vmbus::{Bus, Config, Slot};
use std::collections::BTreeMap;
use zerocopy::IntoBytes;

use crate::input::Input;
use crate::memory::{Memory, RAM};

/// Maximum number of steps in a run.
const STEPS: usize = 256;
const STREAMS: usize = 3;
const OUTPUT: usize = 20 << 10;
/// Pages of a channel's rings, half of them for each direction.
const PAGES: u64 = 8;

type Lock = spin::Mutex<()>;
type Small = Bus<Lock, Slot<Lock, Sockets<STREAMS, OUTPUT>, STREAMS>, 4, 32>;

type SocketPort = Partition<Nothing, Memory>;

/// What the host knows of a stream.
#[derive(Default)]
struct Known {
    accepted: bool,
    credit: u32,
    finished: bool,
    /// It has ended its own direction.
    done: bool,
    /// Bytes that it has not given credit for.
    taken: u32,
}

/// A bus, and what its host knows.
struct Run {
    bus: Small,
    port: SocketPort,
    streams: BTreeMap<StreamId, Known>,
    requests: Vec<u32>,
    next: u32,
}

impl Run {
    fn post(&self, message: &[u8]) {
        let _ = self.bus.message(4, message, &self.port);
    }

    fn contact(&self) {
        self.post(&testing::contact());
        self.post(&testing::request_offers());
    }

    /// Returns the first page of a channel's rings.
    fn page(channel: u32) -> u64 {
        RAM / 4096 + u64::from(channel - 1) * PAGES
    }

    fn open(&self, channel: u32, clear: bool) {
        let pages: Vec<u64> = (Self::page(channel)..).take(PAGES as usize).collect();
        for page in [pages[0], pages[pages.len() / 2]].into_iter().filter(|_| clear) {
            let _ = self.port.memory.write(page * 4096, &[0; 64]);
        }
        self.post(&testing::gpadl(channel, channel, &pages));
        self.post(&testing::open(channel, channel, PAGES as u32 / 2));
    }

    /// Puts a packet where the guest's index points, and moves it on: whole, or as the input has it.
    fn packet(&self, channel: u32, input: &mut Input<'_>) {
        let (page, size) = (Self::page(channel), (PAGES as u32 / 2 - 1) * 4096);
        let write = self.port.memory.load_acquire(page * 4096).unwrap_or(0) % size / 8 * 8;
        let len = usize::from(input.half() % 700);
        let bytes = input.bytes(len);
        let claimed = if input.below(8) == 0 { input.word() } else { bytes.len() as u32 };
        let kind = if input.below(16) == 0 { input.half() } else { 6 };
        let len = (24 + bytes.len()).next_multiple_of(8);
        let mut packet = Vec::new();
        for half in [kind, 2, (len / 8) as u16, u16::from(input.below(16) == 0)] {
            packet.extend(half.to_le_bytes());
        }
        packet.extend([0; 8]);
        packet.extend(1_u32.to_le_bytes());
        packet.extend(claimed.to_le_bytes());
        packet.extend(bytes);
        packet.resize(len + 8, 0);
        let first = packet.len().min((size - write) as usize);
        let data = (page + 1) * 4096;
        for (at, part) in [(write, &packet[..first]), (0, &packet[first..])] {
            for (n, byte) in part.iter().enumerate() {
                let _ = self.port.memory.write(data + u64::from(at) + n as u64, &[*byte]);
            }
        }
        let _ = self.port.memory.store_release(page * 4096, (write + packet.len() as u32) % size);
    }

    /// Executes a step of the guest.
    fn guest(&mut self, input: &mut Input<'_>) {
        let channel = 1 + input.below(STREAMS) as u32;
        let id = ChannelId(channel);
        let header = MessageHeader::new;
        match input.below(12) {
            0 => self.contact(),
            1 | 2 => {
                let (endpoint, service) =
                    (socket::service(input.below(4) as u32), socket::service(input.below(2) as u32));
                let request =
                    TlConnectRequest { header: header(MessageType::TL_CONNECT_REQUEST), endpoint, service };
                self.post(request.as_bytes());
            }
            3 | 4 => self.open(channel, input.below(8) != 0),
            5 => {
                self.post(
                    CloseChannel { header: header(MessageType::CLOSE_CHANNEL), channel: id }.as_bytes(),
                );
            }
            6 => {
                self.post(
                    RelIdReleased { header: header(MessageType::RELID_RELEASED), channel: id }.as_bytes(),
                );
            }
            7 => {
                let header = header(MessageType::GPADL_TEARDOWN);
                self.post(GpadlTeardown { header, channel: id, gpadl: GpadlId(channel) }.as_bytes());
            }
            8 => self.port.memory.race(input),
            9 => {
                // It has read everything, or says something else.
                let ring = (Self::page(channel) + PAGES / 2) * 4096;
                let write = self.port.memory.load_acquire(ring).unwrap_or(0);
                let index = if input.below(8) == 0 { input.word() } else { write };
                let _ = self.port.memory.store_release(ring + 4, index);
                let _ = self.bus.signal(0x2000 | channel, &self.port);
            }
            _ => {
                self.packet(channel, input);
                let _ = self.bus.signal(0x2000 | channel, &self.port);
            }
        }
    }

    /// Executes a step of the host, which keeps to the rules.
    fn host(&mut self, input: &mut Input<'_>) {
        let Self { bus, port, streams, requests, next, .. } = self;
        let pick = streams.keys().nth(input.below(STREAMS + 1)).copied();
        let (what, len) = (input.below(6), usize::from(input.half() % 5000) + 1);
        let done = bus.with(bus.devices(), port, |device, io| match (what, pick) {
            (0, _) => {
                *next += 1;
                if device.connect(io, *next, 22).is_ok() {
                    requests.push(*next);
                }
            }
            (1, Some(id)) if streams[&id].accepted => {
                streams.entry(id).or_default().done = true;
                device.finish(io, id);
            }
            (1, Some(id)) if len % 4 == 0 => {
                streams.remove(&id);
                device.refuse(io, id);
            }
            (1 | 2, Some(id)) if !streams[&id].accepted => {
                streams.entry(id).or_default().accepted = true;
                device.accept(io, id);
            }
            (2 | 3, Some(id)) => {
                let known = streams.entry(id).or_default();
                if let Some(left) = known.credit.checked_sub(cost(len as u32)) {
                    known.credit = left;
                    // After its own end the host may send nothing: the stream is reset, of which it hears so.
                    if device.send(io, id, &vec![7; len]).is_err() {
                        assert!(known.done, "it had the credit");
                        streams.remove(&id);
                    }
                }
            }
            (4, Some(id)) => {
                let known = streams.entry(id).or_default();
                device.credit(io, id, core::mem::take(&mut known.taken));
            }
            (5, Some(id)) if len % 8 == 0 => {
                streams.remove(&id);
                device.reset(io, id);
            }
            _ => {}
        });
        assert_eq!(done, Ok(()));
    }

    /// Tells the host what there is, of which it takes `room` messages.
    fn tell(&mut self, mut room: usize) {
        let Self { bus, port, streams, requests, .. } = self;
        let told = bus.with(bus.devices(), port, |device, io| {
            device.drain(io, |news| {
                let Some(left) = room.checked_sub(1) else { return false };
                room = left;
                hear(streams, requests, news);
                true
            })
        });
        assert!(told.is_ok());
    }
}

/// Checks that what the host is told makes sense.
fn hear(streams: &mut BTreeMap<StreamId, Known>, requests: &mut Vec<u32>, news: News<'_>) {
    let mut answered = |request: u32| {
        let at = requests.iter().position(|other| *other == request);
        requests.remove(at.expect("a request of the host's"));
    };
    match news {
        News::Connect { stream, .. } => {
            assert!(streams.insert(stream, Known::default()).is_none(), "a name that is in use");
        }
        News::Opened { request, stream, .. } => {
            answered(request);
            let known = Known { accepted: true, ..Known::default() };
            assert!(streams.insert(stream, known).is_none(), "a name that is in use");
        }
        News::Refused { request } => answered(request),
        News::Credit { stream, bytes } => {
            if let Some(known) = streams.get_mut(&stream) {
                known.credit += bytes;
                assert!(known.credit < PAGES as u32 / 2 * 4096, "more than the ring has");
            }
        }
        News::Data { stream, bytes } => {
            assert!((1..=MAX_PAYLOAD as usize).contains(&bytes.len()));
            if let Some(known) = streams.get_mut(&stream) {
                assert!(known.accepted && !known.finished);
                known.taken += bytes.len() as u32;
                assert!(known.taken < WINDOW + MAX_PAYLOAD, "more than the host's window");
            }
        }
        News::Finished { stream } => {
            if let Some(known) = streams.get_mut(&stream) {
                assert!(!core::mem::replace(&mut known.finished, true), "a direction ends once");
            }
        }
        News::Ended { stream } => drop(streams.remove(&stream)),
    }
}

/// Fuzzes connections of sockets.
pub fn sockets(data: &[u8]) {
    let input = &mut Input::new(data);
    let mut run = Run {
        bus: Small::new(Config::DEFAULT, Slot::new(Sockets::new())),
        port: Partition::new(Memory::new(), 1, Nothing),
        streams: BTreeMap::new(),
        requests: Vec::new(),
        next: 0,
    };
    let slot = run.bus.devices();
    assert_eq!(run.bus.with(slot, &run.port, |device, _| device.serve()), Ok(()));
    run.contact();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.below(16) {
            0..8 => run.guest(input),
            8..12 => run.host(input),
            12 | 13 => run.tell(input.below(12)),
            14 => {
                run.port.room.set(if input.flag() { usize::MAX } else { input.below(3) });
                let later = ReferenceTime(u64::from(input.word()));
                run.port.now.set(run.port.now.get().saturating_add(later));
                run.bus.flush(&run.port);
            }
            _ if input.below(4) == 0 => {
                let mut image = Vec::new();
                let saved =
                    run.bus.save(&run.port, &mut Writer::new(&mut |part| image.extend_from_slice(part)));
                assert_eq!(saved, Ok(()), "sockets have no requests");
                run.tell(usize::MAX);
                let restored = run.bus.restore(&run.port, &mut Reader::new(&image));
                assert_eq!(restored, Ok(()));
                run.streams.clear();
                run.requests.clear();
            }
            _ => {}
        }
    }
    // A guest that starts over has no connections, and the host knows.
    run.port.memory.calm();
    run.port.room.set(usize::MAX);
    run.bus.flush(&run.port);
    run.contact();
    run.tell(usize::MAX);
    let left = run.bus.with(run.bus.devices(), &run.port, |device, _| device.connections());
    assert_eq!((left, run.streams.len(), run.requests.len()), (Ok(0), 0, 0));
}
