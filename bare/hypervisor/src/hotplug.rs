//! Disks that are added, removed and resized while the guest runs, devices that are taken away from it, and the link of
//! its network card, as the tool asks for it.

use core::sync::atomic::{AtomicU16, Ordering};

use hv_vmbus::BusError;
use hv_wire::control::{Refusal, Service, ToHypervisor};
use hv_wire::{BootDisk, DiskFlags, MAX_CONTROLLERS, MAX_DISKS, MAX_LUNS};

use crate::back_ends::{OwnVmbus, offer_controller, unit};
use crate::config;
use crate::devices::BUS;
use crate::host::FaultyEmbedder;
use crate::{network, services};

const PAGE: u64 = 4096;
const BLOCK: u64 = 512;
const DVD_BLOCK: u64 = 2048;

/// Number of the disk that was added last. Those of the start have smaller ones.
static LAST: AtomicU16 = AtomicU16::new(MAX_DISKS as u16 - 1);

/// Carries out a request.
///
/// # Errors
/// [`Refusal::Invalid`] for what no machine can do, [`Refusal::Busy`] for a place that has a disk, [`Refusal::Absent`]
/// for a disk or device that is not there, [`Refusal::Closed`] for a controller that was rescinded and that the guest
/// has not released, [`Refusal::Full`] for too many disks.
pub(crate) fn change(host: &FaultyEmbedder<'_>, request: &ToHypervisor<'_>) -> Result<(), Refusal> {
    if let ToHypervisor::Link { up } = *request {
        return if network::link(host, up) { Ok(()) } else { Err(Refusal::Absent) };
    }
    host.cpu.hypervisor.partition.with_vmbus(host, |vmbus| match *request {
        ToHypervisor::DiskAdd { base, size, identity, flags, controller, lun } => {
            let id = identity.try_into().map_err(|_| Refusal::Invalid)?;
            add(host, vmbus, &BootDisk { base, size, id, flags, controller, lun })
        }
        ToHypervisor::DiskRemove { controller, lun } => remove(host, vmbus, place(controller, lun)?),
        ToHypervisor::DiskResize { controller, lun, size } => {
            resize(host, vmbus, place(controller, lun)?, size)
        }
        ToHypervisor::Rescind { device } if usize::from(device) == NETWORK => leave(vmbus),
        ToHypervisor::Rescind { device } => rescind(vmbus, device.into()),
        _ => Err(Refusal::Unknown),
    })
}

/// Returns a controller and a logical unit of it.
fn place(controller: u16, lun: u16) -> Result<(usize, u8), Refusal> {
    let (controller, lun) = (usize::from(controller), usize::from(lun));
    if controller < MAX_CONTROLLERS && lun < MAX_LUNS {
        Ok((controller, lun as u8))
    } else {
        Err(Refusal::Invalid)
    }
}

fn add(host: &FaultyEmbedder<'_>, vmbus: &OwnVmbus<'_>, disk: &BootDisk) -> Result<(), Refusal> {
    let (info, disks) = (&host.cpu.hypervisor.info, &host.cpu.hypervisor.disks);
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
    let number = disks.free(LAST.load(Ordering::Relaxed)).ok_or(Refusal::Full)?;
    match offer_controller(vmbus, controller) {
        Ok(()) | Err(BusError::Offered) => {}
        Err(BusError::Leaving) => return Err(Refusal::Closed),
        Err(_) => return Err(Refusal::Absent),
    }
    let attached = vmbus.with(&BUS.devices().controllers[controller], |device, io| {
        device.attach(0, lun, number, unit(disk))?;
        disks.put(number, disk.base, disk.size);
        device.announce(io);
        Ok::<_, hv_devices::storage::AttachError>(())
    });
    match attached {
        Ok(Ok(())) => {}
        _ => return Err(Refusal::Busy),
    }
    LAST.store(number, Ordering::Relaxed);
    Ok(())
}

fn remove(
    host: &FaultyEmbedder<'_>,
    vmbus: &OwnVmbus<'_>,
    (controller, lun): (usize, u8),
) -> Result<(), Refusal> {
    let removed = vmbus.with(&BUS.devices().controllers[controller], |device, io| {
        let number = device.detach(0, lun)?;
        host.cpu.hypervisor.disks.remove(number);
        device.announce(io);
        Some(())
    });
    removed.ok().flatten().ok_or(Refusal::Absent)
}

fn resize(
    host: &FaultyEmbedder<'_>,
    vmbus: &OwnVmbus<'_>,
    (controller, lun): (usize, u8),
    size: u64,
) -> Result<(), Refusal> {
    let (info, disks) = (&host.cpu.hypervisor.info, &host.cpu.hypervisor.disks);
    let resized = vmbus.with(&BUS.devices().controllers[controller], |device, io| {
        let number = device.backend(0, lun).ok_or(Refusal::Absent)?;
        let base = disks.get(number).ok_or(Refusal::Absent)?.base();
        let end = base.checked_add(size).ok_or(Refusal::Invalid)?;
        let room = config::growth_end(info, base).unwrap_or(info.window_base + info.window_size);
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
    resized.unwrap_or(Err(Refusal::Absent))
}

/// Number of the network card in [`ToHypervisor::Rescind`], after the controllers and the services.
const NETWORK: usize = MAX_CONTROLLERS + Service::ALL.len();

/// Removes the network card, in the order in which Linux' driver survives it.
fn leave(vmbus: &OwnVmbus<'_>) -> Result<(), Refusal> {
    let slot = &BUS.devices().network;
    vmbus.place(slot).map_err(|_| Refusal::Absent)?;
    vmbus.with(slot, |card, io| card.leave(io)).map_err(|_| Refusal::Absent)
}

fn rescind(vmbus: &OwnVmbus<'_>, device: usize) -> Result<(), Refusal> {
    let (controllers, slots) = (&BUS.devices().controllers, &BUS.devices().services);
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
                services::taken_away(service);
            }
            Ok(())
        }
        _ => Err(Refusal::Absent),
    }
}
