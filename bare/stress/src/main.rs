//! A guest that does what guests must not do, and checks the host's reactions.
//!
//! Without arguments it makes a fixed list of checks: accesses to memory and devices that are not the guest's, calls,
//! instructions and registers that do not exist, malformed hypercalls, PSCI calls, accesses to the interrupt
//! controller, and the timers' signals. With `stress.random=COUNT` it then lets all VPs but the first make COUNT random
//! calls and accesses, seeded by `stress.seed=NUMBER`, while VP 0 keeps using the partition as a guest should, and
//! checks every answer. `stress.kinds=BITS` restricts them to some kinds of actions (`attack::Kind`), to find out which
//! one is to blame. With `stress.flood=COUNT` the others make calls that take locks without end, while VP 0 makes COUNT
//! calls of each of some kinds. With `stress.channels=COUNT` they send packets to the devices on VMBus that no driver
//! may send, while VP 0 uses a disk (`channels`). `stress.only=NAME` makes only the checks of the groups whose names
//! contain NAME.
//!
//! It prints a line per check and ends with `N passed, M failed` and a power-off.
#![no_std]
#![no_main]

mod absent;
mod attack;
mod calls;
mod channels;
mod check;
mod features;
mod firmware;
mod flood;
mod frames;
mod generate;
mod gic;
mod hv;
mod hypercalls;
mod probes;
mod psci;
mod random;
mod registers;
mod rng;
mod step;
mod timer;
mod wellbehaved;

use check::Checks;

/// A group of checks.
type Group = (&'static str, fn(&mut Checks));

const GROUPS: &[Group] = &[
    ("absent", absent::run),
    ("calls", calls::run),
    ("registers", registers::run),
    ("gic", gic::run),
    ("timer", timer::run),
    ("features", features::run),
    ("step", step::run),
    ("firmware", firmware::run),
    ("psci", psci::run),
    ("hypercalls", hypercalls::run),
    ("frames", frames::run),
    ("flood", flood::run),
    ("channels", channels::run),
    ("random", random::run),
];

fn main(hardware: &'static rt::Hardware) {
    let only = hardware.argument("stress.only").unwrap_or("");
    let mut checks = Checks::default();
    rt::irq::unmask();
    absent::map_windows();
    rt::println!("stress: {} VPs, {} KiB pages", hardware.vps(), hardware.granule.bytes() >> 10);
    for (name, run) in GROUPS.iter().filter(|(name, _)| name.contains(only)) {
        checks.enter(name);
        run(&mut checks);
    }
    psci::hand_over(checks);
}

rt::entry!(main);
