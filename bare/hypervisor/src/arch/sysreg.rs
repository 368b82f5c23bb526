//! System registers by their Arm ARM names, and the few instructions that have no Rust form.
#![expect(unsafe_code, reason = "MRS and MSR exist only as assembly")]

use core::arch::asm;

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

/// Writes a system register. The registers written through this macro change what the guest sees, how EL2 is entered,
/// or a timer; none of them moves or unmaps memory of the hypervisor (only start.s sets TTBR0_EL2 and SCTLR_EL2).
macro_rules! msr {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        #[allow(unsafe_code, reason = "the proof holds wherever the macro is used")]
        let () = {
            // SAFETY: this macro writes no register that Rust code relies on: none moves or unmaps memory of the
            // hypervisor, or changes how its code executes.
            unsafe {
                ::core::arch::asm!(concat!("msr ", $register, ", {}"), in(reg) value, options(nostack, preserves_flags));
            }
        };
    }};
}
pub(crate) use {mrs, msr};

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
            // SAFETY: ID registers exist at EL2, or are reserved and read as zero (Arm ARM, "ID register scheme"); reading
            // one has no effect.
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
    const FAILED: u64 = 1;
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
