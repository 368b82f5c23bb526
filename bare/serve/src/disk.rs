//! The files of the first disk's first partition, which has a FAT (MBR).

use bus::{Os, Pool};
use embedded_sdmmc::{Mode, RawDirectory, RawFile, TimeSource, Timestamp, VolumeIdx, VolumeManager};
use hv_drivers::Wait;
use hv_drivers::hv_vmbus_client::Client;
use hv_drivers::storage::{Blocks, Controller};
use hv_guest::arch::Either;
use hv_tlfs::vmbus::guid;

/// The time of a file that is written: none is.
pub(crate) struct Never;

impl TimeSource for Never {
    fn get_timestamp(&self) -> Timestamp {
        Timestamp::from_fat(0, 0)
    }
}

/// The files of the root directory.
pub(crate) struct Files<W: Wait> {
    manager: VolumeManager<Blocks<'static, Pool, Either, (), 4, W>, Never, 1, { crate::web::CONNECTIONS }, 1>,
    root: RawDirectory,
}

/// Opens the first disk.
pub(crate) fn open<'o>(
    client: &mut Client<'static, Either>,
    os: &'o Os<'_, '_>,
) -> Files<impl Wait + use<'o>> {
    let offer = client.find(guid::SCSI).expect("there is a disk: boot with --disk");
    let channel = os.open(client, &offer, 16).expect("the channel opens");
    let (mut scsi, mut wait, mut first) = (Controller::new(channel, Pool), os.waiter(), None);
    scsi.wait_ready(&mut wait).expect("the controller works");
    scsi.disks(&mut wait, |disk| first = first.or(Some(disk))).expect("the controller works");
    let blocks = Blocks::new(scsi, first.expect("there is a disk: boot with --disk"), wait);
    let manager = VolumeManager::new_with_limits(blocks.expect("blocks of 512 bytes"), Never, 1);
    let volume = manager.open_raw_volume(VolumeIdx(0)).expect("the first partition has a FAT");
    let root = manager.open_root_dir(volume).expect("it has a root directory");
    Files { manager, root }
}

impl<W: Wait> Files<W> {
    /// Opens a file, and returns its length with it.
    pub(crate) fn find(&self, name: &str) -> Option<(RawFile, u32)> {
        let file = self.manager.open_long_name_file_in_dir(self.root, name, Mode::ReadOnly);
        let file = file.or_else(|_| self.manager.open_file_in_dir(self.root, name, Mode::ReadOnly)).ok()?;
        Some((file, self.manager.file_length(file).ok()?))
    }

    /// Reads on; returns 0 at the end, or if the disk fails.
    pub(crate) fn read(&self, file: RawFile, into: &mut [u8]) -> usize {
        self.manager.read(file, into).unwrap_or(0)
    }

    pub(crate) fn close(&self, file: RawFile) {
        let _ = self.manager.close_file(file);
    }
}
