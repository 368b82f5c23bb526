//! Disks that come, change and go, and devices that are taken away.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use hv_wire::control::{DriverState, FromHypervisor, Refusal, Service, ToHypervisor};
use hv_wire::{BootFlags, BootInfo, DiskFlags, MAX_CONTROLLERS, MAX_DISKS};

use super::embedder::{Own, with};

const DISK: u64 = 0x8000_0000;
const WINDOW: u64 = 0x9000_0000;
const WINDOW_SIZE: u64 = 0x10_0000;

/// Describes a machine with one disk at the start, which may grow to the window.
fn disks(info: &mut BootInfo) {
    info.disk_count = 1;
    (info.disks[0].base, info.disks[0].size) = (DISK, 0x1000);
    (info.window_base, info.window_size) = (WINDOW, WINDOW_SIZE);
}

fn add(machine: &Own, base: u64, size: u64, flags: u32, lun: u16) -> Result<(), Refusal> {
    let identity = &[1; 16];
    machine.change(&ToHypervisor::DiskAdd { base, size, identity, flags, controller: 0, lun })
}

fn remove(machine: &Own, lun: u16) -> Result<(), Refusal> {
    machine.change(&ToHypervisor::DiskRemove { controller: 0, lun })
}

fn resize(machine: &Own, lun: u16, size: u64) -> Result<(), Refusal> {
    machine.change(&ToHypervisor::DiskResize { controller: 0, lun, size })
}

#[test]
fn a_disk_is_added_where_there_is_room_for_it_alone() {
    with(disks, |machine, _| {
        machine.offer(&[]);
        let end = WINDOW + WINDOW_SIZE;
        for (base, size) in [
            (WINDOW - 0x1000, 0x1000),
            (WINDOW, 0),
            (WINDOW, 0x1001),
            (WINDOW + 0x200, 0x1000),
            (end - 0x1000, 0x1200),
            (end, 0x1000),
            (u64::MAX - 0xfff, 0x1000),
        ] {
            assert_eq!(add(machine, base, size, 0, 1), Err(Refusal::Invalid), "{base:#x}, {size:#x}");
        }
        assert_eq!(add(machine, WINDOW, 0xa00, DiskFlags::DVD, 1), Err(Refusal::Invalid));
        assert_eq!(add(machine, WINDOW + 0x2000, 0x1200, 0, 1), Ok(()));
        for (base, size) in [(WINDOW + 0x1000, 0x1200), (WINDOW + 0x3000, 0x200), (WINDOW, 0x10000)] {
            assert_eq!(add(machine, base, size, 0, 2), Err(Refusal::Invalid), "{base:#x}, {size:#x}");
        }
        assert_eq!(add(machine, WINDOW, 0x2000, 0, 1), Err(Refusal::Busy));
        assert_eq!(add(machine, WINDOW, 0x2000, 0, 2), Ok(()));
        assert_eq!(add(machine, end - 0x1000, 0x1000, 0, 64), Err(Refusal::Invalid));
        assert_eq!(add(machine, end - 0x1000, 0x1000, 0, 3), Ok(()));
    });
}

#[test]
fn a_disk_grows_as_far_as_its_neighbour() {
    with(disks, |machine, _| {
        machine.offer(&[]);
        assert_eq!(resize(machine, 0, WINDOW - DISK), Ok(()));
        assert_eq!(machine.disks.get(0), Some((DISK, WINDOW - DISK)));
        assert_eq!(resize(machine, 0, WINDOW - DISK + 0x200), Err(Refusal::Invalid));
        assert_eq!(add(machine, WINDOW, 0x1000, 0, 1), Ok(()));
        assert_eq!(add(machine, WINDOW + 0x4000, 0x1000, 0, 2), Ok(()));
        for size in [0, 0x201, 0x4200, u64::MAX - 0x1ff] {
            assert_eq!(resize(machine, 1, size), Err(Refusal::Invalid), "{size:#x}");
        }
        assert_eq!(resize(machine, 1, 0x4000), Ok(()));
        assert_eq!(resize(machine, 2, WINDOW_SIZE - 0x4000), Ok(()));
        assert_eq!(resize(machine, 2, WINDOW_SIZE - 0x3e00), Err(Refusal::Invalid));
        assert_eq!(resize(machine, 3, 0x1000), Err(Refusal::Absent));
    });
}

#[test]
fn the_number_of_a_disk_that_went_is_another_ones_never_soon() {
    with(disks, |machine, _| {
        machine.offer(&[]);
        let mut before = None;
        for _ in 0..2 * MAX_DISKS {
            assert_eq!(add(machine, WINDOW, 0x1000, 0, 1), Ok(()));
            let number = machine.state.last_disk.load(core::sync::atomic::Ordering::Relaxed);
            assert!(before != Some(number) && machine.disks.get(number) == Some((WINDOW, 0x1000)));
            assert_eq!(before.and_then(|before| machine.disks.get(before)), None);
            assert_eq!(remove(machine, 1), Ok(()));
            assert_eq!(machine.disks.get(number), None);
            before = Some(number);
        }
        assert_eq!(remove(machine, 1), Err(Refusal::Absent));
        // Numbers begin again after the last one.
        machine.state.last_disk.store(u16::MAX, core::sync::atomic::Ordering::Relaxed);
        assert_eq!(add(machine, WINDOW, 0x1000, 0, 1), Ok(()));
        assert_eq!(machine.state.last_disk.load(core::sync::atomic::Ordering::Relaxed), 1);
        assert_eq!(machine.disks.get(0), Some((DISK, 0x1000)));
    });
}

#[test]
fn transfers_are_waited_for_with_the_table_changed_and_the_controller_free() {
    with(disks, |machine, done| {
        machine.offer(&[]);
        assert_eq!(add(machine, WINDOW, 0x2000, 0, 1), Ok(()));
        let waits: fn(&'static Own) = |machine| {
            let (sender, free) = mpsc::channel();
            thread::spawn(move || {
                let slot = &machine.partition.devices().controllers[0];
                let work = |vmbus: &crate::offers::OwnVmbus<'_, _, _, _>| vmbus.with(slot, |_, _| ()).is_ok();
                let _ = sender.send(machine.partition.with_vmbus(machine.host, work));
            });
            let free = free.recv_timeout(Duration::from_secs(10));
            let size = machine.disks.others(Some(0)).next().map(|disk| disk.end - disk.start);
            machine.outside.log(format_args!("free: {free:?}, size: {size:?}"));
        };
        done.waits.set(waits).unwrap();
        assert_eq!(resize(machine, 1, 0x1000), Ok(()));
        assert_eq!(remove(machine, 1), Ok(()));
        assert_eq!(remove(machine, 1), Err(Refusal::Absent));
        let log = done.log.lock().unwrap().clone();
        assert_eq!(log, ["free: Ok(true), size: Some(4096)", "free: Ok(true), size: None"]);
    });
}

#[test]
fn what_was_taken_away_is_absent() {
    let all = Service::ALL.iter().fold(0, |bits, service| bits | service.bit());
    let offer = move |info: &mut BootInfo| {
        disks(info);
        (info.services, info.flags) = (all, BootFlags::NETWORK);
        (info.ram_base, info.ram_size) = (0x4000_0000, 0x20_0000);
    };
    with(offer, |machine, _| {
        let record = [const { core::sync::atomic::AtomicU64::new(0) }; 8];
        machine.offer(std::boxed::Box::leak(std::boxed::Box::new(record)));
        let rescind = |device: usize| machine.change(&ToHypervisor::Rescind { device: device as u8 });
        for service in Service::ALL {
            let state = || machine.states()[service as usize].driver;
            assert_eq!(state(), DriverState::Closed, "{service:?}");
            assert_eq!(rescind(MAX_CONTROLLERS + service as usize), Ok(()), "{service:?}");
            assert_eq!(state(), DriverState::Absent, "{service:?}");
            assert_eq!(rescind(MAX_CONTROLLERS + service as usize), Err(Refusal::Absent), "{service:?}");
        }
        assert!(matches!(machine.memory(), FromHypervisor::Memory { .. }));
        let network = MAX_CONTROLLERS + Service::ALL.len();
        assert_eq!((rescind(0), rescind(1)), (Ok(()), Err(Refusal::Absent)));
        assert_eq!(rescind(network), Ok(()));
        assert_eq!(machine.change(&ToHypervisor::Link { up: true }), Err(Refusal::Absent));
        assert_eq!(rescind(network + 1), Err(Refusal::Invalid));
    });
}
