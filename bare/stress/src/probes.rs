//! Loads from addresses at which there may be nothing.
#![expect(unsafe_code, reason = "accesses beside the drivers")]

use rt::exception::Exception;
use rt::probe::{self, Size};

/// Reads at an address of a device, or of nothing.
pub(crate) fn read(address: u64, size: Size) -> Result<u64, Exception> {
    // SAFETY: the program uses no address as memory that it probes, and relies on no state of a device that a read
    // changes: what it looks for is whether the hypervisor stands it.
    unsafe { probe::read(address, size) }
}
