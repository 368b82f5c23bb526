//! The messages between the tool and its agent, the program that runs one command in a guest for `hv exec`.
//!
//! They go over a Hyper-V socket, with the frames of the other ports. The agent connects to [`AGENT_PORT`] of the host
//! and says that it is ready; the tool names the command and has it started; then bytes go both ways until the command
//! has ended and the tool has everything. The tool sends at most [`AGENT_WINDOW`] bytes for the command's stdin that
//! the command has not taken, so the agent always reads, and a signal never waits behind queued bytes.

use super::message::{Body, Field, messages};
use super::{FrameHead, FrameWriter, MAX_BODY};

/// The host's port that the agent connects to: "hv" and 1.
pub const AGENT_PORT: u32 = 0x6876_0001;

/// Bytes for the command's stdin that the tool sends without credit.
pub const AGENT_WINDOW: u32 = 64 << 10;

/// The host's port of the first host folder that the guest gets, "hv" and 2; those of the others follow. What
/// goes over a connection to it are the requests of Linux's FUSE, and the replies, as they are: each begins with its
/// length (Linux, include/uapi/linux/fuse.h).
pub const SHARE_PORT: u32 = 0x6876_0002;

/// Maximum number of host folders in a guest.
pub const MAX_SHARES: usize = 8;

/// Bytes of a request of FUSE's at most.
pub const MAX_SHARE_REQUEST: usize = 64 << 10;

/// Bytes that one request of FUSE's reads at most.
pub const MAX_SHARE_READ: u32 = 128 << 10;

/// Steps of mounting a host folder, for [`FromAgent::NotShared`].
pub mod share_step {
    /// Making the folder to mount it on.
    pub const FOLDER: u8 = 1;
    /// Opening the kernel's FUSE: it has none.
    pub const FUSE: u8 = 2;
    /// Connecting to the tool.
    pub const CONNECTION: u8 = 3;
    /// Mounting it.
    pub const MOUNT: u8 = 4;
}

/// Bytes of entropy in a [`ToAgent::Renew`].
pub const AGENT_ENTROPY: usize = 64;

/// Bytes in one message at most: their number is before them.
pub const MAX_AGENT_DATA: usize = MAX_BODY - 16;

messages! {
    /// A message to the agent.
    ToAgent {
        /// A part of a word of the command; its words are sent one after another, before it is started.
        Word = 1 {
            /// The word ends with it.
            last: bool,
            /// The bytes, none of them zero.
            bytes: &'a [u8],
        }
        /// Start the command.
        Start = 2 {
            /// On a terminal of its own.
            terminal: bool,
            /// Rows of the terminal.
            rows: u16,
            /// Columns of the terminal.
            columns: u16,
            /// Words that are patterns of paths below a named folder are replaced with the guest's paths that match.
            glob: bool,
            /// Kind of the terminal: the variable TERM.
            kind: &'a [u8],
        }
        /// Bytes for its stdin.
        Input = 3 {
            /// The bytes, one at least.
            bytes: &'a [u8],
        }
        /// There are no more bytes for its stdin.
        InputEnd = 4 {}
        /// Send it a signal.
        Signal = 5 {
            /// By Linux's number.
            number: u32,
        }
        /// The terminal has another size.
        Resize = 6 {
            /// Rows.
            rows: u16,
            /// Columns.
            columns: u16,
        }
        /// Its stdout (1) or stderr (2) is no longer read.
        OutputEnd = 7 {
            /// Which.
            stream: u8,
        }
        /// The tool has everything: end.
        Bye = 8 {}
        /// Set the clock, and renew the kernel's random numbers: no clock of the machine tells the time, and the guest
        /// may have booted before, for another run. Before the start.
        Renew = 9 {
            /// The host's time, in seconds since the year 1970.
            seconds: u64,
            /// And nanoseconds.
            nanoseconds: u32,
            /// [`AGENT_ENTROPY`] secret random bytes.
            entropy: &'a [u8],
        }
        /// Mount a host folder. Before the start.
        Share = 10 {
            /// Which one: it is served at [`SHARE_PORT`] plus this.
            index: u32,
            /// The guest may change it.
            writable: bool,
            /// Where: an absolute path, without a zero. Folders on the way to it are made.
            path: &'a [u8],
        }
    }
}

messages! {
    /// A message from the agent.
    FromAgent {
        /// The first message: waiting for a command.
        Ready = 0x8001 {
            /// The agent's [`CONTROL_VERSION`](super::CONTROL_VERSION).
            version: u16,
        }
        /// Bytes of the command's.
        Output = 0x8002 {
            /// From stdout (1) or stderr (2).
            stream: u8,
            /// The bytes, one at least.
            bytes: &'a [u8],
        }
        /// The command has taken bytes of its stdin, or will take no more.
        Credit = 0x8003 {
            /// Their number.
            bytes: u32,
        }
        /// The command has exited, and everything of its output was sent.
        Exited = 0x8004 {
            /// Its status.
            status: u8,
        }
        /// A signal has ended the command.
        Killed = 0x8005 {
            /// By Linux's number.
            signal: u8,
        }
        /// The command was not started.
        NotStarted = 0x8006 {
            /// Linux's number of the error.
            error: u32,
        }
        /// A host folder was not mounted, and so the command was not started.
        NotShared = 0x8007 {
            /// Which one.
            index: u32,
            /// What could not be done: a number of [`share_step`].
            step: u8,
            /// Linux's number of the error.
            error: u32,
        }
    }
}
