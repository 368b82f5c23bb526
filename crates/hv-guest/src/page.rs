//! Pages that the guest shares with the hypervisor, and where the OS says they are.
//!
//! A page of Hyper-V is 4096 bytes, whatever the guest's own page size is. A [`Page`] is made of atomics: the
//! hypervisor may write it at any time, so each word is read once, and what was read is judged.
//!
//! Source: TLFS, "Inter-Partition Communication", "SIM Page" and "SIEF Page"; "Timers", "Partition Reference Time
//! Enlightenment".
//!
//! # One width for each byte
//!
//! Rust gives no meaning to threads that access the same bytes with atomics of different width at the same time (see
//! [`core::sync::atomic`]). So every byte of a page belongs to one cell, whatever the page is used as: of each 256 bytes,
//! the first eight are two cells of 32 bits, the others are cells of 64 bits. That is how the interface defines message
//! slots and the reference TSC page; event flags and parameters have no layout of their own. All access from Rust is by
//! whole cells, so two uses of one page may mix up its contents, but are never undefined behaviour.
//!
//! The unsafe code here looks at the cells as message slots, as event flags, or as the reference TSC page.

use core::mem::offset_of;
use core::ptr::NonNull;

use hv_tlfs::page::SIZE;
use hv_tlfs::synic::{MESSAGE_SIZE, SINT_COUNT};

use crate::message::Slot;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::synic::Flags;
use crate::tsc::TscPage;

/// Where the guest's pages are in guest physical memory. The OS implements it.
///
/// # Safety
///
/// [`gpa`](Self::gpa) returns the guest physical address at which the hypervisor finds exactly these 4096 bytes, and
/// the page stays there for as long as the reference lives: the hypervisor writes to the address it is given.
pub unsafe trait Memory {
    /// The guest physical address of a page: a multiple of 4096.
    fn gpa(&self, page: &Page) -> u64;
}

// SAFETY: the reference answers as what it refers to.
unsafe impl<M: Memory + ?Sized> Memory for &M {
    fn gpa(&self, page: &Page) -> u64 {
        (**self).gpa(page)
    }
}

/// Guest physical memory that is mapped one to one, or not mapped at all: address and guest physical address are the
/// same. What firmware, unikernels and kernels before paging have.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdentityMapped(());

impl IdentityMapped {
    /// Vouches for the identity map.
    ///
    /// # Safety
    ///
    /// Every [`Page`] given to this crate is at the guest physical address that equals its address.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY: who made the value has vouched for it.
unsafe impl Memory for IdentityMapped {
    fn gpa(&self, page: &Page) -> u64 {
        page as *const Page as u64
    }
}

/// 4096 bytes at a multiple of 4096, writable by the guest and by the hypervisor at the same time.
///
/// As a static it is an array of zeros; memory from an allocator becomes one by [`Page::at`].
#[doc(alias = "hv_alloc_hyperv_page")]
#[doc(alias = "hv_alloc_hyperv_zeroed_page")]
#[repr(C, align(4096))]
pub struct Page([Block; SIZE / BLOCK]);

/// Bytes of a [`Block`]: a message slot, the event flags of a source.
const BLOCK: usize = MESSAGE_SIZE;

/// The cells of 256 bytes.
#[repr(C)]
struct Block {
    head: [AtomicU32; 2],
    rest: [AtomicU64; BLOCK / 8 - 1],
}

const _: () = assert!(size_of::<Page>() == SIZE && align_of::<Page>() == SIZE);
const _: () = assert!(size_of::<Block>() == BLOCK && offset_of!(Block, rest) == 8);

/// A cell of a page, and the place of a byte in it.
enum Cell<'a> {
    Half(&'a AtomicU32, usize),
    Word(&'a AtomicU64, usize),
}

impl Cell<'_> {
    /// Bytes from the place to the cell's end.
    fn len(&self) -> usize {
        match self {
            Self::Half(_, first) => 4 - first,
            Self::Word(_, first) => 8 - first,
        }
    }

    /// Reads the cell once, and copies its bytes from the place on.
    fn read(&self, bytes: &mut [u8]) {
        match self {
            Self::Half(cell, first) => copy(bytes, &cell.load(Ordering::Relaxed).to_ne_bytes(), *first),
            Self::Word(cell, first) => copy(bytes, &cell.load(Ordering::Relaxed).to_ne_bytes(), *first),
        }
    }

    /// Replaces the bytes from the place on; the cell's others stay.
    fn write(&self, bytes: &[u8]) {
        let order = (Ordering::Relaxed, Ordering::Relaxed);
        match self {
            Self::Half(cell, first) => {
                let (new, kept) = (spread(bytes, *first), spread(&[0xff; 4][..bytes.len().min(4)], *first));
                let (new, kept) = (u32::from_ne_bytes(new), !u32::from_ne_bytes(kept));
                if kept == 0 {
                    cell.store(new, order.0);
                } else {
                    let _ = cell.fetch_update(order.0, order.1, |old| Some(old & kept | new));
                }
            }
            Self::Word(cell, first) => {
                let (new, kept) = (spread(bytes, *first), spread(&[0xff; 8][..bytes.len().min(8)], *first));
                let (new, kept) = (u64::from_ne_bytes(new), !u64::from_ne_bytes(kept));
                if kept == 0 {
                    cell.store(new, order.0);
                } else {
                    let _ = cell.fetch_update(order.0, order.1, |old| Some(old & kept | new));
                }
            }
        }
    }
}

/// Copies what `from` has from `first` on.
fn copy(to: &mut [u8], from: &[u8], first: usize) {
    for (to, from) in to.iter_mut().zip(from.iter().skip(first)) {
        *to = *from;
    }
}

/// The bytes at `first`, among zeros.
fn spread<const N: usize>(bytes: &[u8], first: usize) -> [u8; N] {
    let mut all = [0; N];
    for (to, from) in all.iter_mut().skip(first).zip(bytes) {
        *to = *from;
    }
    all
}

impl core::fmt::Debug for Page {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // Not its 4096 bytes, which may change meanwhile.
        write!(f, "Page({:p})", self)
    }
}

impl Page {
    /// A page of zeros.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "4 KiB belong in a static, not on the stack")]
    pub const fn new() -> Self {
        Self(
            [const {
                Block {
                    head: [const { AtomicU32::new(0) }; 2],
                    rest: [const { AtomicU64::new(0) }; BLOCK / 8 - 1],
                }
            }; SIZE / BLOCK],
        )
    }

    /// The page at this address.
    ///
    /// # Safety
    ///
    /// `page` is a multiple of 4096; the 4096 bytes there are initialized and writable, live for `'a`, and are meanwhile
    /// reached in no other way.
    #[must_use]
    pub const unsafe fn at<'a>(page: NonNull<u8>) -> &'a Self {
        // SAFETY: aligned, initialized, writable and unaliased by the caller's word; any bytes are a valid `Page`.
        unsafe { page.cast::<Self>().as_ref() }
    }

    /// Sets every byte to zero.
    pub fn clear(&self) {
        for block in &self.0 {
            block.head.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
            block.rest.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
        }
    }

    /// The cell that byte number `offset` is in.
    #[inline]
    fn cell(&self, offset: usize) -> Option<Cell<'_>> {
        let block = self.0.get(offset / BLOCK)?;
        let at = offset % BLOCK;
        match at.checked_sub(8) {
            None => Some(Cell::Half(block.head.get(at / 4)?, at % 4)),
            Some(at) => Some(Cell::Word(block.rest.get(at / 8)?, at % 8)),
        }
    }

    /// Copies `bytes` to `offset`, cell by cell, if all of them fit; else none. Other bytes stay as they are.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        if offset > SIZE || bytes.len() > SIZE - offset {
            return;
        }
        let (mut at, mut rest) = (offset, bytes);
        while let Some(cell) = self.cell(at).filter(|_| !rest.is_empty()) {
            let (part, behind) = rest.split_at_checked(cell.len()).unwrap_or((rest, &[]));
            cell.write(part);
            (at, rest) = (at + part.len(), behind);
        }
    }

    /// Fills `bytes` from `offset` on, each cell read once. Bytes beyond the page stay as they are.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        let (mut at, mut rest) = (offset, bytes);
        while let Some(cell) = self.cell(at).filter(|_| !rest.is_empty()) {
            let (part, behind) = rest.split_at_mut(cell.len().min(rest.len()));
            cell.read(part);
            (at, rest) = (at + part.len(), behind);
        }
    }

    /// Loads the 32 bits at `offset`, with acquire ordering. `None` unless that is a multiple of 4 in the page.
    ///
    /// This, [`store_u32`](Self::store_u32), [`swap_u32`](Self::swap_u32) and [`fetch_or_u32`](Self::fetch_or_u32) are for a
    /// model of the hypervisor in the same program, which shares the page with the routines of this crate.
    #[must_use]
    pub fn load_u32(&self, offset: usize) -> Option<u32> {
        match self.half(offset)? {
            Cell::Half(cell, _) => Some(cell.load(Ordering::Acquire)),
            Cell::Word(cell, first) => Some(half_of(cell.load(Ordering::Acquire), first)),
        }
    }

    /// Stores 32 bits at `offset`, with release ordering. `None`, and no effect, unless that is a multiple of 4 in the
    /// page.
    pub fn store_u32(&self, offset: usize, value: u32) -> Option<()> {
        match self.half(offset)? {
            Cell::Half(cell, _) => cell.store(value, Ordering::Release),
            Cell::Word(cell, first) => {
                let [new, mask] = [value, u32::MAX].map(|half| word_of(half, first));
                let replaced = |old| Some(old & !mask | new);
                let _ = cell.fetch_update(Ordering::Release, Ordering::Relaxed, replaced);
            }
        }
        Some(())
    }

    /// Replaces the 32 bits at `offset`, sequentially consistent, and returns what was there. `None`, and no effect, unless
    /// that is a multiple of 4 in the page.
    pub fn swap_u32(&self, offset: usize, value: u32) -> Option<u32> {
        match self.half(offset)? {
            Cell::Half(cell, _) => Some(cell.swap(value, Ordering::SeqCst)),
            Cell::Word(cell, first) => {
                let [new, mask] = [value, u32::MAX].map(|half| word_of(half, first));
                let replaced = |old| Some(old & !mask | new);
                let old = cell.fetch_update(Ordering::SeqCst, Ordering::SeqCst, replaced);
                old.ok().map(|old| half_of(old, first))
            }
        }
    }

    /// Sets bits of the 32 at `offset`, sequentially consistent, and returns what was there. `None`, and no effect, unless
    /// that is a multiple of 4 in the page.
    pub fn fetch_or_u32(&self, offset: usize, bits: u32) -> Option<u32> {
        match self.half(offset)? {
            Cell::Half(cell, _) => Some(cell.fetch_or(bits, Ordering::SeqCst)),
            Cell::Word(cell, first) => {
                Some(half_of(cell.fetch_or(word_of(bits, first), Ordering::SeqCst), first))
            }
        }
    }

    /// The cell of an aligned 32 bits.
    fn half(&self, offset: usize) -> Option<Cell<'_>> {
        self.cell(offset).filter(|_| offset.is_multiple_of(4))
    }

    /// The page as the message page: one slot per SINT.
    #[inline]
    pub(crate) fn slots(&self) -> &[Slot; SINT_COUNT] {
        const { assert!(size_of::<[Slot; SINT_COUNT]>() == SIZE && align_of::<Slot>() <= SIZE) };
        const { assert!(offset_of!(Slot, info) == 4 && offset_of!(Slot, sender) == offset_of!(Block, rest)) };
        // SAFETY: both types are `repr(C)`, 4096 bytes, and valid whatever the bytes; a `Page` is aligned for either. A slot
        // is two atomics of 32 bits, then atomics of 64 bits, as a `Block` is: whatever is reached through both views at
        // once is the same atomic with the same width.
        unsafe { NonNull::from(self).cast().as_ref() }
    }

    /// The page as the event flags page: 2048 flags per SINT.
    #[inline]
    pub(crate) fn flags(&self) -> &[Flags; SINT_COUNT] {
        const { assert!(size_of::<[Flags; SINT_COUNT]>() == SIZE && align_of::<Flags>() <= SIZE) };
        const { assert!(offset_of!(Flags, rest) == offset_of!(Block, rest)) };
        // SAFETY: as in `slots`: `Flags` has the fields of `Block`.
        unsafe { NonNull::from(self).cast().as_ref() }
    }

    /// The page as the reference TSC page.
    #[inline]
    pub(crate) fn tsc(&self) -> &TscPage {
        const { assert!(size_of::<TscPage>() == 24 && align_of::<TscPage>() <= SIZE) };
        const {
            assert!(
                offset_of!(TscPage, reserved) == 4 && offset_of!(TscPage, scale) == offset_of!(Block, rest)
            );
        };
        // SAFETY: as in `slots`, for the page's first 24 bytes: two atomics of 32 bits and two of 64.
        unsafe { NonNull::from(self).cast().as_ref() }
    }
}

/// Half of a word: the four bytes at `first`, 0 or 4.
fn half_of(word: u64, first: usize) -> u32 {
    let mut half = [0; 4];
    copy(&mut half, &word.to_ne_bytes(), first);
    u32::from_ne_bytes(half)
}

/// A word with these four bytes at `first`, zeros beside them.
fn word_of(half: u32, first: usize) -> u64 {
    u64::from_ne_bytes(spread(&half.to_ne_bytes(), first))
}

/// A page lent to the hypervisor for the length of a call: where the parameters of a memory-based hypercall go.
///
/// One per CPU is usual; there can be one for each context that makes such calls, since a call needs it exclusively.
#[doc(alias = "hyperv_pcpu_input_arg")]
#[doc(alias = "hyperv_pcpu_output_arg")]
pub struct CallPage<'a> {
    page: &'a Page,
    gpa: u64,
}

impl core::fmt::Debug for CallPage<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "CallPage({:#x})", self.gpa)
    }
}

impl<'a> CallPage<'a> {
    /// Sets this page aside for parameters. Nothing else may use it meanwhile: two calls at a time would mix up each
    /// other's parameters.
    #[must_use]
    pub fn new(page: &'a Page, memory: &impl Memory) -> Self {
        let gpa = memory.gpa(page);
        Self { page, gpa }
    }

    /// The page.
    pub(crate) fn page(&mut self) -> &Page {
        self.page
    }

    /// The guest physical address `offset` bytes into the page.
    pub(crate) fn gpa_at(&self, offset: usize) -> u64 {
        self.gpa + offset as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_in_and_come_out_at_any_place_and_their_neighbours_stay() {
        let page = Page::new();
        let data: std::vec::Vec<u8> = (1..=40).collect();
        // Miri takes a second for each page that is written and read.
        let offsets = if cfg!(miri) { 3..4 } else { 0..24 };
        for offset in offsets.chain([249, SIZE - 40]) {
            for len in [0, 1, 3, 4, 5, 8, 9, 12, 17, 40].into_iter().step_by(if cfg!(miri) { 4 } else { 1 }) {
                page.write(0, &[0xee; SIZE]);
                page.write(offset, &data[..len]);
                let mut all = [0; SIZE];
                page.read(0, &mut all);
                assert_eq!(&all[offset..offset + len], &data[..len], "{len} bytes at {offset}");
                assert!(all[..offset].iter().chain(&all[offset + len..]).all(|byte| *byte == 0xee));
                let mut part = [0; 40];
                page.read(offset, &mut part[..len]);
                assert_eq!(part[..len], data[..len]);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let page = Page::new();
        page.write(SIZE - 8, &[1; 9]);
        page.write(SIZE, &[1; 1]);
        page.write(usize::MAX - 7, &[1; 1]);
        let mut all = [7; SIZE];
        page.read(0, &mut all);
        assert_eq!(all, [0; SIZE]);
        let mut bytes = [7; 16];
        page.read(SIZE - 8, &mut bytes);
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7]);
    }

    #[test]
    fn halves_are_where_their_bytes_are() {
        let page = Page::new();
        for offset in [0, 4, 8, 12, 252, 256, 260, SIZE - 4] {
            page.clear();
            assert_eq!(page.store_u32(offset, 0x0102_0304), Some(()));
            assert_eq!(page.fetch_or_u32(offset, 0xf000_0000), Some(0x0102_0304));
            assert_eq!(page.swap_u32(offset, 0x0506_0708), Some(0xf102_0304));
            assert_eq!(page.swap_u32(offset, 0xf102_0304), Some(0x0506_0708));
            assert_eq!(page.load_u32(offset), Some(0xf102_0304));
            let mut all = [0; SIZE];
            page.read(0, &mut all);
            assert_eq!(all[offset..offset + 4], 0xf102_0304_u32.to_ne_bytes());
            assert_eq!(all.iter().filter(|byte| **byte != 0).count(), 4);
        }
        for offset in [1, 2, SIZE, usize::MAX - 3] {
            assert_eq!((page.load_u32(offset), page.store_u32(offset, 1)), (None, None));
            assert_eq!((page.fetch_or_u32(offset, 1), page.swap_u32(offset, 1)), (None, None));
        }
    }

    #[test]
    fn the_views_are_where_the_tlfs_has_them() {
        let page = Page::new();
        let base = &raw const page as usize;
        assert_eq!(&raw const page.slots()[2] as usize - base, 512);
        assert_eq!(&raw const page.flags()[15] as usize - base, 15 * 256);
        assert_eq!(page.tsc() as *const TscPage as usize, base);
    }

    /// What Miri takes for undefined behaviour if a byte has two widths: every use of a page at once, from safe code alone.
    #[test]
    fn uses_of_one_page_at_a_time_never_access_a_byte_with_two_widths() {
        struct Ticks;
        impl crate::conduit::Counter for Ticks {
            fn counter(&self) -> u64 {
                1
            }
        }
        static PAGE: Page = Page::new();
        let rounds = if cfg!(miri) { 3 } else { 100 };
        let uses: [&(dyn Fn() + Sync); 8] = [
            &|| PAGE.clear(),
            &|| PAGE.write(3, &[0x11; 300]),
            &|| PAGE.read(0, &mut [0; 300]),
            &|| {
                for offset in [0, 4, 8, 256] {
                    PAGE.store_u32(offset, 1);
                    PAGE.fetch_or_u32(offset, 2);
                    PAGE.swap_u32(offset, 3);
                    assert!(PAGE.load_u32(offset).is_some());
                }
            },
            &|| {
                for slot in PAGE.slots() {
                    if let Some(pending) = slot.pending() {
                        let (seen, _) = (pending.message_type(), pending.read());
                        slot.free(seen);
                    }
                }
            },
            &|| PAGE.flags().iter().for_each(|flags| flags.take_all(|_| ())),
            &|| assert!(!PAGE.flags()[0].take(5) || PAGE.flags()[0].take(5) || PAGE.load_u32(0).is_some()),
            &|| {
                let _ = PAGE.tsc().read(&Ticks);
            },
        ];
        std::thread::scope(|scope| {
            for each in uses {
                scope.spawn(move || (0..rounds).for_each(|_| each()));
            }
        });
    }
}
