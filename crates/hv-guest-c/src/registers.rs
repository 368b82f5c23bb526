//! VP registers.
#![expect(unsafe_code, reason = "symbols and pointers of C")]

use hv_guest::registers::{get_raw, set_raw};
use hv_tlfs::register::{RegisterName, RegisterValue};
use hv_tlfs::vp::VpIndex;

use crate::hv_get_vp_register_output;
use crate::os::{conduit, status};

/// Writes a register of the VP that calls. Returns 0 or the hypervisor's status. (The patch's returns nothing.)
///
/// # Safety
///
/// A page that the value lends to the hypervisor may be written by it until another value takes the page back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_set_vpreg(reg: u32, value: u64) -> u64 {
    let (name, value) = (RegisterName(reg), RegisterValue::from_u64(value));
    // SAFETY: the caller's promise.
    status(unsafe { set_raw(&conduit(), VpIndex::SELF, name, value) })
}

/// Reads a register of the VP that calls; 0 where the hypervisor refuses, which `hv_get_vpreg_128` tells.
#[unsafe(no_mangle)]
pub extern "C" fn hv_get_vpreg(reg: u32) -> u64 {
    get_raw(&conduit(), VpIndex::SELF, RegisterName(reg)).map_or(0, |value| value.low)
}

/// Reads all 128 bits of a register of the VP that calls. Returns 0 or the hypervisor's status, and then leaves `result` as
/// it is. (The patch's returns nothing.)
///
/// # Safety
///
/// `result` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_get_vpreg_128(reg: u32, result: *mut hv_get_vp_register_output) -> u64 {
    match get_raw(&conduit(), VpIndex::SELF, RegisterName(reg)) {
        Ok(value) => {
            let value =
                hv_get_vp_register_output { registervaluelow: value.low, registervaluehigh: value.high };
            // SAFETY: the caller's promise.
            unsafe { result.write(value) };
            0
        }
        Err(error) => u64::from(error.status().0),
    }
}
