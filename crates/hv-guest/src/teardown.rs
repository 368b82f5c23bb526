//! Everything off, in order: what a kernel does before it hands the machine to another, or dumps its memory.
//!
//! On every VP: timers, sources, message page, event flags page, SynIC. Then once: the reference TSC page, and the guest
//! OS id last, because without it hypercalls are refused. What a hypervisor still has of a kernel that is gone, it writes
//! into the memory of the next one.
//!
//! Source for what is in use and for its reset values: TLFS, "Inter-Partition Communication", "SynIC Registers"; "Timers",
//! "Synthetic Timer Registers". For the order: Linux, drivers/hv/hv.c, `hv_synic_disable_regs`, and
//! arch/x86/hyperv/hv_init.c, `hyperv_cleanup`.
//!
//! An OS that shuts down in good order uses the handles: [`Timer::release`](crate::timer::Timer::release),
//! [`Synic::disable`](crate::synic::Synic::disable), [`Vp::offline`], [`Clock::stop`](crate::clock::Clock::stop),
//! [`Partition::leave`]. After a crash the handles may be anywhere: [`vp`] and [`partition`] need none.

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

/// Puts the VP that calls into the state after reset: timers, sources, pages, SynIC. To be called on every VP.
///
/// # Errors
///
/// The first error, after every step was tried.
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

/// Takes back what the partition as a whole has lent: the reference TSC page, then the guest OS id. After every VP.
///
/// # Errors
///
/// The first error, after both steps were tried.
#[doc(alias = "hyperv_cleanup")]
pub fn partition(conduit: &(impl Conduit + ?Sized)) -> Result<(), HvError> {
    let mut first = First::default();
    first.note(clock::disable_page(conduit));
    first.note(registers::set(conduit, Register::GUEST_OS_ID, GuestOsId(0)));
    first.result()
}

/// Why a partition was not left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveError {
    /// CPUs are still in the VP map: they may have a SynIC, and nobody could disable it afterwards.
    CpusOnline(usize),
    /// The hypervisor's status.
    Hypervisor(HvError),
}

impl fmt::Display for LeaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CpusOnline(count) => write!(f, "{count} CPUs are still online"),
            Self::Hypervisor(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for LeaveError {}

impl<C: Conduit> Vp<'_, C> {
    /// Takes the VP out of service: everything in reset state, and the CPU out of the VP map.
    ///
    /// # Errors
    ///
    /// The first error, after every step was tried. The CPU has left the map all the same.
    #[doc(alias = "hv_common_cpu_die")]
    pub fn offline(self) -> Result<(), HvError> {
        let result = vp(&self);
        self.entry().release();
        result
    }
}

impl<C: Conduit> Partition<C> {
    /// Leaves the partition to whoever comes next, once every CPU of the map is offline.
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
