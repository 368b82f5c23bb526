//! Memory that the host may access: an allocator over a static, and the window of devices' memory.
#![expect(unsafe_code, reason = "only this program knows how its memory is mapped, and which pages are free")]

use core::ptr::NonNull;

use hv_guest::page::{IdentityMapped, Memory, Page};
use hv_vmbus_client::{Dma, Window};
use rt::{Hardware, mmu};
use spin::Mutex;

// SAFETY: the runtime maps RAM to itself.
/// The map of all memory.
pub const MEMORY: IdentityMapped = unsafe { IdentityMapped::new() };

/// Pages of 4096 bytes in a unit of allocation: those of the largest page that a guest can have, whatever this run's
/// page size is.
const GRANULE: usize = 16;
/// Units in the pool: bits of a word.
const UNITS: usize = 64;

#[repr(C, align(65536))]
struct Room([Page; UNITS * GRANULE]);

static ROOM: Room = Room([const { Page::new() }; UNITS * GRANULE]);
/// Bit n: unit n is allocated.
static TAKEN: Mutex<u64> = Mutex::new(0);

/// The pool of 4 MiB from which memory for the host comes. There is one for the program.
#[derive(Clone, Copy, Debug)]
pub struct Pool;

impl Pool {
    /// Returns the number of pages that are allocated.
    #[must_use]
    pub fn allocated(self) -> usize {
        TAKEN.lock().count_ones() as usize * GRANULE
    }
}

/// Returns a mask of `units` bits, one for each unit.
const fn bits(units: usize) -> u64 {
    u64::MAX >> (UNITS - units)
}

// SAFETY: the runtime maps RAM to itself, and so the pages of the pool.
unsafe impl Memory for Pool {
    fn gpa(&self, page: &Page) -> u64 {
        MEMORY.gpa(page)
    }
}

// SAFETY: the pages are a static's, initialized, aligned, neighbours, and accessed through no other way than what this
// returns. A unit is given to one caller until it is freed: `TAKEN` says so, and changes with its lock held. The host
// finds a page at its own address, since the runtime maps RAM to itself.
unsafe impl Dma for Pool {
    const GRANULE: usize = GRANULE;

    // Not inlined, as `free`: an allocator is large for each place that uses it.
    #[inline(never)]
    fn allocate(&self, count: usize) -> Option<NonNull<[Page]>> {
        let units = count.div_ceil(GRANULE);
        if units == 0 || units > UNITS {
            return None;
        }
        let mut taken = TAKEN.lock();
        let first = (0..=UNITS - units).find(|first| *taken & bits(units) << first == 0)?;
        let pages = ROOM.0.get(first * GRANULE..)?.get(..count)?;
        *taken |= bits(units) << first;
        drop(taken);
        pages.iter().for_each(Page::clear);
        Some(pages.into())
    }

    #[inline(never)]
    unsafe fn free(&self, pages: NonNull<[Page]>) {
        let offset = pages.cast::<Page>().addr().get() - (&raw const ROOM).addr();
        let (first, units) = (offset / size_of::<Page>() / GRANULE, pages.len().div_ceil(GRANULE));
        *TAKEN.lock() &= !(bits(units) << first);
    }
}

/// Maps the first bytes of VMBus's address window, a multiple of 64 KiB, for a device's memory. `None` if firmware
/// names none that is as large, or it is mapped already.
#[must_use]
pub fn window(hardware: &Hardware, bytes: u64) -> Option<Window<'static>> {
    let range = hardware.vmbus_window.clone().filter(|range| range.end - range.start >= bytes)?;
    mmu::map(range.start, range.start, bytes, mmu::Kind::Ram).ok()?;
    let first = core::ptr::with_exposed_provenance::<Page>(usize::try_from(range.start).ok()?);
    // SAFETY: the pages were just mapped, for good, where nothing was mapped before: this is the only way to them. Any
    // bytes are a page, and its cells are atomics. The range is aligned to pages, since it was mapped.
    let pages =
        unsafe { core::slice::from_raw_parts(first, usize::try_from(bytes).ok()? / size_of::<Page>()) };
    // SAFETY: firmware names the range for VMBus's devices alone, and it is mapped to itself. It is given once: a
    // second call finds it mapped.
    Some(unsafe { Window::new(pages, range.start) })
}
