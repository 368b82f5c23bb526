//! Disks: regions of the machine's memory after the guest's RAM. A transfer is a copy, complete when the call returns.
//!
//! The device bounds what one call copies: it splits long transfers into pieces (hv-devices, `storage`).
#![expect(unsafe_code, reason = "disks and guest RAM are raw addresses")]

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_control::Table;
use hv_devices::storage::{Failure, Piece};
use hv_vmbus::Pages;

use crate::memory::{GuestRam, copy_words};

/// Bytes of a block.
const BLOCK: usize = 512;
/// Bytes that are inspected before they are cleared: zeros stay untouched, so that a sparse file behind them stays
/// sparse.
const STEP: u64 = 4096;

/// The guest's disks by number.
///
/// The table changes under the lock of the controller with the disk, under which transfers run as well.
pub(crate) struct Disks {
    /// The memory of all disks, which no guest can reach. It is copied from and to; no reference to it is made.
    region: Range<u64>,
    table: Table,
}

impl Disks {
    /// Creates the guest's disks, of which this table says where they are.
    ///
    /// # Safety
    ///
    /// The region is RAM, mapped at EL2 at its own address, and reached through this value only.
    pub(crate) unsafe fn new(region: Range<u64>, table: Table) -> Self {
        Self { region, table }
    }

    /// Returns where the disks are.
    pub(crate) const fn table(&self) -> &Table {
        &self.table
    }

    /// Returns a disk's memory. The table may change at the same time: what is returned lies in the region in any case.
    pub(crate) fn get(&self, number: u16) -> Option<DiskRam> {
        let (base, size) = self.table.get(number)?;
        let end = base.checked_add(size)?;
        (base >= self.region.start && end <= self.region.end && base.is_multiple_of(8))
            .then_some(DiskRam { base, size })
    }
}

/// The memory of a disk: RAM that is mapped at EL2 at its own address, no guest's, at a multiple of 8. [`Disks::get`]
/// alone makes such values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskRam {
    base: u64,
    size: u64,
}

impl DiskRam {
    /// Returns the address of `len` bytes at `offset`, if they lie on the disk.
    fn at(&self, offset: u64, len: u64) -> Result<u64, Failure> {
        let end = offset.checked_add(len).ok_or(Failure::Target)?;
        if end <= self.size { Ok(self.base + offset) } else { Err(Failure::Target) }
    }

    /// Copies between the disk, from `offset` on, and the guest's memory.
    fn copy(&self, ram: &GuestRam, offset: u64, len: u64, data: Pages<'_>, way: Way) -> Result<(), Failure> {
        let mut disk = self.at(offset, len)?;
        if data.len() != len {
            return Err(Failure::Target);
        }
        for segment in data.segments() {
            let guest = ram.place(segment.gpa(), segment.len()).map_err(|_| Failure::Target)?;
            let (to, from) = match way {
                Way::ToGuest => (guest, disk),
                Way::ToDisk => (disk, guest),
            };
            // SAFETY: `place` found the segment inside guest RAM, and the segments together have as many bytes as `at`
            // found on the disk. Both ranges are mapped; they do not overlap, since a disk lies after the guest's RAM.
            unsafe { copy(to, from, segment.len()) };
            disk += segment.len();
        }
        Ok(())
    }

    /// Writes a block repeatedly.
    fn fill(&self, offset: u64, len: u64, block: &Block) -> Result<(), Failure> {
        let start = self.at(offset, len)?;
        if block.0.iter().all(|&byte| byte == 0) {
            return self.clear(offset, len);
        }
        for at in (start..start + len).step_by(BLOCK) {
            let bytes = (start + len - at).min(BLOCK as u64);
            // SAFETY: `at` found the bytes on the disk, which is mapped and writable; the block is a local value of as
            // many bytes or more, so the two do not overlap.
            unsafe { copy(at, block.0.as_ptr() as u64, bytes) };
        }
        Ok(())
    }

    /// Makes a range read as zeros.
    fn clear(&self, offset: u64, len: u64) -> Result<(), Failure> {
        let (mut at, mut left) = (self.at(offset, len)?, len);
        if !offset.is_multiple_of(BLOCK as u64) || !len.is_multiple_of(BLOCK as u64) {
            return Err(Failure::Target);
        }
        while left > 0 {
            let part = (STEP - at % STEP).min(left);
            // SAFETY: `at` found the bytes on the disk, which is mapped and writable, and whose base is a multiple of
            // 8. Offset and length are multiples of a block, so every part is a multiple of 8 bytes at a multiple of 8.
            unsafe { clear(at, part / 8) };
            at += part;
            left -= part;
        }
        Ok(())
    }
}

/// A block with the alignment of a disk's.
#[repr(align(8))]
struct Block([u8; BLOCK]);

enum Way {
    ToGuest,
    ToDisk,
}

/// Carries out a piece of a command's work.
pub(crate) fn carry_out(
    disk: &DiskRam,
    ram: &GuestRam,
    piece: &Piece,
    data: Pages<'_>,
) -> Result<(), Failure> {
    match *piece {
        Piece::Read { offset, len } => disk.copy(ram, offset, len, data, Way::ToGuest),
        Piece::Write { offset, len, .. } => disk.copy(ram, offset, len, data, Way::ToDisk),
        // Memory is as stable as it gets here: the tool writes it to the file at the end of the run.
        Piece::Flush => Ok(()),
        Piece::Fill { offset, len, .. } => {
            let mut block = Block([0; BLOCK]);
            data.read(ram, 0, &mut block.0).map_err(|_| Failure::Target)?;
            disk.fill(offset, len, &block)
        }
        Piece::Clear { offset, len } => disk.clear(offset, len),
        _ => Err(Failure::Target),
    }
}

/// Copies bytes, each of them once: a guest may write to its own meanwhile.
///
/// # Safety
///
/// Both ranges are mapped, the range at `to` is writable, and they do not overlap.
unsafe fn copy(to: u64, from: u64, len: u64) {
    // EL2 checks alignment. Linux's buffers are aligned.
    let words = if (to | from).is_multiple_of(8) { len / 8 } else { 0 };
    // SAFETY: the caller promises mapped ranges, of which the one at `to` is writable, and which do not overlap. Both
    // are aligned, or this copies nothing.
    unsafe { copy_words(to as *mut u64, from as *const u64, words as usize) };
    for at in words * 8..len {
        // SAFETY: the byte is in the range at `from`, which the caller promises to be mapped. It may change meanwhile,
        // so the access is volatile, as all of Rust code's to guest RAM are.
        let byte = unsafe { ((from + at) as *const u8).read_volatile() };
        // SAFETY: the byte is in the range at `to`, which the caller promises to be mapped and writable.
        unsafe { ((to + at) as *mut u8).write_volatile(byte) };
    }
}

/// Writes zeros to the words from `at` on, unless all of them are zero already.
///
/// # Safety
///
/// The words are mapped, aligned and writable.
unsafe fn clear(at: u64, words: u64) {
    // SAFETY: the caller promises that the words are mapped, aligned and writable.
    let word = |n: u64| unsafe { AtomicU64::from_ptr((at + n * 8) as *mut u64) };
    if (0..words).all(|n| word(n).load(Ordering::Relaxed) == 0) {
        return;
    }
    (0..words).for_each(|n| word(n).store(0, Ordering::Relaxed));
}
