//! An OS whose pages the host cannot access: data bounce through others.
//!
//! In every test of this crate the host panics at an address that was not shared. These are the tests of what shares
//! memory, again, with data that bounce; and what only an OS that bounces can see.

use std::sync::atomic::Ordering;

use hv_devices::storage::Failure as HostFailure;
use hv_drivers::hv_vmbus_client::hv_guest::page::Page;
use hv_drivers::hv_vmbus_client::{self, Buffer, PageRun};
use hv_drivers::storage::Error;

use crate::host::TestDma;
use crate::ram::{self, BOUNCES};
use crate::storage::{close, one_disk};

/// Runs tests of other modules in worlds that bounce.
macro_rules! bouncing {
    ($($module:ident::$name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                ram::bounce(crate::$module::$name);
            }
        )*
    };
}

bouncing! {
    storage::a_controller_is_initialized_and_its_disks_are_found,
    storage::blocks_are_read_and_written_whatever_the_length,
    storage::flushes_and_discards_reach_the_disk,
    storage::requests_in_flight_end_in_any_order_each_with_its_own_memory,
    storage::a_function_that_blocks_keeps_what_else_ends_meanwhile,
    storage::memory_of_a_wait_that_was_given_up_comes_back_later,
    storage::failures_of_the_disk_are_told_with_their_sense,
    storage::memory_in_flight_comes_back_when_the_controller_is_rescinded_or_closed,
    network::frames_go_out_as_they_are,
    network::frames_come_in_as_they_are,
    network::buffers_that_the_host_refuses_fail_the_card,
    faults::each_fault_has_the_outcome_that_it_must,
    threads::requests_end_in_another_thread_and_order,
}

/// Copies bytes from pages.
fn bytes(pages: &[Page], from: usize, len: usize) -> Vec<u8> {
    let mut all = vec![0; pages.len() * 4096];
    pages.iter().zip(all.as_chunks_mut::<4096>().0).for_each(|(page, part)| page.read(0, part));
    all[from..from + len].to_vec()
}

#[test]
fn only_the_bytes_of_a_request_go_and_only_its_way() {
    ram::bounce(|| {
        let (world, client, mut controller, disk) = one_disk();
        let ram = world.host.ram;
        world.host.hold.store(true, Ordering::Relaxed);
        let buffer = || {
            let pages = PageRun::new(&TestDma(world), 2).unwrap();
            pages.write(0, &[0x11; 8192]);
            Buffer { pages, offset: 512, len: 4096 }
        };
        // What the host finds: the request's bytes alone, in pages that are not the caller's.
        controller.submit_write(1, &disk, 0, false, buffer()).unwrap();
        let seen = &ram.pages()[..2];
        assert!(bytes(seen, 512, 4096) == [0x11; 4096] && bytes(seen, 0, 512) == [0xee; 512]);
        assert!(bytes(seen, 4608, 3584) == [0xee; 3584]);
        // A host that changes what it was to read changes nothing of the caller's.
        seen.iter().for_each(|page| page.write(0, &[0x66; 4096]));
        assert!(world.end_one(0));
        let done = controller.poll().unwrap().unwrap().data.unwrap();
        assert!(bytes(done.pages.pages(), 0, 8192) == [0x11; 8192]);
        drop(done);
        // What it writes to outside of the bytes is dropped; a read that fails leaves what was there.
        for fails in [false, true] {
            *world.host.failure.lock().unwrap() = fails.then_some(HostFailure::Medium);
            controller.submit_read(2, &disk, 16, buffer()).unwrap();
            seen.iter().for_each(|page| page.write(0, &[0x66; 512]));
            assert!(world.end_one(0));
            let done = controller.poll().unwrap().unwrap();
            assert_eq!(done.outcome.is_err(), fails);
            let pages = done.data.unwrap().pages;
            let all = bytes(pages.pages(), 0, 8192);
            assert!(all[..512] == [0x11; 512] && all[4608..] == [0x11; 3584]);
            if !fails {
                assert!(all[512..4608] == world.host.disks.lock().unwrap()[0][8192..12288]);
            }
        }
        assert_eq!(ram.shared().1, 0, "nothing is lent");
        close(world, client, controller);
    });
}

#[test]
fn a_request_that_finds_no_room_to_bounce_is_refused_and_goes_later() {
    ram::bounce(|| {
        let (world, client, mut controller, disk) = one_disk();
        world.host.hold.store(true, Ordering::Relaxed);
        let buffer = || {
            let pages = PageRun::new(&TestDma(world), BOUNCES / 2).unwrap();
            Buffer { pages, offset: 0, len: 4096 }
        };
        controller.submit_read(0, &disk, 0, buffer()).unwrap();
        controller.submit_read(1, &disk, 8, buffer()).unwrap();
        let refused = controller.submit_read(2, &disk, 16, buffer()).unwrap_err();
        assert_eq!((refused.tag, refused.error), (2, Error::Client(hv_vmbus_client::Error::Memory)));
        // The functions that block say so as well.
        let mut data = [0; 512];
        let read = controller.read(&disk, 0, &mut data, &mut || panic!("nothing is in flight for it"));
        assert_eq!(read, Err(Error::Client(hv_vmbus_client::Error::Memory)));
        assert!(world.end_one(0));
        assert!(controller.poll().unwrap().is_some_and(|done| done.outcome.is_ok()));
        controller.submit_read(2, &disk, 16, refused.data.unwrap()).unwrap();
        while world.end_one(0) {}
        let tags: Vec<_> = std::iter::from_fn(|| controller.poll().unwrap()).map(|done| done.tag).collect();
        assert_eq!(tags, [1, 2]);
        close(world, client, controller);
    });
}
