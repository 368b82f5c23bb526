//! A host that runs in another thread, and answers when and in which order it likes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hv_devices::network::Received;
use hv_devices::scsi::Disk as HostDisk;
use hv_devices::storage::{MAX_TRANSFER, Storage};
use hv_drivers::hv_vmbus_client::{Buffer, Dma, Error, Open, PageRun};
use hv_drivers::network::Frames as _;
use hv_drivers::storage::{Address, Controller, Disk};
use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::guid;
use hv_tlfs::vp::VpIndex;

use crate::host::{TestDma, World};
use crate::network::{frame, open as open_card, world as network_world};

const SIZE: usize = 1 << 20;
/// Requests; Miri takes its time.
const REQUESTS: u32 = if cfg!(miri) { 24 } else { 2000 };
/// Looks at the ring without an event before a test fails.
const PATIENCE: usize = 1_000_000;

/// Ends the host's thread, also where the test fails.
struct Done<'d>(&'d AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits for another thread, with an end.
fn waiting() -> impl FnMut() -> Result<(), Error> {
    let mut left = PATIENCE;
    move || {
        left -= 1;
        thread::yield_now();
        if left > 0 { Ok(()) } else { Err(Error::TimedOut) }
    }
}

/// Reads pieces of the disk, eight requests at a time, and compares them with its content. Returns how many requests
/// ended before an earlier one.
pub(crate) fn read_all<D: Dma, C: Conduit>(
    controller: &mut Controller<'_, D, C, u32, 8>,
    disk: &Disk,
    content: &[u8],
    requests: u32,
    dma: &D,
    mut wait: impl FnMut() -> Result<(), Error>,
) -> u32 {
    let block = |n: u32| u64::from(n * 37 % 2000);
    let (mut next, mut ended, mut disorder, mut last, mut free) = (0, 0, 0, 0, Vec::new());
    while ended < requests {
        while next < requests && next < ended + 8 {
            let pages = free.pop().unwrap_or_else(|| PageRun::new(dma, 1).unwrap());
            let data = Buffer { pages, offset: 0, len: 1024 };
            controller.submit_read(next, disk, block(next), data).unwrap();
            next += 1;
        }
        let Some(completion) = controller.poll().unwrap() else {
            wait().unwrap();
            continue;
        };
        assert_eq!(completion.outcome, Ok(1024));
        let (mut bytes, start) = ([0; 1024], block(completion.tag) as usize * 512);
        let pages = completion.data.unwrap().pages;
        pages.read(0, &mut bytes);
        assert!(bytes == content[start..start + 1024], "request {}", completion.tag);
        free.push(pages);
        disorder += u32::from(completion.tag < last);
        (ended, last) = (ended + 1, completion.tag);
    }
    disorder
}

#[test]
pub(crate) fn requests_end_in_another_thread_and_order() {
    let mut storage = Storage::new();
    storage.attach(0, 0, 0, HostDisk::new(SIZE as u64, [7; 16], MAX_TRANSFER)).unwrap();
    let world = World::new(storage, &[SIZE]);
    let mut client = world.client();
    let offer = client.find(guid::SCSI).unwrap();
    let dma = TestDma(world);
    let channel = client.open_channel(&offer, 8, Open::on(VpIndex(0)), &dma, &mut world.os()).unwrap();
    let mut controller: Controller<'_, _, _, u32, 8> = Controller::new(channel, dma);
    let mut wait = waiting();
    controller.wait_ready(&mut wait).unwrap();
    let at = Address { path: 0, target: 0, lun: 0 };
    let disk = controller.disk(at, &mut wait).unwrap().unwrap();
    let content = world.host.disks.lock().unwrap()[0].clone();
    world.host.hold.store(true, Ordering::Relaxed);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut which = 1_usize;
            while !done.load(Ordering::Relaxed) {
                which = which.wrapping_mul(0x9e37_79b9).wrapping_add(7) >> 1;
                if !world.end_one(which % 8) {
                    thread::yield_now();
                }
            }
        });
        let _done = Done(&done);
        let disorder = read_all(&mut controller, &disk, &content, REQUESTS, &dma, wait);
        assert!(disorder > 0, "no request has overtaken another");
    });
    world.host.hold.store(false, Ordering::Relaxed);
    let closing = controller.close(&mut client).unwrap();
    client.block_on(closing, &mut world.os()).unwrap();
    assert_eq!(world.host.ram.live(), 0);
}

#[test]
fn frames_come_from_another_thread_while_others_go() {
    let world = network_world();
    let (mut client, mut card) = open_card(world, 1500);
    let mut wait = waiting();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut n, mut wait) = (0, waiting());
            while n < REQUESTS {
                match world.frame(&frame(60 + n as usize % 1400, n as u8)) {
                    Received::Delivered => n += 1,
                    _ => wait().unwrap(),
                }
                // What came while the card was in use is due at once.
                world.bus.flush(&world.host);
            }
            while !done.load(Ordering::Relaxed) {
                world.bus.flush(&world.host);
                thread::yield_now();
            }
        });
        let _done = Done(&done);
        let (mut received, mut sent, mut room) = (0, 0, [0; 1514]);
        while received < REQUESTS || sent < REQUESTS {
            if sent < REQUESTS && card.send(&frame(60, sent as u8)).is_ok() {
                sent += 1;
            }
            let Some(len) = card.receive(&mut room).unwrap() else {
                wait().unwrap();
                continue;
            };
            assert!(room[..len] == frame(60 + received as usize % 1400, received as u8), "frame {received}");
            received += 1;
        }
    });
    assert_eq!(world.host.frames.lock().unwrap().len(), REQUESTS as usize);
    let counts = card.counts();
    assert_eq!((counts.receive_drops, counts.send_errors), (0, 0));
    let closing = card.close(&mut client).unwrap();
    client.block_on(closing, &mut world.os()).unwrap();
    assert_eq!(world.host.ram.live(), 0);
}
