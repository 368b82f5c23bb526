//! The interface that a partition requires of its embedder.

use crate::event::Event;
use crate::faults::{Faults, NoFaults};
use crate::sets::VpMask;
use hv_memory::GuestMemory;
use hv_tlfs::status::HvStatus;

/// The embedder's side: memory, time, interrupts, and VP start.
///
/// The partition calls these methods with its own locks held, so none of them may call back into the partition. Any
/// thread may call them: each names the VP that it refers to.
pub trait Host {
    /// The guest's memory.
    type Memory: GuestMemory;

    /// Returns the guest's memory.
    fn memory(&self) -> &Self::Memory;

    /// Returns the guest's counter, CNTVCT_EL0.
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

/// Initial registers of a VP, at EL1h with all interrupts masked. Other registers have their reset values.
///
/// Source: TLFS, `HV_INITIAL_VP_CONTEXT`; PSCI, section "CPU_ON".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VpContext {
    /// Program counter; with the MMU off (a PSCI start) a guest physical address.
    pub pc: u64,
    /// X0: the context id of PSCI CPU_ON.
    pub x0: u64,
    /// X18, the platform register.
    pub x18: u64,
    /// SP_EL1.
    pub sp: u64,
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// MAIR_EL1.
    pub mair: u64,
    /// TCR_EL1.
    pub tcr: u64,
    /// VBAR_EL1.
    pub vbar: u64,
    /// TTBR0_EL1.
    pub ttbr0: u64,
    /// TTBR1_EL1.
    pub ttbr1: u64,
}

impl VpContext {
    /// SCTLR_EL1 with MMU, caches and alignment checks off and the RES1 bits set (Arm ARM, "SCTLR_EL1").
    pub const SCTLR_RESET: u64 = 0x30d0_0800;

    /// Creates the context of a VP that starts with the MMU off at `pc`, as for PSCI CPU_ON.
    #[must_use]
    pub const fn at(pc: u64, x0: u64) -> Self {
        Self { pc, x0, x18: 0, sp: 0, sctlr: Self::SCTLR_RESET, mair: 0, tcr: 0, vbar: 0, ttbr0: 0, ttbr1: 0 }
    }
}

/// The new target of a device interrupt.
#[derive(Clone, Copy, Debug)]
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
