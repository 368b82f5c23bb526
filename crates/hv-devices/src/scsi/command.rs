//! Command descriptor blocks.

use super::dvd::Optical;
use super::sense::Sense;
use hv_tlfs::vmbus::scsi;

/// Maximum length of a command.
pub const CDB_LEN: usize = 16;

/// A command, with its fields checked on their own: not against a disk.
///
/// Sources: SPC-4, "Commands for all device types"; SBC-3, "Commands for direct access block devices".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// TEST UNIT READY.
    TestUnitReady,
    /// REQUEST SENSE.
    RequestSense {
        /// Size of the initiator's buffer.
        allocation: usize,
    },
    /// INQUIRY; `page`: a page of vital product data.
    Inquiry {
        /// Page code, if one is asked for.
        page: Option<u8>,
        /// Size of the initiator's buffer.
        allocation: usize,
    },
    /// MODE SENSE of 6 or 10 bytes.
    ModeSense {
        /// The header and addresses of the longer form.
        long: bool,
        /// Do not return a block descriptor.
        no_descriptor: bool,
        /// 0 current, 1 changeable, 2 default, 3 saved values.
        control: u8,
        /// Page code; 0x3f for all.
        page: u8,
        /// Subpage code; 0xff for all.
        subpage: u8,
        /// Size of the initiator's buffer.
        allocation: usize,
    },
    /// START STOP UNIT.
    StartStop {
        /// Start, or load.
        start: bool,
        /// The medium is to be loaded or ejected.
        load_eject: bool,
    },
    /// PREVENT ALLOW MEDIUM REMOVAL.
    PreventRemoval {
        /// The medium is to stay.
        prevent: bool,
    },
    /// What drives of optical media take.
    Optical(Optical),
    /// READ CAPACITY of 10 bytes.
    Capacity10,
    /// READ CAPACITY of 16 bytes.
    Capacity16 {
        /// Size of the initiator's buffer.
        allocation: usize,
    },
    /// READ of 6, 10, 12 or 16 bytes.
    Read {
        /// First logical block.
        block: u64,
        /// Number of blocks.
        count: u32,
    },
    /// WRITE of 6, 10, 12 or 16 bytes.
    Write {
        /// First logical block.
        block: u64,
        /// Number of blocks.
        count: u32,
        /// Force unit access: on stable storage before it is done.
        fua: bool,
    },
    /// VERIFY of 10 or 16 bytes without a comparison: the blocks are there.
    Verify {
        /// First logical block.
        block: u64,
        /// Number of blocks.
        count: u32,
    },
    /// SYNCHRONIZE CACHE of 10 or 16 bytes. The range is ignored: everything is written.
    Synchronize,
    /// UNMAP.
    Unmap {
        /// Bytes of parameters that follow as data.
        parameters: usize,
    },
    /// WRITE SAME of 10 or 16 bytes.
    WriteSame {
        /// First logical block.
        block: u64,
        /// Number of blocks; 0 for all up to the last one.
        count: u32,
        /// The blocks may be unmapped.
        unmap: bool,
    },
    /// REPORT LUNS.
    ReportLuns {
        /// Size of the initiator's buffer.
        allocation: usize,
    },
}

pub(super) fn be16(cdb: &[u8; CDB_LEN], at: usize) -> u32 {
    u32::from(cdb[at]) << 8 | u32::from(cdb[at + 1])
}

pub(super) fn be32(cdb: &[u8; CDB_LEN], at: usize) -> u32 {
    be16(cdb, at) << 16 | be16(cdb, at + 2)
}

fn be64(cdb: &[u8; CDB_LEN], at: usize) -> u64 {
    u64::from(be32(cdb, at)) << 32 | u64::from(be32(cdb, at + 4))
}

/// Bits of byte 1 of READ, WRITE and VERIFY.
const FUA: u8 = 1 << 3;
const PROTECT: u8 = 0b111 << 5;
/// VERIFY: compare with data.
const BYTE_CHECK: u8 = 0b11 << 1;
/// WRITE SAME: anchor, and unmap.
const ANCHOR: u8 = 1 << 4;
const UNMAP: u8 = 1 << 3;
/// WRITE SAME(16): the command has no data block.
const NO_DATA: u8 = 1 << 0;

impl Command {
    /// Parses a command.
    ///
    /// # Errors
    /// [`Sense::INVALID_OPCODE`] for a command that no disk here supports, [`Sense::INVALID_FIELD`] for a field that is
    /// invalid for any disk.
    pub fn read(cdb: &[u8; CDB_LEN]) -> Result<Self, Sense> {
        let extent10 = || (u64::from(be32(cdb, 2)), be16(cdb, 7));
        let extent12 = || (u64::from(be32(cdb, 2)), be32(cdb, 6));
        let extent16 = || (be64(cdb, 2), be32(cdb, 10));
        // A count of 0 is 256 blocks in the shortest form, and none in all others.
        let extent6 = || {
            let block = be32(cdb, 0) & 0x1f_ffff;
            (u64::from(block), if cdb[4] == 0 { 256 } else { u32::from(cdb[4]) })
        };
        Ok(match cdb[0] {
            scsi::OP_TEST_UNIT_READY => Self::TestUnitReady,
            scsi::OP_REQUEST_SENSE => Self::RequestSense { allocation: cdb[4].into() },
            scsi::OP_INQUIRY => Self::inquiry(cdb)?,
            scsi::OP_MODE_SENSE => Self::mode_sense(cdb, false, cdb[4].into()),
            scsi::OP_MODE_SENSE_10 => Self::mode_sense(cdb, true, be16(cdb, 7) as usize),
            scsi::OP_START_STOP => Self::StartStop { start: cdb[4] & 1 != 0, load_eject: cdb[4] & 2 != 0 },
            scsi::OP_ALLOW_MEDIUM_REMOVAL => Self::PreventRemoval { prevent: cdb[4] & 1 != 0 },
            scsi::OP_READ_TOC
            | scsi::OP_GET_CONFIGURATION
            | scsi::OP_GET_EVENT_STATUS
            | scsi::OP_READ_DISC_INFORMATION
            | scsi::OP_READ_TRACK_INFORMATION
            | scsi::OP_MECHANISM_STATUS => Self::Optical(Optical::read(cdb)),
            scsi::OP_READ_CAPACITY => Self::Capacity10,
            scsi::OP_SERVICE_ACTION_IN_16 if cdb[1] & 0x1f == 0x10 => {
                Self::Capacity16 { allocation: be32(cdb, 10) as usize }
            }
            scsi::OP_READ_6 => Self::transfer(extent6(), 0, false)?,
            scsi::OP_READ_10 => Self::transfer(extent10(), cdb[1], false)?,
            scsi::OP_READ_12 => Self::transfer(extent12(), cdb[1], false)?,
            scsi::OP_READ_16 => Self::transfer(extent16(), cdb[1], false)?,
            scsi::OP_WRITE_6 => Self::transfer(extent6(), 0, true)?,
            scsi::OP_WRITE_10 => Self::transfer(extent10(), cdb[1], true)?,
            scsi::OP_WRITE_12 => Self::transfer(extent12(), cdb[1], true)?,
            scsi::OP_WRITE_16 => Self::transfer(extent16(), cdb[1], true)?,
            scsi::OP_VERIFY => Self::verify(extent10(), cdb[1])?,
            scsi::OP_VERIFY_16 => Self::verify(extent16(), cdb[1])?,
            scsi::OP_SYNCHRONIZE_CACHE | scsi::OP_SYNCHRONIZE_CACHE_16 => Self::Synchronize,
            scsi::OP_UNMAP if cdb[1] & 1 != 0 => return Err(Sense::INVALID_FIELD),
            scsi::OP_UNMAP => Self::Unmap { parameters: be16(cdb, 7) as usize },
            scsi::OP_WRITE_SAME => Self::write_same(extent10(), cdb[1])?,
            scsi::OP_WRITE_SAME_16 if cdb[1] & NO_DATA != 0 => return Err(Sense::INVALID_FIELD),
            scsi::OP_WRITE_SAME_16 => Self::write_same(extent16(), cdb[1])?,
            scsi::OP_REPORT_LUNS => Self::ReportLuns { allocation: be32(cdb, 6) as usize },
            _ => return Err(Sense::INVALID_OPCODE),
        })
    }

    fn inquiry(cdb: &[u8; CDB_LEN]) -> Result<Self, Sense> {
        let page = (cdb[1] & 1 != 0).then_some(cdb[2]);
        // Without a page of vital product data the page code is 0; the bit above asked for command data and is
        // obsolete.
        if cdb[1] & 2 != 0 || page.is_none() && cdb[2] != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        Ok(Self::Inquiry { page, allocation: be16(cdb, 3) as usize })
    }

    fn mode_sense(cdb: &[u8; CDB_LEN], long: bool, allocation: usize) -> Self {
        Self::ModeSense {
            long,
            no_descriptor: cdb[1] & 1 << 3 != 0,
            control: cdb[2] >> 6,
            page: cdb[2] & 0x3f,
            subpage: cdb[3],
            allocation,
        }
    }

    fn transfer((block, count): (u64, u32), flags: u8, write: bool) -> Result<Self, Sense> {
        // The disk has no protection information.
        if flags & PROTECT != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        let fua = flags & FUA != 0;
        Ok(if write { Self::Write { block, count, fua } } else { Self::Read { block, count } })
    }

    fn verify((block, count): (u64, u32), flags: u8) -> Result<Self, Sense> {
        if flags & (PROTECT | BYTE_CHECK) != 0 {
            Err(Sense::INVALID_FIELD)
        } else {
            Ok(Self::Verify { block, count })
        }
    }

    fn write_same((block, count): (u64, u32), flags: u8) -> Result<Self, Sense> {
        if flags & (PROTECT | ANCHOR) != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        Ok(Self::WriteSame { block, count, unmap: flags & UNMAP != 0 })
    }
}
