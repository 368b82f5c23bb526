//! SCSI, as storage devices use it: what the command and the answer of a [`ScsiRequest`](super::storage::ScsiRequest)
//! mean.
//!
//! The numbers are T10's, the names Linux's.

constants! {
    table COMMANDS, kind "scsi-command", from "SPC-4; SBC-3; Linux 6.12, include/scsi/scsi_proto.h";

    /// The unit is asked whether it is ready.
    pub const OP_TEST_UNIT_READY: u8 = 0x00, "TEST_UNIT_READY";
    /// Returns sense.
    pub const OP_REQUEST_SENSE: u8 = 0x03, "REQUEST_SENSE";
    /// Reads blocks; 6 bytes.
    pub const OP_READ_6: u8 = 0x08, "READ_6";
    /// Writes blocks; 6 bytes.
    pub const OP_WRITE_6: u8 = 0x0a, "WRITE_6";
    /// Returns the unit's identity, or a page of vital product data.
    pub const OP_INQUIRY: u8 = 0x12, "INQUIRY";
    /// Sets mode pages; 6 bytes.
    pub const OP_MODE_SELECT: u8 = 0x15, "MODE_SELECT";
    /// Returns mode pages; 6 bytes.
    pub const OP_MODE_SENSE: u8 = 0x1a, "MODE_SENSE";
    /// Starts or stops the unit, loads or ejects its medium.
    pub const OP_START_STOP: u8 = 0x1b, "START_STOP";
    /// Prevents or allows the removal of the medium.
    pub const OP_ALLOW_MEDIUM_REMOVAL: u8 = 0x1e, "ALLOW_MEDIUM_REMOVAL";
    /// Returns the last block's number and the size of a block; 10 bytes.
    pub const OP_READ_CAPACITY: u8 = 0x25, "READ_CAPACITY";
    /// Reads blocks; 10 bytes.
    pub const OP_READ_10: u8 = 0x28, "READ_10";
    /// Writes blocks; 10 bytes.
    pub const OP_WRITE_10: u8 = 0x2a, "WRITE_10";
    /// Checks that blocks can be read; 10 bytes.
    pub const OP_VERIFY: u8 = 0x2f, "VERIFY";
    /// Brings written blocks to the medium; 10 bytes.
    pub const OP_SYNCHRONIZE_CACHE: u8 = 0x35, "SYNCHRONIZE_CACHE";
    /// Writes a block repeatedly; 10 bytes.
    pub const OP_WRITE_SAME: u8 = 0x41, "WRITE_SAME";
    /// Deallocates blocks.
    pub const OP_UNMAP: u8 = 0x42, "UNMAP";
    /// Sets mode pages; 10 bytes.
    pub const OP_MODE_SELECT_10: u8 = 0x55, "MODE_SELECT_10";
    /// Returns mode pages; 10 bytes.
    pub const OP_MODE_SENSE_10: u8 = 0x5a, "MODE_SENSE_10";
    /// Returns persistent reservations.
    pub const OP_PERSISTENT_RESERVE_IN: u8 = 0x5e, "PERSISTENT_RESERVE_IN";
    /// Changes persistent reservations.
    pub const OP_PERSISTENT_RESERVE_OUT: u8 = 0x5f, "PERSISTENT_RESERVE_OUT";
    /// Passes an ATA command; 16 bytes.
    pub const OP_ATA_16: u8 = 0x85, "ATA_16";
    /// Reads blocks; 16 bytes.
    pub const OP_READ_16: u8 = 0x88, "READ_16";
    /// Writes blocks; 16 bytes.
    pub const OP_WRITE_16: u8 = 0x8a, "WRITE_16";
    /// Checks that blocks can be read; 16 bytes.
    pub const OP_VERIFY_16: u8 = 0x8f, "VERIFY_16";
    /// Brings written blocks to the medium; 16 bytes.
    pub const OP_SYNCHRONIZE_CACHE_16: u8 = 0x91, "SYNCHRONIZE_CACHE_16";
    /// Writes a block repeatedly; 16 bytes.
    pub const OP_WRITE_SAME_16: u8 = 0x93, "WRITE_SAME_16";
    /// A command that its service action tells: 0x10 is READ CAPACITY of 16 bytes.
    pub const OP_SERVICE_ACTION_IN_16: u8 = 0x9e, "SERVICE_ACTION_IN_16";
    /// Lists a target's logical units.
    pub const OP_REPORT_LUNS: u8 = 0xa0, "REPORT_LUNS";
    /// Passes an ATA command; 12 bytes.
    pub const OP_ATA_12: u8 = 0xa1, "ATA_12";
    /// A command that its service action tells, such as the list of supported commands.
    pub const OP_MAINTENANCE_IN: u8 = 0xa3, "MAINTENANCE_IN";
    /// Reads blocks; 12 bytes.
    pub const OP_READ_12: u8 = 0xa8, "READ_12";
    /// Writes blocks; 12 bytes.
    pub const OP_WRITE_12: u8 = 0xaa, "WRITE_12";
}

constants! {
    table OPTICAL_COMMANDS, kind "scsi-command", from "MMC-6; Linux 6.12, include/scsi/scsi_proto.h and include/uapi/linux/cdrom.h";

    /// Returns a disc's table of contents.
    pub const OP_READ_TOC: u8 = 0x43, "READ_TOC";
    /// Returns the features and profiles of a drive.
    pub const OP_GET_CONFIGURATION: u8 = 0x46, "GPCMD_GET_CONFIGURATION";
    /// Returns what has happened to a drive: a disc was inserted, its user has pressed the button.
    pub const OP_GET_EVENT_STATUS: u8 = 0x4a, "GPCMD_GET_EVENT_STATUS_NOTIFICATION";
    /// Returns the state of a disc.
    pub const OP_READ_DISC_INFORMATION: u8 = 0x51, "GPCMD_READ_DISC_INFO";
    /// Returns the state of a track.
    pub const OP_READ_TRACK_INFORMATION: u8 = 0x52, "GPCMD_READ_TRACK_RZONE_INFO";
    /// Returns what a DVD says of itself.
    pub const OP_READ_DISC_STRUCTURE: u8 = 0xad, "GPCMD_READ_DVD_STRUCTURE";
    /// Returns the state of a drive's changer.
    pub const OP_MECHANISM_STATUS: u8 = 0xbd, "GPCMD_MECHANISM_STATUS";
}

constants! {
    table STATUSES, kind "scsi-status", from "SAM-5, Status codes; Linux 6.12, include/scsi/scsi_proto.h";

    /// Done.
    pub const GOOD: u8 = 0x00, "SAM_STAT_GOOD";
    /// Failed, or there is something to report: sense has the reason.
    pub const CHECK_CONDITION: u8 = 0x02, "SAM_STAT_CHECK_CONDITION";
    /// The condition that the command asked for is met.
    pub const CONDITION_MET: u8 = 0x04, "SAM_STAT_CONDITION_MET";
    /// The unit has no room for the command now.
    pub const BUSY: u8 = 0x08, "SAM_STAT_BUSY";
    /// Another initiator has reserved the unit.
    pub const RESERVATION_CONFLICT: u8 = 0x18, "SAM_STAT_RESERVATION_CONFLICT";
    /// The unit's queue is full.
    pub const TASK_SET_FULL: u8 = 0x28, "SAM_STAT_TASK_SET_FULL";
    /// An earlier failure has to be acknowledged first.
    pub const ACA_ACTIVE: u8 = 0x30, "SAM_STAT_ACA_ACTIVE";
    /// Another initiator has ended the command.
    pub const TASK_ABORTED: u8 = 0x40, "SAM_STAT_TASK_ABORTED";
}

constants! {
    table SENSE_KEYS, kind "sense-key", from "SPC-4, Sense key and additional sense code definitions; Linux 6.12, include/scsi/scsi_proto.h";

    /// Nothing to report.
    pub const KEY_NO_SENSE: u8 = 0x0, "NO_SENSE";
    /// Done, with the help of a recovery.
    pub const KEY_RECOVERED_ERROR: u8 = 0x1, "RECOVERED_ERROR";
    /// The unit is not ready, or has no medium.
    pub const KEY_NOT_READY: u8 = 0x2, "NOT_READY";
    /// The medium cannot be read or written at some place.
    pub const KEY_MEDIUM_ERROR: u8 = 0x3, "MEDIUM_ERROR";
    /// The unit is broken.
    pub const KEY_HARDWARE_ERROR: u8 = 0x4, "HARDWARE_ERROR";
    /// The command or one of its fields is invalid.
    pub const KEY_ILLEGAL_REQUEST: u8 = 0x5, "ILLEGAL_REQUEST";
    /// Something has changed since the last command: a reset, a capacity, a medium.
    pub const KEY_UNIT_ATTENTION: u8 = 0x6, "UNIT_ATTENTION";
    /// The medium is protected.
    pub const KEY_DATA_PROTECT: u8 = 0x7, "DATA_PROTECT";
    /// Blank medium, or one that is not blank.
    pub const KEY_BLANK_CHECK: u8 = 0x8, "BLANK_CHECK";
    /// A copy between units has failed.
    pub const KEY_COPY_ABORTED: u8 = 0xa, "COPY_ABORTED";
    /// The unit has ended the command.
    pub const KEY_ABORTED_COMMAND: u8 = 0xb, "ABORTED_COMMAND";
    /// Data that was compared differs.
    pub const KEY_MISCOMPARE: u8 = 0xe, "MISCOMPARE";
}
