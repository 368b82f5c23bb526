//! Names of SCSI: commands, statuses and sense keys.
//!
//! Source: SCSI SPC-4, SBC-3, SAM-5 and MMC-6.

/// Commands by their operation codes.
const COMMANDS: [(u8, &str); 39] = [
    (0x00, "TEST UNIT READY"),
    (0x03, "REQUEST SENSE"),
    (0x08, "READ(6)"),
    (0x0a, "WRITE(6)"),
    (0x12, "INQUIRY"),
    (0x15, "MODE SELECT(6)"),
    (0x1a, "MODE SENSE(6)"),
    (0x1b, "START STOP UNIT"),
    (0x1e, "PREVENT ALLOW"),
    (0x25, "READ CAPACITY(10)"),
    (0x28, "READ(10)"),
    (0x2a, "WRITE(10)"),
    (0x2f, "VERIFY(10)"),
    (0x35, "SYNCHRONIZE CACHE(10)"),
    (0x41, "WRITE SAME(10)"),
    (0x42, "UNMAP"),
    (0x43, "READ TOC"),
    (0x46, "GET CONFIGURATION"),
    (0x4a, "GET EVENT STATUS"),
    (0x51, "READ DISC INFORMATION"),
    (0x52, "READ TRACK INFORMATION"),
    (0x55, "MODE SELECT(10)"),
    (0x5a, "MODE SENSE(10)"),
    (0x5e, "PERSISTENT RESERVE IN"),
    (0x5f, "PERSISTENT RESERVE OUT"),
    (0x85, "ATA(16)"),
    (0x88, "READ(16)"),
    (0x8a, "WRITE(16)"),
    (0x8f, "VERIFY(16)"),
    (0x91, "SYNCHRONIZE CACHE(16)"),
    (0x93, "WRITE SAME(16)"),
    (0x9e, "SERVICE ACTION IN(16)"),
    (0xa0, "REPORT LUNS"),
    (0xa1, "ATA(12)"),
    (0xa3, "MAINTENANCE IN"),
    (0xa8, "READ(12)"),
    (0xaa, "WRITE(12)"),
    (0xad, "READ DISC STRUCTURE"),
    (0xbd, "MECHANISM STATUS"),
];
/// Statuses.
const STATUSES: [(u8, &str); 6] = [
    (0x00, "GOOD"),
    (0x02, "CHECK CONDITION"),
    (0x08, "BUSY"),
    (0x18, "RESERVATION CONFLICT"),
    (0x28, "TASK SET FULL"),
    (0x40, "TASK ABORTED"),
];
/// Sense keys.
const SENSE_KEYS: [(u8, &str); 11] = [
    (0x0, "NO SENSE"),
    (0x1, "RECOVERED ERROR"),
    (0x2, "NOT READY"),
    (0x3, "MEDIUM ERROR"),
    (0x4, "HARDWARE ERROR"),
    (0x5, "ILLEGAL REQUEST"),
    (0x6, "UNIT ATTENTION"),
    (0x7, "DATA PROTECT"),
    (0x8, "BLANK CHECK"),
    (0xb, "ABORTED COMMAND"),
    (0xe, "MISCOMPARE"),
];

fn name(table: &[(u8, &str)], number: u8) -> String {
    let known = table.iter().find(|(code, _)| *code == number);
    known.map_or_else(|| format!("{number:#04x}"), |(_, name)| (*name).to_owned())
}

/// Names a command.
pub(super) fn command(code: u8) -> String {
    name(&COMMANDS, code)
}

/// Names the status of a command.
pub(super) fn status(code: u8) -> String {
    name(&STATUSES, code)
}

/// Names the kind of a failure.
pub(super) fn sense_key(code: u8) -> String {
    name(&SENSE_KEYS, code)
}
