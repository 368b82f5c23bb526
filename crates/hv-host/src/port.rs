//! Ports: where the connections of the guest lead.
//!
//! Source: TLFS, "Inter-Partition Communication", "Ports".

use core::sync::atomic::{AtomicU32, Ordering};

/// Message buffers of a port.
pub const BUFFERS_PER_PORT: u32 = 16;

/// Ports of a partition at most; the connections of further ones do not exist.
pub const MAX_PORTS: u8 = 127;
/// Ports that can have all their buffers waiting at one VP; further ones that lead to the same VP share what is left.
pub const FULL_PORTS_PER_VP: u32 = 3;

/// A connection of the guest's, bound to a port: where posted messages or signalled events go.
///
/// A message port has [`BUFFERS_PER_PORT`] buffers for messages that wait for their slot. They lie in the target VP, which has
/// room for all buffers of [`FULL_PORTS_PER_VP`] ports: of more ports to the same VP, one may find another's messages in them.
#[derive(Debug)]
pub struct Port {
    /// Connection id that the guest names.
    pub connection: u32,
    /// Port id, the sender that stands in the message's header.
    pub id: u32,
    /// What it leads to.
    pub target: PortTarget,
    /// Buffers of this port that hold undelivered messages.
    in_use: AtomicU32,
}

/// What a port leads to. `vp` is `None` for a port that may choose any VP.
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
    /// The port was deleted; the connection remains and is of no use.
    Deleted,
}

impl Port {
    /// A port that connection `connection` leads to.
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
