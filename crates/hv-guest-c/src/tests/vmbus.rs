//! The bus and its devices, as a kernel in C uses them, against the host's devices in this process.

use core::ffi::{CStr, c_int, c_void};
use core::ptr::null_mut;
use std::sync::atomic::Ordering;

use hv_devices::network::Received;
use hv_guest::page::Page;

use super::SINT;
use super::devices::{KernelWorld, pointer, zeros};
use super::host::MAC;
use crate::*;

/// Bytes of a block.
const BLOCK: usize = 512;

/// Gathers the tags of requests that did not end.
unsafe extern "C" fn lost(context: *mut c_void, tag: *mut c_void) {
    // SAFETY: the test passes a vector.
    unsafe { &mut *context.cast::<Vec<usize>>() }.push(tag.addr());
}

#[test]
fn a_kernel_reads_and_writes_disks_with_requests_in_flight_and_takes_frames() {
    let mut machine = KernelWorld::boot();
    machine.connect();
    let mut offers = std::vec![*zeros::<hv_offer>(); 16];
    // SAFETY: a bus that is open; room for sixteen.
    let count = unsafe { hv_bus_offers(machine.bus, offers.as_mut_ptr(), 16) };
    assert_eq!(count, 8, "one of each device");
    assert_eq!(offers.iter().filter(|offer| offer.kind == HV_DEVICE_STORAGE).count(), 1);
    let disks = machine.open_storage();
    assert_eq!((disks[0].lun, disks[1].lun, disks[1].block_size, disks[1].blocks), (0, 1, 512, 2048));
    calls_that_wait(&mut machine, &disks[1]);
    let memory = machine.memory(16);
    requests_in_flight(&mut machine, &disks[0], memory);
    write_without_a_copy(&mut machine, &disks[0], &memory[0]);
    assert_eq!(machine.open_net(), 0);
    frames_both_ways(&mut machine);
    // SAFETY: a card that is open, and a bus.
    assert_eq!(unsafe { hv_net_close(machine.net, machine.bus) }, 0);
    // SAFETY: a controller that is open, and a bus.
    assert_eq!(unsafe { hv_storage_close(machine.storage, machine.bus, None, null_mut()) }, 0);
    machine.close();
    // The objects can be used again.
    machine.connect();
    machine.open_storage();
    // SAFETY: a controller that is open, and a bus.
    assert_eq!(unsafe { hv_storage_close(machine.storage, machine.bus, None, null_mut()) }, 0);
    machine.close();
}

/// Reads, writes and flushes by the calls that wait, with memory of any kind.
fn calls_that_wait(machine: &mut KernelWorld, disk: &hv_disk) {
    let mut sectors = std::vec![0_u8; 3 * BLOCK + 1];
    let into = sectors[1..].as_mut_ptr().cast();
    // SAFETY: a controller that is open, a disk, and room for three blocks.
    assert_eq!(unsafe { hv_storage_read(machine.storage, disk, 5, into, 3 * BLOCK) }, 0);
    assert_eq!(sectors[1..], machine.world.host.disks.lock().unwrap()[1][5 * BLOCK..8 * BLOCK]);
    // SAFETY: a controller that is open, a disk, and two blocks.
    let wrote = unsafe { hv_storage_write(machine.storage, disk, 2046, into, 2 * BLOCK) };
    assert_eq!(wrote, 0);
    assert_eq!(machine.world.host.disks.lock().unwrap()[1][2046 * BLOCK..], sectors[1..=2 * BLOCK]);
    // SAFETY: a controller that is open, and a disk.
    assert_eq!(unsafe { hv_storage_flush(machine.storage, disk) }, 0);
    assert_eq!(machine.world.host.flushes.load(Ordering::Relaxed), 1);
}

/// Has eight reads in flight, which the host ends in another order.
fn requests_in_flight(machine: &mut KernelWorld, disk: &hv_disk, memory: &[Page]) {
    machine.world.host.hold.store(true, Ordering::Relaxed);
    for n in 0..8 {
        let (tag, place) = (core::ptr::without_provenance_mut(100 + n), pointer(&memory[2 * n]));
        // SAFETY: a controller that is open, a disk, and two pages that nothing else uses.
        let submitted = unsafe {
            hv_storage_submit_read(machine.storage, disk, 10 * n as u64, place, 5 * BLOCK as u32, tag)
        };
        assert_eq!(submitted, 0);
    }
    assert_eq!(machine.poll().unwrap_err(), 0, "nothing has ended");
    (0..8).for_each(|n| assert!(machine.world.end_one(5 * n)));
    machine.world.host.hold.store(false, Ordering::Relaxed);
    let mut ended = Vec::new();
    while let Ok(completion) = machine.poll() {
        let n = completion.tag.addr() - 100;
        assert_eq!((completion.error, completion.bytes as usize), (0, 5 * BLOCK));
        assert_eq!(completion.memory, pointer(&memory[2 * n]));
        let mut bytes = [0; 5 * BLOCK];
        memory[2 * n].read(0, &mut bytes);
        assert_eq!(bytes, machine.world.host.disks.lock().unwrap()[0][10 * n * BLOCK..][..5 * BLOCK]);
        ended.push(n);
    }
    assert_eq!(ended.len(), 8);
    assert!(!ended.is_sorted(), "in the host's order: {ended:?}");
}

/// Writes a page that is not copied, and flushes.
fn write_without_a_copy(machine: &mut KernelWorld, disk: &hv_disk, page: &Page) {
    page.write(0, &[0x5a; 4096]);
    // SAFETY: a controller that is open, a disk, and a page that nothing else uses.
    let submitted =
        unsafe { hv_storage_submit_write(machine.storage, disk, 8, 1, pointer(page), 4096, null_mut()) };
    assert_eq!(submitted, 0);
    // SAFETY: a controller that is open, and a disk.
    assert_eq!(unsafe { hv_storage_submit_flush(machine.storage, disk, null_mut()) }, 0);
    assert_eq!(machine.poll().unwrap().memory, pointer(page));
    assert_eq!(machine.poll().unwrap().memory, null_mut());
    assert_eq!(machine.world.host.disks.lock().unwrap()[0][8 * BLOCK..][..4096], [0x5a; 4096]);
}

/// Sends a frame and receives one.
fn frames_both_ways(machine: &mut KernelWorld) {
    let mut info = hv_net_info::default();
    // SAFETY: a card that is open, and a place for what is known of it.
    assert_eq!(unsafe { hv_net_info(machine.net, &mut info) }, 0);
    assert_eq!((info.mac, info.mtu, info.up, info.can_send, info.version), (MAC, 1500, 1, 1, 0x60001));
    let frame: Vec<u8> = (0..600).map(|n| (n * 3) as u8).collect();
    // SAFETY: a card that is open, and a frame.
    assert_eq!(unsafe { hv_net_send(machine.net, frame.as_ptr().cast(), frame.len()) }, 0);
    assert_eq!(*machine.world.host.frames.lock().unwrap(), core::slice::from_ref(&frame));
    let mut to_us = frame.clone();
    to_us[..6].copy_from_slice(&MAC);
    assert_eq!(machine.world.frame(&to_us), Received::Delivered);
    let mut room = [0_u8; 1514];
    // SAFETY: a card that is open, and room for a frame.
    let mut receive = || unsafe { hv_net_receive(machine.net, room.as_mut_ptr().cast(), 1514) };
    assert_eq!((receive(), receive()), (600, 0));
    assert_eq!(room[..600], to_us);
}

#[test]
fn what_is_in_flight_comes_back_when_the_controller_is_closed() {
    let mut machine = KernelWorld::boot();
    machine.connect();
    let disks = machine.open_storage();
    let memory = machine.memory(4);
    machine.world.host.hold.store(true, Ordering::Relaxed);
    for (n, page) in memory.iter().enumerate() {
        let tag = core::ptr::without_provenance_mut(n);
        // SAFETY: a controller that is open, a disk, and a page that nothing else uses.
        let submitted =
            unsafe { hv_storage_submit_read(machine.storage, &disks[0], 0, pointer(page), 512, tag) };
        assert_eq!(submitted, 0);
    }
    // One has ended, and was not polled.
    assert!(machine.world.end_one(0));
    // The host holds the rest, and does not give the rings back: the kernel gives up after a while.
    *machine.seen.patience.lock().unwrap() = 5;
    let mut tags: Vec<usize> = Vec::new();
    let context = core::ptr::from_mut(&mut tags).cast();
    // SAFETY: a controller that is open, a bus, and a function that takes the context.
    let close = |machine: &mut KernelWorld| unsafe {
        hv_storage_close(machine.storage, machine.bus, Some(lost), context)
    };
    assert_eq!(close(&mut machine), HV_E_TIMED_OUT);
    assert_eq!(machine.poll().unwrap_err(), HV_E_CLOSED, "it is being closed");
    // SAFETY: a bus that is open.
    assert_eq!(unsafe { hv_bus_close(machine.bus) }, HV_E_IN_USE, "a device is open");
    while machine.world.end_one(0) {}
    *machine.seen.patience.lock().unwrap() = 100;
    assert_eq!(close(&mut machine), 0);
    tags.sort_unstable();
    assert_eq!(tags, [0, 1, 2, 3]);
    machine.close();
}

#[test]
fn a_device_that_the_host_removes_is_gone_and_can_be_closed() {
    let mut machine = KernelWorld::boot();
    machine.connect();
    let disks = machine.open_storage();
    assert_eq!(machine.open_net(), 0);
    let (disk, card) = (machine.find(HV_DEVICE_STORAGE), machine.find(HV_DEVICE_NET));
    machine.seen.notices.lock().unwrap().clear();
    machine.rescind(disk);
    machine.rescind(card);
    // SAFETY: a bus that is open.
    assert_eq!(unsafe { hv_bus_interrupt(machine.bus) }, 2);
    let notices = machine.seen.notices.lock().unwrap().clone();
    assert_eq!(notices, [(HV_NOTICE_REMOVED, disk), (HV_NOTICE_REMOVED, card)]);
    assert_eq!(machine.poll().unwrap_err(), HV_E_GONE);
    let page = &machine.memory(1)[0];
    // SAFETY: a controller that is open, a disk, and a page that nothing else uses.
    let submitted =
        unsafe { hv_storage_submit_read(machine.storage, &disks[0], 0, pointer(page), 512, null_mut()) };
    assert_eq!(submitted, HV_E_GONE);
    let mut room = [0_u8; 1514];
    // SAFETY: a card that is open, and room for a frame.
    assert_eq!(unsafe { hv_net_receive(machine.net, room.as_mut_ptr().cast(), 1514) }, HV_E_GONE);
    // SAFETY: a bus that is open.
    assert_eq!(unsafe { hv_bus_find(machine.bus, HV_DEVICE_STORAGE, 0) }, HV_E_NOT_FOUND);
    // SAFETY: a card that is open, and a bus.
    assert_eq!(unsafe { hv_net_close(machine.net, machine.bus) }, 0);
    // SAFETY: a controller that is open, and a bus.
    assert_eq!(unsafe { hv_storage_close(machine.storage, machine.bus, None, null_mut()) }, 0);
    machine.close();
}

#[test]
fn an_unload_ends_the_connection_whatever_is_open() {
    let mut machine = KernelWorld::boot();
    machine.connect();
    machine.open_storage();
    // SAFETY: a bus that is open.
    let unload = |machine: &mut KernelWorld| unsafe { hv_bus_unload(machine.bus) };
    assert_eq!((unload(&mut machine), unload(&mut machine)), (0, 0));
    assert!(machine.seen.notices.lock().unwrap().contains(&(HV_NOTICE_UNLOADED, 0)));
    assert_eq!(machine.poll().unwrap_err(), HV_E_GONE);
    // SAFETY: a bus that is open.
    let connected = unsafe { hv_bus_connect(machine.bus) };
    assert_eq!(connected, HV_E_IN_USE, "the controller has memory of the old connection");
    // SAFETY: a controller that is open, and a bus.
    assert_eq!(unsafe { hv_storage_close(machine.storage, machine.bus, None, null_mut()) }, 0);
    // SAFETY: a bus that is open.
    assert_eq!(unsafe { hv_bus_connect(machine.bus) }, 0x60000);
    machine.close();
}

#[test]
fn event_flags_name_the_channels_once() {
    let mut machine = KernelWorld::boot();
    machine.connect();
    for flag in [3, 64, 2047] {
        machine.kernel.bed.signal(0, SINT, flag).unwrap();
    }
    unsafe extern "C" fn each(context: *mut c_void, channel: u32) {
        // SAFETY: the test passes a vector.
        unsafe { &mut *context.cast::<Vec<u32>>() }.push(channel);
    }
    let (mut channels, events) = (Vec::<u32>::new(), pointer(machine.events));
    let context = core::ptr::from_mut(&mut channels).cast();
    // SAFETY: an event flags page, and a function that takes the context.
    let take = || unsafe { hv_bus_events(events, SINT.into(), Some(each), context) };
    assert_eq!((take(), take()), (3, 0));
    assert_eq!(channels, [3, 64, 2047]);
    machine.close();
}

#[test]
fn each_error_has_its_name_and_a_text() {
    macro_rules! names {
        ($($name:ident)*) => {[$(($name, stringify!($name))),*]};
    }
    let all = names! {
        HV_E_ARGUMENT HV_E_SIZE HV_E_CLOSED HV_E_IN_USE HV_E_NO_HYPERV HV_E_NOT_CONNECTED HV_E_NO_VERSION HV_E_REFUSED
        HV_E_MALFORMED HV_E_NOT_FOUND HV_E_GONE HV_E_NO_SLOT HV_E_NO_MEMORY HV_E_POST HV_E_AGAIN HV_E_DEAD
        HV_E_TIMED_OUT HV_E_WRONG_VP HV_E_RANGE HV_E_TOO_LONG HV_E_UNSUPPORTED HV_E_IO
    };
    // SAFETY: a string of C.
    let text = |text| unsafe { CStr::from_ptr(text) }.to_str().unwrap();
    let mut texts = std::collections::BTreeSet::new();
    for (error, name) in all {
        assert_eq!(text(hv_error_name(error)), name);
        assert!(texts.insert(text(hv_strerror(error))), "{name}");
    }
    assert_eq!(all.map(|(error, _)| error).to_vec(), (1..=22).map(|n| -n).collect::<Vec<c_int>>());
    for (error, name) in
        [(0, "HV_OK"), (1, "HV_E_UNKNOWN"), (-23, "HV_E_UNKNOWN"), (c_int::MIN, "HV_E_UNKNOWN")]
    {
        assert_eq!(text(hv_error_name(error)), name);
    }
}
