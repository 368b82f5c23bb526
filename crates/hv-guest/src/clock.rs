//! The reference clock: time since the partition was created, in 100 ns.
//!
//! Two ways to the same time: the reference TSC page, which costs no hypercall, and the counter register. The page falls
//! back to the register while the hypervisor says so, such as on a host whose counter it cannot scale. Both agree to the
//! unit, so time does not go backwards over a fall-back, from VP to VP, or over a migration; it stands still while a
//! guest is saved. It is no wall clock.
//!
//! Source: TLFS, "Timers", "Reference Counter" and "Partition Reference Time Enlightenment".

use core::fmt;

use hv_tlfs::page::number;
use hv_tlfs::status::HvError;
use hv_tlfs::time::{ReferenceTime, ReferenceTscRegister};

use crate::conduit::{Conduit, Counter};
use crate::failed::Failed;
use crate::page::{Memory, Page};
use crate::partition::Partition;
use crate::registers::{self, Register};

/// Readings of a page that keeps changing before the register is asked instead.
const ATTEMPTS: usize = 3;

/// The partition's clock, to be read on any VP.
#[doc(alias = "hyperv_cs")]
pub struct Clock<'a, C> {
    conduit: &'a C,
    page: &'static Page,
}

impl<C> fmt::Debug for Clock<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("sequence", &self.page.tsc().sequence()).finish_non_exhaustive()
    }
}

impl<C: Conduit + Counter> Partition<C> {
    /// Starts the clock on a page, which is lent to the hypervisor until [`Clock::stop`]. Once for the partition, on
    /// any VP.
    ///
    /// Where the partition may not use a reference TSC page, the page stays the guest's and the clock reads the register.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    pub fn start_clock(&self, page: &'static Page, memory: &impl Memory) -> Result<Clock<'_, C>, HvError> {
        // A page of zeros is one that says: not valid.
        page.clear();
        if self.information().features.privileges.access_reference_tsc() {
            let old = registers::get(self, Register::REFERENCE_TSC)?;
            let new = old.with_page_number(number(memory.gpa(page))).with_enable(true);
            // SAFETY: the page is lent for ever, and `memory` says where it is.
            unsafe { registers::lend(self, Register::REFERENCE_TSC, new) }?;
        }
        Ok(Clock { conduit: self.conduit(), page })
    }
}

impl<C: Conduit + Counter> Clock<'_, C> {
    /// The time now.
    ///
    /// # Errors
    ///
    /// The hypervisor's status, where the page cannot say and the register is refused.
    #[doc(alias = "hv_read_tsc_page_tsc")]
    #[doc(alias = "hv_read_reference_counter")]
    #[inline]
    pub fn now(&self) -> Result<ReferenceTime, HvError> {
        match self.page.tsc().read(self.conduit) {
            Some(time) => Ok(time),
            None => self.now_slowly(),
        }
    }

    /// The page is not valid, or changes just now. A host that changed it for ever would not hold the guest for ever.
    #[cold]
    #[inline(never)]
    fn now_slowly(&self) -> Result<ReferenceTime, HvError> {
        for _ in 0..ATTEMPTS {
            if self.page.tsc().sequence() == 0 {
                break;
            }
            if let Some(time) = self.page.tsc().read(self.conduit) {
                return Ok(time);
            }
        }
        self.now_by_register()
    }

    /// The time now, from the counter register: a hypercall.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    #[doc(alias = "hv_get_current_tick")]
    pub fn now_by_register(&self) -> Result<ReferenceTime, HvError> {
        registers::get(self.conduit, Register::TIME_REF_COUNT)
    }

    /// The page's sequence number: 0 while the hypervisor has it fall back to the register. It changes with every
    /// migration.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.page.tsc().sequence()
    }

    /// Takes the page back, a page of zeros again. The register in reset state, but for reserved bits.
    ///
    /// # Errors
    ///
    /// The hypervisor's status, with the clock, which goes on.
    pub fn stop(self) -> Result<&'static Page, Failed<Self, HvError>> {
        match disable_page(self.conduit) {
            Ok(()) => {
                // Whoever still reads it finds that it is not valid.
                self.page.clear();
                Ok(self.page)
            }
            Err(error) => Err(Failed::new(self, error)),
        }
    }
}

/// Reads a reference TSC page that somebody else has enabled: the counter and the time, or `None` while the page cannot
/// say. [`Clock::now`] does more: it asks the register then.
#[doc(alias = "hv_read_tsc_page_tsc")]
#[inline]
pub fn read_page(page: &Page, counter: &impl Counter) -> Option<(u64, ReferenceTime)> {
    page.tsc().read_with_counter(counter)
}

/// Takes the reference TSC page back, if the hypervisor has one.
pub(crate) fn disable_page(conduit: &(impl Conduit + ?Sized)) -> Result<(), HvError> {
    let old: ReferenceTscRegister = registers::get(conduit, Register::REFERENCE_TSC)?;
    if !old.enable() && old.page_number() == 0 {
        return Ok(());
    }
    // SAFETY: the value enables no page.
    unsafe { registers::lend(conduit, Register::REFERENCE_TSC, old.with_enable(false).with_page_number(0)) }
}
