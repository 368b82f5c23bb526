//! The SynIC of a VP: messages and event flags.
//!
//! [`Vp::enable_synic`] turns a [`Vp`] into a [`Synic`], which takes messages and events and still is a VP;
//! [`Synic::disable`] turns it back. So no message page is read while it is not in use, and no CPU of the VP map has
//! two of them.
//!
//! Source: TLFS, "Inter-Partition Communication".

use core::fmt;

use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::status::HvError;
use hv_tlfs::synic::{EVENT_FLAGS_COUNT, EVENT_FLAGS_WORDS, MessageType, SINT_COUNT};
use hv_tlfs::vp::VpIndex;

use crate::conduit::{Conduit, Counter, FAST_WORDS, FastOutput};
use crate::failed::{Failed, First, without_value};
pub use crate::index::SintIndex;
use crate::interrupts::{Interrupts, Intid};
use crate::message::{Freed, Pending};
use crate::page::{Memory, Page};
use crate::partition::Vp;
use crate::registers::{self, Register};

/// Reason why a SynIC could not be enabled or disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SynicError {
    /// Message page and event flags page are the same page, or an address is not a multiple of 4096.
    Pages,
    /// The calling CPU is this other VP; nothing was done.
    OtherVp(VpIndex),
    /// The hypervisor's status.
    Hypervisor(HvError),
}

impl fmt::Display for SynicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pages => f.write_str(
                "message page and event flags page must be two different pages, at multiples of 4096",
            ),
            Self::OtherVp(here) => write!(f, "called on VP {}, which is not the VP of this SynIC", here.0),
            Self::Hypervisor(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SynicError {}

impl From<HvError> for SynicError {
    fn from(error: HvError) -> Self {
        Self::Hypervisor(error)
    }
}

without_value!(SynicError);

/// A VP whose SynIC is enabled.
///
/// It is a [`Conduit`], like the VP.
pub struct Synic<'a, C> {
    vp: Vp<'a, C>,
    pages: SynicPages,
    /// The interrupt of each source that is unmasked.
    intids: [Option<Intid>; SINT_COUNT],
}

impl<C> fmt::Debug for Synic<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unmasked = (0..SINT_COUNT).filter_map(|n| Some((n, self.intids.get(n)?.as_ref()?)));
        write!(f, "Synic of {:?}, unmasked: ", self.vp.index())?;
        f.debug_map().entries(unmasked).finish()
    }
}

/// The two pages of a SynIC.
///
/// It gives another CPU access to the messages after a crash: see [`take_over`](Self::take_over). Returned by
/// [`Synic::disable`], it means that the pages are the guest's again.
#[derive(Clone, Copy, Debug)]
pub struct SynicPages {
    messages: &'static Page,
    events: &'static Page,
}

impl<'a, C: Conduit> Vp<'a, C> {
    /// Lends two pages to the hypervisor, for messages and event flags, and enables the SynIC. The sources stay as they
    /// are: masked, on a fresh VP.
    ///
    /// Each VP needs its own pages. They are cleared once the hypervisor has mapped them, which drops what it kept in
    /// them for a previous kernel. Order, as in Linux: message page, event flags page, control. Reserved bits of the
    /// registers are preserved.
    ///
    /// # Errors
    ///
    /// [`SynicError`], together with the unchanged VP.
    #[doc(alias = "hv_synic_enable_regs")]
    #[doc(alias = "hv_set_simp")]
    #[doc(alias = "hv_set_siefp")]
    #[doc(alias = "hv_set_synic_state")]
    pub fn enable_synic(
        self,
        messages: &'static Page,
        events: &'static Page,
        memory: &impl Memory,
    ) -> Result<Synic<'a, C>, Failed<Self, SynicError>> {
        let (simp, siefp) = (memory.gpa(messages), memory.gpa(events));
        if simp == siefp || (simp | siefp) & !hv_tlfs::page::MASK != 0 {
            return Err(Failed::new(self, SynicError::Pages));
        }
        if let Err(error) = on_own_cpu(&self) {
            return Err(Failed::new(self, error));
        }
        let clear = || {
            messages.clear();
            events.clear();
        };
        // SAFETY: the pages are lent for `'static`, and `memory` vouches for their guest physical addresses.
        match unsafe { enable(&self, simp, siefp, clear) } {
            Ok(()) => {
                Ok(Synic { vp: self, pages: SynicPages { messages, events }, intids: [None; SINT_COUNT] })
            }
            Err(error) => {
                // On error, whatever was enabled is taken back; if that fails too, the first error is returned.
                let _ = disable_registers(&self);
                Err(Failed::new(self, SynicError::Hypervisor(error)))
            }
        }
    }
}

/// Checks that the VP is the calling one. A handle is not `Send`, but [`PerCpu`](crate::per_cpu::PerCpu) trusts the CPU
/// number it is given: a page lent on one VP and taken back on another would stay lent.
fn on_own_cpu<C: Conduit>(vp: &Vp<'_, C>) -> Result<(), SynicError> {
    match registers::get(vp, Register::VP_INDEX)? {
        here if here == vp.index() => Ok(()),
        here => Err(SynicError::OtherVp(here)),
    }
}

/// Enables both pages, clears them, and enables the SynIC. The pages show what the hypervisor kept for this VP,
/// possibly a message that a previous kernel did not take; nothing is delivered while the SynIC is disabled.
///
/// # Safety
///
/// The pages at these guest physical addresses stay lent until the SynIC is disabled.
unsafe fn enable(conduit: &impl Conduit, simp: u64, siefp: u64, clear: impl FnOnce()) -> Result<(), HvError> {
    let control = registers::get(conduit, Register::SCONTROL)?;
    if control.enable() {
        registers::set(conduit, Register::SCONTROL, control.with_enable(false))?;
    }
    let old = registers::get(conduit, Register::SIMP)?;
    let new = old.with_page_number(hv_tlfs::page::number(simp)).with_enabled(true);
    // SAFETY: the caller lends the page at this address until the SynIC is disabled, by this function's contract.
    unsafe { registers::lend(conduit, Register::SIMP, new) }?;
    let old = registers::get(conduit, Register::SIEFP)?;
    let new = old.with_page_number(hv_tlfs::page::number(siefp)).with_enabled(true);
    // SAFETY: the caller lends the page at this address until the SynIC is disabled, by this function's contract.
    unsafe { registers::lend(conduit, Register::SIEFP, new) }?;
    clear();
    registers::set(conduit, Register::SCONTROL, control.with_enable(true))
}

/// Takes both pages back and disables the SynIC; continues after an error, and returns the first one.
pub(crate) fn disable_registers(conduit: &(impl Conduit + ?Sized)) -> Result<(), HvError> {
    let mut first = First::default();
    first.note(registers::get(conduit, Register::SIMP).and_then(|old| {
        // SAFETY: the value has the enable bit clear, so the hypervisor writes to no page.
        unsafe { registers::lend(conduit, Register::SIMP, old.with_enabled(false).with_page_number(0)) }
    }));
    first.note(registers::get(conduit, Register::SIEFP).and_then(|old| {
        // SAFETY: the value has the enable bit clear, so the hypervisor writes to no page.
        unsafe { registers::lend(conduit, Register::SIEFP, old.with_enabled(false).with_page_number(0)) }
    }));
    first.note(
        registers::get(conduit, Register::SCONTROL)
            .and_then(|old| registers::set(conduit, Register::SCONTROL, old.with_enable(false))),
    );
    first.result()
}

/// Outcome of ending a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The slot is free, and no message was pending.
    Quiet,
    /// The slot is free, a message was pending, and the hypervisor was told to deliver it.
    MoreFollow,
    /// Another CPU had already freed the slot (after a crash). Nothing was done.
    NotOurs,
}

/// Frees the slot and writes EOM if a message is pending: see [`crate::message`].
#[inline]
fn end(conduit: &(impl Conduit + ?Sized), pending: Pending<'_>) -> Result<End, HvError> {
    let (slot, seen) = pending.into_slot();
    finish(conduit, slot.free(seen))
}

#[inline]
fn finish(conduit: &(impl Conduit + ?Sized), freed: Freed) -> Result<End, HvError> {
    match freed {
        Freed::MoreWait => registers::set(conduit, Register::EOM, 0).map(|()| End::MoreFollow),
        Freed::Quiet => Ok(End::Quiet),
        Freed::NotOurs => Ok(End::NotOurs),
    }
}

crate::conduit::passes_on! {
    [C: Conduit] Synic<'_, C>: |synic| synic.vp().partition().conduit();
}

impl<C: Conduit + Counter> Counter for Synic<'_, C> {
    #[inline]
    fn counter(&self) -> u64 {
        self.vp().counter()
    }
}

impl<'a, C: Conduit> Synic<'a, C> {
    /// Returns the VP.
    #[must_use]
    pub fn vp(&self) -> &Vp<'a, C> {
        &self.vp
    }

    /// Unmasks a source: enables the interrupt, then configures the source with it. Auto-EOI stays off; ARM64 does not
    /// have it.
    ///
    /// # Errors
    ///
    /// The hypervisor's status; the interrupt is disabled again unless another source uses it.
    #[doc(alias = "hv_set_synint_state")]
    pub fn unmask(
        &mut self,
        sint: SintIndex,
        intid: Intid,
        interrupts: &impl Interrupts,
    ) -> Result<(), HvError> {
        let register = Register::sint(sint);
        interrupts.enable(intid);
        let result = registers::get(&self.vp, register).and_then(|old| {
            let new =
                old.with_vector(intid.number()).with_masked(false).with_auto_eoi(false).with_polling(false);
            // TLFS, "SINTx Registers", recommends not to change the settings of an unmasked source, so it is masked for
            // the change.
            if !old.masked() && old != new {
                registers::set(&self.vp, register, old.with_masked(true))?;
            }
            registers::set(&self.vp, register, new)
        });
        let before = self.intids[sint.place()];
        if result.is_ok() {
            self.intids[sint.place()] = Some(intid);
        }
        for unused in [before, Some(intid)].into_iter().flatten() {
            if !self.intids.contains(&Some(unused)) {
                interrupts.disable(unused);
            }
        }
        result
    }

    /// Masks a source, then disables its interrupt unless another source uses it.
    ///
    /// # Errors
    ///
    /// The hypervisor's status; the interrupt is disabled even then.
    pub fn mask(&mut self, sint: SintIndex, interrupts: &impl Interrupts) -> Result<(), HvError> {
        let register = Register::sint(sint);
        let result = registers::get(&self.vp, register)
            .and_then(|old| registers::set(&self.vp, register, old.with_masked(true)));
        if let Some(intid) = self.intids[sint.place()].take()
            && !self.intids.contains(&Some(intid))
        {
            interrupts.disable(intid);
        }
        result
    }

    /// Returns the pending message of a source, if there is one.
    #[inline]
    #[must_use]
    pub fn pending(&self, sint: SintIndex) -> Option<Pending<'static>> {
        self.pages.pending(sint)
    }

    /// Ends a message: frees its slot and, if another is pending, writes EOM.
    ///
    /// # Errors
    ///
    /// The hypervisor's status for the EOM; the slot is free even then.
    #[doc(alias = "vmbus_signal_eom")]
    #[doc(alias = "hv_signal_eom")]
    #[inline]
    pub fn end(&self, pending: Pending<'_>) -> Result<End, HvError> {
        end(&self.vp, pending)
    }

    /// Makes the hypervisor look for deliverable messages, without ending one: to poll a masked source.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    pub fn poll(&self) -> Result<(), HvError> {
        registers::set(&self.vp, Register::EOM, 0)
    }

    /// Clears an event flag of a source and returns whether it was set. Returns false for a flag from 2048 on.
    #[inline]
    #[must_use]
    pub fn take_event(&self, sint: SintIndex, flag: u16) -> bool {
        const { assert!(EVENT_FLAGS_COUNT == 64 * EVENT_FLAGS_WORDS) }
        sint.of(self.pages.events.flags()).take(flag)
    }

    /// Clears the event flags of a source and passes each that was set to `each`, lowest first.
    #[inline]
    pub fn take_events(&self, sint: SintIndex, each: impl FnMut(u16)) {
        sint.of(self.pages.events.flags()).take_all(each);
    }

    /// Does the same for the flags below `limit`, and up to 63 above it, for an OS that knows which flags can be set: a
    /// flag that is not looked at stays set, and raises no further interrupt.
    #[inline]
    pub fn take_events_below(&self, sint: SintIndex, limit: usize, each: impl FnMut(u16)) {
        sint.of(self.pages.events.flags()).take_below(limit, each);
    }

    /// Returns the pages, for another CPU to look at after a crash.
    #[must_use]
    pub fn pages(&self) -> SynicPages {
        self.pages
    }

    /// Masks all unmasked sources, takes the pages back and disables the SynIC. The registers are in reset state except
    /// for reserved bits.
    ///
    /// # Errors
    ///
    /// The first error, after all steps have been tried, together with the VP. [`SynicError::OtherVp`] before any step.
    #[doc(alias = "hv_synic_disable_regs")]
    pub fn disable(
        mut self,
        interrupts: &impl Interrupts,
    ) -> Result<(Vp<'a, C>, SynicPages), Failed<Vp<'a, C>, SynicError>> {
        let mut first = First::default();
        match on_own_cpu(&self.vp) {
            Ok(()) => {}
            Err(SynicError::Hypervisor(error)) => first.note(Err(error)),
            Err(error) => return Err(Failed::new(self.vp, error)),
        }
        for sint in SintIndex::all() {
            if sint.of(&self.intids).is_some() {
                first.note(self.mask(sint, interrupts));
            }
        }
        first.note(disable_registers(&self.vp));
        match first.result() {
            Ok(()) => Ok((self.vp, self.pages)),
            Err(error) => Err(Failed::new(self.vp, SynicError::Hypervisor(error))),
        }
    }
}

impl SynicPages {
    /// Adopts the pages of a SynIC that other code has enabled, such as a kernel written in C.
    #[must_use]
    pub fn adopt(messages: &'static Page, events: &'static Page) -> Self {
        Self { messages, events }
    }

    /// Ends the message of a source if it still has the type that was seen.
    ///
    /// # Errors
    ///
    /// The hypervisor's status for the EOM, which is written for the calling VP.
    #[doc(alias = "vmbus_signal_eom")]
    #[inline]
    pub fn end_seen(
        messages: &Page,
        conduit: &(impl Conduit + ?Sized),
        sint: SintIndex,
        seen: MessageType,
    ) -> Result<End, HvError> {
        finish(conduit, sint.of(messages.slots()).free(seen))
    }

    /// Returns the pending message of a source in a message page, for code that has no [`Synic`]: that of a kernel in
    /// C.
    #[inline]
    #[must_use]
    pub fn pending_in(messages: &Page, sint: SintIndex) -> Option<Pending<'_>> {
        sint.of(messages.slots()).pending()
    }

    /// Clears the event flags of a source in an event flags page, and passes each that was set to `each`, lowest first.
    #[inline]
    pub fn take_events_in(events: &Page, sint: SintIndex, each: impl FnMut(u16)) {
        sint.of(events.flags()).take_all(each);
    }

    fn pending(&self, sint: SintIndex) -> Option<Pending<'static>> {
        Self::pending_in(self.messages, sint)
    }

    /// Returns the pending message of a source of *this* SynIC, for a CPU that crashed and has stopped the others. It
    /// may belong to another CPU, which may even have been ending it.
    #[must_use]
    pub fn take_over(&self, sint: SintIndex) -> Option<Pending<'static>> {
        self.pending(sint)
    }

    /// Ends a message found by [`take_over`](Self::take_over).
    ///
    /// # Errors
    ///
    /// The hypervisor's status for the EOM, which is written for the calling VP.
    pub fn end(conduit: &(impl Conduit + ?Sized), pending: Pending<'_>) -> Result<End, HvError> {
        end(conduit, pending)
    }

    /// Returns the message page and the event flags page.
    #[must_use]
    pub fn into_inner(self) -> (&'static Page, &'static Page) {
        (self.messages, self.events)
    }
}
