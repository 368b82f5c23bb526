//! Is this Hyper-V?
//!
//! Three witnesses, any of which suffices; an OS asks those it can:
//!
//! * the **vendor UID**, an SMCCC call that every hypervisor answers in one way or another ([`vendor_uid`]);
//! * the **ACPI** FADT's hypervisor vendor identity ([`fadt`]): what Linux up to 6.12 looks at;
//! * the **device tree**'s nodes ([`device_tree`]).
//!
//! Each makes a [`Detected`], which can read what the hypervisor says about itself before the guest has said who it is,
//! and becomes a [`Partition`] when the guest does.

use core::fmt;

use hv_tlfs::features::{Enlightenments, Features, HypervisorVersion, ImplementationLimits};
use hv_tlfs::guest_id::GuestOsId;
use hv_tlfs::smccc::{VENDOR_HYP_UID, VENDOR_UID};
use hv_tlfs::status::HvError;

use crate::conduit::Conduit;
use crate::partition::{Information, Partition};
use crate::registers::{self, Register};

/// The FADT's hypervisor vendor identity on Hyper-V.
///
/// Source: ACPI, "Fixed ACPI Description Table (FADT)", offset 268; Linux, arch/arm64/hyperv/mshyperv.c.
pub const FADT_IDENTITY: [u8; 8] = *b"MsHyperV";

/// Device tree nodes that only Hyper-V has: the hypervisor itself (openvmm), and the VMBus.
pub const COMPATIBLE: [&str; 2] = ["microsoft,hyperv", "microsoft,vmbus"];

/// A Hyper-V that the guest has not yet introduced itself to: few registers, no other hypercalls.
#[derive(Clone, Copy)]
pub struct Detected<C> {
    conduit: C,
}

impl<C> fmt::Debug for Detected<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detected").finish_non_exhaustive()
    }
}

/// Asks the hypervisor who it is: SMCCC function 0x8600_FF01, over `hvc #0`, also for a conduit of `hvc #1`.
///
/// Harmless on any hypervisor that takes SMCCC calls; without one at EL2 (or with `HCR_EL2.HCD`) an `hvc` is an
/// undefined instruction, so first see that PSCI's conduit is HVC or that there is an EL2.
///
/// Source: TLFS, "Feature and Interface Discovery", "Hypervisor Discovery".
#[must_use]
pub fn vendor_uid<C: Conduit>(conduit: C) -> Option<Detected<C>> {
    // SAFETY: the call returns four registers, and does nothing else.
    let answer = unsafe { conduit.smccc(VENDOR_HYP_UID, [0; 3]) };
    // The words are 32 bits; what is above them does not count.
    (answer.map(|word| word as u32) == VENDOR_UID).then_some(Detected { conduit })
}

/// Looks at the FADT, from its signature on.
///
/// Linux 7.2 asks for FADT revision 6 as well, the first that has the field; a table too short to have it is not
/// Hyper-V's.
#[must_use]
pub fn fadt<C: Conduit>(conduit: C, table: &[u8]) -> Option<Detected<C>> {
    let hyper_v = table.get(..4)? == b"FACP" && *table.get(8)? >= 6 && table.get(268..276)? == FADT_IDENTITY;
    hyper_v.then_some(Detected { conduit })
}

/// Looks at a device tree node's `compatible` property: strings, each ended by a NUL.
#[must_use]
pub fn device_tree<C: Conduit>(conduit: C, compatible: &[u8]) -> Option<Detected<C>> {
    let hyper_v =
        compatible.split(|byte| *byte == 0).any(|name| COMPATIBLE.map(str::as_bytes).contains(&name));
    hyper_v.then_some(Detected { conduit })
}

/// Why a guest could not introduce itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentifyError {
    /// Zero is the id of a guest that has not introduced itself.
    ZeroId,
    /// The hypervisor's status.
    Hypervisor(HvError),
}

impl fmt::Display for IdentifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroId => f.write_str("a guest OS id of zero is none"),
            Self::Hypervisor(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for IdentifyError {}

impl From<HvError> for IdentifyError {
    fn from(error: HvError) -> Self {
        Self::Hypervisor(error)
    }
}

impl<C: Conduit> Detected<C> {
    /// Privileges and features.
    ///
    /// # Errors
    ///
    /// The hypervisor's status; so too for the others.
    pub fn features(&self) -> Result<Features, HvError> {
        registers::get(&self.conduit, Register::FEATURES)
    }

    /// What the hypervisor recommends.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    pub fn enlightenments(&self) -> Result<Enlightenments, HvError> {
        registers::get(&self.conduit, Register::ENLIGHTENMENTS)
    }

    /// Implementation limits.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    pub fn limits(&self) -> Result<ImplementationLimits, HvError> {
        registers::get(&self.conduit, Register::LIMITS)
    }

    /// The hypervisor's version.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    pub fn version(&self) -> Result<HypervisorVersion, HvError> {
        registers::get(&self.conduit, Register::VERSION)
    }

    /// Tells the hypervisor who the guest is, on the boot CPU, and reads what it tells in return.
    ///
    /// # Errors
    ///
    /// [`IdentifyError`].
    #[doc(alias = "hyperv_init")]
    #[doc(alias = "HV_REGISTER_GUEST_OSID")]
    pub fn identify(self, id: GuestOsId) -> Result<Partition<C>, IdentifyError> {
        if id.bits() == 0 {
            return Err(IdentifyError::ZeroId);
        }
        registers::set(&self.conduit, Register::GUEST_OS_ID, id)?;
        let information = Information {
            features: self.features()?,
            enlightenments: self.enlightenments()?,
            limits: self.limits()?,
            version: self.version()?,
        };
        Ok(Partition::new(self.conduit, information))
    }
}
