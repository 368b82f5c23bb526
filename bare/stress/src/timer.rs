//! The EL1 timers: their signal at the interrupt controller, and their interrupt.
//!
//! Source: Arm ARM, "The Generic Timer in AArch64 state"; Arm IHI 0069, GICR_ISPENDR0.
#![expect(unsafe_code, reason = "timer registers")]

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use rt::gic::gicr;
use rt::probe::Size;
use rt::{arch, irq, mrs, msr, time};

use crate::check::{Check, Checks};
use crate::probes;
use crate::psci::PATIENCE;

/// CNTx_CTL_EL0.
const ENABLE: u64 = 1;
const IMASK: u64 = 2;
const ISTATUS: u64 = 4;
/// Ticks until a compare value that no run reaches, about 5 hours at QEMU's frequency. QEMU 7.2 adds the virtual
/// counter's offset to a compare value and wraps: with the largest value its main loop fires the timer without end.
const FAR: u64 = 1 << 40;

/// One of the two timers.
struct Timer {
    name: &'static str,
    intid: u32,
    counter: fn() -> u64,
    control: fn() -> u64,
    set_control: fn(u64),
    set_compare: fn(u64),
    set_relative: fn(u64),
}

macro_rules! timer {
    ($name:literal, $intid:expr, $counter:literal, $control:literal, $compare:literal, $relative:literal) => {
        Timer {
            name: $name,
            intid: $intid,
            counter: || {
                arch::isb();
                mrs!($counter)
            },
            control: || {
                arch::isb();
                mrs!($control)
            },
            set_control: |value| {
                // SAFETY: only these checks use the timer meanwhile, and it concerns no memory.
                unsafe { msr!($control, value) };
                arch::isb();
            },
            set_compare: |value| {
                // SAFETY: only these checks use the timer meanwhile, and any compare value is valid.
                unsafe { msr!($compare, value) };
                arch::isb();
            },
            set_relative: |value| {
                // SAFETY: only these checks use the timer meanwhile, and any timer value is valid.
                unsafe { msr!($relative, value) };
                arch::isb();
            },
        }
    };
}

static TIMERS: [Timer; 2] = [
    timer!(
        "virtual",
        time::VIRTUAL_TIMER_INTID,
        "cntvct_el0",
        "cntv_ctl_el0",
        "cntv_cval_el0",
        "cntv_tval_el0"
    ),
    timer!(
        "physical",
        time::PHYSICAL_TIMER_INTID,
        "cntpct_el0",
        "cntp_ctl_el0",
        "cntp_cval_el0",
        "cntp_tval_el0"
    ),
];

/// Interrupts taken, and the counter at the last.
static TAKEN: AtomicU64 = AtomicU64::new(0);
static WHEN: AtomicU64 = AtomicU64::new(0);

pub(crate) fn run(checks: &mut Checks) {
    let each = |check: &mut Check, look: fn(&mut Check, &Timer)| {
        for timer in &TIMERS {
            irq::disable(timer.intid);
            look(check, timer);
            (timer.set_control)(0);
        }
    };
    checks
        .check("a timer that is due is pending while its interrupt is disabled", |check| each(check, signal));
    checks.check("a timer's interrupt comes once, and not early", |check| each(check, interrupt));
}

/// Returns true if the interrupt controller has the signal, or gets it soon.
fn becomes(timer: &Timer, pending: bool) -> bool {
    let word = rt::hardware::get().gicr + gicr::ISPENDR;
    time::wait_until(PATIENCE, || {
        probes::read(word, Size::Word).is_ok_and(|word| (word >> timer.intid & 1 == 1) == pending)
    })
}

fn signal(check: &mut Check, timer: &Timer) {
    let Timer { name, set_control, set_compare, .. } = *timer;
    set_compare((timer.counter)() + FAR);
    set_control(ENABLE);
    check.holds((name, "not before its time"), becomes(timer, false));
    check.equal((name, "ISTATUS before"), (timer.control)() & ISTATUS, 0);
    set_compare((timer.counter)() - 1);
    check.holds((name, "when due"), becomes(timer, true));
    check.equal((name, "ISTATUS when due"), (timer.control)() & ISTATUS, ISTATUS);
    set_control(ENABLE | IMASK);
    check.holds((name, "not while masked"), becomes(timer, false));
    check.equal((name, "ISTATUS while masked"), (timer.control)() & ISTATUS, ISTATUS);
    set_control(ENABLE);
    check.holds((name, "unmasked"), becomes(timer, true));
    set_compare((timer.counter)() + FAR);
    check.holds((name, "not when put off"), becomes(timer, false));
    (timer.set_relative)(0);
    check.holds((name, "due by its timer value"), becomes(timer, true));
    set_control(0);
    check.holds((name, "not while off"), becomes(timer, false));
}

fn interrupt(check: &mut Check, timer: &Timer) {
    fn take(intid: u32) {
        for timer in TIMERS.iter().filter(|timer| timer.intid == intid) {
            WHEN.store((timer.counter)(), Ordering::Relaxed);
            (timer.set_control)(ENABLE | IMASK);
        }
        TAKEN.fetch_add(1, Ordering::Release);
    }
    let name = timer.name;
    let before = TAKEN.load(Ordering::Acquire);
    irq::enable(timer.intid, take);
    let due = (timer.counter)() + time::ticks(Duration::from_millis(10));
    (timer.set_compare)(due);
    (timer.set_control)(ENABLE);
    let taken = || TAKEN.load(Ordering::Acquire) - before;
    check.holds((name, "taken"), time::wait_until(PATIENCE, || taken() != 0));
    let when = WHEN.load(Ordering::Relaxed);
    check.holds((name, when, "not before", due), when >= due);
    // A second one would come at once.
    time::wait_until(Duration::from_millis(1), || false);
    check.equal((name, "once"), taken(), 1);
    irq::disable(timer.intid);
}
