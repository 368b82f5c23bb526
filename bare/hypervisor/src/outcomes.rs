//! What devices tell the ports: that one has something for the tool.
//!
//! They do so with locks held, so all that happens is that the port's interrupt becomes pending.

use core::sync::atomic::{AtomicU32, Ordering};

use hv_vgic::Physical as _;

use crate::devices::STATE;
use crate::gic::MachineGic;

/// The CPU that takes the ports' interrupts. It does so too while its VP is off.
pub(crate) const CPU: usize = 0;

/// A port to the tool.
pub(crate) struct ToolPort {
    /// Its interrupt, or 0 if there is no such port.
    intid: AtomicU32,
}

/// The control port.
pub(crate) static CONTROL: ToolPort = ToolPort::none();
/// The port of the guest's sockets.
pub(crate) static SOCKETS: ToolPort = ToolPort::none();
/// The network's card, which the guest's tells that it has room for frames.
pub(crate) static NETWORK: ToolPort = ToolPort::none();

impl ToolPort {
    const fn none() -> Self {
        Self { intid: AtomicU32::new(0) }
    }

    /// Records the interrupt of the port, which exists from then on.
    pub(crate) fn begin(&self, intid: u32) {
        self.intid.store(intid, Ordering::Relaxed);
    }

    /// Returns true if there is a port.
    pub(crate) fn is_there(&self) -> bool {
        self.intid.load(Ordering::Relaxed) != 0
    }

    /// Returns true if there is a port, and the interrupt is its.
    ///
    /// SGI 0, with which one CPU makes another come to EL2, is never a port's.
    #[inline]
    pub(crate) fn owns(&self, intid: u32) -> bool {
        intid != 0 && intid == self.intid.load(Ordering::Relaxed)
    }

    /// Has the port's interrupt come, if there is a port. Locks may be held.
    pub(crate) fn raise(&self) {
        let intid = self.intid.load(Ordering::Relaxed);
        if intid != 0 {
            MachineGic.set_pending(CPU, intid, true);
        }
    }
}

/// Signals the control port that a service has an outcome for it. Locks may be held.
#[cold]
pub(crate) fn ready() {
    STATE.note_outcome();
    CONTROL.raise();
}
