//! Detection of Hyper-V.
//!
//! There are three sources, each of which is sufficient; an OS uses those available to it:
//!
//! * the **vendor UID**, an SMCCC call that is safe to make on every hypervisor ([`vendor_uid`]);
//! * the hypervisor vendor identity in the **ACPI** FADT ([`fadt`]), used by Linux up to 6.12;
//! * nodes in the **device tree** ([`device_tree`]).
//!
//! Each returns a [`Detected`], which can read what the hypervisor reports about itself before the guest has identified
//! itself, and becomes a [`Partition`] when the guest does.

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

/// Device tree nodes specific to Hyper-V: the hypervisor itself (openvmm), and VMBus.
pub const COMPATIBLE: [&str; 2] = ["microsoft,hyperv", "microsoft,vmbus"];

/// A Hyper-V host to which the guest has not yet identified itself: few registers are accessible, and no other
/// hypercalls.
#[derive(Clone, Copy)]
pub struct Detected<C> {
    conduit: C,
}

impl<C> fmt::Debug for Detected<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detected").finish_non_exhaustive()
    }
}

/// Queries the vendor UID: SMCCC function 0x8600_FF01, through `hvc #0` even if the conduit uses `hvc #1`.
///
/// Harmless on any hypervisor that handles SMCCC calls. Without one at EL2 (or with `HCR_EL2.HCD`), `hvc` is an
/// undefined instruction, so first check that PSCI's conduit is HVC or that EL2 is present.
///
/// Source: TLFS, "Feature and Interface Discovery", "Hypervisor Discovery".
#[must_use]
pub fn vendor_uid<C: Conduit>(conduit: C) -> Option<Detected<C>> {
    // SAFETY: the vendor UID call returns four registers and has no other effect.
    let answer = unsafe { conduit.smccc(VENDOR_HYP_UID, [0; 3]) };
    // The words are 32 bits; the upper halves are ignored.
    (answer.map(|word| word as u32) == VENDOR_UID).then_some(Detected { conduit })
}

/// Checks the FADT, given from its signature on.
///
/// Linux 7.2 also requires FADT revision 6, the first with the field; a table too short to contain it is not Hyper-V's.
#[must_use]
pub fn fadt<C: Conduit>(conduit: C, table: &[u8]) -> Option<Detected<C>> {
    let hyper_v = table.get(..4)? == b"FACP" && *table.get(8)? >= 6 && table.get(268..276)? == FADT_IDENTITY;
    hyper_v.then_some(Detected { conduit })
}

/// Checks the `compatible` property of a device tree node: strings, each terminated by NUL.
#[must_use]
pub fn device_tree<C: Conduit>(conduit: C, compatible: &[u8]) -> Option<Detected<C>> {
    let hyper_v =
        compatible.split(|byte| *byte == 0).any(|name| COMPATIBLE.map(str::as_bytes).contains(&name));
    hyper_v.then_some(Detected { conduit })
}

/// Reason why a guest could not identify itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentifyError {
    /// The id is zero, which stands for a guest that has not identified itself.
    ZeroId,
    /// The hypervisor's status.
    Hypervisor(HvError),
}

impl fmt::Display for IdentifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroId => f.write_str("guest OS id 0 is invalid; use a nonzero id"),
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
    /// Reads privileges and features.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    pub fn features(&self) -> Result<Features, HvError> {
        registers::get(&self.conduit, Register::FEATURES)
    }

    /// Reads the hypervisor's recommendations.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    pub fn enlightenments(&self) -> Result<Enlightenments, HvError> {
        registers::get(&self.conduit, Register::ENLIGHTENMENTS)
    }

    /// Reads implementation limits.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    pub fn limits(&self) -> Result<ImplementationLimits, HvError> {
        registers::get(&self.conduit, Register::LIMITS)
    }

    /// Reads the hypervisor's version.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    pub fn version(&self) -> Result<HypervisorVersion, HvError> {
        registers::get(&self.conduit, Register::VERSION)
    }

    /// Identifies the guest to the hypervisor, on the boot CPU, and reads features, limits and version.
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
