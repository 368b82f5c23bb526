//! The Gic's interface to the machine: the current CPU with its list registers, and the physical GIC.

/// The list registers and the hypervisor control register of the calling CPU.
///
/// Source: IHI 0069, "AArch64 System register descriptions of the virtual registers"/"virtual interface control
/// System registers".
pub trait ListRegisters {
    /// Returns the number of list registers, `ICH_VTR_EL2.ListRegs` + 1: 1 to 16.
    fn count(&self) -> usize;
    /// Reads `ICH_LR<index>_EL2`; `index` is below [`count`](Self::count).
    fn read(&self, index: usize) -> u64;
    /// Writes `ICH_LR<index>_EL2`; `index` is below [`count`](Self::count).
    fn write(&self, index: usize, value: u64);
    /// Reads `ICH_ELRSR_EL2`: bit n is set while there is a list register n that is free. It must see what this CPU
    /// wrote through [`write`](Self::write) before: the architecture asks for an ISB between the two.
    fn empty(&self) -> u32;
    /// Reads `ICH_HCR_EL2`.
    fn control(&self) -> u64;
    /// Writes `ICH_HCR_EL2`. Only the bits of [`hcr::MANAGED`](crate::hcr::MANAGED) differ from what
    /// [`control`](Self::control) returned.
    fn set_control(&self, value: u64);
}

/// The physical GIC, as far as it backs virtual interrupts, and the other CPUs.
///
/// It is called with locks of the [`Gic`](crate::Gic) held: an implementation must not call the Gic, except from
/// [`relax`](Self::relax). All INTIDs are physically backed ones, and a virtual INTID equals the physical one. `vp`
/// selects the redistributor for INTIDs below 32; it may belong to another CPU than the caller's.
pub trait Physical {
    /// Enables or disables the interrupt (ISENABLER, ICENABLER).
    fn set_enabled(&self, vp: usize, intid: u32, on: bool);
    /// Sets the trigger (ICFGR): edge, or level.
    fn set_edge(&self, vp: usize, intid: u32, edge: bool);
    /// Makes the interrupt pending or not pending (ISPENDR, ICPENDR).
    fn set_pending(&self, vp: usize, intid: u32, on: bool);
    /// Returns true if the interrupt is pending (ISPENDR).
    fn is_pending(&self, vp: usize, intid: u32) -> bool;
    /// Makes the interrupt active (ISACTIVER), as if it had been acknowledged.
    fn set_active(&self, vp: usize, intid: u32);
    /// Routes the SPI to the CPU of this VP (IROUTER).
    fn route(&self, intid: u32, vp: usize);
    /// Deactivates an interrupt that this CPU acknowledged, or an SPI (ICC_DIR_EL1).
    fn deactivate(&self, intid: u32);
    /// Makes the CPU of another VP come to EL2 and call [`Gic::sync`](crate::Gic::sync), soon. That CPU must then
    /// observe this one's earlier stores: a DSB before the SGI. Harmless for a VP that is off.
    fn kick(&self, vp: usize);
    /// Pauses while waiting for another CPU: a `yield` instruction.
    fn relax(&self) {
        core::hint::spin_loop();
    }
}

/// The CPU that a call runs on: a value of this type must stay on its CPU.
pub trait Cpu {
    /// The CPU's list registers.
    type Lists: ListRegisters;
    /// The physical GIC, and the other CPUs.
    type Physical: Physical;

    /// Returns the number of the VP that is pinned to the CPU.
    fn vp(&self) -> usize;
    /// Returns the CPU's list registers.
    fn lists(&self) -> &Self::Lists;
    /// Returns the physical GIC, as accessed by the CPU.
    fn physical(&self) -> &Self::Physical;
}
