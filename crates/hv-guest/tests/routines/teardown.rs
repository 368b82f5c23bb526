//! Everything off: what comes next finds reset state.

use crate::common::{Guest, everywhere, intid};
use hv_guest::detect;
use hv_guest::registers::{self, Register};
use hv_guest::synic::SintIndex;
use hv_guest::teardown::{self, LeaveError};
use hv_guest::timer::{Schedule, Timer, TimerIndex};
use hv_tlfs::guest_id::GuestOsId;
use hv_tlfs::register::RegisterName;
use hv_tlfs::synic::MessageType;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vp::VpIndex;

/// Registers of a VP that a guest leaves traces in, and their reset values.
fn state(guest: &Guest, n: usize) -> Vec<(RegisterName, u64)> {
    let timers = (0..4).flat_map(|i| [RegisterName::stimer_config(i), RegisterName::stimer_count(i)]);
    let others =
        [RegisterName::SIMP, RegisterName::SIEFP, RegisterName::SCONTROL, RegisterName::REFERENCE_TSC];
    let wire = guest.bed.wire(n, guest.convention);
    (0..16)
        .map(RegisterName::sint)
        .chain(timers)
        .chain(others)
        .map(|name| (name, registers::get_raw(&wire, VpIndex::SELF, name).unwrap().low))
        .collect()
}

/// Puts everything into use on every VP.
fn in_use(guest: &Guest) {
    for n in 0..guest.vps {
        let synic = guest.synic(n);
        for index in TimerIndex::ALL {
            let mut timer = match index.number() {
                0 => Timer::message(&synic, index, SintIndex::VMBUS).unwrap(),
                _ => Timer::direct(synic.vp(), index, intid(31), &guest.bed.interrupts(n)).unwrap(),
            };
            timer.start(synic.vp(), Schedule::Every(ReferenceTime(1000))).unwrap();
        }
    }
    guest.partition.start_clock(guest.bed.page(), guest.bed.memory()).unwrap();
}

#[test]
fn a_crash_that_lost_every_handle_leaves_reset_state() {
    everywhere(|guest| {
        let fresh: Vec<_> = (0..guest.vps).map(|n| state(guest, n)).collect();
        in_use(guest);
        assert!((0..guest.vps).all(|n| state(guest, n) != fresh[n]));
        for n in 0..guest.vps {
            teardown::vp(&guest.bed.wire(n, guest.convention)).unwrap();
        }
        let wire = guest.bed.wire(0, guest.convention);
        teardown::partition(&wire).unwrap();
        assert_eq!(registers::get(&wire, Register::GUEST_OS_ID), Ok(GuestOsId(0)));
        // The next kernel introduces itself and finds a machine like new.
        detect::vendor_uid(wire).unwrap().identify(GuestOsId::linux(1)).unwrap();
        for (n, fresh) in fresh.iter().enumerate() {
            assert_eq!(&state(guest, n), fresh);
        }
        guest.bed.advance(ReferenceTime(1_000_000));
        for n in 0..guest.vps {
            assert!(guest.bed.post(n, 2, MessageType(1), &[]).is_err());
            assert_eq!(guest.bed.take_interrupt(n), None, "no timer is left");
        }
    });
}

#[test]
fn a_shutdown_in_good_order_leaves_reset_state_too() {
    everywhere(|guest| {
        let fresh: Vec<_> = (0..guest.vps).map(|n| state(guest, n)).collect();
        let clock = guest.partition.start_clock(guest.bed.page(), guest.bed.memory()).unwrap();
        for n in 0..guest.vps {
            let synic = guest.synic(n);
            let interrupts = guest.bed.interrupts(n);
            let mut timer = Timer::message(&synic, TimerIndex::ALL[0], SintIndex::VMBUS).unwrap();
            timer.start(synic.vp(), Schedule::Every(ReferenceTime(10))).unwrap();
            assert_eq!(guest.partition.leave(guest.map), Err(LeaveError::CpusOnline(1)));
            timer.release(synic.vp(), &interrupts).unwrap();
            let (vp, _) = synic.disable(&interrupts).unwrap();
            vp.offline().unwrap();
        }
        clock.stop().unwrap();
        for (n, fresh) in fresh.iter().enumerate() {
            assert_eq!(&state(guest, n), fresh);
        }
        guest.partition.leave(guest.map).unwrap();
        assert_eq!(registers::get(guest.partition, Register::GUEST_OS_ID), Ok(GuestOsId(0)));
    });
}

#[test]
fn a_teardown_that_is_refused_goes_on_to_the_last_step() {
    everywhere(|guest| {
        in_use(guest);
        let wire = guest.bed.wire(0, guest.convention);
        // Without an id the hypervisor refuses most of it, and says so; the page goes first for that reason.
        registers::set(&wire, Register::GUEST_OS_ID, GuestOsId(0)).unwrap();
        assert!(teardown::vp(&wire).is_err());
        assert!(teardown::partition(&wire).is_err());
        assert_eq!(registers::get(&wire, Register::GUEST_OS_ID), Ok(GuestOsId(0)));
    });
}
