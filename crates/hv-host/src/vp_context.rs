//! The registers that a VP starts with.

/// Initial registers of a VP, at EL1h with all interrupts masked. Other registers have their reset values.
///
/// Source: TLFS, `HV_INITIAL_VP_CONTEXT`; PSCI, section "CPU_ON".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VpContext {
    /// Program counter; with the MMU off (a PSCI start) a guest physical address.
    pub pc: u64,
    /// X0: the context id of PSCI CPU_ON.
    pub x0: u64,
    /// X18, the platform register.
    pub x18: u64,
    /// SP_EL1.
    pub sp: u64,
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// MAIR_EL1.
    pub mair: u64,
    /// TCR_EL1.
    pub tcr: u64,
    /// VBAR_EL1.
    pub vbar: u64,
    /// TTBR0_EL1.
    pub ttbr0: u64,
    /// TTBR1_EL1.
    pub ttbr1: u64,
}

impl VpContext {
    /// SCTLR_EL1 with MMU, caches and alignment checks off and the RES1 bits set (Arm ARM, "SCTLR_EL1").
    pub const SCTLR_RESET: u64 = 0x30d0_0800;

    /// Creates the context of a VP that starts with the MMU off at `pc`, as for PSCI CPU_ON.
    #[must_use]
    pub const fn at(pc: u64, x0: u64) -> Self {
        Self { pc, x0, x18: 0, sp: 0, sctlr: Self::SCTLR_RESET, mair: 0, tcr: 0, vbar: 0, ttbr0: 0, ttbr1: 0 }
    }
}
