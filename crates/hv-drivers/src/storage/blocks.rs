//! A disk as a block device of embedded-sdmmc, which has the file system FAT.

use core::cell::RefCell;
use core::fmt;

use embedded_sdmmc_types::{Block, BlockCount, BlockDevice, BlockIdx};
use hv_guest::conduit::Conduit;
use hv_vmbus_client::Dma;

use super::{Controller, Disk, Error};
use crate::Wait;

/// A disk with blocks of 512 bytes, its controller, and a function that waits.
pub struct Blocks<'t, D: Dma, C, T, const DEPTH: usize, W> {
    disk: Disk,
    parts: RefCell<(Controller<'t, D, C, T, DEPTH>, W)>,
}

impl<D: Dma, C, T, const DEPTH: usize, W> fmt::Debug for Blocks<'_, D, C, T, DEPTH, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks").field("disk", &self.disk).finish_non_exhaustive()
    }
}

impl<'t, D: Dma, C: Conduit, T, const DEPTH: usize, W: Wait> Blocks<'t, D, C, T, DEPTH, W> {
    /// Takes a controller that is ready, and a disk of it.
    ///
    /// # Errors
    ///
    /// [`Error::Range`], with the controller, for a disk with longer blocks.
    #[expect(
        clippy::result_large_err,
        reason = "the controller comes back, and there is no allocator to box it"
    )]
    pub fn new(
        controller: Controller<'t, D, C, T, DEPTH>,
        disk: Disk,
        wait: W,
    ) -> Result<Self, (Error, Controller<'t, D, C, T, DEPTH>)> {
        if disk.block_size == Block::LEN_U32 {
            Ok(Self { disk, parts: RefCell::new((controller, wait)) })
        } else {
            Err((Error::Range, controller))
        }
    }

    /// Returns the controller, to be closed.
    pub fn into_controller(self) -> Controller<'t, D, C, T, DEPTH> {
        self.parts.into_inner().0
    }
}

impl<D: Dma, C: Conduit, T, const DEPTH: usize, W: Wait> BlockDevice for Blocks<'_, D, C, T, DEPTH, W> {
    type Error = Error;

    fn read(&self, blocks: &mut [Block], start: BlockIdx) -> Result<(), Error> {
        let (controller, wait) = &mut *self.parts.borrow_mut();
        let mut places = (u64::from(start.0)..).zip(blocks);
        places.try_for_each(|(at, block)| controller.read(&self.disk, at, &mut block.contents, wait))
    }

    fn write(&self, blocks: &[Block], start: BlockIdx) -> Result<(), Error> {
        let (controller, wait) = &mut *self.parts.borrow_mut();
        let mut places = (u64::from(start.0)..).zip(blocks);
        places.try_for_each(|(at, block)| controller.write(&self.disk, at, &block.contents, wait))
    }

    /// Returns the number of blocks, of which the trait can name 2^32 - 1.
    fn num_blocks(&self) -> Result<BlockCount, Error> {
        Ok(BlockCount(u32::try_from(self.disk.blocks).unwrap_or(u32::MAX)))
    }
}
