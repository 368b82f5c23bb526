//! Why a call failed: numbers, names and texts.
#![expect(unsafe_code, reason = "symbols of C")]

use core::ffi::{CStr, c_char, c_int};

use hv_drivers::{network, storage};
use hv_vmbus_client::Error;
use hv_vmbus_client::ring::SendError;

/// A pointer is null or not aligned, a callback is missing, or a value is out of its range.
pub const HV_E_ARGUMENT: c_int = -1;
/// The object or structure has another size than the library's: header and library are of different versions.
pub const HV_E_SIZE: c_int = -2;
/// The object is not open.
pub const HV_E_CLOSED: c_int = -3;
/// Another call uses the object now, it is open already, or devices of the bus are open.
pub const HV_E_IN_USE: c_int = -4;
/// `hv_guest_init` has not found Hyper-V.
pub const HV_E_NO_HYPERV: c_int = -5;
/// There is no connection to the host, or it has ended.
pub const HV_E_NOT_CONNECTED: c_int = -6;
/// The host speaks no version of the protocol that the library speaks.
pub const HV_E_NO_VERSION: c_int = -7;
/// The host refused the request: `hv_bus_status`.
pub const HV_E_REFUSED: c_int = -8;
/// The host's answer has a length or a value that it cannot have.
pub const HV_E_MALFORMED: c_int = -9;
/// The host offers no such device or channel, or the controller has no such disk.
pub const HV_E_NOT_FOUND: c_int = -10;
/// The host has removed the device, or the connection has ended: close the device.
pub const HV_E_GONE: c_int = -11;
/// All places for channels and GPADLs are taken.
pub const HV_E_NO_SLOT: c_int = -12;
/// The kernel gave no memory, or would not share it.
pub const HV_E_NO_MEMORY: c_int = -13;
/// The hypervisor took no message or signal: `hv_bus_status`.
pub const HV_E_POST: c_int = -14;
/// There is no room now, or the device is busy: poll, then try again.
pub const HV_E_AGAIN: c_int = -15;
/// The host has corrupted a ring: close the device.
pub const HV_E_DEAD: c_int = -16;
/// The host did not answer in time, or the kernel's `wait` ended the wait.
pub const HV_E_TIMED_OUT: c_int = -17;
/// The host's messages are for another VP than the calling one.
pub const HV_E_WRONG_VP: c_int = -18;
/// Blocks beyond the end of the disk, or bytes that are not a whole number of blocks.
pub const HV_E_RANGE: c_int = -19;
/// More bytes than one transfer or frame has.
pub const HV_E_TOO_LONG: c_int = -20;
/// The device cannot do this.
pub const HV_E_UNSUPPORTED: c_int = -21;
/// The host or the disk failed the command: `hv_bus_status`, or the completion.
pub const HV_E_IO: c_int = -22;

/// Name and text of each number, from 0 down.
const TEXTS: [(&CStr, &CStr); 23] = [
    (c"HV_OK", c"success"),
    (c"HV_E_ARGUMENT", c"null or misaligned pointer, missing callback, or a value out of range"),
    (c"HV_E_SIZE", c"header and library are of different versions; build both from one source"),
    (c"HV_E_CLOSED", c"object is not open; open it first"),
    (c"HV_E_IN_USE", c"object is in use by another call, is open, or has open devices"),
    (c"HV_E_NO_HYPERV", c"no Hyper-V found; call hv_guest_init first"),
    (c"HV_E_NOT_CONNECTED", c"no connection to the host; call hv_bus_connect"),
    (c"HV_E_NO_VERSION", c"host speaks no version of the protocol that this library speaks"),
    (c"HV_E_REFUSED", c"host refused the request; hv_bus_status has its number"),
    (c"HV_E_MALFORMED", c"malformed answer from the host"),
    (c"HV_E_NOT_FOUND", c"no such device, channel or disk"),
    (c"HV_E_GONE", c"device was removed or the connection has ended; close the device"),
    (c"HV_E_NO_SLOT", c"all places for channels and GPADLs are taken; close a device"),
    (c"HV_E_NO_MEMORY", c"kernel gave no memory, or would not share it"),
    (c"HV_E_POST", c"hypervisor took no message or signal; hv_bus_status has its status"),
    (c"HV_E_AGAIN", c"no room now, or the device is busy; poll, then try again"),
    (c"HV_E_DEAD", c"host corrupted a ring; close the device"),
    (c"HV_E_TIMED_OUT", c"host did not answer in time"),
    (c"HV_E_WRONG_VP", c"called on another VP than the one that connected"),
    (c"HV_E_RANGE", c"blocks beyond the end of the disk, or a part of a block"),
    (c"HV_E_TOO_LONG", c"more bytes than one transfer or frame has; split it"),
    (c"HV_E_UNSUPPORTED", c"device cannot do this"),
    (c"HV_E_IO", c"host or disk failed the command; hv_bus_status or the completion says why"),
];

fn find(error: c_int) -> (&'static CStr, &'static CStr) {
    let place = error.checked_neg().and_then(|place| usize::try_from(place).ok());
    place.and_then(|place| TEXTS.get(place)).copied().unwrap_or((c"HV_E_UNKNOWN", c"unknown error"))
}

/// Returns the name of an error, such as "HV_E_TIMED_OUT". Any context.
#[unsafe(no_mangle)]
pub extern "C" fn hv_error_name(error: c_int) -> *const c_char {
    find(error).0.as_ptr()
}

/// Returns what an error means, and what to do about it. Any context.
#[unsafe(no_mangle)]
pub extern "C" fn hv_strerror(error: c_int) -> *const c_char {
    find(error).1.as_ptr()
}

/// A number for C, and the host's own number behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) error: c_int,
    pub(super) status: u32,
}

impl From<c_int> for Code {
    fn from(error: c_int) -> Self {
        Self { error, status: 0 }
    }
}

impl From<Error> for Code {
    fn from(error: Error) -> Self {
        use hv_guest::connection::PostError;
        let (number, status) = match error {
            _ if error.may_retry() => (HV_E_AGAIN, 0),
            Error::Post(PostError::Hypervisor(error)) => (HV_E_POST, u32::from(error.status().0)),
            Error::Post(_) => (HV_E_POST, 0),
            Error::NotConnected => (HV_E_NOT_CONNECTED, 0),
            Error::NoVersion | Error::Version => (HV_E_NO_VERSION, 0),
            Error::Contact(state) => (HV_E_REFUSED, u32::from(state.0)),
            Error::Refused(status) => (HV_E_REFUSED, status.0),
            Error::UnknownChannel(_) => (HV_E_NOT_FOUND, 0),
            Error::Rescinded => (HV_E_GONE, 0),
            Error::InUse => (HV_E_IN_USE, 0),
            Error::NoSlot => (HV_E_NO_SLOT, 0),
            Error::Memory => (HV_E_NO_MEMORY, 0),
            Error::Pages(_) | Error::Send(SendError::TooLong) => (HV_E_TOO_LONG, 0),
            Error::Ring(_) | Error::Send(_) => (HV_E_DEAD, 0),
            Error::TimedOut => (HV_E_TIMED_OUT, 0),
            // Malformed answers, and what a later version of the client may add.
            _ => (HV_E_MALFORMED, 0),
        };
        Self { error: number, status }
    }
}

impl From<storage::Failure> for Code {
    fn from(failure: storage::Failure) -> Self {
        use storage::{Failure, Sense};
        let (error, status) = match failure {
            Failure::NoUnit => (HV_E_NOT_FOUND, 0),
            Failure::Busy => (HV_E_AGAIN, 0),
            Failure::Sense(Sense { key, code, qualifier }) => {
                (HV_E_IO, u32::from_be_bytes([0, key, code, qualifier]))
            }
            Failure::Host { srb, scsi } => (HV_E_IO, u32::from_be_bytes([0x80, 0, srb.0, scsi])),
            Failure::Short(_) => (HV_E_IO, 0),
            _ => (HV_E_MALFORMED, 0),
        };
        Self { error, status }
    }
}

impl From<storage::Error> for Code {
    fn from(error: storage::Error) -> Self {
        use storage::Error as E;
        match error {
            // All requests are in flight.
            E::Client(Error::InUse) | E::NotReady => HV_E_AGAIN.into(),
            E::Client(error) => error.into(),
            E::Failed(failure) => failure.into(),
            E::NoVersion => HV_E_NO_VERSION.into(),
            E::Initialization(status) => Self { error: HV_E_REFUSED, status: status.0 },
            E::Range => HV_E_RANGE.into(),
            E::TooLong(_) => HV_E_TOO_LONG.into(),
            _ => HV_E_UNSUPPORTED.into(),
        }
    }
}

impl From<network::Error> for Code {
    fn from(error: network::Error) -> Self {
        use network::Error as E;
        match error {
            E::Client(Error::InUse) | E::NotReady | E::Busy => HV_E_AGAIN.into(),
            E::Client(error) => error.into(),
            E::NoVersion => HV_E_NO_VERSION.into(),
            E::Refused(status) => Self { error: HV_E_REFUSED, status: status.0 },
            E::Rndis(status) => Self { error: HV_E_REFUSED, status: status.0 },
            E::Section(_) | E::Length(_) => HV_E_TOO_LONG.into(),
            _ => HV_E_MALFORMED.into(),
        }
    }
}
