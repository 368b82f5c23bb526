//! KVM's numbers of registers.
//!
//! Source: Linux, Documentation/virt/kvm/api.rst, "KVM_SET_ONE_REG"; arch/arm64/include/uapi/asm/kvm.h,
//! `KVM_REG_ARM_CORE`, `ARM64_SYS_REG`.

/// A register of a virtual CPU with 64 bits, by KVM's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Register(
    /// The number.
    pub u64,
);

/// KVM_REG_ARM64 | KVM_REG_SIZE_U64.
const ARM64_U64: u64 = 0x6030_0000_0000_0000;
/// KVM_REG_ARM_CORE.
const CORE: u64 = 0x0010_0000;
/// KVM_REG_ARM64_SYSREG.
const SYSTEM: u64 = 0x0013_0000;

/// Returns a field of `struct kvm_regs`, by its index in 64-bit words.
const fn core(index: u64) -> Register {
    // KVM counts in words of 32 bits.
    Register(ARM64_U64 | CORE | (index * 2))
}

/// Returns a system register, by its encoding.
const fn system(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64) -> Register {
    Register(ARM64_U64 | SYSTEM | (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2)
}

impl Register {
    /// The program counter.
    pub const PC: Self = core(32);
    /// PSTATE, in SPSR_EL2's layout.
    pub const PSTATE: Self = core(33);
    /// SP_EL1.
    pub const SP_EL1: Self = core(34);
    /// ELR_EL1.
    pub const ELR_EL1: Self = core(35);
    /// SPSR_EL1.
    pub const SPSR_EL1: Self = core(36);
    /// MDSCR_EL1.
    pub const MDSCR_EL1: Self = system(2, 0, 0, 2, 2);
    /// OSLSR_EL1.
    pub const OSLSR_EL1: Self = system(2, 0, 1, 1, 4);
    /// ID_AA64PFR1_EL1.
    pub const ID_AA64PFR1_EL1: Self = system(3, 0, 0, 4, 1);
    /// ID_AA64DFR0_EL1.
    pub const ID_AA64DFR0_EL1: Self = system(3, 0, 0, 5, 0);
    /// ID_AA64MMFR1_EL1.
    pub const ID_AA64MMFR1_EL1: Self = system(3, 0, 0, 7, 1);
    /// SCTLR_EL1.
    pub const SCTLR_EL1: Self = system(3, 0, 1, 0, 0);
    /// TTBR0_EL1.
    pub const TTBR0_EL1: Self = system(3, 0, 2, 0, 0);
    /// TTBR1_EL1.
    pub const TTBR1_EL1: Self = system(3, 0, 2, 0, 1);
    /// TCR_EL1.
    pub const TCR_EL1: Self = system(3, 0, 2, 0, 2);
    /// GCSCR_EL1.
    pub const GCSCR_EL1: Self = system(3, 0, 2, 5, 0);
    /// ESR_EL1.
    pub const ESR_EL1: Self = system(3, 0, 5, 2, 0);
    /// MAIR_EL1.
    pub const MAIR_EL1: Self = system(3, 0, 10, 2, 0);
    /// TPIDR_EL1.
    pub const TPIDR_EL1: Self = system(3, 0, 13, 0, 4);
    /// VBAR_EL1.
    pub const VBAR_EL1: Self = system(3, 0, 12, 0, 0);

    /// Returns the general register X`n`; `n` is at most 30.
    #[must_use]
    pub const fn x(n: usize) -> Self {
        core(n as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::Register;

    /// Numbers as Linux 6.12's KVM lists them with KVM_GET_REG_LIST.
    #[test]
    fn registers_have_the_numbers_of_the_kernel() {
        for (register, number) in [
            (Register::x(0), 0x6030_0000_0010_0000),
            (Register::x(30), 0x6030_0000_0010_003c),
            (Register::PC, 0x6030_0000_0010_0040),
            (Register::PSTATE, 0x6030_0000_0010_0042),
            (Register::SP_EL1, 0x6030_0000_0010_0044),
            (Register::ELR_EL1, 0x6030_0000_0010_0046),
            (Register::SPSR_EL1, 0x6030_0000_0010_0048),
            (Register::SCTLR_EL1, 0x6030_0000_0013_c080),
            (Register::MDSCR_EL1, 0x6030_0000_0013_8012),
            (Register::VBAR_EL1, 0x6030_0000_0013_c600),
        ] {
            assert_eq!(register, Register(number));
        }
    }
}
