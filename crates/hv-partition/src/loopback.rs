//! Connections that lead back to the guest: what the conformance suite posts and signals to.
//!
//! The numbers are the suite's (the table in `hv-conformance`, module `loopback`), which has its own: a difference is a
//! case that fails.

use hv_host::{Port, PortTarget};

const MESSAGE_SINT: u8 = 5;
const EVENT_SINT: u8 = 6;
const SECOND_SINT: u8 = 7;
/// All flags of a SINT.
const ALL_FLAGS: u16 = 2048;

/// Returns the connections, each with its port. Two lead to VP 1.
#[must_use]
pub const fn ports() -> [Port; 8] {
    [
        Port::new(0x7e_0001, 0x5a_0001, messages(Some(0), MESSAGE_SINT)),
        Port::new(0x7e_0002, 0x5a_0002, messages(Some(1), MESSAGE_SINT)),
        Port::new(0x7e_0003, 0x5a_0003, messages(None, MESSAGE_SINT)),
        Port::new(0x7e_0004, 0x5a_0004, messages(Some(0), SECOND_SINT)),
        Port::new(0x7e_0011, 0x5a_0011, events(Some(0), 40, 8)),
        Port::new(0x7e_0012, 0x5a_0012, events(Some(1), 0, ALL_FLAGS)),
        Port::new(0x7e_0013, 0x5a_0013, events(None, 0, ALL_FLAGS)),
        Port::new(0x7e_0021, 0x5a_0021, PortTarget::Deleted),
    ]
}

const fn messages(vp: Option<usize>, sint: u8) -> PortTarget {
    PortTarget::Message { vp, sint }
}

const fn events(vp: Option<usize>, base: u16, count: u16) -> PortTarget {
    PortTarget::Event { vp, sint: EVENT_SINT, base, count }
}
