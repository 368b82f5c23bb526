//! One 4K read of a guest: packet into the ring, signal, SCSI target, completion into the guest's ring. The back end
//! copies nothing.

use core::hint::black_box;
use criterion::Criterion;
use hv_devices::scsi::Disk;
use hv_devices::storage::{self, CONTROLLERS, Failure, MAX_TRANSFER, Request, SEGMENTS, Storage};
use hv_memory::GuestMemory;
use hv_memory::testing::Memory;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::storage::{Operation, Packet, ScsiRequest};
use hv_vmbus::testing;
use hv_vmbus::{Backend, Bus, BusPort, Config, DeviceId, Pages, Posted, Slot, Started, Token};
use zerocopy::{FromZeros, IntoBytes};

/// First pages of the guest's and of the host's ring, and pages of each.
const UP: u64 = 16;
const DOWN: u64 = 24;
const PAGES: u64 = 8;
const RING: u32 = (PAGES as u32 - 1) * 4096;
/// Connection of the controller's first channel.
const CONNECTION: u32 = 0x2001;

/// A partition whose disks have no blocks.
struct Host(Memory);

impl BusPort for Host {
    type Memory = Memory;

    fn memory(&self) -> &Memory {
        &self.0
    }

    fn reference_time(&self) -> ReferenceTime {
        ReferenceTime(0)
    }

    fn post(&self, _: u32, _: u8, _: &[u8]) -> Posted {
        Posted::Queued
    }

    fn interrupt(&self, _: u32, _: u8, _: u16) {}

    fn has_vp(&self, vp: u32) -> bool {
        vp == 0
    }
}

impl Backend<Request> for Host {
    fn start(
        &self,
        _: DeviceId,
        _: Token,
        request: &Request,
        data: Pages<'_>,
    ) -> Started<Result<(), Failure>> {
        black_box((request, data.len()));
        Started::Done(Ok(()))
    }
}

type Controller = Slot<spin::Mutex<()>, Storage<64>, 8, 16, SEGMENTS>;

struct Guest {
    bus: Bus<spin::Mutex<()>, Controller>,
    host: Host,
    /// Where the next packet goes in its ring, and where the next answer is in the other one.
    next: u32,
    answer: u32,
}

impl Guest {
    fn new() -> Self {
        let mut controller = Storage::new();
        controller.attach(0, 0, 0, Disk::new(1 << 30, [7; 16], MAX_TRANSFER)).unwrap();
        let slot = Slot::offering(controller, storage::offer_of(CONTROLLERS[0]));
        let guest = Self {
            bus: Bus::new(Config::DEFAULT, slot),
            host: Host(Memory::new(0, 4 << 20)),
            next: 0,
            answer: 0,
        };
        let rings: Vec<u64> = (UP..UP + 2 * PAGES).collect();
        for message in [
            testing::contact(),
            testing::request_offers(),
            testing::gpadl(1, 1, &rings),
            testing::open(1, 1, PAGES as u32),
        ] {
            guest.bus.message(4, &message, &guest.host).unwrap();
        }
        guest
    }

    /// Puts a packet into the ring, signals, and takes the answer.
    fn send(&mut self, packet: &[u8]) {
        self.host.0.write((UP + 1) * 4096 + u64::from(self.next), packet).unwrap();
        // Packets divide the ring, so that none goes around its end.
        self.next = (self.next + packet.len() as u32) % RING;
        self.host.0.store_release(UP * 4096, self.next).unwrap();
        self.bus.signal(CONNECTION, &self.host).unwrap();
        let written = self.host.0.load_acquire(DOWN * 4096).unwrap();
        assert_ne!(written, self.answer, "there is an answer");
        self.answer = written;
        self.host.0.store_release(DOWN * 4096 + 4, written).unwrap();
    }
}

/// Builds a packet from the guest, as it stands in the ring.
fn packet(vstor: &Packet, data: Option<(u32, u64)>) -> Vec<u8> {
    let mut ranges = Vec::new();
    if let Some((len, page)) = data {
        [0, 1, len, 0].iter().for_each(|word: &u32| ranges.extend(word.to_le_bytes()));
        ranges.extend(page.to_le_bytes());
    }
    let kind: u16 = if data.is_some() { 9 } else { 6 };
    let (offset, total) = (16 + ranges.len(), 16 + ranges.len() + 64);
    let mut bytes = Vec::new();
    [kind, offset as u16 / 8, total as u16 / 8, 1].iter().for_each(|half| bytes.extend(half.to_le_bytes()));
    bytes.extend(7u64.to_le_bytes());
    bytes.extend(ranges);
    bytes.extend(vstor.as_bytes());
    bytes.extend([0; 8]);
    bytes
}

fn control(operation: u32, word: u16) -> Vec<u8> {
    let mut vstor = Packet::new_zeroed();
    vstor.header.operation = Operation(operation);
    vstor.header.flags = 1;
    vstor.body[..2].copy_from_slice(&word.to_le_bytes());
    // As long as a read, so that all packets together divide the ring.
    packet(&vstor, Some((4096, 0x100)))
}

fn read() -> Vec<u8> {
    let mut request = ScsiRequest::new_zeroed();
    request.length = 52;
    request.cdb_length = 10;
    request.sense_length = 20;
    request.direction = 1;
    request.transfer_length = 4096;
    // READ(10) of 8 blocks at block 80.
    request.cdb_or_sense[..10].copy_from_slice(&[0x28, 0, 0, 0, 0, 80, 0, 0, 8, 0]);
    let mut vstor = Packet::new_zeroed();
    vstor.header.operation = Operation::EXECUTE_SRB;
    vstor.header.flags = 1;
    vstor.body.copy_from_slice(request.as_bytes());
    packet(&vstor, Some((4096, 0x100)))
}

fn storage(criterion: &mut Criterion) {
    let mut guest = Guest::new();
    for (operation, word) in [(7, 0), (9, 0x0602), (10, 0), (8, 0)] {
        guest.send(&control(operation, word));
    }
    let read = read();
    assert!(RING.is_multiple_of(read.len() as u32));
    criterion.bench_function("read of 4 KiB", |bencher| bencher.iter(|| guest.send(black_box(&read))));
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    storage(&mut criterion);
    criterion.final_summary();
}
