//! Pages that the guest shares with the hypervisor, and their guest physical addresses.
//!
//! A page of Hyper-V is 4096 bytes, whatever the guest's page size. A [`Page`] consists of atomics: the hypervisor may
//! write to it at any time, so each word is read once, and the value read is then validated.
//!
//! Source: TLFS, "Inter-Partition Communication", "SIM Page" and "SIEF Page"; "Timers", "Partition Reference Time
//! Enlightenment".
//!
//! # One access width for each byte
//!
//! Rust does not define concurrent atomic accesses of different width to the same bytes (see [`core::sync::atomic`]).
//! So every byte of a page belongs to one cell, whatever the page is used for: of each 256 bytes, the first eight are
//! two cells of 32 bits, the others are cells of 64 bits. This matches the layout of message slots and of the reference
//! TSC page; event flags and parameters prescribe no access width. Rust code accesses whole cells only, so two uses of
//! one page may mix up its contents, but are never undefined behaviour.
//!
//! The unsafe code here reinterprets the cells as message slots, as event flags, or as the reference TSC page.

#[deny(unsafe_code)]
mod cell;

use core::mem::offset_of;
use core::ptr::NonNull;

use hv_tlfs::page::SIZE;
use hv_tlfs::synic::{MESSAGE_SIZE, SINT_COUNT};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::flags::Flags;
use crate::message::Slot;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::tsc::TscPage;
use cell::{Cell, half_of, word_of};

/// Translation of the guest's pages to guest physical addresses. Implemented by the OS.
///
/// # Safety
///
/// [`gpa`](Self::gpa) returns the guest physical address at which the hypervisor finds exactly these 4096 bytes, and
/// the page stays there for as long as the reference lives: the hypervisor writes to that address.
pub unsafe trait Memory {
    /// Returns the guest physical address of a page: a multiple of 4096.
    fn gpa(&self, page: &Page) -> u64;
}

// SAFETY: the reference forwards to an implementation that keeps this contract, and returns its address unchanged.
unsafe impl<M: Memory + ?Sized> Memory for &M {
    fn gpa(&self, page: &Page) -> u64 {
        (**self).gpa(page)
    }
}

/// Guest memory that is identity-mapped, or not mapped at all: an address equals its guest physical address. Typical of
/// firmware, unikernels and kernels before paging.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdentityMapped(());

impl IdentityMapped {
    /// Creates the value, vouching for the identity map.
    ///
    /// # Safety
    ///
    /// Every [`Page`] given to this crate is at the guest physical address that equals its address.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY: the creator of the value has vouched that every page's address is its guest physical address (`new`).
unsafe impl Memory for IdentityMapped {
    fn gpa(&self, page: &Page) -> u64 {
        page as *const Page as u64
    }
}

/// 4096 bytes, aligned to 4096, which guest and hypervisor may both write at any time.
///
/// As a static it is an array of zeros; allocated memory becomes one through [`Page::at`].
#[doc(alias = "hv_alloc_hyperv_page")]
#[doc(alias = "hv_alloc_hyperv_zeroed_page")]
#[repr(C, align(4096))]
pub struct Page([Block; SIZE / BLOCK]);

/// Size of a [`Block`] in bytes: a message slot, or the event flags of a source.
const BLOCK: usize = MESSAGE_SIZE;

/// The cells of 256 bytes.
#[repr(C)]
struct Block {
    head: [AtomicU32; 2],
    rest: [AtomicU64; BLOCK / 8 - 1],
}

const _: () = assert!(size_of::<Page>() == SIZE && align_of::<Page>() == SIZE);
const _: () = assert!(size_of::<Block>() == BLOCK && offset_of!(Block, rest) == 8);

impl core::fmt::Debug for Page {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // The 4096 bytes are omitted; they may change while they are printed.
        write!(f, "Page({:p})", self)
    }
}

/// Words at a time that are copied from or to where words are not aligned.
const STAGED: usize = 4;

impl Page {
    /// Creates a page of zeros.
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

    /// Creates a reference to the page at this address.
    ///
    /// # Safety
    ///
    /// `page` is a multiple of 4096; the 4096 bytes there are initialized and writable, live for `'a`, and are not
    /// accessed in any other way during `'a`.
    #[must_use]
    pub const unsafe fn at<'a>(page: NonNull<u8>) -> &'a Self {
        // SAFETY: the caller vouches that the address is aligned, initialized, writable and not aliased for `'a`; any
        // bytes are a valid `Page`.
        unsafe { page.cast::<Self>().as_ref() }
    }

    /// Sets every byte to zero.
    pub fn clear(&self) {
        for block in &self.0 {
            block.head.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
            block.rest.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
        }
    }

    /// Returns the cell that contains the byte at `offset`.
    #[inline]
    fn cell(&self, offset: usize) -> Option<Cell<'_>> {
        let block = self.0.get(offset / BLOCK)?;
        let at = offset % BLOCK;
        match at.checked_sub(8) {
            None => Some(Cell::Half(block.head.get(at / 4)?, at % 4)),
            Some(at) => Some(Cell::Word(block.rest.get(at / 8)?, at % 8)),
        }
    }

    /// Copies `bytes` to `offset`, cell by cell, if all of them fit; otherwise none. Other bytes are unchanged.
    ///
    /// Each cell is written once, unless neither `offset` nor the number of bytes is a multiple of eight: then one cell
    /// near the end may be written twice, each time a part of it.
    #[inline]
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        if offset > SIZE || bytes.len() > SIZE - offset {
            return;
        }
        let (whole, rest) = bytes.split_at(bytes.len() & !7);
        match <[u64]>::ref_from_bytes(whole) {
            _ if !offset.is_multiple_of(8) => self.write_cells(offset, whole),
            Ok(words) => self.store_words(offset, words),
            Err(_) => self.write_unaligned(offset, whole),
        }
        if !rest.is_empty() {
            self.write_cells(offset + whole.len(), rest);
        }
    }

    /// Fills `bytes` from `offset` on, reading each cell once. The part of `bytes` that lies beyond the page is
    /// unchanged.
    ///
    /// If neither `offset` nor the number of bytes is a multiple of eight, one cell near the end may be read twice, for
    /// different bytes of it: no byte is ever read twice.
    #[inline]
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        let bytes = bytes.split_at_mut(SIZE.saturating_sub(offset).min(bytes.len())).0;
        let (whole, rest) = bytes.split_at_mut(bytes.len() & !7);
        let behind = offset.saturating_add(whole.len());
        if !offset.is_multiple_of(8) {
            self.read_cells(offset, whole);
        } else if let Ok(words) = <[u64]>::mut_from_bytes(&mut *whole) {
            self.load_words(offset, words);
        } else {
            self.read_unaligned(offset, whole);
        }
        if !rest.is_empty() {
            self.read_cells(behind, rest);
        }
    }

    /// Writes whole words, which are not aligned in `bytes`, from `offset` on, a multiple of eight.
    #[inline(never)]
    fn write_unaligned(&self, offset: usize, bytes: &[u8]) {
        let mut at = offset;
        for part in bytes.chunks(STAGED * 8) {
            let mut words = [0_u64; STAGED];
            let words = words.get_mut(..part.len() / 8).unwrap_or_default();
            words.as_mut_bytes().copy_from_slice(part);
            self.store_words(at, words);
            at += part.len();
        }
    }

    /// Reads whole words, which are not aligned in `bytes`, from `offset` on, a multiple of eight.
    #[inline(never)]
    fn read_unaligned(&self, offset: usize, bytes: &mut [u8]) {
        let mut at = offset;
        for part in bytes.chunks_mut(STAGED * 8) {
            let mut words = [0_u64; STAGED];
            let words = words.get_mut(..part.len() / 8).unwrap_or_default();
            self.load_words(at, words);
            part.copy_from_slice(words.as_bytes());
            at += part.len();
        }
    }

    /// Reads words from `offset` on, a multiple of eight, each cell once; those beyond the page are unchanged.
    #[inline]
    fn load_words(&self, offset: usize, words: &mut [u64]) {
        let (mut at, mut left) = (offset, words);
        while let Some(block) = self.0.get(at / BLOCK).filter(|_| !left.is_empty()) {
            let first = at % BLOCK / 8;
            let (here, behind) = left.split_at_mut((BLOCK / 8 - first).min(left.len()));
            let next = at + size_of_val(here);
            // The first word of a block is two cells.
            let (halves, whole) = here.split_at_mut(usize::from(first == 0));
            halves.iter_mut().for_each(|word| *word = self.load_word(at));
            let cells = block.rest.get(first.saturating_sub(1)..).unwrap_or_default();
            whole.iter_mut().zip(cells).for_each(|(word, cell)| *word = cell.load(Ordering::Relaxed));
            (at, left) = (next, behind);
        }
    }

    /// Replaces words from `offset` on, a multiple of eight; those beyond the page are dropped.
    #[inline]
    fn store_words(&self, offset: usize, words: &[u64]) {
        let (mut at, mut left) = (offset, words);
        while let Some(block) = self.0.get(at / BLOCK).filter(|_| !left.is_empty()) {
            let first = at % BLOCK / 8;
            let (here, behind) = left.split_at((BLOCK / 8 - first).min(left.len()));
            let (halves, whole) = here.split_at(usize::from(first == 0));
            halves.iter().for_each(|word| self.store_word(at, *word));
            let cells = block.rest.get(first.saturating_sub(1)..).unwrap_or_default();
            whole.iter().zip(cells).for_each(|(word, cell)| cell.store(*word, Ordering::Relaxed));
            (at, left) = (at + size_of_val(here), behind);
        }
    }

    /// Reads the eight bytes at `offset`, a multiple of eight within the page, each cell once. Else the offset is
    /// rounded down, and beyond the page there are zeros.
    ///
    /// Most parameters are words, and bare-metal targets make no unaligned word accesses: there, eight bytes at an
    /// arbitrary offset are many times slower.
    #[inline]
    #[must_use]
    pub fn load_word(&self, offset: usize) -> u64 {
        let Some(block) = self.0.get(offset / BLOCK) else { return 0 };
        match (offset % BLOCK / 8).checked_sub(1).and_then(|n| block.rest.get(n)) {
            Some(cell) => cell.load(Ordering::Relaxed),
            None => block
                .head
                .iter()
                .zip([0, 4])
                .fold(0, |word, (cell, first)| word | word_of(cell.load(Ordering::Relaxed), first)),
        }
    }

    /// Replaces the eight bytes at `offset`, a multiple of eight within the page. Else the offset is rounded down, and
    /// what is beyond the page is dropped.
    #[inline]
    pub fn store_word(&self, offset: usize, word: u64) {
        let Some(block) = self.0.get(offset / BLOCK) else { return };
        match (offset % BLOCK / 8).checked_sub(1).and_then(|n| block.rest.get(n)) {
            Some(cell) => cell.store(word, Ordering::Relaxed),
            None => {
                for (cell, first) in block.head.iter().zip([0, 4]) {
                    cell.store(half_of(word, first), Ordering::Relaxed);
                }
            }
        }
    }

    fn write_cells(&self, offset: usize, bytes: &[u8]) {
        let (mut at, mut rest) = (offset, bytes);
        while let Some(cell) = self.cell(at).filter(|_| !rest.is_empty()) {
            let (part, behind) = rest.split_at_checked(cell.len()).unwrap_or((rest, &[]));
            cell.write(part);
            (at, rest) = (at + part.len(), behind);
        }
    }

    fn read_cells(&self, offset: usize, bytes: &mut [u8]) {
        let (mut at, mut rest) = (offset, bytes);
        while let Some(cell) = self.cell(at).filter(|_| !rest.is_empty()) {
            let (part, behind) = rest.split_at_mut(cell.len().min(rest.len()));
            cell.read(part);
            (at, rest) = (at + part.len(), behind);
        }
    }

    /// Loads the 32 bits at `offset`, with acquire ordering. Returns `None` unless that is a multiple of 4 within the
    /// page.
    ///
    /// This, [`store_u32`](Self::store_u32), [`swap_u32`](Self::swap_u32) and [`fetch_or_u32`](Self::fetch_or_u32) are
    /// for a hypervisor model in the same program, which shares the page with the routines of this crate.
    #[must_use]
    pub fn load_u32(&self, offset: usize) -> Option<u32> {
        match self.half(offset)? {
            Cell::Half(cell, _) => Some(cell.load(Ordering::Acquire)),
            Cell::Word(cell, first) => Some(half_of(cell.load(Ordering::Acquire), first)),
        }
    }

    /// Stores 32 bits at `offset`, with release ordering. Returns `None`, without effect, unless that is a multiple of
    /// 4 within the page.
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

    /// Replaces the 32 bits at `offset`, sequentially consistent, and returns the old value. Returns `None`, without
    /// effect, unless that is a multiple of 4 within the page.
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

    /// Sets bits of the 32 at `offset`, sequentially consistent, and returns the old value. Returns `None`, without
    /// effect, unless that is a multiple of 4 within the page.
    pub fn fetch_or_u32(&self, offset: usize, bits: u32) -> Option<u32> {
        match self.half(offset)? {
            Cell::Half(cell, _) => Some(cell.fetch_or(bits, Ordering::SeqCst)),
            Cell::Word(cell, first) => {
                Some(half_of(cell.fetch_or(word_of(bits, first), Ordering::SeqCst), first))
            }
        }
    }

    /// Returns the cell of 32 aligned bits.
    fn half(&self, offset: usize) -> Option<Cell<'_>> {
        self.cell(offset).filter(|_| offset.is_multiple_of(4))
    }

    /// Returns the page as the message page: one slot per SINT.
    #[inline]
    pub(crate) fn slots(&self) -> &[Slot; SINT_COUNT] {
        const { assert!(size_of::<[Slot; SINT_COUNT]>() == SIZE && align_of::<Slot>() <= SIZE) };
        const { assert!(offset_of!(Slot, info) == 4 && offset_of!(Slot, sender) == offset_of!(Block, rest)) };
        // SAFETY: both types are `repr(C)`, 4096 bytes, and valid whatever the bytes; a `Page` is aligned for either.
        // Like a `Block`, a slot is two atomics of 32 bits followed by atomics of 64 bits, so both views access each
        // byte through the same atomic, with the same width.
        unsafe { NonNull::from(self).cast().as_ref() }
    }

    /// Returns the page as the event flags page: 2048 flags per SINT.
    #[inline]
    pub(crate) fn flags(&self) -> &[Flags; SINT_COUNT] {
        const { assert!(size_of::<[Flags; SINT_COUNT]>() == SIZE && align_of::<Flags>() <= SIZE) };
        const { assert!(offset_of!(Flags, rest) == offset_of!(Block, rest)) };
        // SAFETY: the page is blocks of cells, one for each source, and `Flags` has the fields of `Block` in the same
        // order (asserted above), all of them atomics of the same width.
        unsafe { NonNull::from(self).cast().as_ref() }
    }

    /// Returns the page as the reference TSC page.
    #[inline]
    pub(crate) fn tsc(&self) -> &TscPage {
        const { assert!(size_of::<TscPage>() == 24 && align_of::<TscPage>() <= SIZE) };
        const {
            assert!(
                offset_of!(TscPage, reserved) == 4 && offset_of!(TscPage, scale) == offset_of!(Block, rest)
            );
        };
        // SAFETY: the first 24 bytes of the page are two atomics of 32 bits and two of 64 bits, which is the layout of
        // `TscPage`; any bytes are valid for them, and a `Page` is aligned for them.
        unsafe { NonNull::from(self).cast().as_ref() }
    }
}

/// A page lent to the hypervisor for the duration of a call, for the parameters of memory-based hypercalls.
///
/// One per CPU is usual; each context that makes such calls can have its own, since a call needs it exclusively.
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
    /// Reserves this page for parameters. Nothing else may use it at the same time: two concurrent calls would mix up
    /// their parameters.
    #[must_use]
    pub fn new(page: &'a Page, memory: &impl Memory) -> Self {
        let gpa = memory.gpa(page);
        Self { page, gpa }
    }

    /// Returns the page.
    pub(crate) fn page(&mut self) -> &Page {
        self.page
    }

    /// Returns the guest physical address `offset` bytes into the page.
    pub(crate) fn gpa_at(&self, offset: usize) -> u64 {
        self.gpa + offset as u64
    }
}

#[cfg(test)]
mod tests;
