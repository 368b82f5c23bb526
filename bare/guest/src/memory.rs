//! A page that moves.
#![expect(unsafe_code, reason = "a page that changes under the program is read as raw memory")]

use core::ptr::addr_of;
use core::sync::atomic::{AtomicU32, Ordering};

use rt::mmu::{self, Kind};
use rt::{Granule, arch};

/// The two pages that the window shows, each with its own number in its first word. 64 KiB, the largest page size.
#[repr(align(65536))]
struct Shown([AtomicU32; 0x10000 / 4]);

static SHOWN: [Shown; 2] = [const { Shown([const { AtomicU32::new(0) }; 0x10000 / 4]) }; 2];

/// Virtual address of the window; nothing else is mapped near it.
pub(crate) const WINDOW: u64 = 0x8_0000_0000;

/// Maps the window to its page 0.
pub(crate) fn map_window(granule: Granule) {
    SHOWN[1].0[0].store(1, Ordering::Relaxed);
    mmu::map(WINDOW, shown(0), granule.bytes(), Kind::Ram).expect("the window's address is free");
}

fn shown(page: usize) -> u64 {
    addr_of!(SHOWN[page]) as u64
}

/// Makes the window show another page; what a TLB holds is not invalidated.
pub(crate) fn point_window(page: usize) {
    // SAFETY: nothing of Rust's is in the window; `look` reads it as raw memory.
    unsafe { mmu::redirect(WINDOW, shown(page), Kind::Ram) };
}

/// Returns the number of the page at the window, as this CPU sees it.
pub(crate) fn look() -> usize {
    arch::dsb();
    // SAFETY: the window has been mapped since the start, to one of two static pages; a volatile read of a word that
    // was written before the window was mapped.
    unsafe { (WINDOW as *const u32).read_volatile() as usize }
}
