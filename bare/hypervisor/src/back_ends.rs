//! The back ends of the devices on the guest's VMBus.

use hv_devices::balloon::Discard;
use hv_devices::scsi::Disk;
use hv_devices::storage::{self, CONTROLLERS, MAX_TRANSFER};
use hv_partition::faults::{Failing, Faults as _};
use hv_partition::{HostBackend, Vmbus, disk_failure};
use hv_vmbus::{BusError, DeviceId, Pages, Started, Token};
use hv_wire::{BootDisk, DiskFlags};

use crate::devices::{BUS, Bus};
use crate::faults::Planned;
use crate::host::{Embedder, FaultyEmbedder};
use crate::lock::Lock;
use crate::{balloon, disks, network, report, services};

/// Offers the devices that the tool asked for, before the guest starts.
pub(crate) fn offer(host: &FaultyEmbedder<'_>) {
    let info = &host.cpu.hypervisor.info;
    let partition = &host.cpu.hypervisor.partition;
    let disks = &info.disks[..info.disk_count as usize];
    partition.with_vmbus(host, |vmbus| {
        for (at, slot) in BUS.devices().controllers.iter().enumerate() {
            let mut own = (0..).zip(disks).filter(|(_, disk)| usize::from(disk.controller) == at).peekable();
            // A machine with a window for disks has its first controller from the start, so that the guest loads the
            // driver.
            if own.peek().is_none() && !(at == 0 && info.window_size != 0) {
                continue;
            }
            let attached = vmbus.with(slot, |controller, _| {
                own.try_for_each(|(number, disk)| controller.attach(0, disk.lun as u8, number, unit(disk)))
            });
            // `config::check` has validated the places, and the slot is this bus's.
            assert!(matches!(attached, Ok(Ok(()))), "a disk of controller {at} was not attached");
            if let Err(error) = offer_controller(vmbus, at) {
                panic!("controller {at} was not offered: {error}");
            }
        }
    });
    services::offer(host, &BUS.devices().services);
    network::offer(host);
}

/// The host half of the guest's VMBus, at EL2.
pub(crate) type OwnVmbus<'h> = Vmbus<'h, Lock, FaultyEmbedder<'h>, Bus>;

/// Offers a controller.
pub(crate) fn offer_controller(vmbus: &OwnVmbus<'_>, at: usize) -> Result<(), BusError> {
    let offer = storage::offer_of(CONTROLLERS[at]);
    let (id, _) = vmbus.place(&BUS.devices().controllers[at])?;
    vmbus.offer_device(id, &offer)?;
    report::offered(id.0.into(), &offer);
    Ok(())
}

/// Returns a disk as the guest sees it.
pub(crate) fn unit(disk: &BootDisk) -> Disk {
    if disk.flags & DiskFlags::DVD != 0 {
        return Disk::dvd(disk.size, disk.id, MAX_TRANSFER);
    }
    let unit = Disk::new(disk.size, disk.id, MAX_TRANSFER);
    if disk.flags & DiskFlags::READ_ONLY != 0 { unit.read_only() } else { unit }
}

impl<const OBSERVED: bool> HostBackend<storage::Request> for Embedder<'_, OBSERVED> {
    const FAILS: bool = true;

    fn fail(&self, _: &storage::Request, failing: Failing) -> Option<Result<(), storage::Failure>> {
        Some(Err(disk_failure(failing)))
    }

    fn start(
        &self,
        _: DeviceId,
        _: Token,
        request: &storage::Request,
        data: Pages<'_>,
    ) -> Started<Result<(), storage::Failure>> {
        let hypervisor = self.cpu.hypervisor;
        Started::Done(match hypervisor.disks.get(request.disk) {
            Some(disk) => disks::carry_out(&disk, &hypervisor.ram, &request.piece, data),
            None => Err(storage::Failure::Target),
        })
    }
}

impl<const OBSERVED: bool> HostBackend<Discard> for Embedder<'_, OBSERVED> {
    fn start(&self, _: DeviceId, token: Token, _: &Discard, _: Pages<'_>) -> Started<()> {
        balloon::start(token)
    }
}

impl<const OBSERVED: bool> HostBackend<hv_devices::network::Request> for Embedder<'_, OBSERVED> {
    fn start(
        &self,
        _: DeviceId,
        _: Token,
        request: &hv_devices::network::Request,
        data: Pages<'_>,
    ) -> Started<Result<(), hv_devices::network::Lost>> {
        let plan = Planned::<OBSERVED> { cpu: self.cpu };
        network::send(request, &self.cpu.hypervisor.ram, data, || plan.frame(true))
    }
}
