//! EL2's own controls, which hold for every VP at all times.
//!
//! Source: Arm ARM, "D24.2 General system control registers".

use arm_sysregs::el0::registers::PmcrEl0;
use arm_sysregs::el1::registers::{IdAa64dfr0El1, IdAa64mmfr0El1, IdAa64mmfr1El1};
use arm_sysregs::el2::registers::{CnthctlEl2, CptrEl2, HcrEl2, MdcrEl2};
use hv_cpu::id::{Controls, Values};

use crate::arch::{self, isb, mrs, msr};
use crate::mmu;

/// HCR_EL2 for every guest. TIDCP: implementation defined registers may control what CPUs share. TID3: hv-cpu's table
/// tells what a guest sees of the CPU. PTW: no walk of the guest's tables reaches a device, also not one on behalf of
/// `arch::translate`.
const HCR: u64 = HcrEl2::RW
    .union(HcrEl2::TIDCP)
    .union(HcrEl2::TSC)
    .union(HcrEl2::TID3)
    .union(HcrEl2::AMO)
    .union(HcrEl2::IMO)
    .union(HcrEl2::FMO)
    .union(HcrEl2::PTW)
    .union(HcrEl2::SWIO)
    .union(HcrEl2::VM)
    .bits();
/// A virtual SError is pending; hardware clears it when the guest takes it.
pub(crate) const VSE: u64 = HcrEl2::VSE.bits();
/// CPTR_EL2 in its layout without VHE: RES1 bits, and TZ and TSM until the guest has SVE and SME; TTA and TAM keep the
/// trace and activity monitors from the guest. FP is not trapped.
const CPTR: u64 =
    CptrEl2::RES1.union(CptrEl2::TZ).union(CptrEl2::TSM).union(CptrEl2::TAM).bits() | without_vhe::TTA;
/// CNTHCTL_EL2: EL1 uses the physical counter and timer without a trap.
const CNTHCTL: u64 = CnthctlEl2::EL1PCEN.bits() | without_vhe::EL1PCTEN;

/// Fields that arm-sysregs has only as they are with VHE.
mod without_vhe {
    /// CPTR_EL2.TTA.
    pub(super) const TTA: u64 = 1 << 20;
    /// CNTHCTL_EL2.EL1PCTEN.
    pub(super) const EL1PCTEN: u64 = 1 << 0;
}

/// Returns what a guest sees of this machine's CPUs, which are all alike.
pub(crate) fn visible_features() -> Values {
    Values::visible(arch::id_register)
}

/// Sets up EL2 on this CPU. Registers that came with an extension are written only where the CPU implements it.
pub(crate) fn init(features: &Values, counter_offset: u64) {
    let Controls { hcr, hcrx, cptr_off, hfgrtr, hfgitr, zcr, smcr } = features.controls();
    arch::set_hypervisor_configuration(HCR | hcr);
    msr!("cptr_el2", CPTR & !cptr_off);
    isb();
    if zcr != 0 {
        // ZCR_EL2
        msr!("s3_4_c1_c2_0", zcr);
    }
    if smcr != 0 {
        // SMCR_EL2
        msr!("s3_4_c1_c2_6", smcr);
    }
    if IdAa64mmfr1El1::from_bits_retain(mrs!("id_aa64mmfr1_el1")).hcx() != 0 {
        // HCRX_EL2
        msr!("s3_4_c1_c2_2", hcrx);
    }
    if IdAa64mmfr0El1::from_bits_retain(mrs!("id_aa64mmfr0_el1")).fgt() != 0 {
        // HFGRTR_EL2, HFGWTR_EL2 and HFGITR_EL2; HDFGRTR_EL2 and HDFGWTR_EL2 need not be zero after a reset.
        msr!("s3_4_c1_c1_4", hfgrtr);
        msr!("s3_4_c1_c1_5", hfgrtr);
        msr!("s3_4_c1_c1_6", hfgitr);
        msr!("s3_4_c3_c1_4", 0);
        msr!("s3_4_c3_c1_5", 0);
    }
    arch::set_debug_configuration(debug_controls());
    msr!("cnthctl_el2", CNTHCTL);
    msr!("cntvoff_el2", counter_offset);
    msr!("cnthp_ctl_el2", 0);
    msr!("hstr_el2", 0);
    msr!("vpidr_el2", mrs!("midr_el1"));
    msr!("vmpidr_el2", mrs!("mpidr_el1"));
    mmu::activate_stage2();
    isb();
}

/// Returns MDCR_EL2: all event counters are the guest's (HPMN), but do not count at EL2 where the CPU can tell (HPMD,
/// HCCD). No buffer of a profiling or trace unit is the guest's (E2PB, E2TB): those write to memory through EL2's map.
fn debug_controls() -> u64 {
    const HPMD: u64 = MdcrEl2::HPMD.bits();
    const HCCD: u64 = MdcrEl2::HCCD.bits();
    let Some(version) = pmu_version() else { return 0 };
    let counters = PmcrEl0::from_bits_retain(mrs!("pmcr_el0")).n();
    u64::from(counters) | if version >= 4 { HPMD } else { 0 } | if version >= 6 { HCCD } else { 0 }
}

/// Returns ID_AA64DFR0_EL1.PMUVer; `None` where the architecture's PMU registers do not exist.
pub(crate) fn pmu_version() -> Option<u8> {
    match IdAa64dfr0El1::from_bits_retain(mrs!("id_aa64dfr0_el1")).pmuver() {
        0 | 0xf => None,
        version => Some(version),
    }
}
