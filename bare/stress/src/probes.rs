//! Loads from addresses at which nothing may be.
#![expect(unsafe_code, reason = "accesses beside the drivers")]

use rt::exception::Exception;
use rt::probe::{self, Size};

/// Reads at an address of a device, or where nothing is.
pub(crate) fn read(address: u64, size: Size) -> Result<u64, Exception> {
    // SAFETY: the program uses no address that it probes as memory, and relies on no device state that a read changes:
    // it tests whether the hypervisor withstands the read.
    unsafe { probe::read(address, size) }
}
