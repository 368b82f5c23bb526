//! A disk: the answers it gives itself, and the work for its back end.

use super::Data;
use super::command::{CDB_LEN, Command};
use super::dvd::{self, Drive, Optical};
use super::inquiry;
use super::mode::{self, Wanted};
use super::parameters::{self, Extent, MAX_EXTENTS, UNMAP_LIST_LEN};
use super::sense::Sense;
use hv_memory::save::{Reader, RestoreError, Writer};

/// Bytes of a logical block of a disk, and of a DVD.
const BLOCK: u32 = 512;
const DVD_BLOCK: u32 = 2048;
/// Maximum size in bytes of an UNMAP extent or WRITE SAME: the work of a back end in one step.
const MAX_CLEAR: u32 = 32 << 20;

/// The unit attentions that a disk reports, in the order of their numbers in a saved state, from 1 on.
const ATTENTIONS: [Sense; 3] = [Sense::RESET, Sense::CAPACITY_CHANGED, Sense::MEDIUM_CHANGED];

/// Work of a back end for a command. Its tag is a word, so that the rest is copied by words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u64)]
pub enum Transfer {
    /// Copies from the disk to the command's data.
    Read {
        /// First byte on the disk.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Copies the command's data to the disk.
    Write {
        /// First byte on the disk.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Complete only when the data is on stable storage.
        durable: bool,
    },
    /// Brings all written data to stable storage.
    Flush,
    /// Writes the command's data, one block, repeatedly.
    Fill {
        /// First byte on the disk.
        offset: u64,
        /// Bytes, a multiple of the block.
        len: u64,
        /// Zeros may be written by deallocating the blocks.
        unmap: bool,
    },
    /// Makes several parts read as zeros, one after another, and deallocates them if possible.
    Discard {
        /// The parts, in blocks; empty ones are ignored.
        extents: [Extent; MAX_EXTENTS],
    },
}

/// A disk's answer to a command.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// Done, with no data.
    Good,
    /// Done, with data for the initiator.
    Data(Data),
    /// Failed.
    Check(Sense),
    /// Work for a back end.
    Transfer(Transfer),
}

/// A disk as seen by its initiator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes, a multiple of the block.
    size: u64,
    read_only: bool,
    unmaps: bool,
    /// Unique identifier, from which serial number and name are derived.
    id: [u8; 16],
    /// Maximum size of a transfer in bytes.
    max_transfer: u32,
    /// Bytes of a logical block.
    block: u32,
    /// The drive that it is in, if it is a DVD.
    drive: Option<Drive>,
    /// Unit attention to report at the next command other than INQUIRY, REPORT LUNS or REQUEST SENSE.
    attention: Option<Sense>,
}

impl Disk {
    /// Creates a disk of `size` bytes, rounded down to whole blocks. `id` distinguishes it from all others.
    /// `max_transfer`: maximum number of bytes in a command.
    #[must_use]
    pub const fn new(size: u64, id: [u8; 16], max_transfer: u32) -> Self {
        let size = size - size % BLOCK as u64;
        Self {
            size,
            read_only: false,
            unmaps: true,
            id,
            max_transfer,
            block: BLOCK,
            drive: None,
            attention: None,
        }
    }

    /// Makes a DVD in its drive. What is after the last whole block of 2048 bytes does not count.
    #[must_use]
    pub const fn dvd(size: u64, id: [u8; 16], max_transfer: u32) -> Self {
        let disk = Self::new(size - size % DVD_BLOCK as u64, id, max_transfer).read_only();
        Self { block: DVD_BLOCK, drive: Some(Drive::new()), ..disk }
    }

    /// Returns the drive that it is in, if it is a DVD.
    pub(super) const fn drive(&self) -> Option<&Drive> {
        self.drive.as_ref()
    }

    /// Makes the disk read-only.
    #[must_use]
    pub const fn read_only(mut self) -> Self {
        self.read_only = true;
        self.unmaps = false;
        self
    }

    pub(super) const fn drive_mut(&mut self) -> Option<&mut Drive> {
        self.drive.as_mut()
    }

    /// Changes the size. The initiator is notified with its next command.
    pub fn resize(&mut self, size: u64) {
        self.size = size - size % u64::from(self.block);
        self.attention = Some(Sense::CAPACITY_CHANGED);
    }

    /// Handles a reset by the initiator, which ends its prevention of medium removal (SPC-4, "PREVENT ALLOW MEDIUM
    /// REMOVAL command").
    pub fn reset(&mut self) {
        if let Some(drive) = &mut self.drive {
            drive.lock(false);
        }
        self.attention = Some(Sense::RESET);
    }

    /// Removes what the initiator left: the tray is closed and not locked, and there is nothing to report.
    pub(crate) fn renew(&mut self) {
        self.drive = self.drive.map(|_| Drive::new());
        self.attention = None;
    }

    /// Writes what commands have changed.
    pub(crate) fn save(&self, w: &mut Writer<'_>) {
        let attention = self.attention.and_then(|sense| ATTENTIONS.iter().position(|other| *other == sense));
        w.u8(attention.map_or(0, |at| at as u8 + 1));
        w.flag(self.drive.is_some());
        if let Some(drive) = &self.drive {
            drive.save(w);
        }
    }

    /// Restores what [`save`](Self::save) wrote, or claims to have written.
    ///
    /// # Errors
    /// It is not the state of such a disk.
    pub(crate) fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        const PART: &str = "disk of a SCSI controller";
        self.attention = match usize::from(r.u8()?).checked_sub(1) {
            None => None,
            Some(at) => Some(*ATTENTIONS.get(at).ok_or(RestoreError::Invalid(PART))?),
        };
        if r.flag(PART)? != self.drive.is_some() {
            return Err(RestoreError::Invalid(PART));
        }
        self.drive.as_mut().map_or(Ok(()), |drive| drive.restore(r))
    }

    /// Returns the size of a logical block in bytes.
    #[must_use]
    pub const fn block_size(&self) -> u32 {
        self.block
    }

    /// Returns the number of logical blocks.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.size / self.block as u64
    }

    /// Returns true if it is read-only.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(crate) const fn unmaps(&self) -> bool {
        self.unmaps
    }

    pub(crate) const fn id(&self) -> [u8; 16] {
        self.id
    }

    pub(crate) const fn max_transfer_blocks(&self) -> u32 {
        self.max_transfer / self.block
    }

    pub(crate) const fn max_clear_blocks(&self) -> u32 {
        MAX_CLEAR / self.block
    }

    /// Answers a command. `parameters` copies the command's parameter list, up to [`UNMAP_LIST_LEN`] bytes, and returns
    /// its length; it is called at most once.
    pub fn command(
        &mut self,
        cdb: &[u8; CDB_LEN],
        parameters: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Reply {
        let command = Command::read(cdb);
        let listens = matches!(
            command,
            Ok(Command::Inquiry { .. }
                | Command::ReportLuns { .. }
                | Command::RequestSense { .. }
                | Command::Optical(Optical::Configuration { .. } | Optical::EventStatus { .. }))
        );
        if !listens && let Some(sense) = self.attention.take() {
            return Reply::Check(sense);
        }
        match command {
            Ok(Command::Read { block, count }) => self.read(block, count),
            Ok(Command::Write { block, count, fua }) => self.write(block, count, fua),
            Ok(command) => self.other(command, parameters),
            Err(sense) => Reply::Check(sense),
        }
    }

    fn read(&self, block: u64, count: u32) -> Reply {
        match self.extent(block, count, self.max_transfer_blocks()) {
            Ok((_, 0)) => Reply::Good,
            Ok((offset, len)) => Reply::Transfer(Transfer::Read { offset, len }),
            Err(sense) => Reply::Check(sense),
        }
    }

    fn write(&self, block: u64, count: u32, fua: bool) -> Reply {
        let extent = self.writable().and_then(|()| self.extent(block, count, self.max_transfer_blocks()));
        match extent {
            Ok((_, 0)) => Reply::Good,
            Ok((offset, len)) => Reply::Transfer(Transfer::Write { offset, len, durable: fua }),
            Err(sense) => Reply::Check(sense),
        }
    }

    /// Answers a command that is not in the path of data. Never inlined there: the answer can be long.
    #[inline(never)]
    fn other(&mut self, command: Command, parameters: impl FnOnce(&mut [u8]) -> Option<usize>) -> Reply {
        match self.answer(command, parameters) {
            Ok(reply) => reply,
            Err(sense) => Reply::Check(sense),
        }
    }

    fn answer(
        &mut self,
        command: Command,
        parameters: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<Reply, Sense> {
        Ok(match command {
            Command::TestUnitReady => {
                self.loaded()?;
                Reply::Good
            }
            Command::StartStop { start, load_eject } => {
                if let Some(drive) = self.drive.as_mut().filter(|_| load_eject)
                    && drive.move_tray(start)?
                {
                    self.attention = Some(Sense::MEDIUM_CHANGED);
                }
                Reply::Good
            }
            Command::PreventRemoval { prevent } => {
                if let Some(drive) = &mut self.drive {
                    drive.lock(prevent);
                }
                Reply::Good
            }
            Command::Optical(command) => Reply::Data(dvd::answer(self, command)?),
            Command::RequestSense { allocation } => {
                let mut data = Data::new();
                data.push(&self.attention.take().unwrap_or(Sense::NONE).bytes());
                Reply::Data(data.cut(allocation))
            }
            Command::Inquiry { page: None, allocation } => {
                Reply::Data(inquiry::standard(self).cut(allocation))
            }
            Command::Inquiry { page: Some(code), allocation } => {
                Reply::Data(inquiry::page(self, code)?.cut(allocation))
            }
            Command::ModeSense { long, no_descriptor, control, page, subpage, allocation } => {
                let wanted = Wanted { long, no_descriptor, control, page, subpage };
                Reply::Data(mode::sense(self, wanted)?.cut(allocation))
            }
            Command::Capacity10 => {
                self.loaded()?;
                Reply::Data(self.capacity10())
            }
            Command::Capacity16 { allocation } => {
                self.loaded()?;
                Reply::Data(self.capacity16().cut(allocation))
            }
            // The list of a target's logical units is up to the controller.
            Command::ReportLuns { .. } => return Err(Sense::INVALID_OPCODE),
            Command::Read { block, count } => self.read(block, count),
            Command::Write { block, count, fua } => self.write(block, count, fua),
            Command::Verify { block, count } => {
                self.extent(block, count, u32::MAX)?;
                Reply::Good
            }
            Command::Synchronize => Reply::Transfer(Transfer::Flush),
            Command::Unmap { parameters: len } => self.unmap(len, parameters)?,
            Command::WriteSame { block, count, unmap } => self.write_same(block, count, unmap)?,
        })
    }

    /// Answers READ CAPACITY of 10 bytes: the last block, or all ones for a disk that needs the longer form.
    fn capacity10(&self) -> Data {
        let last = self.blocks().saturating_sub(1);
        let mut data = Data::new();
        data.push(&u32::try_from(last).unwrap_or(u32::MAX).to_be_bytes());
        data.push(&self.block.to_be_bytes());
        data
    }

    fn capacity16(&self) -> Data {
        const LBPME: u8 = 1 << 7;
        const LBPRZ: u8 = 1 << 6;
        /// A physical block of 4096 bytes is 2 to this power logical blocks.
        const PHYSICAL_OF_DISK: u8 = 3;
        let physical = if self.drive.is_some() { 0 } else { PHYSICAL_OF_DISK };
        let mut data = Data::new();
        data.push(&self.blocks().saturating_sub(1).to_be_bytes());
        data.push(&self.block.to_be_bytes());
        data.push(&[0, physical, if self.unmaps { LBPME | LBPRZ } else { 0 }]);
        data.pad(32);
        data
    }

    /// Checks that the medium is there.
    pub(super) fn loaded(&self) -> Result<(), Sense> {
        match self.drive {
            Some(drive) if drive.is_open() => Err(Sense::NO_MEDIUM),
            _ => Ok(()),
        }
    }

    fn writable(&self) -> Result<(), Sense> {
        if self.read_only { Err(Sense::WRITE_PROTECTED) } else { Ok(()) }
    }

    /// Returns the range in bytes of some blocks, if they are on the disk and at most `most`.
    fn extent(&self, block: u64, count: u32, most: u32) -> Result<(u64, u64), Sense> {
        self.loaded()?;
        let end = block.checked_add(count.into()).ok_or(Sense::OUT_OF_RANGE)?;
        if end > self.blocks() {
            return Err(Sense::OUT_OF_RANGE);
        }
        if count > most {
            return Err(Sense::INVALID_FIELD);
        }
        Ok((block * u64::from(self.block), u64::from(count) * u64::from(self.block)))
    }

    fn unmap(&self, len: usize, parameters: impl FnOnce(&mut [u8]) -> Option<usize>) -> Result<Reply, Sense> {
        self.writable()?;
        if !self.unmaps {
            return Err(Sense::INVALID_OPCODE);
        }
        if len == 0 {
            return Ok(Reply::Good);
        }
        if len > UNMAP_LIST_LEN {
            return Err(Sense::INVALID_FIELD);
        }
        let mut list = [0; UNMAP_LIST_LEN];
        let got = parameters(&mut list[..len]).ok_or(Sense::PARAMETER_LENGTH)?;
        let (extents, used) = parameters::unmap(&list[..got.min(len)])?;
        for extent in &extents[..used] {
            self.extent(extent.block, extent.count, self.max_clear_blocks())?;
        }
        Ok(if used == 0 { Reply::Good } else { Reply::Transfer(Transfer::Discard { extents }) })
    }

    fn write_same(&self, block: u64, count: u32, unmap: bool) -> Result<Reply, Sense> {
        self.writable()?;
        if unmap && !self.unmaps {
            return Err(Sense::INVALID_FIELD);
        }
        // A count of 0 means all blocks up to the last one, which exceeds the limit on all but small disks.
        let rest = self.blocks().saturating_sub(block);
        let count = if count == 0 { u32::try_from(rest).unwrap_or(u32::MAX) } else { count };
        let (offset, len) = self.extent(block, count, self.max_clear_blocks())?;
        Ok(match len {
            0 => return Err(Sense::OUT_OF_RANGE),
            len => Reply::Transfer(Transfer::Fill { offset, len, unmap }),
        })
    }
}

/// Returns the answer to INQUIRY of a logical unit that does not exist.
#[must_use]
pub(crate) fn absent_inquiry() -> Data {
    inquiry::absent()
}
