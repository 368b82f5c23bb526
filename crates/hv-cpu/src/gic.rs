//! Offsets of the registers of a GICv3.
//!
//! Source: Arm Generic Interrupt Controller Architecture Specification, GIC architecture version 3 and version 4
//! (IHI 0069), chapter "Programmers' Model".

/// Registers of the distributor. Those from [`IGROUPR`](gicd::IGROUPR) to [`NSACR`](gicd::NSACR) are at the same
/// offsets in the SGI frame of a redistributor, without ITARGETSR.
pub mod gicd {
    /// GICD_CTLR.
    pub const CTLR: u32 = 0x0000;
    /// GICD_TYPER.
    pub const TYPER: u32 = 0x0004;
    /// GICD_IIDR.
    pub const IIDR: u32 = 0x0008;
    /// GICD_TYPER2.
    pub const TYPER2: u32 = 0x000c;
    /// GICD_IGROUPR0.
    pub const IGROUPR: u32 = 0x0080;
    /// GICD_ISENABLER0.
    pub const ISENABLER: u32 = 0x0100;
    /// GICD_ICENABLER0.
    pub const ICENABLER: u32 = 0x0180;
    /// GICD_ISPENDR0.
    pub const ISPENDR: u32 = 0x0200;
    /// GICD_ICPENDR0.
    pub const ICPENDR: u32 = 0x0280;
    /// GICD_ISACTIVER0.
    pub const ISACTIVER: u32 = 0x0300;
    /// GICD_ICACTIVER0.
    pub const ICACTIVER: u32 = 0x0380;
    /// GICD_IPRIORITYR0.
    pub const IPRIORITYR: u32 = 0x0400;
    /// End of the registers that start at [`IPRIORITYR`].
    pub const IPRIORITYR_END: u32 = 0x0800;
    /// GICD_ITARGETSR0.
    pub const ITARGETSR: u32 = 0x0800;
    /// GICD_ICFGR0.
    pub const ICFGR: u32 = 0x0c00;
    /// End of the registers that start at [`ICFGR`].
    pub const ICFGR_END: u32 = 0x0d00;
    /// GICD_IGRPMODR0.
    pub const IGRPMODR: u32 = 0x0d00;
    /// GICD_NSACR0.
    pub const NSACR: u32 = 0x0e00;
    /// GICD_SGIR.
    pub const SGIR: u32 = 0x0f00;
    /// GICD_IROUTER0, which does not exist; that of SPI n is n * 8 after it.
    pub const IROUTER: u32 = 0x6000;
    /// End of the registers that start at [`IROUTER`].
    pub const IROUTER_END: u32 = 0x8000;
    /// Start of the identification registers, at the same offset in a redistributor's RD frame.
    pub const ID: u32 = 0xffd0;
}

/// Registers of a redistributor, from the start of its RD frame.
pub mod gicr {
    /// GICR_CTLR.
    pub const CTLR: u32 = 0x0000;
    /// GICR_IIDR.
    pub const IIDR: u32 = 0x0004;
    /// GICR_TYPER.
    pub const TYPER: u32 = 0x0008;
    /// GICR_STATUSR.
    pub const STATUSR: u32 = 0x0010;
    /// GICR_WAKER.
    pub const WAKER: u32 = 0x0014;
    /// GICR_PROPBASER.
    pub const PROPBASER: u32 = 0x0070;
    /// GICR_PENDBASER.
    pub const PENDBASER: u32 = 0x0078;
    /// Start of the SGI frame, whose registers have the distributor's offsets.
    pub const SGI_FRAME: u32 = 0x1_0000;
}
