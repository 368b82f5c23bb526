//! Scratch pages, and a page that moves.
#![expect(unsafe_code, reason = "a page that changes under the program is read as raw memory")]

use core::ptr::addr_of;
use core::sync::atomic::{AtomicU32, Ordering};

use hv_conformance::PAGES;
use rt::mmu::{self, Kind};
use rt::{Granule, arch};

const PAGE_WORDS: usize = 1024;

/// The suite's pages, in 4 KiB as the interface counts them: with larger pages of the guest's own they lie at all places
/// within one.
#[repr(align(4096))]
struct Scratch([AtomicU32; PAGES * PAGE_WORDS]);

static SCRATCH: Scratch = Scratch([const { AtomicU32::new(0) }; PAGES * PAGE_WORDS]);

/// The two pages that the window shows, each with its own number in its first word. 64 KiB, the largest page.
#[repr(align(65536))]
struct Shown([AtomicU32; 0x10000 / 4]);

static SHOWN: [Shown; 2] = [const { Shown([const { AtomicU32::new(0) }; 0x10000 / 4]) }; 2];

/// Virtual address of the window; nothing else is mapped near it.
pub(crate) const WINDOW: u64 = 0x8_0000_0000;

/// Address of scratch page `n`, which is its guest physical address too: the runtime maps RAM to itself.
pub(crate) fn page(n: usize) -> u64 {
    assert!(n < PAGES, "there is no scratch page {n}");
    addr_of!(SCRATCH) as u64 + n as u64 * 4096
}

/// The word at an address in the scratch pages.
pub(crate) fn word(gpa: u64) -> &'static AtomicU32 {
    let offset = gpa.wrapping_sub(page(0));
    assert!(offset.is_multiple_of(4), "{gpa:#x} is not a word's address");
    &SCRATCH.0[(offset / 4) as usize]
}

/// Copies bytes out of scratch pages.
pub(crate) fn read(gpa: u64, into: &mut [u8]) {
    for (at, byte) in (gpa..).zip(into) {
        *byte = word(at & !3).load(Ordering::Relaxed).to_le_bytes()[at as usize % 4];
    }
}

/// Copies bytes into scratch pages.
pub(crate) fn write(gpa: u64, from: &[u8]) {
    let (mut at, mut rest) = (gpa, from);
    while let [first, behind @ ..] = rest {
        if let (true, Some((bytes, behind))) = (at.is_multiple_of(4), rest.split_first_chunk::<4>()) {
            word(at).store(u32::from_le_bytes(*bytes), Ordering::Relaxed);
            (at, rest) = (at + 4, behind);
        } else {
            // Nobody else writes these pages now: the suite hands them to the host afterwards.
            let shift = at % 4 * 8;
            let place = word(at & !3);
            let word = place.load(Ordering::Relaxed) & !(0xff << shift) | u32::from(*first) << shift;
            place.store(word, Ordering::Relaxed);
            (at, rest) = (at + 1, behind);
        }
    }
    arch::dsb();
}

/// Maps the window to its page 0.
pub(crate) fn map_window(granule: Granule) {
    SHOWN[1].0[0].store(1, Ordering::Relaxed);
    mmu::map(WINDOW, shown(0), granule.bytes(), Kind::Ram).expect("the window's address is free");
}

fn shown(page: usize) -> u64 {
    addr_of!(SHOWN[page]) as u64
}

/// Lets the window show another page; what a TLB holds stays there.
pub(crate) fn point_window(page: usize) {
    // SAFETY: nothing of Rust's is at the window; `look` reads it as raw memory.
    unsafe { mmu::redirect(WINDOW, shown(page), Kind::Ram) };
}

/// The number of the page at the window, as this CPU sees it.
pub(crate) fn look() -> usize {
    arch::dsb();
    // SAFETY: the window is mapped since the start, to one of two pages that exist for ever; a volatile read of a word
    // that is written before the window is mapped.
    unsafe { (WINDOW as *const u32).read_volatile() as usize }
}
