//! A guest with a SCSI controller, and a back end whose disks are bytes.

use hv_devices::storage::{self, CONTROLLERS, Failure, Piece, Request, SEGMENTS, Storage};
use hv_memory::GuestMemory;
use hv_memory::save::{Reader, Writer};
use hv_memory::testing::Memory;
use hv_tlfs::vmbus::MessageType;
use hv_tlfs::vmbus::storage::{Operation, Packet, PacketHeader, ScsiRequest};
use hv_vmbus::testing::{self, Extra, Partition, Serve};
use hv_vmbus::{Bus, BusFaults, Config, Pages, Slot, Started, Token};
use std::cell::{Cell, RefCell};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Bytes of the guest's memory.
const MEMORY: u64 = 4 << 20;
/// Pages of the primary channel's rings, half of them for each direction.
const RINGS: [u64; 16] = [16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31];
const SPLIT: usize = 8;
const RING: u32 = (SPLIT as u32 - 1) * 4096;

/// A request that waits for its end, with the parts of guest memory that its data lie in.
pub(crate) type InFlight = (Token, Request, Vec<(u64, u64)>);

/// The partition.
pub(crate) type Host = Partition<BackEnd>;

/// The back end of the disks.
#[derive(Default)]
pub(crate) struct BackEnd {
    pub(crate) disks: RefCell<Vec<Vec<u8>>>,
    /// Requests are kept until the test completes them.
    pub(crate) hold: Cell<bool>,
    pub(crate) held: RefCell<Vec<InFlight>>,
    /// What the next request fails with.
    pub(crate) failure: Cell<Option<Failure>>,
    pub(crate) flushes: Cell<usize>,
}

impl BusFaults for BackEnd {
    fn is_planned(&self) -> bool {
        false
    }
}

impl Extra for BackEnd {}

/// Bytes of a piece of a command: less than is usual.
pub(crate) const LIMIT: u64 = 32 << 10;

impl Serve<Request> for BackEnd {
    const REQUEST_LIMIT: u64 = LIMIT;

    fn start(
        &self,
        memory: &Memory,
        token: Token,
        request: &Request,
        data: Pages<'_>,
    ) -> Started<Result<(), Failure>> {
        let parts: Vec<_> = data.segments().map(|part| (part.gpa(), part.len())).collect();
        if self.hold.get() {
            self.held.borrow_mut().push((token, *request, parts));
            return Started::Pending;
        }
        Started::Done(self.serve(memory, request, &parts))
    }
}

impl BackEnd {
    /// Does what a request asks for.
    pub(crate) fn serve(
        &self,
        memory: &Memory,
        request: &Request,
        parts: &[(u64, u64)],
    ) -> Result<(), Failure> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let mut disks = self.disks.borrow_mut();
        let disk = &mut disks[usize::from(request.disk)];
        let copy = |gpa: u64, len: u64| {
            let mut bytes = vec![0; len as usize];
            memory.read(gpa, &mut bytes).unwrap();
            bytes
        };
        match request.piece {
            Piece::Read { offset, len } => {
                let mut at = offset as usize;
                assert_eq!(parts.iter().map(|part| part.1).sum::<u64>(), len);
                for (gpa, len) in parts {
                    memory.write(*gpa, &disk[at..at + *len as usize]).unwrap();
                    at += *len as usize;
                }
            }
            Piece::Write { offset, len, durable } => {
                let data: Vec<u8> = parts.iter().flat_map(|(gpa, len)| copy(*gpa, *len)).collect();
                assert_eq!(data.len() as u64, len);
                disk[offset as usize..][..data.len()].copy_from_slice(&data);
                self.flushes.set(self.flushes.get() + usize::from(durable));
            }
            Piece::Fill { offset, len, .. } => {
                let block = copy(parts[0].0, parts[0].1);
                disk[offset as usize..][..len as usize]
                    .chunks_exact_mut(block.len())
                    .for_each(|part| part.copy_from_slice(&block));
            }
            Piece::Clear { offset, len } => {
                disk[offset as usize..][..len as usize].fill(0);
            }
            Piece::Flush => self.flushes.set(self.flushes.get() + 1),
            _ => panic!("{request:?}"),
        }
        Ok(())
    }
}

type Lock = spin::Mutex<()>;
type Controller = Slot<Lock, Storage<8>, 3, 8, SEGMENTS>;

/// A guest that has opened the controller's channel.
pub(crate) struct Guest {
    pub(crate) bus: Bus<Lock, Controller>,
    pub(crate) host: Host,
    next: u64,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) transaction: u64,
    pub(crate) packet: Packet,
    pub(crate) len: usize,
}

impl Answer {
    pub(crate) fn request(&self) -> ScsiRequest {
        ScsiRequest::read_from_bytes(&self.packet.body).unwrap()
    }

    /// Returns SRB status, SCSI status, bytes moved.
    pub(crate) fn ended(&self) -> (u8, u8, u32) {
        let request = self.request();
        (request.srb_status, request.scsi_status, request.transfer_length)
    }

    /// Returns sense key, code and qualifier.
    pub(crate) fn sense(&self) -> Option<(u8, u8, u8)> {
        let (request, sense) = (self.request(), self.request().cdb_or_sense);
        (request.srb_status & 0x80 != 0).then_some((sense[2] & 15, sense[12], sense[13]))
    }
}

impl Guest {
    /// Creates a guest before the controller's initialization.
    pub(crate) fn opened(controller: Storage<8>, disks: Vec<Vec<u8>>) -> Self {
        let back_end = BackEnd { disks: RefCell::new(disks), ..BackEnd::default() };
        let host = Partition::new(Memory::new(0, MEMORY), 4, back_end);
        let slot = Slot::offering(controller, storage::offer_of(CONTROLLERS[0]));
        let mut guest = Self { bus: Bus::new(Config::DEFAULT, slot), host, next: 1 };
        guest.post(&testing::contact());
        guest.post(&testing::request_offers());
        guest.open(1, 1, &RINGS);
        guest
    }

    /// Creates a guest with the controller initialized as Linux does it.
    pub(crate) fn new(controller: Storage<8>, disks: Vec<Vec<u8>>) -> Self {
        let mut guest = Self::opened(controller, disks);
        for (operation, word) in [(7, 0), (9, 0x0602), (10, 0), (8, 0)] {
            let answer = guest.control(operation, word);
            assert_eq!((answer.packet.header.operation.0, answer.packet.header.status.0), (1, 0));
        }
        guest
    }

    /// Saves the bus, which is paused and idle, and continues with a new one, restored from that. `controller`: a new
    /// one with the disks.
    pub(crate) fn restart(&mut self, controller: Storage<8>) {
        let mut image = Vec::new();
        let mut write = |part: &[u8]| image.extend_from_slice(part);
        self.bus.save(&self.host, &mut Writer::new(&mut write)).unwrap();
        let slot = Slot::offering(controller, storage::offer_of(CONTROLLERS[0]));
        self.bus = Bus::new(Config::DEFAULT, slot);
        self.bus.restore(&self.host, &mut Reader::new(&image)).unwrap();
        self.bus.flush(&self.host);
    }

    /// Returns all of the guest's memory.
    pub(crate) fn memory(&self) -> Vec<u8> {
        let mut bytes = vec![0; MEMORY as usize];
        self.host.memory.read(0, &mut bytes).unwrap();
        bytes
    }

    pub(crate) fn post(&mut self, message: &[u8]) {
        self.bus.message(4, message, &self.host).unwrap();
    }

    /// Returns the messages that came from the host.
    pub(crate) fn posted(&self) -> Vec<MessageType> {
        self.host.mail()
    }

    pub(crate) fn open(&mut self, channel: u32, gpadl: u32, pages: &[u64]) {
        self.post(&testing::gpadl(channel, gpadl, pages));
        self.post(&testing::open(channel, gpadl, pages.len() as u32 / 2));
    }

    fn word(&self, page: u64, offset: u64) -> u32 {
        self.host.memory.load_acquire(page * 4096 + offset).unwrap()
    }

    /// Puts a packet into the ring, byte by byte around its end. `ranges`: length, offset and pages.
    pub(crate) fn send(&mut self, vstor: &Packet, len: usize, range: Option<(u32, u32, &[u64])>) -> u64 {
        let id = self.next;
        self.next += 1;
        let mut head = Vec::new();
        if let Some((len, offset, pages)) = range {
            for word in [0, 1, len, offset] {
                head.extend(word.to_le_bytes());
            }
            head.extend(pages.iter().flat_map(|pfn| pfn.to_le_bytes()));
        }
        let (kind, total) = (if range.is_some() { 9u16 } else { 6 }, 16 + head.len() + len);
        let mut bytes = Vec::new();
        for half in [kind, (16 + head.len()) as u16 / 8, total as u16 / 8, 1] {
            bytes.extend(half.to_le_bytes());
        }
        bytes.extend(id.to_le_bytes());
        bytes.extend(head);
        bytes.extend(&vstor.as_bytes()[..len]);
        let write = self.word(RINGS[0], 0);
        bytes.extend((u64::from(write) << 32).to_le_bytes());
        for (at, byte) in bytes.iter().enumerate() {
            let gpa = (RINGS[1] * 4096) + u64::from((write + at as u32) % RING);
            self.host.memory.write(gpa, &[*byte]).unwrap();
        }
        let next = (write + bytes.len() as u32) % RING;
        self.host.memory.store_release(RINGS[0] * 4096, next).unwrap();
        self.bus.signal(0x2001, &self.host).unwrap();
        id
    }

    /// Takes the next packet from the host: kind, and the answer.
    pub(crate) fn receive(&mut self) -> Option<(u16, Answer)> {
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
        let transaction = u64::from_le_bytes(std::array::from_fn(|i| byte(8 + i as u32)));
        let mut packet = Packet::new_zeroed();
        let len = (total - offset) as usize;
        for (at, place) in packet.as_mut_bytes()[..len].iter_mut().enumerate() {
            *place = byte(offset + at as u32);
        }
        let kind = half(0);
        self.host.memory.store_release(ring * 4096 + 4, (read + total + 8) % RING).unwrap();
        Some((kind, Answer { transaction, packet, len }))
    }

    /// Receives the completion of the packet that was just sent.
    fn answer(&mut self, id: u64) -> Answer {
        let (kind, answer) = self.receive().expect("an answer");
        assert_eq!((kind, answer.transaction), (11, id));
        answer
    }

    pub(crate) fn control(&mut self, operation: u32, word: u16) -> Answer {
        let mut vstor = Packet::new_zeroed();
        vstor.header = PacketHeader::new_zeroed();
        vstor.header.operation = Operation(operation);
        vstor.header.flags = 1;
        vstor.body[..2].copy_from_slice(&word.to_le_bytes());
        let id = self.send(&vstor, 64, None);
        self.answer(id)
    }

    /// Builds a command to LUN `lun` of target 0, without data or with a range of the guest's memory.
    pub(crate) fn srb(cdb: &[u8], lun: u8, transfer: u32) -> Packet {
        let mut request = ScsiRequest::new_zeroed();
        request.length = 52;
        request.lun = lun;
        request.cdb_length = cdb.len() as u8;
        request.sense_length = 20;
        request.transfer_length = transfer;
        request.cdb_or_sense[..cdb.len()].copy_from_slice(cdb);
        let mut vstor = Packet::new_zeroed();
        vstor.header.operation = Operation::EXECUTE_SRB;
        vstor.header.flags = 1;
        vstor.body.copy_from_slice(request.as_bytes());
        vstor
    }

    /// Runs a command with `len` bytes of data at page 0x100 on.
    pub(crate) fn command(&mut self, cdb: &[u8], lun: u8, len: u32) -> Answer {
        let id = self.start(cdb, lun, len, 0x100);
        self.answer(id)
    }

    /// Starts a command without waiting for the answer, with data at page `page` on.
    pub(crate) fn start(&mut self, cdb: &[u8], lun: u8, len: u32, page: u64) -> u64 {
        let pages: Vec<u64> = (page..).take(len.div_ceil(4096) as usize).collect();
        let range = (len > 0).then_some((len, 0, &pages[..]));
        self.send(&Self::srb(cdb, lun, len), 64, range)
    }

    pub(crate) fn data(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.host.memory.read(0x100 * 4096, &mut bytes).unwrap();
        bytes
    }

    pub(crate) fn set_data(&self, bytes: &[u8]) {
        self.host.memory.write(0x100 * 4096, bytes).unwrap();
    }
}
