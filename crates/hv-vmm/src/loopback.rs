//! Connections that lead back to the guest: what the conformance suite posts and signals to.

use hv_partition::{Port, loopback};
use hv_wire::{BootFlags, BootInfo};

static PORTS: [Port; 8] = loopback::ports();

/// Returns the partition's connections: none, unless the tool asks for these.
pub(crate) fn ports(info: &BootInfo) -> &'static [Port] {
    if info.flags & BootFlags::LOOPBACK != 0 { &PORTS } else { &[] }
}
