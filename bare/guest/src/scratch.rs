//! The suite's scratch pages. The UEFI application has the same ones.

use core::ptr::addr_of;
use core::sync::atomic::{AtomicU32, Ordering, fence};

use hv_conformance::PAGES;

const PAGE_WORDS: usize = 1024;

/// The suite's pages, in units of 4 KiB as the interface counts them: with a larger granule, they lie at all offsets
/// within a guest's page.
#[repr(align(4096))]
struct Scratch([AtomicU32; PAGES * PAGE_WORDS]);

static SCRATCH: Scratch = Scratch([const { AtomicU32::new(0) }; PAGES * PAGE_WORDS]);

/// Address of scratch page `n`, which is its guest physical address too: RAM is mapped to itself.
pub(crate) fn page(n: usize) -> u64 {
    assert!(n < PAGES, "there is no scratch page {n}");
    addr_of!(SCRATCH) as u64 + n as u64 * 4096
}

/// Returns the word at an address in the scratch pages.
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
            // Nothing else writes these pages now: the suite hands them to the host afterwards.
            let shift = at % 4 * 8;
            let place = word(at & !3);
            let word = place.load(Ordering::Relaxed) & !(0xff << shift) | u32::from(*first) << shift;
            place.store(word, Ordering::Relaxed);
            (at, rest) = (at + 1, behind);
        }
    }
    fence(Ordering::SeqCst);
}
