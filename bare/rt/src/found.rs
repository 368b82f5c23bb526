//! The state that a CPU found when it started, before this runtime changed it: interrupt controller, timers, debug,
//! event counters.
//!
//! By then the start code has set up a stack, vectors, floating point and the MMU; none of these is recorded.
#![expect(unsafe_code, reason = "registers of the interrupt controller")]

use core::arch::asm;

use spin::Mutex;

use crate::gic::{gicd, gicr};
use crate::hardware::Hardware;
use crate::stacks::MAX_CPUS;
use crate::{cpu, mrs};

/// Registers by name.
pub type Found = [(&'static str, u64); COUNT];
const COUNT: usize = 27;

static FOUND: [Mutex<Option<Found>>; MAX_CPUS] = [const { Mutex::new(None) }; MAX_CPUS];

/// Returns what `cpu` found when it last started; `None` if it never did.
pub fn by(cpu: usize) -> Option<Found> {
    *FOUND[cpu].lock()
}

/// Returns true if the CPU has the architecture's PMU (ID_AA64DFR0_EL1.PMUVer).
pub fn has_pmu() -> bool {
    !matches!(mrs!("id_aa64dfr0_el1") >> 8 & 0xf, 0 | 0xf)
}

/// Records what this CPU finds.
pub(crate) fn record(hardware: &Hardware) {
    let index = cpu::index();
    let read = |address: u64| {
        let value: u64;
        // SAFETY: a register of the interrupt controller, mapped as a device; reading it has no effect. It is assembly,
        // since a hypervisor can only emulate a load without writeback.
        unsafe {
            asm!("ldr {0:w}, [{1}]", out(reg) value, in(reg) address, options(nostack, preserves_flags, readonly));
        }
        value
    };
    let own = hardware.gicr + index as u64 * gicr::STRIDE;
    let pmu = |value: fn() -> u64| if has_pmu() { value() } else { 0 };
    *FOUND[index].lock() = Some([
        ("GICD_CTLR", read(hardware.gicd + gicd::CTLR)),
        ("GICD_IGROUPR1", read(hardware.gicd + gicd::IGROUPR + 4)),
        ("GICD_ISENABLER1", read(hardware.gicd + gicd::ISENABLER + 4)),
        ("GICR_WAKER", read(own + gicr::WAKER)),
        ("GICR_IGROUPR0", read(own + gicr::IGROUPR)),
        ("GICR_ISENABLER0", read(own + gicr::ISENABLER)),
        ("GICR_ISPENDR0", read(own + gicr::ISPENDR)),
        ("GICR_ISACTIVER0", read(own + gicr::ISACTIVER)),
        ("ICC_SRE_EL1", mrs!("icc_sre_el1")),
        ("ICC_PMR_EL1", mrs!("icc_pmr_el1")),
        ("ICC_IGRPEN0_EL1", mrs!("icc_igrpen0_el1")),
        ("ICC_IGRPEN1_EL1", mrs!("icc_igrpen1_el1")),
        ("CNTV_CTL_EL0", mrs!("cntv_ctl_el0")),
        ("CNTP_CTL_EL0", mrs!("cntp_ctl_el0")),
        ("CNTKCTL_EL1", mrs!("cntkctl_el1")),
        ("MDSCR_EL1", mrs!("mdscr_el1")),
        ("MDCCINT_EL1", mdccint()),
        ("OSDLR_EL1", mrs!("osdlr_el1")),
        ("OSLSR_EL1.OSLK", mrs!("oslsr_el1") >> 1 & 1),
        ("PMCR_EL0.E", pmu(|| mrs!("pmcr_el0") & 1)),
        ("PMCNTENSET_EL0", pmu(|| mrs!("pmcntenset_el0"))),
        ("PMINTENSET_EL1", pmu(|| mrs!("pmintenset_el1"))),
        ("PMOVSSET_EL0", pmu(|| mrs!("pmovsset_el0"))),
        ("PMUSERENR_EL0", pmu(|| mrs!("pmuserenr_el0"))),
        ("CONTEXTIDR_EL1", mrs!("contextidr_el1")),
        ("TPIDR_EL0", mrs!("tpidr_el0")),
        ("DAIF", mrs!("daif")),
    ]);
}

/// Returns MDCCINT_EL1. QEMU 7.2 lacks it, and a read leaves the destination unchanged.
fn mdccint() -> u64 {
    let mut value = 0;
    // SAFETY: reading the register changes nothing.
    unsafe { asm!("mrs {}, mdccint_el1", inlateout(reg) value, options(nostack, preserves_flags, nomem)) };
    value
}
