//! Connections that lead back to the guest, as the conformance suite describes them.

use hv_conformance::loopback as suite;
use hv_partition::{Port, PortTarget};
use hv_wire::{BootFlags, BootInfo};

/// All flags of a SINT.
const ALL_FLAGS: u16 = 2048;

/// Connections, each with its port. Of the ports' ids the suite knows one alone; they are those at EL2.
static PORTS: [Port; 8] = [
    Port::new(suite::MESSAGE, suite::MESSAGE_PORT, messages(Some(0), suite::MESSAGE_SINT)),
    Port::new(suite::MESSAGE_TO_VP1, 0x5a_0002, messages(Some(1), suite::MESSAGE_SINT)),
    Port::new(suite::MESSAGE_TO_ANY, 0x5a_0003, messages(None, suite::MESSAGE_SINT)),
    Port::new(suite::MESSAGE_SECOND, 0x5a_0004, messages(Some(0), suite::SECOND_SINT)),
    Port::new(suite::EVENT, 0x5a_0011, events(Some(0), suite::EVENT_BASE, suite::EVENT_COUNT)),
    Port::new(suite::EVENT_TO_VP1, 0x5a_0012, events(Some(1), 0, ALL_FLAGS)),
    Port::new(suite::EVENT_TO_ANY, 0x5a_0013, events(None, 0, ALL_FLAGS)),
    Port::new(suite::DELETED, 0x5a_0021, PortTarget::Deleted),
];

const fn messages(vp: Option<usize>, sint: u8) -> PortTarget {
    PortTarget::Message { vp, sint }
}

const fn events(vp: Option<usize>, base: u16, count: u16) -> PortTarget {
    PortTarget::Event { vp, sint: suite::EVENT_SINT, base, count }
}

/// Returns the partition's connections: none, unless the tool asks for these.
pub(super) fn ports(info: &BootInfo) -> &'static [Port] {
    if info.flags & BootFlags::LOOPBACK != 0 { &PORTS } else { &[] }
}
