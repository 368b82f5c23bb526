//! How the host answers a command.

use core::fmt;

use hv_tlfs::vmbus::storage::{AUTOSENSE_VALID, Operation, Packet, ScsiRequest, SrbStatus};
use zerocopy::FromBytes;

/// SCSI statuses (SAM-5, "Status codes").
const GOOD: u8 = 0;
const CHECK_CONDITION: u8 = 2;
const BUSY: u8 = 8;
const TASK_SET_FULL: u8 = 0x28;

/// Sense keys (SPC-4, "Sense key descriptions").
const NOT_READY: u8 = 2;
const UNIT_ATTENTION: u8 = 6;

/// What a device says of a command that failed.
///
/// Exhaustive on purpose: SCSI identifies an error by these three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub code: u8,
    /// Additional sense code qualifier.
    pub qualifier: u8,
}

/// Reason why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// There is no such logical unit.
    NoUnit,
    /// The device failed it.
    Sense(Sense),
    /// The device is busy: try again later.
    Busy,
    /// The host failed it: SRB status and SCSI status.
    Host {
        /// SRB status, without its flags.
        srb: SrbStatus,
        /// SCSI status.
        scsi: u8,
    },
    /// Fewer bytes were moved than asked for.
    Short(u32),
    /// The host's answer is none to a command, or claims more bytes than were asked for.
    Malformed,
}

impl Failure {
    /// Returns true if the device only told of an event (a reset, a change), and the command was not tried.
    #[must_use]
    pub fn is_attention(self) -> bool {
        matches!(self, Self::Sense(Sense { key: UNIT_ATTENTION, .. }))
    }

    /// Returns true if the same command may succeed later.
    #[must_use]
    pub fn may_retry(self) -> bool {
        let not_ready = matches!(self, Self::Sense(Sense { key: NOT_READY, code: 4, .. }));
        self.is_attention() || not_ready || self == Self::Busy
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUnit => f.write_str("no such logical unit"),
            Self::Sense(Sense { key, code, qualifier }) => {
                write!(f, "device failed the command: sense key {key:#x}, code {code:02x}/{qualifier:02x}")
            }
            Self::Busy => f.write_str("device is busy; try again later"),
            Self::Host { srb, scsi } => {
                write!(f, "host failed the command: SRB status {:#x}, SCSI status {scsi:#x}", srb.0)
            }
            Self::Short(bytes) => write!(f, "host moved {bytes} bytes, fewer than asked for"),
            Self::Malformed => f.write_str("malformed answer from the host"),
        }
    }
}

/// An answer, judged: bytes moved, or a failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply(Result<u32, Failure>);

impl Reply {
    /// Judges the first `len` bytes of a packet that completes a command.
    pub(super) fn judge(packet: &Packet, len: usize) -> Self {
        // Versions before 6.0 may leave out what follows the sense.
        const LEAST: usize = 12 + 36;
        if len < LEAST || packet.header.operation != Operation::COMPLETE_IO {
            return Self(Err(Failure::Malformed));
        }
        let Ok(request) = ScsiRequest::read_from_bytes(&packet.body) else {
            return Self(Err(Failure::Malformed));
        };
        let srb = SrbStatus(request.srb_status & 0x3f);
        Self(match (srb, request.scsi_status) {
            (SrbStatus::SUCCESS, GOOD) => Ok(request.transfer_length),
            (SrbStatus::INVALID_LUN, _) => Err(Failure::NoUnit),
            (_, CHECK_CONDITION) if request.srb_status & AUTOSENSE_VALID != 0 => Err(sense(&request)),
            (_, BUSY | TASK_SET_FULL) => Err(Failure::Busy),
            // Data overrun: the device had more or fewer than asked for, and the count says how many.
            (SrbStatus::DATA_OVERRUN, GOOD) => Ok(request.transfer_length),
            (srb, scsi) => Err(Failure::Host { srb, scsi }),
        })
    }

    /// Returns the bytes moved, if they are all that were asked for.
    pub(super) fn outcome(self, asked: u32) -> Result<u32, Failure> {
        match self.up_to(asked)? {
            moved if moved < asked => Err(Failure::Short(moved)),
            moved => Ok(moved),
        }
    }

    /// Returns the bytes moved, which may be fewer than asked for.
    pub(super) fn up_to(self, asked: u32) -> Result<u32, Failure> {
        self.0.and_then(|moved| if moved > asked { Err(Failure::Malformed) } else { Ok(moved) })
    }

    /// Returns true if the capacity, or what is there, has changed (Linux 6.12, `storvsc_handle_error`).
    pub(super) fn says_changed(self) -> bool {
        let Err(Failure::Sense(Sense { key: UNIT_ATTENTION, code, qualifier })) = self.0 else {
            return false;
        };
        matches!((code, qualifier), (0x2a, 0x09) | (0x3f, _))
    }
}

/// Reads sense of fixed format (SPC-4, "Fixed format sense data"), or of descriptor format.
fn sense(request: &ScsiRequest) -> Failure {
    let [format, first, key, code, ..] = request.cdb_or_sense;
    let sense = match format & 0x7f {
        0x72 | 0x73 => Sense { key: first & 15, code: key, qualifier: code },
        _ => Sense { key: key & 15, code: request.cdb_or_sense[12], qualifier: request.cdb_or_sense[13] },
    };
    Failure::Sense(sense)
}
