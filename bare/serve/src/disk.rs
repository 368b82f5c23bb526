//! The files of the first disk's first partition, which has a FAT (MBR).

use bus::{Os, Pool};
use embedded_sdmmc::{Mode, RawDirectory, RawFile, TimeSource, Timestamp, VolumeIdx, VolumeManager};
use hv_drivers::Wait;
use hv_drivers::hv_vmbus_client::Client;
use hv_drivers::storage::{Blocks, Controller};
use hv_guest::arch::Either;
use hv_tlfs::vmbus::guid;

use crate::web::CONNECTIONS;

/// The time of a file that is written: none is.
pub(crate) struct Never;

impl TimeSource for Never {
    fn get_timestamp(&self) -> Timestamp {
        Timestamp::from_fat(0, 0)
    }
}

/// Bytes of a name at most.
const NAME: usize = 255;

/// A file that is being read, under the name by which it was found.
struct Open {
    file: RawFile,
    name: [u8; NAME],
    len: usize,
    readers: usize,
}

/// The files of the root directory. The file system opens a file once; connections that read the same one share it.
pub(crate) struct Files<W: Wait> {
    manager: VolumeManager<Blocks<'static, Pool, Either, (), 4, W>, Never, 1, CONNECTIONS, 1>,
    root: RawDirectory,
    open: [Option<Open>; CONNECTIONS],
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
    Files { manager, root, open: [const { None }; CONNECTIONS] }
}

impl<W: Wait> Files<W> {
    /// Opens a file, and returns its length with it.
    pub(crate) fn find(&mut self, name: &str) -> Option<(RawFile, u32)> {
        let same = |open: &&mut Open| open.name[..open.len].eq_ignore_ascii_case(name.as_bytes());
        let file = if let Some(open) = self.open.iter_mut().flatten().find(same) {
            open.readers += 1;
            open.file
        } else {
            let free = self.open.iter_mut().find(|open| open.is_none())?;
            let (mut copy, len) = ([0; NAME], name.len());
            copy.get_mut(..len)?.copy_from_slice(name.as_bytes());
            let file = self.manager.open_long_name_file_in_dir(self.root, name, Mode::ReadOnly);
            let file =
                file.or_else(|_| self.manager.open_file_in_dir(self.root, name, Mode::ReadOnly)).ok()?;
            *free = Some(Open { file, name: copy, len, readers: 1 });
            file
        };
        Some((file, self.manager.file_length(file).ok()?))
    }

    /// Reads from an offset on; returns 0 at the end, or if the disk fails.
    pub(crate) fn read(&self, file: RawFile, at: u32, into: &mut [u8]) -> usize {
        let found = self.manager.file_seek_from_start(file, at);
        found.and_then(|()| self.manager.read(file, into)).unwrap_or(0)
    }

    /// Ends one connection's use of a file.
    pub(crate) fn close(&mut self, file: RawFile) {
        let places = &mut self.open;
        let Some(place) =
            places.iter_mut().find(|place| place.as_ref().is_some_and(|open| open.file == file))
        else {
            return;
        };
        if let Some(open) = place {
            open.readers -= 1;
            if open.readers == 0 {
                let _ = self.manager.close_file(file);
                *place = None;
            }
        }
    }
}
