//! The devices on the guest's VMBus: what there is room for, and what their events tell.

use hv_devices::network::note as card;
use hv_devices::sockets::note as socket_note;
use hv_devices::storage::{CONTROLLERS, SEGMENTS, note};
use hv_devices::{
    Balloon, Fcopy, Heartbeat, Keyboard, Kvp, Mouse, Network, Shutdown, Storage, TimeSync, Video, Vss,
    balloon, ic, network, video,
};
use hv_partition::RawMutex;
use hv_tlfs::time::{FileTime, ReferenceTime};
use hv_tlfs::vmbus::ChannelId;
use hv_vmbus::{Event, Slot};
use hv_wire::{DEVICE_SLOTS, MAX_CONTROLLERS, MAX_LUNS};

/// Connections of sockets, including those that the guest has not released yet: 256, and some that are being ended.
const STREAMS: usize = 288;
/// Bytes from the guest's sockets that the tool has not taken.
const OUTPUT: usize = 48 << 10;
/// Page lists of guests' buffers: one for the two rings of each channel, and those of the small devices.
pub const GPADLS: usize = 80 + STREAMS;
/// Pages in all of them: 65 words for each of a controller's channels, 257 for each of a network card's, 4354 for its
/// two buffers, which a guest may make longer, and for 256 sockets the 113 that Linux takes for one with 16K pages (107
/// with 4K pages).
pub const WORDS: usize = 12288 + 256 * 113;

/// Channels of a device that has several: a guest opens one for each of its VPs, up to these.
const CHANNELS: usize = 8;
/// Frames of a network card in flight at a time.
const FRAMES: usize = 16;

/// A SCSI controller with this many requests in flight at a time.
pub type Controller<R, const REQUESTS: usize> = Slot<R, Storage<MAX_LUNS>, CHANNELS, REQUESTS, SEGMENTS>;
/// A network card.
type Card<R> = Slot<R, Network, CHANNELS, FRAMES, { network::SEGMENTS }>;
/// The guest's sockets.
pub type Sockets = hv_devices::Sockets<STREAMS, OUTPUT>;

hv_vmbus::devices! {
    /// The integration services, the input devices, dynamic memory and video. New ones are all zeros.
    pub struct Services<R: RawMutex> {
        /// Shutdown and restart.
        pub shutdown: Slot<R, Shutdown> = Slot::new(Shutdown::new()),
        /// The time of day.
        pub time_sync: Slot<R, TimeSync> = Slot::new(TimeSync::new(FileTime(0))),
        /// The heartbeat.
        pub heartbeat: Slot<R, Heartbeat> = Slot::new(Heartbeat::every(ReferenceTime::ZERO)),
        /// Data exchange.
        pub kvp: Slot<R, Kvp> = Slot::new(Kvp::new()),
        /// Snapshots of the guest's volumes.
        pub vss: Slot<R, Vss> = Slot::new(Vss::new()),
        /// The keyboard.
        pub keyboard: Slot<R, Keyboard> = Slot::new(Keyboard::new()),
        /// The mouse.
        pub mouse: Slot<R, Mouse> = Slot::new(Mouse::new()),
        /// Copies of files to the guest.
        pub fcopy: Slot<R, Fcopy> = Slot::new(Fcopy::new()),
        /// Dynamic memory, with one request: what the guest gives up with one message.
        pub balloon: Slot<R, Balloon, 1, 1> = Slot::new(Balloon::new()),
        /// The screen.
        pub video: Slot<R, Video> = Slot::new(Video::new()),
    }
}

hv_vmbus::devices! {
    /// Every device that a guest may be offered. A new one is all zeros: nothing is offered before the embedder does.
    pub struct Devices<R: RawMutex, const REQUESTS: usize> {
        /// The SCSI controllers.
        pub controllers: [Controller<R, REQUESTS>; MAX_CONTROLLERS] =
            [const { Slot::new(Storage::new()) }; MAX_CONTROLLERS],
        /// The services.
        pub services: Services<R> = Services::new(),
        /// The guest's sockets.
        pub sockets: Slot<R, Sockets, STREAMS> = Slot::new(Sockets::new()),
        /// The network card.
        pub network: Card<R> = Slot::new(Network::new()),
    }
}

/// The bus with these devices.
pub type Bus<R, const REQUESTS: usize> = hv_partition::Bus<R, Devices<R, REQUESTS>, GPADLS, WORDS>;

const _: () = assert!(CONTROLLERS.len() == MAX_CONTROLLERS);

/// Number of services, each of which has one channel.
const SERVICES: usize = hv_wire::control::Service::ALL.len();
const _: () = assert!(MAX_CONTROLLERS + SERVICES + 2 <= DEVICE_SLOTS);

/// Returns the place on the bus of the device that a channel belongs to.
fn of_channel(channel: ChannelId) -> usize {
    let line = channel.0.saturating_sub(1) as usize;
    let Some(service) = line.checked_sub(CHANNELS * MAX_CONTROLLERS) else {
        return line / CHANNELS;
    };
    // After the services are the sockets, and the card.
    let device = match service.checked_sub(SERVICES) {
        None => service,
        Some(line) if line < STREAMS => SERVICES,
        Some(_) => SERVICES + 1,
    };
    MAX_CONTROLLERS + device
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
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
fn kind(device: usize) -> Kind {
    match device.checked_sub(MAX_CONTROLLERS) {
        None => Kind::Controller,
        Some(service) if service < SERVICES => Kind::Service,
        Some(SERVICES) => Kind::Sockets,
        Some(_) => Kind::Network,
    }
}

/// What an event of the bus tells of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The guest has opened a channel.
    Opened,
    /// The device and the guest have agreed on a version.
    Agreed(u32),
    /// The device has refused a command, or it failed; a packet meant nothing to it; a channel is not served any more
    /// because of what the guest has put into it.
    Failed,
    /// A service has an outcome for the control port.
    Outcome,
    /// The sockets have something for their port.
    Sockets,
    /// The network card has room for frames again.
    Room,
}

/// Returns what an event tells of a device, with the device's place on the bus. Locks are held.
#[must_use]
pub fn told(event: &Event) -> Option<(usize, Told)> {
    let (Event::Opened { channel, .. }
    | Event::RingCorrupt { channel, .. }
    | Event::Fault { channel }
    | Event::Device { channel, .. }) = *event
    else {
        return None;
    };
    let device = of_channel(channel);
    let told = match *event {
        Event::Opened { .. } => Told::Opened,
        // A version's major number is in the high half. Each kind of device numbers its notes on its own.
        Event::Device { note, value, .. } => match (kind(device), note) {
            (Kind::Sockets, socket_note::NEWS) => Told::Sockets,
            (Kind::Sockets, socket_note::FAILED | socket_note::REFUSED) => Told::Failed,
            (Kind::Controller, note::READY) => Told::Agreed(value as u32),
            (Kind::Service, ic::AGREED) | (Kind::Network, card::READY) => {
                Told::Agreed((value >> 8 & 0xff00 | value & 0xff) as u32)
            }
            (Kind::Controller, note::REFUSED)
            | (Kind::Network, card::REFUSED)
            | (Kind::Service, balloon::REFUSED | video::NO_PICTURE | ic::IGNORED) => Told::Failed,
            (Kind::Service, ic::READY) => Told::Outcome,
            (Kind::Network, card::ROOM) => Told::Room,
            _ => return None,
        },
        // A socket that ends so says it on its own.
        _ if kind(device) == Kind::Sockets => return None,
        _ => Told::Failed,
    };
    Some((device, told))
}

#[cfg(test)]
mod tests {
    use hv_vmbus::DeviceSet as _;

    use super::*;

    type Set = Devices<parking_lot::RawMutex, 16>;

    #[test]
    fn places_are_those_of_the_devices() {
        assert_eq!(Set::DEVICES, MAX_CONTROLLERS + SERVICES + 2);
        assert_eq!(Set::LINES, CHANNELS * MAX_CONTROLLERS + SERVICES + STREAMS + CHANNELS);
        let first =
            |device: usize| (0..=Set::LINES as u32).find(|at| of_channel(ChannelId(at + 1)) == device);
        let lines = [0, 8, 16, 24].into_iter().chain(32..32 + SERVICES as u32 + 1).chain([330]);
        for (device, line) in lines.enumerate() {
            assert_eq!(first(device), Some(line), "device {device}");
        }
        assert_eq!(kind(MAX_CONTROLLERS), Kind::Service);
        assert_eq!([kind(SERVICES + 4), kind(SERVICES + 5)], [Kind::Sockets, Kind::Network]);
    }

    #[test]
    fn a_note_is_read_by_its_device() {
        let note = |channel, note, value| told(&Event::Device { channel: ChannelId(channel), note, value });
        assert_eq!(note(1, note::READY, 0x0602), Some((0, Told::Agreed(0x602))));
        assert_eq!(note(33, ic::AGREED, 3 << 16 | 2), Some((4, Told::Agreed(0x302))));
        assert_eq!(note(33, ic::READY, 0), Some((4, Told::Outcome)));
        assert_eq!(note(50, socket_note::NEWS, 0), Some((14, Told::Sockets)));
        assert_eq!(note(331, card::ROOM, 0), Some((15, Told::Room)));
        assert_eq!(told(&Event::Fault { channel: ChannelId(50) }), None);
        assert_eq!(told(&Event::Fault { channel: ChannelId(331) }), Some((15, Told::Failed)));
        assert_eq!(told(&Event::Closed { channel: ChannelId(1) }), None);
    }
}
