//! Ports: the targets of the guest's connections.
//!
//! Source: TLFS, "Inter-Partition Communication", "Ports".

use core::sync::atomic::{AtomicU32, Ordering};

/// Number of message buffers of a port.
pub const BUFFERS_PER_PORT: u32 = 16;

/// Maximum number of ports of a partition; connections of further ones do not exist.
pub const MAX_PORTS: u8 = 127;
/// Number of ports that can have all their buffers pending at one VP; further ports of the same VP share the rest.
pub const FULL_PORTS_PER_VP: u32 = 3;

/// A guest connection, bound to a port: the target of posted messages or signalled events.
///
/// A message port has [`BUFFERS_PER_PORT`] buffers for messages waiting for their slot. They are in the target VP,
/// which has room for all buffers of [`FULL_PORTS_PER_VP`] ports: with more ports to the same VP, one may find its
/// buffers taken by another's messages.
#[derive(Debug)]
pub struct Port {
    /// Connection id used by the guest.
    pub connection: u32,
    /// Port id, the sender in the message's header.
    pub id: u32,
    /// Target.
    pub target: PortTarget,
    /// Number of this port's buffers with undelivered messages.
    in_use: AtomicU32,
}

/// The target of a port. `vp` is `None` for a port that may choose any VP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortTarget {
    /// A message port.
    Message {
        /// Target VP.
        vp: Option<usize>,
        /// Target SINT.
        sint: u8,
    },
    /// An event port.
    Event {
        /// Target VP.
        vp: Option<usize>,
        /// Target SINT.
        sint: u8,
        /// First flag of the port.
        base: u16,
        /// Number of flags.
        count: u16,
    },
    /// The port was deleted; the connection remains but is invalid.
    Deleted,
}

impl Port {
    /// Creates the port of connection `connection`.
    #[must_use]
    pub const fn new(connection: u32, id: u32, target: PortTarget) -> Self {
        Self { connection, id, target, in_use: AtomicU32::new(0) }
    }

    pub(crate) fn take_buffer(&self) -> bool {
        let take = |n| (n < BUFFERS_PER_PORT).then_some(n + 1);
        self.in_use.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    pub(crate) fn return_buffer(&self) {
        self.in_use.fetch_sub(1, Ordering::AcqRel);
    }
}
