//! Disks.

use hv_devices::scsi::Disk as HostDisk;
use hv_devices::storage::{Failure as HostFailure, MAX_TRANSFER, Storage};
use hv_drivers::hv_vmbus_client::{self, Buffer, Open, PageRun};
use hv_drivers::storage::{Address, Cdb, Controller, Disk, Error, Extent, Failure, Sense};
use hv_tlfs::vmbus::guid;
use hv_tlfs::vp::VpIndex;
use std::sync::atomic::Ordering;

use crate::host::{TestClient, TestDma, Wire, World};

pub(crate) type Scsi = Controller<'static, TestDma, Wire, u32, 8>;

const SIZE: usize = 2 << 20;
const AT: Address = Address { path: 0, target: 0, lun: 0 };

/// Times out: the host answers at once, or never.
fn never() -> Result<(), hv_vmbus_client::Error> {
    Err(hv_vmbus_client::Error::TimedOut)
}

/// Returns a wait that lets the host continue deferred work, a few times at most.
fn patient(world: &'static World) -> impl FnMut() -> Result<(), hv_vmbus_client::Error> {
    let mut left = 1000;
    move || {
        left -= 1;
        world.bus.flush(&world.host);
        if left > 0 { Ok(()) } else { never() }
    }
}

fn host_disk(size: usize) -> HostDisk {
    HostDisk::new(size as u64, [7; 16], MAX_TRANSFER)
}

fn open(world: &'static World) -> (TestClient, Scsi) {
    let mut client = world.client();
    let offer = client.find(guid::SCSI).unwrap();
    let dma = TestDma(world);
    let channel = client.open_channel(&offer, 8, Open::on(VpIndex(0)), &dma, &mut world.os()).unwrap();
    let mut controller = Controller::new(channel, dma);
    assert_eq!(controller.is_ready(), Ok(false));
    controller.wait_ready(&mut never).unwrap();
    (client, controller)
}

pub(crate) fn close(world: &'static World, mut client: TestClient, controller: Scsi) {
    let closing = controller.close(&mut client).unwrap();
    let flights = client.block_on(closing, &mut world.os()).unwrap();
    drop(flights);
    assert_eq!(world.host.ram.live(), 0);
    // The page of the client's messages.
    assert_eq!(world.host.ram.shared(), (1, 0));
}

/// Creates a host with one disk, and its disk as the guest sees it.
pub(crate) fn one_disk() -> (&'static World, TestClient, Scsi, Disk) {
    let mut storage = Storage::new();
    storage.attach(0, 0, 0, host_disk(SIZE)).unwrap();
    let world = World::new(storage, &[SIZE]);
    let (client, mut controller) = open(world);
    let disk = controller.disk(AT, &mut never).unwrap().unwrap();
    (world, client, controller, disk)
}

#[test]
pub(crate) fn a_controller_is_initialized_and_its_disks_are_found() {
    let mut storage = Storage::new();
    storage.attach(0, 0, 0, host_disk(SIZE)).unwrap();
    storage.attach(0, 5, 1, host_disk(SIZE / 2).read_only()).unwrap();
    storage.attach(1, 63, 2, host_disk(512)).unwrap();
    let world = World::new(storage, &[SIZE, SIZE / 2, 512]);
    let (client, mut controller) = open(world);
    assert_eq!((controller.version(), controller.max_transfer()), (0x602, MAX_TRANSFER));
    assert_eq!(controller.max_channels(), 2);
    let mut disks = Vec::new();
    controller.disks(&mut never, |disk| disks.push(disk)).unwrap();
    let seen: Vec<_> = disks
        .iter()
        .map(|disk| (disk.address.target, disk.address.lun, disk.block_size, disk.blocks, disk.read_only))
        .collect();
    let blocks = SIZE as u64 / 512;
    assert_eq!(seen, [(0, 0, 512, blocks, false), (0, 5, 512, blocks / 2, true), (1, 63, 512, 1, false)]);
    assert!(disks[0].max_discard > 0 && disks[1].max_discard == 0);
    let nowhere = Address { path: 0, target: 0, lun: 9 };
    assert_eq!(controller.disk(nowhere, &mut never), Ok(None));
    let gone = controller.query(nowhere, &Cdb::capacity(32), &mut [0; 32], &mut never);
    assert_eq!(gone, Err(Error::Failed(Failure::NoUnit)));
    close(world, client, controller);
}

#[test]
pub(crate) fn blocks_are_read_and_written_whatever_the_length() {
    let (world, client, mut controller, disk) = one_disk();
    let mut wait = patient(world);
    for (block, count) in [(0, 1), (7, 9), (100, 512), (100, 513), (1, 1500), (4095, 1), (0, 4096)] {
        let mut data = vec![0; count * 512];
        controller.read(&disk, block, &mut data, &mut wait).unwrap();
        let start = block as usize * 512;
        assert!(data == world.host.disks.lock().unwrap()[0][start..start + data.len()], "{block} {count}");
        data.iter_mut().enumerate().for_each(|(n, byte)| *byte = (n / 3) as u8 ^ count as u8);
        controller.write(&disk, block, &data, &mut wait).unwrap();
        assert!(data == world.host.disks.lock().unwrap()[0][start..start + data.len()], "{block} {count}");
    }
    assert_eq!(controller.read(&disk, 4096, &mut [], &mut wait), Ok(()));
    for (block, len) in [(4096, 512), (4095, 1024), (u64::MAX, 512), (0, 511), (0, 4097 * 512)] {
        let mut data = vec![0; len];
        assert_eq!(controller.read(&disk, block, &mut data, &mut wait), Err(Error::Range), "{block} {len}");
        assert_eq!(controller.write(&disk, block, &data, &mut wait), Err(Error::Range), "{block} {len}");
    }
    close(world, client, controller);
}

#[test]
pub(crate) fn flushes_and_discards_reach_the_disk() {
    let (world, client, mut controller, disk) = one_disk();
    controller.flush(&disk, &mut never).unwrap();
    assert_eq!(world.host.flushes.load(Ordering::Relaxed), 1);
    controller.discard(&disk, 8, 100, &mut never).unwrap();
    let mut data = [1; 512 * 102];
    controller.read(&disk, 7, &mut data, &mut never).unwrap();
    assert!(data[512..512 * 101].iter().all(|byte| *byte == 0));
    assert!(data[..512].iter().any(|byte| *byte != 0) && data[512 * 101..].iter().any(|byte| *byte != 0));
    assert_eq!(controller.discard(&disk, 4000, 100, &mut never), Err(Error::Range));
    assert_eq!(controller.discard(&disk, u64::MAX, 1, &mut never), Err(Error::Range));
    let mut never_discards = disk;
    never_discards.max_discard = 0;
    assert_eq!(controller.discard(&never_discards, 0, 1, &mut never), Err(Error::Unsupported));
    close(world, client, controller);
}

#[test]
pub(crate) fn requests_in_flight_end_in_any_order_each_with_its_own_memory() {
    let (world, client, mut controller, disk) = one_disk();
    let dma = TestDma(world);
    world.host.hold.store(true, Ordering::Relaxed);
    let mut ended = Vec::new();
    for round in 0..6 {
        for tag in 0..8_u32 {
            // Odd ones write, each its own blocks; offsets in the memory differ.
            let pages = PageRun::of_bytes(&dma, 3 * 4096).unwrap();
            let offset = 512 * tag as usize;
            pages.write(offset, &[tag as u8 + 100; 8192]);
            let data = Buffer { pages, offset, len: 8192 };
            let block = u64::from(tag) * 16;
            if tag % 2 == 1 {
                controller.submit_write(tag, &disk, block, tag == 1, data).unwrap();
            } else {
                controller.submit_read(tag, &disk, block, data).unwrap();
            }
        }
        let refused = controller.submit_flush(9, &disk).unwrap_err();
        assert_eq!((refused.tag, refused.error), (9, Error::Client(hv_vmbus_client::Error::InUse)));
        assert!(controller.poll().unwrap().is_none());
        for n in 0..8 {
            assert!(world.end_one(n * round));
            let done = controller.poll().unwrap().expect("one has ended");
            assert_eq!(done.outcome, Ok(8192));
            let data = done.data.unwrap();
            assert_eq!((data.offset, data.len), (512 * done.tag as usize, 8192));
            let mut bytes = [0; 8192];
            data.pages.read(data.offset, &mut bytes);
            let start = done.tag as usize * 8192;
            assert!(bytes == world.host.disks.lock().unwrap()[0][start..start + 8192], "{}", done.tag);
            if round > 0 {
                ended.push(done.tag);
            }
        }
        assert!(controller.poll().unwrap().is_none());
    }
    assert!(ended.chunks(8).any(|round| !round.is_sorted()), "some ended out of order");
    assert_eq!(world.host.flushes.load(Ordering::Relaxed), 6, "durable writes");
    world.host.hold.store(false, Ordering::Relaxed);
    controller.submit_discard(1, &disk, Extent { block: 0, count: 16 }).unwrap();
    controller.submit_flush(2, &disk).unwrap();
    let tags: Vec<_> = std::iter::from_fn(|| controller.poll().unwrap()).map(|done| done.tag).collect();
    assert_eq!(tags, [1, 2]);
    assert!(world.host.disks.lock().unwrap()[0][..8192].iter().all(|byte| *byte == 0));
    close(world, client, controller);
}

#[test]
pub(crate) fn a_function_that_blocks_keeps_what_else_ends_meanwhile() {
    let (world, client, mut controller, disk) = one_disk();
    world.host.hold.store(true, Ordering::Relaxed);
    for tag in 0..3 {
        controller.submit_flush(tag, &disk).unwrap();
    }
    let mut data = [0; 512];
    let mut ends = || if world.end_one(0) { Ok(()) } else { never() };
    controller.read(&disk, 3, &mut data, &mut ends).unwrap();
    assert_eq!(data, world.host.disks.lock().unwrap()[0][1536..2048]);
    let mut tags: Vec<_> = std::iter::from_fn(|| controller.poll().unwrap()).map(|done| done.tag).collect();
    tags.sort_unstable();
    assert_eq!(tags, [0, 1, 2]);
    close(world, client, controller);
}

#[test]
pub(crate) fn what_ends_while_functions_block_is_returned_in_its_order() {
    let (world, client, mut controller, disk) = one_disk();
    world.host.hold.store(true, Ordering::Relaxed);
    let mut ends = || if world.end_one(0) { Ok(()) } else { never() };
    (0..7).for_each(|tag| controller.submit_flush(tag, &disk).unwrap());
    controller.read(&disk, 3, &mut [0; 512], &mut ends).unwrap();
    controller.submit_flush(7, &disk).unwrap();
    let refused = controller.submit_flush(8, &disk).unwrap_err();
    assert_eq!(refused.error, Error::Client(hv_vmbus_client::Error::InUse), "seven wait, one is in flight");
    (0..3).for_each(|tag| assert_eq!(controller.poll().unwrap().map(|done| done.tag), Some(tag)));
    controller.read(&disk, 3, &mut [0; 512], &mut ends).unwrap();
    let tags: Vec<_> = std::iter::from_fn(|| controller.poll().unwrap()).map(|done| done.tag).collect();
    assert_eq!(tags, [3, 4, 5, 6, 7]);
    close(world, client, controller);
}

#[test]
pub(crate) fn memory_of_a_wait_that_was_given_up_comes_back_later() {
    let (world, client, mut controller, disk) = one_disk();
    world.host.hold.store(true, Ordering::Relaxed);
    let mut data = [0; 512];
    let timed_out = Err(Error::Client(hv_vmbus_client::Error::TimedOut));
    assert_eq!(controller.read(&disk, 3, &mut data, &mut never), timed_out);
    let live = world.host.ram.live();
    // The next one has memory of its own: the host may still write to the other.
    assert_eq!(controller.read(&disk, 4, &mut data, &mut never), timed_out);
    assert!(world.host.ram.live() > live);
    while world.end_one(1) {}
    world.host.hold.store(false, Ordering::Relaxed);
    controller.read(&disk, 5, &mut data, &mut never).unwrap();
    assert_eq!(data, world.host.disks.lock().unwrap()[0][2560..3072], "not the answer that came late");
    close(world, client, controller);
}

#[test]
pub(crate) fn failures_of_the_disk_are_told_with_their_sense() {
    let (world, client, mut controller, disk) = one_disk();
    let mut data = [0; 512];
    *world.host.failure.lock().unwrap() = Some(HostFailure::Medium);
    let medium = Failure::Sense(Sense { key: 3, code: 0x11, qualifier: 0 });
    assert_eq!(controller.read(&disk, 0, &mut data, &mut never), Err(Error::Failed(medium)));
    *world.host.failure.lock().unwrap() = Some(HostFailure::Target);
    assert!(matches!(controller.write(&disk, 0, &data, &mut never), Err(Error::Failed(Failure::Sense(_)))));
    controller.read(&disk, 0, &mut data, &mut never).unwrap();
    // A disk that the guest takes for larger than it is.
    let mut larger = disk;
    larger.blocks = 5000;
    let beyond = Failure::Sense(Sense { key: 5, code: 0x21, qualifier: 0 });
    assert_eq!(controller.read(&larger, 4096, &mut data, &mut never), Err(Error::Failed(beyond)));
    let long =
        Buffer { pages: PageRun::new(&TestDma(world), 1).unwrap(), offset: 0, len: MAX_TRANSFER + 512 };
    let refused = controller.submit_read(1, &disk, 0, long).unwrap_err();
    assert_eq!(refused.error, Error::TooLong(MAX_TRANSFER));
    drop(refused);
    let short = Buffer { pages: PageRun::new(&TestDma(world), 1).unwrap(), offset: 0, len: 4096 + 512 };
    let refused = controller.submit_read(1, &disk, 0, short).unwrap_err();
    assert!(matches!(refused.error, Error::Client(hv_vmbus_client::Error::Send(_))), "{refused:?}");
    drop(refused);
    close(world, client, controller);
}

#[test]
fn disks_come_grow_and_go_while_the_guest_runs() {
    let (world, client, mut controller, disk) = one_disk();
    assert!(!controller.take_changed());
    let slot = &world.bus.devices().disks;
    world.host.disks.lock().unwrap().push(vec![9; SIZE]);
    world
        .bus
        .with(slot, &world.host, |device, io| {
            device.attach(0, 1, 1, host_disk(SIZE)).unwrap();
            device.announce(io);
        })
        .unwrap();
    assert!(controller.poll().unwrap().is_none());
    assert!(controller.take_changed() && !controller.take_changed());
    let mut disks = Vec::new();
    controller.disks(&mut never, |disk| disks.push(disk)).unwrap();
    assert_eq!(disks.len(), 2);
    let mut data = [0; 512];
    controller.read(&disks[1], 0, &mut data, &mut never).unwrap();
    assert_eq!(data, [9; 512]);
    // A resize is told with the next command, which is tried again.
    world.bus.with(slot, &world.host, |device, _| device.disk_mut(0, 0).unwrap().resize(1 << 20)).unwrap();
    controller.read(&disk, 0, &mut data, &mut never).unwrap();
    assert!(controller.take_changed());
    assert_eq!(controller.disk(AT, &mut never).unwrap().unwrap().blocks, 2048);
    world
        .bus
        .with(slot, &world.host, |device, io| {
            device.detach(0, 1).unwrap();
            device.announce(io);
        })
        .unwrap();
    let gone = controller.read(&disks[1], 0, &mut data, &mut never);
    assert_eq!(gone, Err(Error::Failed(Failure::NoUnit)));
    assert!(controller.take_changed());
    controller.reset(&mut never).unwrap();
    controller.read(&disk, 0, &mut data, &mut never).unwrap();
    close(world, client, controller);
}

#[test]
pub(crate) fn memory_in_flight_comes_back_when_the_controller_is_rescinded_or_closed() {
    for rescind in [false, true] {
        let (world, mut client, mut controller, disk) = one_disk();
        world.host.hold.store(true, Ordering::Relaxed);
        for tag in 0..3 {
            let pages = PageRun::new(&TestDma(world), 1).unwrap();
            controller.submit_read(tag, &disk, 0, Buffer { pages, offset: 0, len: 4096 }).unwrap();
        }
        let channel = client.find(guid::SCSI).unwrap().channel();
        if rescind {
            assert!(world.bus.rescind(channel, &world.host));
        }
        let closing = if rescind {
            // The host says that the channel is gone when its last access is over.
            while world.end_one(0) {}
            let mut os = world.os();
            while hv_vmbus_client::Wait::wait(&mut os, &mut client).is_ok() {}
            assert!(controller.is_over());
            controller.close(&mut client).unwrap()
        } else {
            let closing = controller.close(&mut client).unwrap();
            // The rings are torn down only when nothing is in flight.
            let returned = client.block_on(closing, &mut world.os()).unwrap_err();
            assert_eq!(returned.error, hv_vmbus_client::Error::TimedOut);
            while world.end_one(0) {}
            returned.value
        };
        let flights = client.block_on(closing, &mut world.os()).unwrap();
        let tags: Vec<_> = flights.iter().flatten().map(|(tag, data)| (*tag, data.is_some())).collect();
        assert_eq!(tags, [(0, true), (1, true), (2, true)]);
        drop(flights);
        assert_eq!(world.host.ram.live(), 0);
        if rescind {
            client.release(channel).unwrap();
        }
    }
}

#[test]
fn a_disk_without_a_block_size_has_no_blocks() {
    let (world, client, mut controller, disk) = one_disk();
    let none = disk.with_block_size(0);
    assert_eq!(controller.read(&none, 0, &mut [0; 512], &mut never), Err(Error::Range));
    assert_eq!(controller.write(&none, 0, &[0; 512], &mut never), Err(Error::Range));
    close(world, client, controller);
}

#[test]
fn bytes_are_read_and_written_at_any_offset() {
    use embedded_storage::{ReadStorage, Storage as _};
    use hv_drivers::storage::Bytes;
    let (world, client, mut controller, disk) = one_disk();
    let mut bytes = Bytes::new(&mut controller, disk, patient(world)).unwrap();
    assert_eq!(bytes.capacity(), SIZE);
    for (offset, len) in
        [(0, 0), (0, 1), (511, 2), (512, 512), (700, 5000), (1, 1023), (SIZE - 1, 1), (SIZE, 0)]
    {
        let mut expected = world.host.disks.lock().unwrap()[0].clone();
        let mut read = vec![0; len];
        bytes.read(offset as u32, &mut read).unwrap();
        assert!(read == expected[offset..offset + len], "{offset} {len}");
        read.iter_mut().for_each(|byte| *byte ^= 0x5a);
        bytes.write(offset as u32, &read).unwrap();
        expected[offset..offset + len].copy_from_slice(&read);
        assert!(expected == world.host.disks.lock().unwrap()[0], "{offset} {len}: other bytes have changed");
    }
    for (offset, len) in [(SIZE, 1), (SIZE - 1, 2), (u32::MAX as usize, 512)] {
        assert_eq!(bytes.read(offset as u32, &mut vec![0; len]), Err(Error::Range), "{offset} {len}");
        assert_eq!(bytes.write(offset as u32, &vec![0; len]), Err(Error::Range), "{offset} {len}");
    }
    let long = disk.with_block_size(8192);
    assert_eq!(Bytes::new(&mut controller, long, patient(world)).err(), Some(Error::Range));
    // One with more bytes than the traits can name.
    let large = disk.with_blocks(u64::MAX);
    assert_eq!(Bytes::new(&mut controller, large, patient(world)).unwrap().capacity(), 1 << 32);
    close(world, client, controller);
}
