//! Operations between VPs. The counter counts the instructions of all VPs; while they run one after the other, as with
//! `-icount`, that is both the whole work and the latency from end to end.
#![expect(unsafe_code, reason = "code for a VP without an MMU, SGIs, WFE")]

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hv_guest::arch::Smccc;
use hv_guest::conduit::Conduit;
use hv_guest::interrupts::Intid;
use hv_guest::processors;
use hv_tlfs::psci;
use rt::cpu::AffinityState;
use rt::{Hardware, cpu, irq, mrs, msr};

use crate::gic::{acknowledge, end};
use crate::interrupts::unexpected;
use crate::measure::{Bench, nops};

/// The SGI, and the PPI that a hypercall sends; firmware assigns neither.
const SGI: u32 = 1;
const PPI: u32 = 16;

/// VPs that wait for interrupts, and interrupts that they have taken.
static WAITING: AtomicUsize = AtomicUsize::new(0);
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// When the started VP ran its first instruction.
static STARTED: AtomicU64 = AtomicU64::new(0);

// The first instructions of a VP: X0 is where the counter goes. Then CPU_OFF.
global_asm!(
    ".section .text.bench_started",
    ".global bench_started",
    "bench_started:",
    "mrs x1, cntvct_el0",
    "str x1, [x0]",
    "movz w0, #0x8400, lsl #16",
    "movk w0, #2",
    "hvc #0",
    "b .",
);

unsafe extern "C" {
    fn bench_started();
}

pub(crate) fn run(bench: &Bench, hardware: &Hardware) {
    let vps = hardware.vps();
    start(bench, hardware, vps - 1);
    (1..vps).for_each(|vp| cpu::start(vp, wait).expect("it starts"));
    until(|| WAITING.load(Ordering::Acquire) == vps - 1);

    prepare();
    let all = (1u64 << vps) - 1;
    sgi(bench, "sgi-1", 1 << 1, 1, false);
    sgi(bench, "sgi-8", all, vps - 1, true);
    // IRM: all but the sender.
    sgi(bench, "sgi-all-others", 1 << 40, vps - 1, false);
    let intid = Intid::new(PPI).expect("a PPI");
    for (name, mask, others) in [("ipi-1", 1 << 1, 1), ("ipi-8", all, vps - 1)] {
        send(bench, name, others, mask & 1 != 0, || {
            let _ = processors::send_ipi(&Smccc, intid, mask);
        });
    }
}

/// Enables both interrupts on this VP.
fn prepare() {
    irq::set_edge(PPI);
    irq::enable(PPI, unexpected);
    irq::enable(SGI, unexpected);
}

/// Takes interrupts forever.
fn wait() {
    prepare();
    WAITING.fetch_add(1, Ordering::Release);
    loop {
        // SAFETY: waiting changes no memory and no register; a masked interrupt ends it, too.
        unsafe { asm!("wfi", options(nostack)) };
        end(acknowledge());
        TAKEN.fetch_add(1, Ordering::Release);
    }
}

/// Waits, and lets the other VPs run.
fn until(condition: impl Fn() -> bool) {
    while !condition() {
        // SAFETY: waits for an event, which any interrupt is, or for nothing.
        unsafe { asm!("wfe", options(nostack, preserves_flags)) };
    }
}

/// Measures an interrupt from VP 0 to this number of others, and to itself, until all have acknowledged and ended it.
fn send(bench: &Bench, name: &str, others: usize, own: bool, mut send: impl FnMut()) {
    bench.each(name, 500, || {
        TAKEN.store(0, Ordering::Relaxed);
        send();
        if own {
            end(acknowledge());
        }
        until(|| TAKEN.load(Ordering::Acquire) == others);
    });
}

/// Measures the same interrupt through ICC_SGI1R_EL1.
fn sgi(bench: &Bench, name: &str, target: u64, others: usize, own: bool) {
    send(bench, name, others, own, || {
        // SAFETY: the targets take the interrupt, and only count it.
        unsafe { msr!("icc_sgi1r_el1", u64::from(SGI) << 24 | target) };
    });
}

/// Measures from CPU_ON to the first instruction of the VP.
fn start(bench: &Bench, hardware: &Hardware, vp: usize) {
    let arguments = [hardware.mpidr(vp), bench_started as *const () as u64, STARTED.as_ptr() as u64];
    bench.latency("vp-start", 4, || {
        STARTED.store(0, Ordering::Relaxed);
        rt::arch::dsb();
        nops(bench.delay());
        let before = mrs!("cntvct_el0");
        // SAFETY: the VP runs `bench_started`, which counts and powers off.
        let result = unsafe { Smccc.smccc(psci::CPU_ON | psci::SMC64, arguments) };
        assert!(result[0] == 0, "CPU_ON: {:#x}", result[0]);
        until(|| cpu::state(vp) == Ok(AffinityState::Off));
        STARTED.load(Ordering::Acquire) - before
    });
}
