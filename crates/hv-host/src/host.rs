//! The interface that a partition requires of its embedder.

use crate::event::Event;
use crate::faults::{Faults, NoFaults};
use crate::sets::VpMask;
use hv_memory::GuestMemory;
use hv_tlfs::status::HvStatus;

pub use crate::vp_context::VpContext;

/// The embedder's side: memory, time, interrupts, and VP start.
///
/// The partition calls these methods with its own locks held, so none of them may call back into the partition. Any
/// thread may call them: each names the VP that it refers to, or refers to none. Memory and counter are the
/// partition's.
pub trait Host {
    /// The guest's memory.
    type Memory: GuestMemory;

    /// Returns the guest's memory.
    fn memory(&self) -> &Self::Memory;

    /// Returns the guest's counter, CNTVCT_EL0, which has the same value on every VP.
    fn counter(&self) -> u64;

    /// Makes interrupt `intid` pending on a VP, edge-triggered. `vp` may be any VP of the partition, running or not.
    fn assert_interrupt(&self, vp: usize, intid: u32);

    /// Sets the deadline of VP `vp`, which may be any VP: calls
    /// [`Partition::timer_expired`](crate::Partition::timer_expired) for it once the counter has reached `counter`.
    /// Replaces that VP's previous deadline; `None` cancels it. Calls for one VP never overlap, and the last one
    /// counts. A deadline in the past is due immediately.
    fn set_deadline(&self, vp: usize, counter: Option<u64>);

    /// Starts a VP that is off, at EL1 with interrupts masked. Call
    /// [`Partition::vp_online`](crate::Partition::vp_online) when it is about to run its first instruction.
    fn start_vp(&self, vp: usize, context: &VpContext);

    /// Flushes translations. When it returns, no VP of `targets` uses a translation described by `what`.
    fn flush_tlb(&self, targets: &VpMask, what: Flush);

    /// Retargets a device interrupt. The default has no devices.
    ///
    /// # Errors
    /// The status for the guest.
    fn retarget_interrupt(&self, request: &Retarget<'_>) -> Result<(), HvStatus> {
        let _ = request;
        Err(HvStatus::INVALID_PARAMETER)
    }

    /// Reports an event. The default compiles to nothing.
    #[inline]
    fn observe(&self, event: &Event<'_>) {
        let _ = event;
    }

    /// Returns the faults to inject: none. Only [`Faulty`](crate::Faulty) overrides it; an embedder has no reason to.
    #[doc(hidden)]
    #[inline(always)]
    fn faults(&self) -> impl Faults {
        NoFaults
    }
}

/// A reference to a host implements the trait as well.
impl<H: Host> Host for &H {
    type Memory = H::Memory;

    #[inline(always)]
    fn memory(&self) -> &H::Memory {
        (**self).memory()
    }

    #[inline(always)]
    fn counter(&self) -> u64 {
        (**self).counter()
    }

    #[inline(always)]
    fn assert_interrupt(&self, vp: usize, intid: u32) {
        (**self).assert_interrupt(vp, intid);
    }

    #[inline(always)]
    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        (**self).set_deadline(vp, counter);
    }

    #[inline(always)]
    fn start_vp(&self, vp: usize, context: &VpContext) {
        (**self).start_vp(vp, context);
    }

    #[inline(always)]
    fn flush_tlb(&self, targets: &VpMask, what: Flush) {
        (**self).flush_tlb(targets, what);
    }

    #[inline(always)]
    fn retarget_interrupt(&self, request: &Retarget<'_>) -> Result<(), HvStatus> {
        (**self).retarget_interrupt(request)
    }

    #[inline(always)]
    fn observe(&self, event: &Event<'_>) {
        (**self).observe(event);
    }

    #[inline(always)]
    fn faults(&self) -> impl Faults {
        (**self).faults()
    }
}

/// The scope of a flush. `address_space` is the translation table base; `None` means every address space.
///
/// Exhaustive on purpose: a scope that an embedder ignored would leave stale translations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// All translations.
    All {
        /// The address space.
        address_space: Option<u64>,
        /// Global translations may be kept.
        non_global_only: bool,
    },
    /// The translations of some pages.
    Pages {
        /// The address space.
        address_space: Option<u64>,
        /// First virtual address.
        address: u64,
        /// Number of 4096-byte pages, at least 1.
        pages: u64,
    },
}

impl Flush {
    /// Maximum number of pages that one call flushes by address; beyond it, everything is flushed once.
    pub const FEW_PAGES: u64 = 64;
}

/// The new target of a device interrupt.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Retarget<'a> {
    /// Logical device id that the host assigned.
    pub device: u64,
    /// MSI address that identifies the interrupt.
    pub address: u64,
    /// MSI data that identifies the interrupt.
    pub data: u32,
    /// Interrupt to raise.
    pub vector: u32,
    /// Deliver to all targets instead of one of them.
    pub multicast: bool,
    /// Targets.
    pub targets: &'a VpMask,
}

/// What the embedder does with the calling VP.
///
/// Exhaustive on purpose: an embedder has to perform every action, so a new one must not compile unnoticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Return to the guest after the call.
    Resume,
    /// Make the guest execute the same `hvc` again: a long hypercall lets pending interrupts be taken. An `hvc` has
    /// already advanced ELR_EL2, so subtract 4 from it.
    Retry,
    /// Inject an Undefined Instruction exception at the call.
    Undefined,
    /// Wait until an interrupt is pending for the VP, then return to the guest after the call.
    Suspend,
    /// Stop the VP. Call [`Partition::vp_offline`](crate::Partition::vp_offline) once its CPU can be started again.
    VpOff,
    /// The guest has powered the machine off.
    SystemOff,
    /// The guest requests a reset of the machine.
    SystemReset,
}
