//! Reason why a screen does not work.

use core::fmt;

/// Reason why a screen does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The channel failed.
    Client(hv_vmbus_client::Error),
    /// The host speaks none of the versions.
    NoVersion,
    /// The window has fewer bytes than the device's memory, or the device has none.
    Window {
        /// Bytes of the device's memory.
        device: u64,
    },
    /// The host has no memory at this guest physical address.
    Refused(u64),
    /// The host's answer is shorter than it says.
    Malformed,
    /// The screen is not initialized.
    NotReady,
    /// The screen cannot have this width and height.
    Size(u32, u32),
}

channel_error!(Error);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(f),
            Self::NoVersion => f.write_str("host speaks neither video version 3.5 nor 3.2"),
            Self::Window { device } => {
                write!(
                    f,
                    "video memory has {device} bytes, expected between 1 and the window's size; map more"
                )
            }
            Self::Refused(gpa) => write!(f, "host has no video memory at {gpa:#x}; name VMBus's window"),
            Self::Malformed => f.write_str("malformed answer from the host"),
            Self::NotReady => f.write_str("screen is not initialized; poll it first"),
            Self::Size(width, height) => {
                write!(f, "screen cannot have {width} by {height} pixels; choose one of its sizes")
            }
        }
    }
}
