//! Where disks are, by number.

use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hv_wire::{BootInfo, MAX_DISKS};

const PAGE: u64 = 4096;

/// Slot without a disk. No disk has this number.
const NOTHING: u32 = u32::MAX;

/// The guest's disks by number. The slot of number n is n modulo [`MAX_DISKS`]; a disk that is added later to the same
/// slot has another number, so that work in progress for the old one never reaches it.
///
/// A slot changes under the lock of the controller with the disk.
#[derive(Debug)]
pub struct Table([Slot; MAX_DISKS]);

#[derive(Debug)]
struct Slot {
    /// Number of the disk in the slot; [`NOTHING`] without one.
    number: AtomicU32,
    base: AtomicU64,
    size: AtomicU64,
}

impl Table {
    /// Creates the table of the disks of the start.
    #[must_use]
    pub fn new(info: &BootInfo) -> Self {
        let slot =
            || Slot { number: AtomicU32::new(NOTHING), base: AtomicU64::new(0), size: AtomicU64::new(0) };
        let table = Self(core::array::from_fn(|_| slot()));
        for (number, disk) in (0..).zip(info.disks.iter().take(info.disk_count as usize)) {
            table.put(number, disk.base, disk.size);
        }
        table
    }

    fn slot(&self, number: u16) -> &Slot {
        &self.0[usize::from(number) % MAX_DISKS]
    }

    /// Puts a disk into its slot, in place of the one that is there.
    pub(crate) fn put(&self, number: u16, base: u64, size: u64) {
        let slot = self.slot(number);
        slot.base.store(base, Ordering::Relaxed);
        slot.size.store(size, Ordering::Relaxed);
        // Who finds the number finds the disk.
        slot.number.store(number.into(), Ordering::Release);
    }

    /// Removes a disk.
    pub(crate) fn remove(&self, number: u16) {
        self.slot(number).number.store(NOTHING, Ordering::Relaxed);
    }

    /// Returns a disk's base and size. Its slot may change at the same time: the two are a claim.
    #[must_use]
    pub fn get(&self, number: u16) -> Option<(u64, u64)> {
        let slot = self.slot(number);
        (slot.number.load(Ordering::Acquire) == u32::from(number))
            .then(|| (slot.base.load(Ordering::Relaxed), slot.size.load(Ordering::Relaxed)))
    }

    /// Returns the regions of all disks but one.
    pub(crate) fn others(&self, number: Option<u16>) -> impl Iterator<Item = Range<u64>> {
        let number = number.map_or(NOTHING, u32::from);
        let taken = move |slot: &&Slot| ![NOTHING, number].contains(&slot.number.load(Ordering::Relaxed));
        self.0.iter().filter(taken).map(|slot| {
            let base = slot.base.load(Ordering::Relaxed);
            base..base.saturating_add(slot.size.load(Ordering::Relaxed))
        })
    }

    /// Returns a number for a new disk, other than those of all disks that have been in its slot recently.
    pub(crate) fn free(&self, last: u16) -> Option<u16> {
        let free = |number: &u16| self.slot(*number).number.load(Ordering::Relaxed) == NOTHING;
        (1..=MAX_DISKS as u16).map(|step| last.wrapping_add(step)).find(free)
    }
}

/// Returns the region that spans all disks, and the window for more; empty without any.
#[must_use]
pub fn region(info: &BootInfo) -> Range<u64> {
    let disks = info.disks.get(..info.disk_count as usize).unwrap_or_default();
    let window = (info.window_size != 0).then_some(info.window_base..info.window_base + info.window_size);
    let first = disks.first().map(|disk| disk.base).or(window.as_ref().map(|window| window.start));
    let last = disks.last().map(|disk| (disk.base + disk.size).next_multiple_of(PAGE));
    let end = window.map(|window| window.end).or(last);
    first.unwrap_or(0)..end.unwrap_or(0)
}

/// Returns the end of the memory into which the disk of the start that begins at `base` may grow.
#[must_use]
pub fn growth_end(info: &BootInfo, base: u64) -> Option<u64> {
    let disks = info.disks.get(..info.disk_count as usize)?;
    let number = disks.iter().position(|disk| disk.base == base)?;
    let window = Some(info.window_base).filter(|_| info.window_size != 0);
    let next = disks.get(number + 1).map(|next| next.base);
    Some(next.or(window).unwrap_or(region(info).end))
}
