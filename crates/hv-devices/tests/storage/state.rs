//! What commands leave in a disk: saved, restored, and gone after a reset.

use hv_devices::Storage;
use hv_devices::scsi::{CDB_LEN, Disk, Reply, Sense};
use hv_devices::storage::MAX_TRANSFER;
use hv_memory::save::{Reader, Writer};
use hv_vmbus::Device;

type Controller = Storage<4>;

const DISK: (u8, u8) = (0, 1);
const DVD: (u8, u8) = (2, 3);

const READY: [u8; 6] = [0; 6];
const PREVENT: [u8; 6] = [0x1e, 0, 0, 0, 1, 0];
const ALLOW: [u8; 6] = [0x1e, 0, 0, 0, 0, 0];
const EJECT: [u8; 6] = [0x1b, 0, 0, 0, 2, 0];
const EVENT: [u8; 10] = [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0];

fn controller() -> Controller {
    let mut controller = Storage::new();
    controller.attach(DISK.0, DISK.1, 0, Disk::new(1 << 20, [1; 16], MAX_TRANSFER)).unwrap();
    controller.attach(DVD.0, DVD.1, 1, Disk::dvd(1 << 20, [2; 16], MAX_TRANSFER)).unwrap();
    controller
}

/// Executes a command, and returns its data or its sense.
fn command(controller: &mut Controller, at: (u8, u8), cdb: &[u8]) -> Result<Vec<u8>, Sense> {
    let mut padded = [0; CDB_LEN];
    padded[..cdb.len()].copy_from_slice(cdb);
    match controller.disk_mut(at.0, at.1).unwrap().command(&padded, |_| None) {
        Reply::Good => Ok(Vec::new()),
        Reply::Data(data) => Ok(data.bytes().to_vec()),
        Reply::Check(sense) => Err(sense),
        other @ Reply::Transfer(_) => panic!("{other:?}"),
    }
}

fn save(controller: &Controller) -> Vec<u8> {
    let mut image = Vec::new();
    controller.save(&mut Writer::new(&mut |part| image.extend_from_slice(part)));
    image
}

/// Creates a controller whose disk has a reset to report, and whose drive is open and locked, with its event to report.
fn used() -> Controller {
    let mut used = controller();
    used.disk_mut(DISK.0, DISK.1).unwrap().reset();
    command(&mut used, DVD, &EJECT).unwrap();
    command(&mut used, DVD, &PREVENT).unwrap();
    used
}

#[test]
fn attention_tray_lock_and_event_are_saved() {
    let image = save(&used());
    let mut restored = controller();
    restored.restore(&mut Reader::new(&image)).unwrap();
    assert_eq!(save(&restored), image);
    assert_eq!(command(&mut restored, DISK, &READY), Err(Sense::RESET));
    assert_eq!(command(&mut restored, DVD, &EJECT), Err(Sense::REMOVAL_PREVENTED));
    assert_eq!(command(&mut restored, DVD, &READY), Err(Sense::NO_MEDIUM));
    assert_eq!(command(&mut restored, DVD, &EVENT).unwrap()[4..6], [3, 1], "removed, and open");
}

#[test]
fn a_reset_partition_finds_disks_as_they_were_at_first() {
    let mut used = used();
    used.reset();
    assert_eq!(save(&used), save(&controller()));
    assert_eq!(command(&mut used, DISK, &READY), Ok(Vec::new()));
    assert_eq!(command(&mut used, DVD, &READY), Ok(Vec::new()));
}

#[test]
fn a_reset_by_the_guest_ends_its_lock_of_the_tray() {
    let mut controller = controller();
    command(&mut controller, DVD, &PREVENT).unwrap();
    assert_eq!(command(&mut controller, DVD, &EJECT), Err(Sense::REMOVAL_PREVENTED));
    controller.disk_mut(DVD.0, DVD.1).unwrap().reset();
    assert_eq!(command(&mut controller, DVD, &READY), Err(Sense::RESET));
    assert_eq!(command(&mut controller, DVD, &EJECT), Ok(Vec::new()));
    command(&mut controller, DVD, &ALLOW).unwrap();
}

#[test]
fn the_state_of_other_disks_and_nonsense_are_refused() {
    let image = save(&used());
    let refused = |mut controller: Controller, image: &[u8]| {
        assert!(controller.restore(&mut Reader::new(image)).is_err(), "{image:?}");
    };
    refused(Storage::new(), &image);
    let mut elsewhere = Storage::new();
    elsewhere.attach(DISK.0, DISK.1, 0, Disk::new(1 << 20, [1; 16], MAX_TRANSFER)).unwrap();
    elsewhere.attach(DVD.0, DVD.1, 1, Disk::new(1 << 20, [2; 16], MAX_TRANSFER)).unwrap();
    refused(elsewhere, &image);
    (0..image.len()).for_each(|len| refused(controller(), &image[..len]));
    // Of the disk: attention, and whether it is in a drive. Of the DVD: open, locked, event.
    let end = image.len();
    for (at, value) in [(end - 11, 5), (end - 8, 4), (end - 7, 1), (end - 6, 9), (end - 5, 9)] {
        let mut wrong = image.clone();
        wrong[at] = value;
        refused(controller(), &wrong);
    }
    for (at, value) in [(end - 5, 4), (end - 4, 2), (end - 3, 2), (end - 2, 2), (end - 1, 1)] {
        let mut wrong = image.clone();
        wrong[at] = value;
        refused(controller(), &wrong);
    }
}
