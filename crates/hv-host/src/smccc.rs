//! SMCCC functions other than hypercalls: version, features, and the hypervisor's identity.
//!
//! Source: Arm SMC Calling Convention (DEN0028), "Arm Architecture Calls" and "General service queries"; TLFS, "Feature
//! Discovery", "Hypervisor Discovery".

pub use hv_tlfs::smccc::{ARCH_FEATURES, VERSION};
use hv_tlfs::smccc::{NOT_SUPPORTED, VENDOR_HYP_UID, VENDOR_HYP_UID_64, VENDOR_UID};

use lock_api::RawMutex;

use crate::event::{Event, SmcccConduit};
use crate::general::Registers;
use crate::host::{Action, Host};
use crate::partition::Partition;
use crate::psci;

/// The version returned by SMCCC_VERSION: 1.2, which allows results in X4 to X17 as a fast Get needs them.
pub const VERSION_1_2: u64 = 0x1_0002;

/// Owner field of a function id: bits 29:24.
const OWNER: u32 = 0x3f00_0000;
/// Owner of PSCI: standard secure services.
const STANDARD_SECURE: u32 = 0x0400_0000;

impl<R: RawMutex> Partition<'_, R> {
    /// Handles the function in W0 and sets X0 (for the vendor UID X0 to X3).
    #[inline(never)]
    pub(crate) fn smccc(
        &self,
        host: impl Host,
        vp: usize,
        conduit: SmcccConduit,
        x: &mut impl Registers,
    ) -> Action {
        let function = x.x(0) as u32;
        let arguments = [x.x(1), x.x(2), x.x(3)];
        let (result, action) = match function {
            VERSION => (VERSION_1_2, Action::Resume),
            ARCH_FEATURES => {
                let known = matches!(arguments[0] as u32, VERSION | ARCH_FEATURES);
                (if known { 0 } else { NOT_SUPPORTED }, Action::Resume)
            }
            VENDOR_HYP_UID | VENDOR_HYP_UID_64 => {
                for (register, word) in VENDOR_UID.into_iter().enumerate() {
                    x.set_x(register, u64::from(word));
                }
                (u64::from(VENDOR_UID[0]), Action::Resume)
            }
            _ if function & OWNER == STANDARD_SECURE => psci::call(self, &host, vp, function, arguments),
            _ => (NOT_SUPPORTED, Action::Resume),
        };
        x.set_x(0, result);
        host.observe(&Event::Smccc { vp, conduit, function, arguments, result });
        action
    }
}
