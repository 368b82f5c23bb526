//! The lock for all state that CPUs share.

use hv_lock::{FairLock, Wait};

use crate::{arch, report};

/// The partition's lock. It serves in order of arrival, so no VP can delay another by calling without end.
pub(crate) type Lock = FairLock<Spin>;
/// Data behind it.
pub(crate) type Mutex<T> = hv_lock::Mutex<Spin, T>;

/// A CPU at EL2 has nothing else to do while it waits.
pub(crate) struct Spin;

impl Wait for Spin {
    fn queued(ahead: u32) {
        report::queued(ahead);
    }

    fn relax() {
        arch::yield_cpu();
    }
}
