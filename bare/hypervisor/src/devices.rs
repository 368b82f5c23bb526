//! The devices on the guest's VMBus: what there is room for. `back_ends` offers them and serves their requests.

use hv_devices::storage::{CONTROLLERS, SEGMENTS};
use hv_devices::{Heartbeat, Kvp, Shutdown, Storage, TimeSync, Vss};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::ChannelId;
use hv_vmbus::{DeviceSet, Slot};
use hv_wire::platform::MAX_VPS;
use hv_wire::{MAX_CONTROLLERS, MAX_LUNS};

use crate::lock::Lock;

/// Requests of a controller in flight at a time. The back end completes each at once, except those that are carried out
/// piece by piece.
const REQUESTS: usize = 16;
/// Connections of sockets, including those that the guest has not released yet: 256, and some that are being ended.
const STREAMS: usize = 288;
/// Bytes from the guest's sockets that the tool has not taken.
const OUTPUT: usize = 48 << 10;
/// Page lists of guests' buffers: one for the two rings of each channel, and those of the small devices.
const GPADLS: usize = 64 + STREAMS;
/// Pages in all of them: 65 words for each of a controller's channels, and for 256 sockets the 113 that Linux takes for one with
/// 16K pages (107 with 4K pages).
const WORDS: usize = 4096 + 256 * 113;

/// A SCSI controller, with a channel for each VP.
type Controller = Slot<Lock, Storage<MAX_LUNS>, MAX_VPS, REQUESTS, SEGMENTS>;

hv_vmbus::devices! {
    /// The integration services. New ones are all zeros.
    pub(crate) struct Services {
        pub(crate) shutdown: Slot<Lock, Shutdown>,
        pub(crate) time_sync: Slot<Lock, TimeSync>,
        pub(crate) heartbeat: Slot<Lock, Heartbeat>,
        pub(crate) kvp: Slot<Lock, Kvp>,
        pub(crate) vss: Slot<Lock, Vss>,
    }
}

impl Services {
    pub(crate) const fn new() -> Self {
        Self {
            shutdown: Slot::new(Shutdown::new()),
            time_sync: Slot::new(TimeSync::new(0)),
            heartbeat: Slot::new(Heartbeat::every(ReferenceTime::ZERO)),
            kvp: Slot::new(Kvp::new()),
            vss: Slot::new(Vss::new()),
        }
    }
}

hv_vmbus::devices! {
    /// Every device that a guest may be offered. Their state is static: the cost of one more shows in the image's size.
    pub(crate) struct Devices {
        pub(crate) controllers: [Controller; MAX_CONTROLLERS],
        pub(crate) services: Services,
        pub(crate) sockets: Slot<Lock, Sockets, STREAMS>,
    }
}

/// The guest's sockets.
pub(crate) type Sockets = hv_devices::Sockets<STREAMS, OUTPUT>;

/// The bus with these devices.
pub(crate) type Bus = hv_partition::Bus<Lock, Devices, GPADLS, WORDS>;

/// The guest's bus. Nothing is offered on it before `back_ends` does. All zeros, so that it occupies no space in the image
/// (`hypervisor.ld`).
pub(crate) static BUS: Bus = Bus::with_devices(
    Some(hv_vmbus::Config::DEFAULT),
    Devices {
        controllers: [const { Slot::new(Storage::new()) }; MAX_CONTROLLERS],
        services: Services::new(),
        sockets: Slot::new(Sockets::new()),
    },
);

const _: () = assert!(CONTROLLERS.len() == MAX_CONTROLLERS);

/// Place on the bus of the device that a channel belongs to.
pub(crate) fn of_channel(channel: ChannelId) -> usize {
    let line = channel.0.saturating_sub(1) as usize;
    // A service has one channel, and all others are the sockets'.
    let service = line.checked_sub(<[Controller; MAX_CONTROLLERS]>::LINES);
    service.map_or(line / Controller::LINES, |service| MAX_CONTROLLERS + service.min(Services::DEVICES))
}

/// Returns true if the device at a place on the bus is the sockets'.
pub(crate) fn is_sockets(device: usize) -> bool {
    device == MAX_CONTROLLERS + Services::DEVICES
}

/// Returns true if the device at a place on the bus is a SCSI controller.
pub(crate) fn is_controller(device: usize) -> bool {
    device < MAX_CONTROLLERS
}
