//! Interrupts of timers and from the VP to itself. All stay masked at the CPU, which acknowledges and ends them in
//! line: the cost of a kernel's exception vector is not measured.
#![expect(unsafe_code, reason = "timer registers and SGIs")]

use core::arch::asm;

use hv_guest::arch::Smccc;
use hv_guest::clock::Clock;
use hv_guest::interrupts::Intid;
use hv_guest::partition::Vp;
use hv_guest::processors;
use hv_guest::registers::{self, Register};
use hv_guest::timer::TimerIndex;
use hv_tlfs::timer::StimerConfig;
use rt::{Hardware, irq, mrs, msr, time};

use crate::gic::{acknowledge, end};
use crate::measure::{Bench, nops};
use crate::{MEMORY, PAGES};

/// The SGI that the VP sends to itself.
const SGI: u32 = 1;
/// How far ahead a timer is set, in 100 ns: enough time to reach the WFI.
const AHEAD: u64 = 1000;

/// Panics: the interrupts stay masked, so the handler is never called.
pub(crate) fn unexpected(intid: u32) {
    panic!("interrupt {intid} was taken");
}

pub(crate) fn run(bench: &Bench, hardware: &Hardware, vp: &Vp<'_, Smccc>) {
    irq::enable(time::VIRTUAL_TIMER_INTID, unexpected);
    virtual_timer(bench);
    irq::enable(SGI, unexpected);
    bench.each("sgi-self", 2000, || {
        // SAFETY: ICC_SGI1R_EL1 with the target list of VP 0, which takes it below.
        unsafe { msr!("icc_sgi1r_el1", u64::from(SGI) << 24 | 1) };
        end(acknowledge());
    });
    let sgi = Intid::new(16).expect("a free PPI");
    irq::set_edge(16);
    irq::enable(16, unexpected);
    bench.each("ipi-self-hypercall", 2000, || {
        let _ = processors::send_ipi(&Smccc, sgi, 1);
        end(acknowledge());
    });
    // What of it is the call.
    bench.each("ipi-to-none", 2000, || {
        let _ = processors::send_ipi(&Smccc, sgi, 0);
    });
    let intid = hardware.stimer_intid.expect("firmware tells the timers' interrupt");
    synthetic_timer(bench, vp, intid);
}

/// Measures the architecture's virtual timer, whose interrupt the machine raises and the host injects.
fn virtual_timer(bench: &Bench) {
    // SAFETY: only this program uses the virtual timer, whose condition holds whenever it is enabled.
    unsafe { msr!("cntv_cval_el0", 0) };
    bench.each("timer-interrupt", 2000, || {
        // SAFETY: only this program uses the virtual timer, and switches it off before its interrupt ends.
        unsafe { msr!("cntv_ctl_el0", 1) };
        let intid = acknowledge();
        // SAFETY: only this program uses the virtual timer; 0 switches it off.
        unsafe { msr!("cntv_ctl_el0", 0) };
        rt::arch::isb();
        end(intid);
    });
    bench.latency("timer-latency", 4, || {
        let due = mrs!("cntvct_el0") + AHEAD;
        time::arm(due);
        let (intid, now) = sleep(bench.delay());
        time::stop();
        end(intid);
        now - due
    });
}

/// Sleeps until an interrupt is pending and acknowledges it; then waits for `delay` instructions, and reads the
/// counter.
#[inline(always)]
fn sleep(delay: u64) -> (u64, u64) {
    // SAFETY: waiting changes no memory and no register; a masked interrupt ends it, too.
    unsafe { asm!("wfi", options(nostack)) };
    let intid = acknowledge();
    nops(delay);
    (intid, mrs!("cntvct_el0"))
}

/// Measures synthetic timer 0 in direct mode.
fn synthetic_timer(bench: &Bench, vp: &Vp<'_, Smccc>, intid: u32) {
    irq::set_edge(intid);
    irq::enable(intid, unexpected);
    let [timer, ..] = TimerIndex::ALL;
    let vector = Intid::new(intid).expect("a PPI").number();
    let config = StimerConfig(0).with_direct_mode(true).with_vector(vector).with_auto_enable(true);
    registers::set(vp, Register::timer_config(timer), config).expect("it has direct timers");
    bench.each("stimer-direct", 2000, || {
        // Time 1 is in the past: the timer expires at once.
        let _ = registers::set(vp, Register::timer_count(timer), 1);
        end(acknowledge());
    });
    let expiry = Expiry::new(vp);
    bench.latency("stimer-latency", 4, || {
        let now = registers::get(vp, Register::TIME_REF_COUNT).unwrap_or_default();
        let due = now.ticks() + AHEAD;
        let _ = registers::set(vp, Register::timer_count(timer), due);
        let (intid, now) = sleep(bench.delay());
        end(intid);
        now - expiry.counter(due)
    });
    expiry.clock.stop().expect("it gives the page back");
    registers::set(vp, Register::timer_config(timer), StimerConfig(0)).expect("it stops a timer");
    irq::disable(intid);
}

/// The counter's value at a reference time, by the reference TSC page.
struct Expiry<'a> {
    clock: Clock<'a, Smccc>,
    scale: u64,
    offset: u64,
}

impl<'a> Expiry<'a> {
    fn new(vp: &Vp<'a, Smccc>) -> Self {
        let page = &PAGES[1];
        let clock = vp.partition().start_clock(page, &MEMORY).expect("it has a clock");
        // Sequence and padding, scale, offset (TLFS, "Partition Reference TSC Mechanism").
        let [_, scale, offset] = [0, 8, 16].map(|at| {
            let mut word = [0; 8];
            page.read(at, &mut word);
            u64::from_le_bytes(word)
        });
        Self { clock, scale, offset }
    }

    /// Returns the first tick at which the time is not below `time`, in 100 ns.
    fn counter(&self, time: u64) -> u64 {
        (u128::from(time.wrapping_sub(self.offset)) << 64).div_ceil(u128::from(self.scale)) as u64
    }
}
