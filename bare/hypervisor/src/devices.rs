//! The devices on the guest's VMBus: what there is room for. `back_ends` offers them and serves their requests.

use hv_devices::storage::{CONTROLLERS, SEGMENTS};
use hv_devices::{
    Balloon, Fcopy, Heartbeat, Keyboard, Kvp, Mouse, Network, Shutdown, Storage, TimeSync, Video, Vss,
    network,
};
use hv_tlfs::time::{FileTime, ReferenceTime};
use hv_tlfs::vmbus::ChannelId;
use hv_vmbus::{DeviceSet, Slot};
use hv_wire::{DEVICE_SLOTS, MAX_CONTROLLERS, MAX_LUNS};

use crate::lock::Lock;

/// Requests of a controller in flight at a time. The back end completes each at once, except those that are carried out
/// piece by piece.
const REQUESTS: usize = 16;
/// Connections of sockets, including those that the guest has not released yet: 256, and some that are being ended.
const STREAMS: usize = 288;
/// Bytes from the guest's sockets that the tool has not taken.
const OUTPUT: usize = 48 << 10;
/// Page lists of guests' buffers: one for the two rings of each channel, and those of the small devices.
const GPADLS: usize = 80 + STREAMS;
/// Pages in all of them: 65 words for each of a controller's channels, 257 for each of a network card's, 4354 for its
/// two buffers, which a guest may make longer, and for 256 sockets the 113 that Linux takes for one with 16K pages (107
/// with 4K pages).
const WORDS: usize = 12288 + 256 * 113;

/// Channels of a device that has several: a guest opens one for each of its VPs, up to these.
const CHANNELS: usize = 8;

/// A SCSI controller.
type Controller = Slot<Lock, Storage<MAX_LUNS>, CHANNELS, REQUESTS, SEGMENTS>;
/// A network card.
type Card = Slot<Lock, Network, CHANNELS, REQUESTS, { network::SEGMENTS }>;

hv_vmbus::devices! {
    /// The integration services, the input devices, dynamic memory and video. New ones are all zeros.
    pub(crate) struct Services {
        pub(crate) shutdown: Slot<Lock, Shutdown> = Slot::new(Shutdown::new()),
        pub(crate) time_sync: Slot<Lock, TimeSync> = Slot::new(TimeSync::new(FileTime(0))),
        pub(crate) heartbeat: Slot<Lock, Heartbeat> = Slot::new(Heartbeat::every(ReferenceTime::ZERO)),
        pub(crate) kvp: Slot<Lock, Kvp> = Slot::new(Kvp::new()),
        pub(crate) vss: Slot<Lock, Vss> = Slot::new(Vss::new()),
        pub(crate) keyboard: Slot<Lock, Keyboard> = Slot::new(Keyboard::new()),
        pub(crate) mouse: Slot<Lock, Mouse> = Slot::new(Mouse::new()),
        pub(crate) fcopy: Slot<Lock, Fcopy> = Slot::new(Fcopy::new()),
        /// With one request: what the guest gives up with one message.
        pub(crate) balloon: Slot<Lock, Balloon, 1, 1> = Slot::new(Balloon::new()),
        pub(crate) video: Slot<Lock, Video> = Slot::new(Video::new()),
    }
}

hv_vmbus::devices! {
    /// Every device that a guest may be offered. Their state is static: the cost of one more shows in the image's size.
    pub(crate) struct Devices {
        pub(crate) controllers: [Controller; MAX_CONTROLLERS] = [const { Slot::new(Storage::new()) }; MAX_CONTROLLERS],
        pub(crate) services: Services = Services::new(),
        pub(crate) sockets: Slot<Lock, Sockets, STREAMS> = Slot::new(Sockets::new()),
        pub(crate) network: Card = Slot::new(Network::new()),
    }
}

/// The guest's sockets.
pub(crate) type Sockets = hv_devices::Sockets<STREAMS, OUTPUT>;

/// The bus with these devices.
pub(crate) type Bus = hv_partition::Bus<Lock, Devices, GPADLS, WORDS>;

/// The guest's bus. Nothing is offered on it before `back_ends` does. All zeros, so that it occupies no space in the
/// image (`hypervisor.ld`).
pub(crate) static BUS: Bus = Bus::with_devices(Some(hv_vmbus::Config::DEFAULT), Devices::new());

const _: () = assert!(CONTROLLERS.len() == MAX_CONTROLLERS);
const _: () = assert!(Devices::DEVICES <= DEVICE_SLOTS);

/// Returns the place on the bus of the device that a channel belongs to.
pub(crate) fn of_channel(channel: ChannelId) -> usize {
    let line = channel.0.saturating_sub(1) as usize;
    let Some(service) = line.checked_sub(<[Controller; MAX_CONTROLLERS]>::LINES) else {
        return line / Controller::LINES;
    };
    // A service has one channel. After them are the sockets, and the card.
    let device = match service.checked_sub(Services::LINES) {
        None => service,
        Some(line) if line < STREAMS => Services::DEVICES,
        Some(_) => Services::DEVICES + 1,
    };
    MAX_CONTROLLERS + device
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A SCSI controller.
    Controller,
    /// An integration service, an input device, dynamic memory or video.
    Service,
    /// The guest's sockets.
    Sockets,
    /// The network card.
    Network,
}

/// Returns what the device at a place on the bus is.
pub(crate) fn kind(device: usize) -> Kind {
    match device.checked_sub(MAX_CONTROLLERS) {
        None => Kind::Controller,
        Some(service) if service < Services::DEVICES => Kind::Service,
        Some(Services::DEVICES) => Kind::Sockets,
        Some(_) => Kind::Network,
    }
}
