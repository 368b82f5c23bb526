//! What a kernel in C does wrong is an error.
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "tables of calls, all of them on the test's own objects"
)]

use core::ffi::{c_int, c_void};
use core::ptr::{null, null_mut};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use hv_guest::page::Page;

use super::devices::{KernelWorld, pointer, rescind, zeros};
use crate::machine::{be, current};
use crate::*;

#[test]
fn a_bus_needs_its_size_its_callbacks_and_hyper_v() {
    let mut machine = KernelWorld::boot();
    let good = machine.config();
    // SAFETY: zeros or a bus that is open, and a configuration whose callbacks are the test's own, or null.
    let mut init =
        |size: usize, config: *const hv_bus_config| unsafe { hv_bus_init(machine.bus, size, config) };
    let size = size_of::<hv_bus>();
    assert_eq!(init(size - 8, &good), HV_E_SIZE);
    assert_eq!(init(size, null()), HV_E_ARGUMENT);
    assert_eq!(init(size, &hv_bus_config { size: good.size + 8, ..good }), HV_E_SIZE);
    assert_eq!(init(size, &hv_bus_config { allocate: None, ..good }), HV_E_ARGUMENT);
    assert_eq!(init(size, &hv_bus_config { free: None, ..good }), HV_E_ARGUMENT);
    assert_eq!(init(size, &hv_bus_config { messages: null_mut(), ..good }), HV_E_ARGUMENT);
    let inside = good.messages.wrapping_byte_add(256);
    assert_eq!(init(size, &hv_bus_config { messages: inside, ..good }), HV_E_ARGUMENT);
    assert_eq!(init(size, &hv_bus_config { sint: 16, ..good }), HV_E_ARGUMENT);
    assert_eq!(init(size, &good), 0);
    assert_eq!(init(size, &good), HV_E_IN_USE, "it is open");
    // SAFETY: null is allowed.
    assert_eq!(unsafe { hv_bus_init(null_mut(), size, &good) }, HV_E_ARGUMENT);
    // SAFETY: an address that is not aligned is refused.
    let odd = unsafe { hv_bus_init(core::ptr::from_mut(machine.bus).wrapping_byte_add(4), size, &good) };
    assert_eq!(odd, HV_E_ARGUMENT);
    machine.close();
    assert_eq!(hyperv_cleanup(), 0);
    // SAFETY: a closed bus, and a good configuration.
    assert_eq!(unsafe { hv_bus_init(machine.bus, size, &good) }, HV_E_NO_HYPERV);
}

#[test]
#[cfg(target_os = "linux")]
fn of_a_configuration_of_another_version_only_the_size_is_read() {
    unsafe extern "C" {
        fn mmap(
            at: *mut c_void,
            bytes: usize,
            prot: c_int,
            flags: c_int,
            fd: c_int,
            from: isize,
        ) -> *mut c_void;
        fn mprotect(at: *mut c_void, bytes: usize, prot: c_int) -> c_int;
        fn munmap(at: *mut c_void, bytes: usize) -> c_int;
    }
    const PAGE: usize = 0x1_0000;
    // PROT_READ and PROT_WRITE; MAP_PRIVATE and MAP_ANONYMOUS.
    // SAFETY: new memory.
    let memory = unsafe { mmap(null_mut(), 2 * PAGE, 3, 0x22, -1, 0) };
    assert_ne!(memory.addr(), usize::MAX);
    // The structure has its size alone. What is after it faults.
    let behind = memory.wrapping_byte_add(PAGE);
    let short = behind.cast::<usize>().wrapping_sub(1);
    // SAFETY: the second half of the new memory.
    assert_eq!(unsafe { mprotect(behind, PAGE, 0) }, 0);
    // SAFETY: the last word of the first half.
    unsafe { short.write(size_of::<usize>()) };
    let machine = KernelWorld::boot();
    // SAFETY: zeros, and a structure that is as long as its size says.
    assert_eq!(unsafe { hv_bus_init(machine.bus, size_of::<hv_bus>(), short.cast()) }, HV_E_SIZE);
    // SAFETY: the memory from above.
    assert_eq!(unsafe { munmap(memory, 2 * PAGE) }, 0);
}

#[test]
fn a_kernel_without_memory_gets_an_error_and_the_bus_is_closed_again() {
    let mut machine = KernelWorld::boot();
    unsafe extern "C" fn none(_: *mut c_void, _: usize) -> *mut c_void {
        null_mut()
    }
    unsafe extern "C" fn private(_: *mut c_void, _: *mut c_void, _: usize) -> c_int {
        1
    }
    let without = hv_bus_config { allocate: Some(none), ..machine.config() };
    let unshared = hv_bus_config { share: Some(private), ..machine.config() };
    for config in [without, unshared] {
        // SAFETY: zeros, and a configuration whose callbacks are the test's own.
        assert_eq!(unsafe { hv_bus_init(machine.bus, size_of::<hv_bus>(), &config) }, HV_E_NO_MEMORY);
        // SAFETY: a bus that is closed.
        assert_eq!(unsafe { hv_bus_connect(machine.bus) }, HV_E_CLOSED);
        assert_eq!(machine.world.host.ram.live(), 0);
    }
    machine.connect();
    machine.close();
}

/// Calls everything that takes an object, and returns what is no `expected`.
fn others(
    (bus, storage, net): (*mut hv_bus, *mut hv_storage, *mut hv_net),
    expected: c_int,
) -> Vec<(usize, c_int)> {
    let (disk, mut room) = (hv_disk { block_size: 512, blocks: 8, ..Default::default() }, [0_u8; 512]);
    let (page, tag) = (pointer(Box::leak(Box::new(Page::new()))), null_mut());
    let into = room.as_mut_ptr().cast();
    let (completion, info) = (zeros::<hv_storage_completion>(), zeros::<hv_net_info>());
    // SAFETY: null, zeros or closed objects, and room for whatever might be written.
    let results = unsafe {
        [
            hv_bus_connect(bus),
            hv_bus_interrupt(bus),
            hv_bus_offers(bus, null_mut(), 0),
            hv_bus_find(bus, HV_DEVICE_NET, 0),
            hv_bus_unload(bus),
            hv_bus_close(bus),
            hv_storage_disks(storage, null_mut(), 0),
            hv_storage_read(storage, &disk, 0, into, 512),
            hv_storage_write(storage, &disk, 0, into, 512),
            hv_storage_flush(storage, &disk),
            hv_storage_submit_read(storage, &disk, 0, page, 512, tag),
            hv_storage_submit_write(storage, &disk, 0, 0, page, 512, tag),
            hv_storage_submit_flush(storage, &disk, tag),
            hv_storage_submit_discard(storage, &disk, 0, 1, tag),
            hv_storage_poll(storage, completion),
            hv_storage_max_transfer(storage),
            hv_storage_changed(storage),
            hv_storage_close(storage, bus, None, null_mut()),
            hv_net_info(net, info),
            hv_net_send(net, into, 64),
            hv_net_receive(net, into, 512),
            hv_net_link_changed(net),
            hv_net_close(net, bus),
        ]
    };
    results.into_iter().enumerate().filter(|(_, result)| *result != expected).collect()
}

#[test]
fn null_and_closed_objects_are_refused_by_every_call() {
    let machine = KernelWorld::boot();
    assert_eq!(others((null_mut(), null_mut(), null_mut()), HV_E_ARGUMENT), [(0, 0); 0]);
    assert_eq!(others((machine.bus, machine.storage, machine.net), HV_E_CLOSED), [(0, 0); 0], "zeros");
    // SAFETY: null, and a bus that is closed.
    assert_eq!(unsafe { (hv_bus_status(null_mut()), hv_bus_status(machine.bus)) }, (0, 0));
}

#[test]
fn null_memory_and_what_no_device_can_do_are_refused() {
    let mut machine = KernelWorld::boot();
    machine.connect();
    let disk = machine.open_storage()[0];
    assert_eq!(machine.open_net(), 0);
    let (page, tag) = (pointer(&machine.memory(1)[0]), null_mut());
    let (storage, net): (*mut _, *mut _) = (machine.storage, machine.net);
    let mut block = [0_u8; 1024];
    let (bytes, huge) = (block.as_mut_ptr().cast::<c_void>(), usize::MAX);
    let no_blocks = hv_disk { block_size: 0, ..disk };
    let elsewhere = hv_disk { lun: 9, ..disk };
    // SAFETY: objects that are open; memory that is valid, or null, or refused before it is touched.
    let wrong = unsafe {
        [
            (hv_storage_read(storage, null(), 0, bytes, 512), HV_E_ARGUMENT),
            (hv_storage_read(storage, &disk, 0, null_mut(), 512), HV_E_ARGUMENT),
            (hv_storage_read(storage, &disk, 0, bytes, huge), HV_E_ARGUMENT),
            (hv_storage_read(storage, &disk, 0, bytes, 511), HV_E_RANGE),
            (hv_storage_read(storage, &disk, disk.blocks, bytes, 512), HV_E_RANGE),
            (hv_storage_read(storage, &disk, u64::MAX, bytes, 512), HV_E_RANGE),
            (hv_storage_read(storage, &no_blocks, 0, bytes, 512), HV_E_RANGE),
            (hv_storage_read(storage, &elsewhere, 0, bytes, 512), HV_E_NOT_FOUND),
            (hv_storage_write(storage, &disk, 0, null(), 512), HV_E_ARGUMENT),
            (hv_storage_submit_read(storage, null(), 0, page, 512, tag), HV_E_ARGUMENT),
            (hv_storage_submit_read(storage, &disk, 0, null_mut(), 512, tag), HV_E_ARGUMENT),
            (hv_storage_submit_read(storage, &disk, 0, page.wrapping_byte_add(512), 512, tag), HV_E_ARGUMENT),
            (hv_storage_submit_read(storage, &disk, 0, page, 0, tag), HV_E_ARGUMENT),
            (hv_storage_submit_read(storage, &disk, 0, page, 513, tag), HV_E_RANGE),
            (hv_storage_submit_read(storage, &disk, disk.blocks, page, 512, tag), HV_E_RANGE),
            (hv_storage_submit_read(storage, &disk, 0, page, !511, tag), HV_E_RANGE),
            (hv_storage_submit_discard(storage, &disk, 0, u32::MAX, tag), HV_E_UNSUPPORTED),
            (hv_storage_poll(storage, null_mut()), HV_E_ARGUMENT),
            (hv_storage_disks(storage, null_mut(), 1), HV_E_ARGUMENT),
            (hv_net_info(net, null_mut()), HV_E_ARGUMENT),
            (hv_net_send(net, null(), 64), HV_E_ARGUMENT),
            (hv_net_send(net, bytes, 13), HV_E_TOO_LONG),
            (hv_net_receive(net, null_mut(), 64), HV_E_ARGUMENT),
            (hv_bus_offers(machine.bus, null_mut(), 1), HV_E_ARGUMENT),
            (hv_bus_find(machine.bus, 77, 0), HV_E_NOT_FOUND),
            (hv_bus_find(machine.bus, HV_DEVICE_NET, 1), HV_E_NOT_FOUND),
            (hv_bus_events(null_mut(), 2, None, null_mut()), HV_E_ARGUMENT),
            (hv_bus_events(pointer(machine.events), 16, None, null_mut()), HV_E_ARGUMENT),
            (hv_bus_events(pointer(machine.events).wrapping_byte_add(8), 2, None, null_mut()), HV_E_ARGUMENT),
            (hv_storage_close(storage, null_mut(), None, null_mut()), HV_E_ARGUMENT),
        ]
    };
    for (n, (result, expected)) in wrong.into_iter().enumerate() {
        assert_eq!(result, expected, "call {n}");
    }
    // SAFETY: objects that are open.
    unsafe {
        assert_eq!(hv_net_close(net, machine.bus), 0);
        assert_eq!(hv_storage_close(storage, machine.bus, None, null_mut()), 0);
    }
    machine.close();
}

#[test]
fn a_device_is_opened_once_by_its_own_kind_and_closed_before_its_bus() {
    let mut machine = KernelWorld::boot();
    machine.connect();
    let (disk, card) = (machine.find(HV_DEVICE_STORAGE), machine.find(HV_DEVICE_NET));
    let size = size_of::<hv_storage>();
    // SAFETY: zeros or a controller that is open, and a bus.
    let mut open = |channel, size| unsafe { hv_storage_open(machine.storage, size, machine.bus, channel, 0) };
    assert_eq!(open(disk, size - 8), HV_E_SIZE);
    assert_eq!(open(card, size), HV_E_NOT_FOUND, "a card is not a controller");
    assert_eq!(open(2047, size), HV_E_NOT_FOUND);
    assert_eq!(open(disk, size), 0);
    assert_eq!(open(disk, size), HV_E_IN_USE, "the object");
    let second: &mut hv_storage = zeros();
    // SAFETY: zeros, and a bus that is open.
    assert_eq!(unsafe { hv_storage_open(second, size, machine.bus, disk, 0) }, HV_E_IN_USE, "the channel");
    // SAFETY: zeros, and a bus that is open.
    let opened = unsafe { hv_net_open(machine.net, size_of::<hv_net>(), machine.bus, disk, 0, 1500) };
    assert_eq!(opened, HV_E_NOT_FOUND, "a controller is not a card");
    // SAFETY: a bus that is open.
    assert_eq!(unsafe { hv_bus_close(machine.bus) }, HV_E_IN_USE);
    // SAFETY: a bus that is open.
    assert_eq!(unsafe { hv_bus_connect(machine.bus) }, HV_E_IN_USE);
    let other: &mut hv_bus = zeros();
    // SAFETY: zeros, and a configuration whose callbacks are the test's own. It makes no contact.
    assert_eq!(unsafe { hv_bus_init(other, size_of::<hv_bus>(), &machine.config()) }, 0);
    // SAFETY: a controller that is open, and another bus than its own, which is refused.
    let closed = unsafe { hv_storage_close(machine.storage, other, None, null_mut()) };
    assert_eq!(closed, HV_E_ARGUMENT);
    // SAFETY: a bus without devices.
    assert_eq!(unsafe { hv_bus_close(other) }, 0);
    // SAFETY: a controller that is open, and its bus.
    assert_eq!(unsafe { hv_storage_close(machine.storage, machine.bus, None, null_mut()) }, 0);
    machine.close();
}

#[test]
fn what_uses_an_object_during_a_call_is_refused_and_the_message_is_not_lost() {
    let mut machine = KernelWorld::boot();
    machine.connect();
    let disks = machine.open_storage();
    machine.world.host.hold.store(true, Ordering::Relaxed);
    let bus = core::ptr::from_mut(machine.bus).expose_provenance();
    let storage = core::ptr::from_mut(machine.storage).expose_provenance();
    let results = Arc::new(Mutex::new(Vec::new()));
    let (world, log) = (machine.world, Arc::clone(&results));
    *machine.seen.while_waiting.lock().unwrap() = Some(Box::new(move || {
        let completion = zeros::<hv_storage_completion>();
        // SAFETY: the controller, which the interrupted call uses.
        let polled = unsafe { hv_storage_poll(core::ptr::with_exposed_provenance_mut(storage), completion) };
        // SAFETY: the bus, which no call uses.
        let taken = unsafe { hv_bus_interrupt(core::ptr::with_exposed_provenance_mut(bus)) };
        log.lock().unwrap().push((polled, taken));
        world.end_one(0);
    }));
    let mut block = [0_u8; 512];
    // SAFETY: a controller that is open, a disk, and room for a block.
    let read = unsafe { hv_storage_read(machine.storage, &disks[0], 0, block.as_mut_ptr().cast(), 512) };
    assert_eq!(read, 0);
    assert_eq!(*results.lock().unwrap(), [(HV_E_IN_USE, 0)]);
    *machine.seen.while_waiting.lock().unwrap() = None;

    // A message comes, and its interrupt, after the last look of a call that has the bus, which frees the rings then.
    let card = machine.find(HV_DEVICE_NET);
    let log = Arc::clone(&results);
    results.lock().unwrap().clear();
    machine.seen.notices.lock().unwrap().clear();
    *machine.seen.while_freeing.lock().unwrap() = Some(Box::new(move || {
        rescind(world, card);
        // SAFETY: the bus, which the interrupted call uses.
        let taken = unsafe { hv_bus_interrupt(core::ptr::with_exposed_provenance_mut(bus)) };
        log.lock().unwrap().push((0, taken));
    }));
    // SAFETY: a controller that is open, and its bus.
    assert_eq!(unsafe { hv_storage_close(machine.storage, machine.bus, None, null_mut()) }, 0);
    assert_eq!(*results.lock().unwrap(), [(0, HV_E_IN_USE)]);
    assert_eq!(*machine.seen.notices.lock().unwrap(), [(HV_NOTICE_REMOVED, card)]);
    machine.close();
}

#[test]
fn a_host_that_does_not_answer_ends_the_wait_by_the_kernel_or_by_the_clock() {
    let mut machine = KernelWorld::boot();
    let config = hv_bus_config { wait: None, timeout: 1000, ..machine.config() };
    // SAFETY: zeros, and a configuration whose callbacks are the test's own.
    assert_eq!(unsafe { hv_bus_init(machine.bus, size_of::<hv_bus>(), &config) }, 0);
    // SAFETY: a bus that is open.
    assert_eq!(unsafe { hv_bus_connect(machine.bus) }, 0x60000);
    let disks = machine.open_storage();
    machine.world.host.hold.store(true, Ordering::Relaxed);
    machine.kernel.bed.set_counter_step(24);
    let mut block = [0_u8; 512];
    // SAFETY: a controller that is open, a disk, and room for a block.
    let read = unsafe { hv_storage_read(machine.storage, &disks[0], 0, block.as_mut_ptr().cast(), 512) };
    assert_eq!(read, HV_E_TIMED_OUT);
    // SAFETY: a controller that is open, and its bus.
    let close = |machine: &mut KernelWorld| unsafe {
        hv_storage_close(machine.storage, machine.bus, None, null_mut())
    };
    assert_eq!(close(&mut machine), HV_E_TIMED_OUT);
    assert!(machine.world.end_one(0));
    assert_eq!(close(&mut machine), 0);
    machine.close();
}

#[test]
fn messages_are_taken_on_the_vp_that_connected_alone() {
    let mut machine = KernelWorld::boot();
    machine.connect();
    let card = machine.find(HV_DEVICE_NET);
    let channel = machine.find(HV_DEVICE_STORAGE);
    machine.rescind(card);
    be(machine.kernel.bed, 1);
    // SAFETY: a bus that is open.
    let take = |machine: &mut KernelWorld| unsafe { hv_bus_interrupt(machine.bus) };
    assert_eq!(take(&mut machine), HV_E_WRONG_VP);
    // SAFETY: a bus that is open.
    let bound = unsafe {
        [
            hv_bus_offers(machine.bus, null_mut(), 0),
            hv_bus_find(machine.bus, HV_DEVICE_STORAGE, 0),
            hv_bus_connect(machine.bus),
            hv_bus_unload(machine.bus),
            hv_bus_close(machine.bus),
        ]
    };
    assert_eq!(bound, [HV_E_WRONG_VP; 5]);
    // SAFETY: zeros, and a bus that is open.
    let opened =
        unsafe { hv_storage_open(machine.storage, size_of::<hv_storage>(), machine.bus, channel, 0) };
    assert_eq!(opened, HV_E_WRONG_VP);
    be(machine.kernel.bed, 0);
    assert!(take(&mut machine) > 0);
}

/// Has the handler on VP 0 interrupt the library when it asks which VP is calling, after `before`. Returns what
/// `hv_bus_interrupt` returns there.
fn interrupt_while_asking(
    machine: &mut KernelWorld,
    before: impl FnOnce() + Send + 'static,
) -> Arc<Mutex<Vec<c_int>>> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let (bed, taken) = (machine.kernel.bed, Arc::clone(&log));
    let bus = core::ptr::from_mut(machine.bus).expose_provenance();
    *machine.seen.while_asking.lock().unwrap() = Some(Box::new(move || {
        let (_, vp) = current();
        before();
        be(bed, 0);
        // SAFETY: the bus, which the interrupted call may use.
        let count = unsafe { hv_bus_interrupt(core::ptr::with_exposed_provenance_mut(bus)) };
        taken.lock().unwrap().push(count);
        be(bed, vp);
    }));
    log
}

#[test]
fn a_call_on_a_device_does_not_keep_the_bus_from_the_handler_on_another_vp() {
    let mut machine = KernelWorld::boot();
    let config = hv_bus_config { wait: None, timeout: 1000, ..machine.config() };
    // SAFETY: zeros, and a configuration whose callbacks are the test's own.
    assert_eq!(unsafe { hv_bus_init(machine.bus, size_of::<hv_bus>(), &config) }, 0);
    // SAFETY: a bus that is open.
    assert_eq!(unsafe { hv_bus_connect(machine.bus) }, 0x60000);
    let (disks, card) = (machine.open_storage(), machine.find(HV_DEVICE_NET));
    machine.world.host.hold.store(true, Ordering::Relaxed);
    machine.kernel.bed.set_counter_step(24);
    machine.rescind(card);
    be(machine.kernel.bed, 1);
    let taken = interrupt_while_asking(&mut machine, || ());
    let mut block = [0_u8; 512];
    // SAFETY: a controller that is open, a disk, and room for a block.
    let read = unsafe { hv_storage_read(machine.storage, &disks[0], 0, block.as_mut_ptr().cast(), 512) };
    assert_eq!(read, HV_E_TIMED_OUT);
    assert_eq!(*taken.lock().unwrap(), [1]);
    assert_eq!(machine.seen.notices.lock().unwrap().last(), Some(&(HV_NOTICE_REMOVED, card)));
    be(machine.kernel.bed, 0);
    assert!(machine.world.end_one(0));
    // SAFETY: a controller that is open, and its bus.
    assert_eq!(unsafe { hv_storage_close(machine.storage, machine.bus, None, null_mut()) }, 0);
    machine.close();
}

#[test]
fn a_call_that_fails_takes_the_messages_that_the_handler_left_to_it() {
    let mut machine = KernelWorld::boot();
    machine.connect();
    machine.open_storage();
    let (world, card) = (machine.world, machine.find(HV_DEVICE_NET));
    let taken = interrupt_while_asking(&mut machine, move || rescind(world, card));
    // SAFETY: a bus that is open.
    assert_eq!(unsafe { hv_bus_close(machine.bus) }, HV_E_IN_USE, "the controller is open");
    assert_eq!(*taken.lock().unwrap(), [HV_E_IN_USE]);
    assert_eq!(machine.seen.notices.lock().unwrap().last(), Some(&(HV_NOTICE_REMOVED, card)));
    // SAFETY: a controller that is open, and its bus.
    assert_eq!(unsafe { hv_storage_close(machine.storage, machine.bus, None, null_mut()) }, 0);
    machine.close();
}

#[test]
fn the_status_of_a_failure_is_told() {
    use hv_devices::storage::Failure;
    let mut machine = KernelWorld::boot();
    machine.connect();
    let disks = machine.open_storage();
    *machine.world.host.failure.lock().unwrap() = Some(Failure::Medium);
    let mut block = [0_u8; 512];
    // SAFETY: a controller that is open, a disk, and room for a block.
    let read = unsafe { hv_storage_read(machine.storage, &disks[0], 0, block.as_mut_ptr().cast(), 512) };
    assert_eq!(read, HV_E_IO);
    // SAFETY: a bus that is open.
    assert_eq!(unsafe { hv_bus_status(machine.bus) } >> 16, 3, "sense key: medium error (SPC-4)");
    // On every VP, and while a call uses the bus.
    be(machine.kernel.bed, 1);
    let bus = core::ptr::from_mut(machine.bus).expose_provenance();
    // SAFETY: the bus, which a call may use.
    let status = move || unsafe { hv_bus_status(core::ptr::with_exposed_provenance_mut(bus)) };
    assert_eq!(status() >> 16, 3);
    be(machine.kernel.bed, 0);
    *machine.seen.while_freeing.lock().unwrap() = Some(Box::new(move || assert_eq!(status() >> 16, 3)));
    *machine.world.host.failure.lock().unwrap() = Some(Failure::Medium);
    let page = &machine.memory(1)[0];
    // SAFETY: a controller that is open, a disk, and a page that nothing else uses.
    let submitted =
        unsafe { hv_storage_submit_read(machine.storage, &disks[0], 0, pointer(page), 512, null_mut()) };
    assert_eq!(submitted, 0);
    let done = machine.poll().unwrap();
    assert_eq!((done.error, done.status >> 16, done.bytes), (HV_E_IO, 3, 0));
    // SAFETY: a controller that is open, and its bus.
    assert_eq!(unsafe { hv_storage_close(machine.storage, machine.bus, None, null_mut()) }, 0);
    assert!(machine.seen.while_freeing.lock().unwrap().is_none(), "it was called");
    machine.close();
}
