//! Teardown: what a kernel disables before it hands the machine to another, or dumps its memory.
//!
//! On every VP: timers, sources, message page, event flags page, SynIC. Then once: the reference TSC page, and last the
//! guest OS id, because without it hypercalls are rejected. Whatever is still enabled for an old kernel, the hypervisor
//! writes into the memory of the next one.
//!
//! Source for the state and its reset values: TLFS, "Inter-Partition Communication", "SynIC Registers"; "Timers",
//! "Synthetic Timer Registers". For the order: Linux, drivers/hv/hv.c, `hv_synic_disable_regs`, and
//! arch/x86/hyperv/hv_init.c, `hyperv_cleanup`.
//!
//! In an orderly shutdown an OS uses the handles: [`Timer::release`](crate::timer::Timer::release),
//! [`Synic::disable`](crate::synic::Synic::disable), [`Vp::offline`], [`Clock::stop`](crate::clock::Clock::stop),
//! [`Partition::leave`]. After a crash the handles may be out of reach: [`vp`] and [`partition`] need none.

use core::fmt;

use hv_tlfs::guest_id::GuestOsId;
use hv_tlfs::status::HvError;
use hv_tlfs::synic::Sint;

use crate::clock;
use crate::conduit::Conduit;
use crate::failed::First;
use crate::index::{SintIndex, TimerIndex};
use crate::partition::{Partition, Vp};
use crate::registers::{self, Register};
use crate::synic::disable_registers;
use crate::timer;
use crate::vp_map::VpMap;

/// Resets the state of the calling VP: timers, sources, pages, SynIC. Call it on every VP.
///
/// # Errors
///
/// The first error, after all steps have been tried.
#[doc(alias = "hyperv_cleanup")]
#[doc(alias = "hv_setup_kexec_handler")]
#[doc(alias = "hv_remove_kexec_handler")]
pub fn vp(conduit: &(impl Conduit + ?Sized)) -> Result<(), HvError> {
    let mut first = First::default();
    for index in TimerIndex::ALL {
        first.note(timer::reset(conduit, index));
    }
    for sint in SintIndex::all() {
        let register = Register::sint(sint);
        first.note(registers::get(conduit, register).and_then(|old| {
            if old == Sint::RESET { Ok(()) } else { registers::set(conduit, register, Sint::RESET) }
        }));
    }
    first.note(disable_registers(conduit));
    first.result()
}

/// Resets the state of the partition as a whole: the reference TSC page, then the guest OS id. Call it after [`vp`] on
/// every VP.
///
/// # Errors
///
/// The first error, after both steps have been tried.
#[doc(alias = "hyperv_cleanup")]
pub fn partition(conduit: &(impl Conduit + ?Sized)) -> Result<(), HvError> {
    let mut first = First::default();
    first.note(clock::disable_page(conduit));
    first.note(registers::set(conduit, Register::GUEST_OS_ID, GuestOsId(0)));
    first.result()
}

/// Reason why a partition could not be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaveError {
    /// CPUs are still in the VP map: they may have a SynIC, which could not be disabled afterwards.
    CpusOnline(usize),
    /// The hypervisor's status.
    Hypervisor(HvError),
}

impl fmt::Display for LeaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CpusOnline(count) => write!(f, "{count} CPUs are still online; take them offline first"),
            Self::Hypervisor(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for LeaveError {}

impl<C: Conduit> Vp<'_, C> {
    /// Takes the VP offline: resets its state, and removes the CPU from the VP map.
    ///
    /// # Errors
    ///
    /// The first error, after all steps have been tried. The CPU is out of the map even then.
    #[doc(alias = "hv_common_cpu_die")]
    pub fn offline(self) -> Result<(), HvError> {
        let result = vp(&self);
        self.entry().release();
        result
    }
}

impl<C: Conduit> Partition<C> {
    /// Leaves the partition to the next kernel, once all CPUs of the map are offline.
    ///
    /// # Errors
    ///
    /// [`LeaveError`].
    pub fn leave<const CPUS: usize>(&self, map: &VpMap<CPUS>) -> Result<(), LeaveError> {
        match map.online() {
            0 => partition(self).map_err(LeaveError::Hypervisor),
            online => Err(LeaveError::CpusOnline(online)),
        }
    }
}
