//! KVM's numbers of registers.
//!
//! Source: Linux, Documentation/virt/kvm/api.rst, "KVM_SET_ONE_REG"; arch/arm64/include/uapi/asm/kvm.h,
//! `KVM_REG_ARM_CORE`, `ARM64_SYS_REG`.

use std::fmt;

/// A register of a virtual CPU, by KVM's number.
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

/// KVM_REG_ARM_COPROC_MASK: the kind of register.
const KIND: u64 = 0x0fff_0000;

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
    /// MPIDR_EL1.
    pub const MPIDR_EL1: Self = system(3, 0, 0, 0, 5);
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

    /// Returns the number of bytes that its number says it has.
    #[must_use]
    pub const fn size(self) -> usize {
        1 << (self.0 >> 52 & 0xf)
    }
}

/// The register's name, if it is known, and KVM's number.
impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let low = self.0 & 0xffff;
        match (self.0 & KIND, low / 2) {
            (CORE, n @ 0..=30) => write!(f, "X{n}")?,
            (CORE, 31) => write!(f, "SP_EL0")?,
            (CORE, 32) => write!(f, "PC")?,
            (CORE, 33) => write!(f, "PSTATE")?,
            (SYSTEM, _) => write!(f, "{}", SystemRegister(low))?,
            _ => write!(f, "a register")?,
        }
        write!(f, " ({:#x})", self.0)
    }
}

/// A system register by its encoding as KVM has it, for messages.
pub(crate) struct SystemRegister(pub(crate) u64);

impl fmt::Display for SystemRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = |low: u32, mask: u64| self.0 >> low & mask;
        let (op0, op1, crn, crm, op2) = (field(14, 3), field(11, 7), field(7, 15), field(3, 15), field(0, 7));
        match hv_cpu::sysreg::name(op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1) {
            Some(name) => f.write_str(name),
            None => write!(f, "S{op0}_{op1}_C{crn}_C{crm}_{op2}"),
        }
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

    #[test]
    fn a_register_has_a_name_and_a_size() {
        for (number, name, size) in [
            (0x6030_0000_0010_003c, "X30 (0x603000000010003c)", 8),
            (0x6030_0000_0010_0040, "PC (0x6030000000100040)", 8),
            (0x6030_0000_0013_c005, "MPIDR_EL1 (0x603000000013c005)", 8),
            (0x6030_0000_0013_ffff, "S3_7_C15_C15_7 (0x603000000013ffff)", 8),
            // V0 and FPSR.
            (0x6040_0000_0010_0054, "a register (0x6040000000100054)", 16),
            (0x6020_0000_0010_00d4, "a register (0x60200000001000d4)", 4),
        ] {
            let register = Register(number);
            assert_eq!((register.to_string().as_str(), register.size()), (name, size));
        }
    }
}
