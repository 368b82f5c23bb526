//! The reference clock: time since the partition was created, in 100 ns.
//!
//! The clock has two sources: the reference TSC page, which takes no hypercall, and the counter register. It falls back
//! to the register while the hypervisor marks the page invalid, for example on a host whose counter it cannot scale.
//! Both give the same time, so the clock does not go backwards on a fallback, from VP to VP, or over a migration; it
//! stands still while a guest is saved. It is not a wall clock.
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

/// Number of attempts to read a page that keeps changing, before the register is read instead.
const ATTEMPTS: usize = 3;

/// The partition's clock, readable on any VP.
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
    /// Starts the clock on a page, which is lent to the hypervisor until [`Clock::stop`]. Call it once per partition,
    /// on any VP.
    ///
    /// If the partition may not use a reference TSC page, the page stays the guest's and the clock reads the register.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    pub fn start_clock(&self, page: &'static Page, memory: &impl Memory) -> Result<Clock<'_, C>, HvError> {
        // A page of zeros is marked invalid.
        page.clear();
        if self.information().features.privileges.access_reference_tsc() {
            let old = registers::get(self, Register::REFERENCE_TSC)?;
            let new = old.with_page_number(number(memory.gpa(page))).with_enable(true);
            // SAFETY: the page is lent for `'static`, and `memory` vouches for its guest physical address.
            unsafe { registers::lend(self, Register::REFERENCE_TSC, new) }?;
        }
        Ok(Clock { conduit: self.conduit(), page })
    }
}

impl<C: Conduit + Counter> Clock<'_, C> {
    /// Returns the current time.
    ///
    /// # Errors
    ///
    /// The hypervisor's status, if the page is invalid and reading the register fails.
    #[doc(alias = "hv_read_tsc_page_tsc")]
    #[doc(alias = "hv_read_reference_counter")]
    #[inline]
    pub fn now(&self) -> Result<ReferenceTime, HvError> {
        match self.page.tsc().read(self.conduit) {
            Some(time) => Ok(time),
            None => self.now_slowly(),
        }
    }

    /// Reads the time after a first attempt failed: the page is invalid or is being updated. The number of attempts is
    /// bounded, so a host that keeps changing the page cannot hang the guest.
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

    /// Returns the current time from the counter register, by hypercall.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    #[doc(alias = "hv_get_current_tick")]
    pub fn now_by_register(&self) -> Result<ReferenceTime, HvError> {
        registers::get(self.conduit, Register::TIME_REF_COUNT)
    }

    /// Returns the page's sequence number: 0 while the hypervisor requires the register. It changes with every
    /// migration.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.page.tsc().sequence()
    }

    /// Stops the clock and returns the page, filled with zeros. The register is in its reset state except for reserved
    /// bits.
    ///
    /// # Errors
    ///
    /// The hypervisor's status, together with the clock, which keeps running.
    pub fn stop(self) -> Result<&'static Page, Failed<Self, HvError>> {
        match disable_page(self.conduit) {
            Ok(()) => {
                // A reader that still uses the page finds it invalid.
                self.page.clear();
                Ok(self.page)
            }
            Err(error) => Err(Failed::new(self, error)),
        }
    }
}

/// Reads a reference TSC page that other code has enabled: the counter and the time, or `None` if the page is invalid.
/// Unlike [`Clock::now`], it does not fall back to the register.
#[doc(alias = "hv_read_tsc_page_tsc")]
#[inline]
pub fn read_page(page: &Page, counter: &impl Counter) -> Option<(u64, ReferenceTime)> {
    page.tsc().read_with_counter(counter)
}

/// Disables the reference TSC page if it is enabled.
pub(crate) fn disable_page(conduit: &(impl Conduit + ?Sized)) -> Result<(), HvError> {
    let old: ReferenceTscRegister = registers::get(conduit, Register::REFERENCE_TSC)?;
    if !old.enable() && old.page_number() == 0 {
        return Ok(());
    }
    // SAFETY: the value has the enable bit clear, so the hypervisor writes to no page.
    unsafe { registers::lend(conduit, Register::REFERENCE_TSC, old.with_enable(false).with_page_number(0)) }
}
