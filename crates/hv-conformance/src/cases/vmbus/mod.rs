//! VMBus, which is not part of the TLFS: contact, offers, memory, channels, and what travels in their rings.
//!
//! The sources are what guests rely on (Linux, UEFI firmware) and what Microsoft's OpenVMM does as a host. Where hosts
//! may differ, as in answering a request that names nothing, a case accepts either.

pub(super) mod channels;
pub(super) mod contact;
pub(super) mod devices;
pub(super) mod gpadls;
pub(super) mod offers;
pub(super) mod packets;
pub(super) mod rescind;
pub(super) mod rings;
pub(super) mod signals;
pub(super) mod subchannels;
pub(super) mod unload;

use hv_tlfs::vmbus::{Guid, guid};

use crate::cx::{Channel, Cx};
use crate::outcome::Outcome;
use devices::storage::{begin, vstor};

/// Why a case about rings or packets is skipped: it needs a device that answers.
const NO_SCSI: &str = "the host offers no SCSI controller";

/// Runs something on the channel of the first device of a kind.
fn on_device(
    cx: &Cx<'_>,
    interface: Guid,
    absent: &'static str,
    work: impl FnOnce(&Channel<'_, '_, '_>) -> Outcome,
) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.find(interface, absent)?;
        let channel = bus.open(&offer)?;
        work(&channel)?;
        channel.end()
    })
}

/// Runs something on the channel of a SCSI controller: each packet of its that asks for it is completed, whatever it
/// says.
fn on_scsi(cx: &Cx<'_>, work: impl FnOnce(&Channel<'_, '_, '_>) -> Outcome) -> Outcome {
    on_device(cx, guid::SCSI, NO_SCSI, work)
}
