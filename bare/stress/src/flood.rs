//! The flood: all VPs but the first make calls without end that take locks of the hypervisor, and VP 0 measures how
//! long its own calls take beside them.
//!
//! The hypervisor counts, at each lock, how many others were served before one that came first: the tool's report shows
//! the maximum. Times are printed, not judged.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use hv_tlfs::hypercall::{HypercallCode as Code, HypercallInput};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::PARTITION_ID_SELF;
use rt::cpu::{self, AffinityState};
use rt::{MAX_CPUS, println, time};

use crate::attack::IPI_INTID;
use crate::check::{Check, Checks};
use crate::hv::{self, Convention};
use crate::psci::PATIENCE;

/// A message connection of VMBus, and an unassigned one.
const VMBUS: u64 = 4;
const UNKNOWN: u64 = 0x7777;
/// CHANNELMSG_REQUESTOFFERS, 8 bytes; without a connection the server drops it.
const MESSAGE: [u64; 3] = [VMBUS, 1 | 8 << 32, 3];
/// An unused source.
const SINT: Name = Name(Name::SINT0.0 + 6);
/// Offsets in the arena: parameters, and two places for the message page.
const PARAMETERS: usize = 0;
const PAGES: [u64; 2] = [0x4000, 0x8000];

/// How long VP 0 makes calls at least: the host of an emulated machine may not run the others' threads at once.
const LEAST: Duration = Duration::from_secs(1);

/// Calls made by each flooding VP.
static CALLS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
static STOP: AtomicBool = AtomicBool::new(false);

/// A call, made once; the number is that of the round.
type Call = fn(u64) -> HvStatus;

/// The calls of VP 0, of which the first leave VMBus and its message page alone.
const KINDS: [(&str, Call); 4] =
    [("a Get", get), ("a Set", set), ("a post to VMBus", post), ("a move of the message page", move_page)];
/// Number of those.
const ALONE: usize = 2;

pub(crate) fn run(checks: &mut Checks) {
    let hardware = rt::hardware::get();
    let Some(rounds) = hardware.number("stress.flood") else { return };
    if hardware.vps() == 1 {
        checks.skip("calls beside a flood", "there is one VP");
        return;
    }
    hv::identify();
    let mut made = 0;
    checks.check("calls beside a flood get their answers", |check| {
        for vp in 1..hardware.vps() {
            check.equal((vp, "CPU_ON"), cpu::start(vp, flood), Ok(()));
        }
        let begun = || (1..hardware.vps()).all(|vp| CALLS[vp].load(Ordering::Relaxed) > 0);
        check.holds("all others call", time::wait_until(PATIENCE, begun));
        made = measure(check, rounds);
        STOP.store(true, Ordering::Relaxed);
        for vp in 1..hardware.vps() {
            let off = time::wait_until(PATIENCE, || cpu::state(vp) == Ok(AffinityState::Off));
            check.holds((vp, "it goes off"), off);
        }
    });
    let calls: u64 = CALLS.iter().map(|calls| calls.load(Ordering::Relaxed)).sum();
    println!("{calls} calls of {} other VPs beside {made} of each kind", hardware.vps() - 1);
}

/// Makes this many calls of each kind or more, and prints the longest time of each. Returns the number.
fn measure(check: &mut Check, rounds: u64) -> u64 {
    let (mut times, mut made, begun) = (Times::default(), 0, time::counter());
    while made < rounds || time::counter().wrapping_sub(begun) < time::ticks(LEAST) {
        times.measure(check, made, KINDS.len());
        made += 1;
    }
    times.print();
    made
}

/// The longest time of each kind of call, in ticks.
#[derive(Debug, Default)]
pub(crate) struct Times([u64; KINDS.len()]);

impl Times {
    /// Makes a call of each of the first kinds.
    fn measure(&mut self, check: &mut Check, round: u64, kinds: usize) {
        for ((kind, call), longest) in KINDS.into_iter().zip(&mut self.0).take(kinds) {
            let before = time::counter();
            let status = call(round);
            *longest = time::counter().wrapping_sub(before).max(*longest);
            check.equal(kind, status, HvStatus::SUCCESS);
        }
    }

    /// Makes a call of each kind that leaves VMBus and its message page alone.
    pub(crate) fn alone(&mut self, check: &mut Check) {
        self.measure(check, 0, ALONE);
    }

    /// Prints the times of the calls that were made.
    pub(crate) fn print(&self) {
        for ((kind, _), ticks) in KINDS.iter().zip(self.0).filter(|(_, ticks)| *ticks > 0) {
            println!("{kind} took {} us at most", micros(ticks));
        }
    }
}

/// Converts ticks to microseconds.
pub(crate) fn micros(ticks: u64) -> u128 {
    u128::from(ticks) * 1_000_000 / u128::from(time::frequency())
}

fn status(result: Result<u64, HvStatus>) -> HvStatus {
    result.err().unwrap_or(HvStatus::SUCCESS)
}

fn get(_: u64) -> HvStatus {
    status(hv::get(SINT))
}

fn set(round: u64) -> HvStatus {
    status(hv::set(SINT, 1 << 16 | (16 + round % 16)).map(|()| 0))
}

fn post(_: u64) -> HvStatus {
    let input = hv::put(PARAMETERS, &MESSAGE);
    hv::memory(Convention::Smccc, HypercallInput::from_code(Code::POST_MESSAGE), input, 0).status()
}

fn move_page(round: u64) -> HvStatus {
    status(hv::set(Name::SIMP, (hv::arena_gpa() + PAGES[round as usize % 2]) | 1).map(|()| 0))
}

fn signal() -> HvStatus {
    let call = HypercallInput::from_code(Code::SIGNAL_EVENT);
    hv::fast(Convention::Smccc, call, &[UNKNOWN, 0]).0.status()
}

/// Makes calls that hold VP 0's own locks: a Set of one of its registers, and an interrupt for it.
fn disturb() {
    let set = HypercallInput::from_code(Code::SET_VP_REGISTERS).with_rep_count(1);
    hv::fast(Convention::Smccc, set, &[PARTITION_ID_SELF, 0, u64::from(SINT.0) + 1, 0, 1 << 16 | 16, 0]);
    let interrupt = HypercallInput::from_code(Code::SEND_IPI);
    hv::fast(Convention::Smccc, interrupt, &[u64::from(IPI_INTID), 1]);
}

/// Runs on the other VPs. Each kind is made often before the next, so that several VPs contend for one lock.
fn flood() {
    let calls = &CALLS[cpu::index()];
    for round in 0u64.. {
        if STOP.load(Ordering::Relaxed) {
            return;
        }
        match round / 64 % 4 {
            0 => drop(post(round)),
            1 => drop(signal()),
            2 => disturb(),
            _ => drop(move_page(round)),
        }
        calls.fetch_add(1, Ordering::Relaxed);
    }
}
