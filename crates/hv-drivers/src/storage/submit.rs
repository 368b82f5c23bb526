//! Submission: a request becomes a command, and the command a packet.

use core::fmt;

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::storage::{
    CDB_OR_SENSE_SIZE, DIRECTION_NONE, DIRECTION_READ, DIRECTION_WRITE, FLAG_REQUEST_COMPLETION, Operation,
    Packet, ScsiRequest,
};
use hv_vmbus_client::{Buffer, Dma, PageRun, Returned};
use zerocopy::{FromZeros, IntoBytes};

use super::initialize::State;
use super::{Address, Cdb, Controller, Disk, Error, Extent, Tag, cdb, put};
use crate::aligned::Aligned;

/// Reason why a request was not submitted, with what it was submitted with.
#[non_exhaustive]
pub struct Refused<T, D: Dma> {
    /// The tag.
    pub tag: T,
    /// The memory.
    pub data: Option<Buffer<D>>,
    /// Why.
    pub error: Error,
}

impl<T, D: Dma> fmt::Debug for Refused<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<D: Dma, C: Conduit, T, const DEPTH: usize> Controller<'_, D, C, T, DEPTH> {
    /// Submits a command of the user's own. The direction of the data is that of the command.
    ///
    /// # Errors
    ///
    /// With tag and memory: [`Error::NotReady`], [`Error::TooLong`], [`Error::Client`] as of
    /// [`hv_vmbus_client::Queue::submit`].
    pub fn submit(
        &mut self,
        tag: T,
        address: Address,
        cdb: &Cdb,
        data: Option<Buffer<D>>,
    ) -> Result<(), Refused<T, D>> {
        let asked = data.as_ref().map_or(0, |data| data.len);
        let waiting = self.done.count();
        let error = match self.state {
            State::Failed(error) => Some(error),
            State::Ready if asked > self.max_transfer => Some(Error::TooLong(self.max_transfer)),
            // So that each completion has a place while a function blocks. Else the queue says so.
            State::Ready if waiting > 0 && self.queue.in_flight() + waiting >= DEPTH => {
                Some(Error::Client(hv_vmbus_client::Error::InUse))
            }
            State::Ready => None,
            _ => Some(Error::NotReady),
        };
        if let Some(error) = error {
            return Err(Refused { tag, data, error });
        }
        let packet = srb(address, cdb, asked);
        match self.queue.submit_directed(Tag::User(tag, asked), packet.0.as_bytes(), data, cdb.direction()) {
            Ok(()) => Ok(()),
            Err(Returned { value: (Tag::User(tag, _), data), error }) => {
                Err(Refused { tag, data, error: error.into() })
            }
            // A queue gives back what it was given.
            Err(_) => Ok(()),
        }
    }

    /// Submits a read of as many blocks as the memory has bytes for.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit), and [`Error::Range`].
    pub fn submit_read(
        &mut self,
        tag: T,
        disk: &Disk,
        block: u64,
        data: Buffer<D>,
    ) -> Result<(), Refused<T, D>> {
        self.transfer(tag, disk, block, data, |count| Cdb::read(block, count))
    }

    /// Submits a write of as many blocks as the memory has bytes for. `durable`: it ends when the blocks are on stable
    /// storage.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit), and [`Error::Range`].
    pub fn submit_write(
        &mut self,
        tag: T,
        disk: &Disk,
        block: u64,
        durable: bool,
        data: Buffer<D>,
    ) -> Result<(), Refused<T, D>> {
        self.transfer(tag, disk, block, data, |count| Cdb::write(block, count, durable))
    }

    /// Submits the command for as many blocks as the memory has bytes for.
    fn transfer(
        &mut self,
        tag: T,
        disk: &Disk,
        block: u64,
        data: Buffer<D>,
        cdb: impl FnOnce(u32) -> Cdb,
    ) -> Result<(), Refused<T, D>> {
        match disk.count(block, data.len) {
            Ok(count) => self.submit(tag, disk.address, &cdb(count), Some(data)),
            Err(error) => Err(Refused { tag, data: Some(data), error }),
        }
    }

    /// Submits a flush: it ends when all that was written before is on stable storage.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub fn submit_flush(&mut self, tag: T, disk: &Disk) -> Result<(), Refused<T, D>> {
        self.submit(tag, disk.address, &Cdb::flush(), None)
    }

    /// Submits a discard: the blocks need not be kept. Its list is in the driver's memory, which the completion
    /// returns.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit), and [`Error::Range`], [`Error::Unsupported`].
    pub fn submit_discard(&mut self, tag: T, disk: &Disk, extent: Extent) -> Result<(), Refused<T, D>> {
        let list = match self.discard_list(disk, extent) {
            Ok(list) => list,
            Err(error) => return Err(Refused { tag, data: None, error }),
        };
        self.submit(tag, disk.address, &Cdb::unmap(cdb::UNMAP_LIST), Some(list))
    }

    fn discard_list(&self, disk: &Disk, extent: Extent) -> Result<Buffer<D>, Error> {
        disk.check_discard(extent)?;
        let pages = PageRun::of_bytes(&self.dma, cdb::UNMAP_LIST)?;
        pages.write(0, &cdb::unmap_list(extent));
        Ok(Buffer { pages, offset: 0, len: cdb::UNMAP_LIST as u32 })
    }
}

impl Disk {
    /// Returns the number of blocks in `bytes`, if they are on the disk from `block` on.
    fn count(&self, block: u64, bytes: u32) -> Result<u32, Error> {
        let count = bytes.checked_div(self.block_size).ok_or(Error::Range)?;
        let whole = count > 0 && bytes.is_multiple_of(self.block_size);
        let end = block.checked_add(count.into()).filter(|end| *end <= self.blocks && whole);
        end.map(|_| count).ok_or(Error::Range)
    }

    pub(super) fn check_discard(&self, extent: Extent) -> Result<(), Error> {
        if self.max_discard == 0 || extent.count > self.max_discard {
            return Err(Error::Unsupported);
        }
        let end = extent.block.checked_add(extent.count.into());
        end.filter(|end| *end <= self.blocks && extent.count > 0).map(|_| ()).ok_or(Error::Range)
    }
}

/// Makes the packet of a command with `bytes` bytes of data.
pub(super) fn srb(address: Address, cdb: &Cdb, bytes: u32) -> Aligned<Packet> {
    /// No tag: the host orders as it likes (Linux 6.12, `SP_UNTAGGED`, `SRB_SIMPLE_TAG_REQUEST`).
    const UNTAGGED: u8 = 0xff;
    const SIMPLE_TAG: u8 = 0x20;
    // Linux 6.12, SRB_FLAGS_*.
    const QUEUE_ACTION_ENABLE: u32 = 0x2;
    const DISABLE_SYNCH_TRANSFER: u32 = 0x8;
    const DATA_IN: u32 = 0x40;
    const DATA_OUT: u32 = 0x80;
    /// Else the host's port driver holds up all requests after one that has failed.
    const NO_QUEUE_FREEZE: u32 = 0x100;

    let (direction, flags) = match (bytes, cdb.writes()) {
        (0, _) => (DIRECTION_NONE, 0),
        (_, false) => (DIRECTION_READ, DATA_IN),
        (_, true) => (DIRECTION_WRITE, DATA_OUT),
    };
    let mut request = ScsiRequest::new_zeroed();
    request.length = size_of::<ScsiRequest>() as u16;
    request.path = address.path;
    request.target = address.target;
    request.lun = address.lun;
    request.cdb_length = cdb.bytes().len() as u8;
    request.sense_length = CDB_OR_SENSE_SIZE as u8;
    request.direction = direction;
    request.transfer_length = bytes;
    if let Some(place) = request.cdb_or_sense.get_mut(..cdb.bytes().len()) {
        place.copy_from_slice(cdb.bytes());
    }
    request.queue_tag = UNTAGGED;
    request.queue_action = SIMPLE_TAG;
    request.srb_flags = flags | QUEUE_ACTION_ENABLE | DISABLE_SYNCH_TRANSFER | NO_QUEUE_FREEZE;
    request.timeout = 60;

    let mut packet = Packet::new_zeroed();
    packet.header.operation = Operation::EXECUTE_SRB;
    packet.header.flags = FLAG_REQUEST_COMPLETION;
    put(&mut packet, request.as_bytes());
    Aligned(packet)
}
