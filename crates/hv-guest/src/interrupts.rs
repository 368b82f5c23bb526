//! The OS's interrupt controller, as far as this crate needs it.

/// Control of Hyper-V's interrupts, implemented by the OS. On ARM64 they are PPIs: each CPU has its own.
///
/// The handler is entirely the OS's: it acknowledges the interrupt, calls the methods of [`Synic`](crate::synic::Synic)
/// that it needs, and ends the interrupt.
#[doc(alias = "hv_setup_vmbus_irq")]
#[doc(alias = "hv_remove_vmbus_irq")]
#[doc(alias = "hv_setup_stimer0_irq")]
#[doc(alias = "hv_remove_stimer0_irq")]
pub trait Interrupts {
    /// Configures an interrupt as edge-triggered and enables it, on the calling CPU.
    #[doc(alias = "hv_enable_vmbus_irq")]
    #[doc(alias = "hv_enable_stimer0_percpu_irq")]
    fn enable(&self, intid: Intid);

    /// Disables an interrupt, on the calling CPU.
    #[doc(alias = "hv_disable_vmbus_irq")]
    #[doc(alias = "hv_disable_stimer0_percpu_irq")]
    fn disable(&self, intid: Intid);
}

impl<I: Interrupts + ?Sized> Interrupts for &I {
    fn enable(&self, intid: Intid) {
        (**self).enable(intid);
    }

    fn disable(&self, intid: Intid) {
        (**self).disable(intid);
    }
}

/// A GIC interrupt id that Hyper-V can raise: 16 to 255.
///
/// The number comes from firmware; it is not fixed: the 2018 patch used 16 and 17, the current convention is 18.
#[doc(alias = "HYPERVISOR_CALLBACK_VECTOR")]
#[doc(alias = "HV_STIMER0_IRQNR")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Intid(u8);

impl Intid {
    /// Returns the interrupt with this number, as in an ACPI extended interrupt descriptor; `None` if Hyper-V cannot
    /// raise it.
    ///
    /// Source: TLFS, "Inter-Partition Communication", "SINTx Registers".
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number >= hv_tlfs::synic::FIRST_VALID_VECTOR as u32 && number <= 255 {
            Some(Self(number as u8))
        } else {
            None
        }
    }

    /// Returns the interrupt in the `interrupts` property of a device tree node: type (0: SPI, 1: PPI) and number, the
    /// first two cells.
    ///
    /// Source: Linux, Documentation/devicetree/bindings/interrupt-controller/arm,gic-v3.yaml.
    #[must_use]
    pub const fn from_gic_cells(kind: u32, number: u32) -> Option<Self> {
        match kind {
            0 if number < 1020 => Self::new(32 + number),
            1 if number < 16 => Self::new(16 + number),
            _ => None,
        }
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_16_to_255_can_be_raised() {
        assert_eq!(Intid::new(15), None);
        assert_eq!(Intid::new(256), None);
        assert_eq!(Intid::new(u32::MAX), None);
        assert_eq!(Intid::new(16).unwrap().number(), 16);
        assert_eq!(Intid::new(255).unwrap().number(), 255);
    }

    #[test]
    fn the_vmbus_node_of_a_device_tree_says_ppi_2_which_is_intid_18() {
        assert_eq!(Intid::from_gic_cells(1, 2).unwrap().number(), 18);
        assert_eq!(Intid::from_gic_cells(0, 1).unwrap().number(), 33);
        assert_eq!(Intid::from_gic_cells(1, 16), None);
        assert_eq!(Intid::from_gic_cells(2, 0), None);
        assert_eq!(Intid::from_gic_cells(0, u32::MAX), None);
    }
}
