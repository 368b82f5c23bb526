//! Overlay pages: pages of the hypervisor that cover pages of the guest.
//!
//! A VP's message page, event flags page and assist page and the partition's reference TSC page are overlays. Stage 2
//! does not change: to cover a guest page, its bytes and the overlay's are swapped, and swapped back when the overlay
//! is disabled or moved. So the guest gets its own bytes back, and the overlay keeps its contents. The contents are
//! zero at first and after a reset.
//!
//! Of several overlays on one page the first is visible, until it is disabled or moved; then another one is (the TLFS
//! leaves the order open). The hypervisor also writes to an overlay that is not visible, or lies beyond guest memory.
//!
//! An overlay is protected by its owner's lock. Its current location is stored next to it as an atomic ([`Place`]), so
//! the overlays of a page are found without the other VPs' locks: a register write takes a constant number of locks.
//!
//! Source: TLFS 6.0b, section 5.2.1, "GPA Overlay Pages".

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_memory::save::{Reader, RestoreError, Writer};
use hv_memory::{BadAddress, GuestMemory};
use hv_tlfs::page;
use hv_tlfs::synic::SIMP_ENABLE;
use lock_api::RawMutex;

use crate::host::Host;
use crate::partition::Partition;
use crate::power::Power;

/// Number of words in a page.
const WORDS: usize = page::SIZE / 4;
/// The error for invalid saved state.
const PART: RestoreError = RestoreError::Invalid("overlay page");

/// An overlay page and its register. All zeros at first.
pub(crate) struct Overlay {
    /// As the guest wrote it.
    register: u64,
    /// Visible to the guest: its contents are in guest memory.
    shown: bool,
    /// `words` may be nonzero.
    used: bool,
    /// The contents; while it is visible, the guest's bytes that it covers.
    words: [u32; WORDS],
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.words.iter().filter(|word| **word != 0).count();
        let mut fields = f.debug_struct("Overlay");
        fields.field("register", &self.register).field("shown", &self.shown).field("words_not_zero", &words);
        fields.finish_non_exhaustive()
    }
}

/// Returns the page that a register of an overlay names.
const fn base(register: u64) -> u64 {
    register & page::MASK
}

/// Returns the enable bit of an overlay's register.
const fn enabled(register: u64) -> bool {
    register & SIMP_ENABLE != 0
}

impl Overlay {
    pub(crate) const fn new() -> Self {
        Self { register: 0, shown: false, used: false, words: [0; WORDS] }
    }

    /// Resets the state. If what it covers is needed, it must be disabled before.
    pub(crate) fn reset(&mut self) {
        self.register = 0;
        self.shown = false;
        self.clear();
    }

    /// Clears the contents of an overlay that is not visible.
    pub(crate) fn clear(&mut self) {
        if core::mem::take(&mut self.used) {
            self.words = [0; WORDS];
        }
    }

    pub(crate) const fn register(&self) -> u64 {
        self.register
    }

    pub(crate) const fn enabled(&self) -> bool {
        enabled(self.register)
    }

    pub(crate) const fn shown(&self) -> bool {
        self.shown
    }

    /// Returns the guest physical address of an offset in it, if it is visible.
    #[inline]
    const fn place(&self, offset: u64) -> Option<u64> {
        if self.shown { Some(base(self.register) + offset) } else { None }
    }

    fn word(&mut self, offset: u64) -> &mut u32 {
        self.used = true;
        &mut self.words[offset as usize / 4 % WORDS]
    }

    /// Loads the word at `offset`, like [`GuestMemory::load_acquire`].
    #[inline]
    pub(crate) fn load(&self, memory: &impl GuestMemory, offset: u64) -> Result<u32, BadAddress> {
        match self.place(offset) {
            Some(gpa) => memory.load_acquire(gpa),
            None => Ok(self.words[offset as usize / 4 % WORDS]),
        }
    }

    /// Stores the word at `offset`, like [`GuestMemory::store_release`].
    #[inline]
    pub(crate) fn store(
        &mut self,
        memory: &impl GuestMemory,
        offset: u64,
        value: u32,
    ) -> Result<(), BadAddress> {
        match self.place(offset) {
            Some(gpa) => memory.store_release(gpa, value),
            None => {
                *self.word(offset) = value;
                Ok(())
            }
        }
    }

    /// Sets bits in the word at `offset`, like [`GuestMemory::fetch_or`].
    #[inline]
    pub(crate) fn fetch_or(
        &mut self,
        memory: &impl GuestMemory,
        offset: u64,
        bits: u32,
    ) -> Result<u32, BadAddress> {
        match self.place(offset) {
            Some(gpa) => memory.fetch_or(gpa, bits),
            None => {
                let word = self.word(offset);
                Ok(core::mem::replace(word, *word | bits))
            }
        }
    }

    /// Copies `data` to `offset`, like [`GuestMemory::write`].
    #[inline]
    pub(crate) fn write(
        &mut self,
        memory: &impl GuestMemory,
        offset: u64,
        data: &[u8],
    ) -> Result<(), BadAddress> {
        match self.place(offset) {
            Some(gpa) => memory.write(gpa, data),
            None => {
                self.write_hidden(offset, data);
                Ok(())
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn write_hidden(&mut self, offset: u64, data: &[u8]) {
        for (at, byte) in (offset..).zip(data) {
            let shift = at % 4 * 8;
            let word = self.word(at);
            *word = *word & !(0xff << shift) | u32::from(*byte) << shift;
        }
    }

    /// Swaps word `n` with that of the page below.
    fn exchange(&mut self, memory: &impl GuestMemory, n: usize) {
        let word = &mut self.words[n];
        if let Ok(old) = memory.swap(base(self.register) + n as u64 * 4, *word) {
            *word = old;
        }
    }

    /// Covers the page that the register names, which is memory: the first word last, since it tells whether the rest is
    /// valid (a message's type, the clock page's sequence).
    fn show(&mut self, memory: &impl GuestMemory) {
        (1..WORDS).chain([0]).for_each(|n| self.exchange(memory, n));
        self.shown = true;
        self.used = true;
    }

    /// Uncovers it: the first word first.
    fn hide(&mut self, memory: &impl GuestMemory) {
        (0..WORDS).for_each(|n| self.exchange(memory, n));
        self.shown = false;
    }

    /// Hides it if a new register value removes it from its current page, which is then returned, and sets the
    /// register.
    fn leave(&mut self, memory: &impl GuestMemory, register: u64) -> Option<u64> {
        let from = base(self.register);
        let leaves = self.shown && !(enabled(register) && base(register) == from);
        if leaves {
            self.hide(memory);
        }
        self.register = register;
        leaves.then_some(from)
    }

    /// Returns true if it belongs on this page but is not visible.
    const fn waits_at(&self, page: u64) -> bool {
        Placed::of(self).waits_at(page)
    }

    /// Disables it and leaves what the guest sees there in guest memory.
    fn let_go(&mut self) {
        self.register &= !SIMP_ENABLE;
        self.shown = false;
        self.clear();
    }

    pub(crate) fn save(&self, w: &mut Writer<'_>) {
        w.u64(self.register);
        w.flag(self.shown);
        let blank = self.words.iter().all(|word| *word == 0);
        w.flag(!blank);
        if !blank {
            self.words.iter().for_each(|word| w.u32(*word));
        }
    }

    /// Restores it after a reset. Whether the overlays are consistent is checked when all have been restored.
    pub(crate) fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        self.register = r.u64()?;
        self.shown = r.flag("overlay page")?;
        self.used = r.flag("overlay page")?;
        if self.shown && !self.enabled() {
            return Err(PART);
        }
        if self.used {
            for word in &mut self.words {
                *word = r.u32()?;
            }
        }
        self.used |= self.shown;
        Ok(())
    }
}

/// Encodes the page of an overlay's register, whether it is enabled (bit 0), and whether it is visible (bit 1).
#[derive(Clone, Copy)]
struct Placed(u64);

const SHOWN: u64 = 1 << 1;

impl Placed {
    const fn of(overlay: &Overlay) -> Self {
        let shown = if overlay.shown { SHOWN } else { 0 };
        Self(overlay.register & (page::MASK | SIMP_ENABLE) | shown)
    }

    const fn enabled(self) -> bool {
        enabled(self.0)
    }

    const fn shown(self) -> bool {
        self.0 & SHOWN != 0
    }

    const fn shown_at(self, page: u64) -> bool {
        self.shown() && base(self.0) == page
    }

    const fn waits_at(self, page: u64) -> bool {
        self.enabled() && !self.shown() && base(self.0) == page
    }
}

/// Location of an overlay, next to the lock that protects it. All zeros at first, like an [`Overlay`].
///
/// It is accessed only under the lock `overlays`, or while no VP runs; that orders all accesses.
#[derive(Debug)]
pub(crate) struct Place(AtomicU64);

impl Place {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Records the location of the overlay.
    pub(crate) fn note(&self, overlay: &Overlay) {
        self.0.store(Placed::of(overlay).0, Ordering::Relaxed);
    }

    fn get(&self) -> Placed {
        Placed(self.0.load(Ordering::Relaxed))
    }
}

/// An overlay of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverlayId {
    /// The message page of a VP.
    Messages(usize),
    /// The event flags page of a VP.
    Events(usize),
    /// The assist page of a VP.
    Assist(usize),
    /// The reference TSC page.
    Time,
}

impl OverlayId {
    /// Returns the overlays of a VP.
    const fn of(vp: usize) -> [Self; 3] {
        [Self::Messages(vp), Self::Events(vp), Self::Assist(vp)]
    }
}

impl<R: RawMutex> Partition<'_, R> {
    fn overlay_ids(&self) -> impl Iterator<Item = OverlayId> + use<R> {
        (0..self.vp_count()).flat_map(OverlayId::of).chain([OverlayId::Time])
    }

    /// Calls a function with an overlay, under its owner's lock, and records its location. The caller holds `overlays`.
    /// Returns `None` if there is no such VP.
    fn with_overlay<T>(&self, id: OverlayId, work: impl FnOnce(&mut Overlay) -> T) -> Option<T> {
        let (OverlayId::Messages(vp) | OverlayId::Events(vp) | OverlayId::Assist(vp)) = id else {
            return Some(self.time().with_page_overlay(work));
        };
        let state = self.vps().get(vp)?;
        let synic = &mut *state.synic();
        let overlay = match id {
            OverlayId::Messages(_) => &mut synic.message_page,
            OverlayId::Events(_) => &mut synic.event_page,
            _ => &mut synic.assist_page,
        };
        let result = work(overlay);
        self.place(id)?.note(overlay);
        Some(result)
    }

    /// Returns the location of an overlay; `None` if there is no such VP.
    fn place(&self, id: OverlayId) -> Option<&Place> {
        match id {
            OverlayId::Messages(vp) => Some(&self.vps().get(vp)?.places()[0]),
            OverlayId::Events(vp) => Some(&self.vps().get(vp)?.places()[1]),
            OverlayId::Assist(vp) => Some(&self.vps().get(vp)?.places()[2]),
            OverlayId::Time => Some(self.time().place()),
        }
    }

    fn placed(&self, id: OverlayId) -> Placed {
        self.place(id).map_or(Placed(0), Place::get)
    }

    /// Writes an overlay's register: shows, hides or moves the overlay. A page beyond guest memory is not an error
    /// (TLFS: it will not be accessible to the guest).
    ///
    /// Locations change only under the lock `overlays`. It is taken before the owners' locks, of which no two are held
    /// at a time, and at most five are taken, however many VPs there are.
    #[inline(never)]
    pub(crate) fn set_overlay(&self, host: &impl Host, id: OverlayId, register: u64) {
        let _guard = self.overlays().lock();
        self.move_overlay(host.memory(), id, register);
    }

    /// Does the same as [`Self::set_overlay`]. The caller holds `overlays`.
    fn move_overlay(&self, memory: &impl GuestMemory, id: OverlayId, register: u64) {
        let uncovered = self.with_overlay(id, |overlay| overlay.leave(memory, register)).flatten();
        if let Some(page) = uncovered {
            let next = self.overlay_ids().find(|&other| self.placed(other).waits_at(page));
            if let Some(next) = next {
                self.with_overlay(next, |overlay| overlay.show(memory));
            }
        }
        if id == OverlayId::Time {
            self.time().renew_page(memory);
        }
        let page = base(register);
        if memory.contains(page, page::SIZE as u64) && self.shown_at(page) == 0 {
            self.with_overlay(id, |overlay| {
                if overlay.waits_at(page) {
                    overlay.show(memory);
                }
            });
        }
    }

    /// Returns true if every other VP is off.
    pub(crate) fn runs_alone(&self, vp: usize) -> bool {
        self.vps().iter().enumerate().all(|(other, state)| other == vp || state.power() == Power::Off)
    }

    /// Disables all overlays that the previous guest left enabled, and leaves its pages as they are visible.
    ///
    /// According to the TLFS an overlay stays until it is disabled, and then its page gets its previous bytes back.
    /// Stock ARM64 Linux leaves the boot CPU's SynIC enabled over kexec (6.12 has no `machine_shutdown` hook there),
    /// and the next kernel treats the page as ordinary memory: its own bytes would be lost when it moves the overlay,
    /// and would appear in message slots until then. So a kernel that writes its guest OS id over another one, while
    /// only one VP is running, starts without overlays.
    #[cold]
    #[inline(never)]
    pub(crate) fn let_go_of_overlays(&self) {
        let _guard = self.overlays().lock();
        for id in self.overlay_ids().filter(|&id| self.placed(id).enabled()) {
            self.with_overlay(id, Overlay::let_go);
        }
    }

    /// Counts the overlays visible at a page.
    fn shown_at(&self, page: u64) -> usize {
        self.overlay_ids().filter(|&id| self.placed(id).shown_at(page)).count()
    }

    /// Disables a VP's overlays and resets all its registers, in one step: a page that another VP enabled in between
    /// would be lost.
    pub(crate) fn reset_vp(&self, host: &impl Host, vp: usize) {
        let Some(state) = self.vps().get(vp) else { return };
        let _guard = self.overlays().lock();
        for id in OverlayId::of(vp).into_iter().filter(|&id| self.placed(id).enabled()) {
            self.move_overlay(host.memory(), id, 0);
        }
        state.reset_registers(self.ports());
    }

    /// Checks that restored overlays are consistent: of those on one guest page exactly one is visible, and none
    /// elsewhere. No VP is running.
    pub(crate) fn check_overlays(&self, memory: &impl GuestMemory) -> Result<(), RestoreError> {
        for placed in self.overlay_ids().map(|id| self.placed(id)).filter(|placed| placed.enabled()) {
            let page = base(placed.0);
            let inside = memory.contains(page, page::SIZE as u64);
            let fits = if inside { self.shown_at(page) == 1 } else { !placed.shown() };
            if !fits {
                return Err(PART);
            }
        }
        Ok(())
    }
}
