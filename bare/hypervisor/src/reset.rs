//! The state of EL1 when a VP starts: that after a reset.
//!
//! A VP that starts again finds nothing that it left. Registers whose fields the architecture resets have these values;
//! those that it leaves UNKNOWN are zero where a kernel could be harmed by what another kernel left there, or could
//! read it.
//!
//! Source: Arm ARM, "D24 AArch64 System Register Descriptions", the reset values of each register's fields; PSCI
//! (DEN0022), "CPU_ON": the core comes from a powerdown state, so the OS lock is set.

use arm_sysregs::el0::registers::PmcrEl0;
use arm_sysregs::el1::registers::{IccSreEl1, IdAa64mmfr3El1, IdAa64pfr0El1, IdAa64pfr1El1, IdAa64pfr2El1};
use hv_cpu::id::{Register, Values};
use hv_cpu::pstate::spsr;
use hv_partition::VpContext;

use crate::arch::{self, clear_exclusive, isb, mrs, msr};
use crate::el2;

/// SPSR_EL2 of a VP that starts: EL1h, with D, A, I and F masked.
const EL1H_MASKED: u64 = spsr::EL1H | spsr::MASKS;
/// ICC_SRE_EL1: system registers, no bypass, which is the only mode implemented.
const SRE: u64 = IccSreEl1::SRE.union(IccSreEl1::DFB).union(IccSreEl1::DIB).bits();
/// ID_AA64PFR0_EL1, ID_AA64PFR1_EL1, ID_AA64PFR2_EL1, ID_AA64MMFR3_EL1.
const PFR0: Register = Register::new(4, 0);
const PFR1: Register = Register::new(4, 1);
const PFR2: Register = Register::new(4, 2);
const MMFR3: Register = Register::new(7, 3);

/// Resets EL1, except for what `context` sets.
pub(crate) fn el1(context: &VpContext, features: &Values) {
    quiesce();
    debug();
    extensions(features);
    msr!("cntkctl_el1", 0);
    msr!("cpacr_el1", 0);
    msr!("contextidr_el1", 0);
    msr!("tpidr_el0", 0);
    msr!("tpidrro_el0", 0);
    msr!("tpidr_el1", 0);
    msr!("sp_el0", 0);
    msr!("csselr_el1", 0);
    msr!("esr_el1", 0);
    msr!("far_el1", 0);
    msr!("par_el1", 0);
    msr!("afsr0_el1", 0);
    msr!("afsr1_el1", 0);
    msr!("amair_el1", 0);
    msr!("elr_el1", 0);
    msr!("spsr_el1", 0);
    msr!("sp_el1", context.sp);
    msr!("sctlr_el1", context.sctlr);
    msr!("mair_el1", context.mair);
    msr!("tcr_el1", context.tcr);
    msr!("ttbr0_el1", context.ttbr0);
    msr!("ttbr1_el1", context.ttbr1);
    msr!("vbar_el1", context.vbar);
    msr!("icc_sre_el1", SRE);
    arch::set_hypervisor_configuration(mrs!("hcr_el2") & !el2::VSE);
    msr!("elr_el2", context.pc);
    arch::set_guest_pstate(EL1H_MASKED);
    clear_exclusive();
    isb();
}

/// Stops the sources of interrupts: timers and event counters.
pub(crate) fn quiesce() {
    msr!("cntv_ctl_el0", 0);
    msr!("cntp_ctl_el0", 0);
    if el2::pmu_version().is_some() {
        /// PMCR_EL0: E clear; LC is RES1 where EL1 has no AArch32; C and P: the counters are zero.
        const PMCR: u64 = PmcrEl0::LC.union(PmcrEl0::C).union(PmcrEl0::P).bits();
        msr!("pmcr_el0", PMCR);
        msr!("pmcntenclr_el0", u64::from(u32::MAX));
        msr!("pmintenclr_el1", u64::from(u32::MAX));
        msr!("pmovsclr_el0", u64::from(u32::MAX));
        msr!("pmuserenr_el0", 0);
        msr!("pmselr_el0", 0);
        msr!("pmccfiltr_el0", 0);
    }
}

/// Locks and disables self-hosted debug.
fn debug() {
    msr!("mdscr_el1", 0);
    msr!("mdccint_el1", 0);
    msr!("osdlr_el1", 0);
    msr!("oslar_el1", 1);
}

/// Resets the registers that came with an extension, where the guest has it.
fn extensions(features: &Values) {
    let has = |register, shift: u32| features.get(register) >> shift & 0xf;
    if has(PFR0, IdAa64pfr0El1::RAS_SHIFT) != 0 {
        // RAS: VSESR_EL2, and VDISR_EL2, which is the guest's DISR_EL1.
        msr!("s3_4_c5_c2_3", 0);
        msr!("s3_4_c12_c1_1", 0);
    }
    if has(PFR0, IdAa64pfr0El1::SVE_SHIFT) != 0 {
        // SVE: ZCR_EL1.
        msr!("s3_0_c1_c2_0", 0);
    }
    if has(PFR0, IdAa64pfr0El1::CSV2_SHIFT) >= 2 || has(PFR1, IdAa64pfr1El1::CSV2_FRAC_SHIFT) == 2 {
        // CSV2: SCXTNUM_EL0, SCXTNUM_EL1.
        msr!("s3_3_c13_c0_7", 0);
        msr!("s3_0_c13_c0_7", 0);
    }
    if has(PFR1, IdAa64pfr1El1::SME_SHIFT) != 0 {
        // SME: SVCR (PSTATE.SM and ZA), SMCR_EL1, SMPRI_EL1, TPIDR2_EL0.
        msr!("s3_3_c4_c2_2", 0);
        msr!("s3_0_c1_c2_6", 0);
        msr!("s3_0_c1_c2_4", 0);
        msr!("s3_3_c13_c0_5", 0);
    }
    if has(PFR1, IdAa64pfr1El1::GCS_SHIFT) != 0 {
        // GCS: GCSCR_EL1, GCSCRE0_EL1.
        msr!("s3_0_c2_c5_0", 0);
        msr!("s3_0_c2_c5_2", 0);
    }
    if has(PFR2, IdAa64pfr2El1::FPMR_SHIFT) != 0 {
        // FPMR.
        msr!("s3_3_c4_c4_2", 0);
    }
    if has(MMFR3, IdAa64mmfr3El1::TCRX_SHIFT) != 0 {
        // TCR2_EL1.
        msr!("s3_0_c2_c0_3", 0);
    }
    if has(MMFR3, IdAa64mmfr3El1::SCTLRX_SHIFT) != 0 {
        // SCTLR2_EL1.
        msr!("s3_0_c1_c0_3", 0);
    }
    if has(MMFR3, IdAa64mmfr3El1::S1PIE_SHIFT) != 0 {
        // S1PIE: PIRE0_EL1, PIR_EL1.
        msr!("s3_0_c10_c2_2", 0);
        msr!("s3_0_c10_c2_3", 0);
    }
    if has(MMFR3, IdAa64mmfr3El1::S1POE_SHIFT) != 0 {
        // S1POE: POR_EL0, POR_EL1.
        msr!("s3_3_c10_c2_4", 0);
        msr!("s3_0_c10_c2_4", 0);
    }
}
