//! What an embedder hears of a machine.

use hv_partition::{BusObserver, Event};

use crate::kvm::{Exit, Vcpu};
use crate::register::Register;

/// What the embedder does with what the guest does.
///
/// It is called from the threads of the VPs, with locks of the partition held: it must not call the partition, and not
/// wait for anything that does. It implements [`HostBackend`](hv_partition::HostBackend) for the requests of its
/// devices as well; for a bus whose devices make none that is [`Never`](hv_partition::Never).
pub trait Observer: BusObserver + Sync {
    /// Takes a byte that the guest wrote to its console. Collect them: a system call for each slows the guest down by
    /// its time, and by that of whoever reads.
    fn console(&self, byte: u8) {
        let _ = byte;
    }

    /// Observes an event of the hypervisor.
    fn observe(&self, event: &Event<'_>) {
        let _ = event;
    }

    /// Begins a VP's thread: what it calls from now on is called for this VP.
    fn begin_vp(&self, vp: usize) {
        let _ = vp;
    }

    /// Observes an exit that has not been served yet, without a lock held.
    fn left(&self, vp: usize, exit: &Exit, guest: &dyn Guest) {
        let _ = (vp, exit, guest);
    }

    /// Observes that a call has been served, without a lock held. The guest is after its instruction, unless the call
    /// is an undefined one.
    fn called(&self, vp: usize, guest: &dyn Guest) {
        let _ = (vp, guest);
    }

    /// Observes an access to an address without a device or memory, without a lock held. The guest is at its
    /// instruction.
    fn absent(&self, vp: usize, address: u64, guest: &dyn Guest) {
        let _ = (vp, address, guest);
    }
}

/// A guest's virtual processor that has stopped for an exit.
pub trait Guest {
    /// Returns a register; `None` if the virtual CPU has none of this number.
    fn register(&self, register: Register) -> Option<u64>;
}

/// A virtual CPU that does not run.
pub(crate) struct Stopped<'c, C>(pub(crate) &'c C);

impl<C: Vcpu> Guest for Stopped<'_, C> {
    fn register(&self, register: Register) -> Option<u64> {
        self.0.get(register).ok()
    }
}
