//! The functions that block.

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::storage::{FLAG_REQUEST_COMPLETION, Operation, Packet};
use hv_vmbus_client::{Buffer, Direction, Dma, PageRun, Returned};
use zerocopy::{FromZeros, IntoBytes};

use super::reply::Reply;
use super::submit::srb;
use super::{Address, Cdb, Controller, Disk, Error, Extent, Failure, Tag, cdb};
use crate::Wait;
use crate::aligned::Aligned;

/// Commands that report events before one is tried: a disk has a few of them at most.
const ATTENTIONS: usize = 8;

/// Commands that a busy device is sent again before the caller is told.
const BUSY: usize = 8;

impl<'t, D: Dma, C: Conduit, T, const DEPTH: usize> Controller<'t, D, C, T, DEPTH> {
    /// Waits until the controller is initialized.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn wait_ready(&mut self, wait: &mut impl Wait) -> Result<(), Error> {
        while !self.is_ready()? {
            if !self.advance()? && !self.is_ready()? {
                self.still_there()?;
                wait()?;
            }
        }
        Ok(())
    }

    /// Fails once the host has rescinded the controller: it answers nothing more.
    fn still_there(&self) -> Result<(), Error> {
        if self.is_over() { Err(hv_vmbus_client::Error::Rescinded.into()) } else { Ok(()) }
    }

    /// Sends a packet, with memory where there is some, and waits for its answer.
    fn ask(
        &mut self,
        packet: &Aligned<Packet>,
        mut data: Option<Buffer<D>>,
        direction: Direction,
        wait: &mut impl Wait,
    ) -> Result<Reply, Error> {
        if !self.is_ready()? {
            return Err(Error::NotReady);
        }
        self.own = self.own.wrapping_add(1);
        self.answer = None;
        loop {
            match self.queue.submit_directed(Tag::Own(self.own), packet.0.as_bytes(), data, direction) {
                Ok(()) => break,
                Err(Returned { value: (_, back), error })
                    if error.may_retry() || error == hv_vmbus_client::Error::InUse =>
                {
                    data = back;
                }
                Err(Returned { value: (_, back), error }) => {
                    self.bounce = back.map(|data| data.pages).or(self.bounce.take());
                    return Err(error.into());
                }
            }
            if !self.advance()? {
                self.still_there()?;
                wait()?;
            }
        }
        loop {
            if let Some(reply) = self.answer.take() {
                return Ok(reply);
            }
            self.still_there()?;
            // Memory that is in flight when the wait ends stays there, until the host answers or the channel is closed.
            if !self.advance()? {
                wait()?;
            }
        }
    }

    /// Carries a command out, with `len` bytes of data in the controller's own memory. Returns the bytes moved.
    fn execute(
        &mut self,
        address: Address,
        cdb: &Cdb,
        len: u32,
        fill: &[u8],
        wait: &mut impl Wait,
    ) -> Result<u32, Error> {
        let (mut attentions, mut busy) = (0, 0);
        loop {
            let data = match len {
                0 => None,
                len => {
                    let pages = self.own_memory(len)?;
                    pages.write(0, fill);
                    Some(Buffer { pages, offset: 0, len })
                }
            };
            let reply = self.ask(&srb(address, cdb, len), data, cdb.direction(), wait)?;
            self.changed |= reply.says_changed();
            match reply.up_to(len) {
                Err(failure) if failure.is_attention() && attentions < ATTENTIONS => attentions += 1,
                // No interrupt tells when the device has time again: a few times at once, then the caller decides.
                Err(Failure::Busy) if busy < BUSY => busy += 1,
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Takes the controller's own memory, of `len` bytes at least.
    fn own_memory(&mut self, len: u32) -> Result<PageRun<D>, Error> {
        match self.bounce.take() {
            Some(pages) if pages.bytes() >= len as usize => Ok(pages),
            _ => Ok(PageRun::of_bytes(&self.dma, len as usize)?),
        }
    }

    /// Reads what a command has put into the controller's own memory.
    fn result(&self, into: &mut [u8]) {
        if let Some(pages) = &self.bounce {
            pages.read(0, into);
        }
    }

    /// Carries a command out that returns data, and copies them. Returns how many bytes came; the rest are zeros.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn query(
        &mut self,
        address: Address,
        cdb: &Cdb,
        into: &mut [u8],
        wait: &mut impl Wait,
    ) -> Result<usize, Error> {
        let len = u32::try_from(into.len()).unwrap_or(u32::MAX).min(self.max_transfer);
        let moved = self.execute(address, cdb, len, &[], wait)? as usize;
        let (came, rest) = into.split_at_mut_checked(moved).ok_or(Failure::Malformed)?;
        self.result(came);
        rest.fill(0);
        Ok(moved)
    }

    /// Calls `each` for every disk of the controller.
    ///
    /// # Errors
    ///
    /// [`Error`] of the channel; a logical unit that fails is left out.
    pub fn disks(&mut self, wait: &mut impl Wait, mut each: impl FnMut(Disk)) -> Result<(), Error> {
        // As Linux looks for them: two targets, of which Hyper-V has the first.
        for target in 0..2 {
            let mut list = [0; 8 + 8 * 64];
            let at = Address { path: 0, target, lun: 0 };
            let len = match self.query(at, &Cdb::report_luns(list.len() as u32), &mut list, wait) {
                Ok(len) => len,
                Err(Error::Failed(_)) => continue,
                Err(error) => return Err(error),
            };
            let claimed = u32::from_be_bytes([list[0], list[1], list[2], list[3]]) as usize;
            let (entries, _) = list[8..].as_chunks::<8>();
            for entry in entries.iter().take(claimed.min(len.saturating_sub(8)) / 8) {
                // Peripheral or flat addressing, up to 255 units (SAM-5, "LUN structures").
                let lun = entry[1];
                match self.disk(Address { path: 0, target, lun }, wait) {
                    Ok(Some(disk)) => each(disk),
                    Ok(None) | Err(Error::Failed(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Looks at a logical unit; `None` if it is not a disk.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn disk(&mut self, address: Address, wait: &mut impl Wait) -> Result<Option<Disk>, Error> {
        let mut data = [0; 64];
        self.query(address, &Cdb::inquiry(None, 36), &mut data[..36], wait)?;
        // Qualifier 0: there is a device; type 0: a disk.
        if data[0] != 0 {
            return Ok(None);
        }
        self.execute(address, &Cdb::test_unit_ready(), 0, &[], wait)?;
        self.query(address, &Cdb::capacity(32), &mut data[..32], wait)?;
        let last = u64::from_be_bytes(*data.first_chunk().ok_or(Failure::Malformed)?);
        let block_size = u32::from_be_bytes([data[8], data[9], data[10], data[11]]);
        let discards = data[14] & 0x80 != 0;
        let blocks = last.checked_add(1).ok_or(Failure::Malformed)?;
        if !block_size.is_power_of_two() || !(512..=65536).contains(&block_size) {
            return Err(Failure::Malformed.into());
        }
        let mut mode = [0; 192];
        let read_only = match self.query(address, &Cdb::mode_sense(192), &mut mode, wait) {
            Ok(len) => len > 2 && mode[2] & 0x80 != 0,
            Err(Error::Failed(_)) => false,
            Err(error) => return Err(error),
        };
        let mut max_discard = 0;
        if discards && !read_only {
            let limits = self.query(address, &Cdb::inquiry(Some(0xb0), 64), &mut data, wait);
            if limits.is_ok_and(|len| len >= 24 && data[1] == 0xb0) {
                max_discard = u32::from_be_bytes([data[20], data[21], data[22], data[23]]);
            }
        }
        Ok(Some(Disk { address, block_size, blocks, read_only, max_discard }))
    }

    /// Returns the bytes of one transfer of a disk at most, and checks that these are on it.
    fn part(&self, disk: &Disk, block: u64, bytes: usize) -> Result<usize, Error> {
        let size = disk.block_size as usize;
        let blocks = bytes.checked_div(size).ok_or(Error::Range)? as u64;
        let end = block.checked_add(blocks);
        if !bytes.is_multiple_of(size) || end.is_none_or(|end| end > disk.blocks) {
            return Err(Error::Range);
        }
        let part = self.max_transfer as usize / size * size;
        if part == 0 { Err(Error::TooLong(self.max_transfer)) } else { Ok(part) }
    }

    /// Reads blocks.
    ///
    /// # Errors
    ///
    /// [`Error`]: bytes of `into` may have been read or not.
    pub fn read(
        &mut self,
        disk: &Disk,
        block: u64,
        into: &mut [u8],
        wait: &mut impl Wait,
    ) -> Result<(), Error> {
        let part = self.part(disk, block, into.len())?;
        let mut block = block;
        for into in into.chunks_mut(part) {
            let count = into.len() as u32 / disk.block_size;
            let moved = self.execute(disk.address, &Cdb::read(block, count), into.len() as u32, &[], wait)?;
            if moved as usize != into.len() {
                return Err(Failure::Short(moved).into());
            }
            self.result(into);
            block += u64::from(count);
        }
        Ok(())
    }

    /// Writes blocks.
    ///
    /// # Errors
    ///
    /// [`Error`]: some of the blocks may have been written.
    pub fn write(&mut self, disk: &Disk, block: u64, from: &[u8], wait: &mut impl Wait) -> Result<(), Error> {
        let part = self.part(disk, block, from.len())?;
        let mut block = block;
        for from in from.chunks(part) {
            let count = from.len() as u32 / disk.block_size;
            let command = Cdb::write(block, count, false);
            let moved = self.execute(disk.address, &command, from.len() as u32, from, wait)?;
            if moved as usize != from.len() {
                return Err(Failure::Short(moved).into());
            }
            block += u64::from(count);
        }
        Ok(())
    }

    /// Brings all that was written to stable storage.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn flush(&mut self, disk: &Disk, wait: &mut impl Wait) -> Result<(), Error> {
        self.execute(disk.address, &Cdb::flush(), 0, &[], wait).map(|_| ())
    }

    /// Tells the disk that blocks need not be kept.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn discard(
        &mut self,
        disk: &Disk,
        block: u64,
        count: u64,
        wait: &mut impl Wait,
    ) -> Result<(), Error> {
        let end = block.checked_add(count).filter(|end| *end <= disk.blocks).ok_or(Error::Range)?;
        let mut block = block;
        while block < end {
            let count = (end - block).min(disk.max_discard.into()) as u32;
            let extent = Extent { block, count };
            disk.check_discard(extent)?;
            let list = cdb::unmap_list(extent);
            let command = Cdb::unmap(list.len());
            self.execute(disk.address, &command, list.len() as u32, &list, wait)?;
            block += u64::from(count);
        }
        Ok(())
    }

    /// Resets the bus: each disk then reports it once, and the requests in flight are answered.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn reset(&mut self, wait: &mut impl Wait) -> Result<(), Error> {
        let mut packet = Packet::new_zeroed();
        packet.header.operation = Operation::RESET_BUS;
        packet.header.flags = FLAG_REQUEST_COMPLETION;
        // The answer's status is all that a reset has; Linux does not look at it.
        self.ask(&Aligned(packet), None, Direction::Both, wait).map(|_| ())
    }
}
