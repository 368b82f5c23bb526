//! The machine, as the ports to the tool see it.

use core::fmt::{self, Write};

use hv_control::Outside;
use hv_tlfs::vmbus::ChannelOffer;
use hv_vmbus::DeviceId;

use crate::devices::{Machine, STATE};
use crate::host::FaultyEmbedder;
use crate::log::Log;
use crate::report;

/// What the ports ask of EL2 besides.
struct El2;

impl Outside for El2 {
    fn offered(&self, device: DeviceId, offer: &ChannelOffer) {
        report::offered(device.0.into(), offer);
    }

    fn log(&self, text: fmt::Arguments<'_>) {
        let _ = writeln!(Log, "{text}");
    }
}

/// Returns the machine, as seen from a CPU.
pub(crate) fn of<'h, 'c>(host: &'h FaultyEmbedder<'c>) -> Machine<'h, FaultyEmbedder<'c>> {
    let hypervisor = host.cpu.hypervisor;
    Machine {
        partition: &hypervisor.partition,
        host,
        info: &hypervisor.info,
        disks: hypervisor.disks.table(),
        state: &STATE,
        outside: &El2,
    }
}
