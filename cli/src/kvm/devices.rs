//! The devices on the guest's VMBus, and what the report has of them.

use hv_devices::Storage;
use hv_devices::scsi::Disk;
use hv_devices::storage::{self, CONTROLLERS, MAX_TRANSFER, SEGMENTS, note};
use hv_partition::{BusObserver, Host, HostBackend, Partition};
use hv_tlfs::vmbus::ChannelId;
use hv_vmbus::{DeviceSet as _, Event, Slot};
use hv_wire::{BootDisk, DEVICE_SLOTS, DiskFlags, MAX_CONTROLLERS, MAX_LUNS};
use parking_lot::RawMutex;
use zerocopy::IntoBytes as _;

use super::accounts::Accounts;

/// Requests of a controller in flight at a time: twice what a guest's queue commonly has.
const REQUESTS: usize = 64;
/// Page lists of the guest's buffers: one for the two rings of each channel.
const GPADLS: usize = 80;
/// Pages in all of them.
const WORDS: usize = 12288;

/// Channels of a controller: a guest opens one for each of its VPs, up to these.
const CHANNELS: usize = 8;

/// A SCSI controller.
type Controller = Slot<RawMutex, Storage<MAX_LUNS>, CHANNELS, REQUESTS, SEGMENTS>;

hv_vmbus::devices! {
    /// Every device that a guest may be offered.
    pub(super) struct Devices {
        pub(super) controllers: [Controller; MAX_CONTROLLERS] = [const { Slot::new(Storage::new()) }; MAX_CONTROLLERS],
    }
}

/// The bus with these devices.
pub(super) type Bus = hv_partition::Bus<RawMutex, Devices, GPADLS, WORDS>;

/// The guest's bus: too large for a stack.
pub(super) static BUS: Bus = Bus::with_devices(Some(hv_vmbus::Config::DEFAULT), Devices::new());

const _: () = assert!(CONTROLLERS.len() == MAX_CONTROLLERS && Devices::DEVICES <= DEVICE_SLOTS);

/// Offers the controllers with these disks, before the guest starts.
///
/// # Errors
/// Two disks are at one place.
pub(super) fn offer<H>(
    partition: &'static Partition<'static, RawMutex, Bus>,
    host: &'static H,
    (disks, accounts): (&[BootDisk], &Accounts),
) -> anyhow::Result<()>
where
    H: Host + BusObserver + HostBackend<storage::Request>,
{
    partition.with_vmbus(host, |vmbus| {
        for (at, slot) in BUS.devices().controllers.iter().enumerate() {
            let mut own = (0..).zip(disks).filter(|(_, disk)| usize::from(disk.controller) == at).peekable();
            if own.peek().is_none() {
                continue;
            }
            vmbus.with(slot, |controller, _| {
                own.try_for_each(|(number, disk)| controller.attach(0, disk.lun as u8, number, unit(disk)))
            })??;
            let offer = storage::offer_of(CONTROLLERS[at]);
            let (id, _) = vmbus.place(slot)?;
            vmbus.offer_device(id, &offer)?;
            accounts.device(id.0.into(), |device| {
                device.class.copy_from_slice(offer.interface.as_bytes());
                device.instance.copy_from_slice(offer.instance.as_bytes());
            });
        }
        Ok(())
    })
}

/// Returns a disk as the guest sees it.
fn unit(disk: &BootDisk) -> Disk {
    if disk.flags & DiskFlags::DVD != 0 {
        return Disk::dvd(disk.size, disk.id, MAX_TRANSFER);
    }
    let unit = Disk::new(disk.size, disk.id, MAX_TRANSFER);
    if disk.flags & DiskFlags::READ_ONLY != 0 { unit.read_only() } else { unit }
}

/// Counts what an event of the bus tells of a device.
pub(super) fn count(event: &Event, accounts: &Accounts) {
    let of = |channel: ChannelId| channel.0.saturating_sub(1) as usize / Controller::LINES;
    match *event {
        Event::Opened { channel, .. } => accounts.device(of(channel), |device| device.opened += 1),
        Event::RingCorrupt { channel, .. }
        | Event::Fault { channel }
        | Event::Device { channel, note: note::REFUSED, .. } => {
            accounts.device(of(channel), |device| device.errors += 1);
        }
        Event::Device { channel, note: note::READY, value } => {
            accounts.device(of(channel), |device| device.version = value as u32);
        }
        _ => {}
    }
}
