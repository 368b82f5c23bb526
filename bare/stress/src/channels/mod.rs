//! Hostile channels: VPs that break the rules of VMBus's devices, beside a well-behaved user of a disk.
//!
//! With `stress.channels=COUNT` each device on the bus takes COUNT packets at least, and the channels of each are
//! opened and closed many times meanwhile. VP 0 makes contact and receives the host's messages for all. Meanwhile it
//! uses the disk of the first SCSI controller as a driver should, makes calls that take the hypervisor's locks, and
//! checks every answer and every byte. The VPs with odd numbers attack one device after the other: a second SCSI
//! controller, the network card, the integration services, the keyboard, the mouse, dynamic memory, and with
//! `stress.port=PORT` sockets to that host port. Those with even numbers write to the rings and buffers of the
//! VP before them while the host reads.
//!
//! The host may write to pages of the attackers' own alone: numbers of other pages do not get into a ring (`memory`).

mod bus;
mod card;
mod class;
mod disk;
mod hostile;
mod memory;
mod packet;
mod ring;

use core::ptr::addr_of;
use core::sync::atomic::Ordering;

use rt::cpu::{self, AffinityState};
use rt::{println, time};

use self::class::TARGETS;
use self::disk::Disk;
use self::hostile::{DONE, FINISHED, FIRST_MISSING, FOREIGN, MISSING, PORT, QUOTA, SEED, attackers};
use crate::check::{Check, Checks};
use crate::flood;
use crate::hv;
use crate::psci::PATIENCE;

/// A VP's page lists, by their numbers.
const RINGS_LIST: usize = 0;
const RECEIVE_LIST: usize = 1;
const SEND_LIST: usize = 2;

pub(crate) fn run(checks: &mut Checks) {
    let hardware = rt::hardware::get();
    let Some(count) = hardware.number("stress.channels") else { return };
    if hardware.vps() == 1 {
        checks.skip("hostile channels", "there is one VP");
        return;
    }
    hv::identify();
    let seed = hardware.number("stress.seed").unwrap_or(1);
    SEED.store(seed, Ordering::Relaxed);
    QUOTA.store(count, Ordering::Relaxed);
    PORT.store(hardware.number("stress.port").unwrap_or(0) as u32, Ordering::Relaxed);
    let mut own = None;
    checks.check("the program lies where no attack writes", |check| {
        for (what, address) in [
            ("the command line", hardware.bootargs.as_ptr() as u64),
            ("code", run as *const () as u64),
            ("data", addr_of!(SEED) as u64),
            ("a stack", addr_of!(seed) as u64),
        ] {
            check.holds((what, address), memory::is_kept(address));
        }
    });
    checks.check("VMBus offers its devices", |check| {
        bus::connect(check);
        own = Disk::new(check, seed);
    });
    let Some(mut own) = own else { return };
    FOREIGN.store(own.connection(), Ordering::Relaxed);
    checks.check("a disk beside hostile channels serves its driver", |check| {
        own.round(check);
        for vp in 1..hardware.vps() {
            check.equal((vp, "CPU_ON"), cpu::start(vp, hostile::run), Ok(()));
        }
        supervise(check, &mut own);
        for vp in 1..hardware.vps() {
            let off = time::wait_until(PATIENCE, || cpu::state(vp) == Ok(AffinityState::Off));
            check.holds((vp, "it goes off"), off);
        }
        own.round(check);
    });
    println!("{} commands of a well-behaved disk", own.commands);
    checks.check("hostile channels get every answer of VMBus", |check| {
        if let Some(first) = *FIRST_MISSING.lock() {
            check.wrong(MISSING.load(Ordering::Relaxed), first);
        }
    });
    for (target, done) in TARGETS.iter().zip(&DONE) {
        let [packets, lies, sessions] =
            [&done.packets, &done.lies, &done.sessions].map(|count| count.load(Ordering::Relaxed));
        if sessions > 0 {
            println!(
                "{}: {packets} packets taken, {lies} rings corrupt, opened {sessions} times",
                target.name
            );
        }
    }
    for target in &TARGETS {
        if let Some(serves) = hostile::serves(target) {
            println!("{} serves a driver again: {serves}", target.name);
            checks.check("a device that was attacked serves a driver", |check| {
                check.holds(target.name, serves);
            });
        }
    }
    checks.check("VMBus ends its connection", |check| {
        own.close(check);
        bus::unload(check);
    });
}

/// Uses the disk, and makes calls, until all attackers have finished. Prints the longest time of each; nothing judges
/// it.
fn supervise(check: &mut Check, own: &mut Disk) {
    let (mut last, mut since, mut slowest) = (0, time::counter(), 0);
    let mut calls = flood::Times::default();
    while !attackers().all(|vp| FINISHED[vp].load(Ordering::Acquire)) {
        let before = time::counter();
        if own.round(check).is_none() {
            return;
        }
        slowest = time::counter().wrapping_sub(before).max(slowest);
        calls.alone(check);
        bus::receive();
        bus::release_unused();
        let done = DONE.iter().map(|done| done.sessions.load(Ordering::Relaxed)).sum::<u64>();
        if done != last {
            (last, since) = (done, time::counter());
        }
        if time::counter() - since > time::ticks(PATIENCE) {
            return check.wrong("attackers do not continue after", (done, "sessions"));
        }
    }
    calls.print();
    println!("a round of the disk took {} us at most", flood::micros(slowest));
}
