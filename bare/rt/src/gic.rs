//! Offsets of the interrupt controller's registers, for programs that access them beside the driver
//! ([`irq`](crate::irq)).
//!
//! They are arm-gic's, not hv-vgic's: the guest's tests must not share a mistake with the host.
//!
//! Source: Arm GIC Architecture Specification (IHI 0069), "The GIC Distributor register map", "The GIC Redistributor
//! register map".

use core::mem::offset_of;

use arm_gic::gicv3::registers::{Gicd, Gicr, GicrSgi, Sgi};

/// Registers of the distributor.
pub mod gicd {
    use super::{Gicd, offset_of};

    /// GICD_CTLR.
    pub const CTLR: u64 = offset_of!(Gicd, ctlr) as u64;
    /// GICD_TYPER.
    pub const TYPER: u64 = offset_of!(Gicd, typer) as u64;
    /// GICD_IGROUPR0.
    pub const IGROUPR: u64 = offset_of!(Gicd, igroupr) as u64;
    /// GICD_ISENABLER0.
    pub const ISENABLER: u64 = offset_of!(Gicd, isenabler) as u64;
    /// GICD_IPRIORITYR0.
    pub const IPRIORITYR: u64 = offset_of!(Gicd, ipriorityr) as u64;
    /// GICD_IROUTER0, which does not exist; that of SPI n is n * 8 after it.
    pub const IROUTER: u64 = offset_of!(Gicd, irouter) as u64 - 32 * 8;
    /// GICD_PIDR2.
    pub const PIDR2: u64 = 0xffe8;
    /// Bytes of the frame.
    pub const BYTES: u64 = 0x1_0000;
}

/// Registers of a redistributor.
pub mod gicr {
    use super::{Gicr, GicrSgi, Sgi, offset_of};

    /// GICR_TYPER.
    pub const TYPER: u64 = offset_of!(Gicr, typer) as u64;
    /// GICR_WAKER.
    pub const WAKER: u64 = offset_of!(Gicr, waker) as u64;
    /// GICR_PIDR2.
    pub const PIDR2: u64 = offset_of!(Gicr, pidr2) as u64;
    /// The SGI frame.
    pub const SGI: u64 = offset_of!(GicrSgi, sgi) as u64;
    /// GICR_IGROUPR0.
    pub const IGROUPR: u64 = SGI + offset_of!(Sgi, igroupr) as u64;
    /// GICR_ISENABLER0.
    pub const ISENABLER: u64 = SGI + offset_of!(Sgi, isenabler) as u64;
    /// GICR_ISPENDR0.
    pub const ISPENDR: u64 = SGI + offset_of!(Sgi, ispendr) as u64;
    /// GICR_ISACTIVER0.
    pub const ISACTIVER: u64 = SGI + offset_of!(Sgi, isactiver) as u64;
    /// GICR_ICACTIVER0.
    pub const ICACTIVER: u64 = SGI + offset_of!(Sgi, icactiver) as u64;
    /// GICR_IPRIORITYR0.
    pub const IPRIORITYR: u64 = SGI + offset_of!(Sgi, ipriorityr) as u64;
    /// GICR_ICFGR0.
    pub const ICFGR: u64 = SGI + offset_of!(Sgi, icfgr) as u64;
    /// Bytes of both frames, from one redistributor to the next.
    pub const STRIDE: u64 = size_of::<GicrSgi>() as u64;
}
