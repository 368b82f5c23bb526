//! What devices tell the control port: that one has an outcome for the tool.
//!
//! They do so with locks held, so all that happens is that the port's interrupt becomes pending.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use hv_vgic::Physical as _;

use crate::gic::MachineGic;

/// The CPU that takes the port's interrupt. It does so too while its VP is off.
pub(crate) const CPU: usize = 0;

/// The port's interrupt, or 0 without a port.
static INTID: AtomicU32 = AtomicU32::new(0);
static READY: AtomicBool = AtomicBool::new(false);

/// There is a port, with this interrupt.
pub(crate) fn begin(intid: u32) {
    INTID.store(intid, Ordering::Relaxed);
}

/// Returns true if there is a port, and the interrupt is its.
///
/// SGI 0, with which one CPU makes another come to EL2, is never the port's.
#[inline]
pub(crate) fn owns(intid: u32) -> bool {
    intid != 0 && intid == INTID.load(Ordering::Relaxed)
}

/// A device has an outcome. Locks may be held.
#[cold]
pub(crate) fn ready() {
    READY.store(true, Ordering::Release);
    raise();
}

/// Has the port's interrupt come, if there is a port.
pub(crate) fn raise() {
    let intid = INTID.load(Ordering::Relaxed);
    if intid != 0 {
        MachineGic.set_pending(CPU, intid, true);
    }
}

/// Returns whether a device has had an outcome since the last time.
pub(crate) fn take() -> bool {
    READY.swap(false, Ordering::AcqRel)
}

/// An outcome has to wait for the next interrupt.
pub(crate) fn put_back() {
    READY.store(true, Ordering::Release);
}
