//! Disks that are added, removed and resized while the guest runs, devices that are taken away from it, and the link of
//! its network card, as the tool asks for it.

use core::sync::atomic::Ordering;

use hv_partition::RawMutex;
use hv_vmbus::BusError;
use hv_wire::control::{Refusal, Service, ToHypervisor};
use hv_wire::{BootDisk, DiskFlags, MAX_CONTROLLERS, MAX_LUNS};

use crate::disks::growth_end;
use crate::machine::{Machine, Serves};
use crate::offers::{OwnVmbus, unit};

const PAGE: u64 = 4096;
const BLOCK: u64 = 512;
const DVD_BLOCK: u64 = 2048;

/// Number of the network card in [`ToHypervisor::Rescind`], after the controllers and the services.
const NETWORK: usize = MAX_CONTROLLERS + Service::ALL.len();

/// Returns a controller and a logical unit of it.
fn place(controller: u16, lun: u16) -> Result<(usize, u8), Refusal> {
    let (controller, lun) = (usize::from(controller), usize::from(lun));
    if controller < MAX_CONTROLLERS && lun < MAX_LUNS {
        Ok((controller, lun as u8))
    } else {
        Err(Refusal::Invalid)
    }
}

impl<'h, R: RawMutex, H: Serves, const REQUESTS: usize> Machine<'h, R, H, REQUESTS> {
    /// Carries out a request.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for what no machine can do, [`Refusal::Busy`] for a place that has a disk,
    /// [`Refusal::Absent`] for a disk or device that is not there, [`Refusal::Closed`] for a controller that was
    /// rescinded and that the guest has not released, [`Refusal::Full`] for too many disks.
    pub(crate) fn change(&self, request: &ToHypervisor<'_>) -> Result<(), Refusal> {
        if let ToHypervisor::Link { up } = *request {
            return if self.set_link(up) { Ok(()) } else { Err(Refusal::Absent) };
        }
        self.partition.with_vmbus(self.host, |vmbus| match *request {
            ToHypervisor::DiskAdd { base, size, identity, flags, controller, lun } => {
                let id = identity.try_into().map_err(|_| Refusal::Invalid)?;
                self.add(vmbus, &BootDisk { base, size, id, flags, controller, lun })
            }
            ToHypervisor::DiskRemove { controller, lun } => self.remove(vmbus, place(controller, lun)?),
            ToHypervisor::DiskResize { controller, lun, size } => {
                self.resize(vmbus, place(controller, lun)?, size)
            }
            ToHypervisor::Rescind { device } if usize::from(device) == NETWORK => self.leave(vmbus),
            ToHypervisor::Rescind { device } => self.rescind(vmbus, device.into()),
            _ => Err(Refusal::Unknown),
        })
    }

    /// Takes the link of the guest's card up or down. Returns false if the guest has no card, or one that leaves.
    pub fn set_link(&self, up: bool) -> bool {
        let slot = &self.partition.devices().network;
        let set =
            self.partition.with_vmbus(self.host, |vmbus| vmbus.with(slot, |card, io| card.set_link(up, io)));
        set == Ok(true)
    }

    fn add(&self, vmbus: &OwnVmbus<'h, R, H, REQUESTS>, disk: &BootDisk) -> Result<(), Refusal> {
        let (info, disks, last) = (self.info, self.disks, &self.state.last_disk);
        let (controller, lun) = place(disk.controller, disk.lun)?;
        let block = if disk.flags & DiskFlags::DVD != 0 { DVD_BLOCK } else { BLOCK };
        let end = disk.base.checked_add(disk.size).ok_or(Refusal::Invalid)?;
        let lies_well = disk.base >= info.window_base
            && end <= info.window_base + info.window_size
            && disk.base.is_multiple_of(PAGE)
            && disk.size.is_multiple_of(block)
            && disk.size != 0
            && disks.others(None).all(|other| end <= other.start || other.end <= disk.base);
        if !lies_well {
            return Err(Refusal::Invalid);
        }
        let number = disks.free(last.load(Ordering::Relaxed)).ok_or(Refusal::Full)?;
        match self.offer_controller(vmbus, controller) {
            Ok(()) | Err(BusError::Offered) => {}
            Err(BusError::Leaving) => return Err(Refusal::Closed),
            Err(_) => return Err(Refusal::Absent),
        }
        let slot = &self.partition.devices().controllers[controller];
        let attached = vmbus.with(slot, |device, io| {
            device.attach(0, lun, number, unit(disk))?;
            disks.put(number, disk.base, disk.size);
            device.announce(io);
            Ok::<_, hv_devices::storage::AttachError>(())
        });
        match attached {
            Ok(Ok(())) => {}
            _ => return Err(Refusal::Busy),
        }
        last.store(number, Ordering::Relaxed);
        Ok(())
    }

    fn remove(
        &self,
        vmbus: &OwnVmbus<'h, R, H, REQUESTS>,
        (controller, lun): (usize, u8),
    ) -> Result<(), Refusal> {
        let slot = &self.partition.devices().controllers[controller];
        let removed = vmbus.with(slot, |device, io| {
            let number = device.detach(0, lun)?;
            self.disks.remove(number);
            device.announce(io);
            Some(())
        });
        removed.ok().flatten().ok_or(Refusal::Absent)?;
        self.outside.transfers_ended();
        Ok(())
    }

    fn resize(
        &self,
        vmbus: &OwnVmbus<'h, R, H, REQUESTS>,
        (controller, lun): (usize, u8),
        size: u64,
    ) -> Result<(), Refusal> {
        let (info, disks) = (self.info, self.disks);
        let slot = &self.partition.devices().controllers[controller];
        let resized = vmbus.with(slot, |device, io| {
            let number = device.backend(0, lun).ok_or(Refusal::Absent)?;
            let (base, _) = disks.get(number).ok_or(Refusal::Absent)?;
            let end = base.checked_add(size).ok_or(Refusal::Invalid)?;
            let room = growth_end(info, base).unwrap_or(info.window_base + info.window_size);
            let free = disks.others(Some(number)).all(|other| end <= other.start || other.end <= base);
            let disk = device.disk_mut(0, lun).ok_or(Refusal::Absent)?;
            if size == 0 || !size.is_multiple_of(disk.block_size().into()) || end > room || !free {
                return Err(Refusal::Invalid);
            }
            disk.resize(size);
            disks.put(number, base, size);
            device.announce(io);
            Ok(())
        });
        resized.unwrap_or(Err(Refusal::Absent))?;
        self.outside.transfers_ended();
        Ok(())
    }

    /// Removes the network card, in the order in which Linux' driver survives it.
    fn leave(&self, vmbus: &OwnVmbus<'h, R, H, REQUESTS>) -> Result<(), Refusal> {
        let slot = &self.partition.devices().network;
        let leaves = vmbus.with(slot, |card, io| card.leave(io));
        if leaves == Ok(true) { Ok(()) } else { Err(Refusal::Absent) }
    }

    fn rescind(&self, vmbus: &OwnVmbus<'h, R, H, REQUESTS>, device: usize) -> Result<(), Refusal> {
        let devices = self.partition.devices();
        let (controllers, slots) = (&devices.controllers, &devices.services);
        let number = device.checked_sub(MAX_CONTROLLERS);
        let service = number.and_then(|number| u8::try_from(number).ok()).and_then(Service::by_number);
        let channel = match number {
            None => vmbus.place(&controllers[device]),
            Some(_) => match service {
                Some(Service::Shutdown) => vmbus.place(&slots.shutdown),
                Some(Service::TimeSync) => vmbus.place(&slots.time_sync),
                Some(Service::Heartbeat) => vmbus.place(&slots.heartbeat),
                Some(Service::Kvp) => vmbus.place(&slots.kvp),
                Some(Service::Vss) => vmbus.place(&slots.vss),
                Some(Service::Keyboard) => vmbus.place(&slots.keyboard),
                Some(Service::Mouse) => vmbus.place(&slots.mouse),
                Some(Service::Fcopy) => vmbus.place(&slots.fcopy),
                Some(Service::Balloon) => vmbus.place(&slots.balloon),
                Some(Service::Video) => vmbus.place(&slots.video),
                None => return Err(Refusal::Invalid),
            },
        };
        match channel {
            Ok((_, channel)) if vmbus.rescind(channel) => {
                if let Some(service) = service {
                    self.state.taken_away.fetch_or(service.bit(), Ordering::Relaxed);
                }
                Ok(())
            }
            _ => Err(Refusal::Absent),
        }
    }
}
