//! What is offered before the guest starts.

use core::sync::atomic::AtomicU64;

use hv_devices::scsi::Disk;
use hv_devices::storage::{self, CONTROLLERS, MAX_TRANSFER};
use hv_devices::{
    Heartbeat, balloon, fcopy, heartbeat, keyboard, kvp, mouse, network, shutdown, time_sync, video, vss,
};
use hv_partition::{RawMutex, Vmbus};
use hv_tlfs::time::FileTime;
use hv_tlfs::vmbus::video::VRAM_BYTES;
use hv_tlfs::vmbus::{Guid, socket};
use hv_vmbus::BusError;
use hv_wire::control::Service;
use hv_wire::platform::{VIDEO_BYTES, VIDEO_WINDOW};
use hv_wire::{BootDisk, BootFlags, DiskFlags};

use crate::devices::Bus;
use crate::machine::{Machine, Serves};

/// Bytes of a page of dynamic memory.
const PAGE: u64 = 4096;

const _: () = assert!(VIDEO_BYTES == VRAM_BYTES as u64);

/// The host half of the guest's VMBus.
pub(crate) type OwnVmbus<'h, R, H, const REQUESTS: usize> = Vmbus<'h, R, H, Bus<R, REQUESTS>>;

impl<'h, R: RawMutex, H: Serves, const REQUESTS: usize> Machine<'h, R, H, REQUESTS> {
    /// Offers the devices that the tool asked for, before the guest starts. `record` is dynamic memory's: a bit for
    /// each page of guest RAM, if there is dynamic memory.
    ///
    /// # Panics
    /// If the boot information has two disks at one place, or something was offered before.
    pub fn offer(&self, record: &'static [AtomicU64]) {
        self.offer_disks();
        self.offer_services(record);
        self.offer_network();
    }

    fn offer_disks(&self) {
        let info = self.info;
        let disks = &info.disks[..info.disk_count as usize];
        self.partition.with_vmbus(self.host, |vmbus| {
            for (at, slot) in self.partition.devices().controllers.iter().enumerate() {
                let mut own =
                    (0..).zip(disks).filter(|(_, disk)| usize::from(disk.controller) == at).peekable();
                // A machine with a window for disks has its first controller from the start, so that the guest loads
                // the driver.
                if own.peek().is_none() && !(at == 0 && info.window_size != 0) {
                    continue;
                }
                let attached = vmbus.with(slot, |controller, _| {
                    own.try_for_each(|(number, disk)| {
                        controller.attach(0, disk.lun as u8, number, unit(disk))
                    })
                });
                // The embedder has validated the places, and the slot is this bus's.
                assert!(matches!(attached, Ok(Ok(()))), "a disk of controller {at} was not attached");
                if let Err(error) = self.offer_controller(vmbus, at) {
                    panic!("controller {at} was not offered: {error}");
                }
            }
        });
    }

    /// Offers a controller.
    pub(crate) fn offer_controller(
        &self,
        vmbus: &OwnVmbus<'h, R, H, REQUESTS>,
        at: usize,
    ) -> Result<(), BusError> {
        let offer = storage::offer_of(CONTROLLERS[at]);
        let (id, _) = vmbus.place(&self.partition.devices().controllers[at])?;
        vmbus.offer_device(id, &offer)?;
        self.outside.offered(id, &offer);
        Ok(())
    }

    fn offer_services(&self, record: &'static [AtomicU64]) {
        let info = self.info;
        let services = &self.partition.devices().services;
        let has = |service: Service| info.services & service.bit() != 0;
        self.partition.with_vmbus(self.host, |vmbus| {
            macro_rules! offer {
                ($service:ident, $slot:expr, $offer:expr, |$device:ident| $set_up:expr) => {
                    if has(Service::$service) {
                        let set_up = vmbus.with($slot, |$device, _| $set_up);
                        let offered = vmbus
                            .place($slot)
                            .and_then(|(id, _)| vmbus.offer_device(id, &$offer).map(|_| id));
                        match (set_up, offered) {
                            (Ok(()), Ok(id)) => self.outside.offered(id, &$offer),
                            _ => panic!("a service was not offered"),
                        }
                    }
                };
            }
            offer!(Shutdown, &services.shutdown, shutdown::OFFER, |_device| ());
            offer!(TimeSync, &services.time_sync, time_sync::OFFER, |device| device
                .set_origin(FileTime(info.host_time)));
            offer!(Heartbeat, &services.heartbeat, heartbeat::OFFER, |device| *device = Heartbeat::new());
            offer!(Kvp, &services.kvp, kvp::OFFER, |_device| ());
            offer!(Vss, &services.vss, vss::OFFER, |_device| ());
            offer!(Keyboard, &services.keyboard, keyboard::OFFER, |_device| ());
            offer!(Mouse, &services.mouse, mouse::OFFER, |_device| ());
            offer!(Fcopy, &services.fcopy, fcopy::OFFER, |_device| ());
            offer!(Balloon, &services.balloon, balloon::OFFER, |device| {
                device.set_record(record, info.ram_base / PAGE, info.ram_size / PAGE);
            });
            // The embedder has mapped the window.
            offer!(Video, &services.video, video::OFFER, |device| device
                .set_window(VIDEO_WINDOW, VIDEO_BYTES));
        });
    }

    fn offer_network(&self) {
        let info = self.info;
        if info.flags & BootFlags::NETWORK == 0 {
            return;
        }
        let [a, b, c, d, e, f, ..] = info.mac;
        let mac = [a, b, c, d, e, f];
        let (slot, offer) = (&self.partition.devices().network, network::offer_of(mac));
        self.partition.with_vmbus(self.host, |vmbus| {
            let set_up = vmbus.with(slot, |card, _| card.set_mac(mac));
            let place = vmbus.place(slot).and_then(|(id, _)| vmbus.offer_device(id, &offer).map(|_| id));
            match (set_up, place) {
                (Ok(()), Ok(id)) => self.outside.offered(id, &offer),
                _ => panic!("the network card was not offered"),
            }
        });
    }

    /// Has the guest's connections reach the tool, whose port there is, before the guest starts.
    pub fn serve_sockets(&self) {
        let slot = &self.partition.devices().sockets;
        let served = self.partition.with_vmbus(self.host, |vmbus| {
            let served = vmbus.with(slot, |device, _| device.serve());
            served.and_then(|()| vmbus.place(slot))
        });
        let Ok((device, _)) = served else { unreachable!("the slot is this bus's") };
        self.outside.offered(device, &hv_vmbus::offer(socket::VSOCK_TEMPLATE, Guid::ZERO));
    }
}

/// Returns a disk as the guest sees it.
pub(crate) fn unit(disk: &BootDisk) -> Disk {
    if disk.flags & DiskFlags::DVD != 0 {
        return Disk::dvd(disk.size, disk.id, MAX_TRANSFER);
    }
    let unit = Disk::new(disk.size, disk.id, MAX_TRANSFER);
    if disk.flags & DiskFlags::READ_ONLY != 0 { unit.read_only() } else { unit }
}
