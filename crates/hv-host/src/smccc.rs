//! SMCCC functions other than hypercalls: version, features, and who the hypervisor is.
//!
//! Source: Arm SMC Calling Convention (DEN0028), "Arm Architecture Calls" and "General service queries"; TLFS, "Feature
//! Discovery", "Hypervisor Discovery".

use hv_tlfs::smccc::{NOT_SUPPORTED, VENDOR_HYP_UID, VENDOR_HYP_UID_64, VENDOR_UID};

use crate::event::{Conduit, Event};
use crate::host::{Action, Host};
use crate::partition::Partition;
use crate::psci;

/// SMCCC_VERSION.
pub const VERSION: u32 = 0x8000_0000;
/// SMCCC_ARCH_FEATURES.
pub const ARCH_FEATURES: u32 = 0x8000_0001;
/// The version that SMCCC_VERSION gives: 1.2, which allows results in X4 to X17 as a fast Get needs them.
pub const VERSION_1_2: u64 = 0x1_0002;

/// Owner field of a function id: bits 29:24.
const OWNER: u32 = 0x3f00_0000;
/// Owner of PSCI: standard secure services.
const STANDARD_SECURE: u32 = 0x0400_0000;

/// Answers the function in W0 and sets X0 (of the vendor UID X0 to X3).
#[inline(never)]
pub(crate) fn call(
    partition: &Partition<'_>,
    host: &impl Host,
    vp: usize,
    conduit: Conduit,
    x: &mut [u64; 31],
) -> Action {
    let function = x[0] as u32;
    let arguments = [x[1], x[2], x[3]];
    let (result, action) = match function {
        VERSION => (VERSION_1_2, Action::Resume),
        ARCH_FEATURES => {
            let known = matches!(x[1] as u32, VERSION | ARCH_FEATURES);
            (if known { 0 } else { NOT_SUPPORTED }, Action::Resume)
        }
        VENDOR_HYP_UID | VENDOR_HYP_UID_64 => {
            for (register, word) in x.iter_mut().zip(VENDOR_UID) {
                *register = u64::from(word);
            }
            (x[0], Action::Resume)
        }
        _ if function & OWNER == STANDARD_SECURE => psci::call(partition, host, vp, function, arguments),
        _ => (NOT_SUPPORTED, Action::Resume),
    };
    x[0] = result;
    host.observe(&Event::Smccc { vp, conduit, function, arguments, result });
    action
}
