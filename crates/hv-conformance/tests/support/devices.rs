//! The devices of the partition under test: one of each kind, with back ends in memory.

use std::sync::PoisonError;
use std::time::Duration;

use hv_devices::balloon::{self, Balloon, Discard};
use hv_devices::fcopy::{self, Fcopy};
use hv_devices::heartbeat::{self, Heartbeat};
use hv_devices::keyboard::{self, Keyboard};
use hv_devices::kvp::{self, Kvp};
use hv_devices::mouse::{self, Mouse};
use hv_devices::network::{self, Network};
use hv_devices::scsi::Disk;
use hv_devices::shutdown::{self, Shutdown};
use hv_devices::storage::{self, CONTROLLERS, Failure, MAX_TRANSFER, Piece, SEGMENTS, Storage};
use hv_devices::time_sync::{self, TimeSync};
use hv_devices::video::{self, Video};
use hv_devices::vss::{self, Vss};
use hv_partition::testing::Lock;
use hv_partition::{DeviceId, HostBackend, Pages, Started, Token};
use hv_tlfs::time::FileTime;
use hv_tlfs::vmbus::video::VRAM_BYTES;
use hv_vmbus::Slot;

use super::machine::SuiteHost;

/// The host's time at reference time 0: 2026-01-01.
const ORIGIN: FileTime = FileTime::from_unix(Duration::from_secs(1_767_225_600));
/// Address of the network card.
const MAC: [u8; 6] = [0x00, 0x15, 0x5d, 1, 2, 3];
/// Size of the disk in bytes.
pub(crate) const DISK: usize = 256 << 10;
/// Channels of a controller and of a card.
const CHANNELS: usize = 4;
/// Where the guest may place its video memory. The device reads none of it.
pub(crate) const VIDEO_WINDOW: u64 = 0x1000_0000;
const REQUESTS: usize = 16;

hv_vmbus::devices! {
    /// The devices.
    pub(crate) struct SuiteDevices {
        pub(crate) disks: Slot<Lock, Storage<4>, CHANNELS, REQUESTS, SEGMENTS>,
        pub(crate) shutdown: Slot<Lock, Shutdown>,
        pub(crate) time_sync: Slot<Lock, TimeSync>,
        pub(crate) heartbeat: Slot<Lock, Heartbeat>,
        pub(crate) kvp: Slot<Lock, Kvp>,
        pub(crate) vss: Slot<Lock, Vss>,
        pub(crate) fcopy: Slot<Lock, Fcopy>,
        pub(crate) keyboard: Slot<Lock, Keyboard>,
        pub(crate) mouse: Slot<Lock, Mouse>,
        pub(crate) video: Slot<Lock, Video>,
        pub(crate) balloon: Slot<Lock, Balloon, 1, 1>,
        pub(crate) network: Slot<Lock, Network, CHANNELS, REQUESTS, { network::SEGMENTS }>,
    }
}

/// The bus with these devices.
pub(crate) type SuiteBus = hv_partition::Bus<Lock, SuiteDevices, 32, 1024>;

/// Creates a bus that offers them all.
pub(crate) fn bus(config: Option<hv_vmbus::Config>) -> SuiteBus {
    let mut controller = Storage::new();
    let disk = Disk::new(DISK as u64, *b"conformance-disk", MAX_TRANSFER);
    controller.attach(0, 0, 0, disk).expect("the controller has room");
    let mut screen = Video::new();
    screen.set_window(VIDEO_WINDOW, VRAM_BYTES.into());
    let mut card = Network::new();
    card.set_mac(MAC);
    hv_partition::Bus::with_devices(
        config,
        SuiteDevices {
            disks: Slot::offering(controller, storage::offer_of(CONTROLLERS[0])),
            shutdown: Slot::offering(Shutdown::new(), shutdown::OFFER),
            time_sync: Slot::offering(TimeSync::new(ORIGIN), time_sync::OFFER),
            heartbeat: Slot::offering(Heartbeat::new(), heartbeat::OFFER),
            kvp: Slot::offering(Kvp::new(), kvp::OFFER),
            vss: Slot::offering(Vss::new(), vss::OFFER),
            fcopy: Slot::offering(Fcopy::new(), fcopy::OFFER),
            keyboard: Slot::offering(Keyboard::new(), keyboard::OFFER),
            mouse: Slot::offering(Mouse::new(), mouse::OFFER),
            video: Slot::offering(screen, video::OFFER),
            balloon: Slot::offering(Balloon::new(), balloon::OFFER),
            network: Slot::offering(card, network::offer_of(MAC)),
        },
    )
}

impl HostBackend<storage::Request> for SuiteHost {
    fn start(
        &self,
        _: DeviceId,
        _: Token,
        request: &storage::Request,
        data: Pages<'_>,
    ) -> Started<Result<(), Failure>> {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let done = match request.piece {
            Piece::Read { offset, len } => {
                let (from, len) = (offset as usize, len as usize);
                disk.get(from..from + len).is_some_and(|bytes| data.write(&self.memory, 0, bytes).is_ok())
            }
            Piece::Write { offset, len, .. } => {
                let (from, len) = (offset as usize, len as usize);
                disk.get_mut(from..from + len).is_some_and(|bytes| data.read(&self.memory, 0, bytes).is_ok())
            }
            Piece::Flush => true,
            _ => false,
        };
        Started::Done(if done { Ok(()) } else { Err(Failure::Target) })
    }
}

impl HostBackend<Discard> for SuiteHost {
    fn start(&self, _: DeviceId, _: Token, _: &Discard, _: Pages<'_>) -> Started<()> {
        Started::Done(())
    }
}

impl HostBackend<network::Request> for SuiteHost {
    fn start(
        &self,
        _: DeviceId,
        _: Token,
        _: &network::Request,
        _: Pages<'_>,
    ) -> Started<Result<(), network::Lost>> {
        Started::Done(Ok(()))
    }
}
