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

/// Number of words in a page.
const WORDS: usize = page::SIZE / 4;
/// The error for invalid saved state.
pub(crate) const PART: RestoreError = RestoreError::Invalid("overlay page");

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
pub(crate) const fn base(register: u64) -> u64 {
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

    /// Covers the page that the register names, which is memory: the first word last, since it tells whether the rest
    /// is valid (a message's type, the clock page's sequence).
    pub(crate) fn show(&mut self, memory: &impl GuestMemory) {
        (1..WORDS).chain([0]).for_each(|n| self.exchange(memory, n));
        self.shown = true;
        self.used = true;
    }

    /// Uncovers it: the first word first.
    pub(crate) fn hide(&mut self, memory: &impl GuestMemory) {
        (0..WORDS).for_each(|n| self.exchange(memory, n));
        self.shown = false;
    }

    /// Hides it if a new register value removes it from its current page, which is then returned, and sets the
    /// register.
    pub(crate) fn leave(&mut self, memory: &impl GuestMemory, register: u64) -> Option<u64> {
        let from = base(self.register);
        let leaves = self.shown && !(enabled(register) && base(register) == from);
        if leaves {
            self.hide(memory);
        }
        self.register = register;
        leaves.then_some(from)
    }

    /// Returns true if it belongs on this page but is not visible.
    pub(crate) const fn waits_at(&self, page: u64) -> bool {
        Placed::of(self).waits_at(page)
    }

    /// Disables it and leaves what the guest sees there in guest memory.
    pub(crate) fn let_go(&mut self) {
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
pub(crate) struct Placed(pub(crate) u64);

const SHOWN: u64 = 1 << 1;

impl Placed {
    const fn of(overlay: &Overlay) -> Self {
        let shown = if overlay.shown { SHOWN } else { 0 };
        Self(overlay.register & (page::MASK | SIMP_ENABLE) | shown)
    }

    pub(crate) const fn enabled(self) -> bool {
        enabled(self.0)
    }

    pub(crate) const fn shown(self) -> bool {
        self.0 & SHOWN != 0
    }

    pub(crate) const fn shown_at(self, page: u64) -> bool {
        self.shown() && base(self.0) == page
    }

    pub(crate) const fn waits_at(self, page: u64) -> bool {
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

    pub(crate) fn get(&self) -> Placed {
        Placed(self.0.load(Ordering::Relaxed))
    }
}
