//! ESR_EL2, and the address of a stage-2 abort.
//!
//! Source: Arm ARM, "ESR_EL2, Exception Syndrome Register".

use arm_sysregs::el2::registers::{EsrEl2, HpfarEl2};

use crate::arch::mrs;

/// Exception classes (Arm ARM, "ESR_EL2", EC; arm-sysregs has the field and not its values).
pub(crate) mod class {
    /// Unknown reason: that of an undefined instruction.
    pub(crate) const UNKNOWN: u64 = 0;
    /// HVC from AArch64.
    pub(crate) const HVC64: u64 = 0x16;
    /// SMC from AArch64.
    pub(crate) const SMC64: u64 = 0x17;
    /// MSR, MRS or a system instruction from AArch64.
    pub(crate) const SYSTEM_REGISTER: u64 = 0x18;
    /// Instruction abort from a lower exception level.
    pub(crate) const INSTRUCTION_ABORT: u64 = 0x20;
    /// Data abort from a lower exception level.
    pub(crate) const DATA_ABORT: u64 = 0x24;
}

/// Shift of the class.
pub(crate) const CLASS_SHIFT: u32 = EsrEl2::EC_SHIFT;
/// IL: the trapped instruction has 32 bits.
pub(crate) const IL: u64 = EsrEl2::IL.bits();
/// ISS.
pub(crate) const ISS: u64 = EsrEl2::ISS_MASK;

/// Returns the class of a syndrome, above which newer CPUs have a second part of the ISS.
pub(crate) const fn class_of(esr: u64) -> u64 {
    esr >> CLASS_SHIFT & EsrEl2::EC_MASK
}

/// Fields of the ISS of a data abort (Arm ARM, "ISS encoding for an exception from a Data Abort").
pub(crate) mod iss {
    /// ISV: the fields above bit 13 are valid.
    pub(super) const ISV: u64 = 1 << 24;
    /// Shift of SAS, the binary logarithm of the size.
    pub(super) const SAS_SHIFT: u32 = 22;
    pub(super) const SAS_MASK: u64 = 0b11;
    /// SSE: the value is sign-extended.
    pub(super) const SSE: u64 = 1 << 21;
    /// Shift of SRT, the general register.
    pub(super) const SRT_SHIFT: u32 = 16;
    pub(super) const SRT_MASK: u64 = 0b1_1111;
    /// SF: the register has 64 bits.
    pub(super) const SF: u64 = 1 << 15;
    /// FnV: FAR_EL2 does not hold the address.
    pub(super) const FNV: u64 = 1 << 10;
    /// CM: cache maintenance.
    pub(crate) const CM: u64 = 1 << 8;
    /// S1PTW: on a stage 1 table walk.
    pub(super) const S1PTW: u64 = 1 << 7;
    /// WnR: a write.
    pub(crate) const WNR: u64 = 1 << 6;
    /// DFSC or IFSC: synchronous external abort, not on a table walk.
    pub(crate) const EXTERNAL_ABORT: u64 = 0x10;
}

/// The ISS of a data abort.
pub(crate) struct DataAbort(pub(crate) u64);

impl DataAbort {
    /// Returns true if the rest describes the access.
    pub(crate) fn valid(&self) -> bool {
        self.0 & iss::ISV != 0
    }
    /// Returns the size in bytes: 1, 2, 4 or 8.
    pub(crate) fn size(&self) -> usize {
        1 << (self.0 >> iss::SAS_SHIFT & iss::SAS_MASK)
    }
    pub(crate) fn sign_extend(&self) -> bool {
        self.0 & iss::SSE != 0
    }
    pub(crate) fn register(&self) -> usize {
        (self.0 >> iss::SRT_SHIFT & iss::SRT_MASK) as usize
    }
    pub(crate) fn sixty_four(&self) -> bool {
        self.0 & iss::SF != 0
    }
    pub(crate) fn table_walk(&self) -> bool {
        self.0 & iss::S1PTW != 0
    }
    pub(crate) fn write(&self) -> bool {
        self.0 & iss::WNR != 0
    }
    /// Returns true if FAR_EL2 does not hold the address.
    fn far_not_valid(&self) -> bool {
        self.0 & iss::FNV != 0
    }
}

/// Returns the guest physical address of a stage-2 abort, with syndrome `esr`.
pub(crate) fn fault_address(esr: u64) -> u64 {
    // FIPA are the bits of the guest physical address from bit 12 on; the low 12 are those of the virtual one.
    let page = HpfarEl2::from_bits_retain(mrs!("hpfar_el2")).fipa() << 12;
    page | if DataAbort(esr).far_not_valid() { 0 } else { mrs!("far_el2") & 0xfff }
}
