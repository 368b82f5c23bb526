//! VP registers.
#![expect(unsafe_code, reason = "symbols and pointers of C")]

use hv_guest::registers::{get_raw, set_raw};
use hv_tlfs::register::{RegisterName, RegisterValue};
use hv_tlfs::vp::VpIndex;

use crate::hv_get_vp_register_output;
use crate::os::{conduit, status};

/// Writes a register of the calling VP. Returns 0 or the hypervisor's status. (The patch's version returns nothing.)
///
/// # Safety
///
/// A page that the value lends to the hypervisor may be written by it until another value takes the page back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_set_vpreg(reg: u32, value: u64) -> u64 {
    let (name, value) = (RegisterName(reg), RegisterValue::from_u64(value));
    // SAFETY: the caller vouches for a page that the value lends, by this function's contract.
    status(unsafe { set_raw(&conduit(), VpIndex::SELF, name, value) })
}

/// Reads a register of the calling VP. Returns 0 if the hypervisor rejects the read; `hv_get_vpreg_128` returns the
/// status.
#[unsafe(no_mangle)]
pub extern "C" fn hv_get_vpreg(reg: u32) -> u64 {
    get_raw(&conduit(), VpIndex::SELF, RegisterName(reg)).map_or(0, |value| value.low)
}

/// Reads all 128 bits of a register of the calling VP. Returns 0 or the hypervisor's status; on error `result` is
/// unchanged. (The patch's version returns nothing.)
///
/// # Safety
///
/// `result` is valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_get_vpreg_128(reg: u32, result: *mut hv_get_vp_register_output) -> u64 {
    match get_raw(&conduit(), VpIndex::SELF, RegisterName(reg)) {
        Ok(value) => {
            let value =
                hv_get_vp_register_output { registervaluelow: value.low, registervaluehigh: value.high };
            // SAFETY: `result` is valid for writes, by this function's contract.
            unsafe { result.write(value) };
            0
        }
        Err(error) => u64::from(error.status().0),
    }
}
