//! System registers by their Arm ARM names, and the few instructions that have no Rust form.
#![expect(unsafe_code, reason = "MRS and MSR exist only as assembly")]

use core::arch::asm;

use arm_sysregs::el1::registers::ParEl1;
use arm_sysregs::el2::registers::{HcrEl2, MdcrEl2};

/// Reads a system register by its assembler name. Reads of the registers used here have no side effect, except that of
/// ICC_IAR1_EL1, which acknowledges an interrupt.
macro_rules! mrs {
    ($register:literal) => {{
        #[allow(unsafe_code, reason = "the proof holds wherever the macro is used")]
        let value: u64 = {
            let value;
            // SAFETY: reading a system register changes no memory and no state that Rust relies on.
            unsafe {
                ::core::arch::asm!(concat!("mrs {}, ", $register), out(reg) value, options(nostack, preserves_flags));
            }
            value
        };
        value
    }};
}

/// Writes a system register, one of [`is_harmless`]. Any other does not compile: those on which EL2 relies have
/// functions below.
macro_rules! msr {
    ($register:literal, $value:expr) => {{
        const {
            assert!($crate::arch::is_harmless($register), "EL2 relies on this register, or it is not in the list of `arch`")
        };
        let value: u64 = $value;
        #[allow(unsafe_code, reason = "the proof holds wherever the macro is used")]
        let () = {
            // SAFETY: no value of a register that `is_harmless` accepts moves or unmaps memory of the hypervisor, gives
            // the guest a way to it, or changes how code at EL2 executes.
            unsafe {
                ::core::arch::asm!(concat!("msr ", $register, ", {}"), in(reg) value, options(nostack, preserves_flags));
            }
        };
    }};
}
pub(crate) use {mrs, msr};

/// Registers that hold state of EL1 and EL0 alone: what the guest itself may write. That includes what locates its
/// memory, since all of it goes through stage 2.
const OF_THE_GUEST: &[&str] = &[
    "afsr0_el1",
    "afsr1_el1",
    "amair_el1",
    "cntkctl_el1",
    "cntp_ctl_el0",
    "cntv_ctl_el0",
    "contextidr_el1",
    "cpacr_el1",
    "csselr_el1",
    "elr_el1",
    "esr_el1",
    "far_el1",
    "icc_sre_el1",
    "mair_el1",
    "mdccint_el1",
    "mdscr_el1",
    "osdlr_el1",
    "oslar_el1",
    "par_el1",
    "pmccfiltr_el0",
    "pmcntenclr_el0",
    "pmcr_el0",
    "pmintenclr_el1",
    "pmovsclr_el0",
    "pmselr_el0",
    "pmuserenr_el0",
    "sctlr_el1",
    "sp_el0",
    "sp_el1",
    "spsr_el1",
    "tcr_el1",
    "tpidr_el0",
    "tpidr_el1",
    "tpidrro_el0",
    "ttbr0_el1",
    "ttbr1_el1",
    "vbar_el1",
    // ZCR_EL1, SMCR_EL1, SMPRI_EL1, SVCR, TPIDR2_EL0.
    "s3_0_c1_c2_0",
    "s3_0_c1_c2_6",
    "s3_0_c1_c2_4",
    "s3_3_c4_c2_2",
    "s3_3_c13_c0_5",
    // SCXTNUM_EL0, SCXTNUM_EL1, GCSCR_EL1, GCSCRE0_EL1, FPMR.
    "s3_3_c13_c0_7",
    "s3_0_c13_c0_7",
    "s3_0_c2_c5_0",
    "s3_0_c2_c5_2",
    "s3_3_c4_c4_2",
    // TCR2_EL1, SCTLR2_EL1, PIRE0_EL1, PIR_EL1, POR_EL0, POR_EL1.
    "s3_0_c2_c0_3",
    "s3_0_c1_c0_3",
    "s3_0_c10_c2_2",
    "s3_0_c10_c2_3",
    "s3_3_c10_c2_4",
    "s3_0_c10_c2_4",
];

/// Registers of EL2 that say what the guest sees and what of it traps, where it resumes, and when EL2 is interrupted. A
/// trap at EL2 ends the run.
const OF_EL2: &[&str] = &[
    // Identification, offsets, traps of features.
    "cntvoff_el2",
    "cnthctl_el2",
    "cptr_el2",
    "hstr_el2",
    "vmpidr_el2",
    "vpidr_el2",
    // ZCR_EL2, SMCR_EL2, HCRX_EL2, HFGRTR_EL2, HFGWTR_EL2, HFGITR_EL2, HDFGRTR_EL2, HDFGWTR_EL2, VSESR_EL2, VDISR_EL2.
    "s3_4_c1_c2_0",
    "s3_4_c1_c2_6",
    "s3_4_c1_c2_2",
    "s3_4_c1_c1_4",
    "s3_4_c1_c1_5",
    "s3_4_c1_c1_6",
    "s3_4_c3_c1_4",
    "s3_4_c3_c1_5",
    "s3_4_c5_c2_3",
    "s3_4_c12_c1_1",
    // The address at which the guest resumes: `set_guest_pstate` says at which level.
    "elr_el2",
    // EL2's timer, and the interface to the GIC.
    "cnthp_ctl_el2",
    "cnthp_cval_el2",
    "icc_bpr1_el1",
    "icc_ctlr_el1",
    "icc_dir_el1",
    "icc_eoir1_el1",
    "icc_igrpen1_el1",
    "icc_pmr_el1",
    "icc_sgi1r_el1",
    "icc_sre_el2",
    // The guest's interface to it.
    "ich_hcr_el2",
    "ich_vmcr_el2",
    "ich_ap0r0_el2",
    "ich_ap0r1_el2",
    "ich_ap0r2_el2",
    "ich_ap0r3_el2",
    "ich_ap1r0_el2",
    "ich_ap1r1_el2",
    "ich_ap1r2_el2",
    "ich_ap1r3_el2",
    "ich_lr0_el2",
    "ich_lr1_el2",
    "ich_lr2_el2",
    "ich_lr3_el2",
    "ich_lr4_el2",
    "ich_lr5_el2",
    "ich_lr6_el2",
    "ich_lr7_el2",
    "ich_lr8_el2",
    "ich_lr9_el2",
    "ich_lr10_el2",
    "ich_lr11_el2",
    "ich_lr12_el2",
    "ich_lr13_el2",
    "ich_lr14_el2",
    "ich_lr15_el2",
];

/// Returns true for a register that safe code may write, whatever the value.
pub(crate) const fn is_harmless(register: &str) -> bool {
    contains(OF_THE_GUEST, register) || contains(OF_EL2, register)
}

const fn contains(list: &[&str], register: &str) -> bool {
    let mut at = 0;
    while at < list.len() {
        let (known, wanted) = (list[at].as_bytes(), register.as_bytes());
        let mut same = if known.len() == wanted.len() { known.len() } else { usize::MAX };
        let mut byte = 0;
        while byte < known.len() && same != usize::MAX {
            if known[byte] != wanted[byte] {
                same = usize::MAX;
            }
            byte += 1;
        }
        if same != usize::MAX {
            return true;
        }
        at += 1;
    }
    false
}

/// Sets SPSR_EL2, the guest's PSTATE. It is one of EL1 or EL0, whatever the value: nothing returns to EL2.
#[inline]
pub(crate) fn set_guest_pstate(pstate: u64) {
    /// M[3]: EL2 or EL3 in AArch64; in AArch32 it is clear for EL0, and HCR_EL2.RW rules out EL1.
    const EL2_OR_EL3: u64 = 1 << 3;
    let pstate = pstate & !EL2_OR_EL3;
    // SAFETY: the register has an effect at `eret` alone, and that goes to EL1 or EL0.
    unsafe { asm!("msr spsr_el2, {}", in(reg) pstate, options(nostack, preserves_flags)) };
}

/// Sets HCR_EL2, with stage 2 on, EL1 in AArch64 and EL2 as it is, whatever the value.
pub(crate) fn set_hypervisor_configuration(hcr: u64) {
    let always = HcrEl2::VM.union(HcrEl2::RW);
    // NV2 would have the guest's accesses to registers of EL2 write to memory through EL2's map.
    let never = HcrEl2::E2H.union(HcrEl2::TGE).union(HcrEl2::NV).union(HcrEl2::NV1).union(HcrEl2::NV2);
    let hcr = (hcr | always.bits()) & !never.bits();
    // SAFETY: without E2H, the register has no effect on EL2's own memory or code; with VM, all that the guest reaches
    // is in stage 2.
    unsafe { asm!("msr hcr_el2, {}", in(reg) hcr, options(nostack, preserves_flags)) };
}

/// Sets MDCR_EL2. No buffer of a profiling or trace unit is the guest's, whatever the value: those write to memory
/// through EL2's map.
pub(crate) fn set_debug_configuration(mdcr: u64) {
    /// E2PB and E2TB.
    const BUFFERS: u64 =
        MdcrEl2::E2PB_MASK << MdcrEl2::E2PB_SHIFT | MdcrEl2::E2TB_MASK << MdcrEl2::E2TB_SHIFT;
    // SAFETY: without buffers, the register says what traps and what counts, and does not change how code executes.
    unsafe { asm!("msr mdcr_el2, {}", in(reg) mdcr & !BUFFERS, options(nostack, preserves_flags)) };
}

/// Sets VTCR_EL2 and VTTBR_EL2: the guest's memory on this CPU.
///
/// # Safety
///
/// The root is that of stage-2 tables that live as long as the machine, of this shape, and map nothing that is the
/// hypervisor's.
pub(crate) unsafe fn set_stage2(vtcr: u64, vttbr: u64) {
    // SAFETY: the registers have no effect at EL2, and the caller vouches for what the guest reaches through them.
    unsafe { asm!("msr vtcr_el2, {}", in(reg) vtcr, options(nostack, preserves_flags)) };
    // SAFETY: the register has no effect at EL2, and the caller vouches for what the guest reaches by these tables.
    unsafe { asm!("msr vttbr_el2, {}", in(reg) vttbr, options(nostack, preserves_flags)) };
}

/// Waits until earlier writes to system registers have taken effect.
#[inline(always)]
pub(crate) fn isb() {
    // SAFETY: a barrier changes no memory and no register.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}

/// Waits until earlier memory accesses are visible to the whole system.
#[inline(always)]
pub(crate) fn dsb_sy() {
    // SAFETY: a barrier changes no memory and no register.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Waits for an interrupt: returns when one is pending, although interrupts are masked here.
#[inline(always)]
pub(crate) fn wfi() {
    // SAFETY: waiting changes no memory and no register.
    unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
}

/// Hints that another CPU may go first: with instruction counting, QEMU runs the CPUs in turn.
pub(crate) fn yield_cpu() {
    // SAFETY: a hint changes no memory and no register.
    unsafe { asm!("yield", options(nomem, nostack, preserves_flags)) };
}

/// Reads the ID register `S3_0_C0_C<crm>_<op2>`; zero where `crm` is not 1 to 7 or `op2` not 0 to 7.
pub(crate) fn id_register(crm: u8, op2: u8) -> u64 {
    macro_rules! read {
        ($($crm:literal),*) => {
            match (crm, op2) {
                $(
                    ($crm, 0) => one!($crm, 0),
                    ($crm, 1) => one!($crm, 1),
                    ($crm, 2) => one!($crm, 2),
                    ($crm, 3) => one!($crm, 3),
                    ($crm, 4) => one!($crm, 4),
                    ($crm, 5) => one!($crm, 5),
                    ($crm, 6) => one!($crm, 6),
                    ($crm, 7) => one!($crm, 7),
                )*
                _ => 0,
            }
        };
    }
    macro_rules! one {
        ($crm:literal, $op2:literal) => {{
            let value: u64;
            // SAFETY: ID registers exist at EL2, or are reserved and read as zero (Arm ARM, "ID register scheme");
            // reading one has no effect.
            unsafe {
                asm!(concat!("mrs {}, s3_0_c0_c", $crm, "_", $op2), out(reg) value,
                    options(nostack, preserves_flags, nomem));
            }
            value
        }};
    }
    read!(1, 2, 3, 4, 5, 6, 7)
}

/// Clears this CPU's exclusive monitor.
pub(crate) fn clear_exclusive() {
    // SAFETY: the worst effect is that a store-exclusive fails, which it may do at any time.
    unsafe { asm!("clrex", options(nostack, preserves_flags)) };
}

/// Invalidates the guest's translations of an address in all address spaces on all CPUs, at the latest by the next
/// [`complete_tlb_flush`].
#[inline]
pub(crate) fn flush_guest_address(address: u64) {
    /// Bits 55:12 of the address.
    const VA: u64 = (1 << 44) - 1;
    // SAFETY: the instruction invalidates EL1&0 translations only; the hypervisor's own are those of EL2.
    unsafe { asm!("tlbi vaae1is, {}", in(reg) address >> 12 & VA, options(nostack, preserves_flags)) };
}

/// Waits until other CPUs' writes to translation tables are visible to the invalidations that follow.
pub(crate) fn begin_tlb_flush() {
    // SAFETY: a barrier changes no memory and no register.
    unsafe { asm!("dsb ishst", options(nostack, preserves_flags)) };
}

/// Waits until the invalidations have completed on all CPUs.
pub(crate) fn complete_tlb_flush() {
    // SAFETY: barriers change no memory and no register.
    unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// Invalidates all stage-1 and stage-2 translations of the guest on all CPUs.
pub(crate) fn flush_guest_tlb() {
    // SAFETY: the instruction invalidates EL1&0 translations only; the hypervisor's own are those of EL2.
    unsafe { asm!("dsb ishst", "tlbi vmalls12e1is", "dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// Translates a guest virtual address to the guest physical one, through the guest's own translation for reads at EL1
/// or, with `el0`, at EL0. `None` where that faults. HCR_EL2.PTW keeps the walk away from devices, so it never ends in
/// an abort here.
pub(crate) fn translate(address: u64, el0: bool) -> Option<u64> {
    // Arm ARM, "PAR_EL1, Physical Address Register": F, and bits 51:12 of the address.
    const FAILED: u64 = ParEl1::F.bits();
    const PAGE: u64 = 0x000f_ffff_ffff_f000;
    // The register belongs to the guest.
    let kept = mrs!("par_el1");
    if el0 {
        // SAFETY: the instruction translates an address and writes PAR_EL1 only.
        unsafe { asm!("at s1e0r, {}", in(reg) address, options(nostack, preserves_flags)) };
    } else {
        // SAFETY: the instruction translates an address and writes PAR_EL1 only.
        unsafe { asm!("at s1e1r, {}", in(reg) address, options(nostack, preserves_flags)) };
    }
    isb();
    let found = mrs!("par_el1");
    msr!("par_el1", kept);
    (found & FAILED == 0).then_some(found & PAGE | address & 0xfff)
}

/// Calls the firmware (here QEMU's PSCI) by SMC.
///
/// # Safety
///
/// The function follows the SMC calling convention, changes no memory of the hypervisor's, and starts other code only
/// at a CPU's entry point.
pub(crate) unsafe fn smc(function: u32, arguments: [u64; 3]) -> u64 {
    let result;
    // SAFETY: by the SMC calling convention, which the function follows, the call clobbers x0 to x17 only; the caller
    // promises that it does nothing else that Rust code relies on.
    unsafe {
        asm!("smc #0",
            inlateout("x0") u64::from(function) => result,
            inlateout("x1") arguments[0] => _,
            inlateout("x2") arguments[1] => _,
            inlateout("x3") arguments[2] => _,
            lateout("x4") _, lateout("x5") _, lateout("x6") _, lateout("x7") _, lateout("x8") _,
            lateout("x9") _, lateout("x10") _, lateout("x11") _, lateout("x12") _, lateout("x13") _,
            lateout("x14") _, lateout("x15") _, lateout("x16") _, lateout("x17") _,
            options(nostack));
    }
    result
}
