//! Register layouts: fields and values of the frames' registers, whose offsets are in `hv-cpu`, of the list registers
//! and of ICH_HCR_EL2. Data only.
//!
//! Source: Arm Generic Interrupt Controller Architecture Specification, GIC architecture version 3 and version 4
//! (IHI 0069), chapter "Programmers' Model".

/// Fields of a list register, `ICH_LR<n>_EL2`.
pub mod lr {
    /// State, bit 0: pending.
    pub const PENDING: u64 = 1 << 62;
    /// State, bit 1: active.
    pub const ACTIVE: u64 = 1 << 63;
    /// Both state bits; zero means that the list register is free.
    pub const STATE: u64 = PENDING | ACTIVE;
    /// The virtual interrupt is backed by a physical one: deactivating it deactivates the physical one.
    pub const HW: u64 = 1 << 61;
    /// Group 1.
    pub const GROUP1: u64 = 1 << 60;
    /// Shift of the 8-bit priority.
    pub const PRIORITY_SHIFT: u32 = 48;
    /// Shift of the physical INTID, valid if [`HW`] is set.
    pub const PHYSICAL_SHIFT: u32 = 32;
    /// Maintenance interrupt when the guest deactivates it; available if [`HW`] is clear.
    pub const EOI: u64 = 1 << 41;
    /// Virtual INTID.
    pub const VIRTUAL_MASK: u64 = 0xffff_ffff;
}

/// Fields of the hypervisor control register, `ICH_HCR_EL2`.
pub mod hcr {
    /// The virtual CPU interface is enabled.
    pub const EN: u64 = 1 << 0;
    /// Maintenance interrupt while at most one list register is in use.
    pub const UIE: u64 = 1 << 1;
    /// Maintenance interrupt while EOIcount is nonzero.
    pub const LRENPIE: u64 = 1 << 2;
    /// Maintenance interrupt while no list register is pending.
    pub const NPIE: u64 = 1 << 3;
    /// Trap guest writes to ICC_DIR_EL1; without effect if `ICH_VTR_EL2.TDS` is zero. The embedder sets it once, and
    /// passes the writes to [`Gic::deactivate`](crate::Gic::deactivate). It costs a guest with EOImode 0 nothing.
    pub const TDIR: u64 = 1 << 14;
    /// Shift of EOIcount: deactivations without a list register.
    pub const EOI_COUNT_SHIFT: u32 = 27;
    /// EOIcount.
    pub const EOI_COUNT: u64 = 0x1f << EOI_COUNT_SHIFT;
    /// The bits that the state machine sets and clears; the others belong to the embedder.
    pub const MANAGED: u64 = UIE | LRENPIE | NPIE | EOI_COUNT;
}

/// Registers of the distributor.
pub(crate) mod gicd {
    pub(crate) use hv_cpu::gic::gicd::*;

    /// CTLR: Group 0 interrupts are forwarded.
    pub(crate) const CTLR_GROUP0: u32 = 1 << 0;
    /// CTLR: Group 1 interrupts are forwarded.
    pub(crate) const CTLR_GROUP1: u32 = 1 << 1;
    /// CTLR: affinity routing, always on.
    pub(crate) const CTLR_ARE: u32 = 1 << 4;
    /// CTLR: one security state, always.
    pub(crate) const CTLR_DS: u32 = 1 << 6;
    /// TYPER: 64 INTIDs without LPIs, 10 bits of INTID, no 1-of-N routing, Aff0 below 16.
    pub(crate) const TYPER_VALUE: u32 = 1 | 9 << 19 | 1 << 25;
    /// IROUTER: the implemented affinity fields (Aff3 is not, TYPER.A3V is zero).
    pub(crate) const IROUTER_MASK: u64 = 0x00ff_ffff;
}

/// Registers of a redistributor, from the start of its RD frame.
pub(crate) mod gicr {
    pub(crate) use hv_cpu::gic::gicr::*;

    /// TYPER: the last redistributor of its region.
    pub(crate) const TYPER_LAST: u64 = 1 << 4;
    /// WAKER: the processor is asleep.
    pub(crate) const WAKER_PROCESSOR_SLEEP: u32 = 1 << 1;
    /// WAKER: the interface is quiescent.
    pub(crate) const WAKER_CHILDREN_ASLEEP: u32 = 1 << 2;
}

/// IIDR of both kinds of frame: product `H`, revision 0, implementer code of the architecture's owner.
pub(crate) const IIDR_VALUE: u32 = (b'H' as u32) << 24 | 0x43b;
/// First identification register in each 64 KiB frame.
pub(crate) const ID_REGISTERS: u32 = 0xffd0;
/// PIDR4..PIDR7, PIDR0..PIDR3, CIDR0..CIDR3 of the distributor. PIDR2 says GICv3.
pub(crate) const GICD_ID: [u8; 12] = [0x44, 0, 0, 0, 0x92, 0xb4, 0x3b, 0, 0x0d, 0xf0, 0x05, 0xb1];
/// The same of a redistributor.
pub(crate) const GICR_ID: [u8; 12] = [0x44, 0, 0, 0, 0x93, 0xb4, 0x3b, 0, 0x0d, 0xf0, 0x05, 0xb1];

/// Implemented priority bits: five, the minimum for a virtual CPU interface.
pub(crate) const PRIORITY_MASK: u8 = 0xf8;

/// Fields of ICC_SGI1R_EL1, ICC_SGI0R_EL1 and ICC_ASGI1R_EL1.
pub(crate) mod sgir {
    /// Returns the INTID, 0 to 15.
    pub(crate) const fn intid(value: u64) -> u32 {
        (value >> 24 & 0xf) as u32
    }

    /// Returns true if the targets are all but the sender, instead of the list.
    pub(crate) const fn all_others(value: u64) -> bool {
        value >> 40 & 1 != 0
    }

    /// Returns the Aff0 values of the targets, one bit each.
    pub(crate) const fn targets(value: u64) -> u64 {
        value & 0xffff
    }

    /// Returns the number of the cluster of 16 that the list refers to; `None` if it cannot contain a VP.
    pub(crate) const fn cluster(value: u64) -> Option<usize> {
        let above = value >> 32 & 0xff | value >> 48 & 0xff; // Aff2, Aff3
        let range = value >> 44 & 0xf;
        if above != 0 || range != 0 { None } else { Some((value >> 16 & 0xff) as usize) }
    }
}
