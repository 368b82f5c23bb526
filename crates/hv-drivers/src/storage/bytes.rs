//! A disk as a row of bytes: the traits of embedded-storage.

use core::fmt;

use embedded_storage::{ReadStorage, Storage};
use hv_guest::conduit::Conduit;
use hv_vmbus_client::Dma;

use super::{Controller, Disk, Error};
use crate::Wait;

/// Bytes of the longest block that is read to change a part of it.
const LONGEST: usize = 4096;

/// A disk with blocks of up to 4096 bytes, its controller, and a function that waits.
///
/// The traits name a byte in 32 bits: what a disk has beyond the first 4 GiB is left out.
pub struct Bytes<'c, 't, D: Dma, C, T, const DEPTH: usize, W> {
    controller: &'c mut Controller<'t, D, C, T, DEPTH>,
    disk: Disk,
    wait: W,
    /// A block of which a part is wanted.
    block: [u8; LONGEST],
}

impl<D: Dma, C, T, const DEPTH: usize, W> fmt::Debug for Bytes<'_, '_, D, C, T, DEPTH, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bytes").field("disk", &self.disk).finish_non_exhaustive()
    }
}

/// Bytes of a disk: either whole blocks, or a part of one.
struct Part {
    block: u64,
    /// Where in the block they begin.
    within: usize,
    len: usize,
}

impl Part {
    fn is_whole(&self, size: usize) -> bool {
        self.len.is_multiple_of(size)
    }
}

impl<'c, 't, D: Dma, C: Conduit, T, const DEPTH: usize, W: Wait> Bytes<'c, 't, D, C, T, DEPTH, W> {
    /// Takes a controller that is ready, and a disk of it.
    ///
    /// # Errors
    ///
    /// [`Error::Range`] for a disk with longer blocks.
    pub fn new(
        controller: &'c mut Controller<'t, D, C, T, DEPTH>,
        disk: Disk,
        wait: W,
    ) -> Result<Self, Error> {
        if disk.block_size as usize > LONGEST {
            return Err(Error::Range);
        }
        Ok(Self { controller, disk, wait, block: [0; LONGEST] })
    }

    /// Returns the first part of `len` bytes from an offset on; `None` if there is none.
    fn part(&self, offset: u64, len: usize) -> Result<Option<Part>, Error> {
        let size = self.disk.block_size as usize;
        let (block, within) = (offset / size as u64, (offset % size as u64) as usize);
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.bytes());
        end.ok_or(Error::Range)?;
        let len = if within == 0 && len >= size { len / size * size } else { len.min(size - within) };
        Ok((len > 0).then_some(Part { block, within, len }))
    }

    /// Returns the number of the disk's bytes that the traits can name.
    fn bytes(&self) -> u64 {
        self.disk.blocks.saturating_mul(self.disk.block_size.into()).min(1 << 32)
    }

    /// Reads the block that a part lies in, and returns the part.
    fn load(&mut self, part: &Part) -> Result<&mut [u8], Error> {
        let size = self.disk.block_size as usize;
        let block = self.block.get_mut(..size).ok_or(Error::Range)?;
        self.controller.read(&self.disk, part.block, block, &mut self.wait)?;
        block.get_mut(part.within..part.within + part.len).ok_or(Error::Range)
    }
}

impl<D: Dma, C: Conduit, T, const DEPTH: usize, W: Wait> ReadStorage for Bytes<'_, '_, D, C, T, DEPTH, W> {
    type Error = Error;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Error> {
        let (mut at, mut left) = (u64::from(offset), bytes);
        while let Some(part) = self.part(at, left.len())? {
            let (into, behind) = left.split_at_mut(part.len);
            if part.is_whole(self.disk.block_size as usize) {
                self.controller.read(&self.disk, part.block, into, &mut self.wait)?;
            } else {
                into.copy_from_slice(self.load(&part)?);
            }
            (at, left) = (at + part.len as u64, behind);
        }
        Ok(())
    }

    /// Returns the number of bytes, of which the traits can name 2^32 and 32-bit guests one less.
    fn capacity(&self) -> usize {
        usize::try_from(self.bytes()).unwrap_or(usize::MAX)
    }
}

impl<D: Dma, C: Conduit, T, const DEPTH: usize, W: Wait> Storage for Bytes<'_, '_, D, C, T, DEPTH, W> {
    /// Writes bytes. A block of which a part is written is read before.
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Error> {
        let (mut at, mut left) = (u64::from(offset), bytes);
        while let Some(part) = self.part(at, left.len())? {
            let (from, behind) = left.split_at(part.len);
            let size = self.disk.block_size as usize;
            if part.is_whole(size) {
                self.controller.write(&self.disk, part.block, from, &mut self.wait)?;
            } else {
                self.load(&part)?.copy_from_slice(from);
                let block = self.block.get(..size).ok_or(Error::Range)?;
                self.controller.write(&self.disk, part.block, block, &mut self.wait)?;
            }
            (at, left) = (at + part.len as u64, behind);
        }
        Ok(())
    }
}
