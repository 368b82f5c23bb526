//! The random mode: all VPs but the first attack, and VP 0 works.

use core::sync::atomic::Ordering;

use rt::cpu::{self, AffinityState};
use rt::{println, time};

use crate::attack::{self, ATTACKERS, Attacker, FIRST_WRONG, KINDS, SEED, WRONG};
use crate::check::{Check, Checks};
use crate::psci::PATIENCE;
use crate::wellbehaved::WellBehaved;

pub(crate) fn run(checks: &mut Checks) {
    let hardware = rt::hardware::get();
    let Some(count) = hardware.number("stress.random") else { return };
    let seed = hardware.number("stress.seed").unwrap_or(1);
    let others = hardware.vps() - 1;
    if others == 0 {
        checks.skip("random calls and accesses", "there is one VP");
        return;
    }
    println!("{count} random calls and accesses from {others} VPs, seed {seed}");
    SEED.store(seed, Ordering::Relaxed);
    KINDS.store(hardware.number("stress.kinds").unwrap_or(u64::MAX), Ordering::Relaxed);
    let (mut rounds, mut restarts) = (0, 0);
    checks.check("a well-behaved VP beside them gets right answers", |check| {
        let mut own = WellBehaved::new(check, seed);
        own.round(check);
        for (vp, attacker) in attackers() {
            attacker.quota.store(count.div_ceil(others as u64), Ordering::Relaxed);
            check.equal((vp, "CPU_ON"), cpu::start(vp, attack::attack), Ok(()));
        }
        restarts = supervise(check, &mut own, count);
        own.round(check);
        rounds = own.rounds();
    });
    println!("{rounds} rounds of a well-behaved VP, {restarts} VPs started again");
    checks.check("every random access meets what it must", |check| {
        if let Some(first) = *FIRST_WRONG.lock() {
            check.wrong(WRONG.load(Ordering::Relaxed), first);
        }
    });
    checks.check("all VPs end", |check| {
        for (vp, _) in attackers() {
            let off = time::wait_until(PATIENCE, || cpu::state(vp) == Ok(AffinityState::Off));
            check.holds((vp, "it goes off"), off);
        }
    });
}

/// Iterates over the VPs that attack.
fn attackers() -> impl Iterator<Item = (usize, &'static Attacker)> {
    ATTACKERS.iter().enumerate().take(rt::hardware::get().vps()).skip(1)
}

/// Works until all attackers are done: starts those that went off, wakes those that sleep, prints the progress. Returns
/// how often a VP was started again.
fn supervise(check: &mut Check, own: &mut WellBehaved, count: u64) -> u64 {
    let (mut restarts, mut shown, mut last, mut since) = (0, 0, 0, time::counter());
    loop {
        own.round(check);
        for (vp, attacker) in attackers() {
            if attacker.leaving.load(Ordering::Acquire) && cpu::state(vp) == Ok(AffinityState::Off) {
                attacker.leaving.store(false, Ordering::Release);
                check.equal((vp, "CPU_ON"), cpu::start(vp, attack::attack), Ok(()));
                restarts += 1;
            }
            if attacker.sleeping.load(Ordering::Acquire) {
                attack::wake(vp);
            }
        }
        let done: u64 = attackers().map(|(_, attacker)| attacker.done.load(Ordering::Relaxed)).sum();
        if done != last {
            (last, since) = (done, time::counter());
        }
        if attackers().all(|(_, attacker)| attacker.finished.load(Ordering::Acquire)) {
            return restarts;
        }
        if time::counter() - since > time::ticks(PATIENCE) {
            for (vp, attacker) in attackers() {
                check.wrong("a VP does not go on", (vp, attacker));
            }
            return restarts;
        }
        while done * 10 >= (shown + 1) * count.max(1) {
            shown += 1;
            println!("  {done} of {count}");
        }
    }
}
