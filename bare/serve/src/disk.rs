//! The files of the first disk's first partition, which has a FAT (MBR).

use core::ops::ControlFlow;

use bus::{Os, Pool};
use embedded_sdmmc::{
    DirEntry, LfnBuffer, Mode, RawDirectory, ShortFileName, TimeSource, Timestamp, VolumeIdx, VolumeManager,
};
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
    manager: VolumeManager<Blocks<'static, Pool, Either, (), 4, W>, Never, 1, 1, 1>,
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
    /// Finds a file by its name, whatever the case of its letters. Returns its short name, and its length.
    pub(crate) fn find(&self, name: &str) -> Option<(ShortFileName, u32)> {
        let (mut storage, mut found) = ([0; 255 * 3], None);
        let short = ShortFileName::create_from_str(name).ok();
        let each = |entry: &DirEntry, long: Option<&str>| {
            let same = Some(entry.name) == short || long.is_some_and(|long| long.eq_ignore_ascii_case(name));
            if same && !entry.attributes.is_directory() && !entry.attributes.is_volume() {
                found = Some((entry.name, entry.size));
            }
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        self.manager.iterate_dir_lfn(self.root, &mut LfnBuffer::new(&mut storage), each).ok()?;
        found
    }

    /// Reads from an offset on; returns 0 at the end, or if the disk fails. The file is open no longer than that: the
    /// file system opens a file once, and several connections read it.
    pub(crate) fn read(&self, name: ShortFileName, at: u32, into: &mut [u8]) -> usize {
        let Ok(file) = self.manager.open_file_in_dir(self.root, name, Mode::ReadOnly) else { return 0 };
        let sought = self.manager.file_seek_from_start(file, at);
        let read = sought.and_then(|()| self.manager.read(file, into)).unwrap_or(0);
        let _ = self.manager.close_file(file);
        read
    }
}
