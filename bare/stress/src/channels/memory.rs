//! The pages of a VP's channels: rings, buffers, data. The host may write to all of them, and to nothing else.

use core::ops::Range;
use core::ptr::addr_of;
use core::sync::atomic::{AtomicU32, Ordering};

use rt::MAX_CPUS;

/// Bytes of a page, whatever the guest's granule.
pub(super) const PAGE: usize = 4096;
/// Words of a page.
const WORDS: usize = PAGE / 4;
/// Pages of a VP.
const PAGES: usize = 41;
/// Bytes at RAM's beginning that have all of this program, the stacks of 120 CPUs and the device tree. Nothing else
/// uses the rest of RAM.
const PROGRAM: u64 = 64 << 20;

/// Both rings of a channel, that of the guest first.
pub(super) const RINGS: Range<usize> = 0..8;
/// The receive buffer of a network card.
pub(super) const RECEIVE: Range<usize> = 8..24;
/// Its send buffer: three sections.
pub(super) const SEND: Range<usize> = 24..29;
/// Data that packets list.
pub(super) const DATA: Range<usize> = 29..PAGES;

#[repr(align(65536))]
struct Memories([[[AtomicU32; WORDS]; PAGES]; MAX_CPUS]);

static MEMORIES: Memories =
    Memories([const { [const { [const { AtomicU32::new(0) }; WORDS] }; PAGES] }; MAX_CPUS]);

/// Returns true if an address is one of those that the host is kept from.
pub(super) fn is_kept(address: u64) -> bool {
    let start = rt::hardware::get().ram.start;
    (start..start + PROGRAM).contains(&address)
}

/// The pages of one VP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    vp: usize,
}

impl Memory {
    pub(super) fn of(vp: usize) -> Self {
        Self { vp }
    }

    /// Returns the number of the guest's page that has this page.
    pub(super) fn number(self, page: usize) -> u64 {
        (addr_of!(MEMORIES.0[self.vp][page]) as u64) >> 12
    }

    fn place(self, offset: usize) -> &'static AtomicU32 {
        &MEMORIES.0[self.vp][offset / PAGE % PAGES][offset % PAGE / 4]
    }

    /// Reads the word at a byte's offset in all pages.
    pub(super) fn load(self, offset: usize) -> u32 {
        self.place(offset).load(Ordering::Acquire)
    }

    /// Writes the word at a byte's offset in all pages, unless the host could take it for the number of a page that is
    /// not this VP's: then with a bit more.
    pub(super) fn store(self, offset: usize, word: u32) {
        self.place(offset).store(self.harmless(word), Ordering::Release);
    }

    /// Makes a word that is the number of a page of this program's into one of no page. The host reads a number from
    /// two words, in one access; each of them is harmless on its own. A word that a protocol needs is none of these.
    fn harmless(self, word: u32) -> u32 {
        let number = u64::from(word);
        let inside = is_kept(number << 12);
        let own = (self.number(0)..self.number(0) + PAGES as u64).contains(&number);
        if inside && !own { word | 1 << 31 } else { word }
    }

    /// Writes zeros to some pages.
    pub(super) fn clear(self, pages: Range<usize>) {
        for offset in (pages.start * PAGE..pages.end * PAGE).step_by(4) {
            self.store(offset, 0);
        }
    }
}
