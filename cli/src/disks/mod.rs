//! The guest's disks: files that are mapped after its RAM (`--disk`, `--dvd`).

mod chosen;
mod convert;
mod image;
mod live;
mod option;
mod room;
mod saved;
mod window;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use hv_wire::{BootDisk, DiskFlags, MAX_DISKS};
use zerocopy::FromZeros as _;

use crate::interrupt;
use crate::machine::Backing;
pub(crate) use chosen::{ADDRESS_END, Chosen};
use chosen::{BLOCK, fits, left};
pub(crate) use image::copy_data;
use image::{Opened, PAGE};
pub(crate) use live::{Change, Denied, Live, Place, Unmade};
use live::{LiveDisk, Memory};
pub(crate) use option::{DiskOption, Mode, parse_place};
use room::Needs;
#[cfg(test)]
pub(crate) use saved::SavedBacking;
pub(crate) use saved::{SavedDisks, copy_whole};
use window::Window;

/// QEMU takes no other sizes of RAM than multiples of this.
const RAM_ALIGN: u64 = 8192;

/// The disks of a run.
#[derive(Debug)]
pub(crate) struct Disks {
    /// Those of the start.
    disks: Vec<Disk>,
    /// What is mapped for a resumed machine, which knows its disks.
    saved: Vec<Backing>,
    /// Memory for more, if there is any.
    window: Option<Backing>,
    window_base: u64,
    live: Arc<Live>,
    _undo: interrupt::Undo,
}

#[derive(Debug)]
struct Disk {
    path: PathBuf,
    /// `None` for a DVD.
    mode: Option<Mode>,
    boot: BootDisk,
    backing: Backing,
}

impl Chosen {
    /// Makes what is mapped, after all of it has been judged. `uuid` is the machine's.
    pub(crate) fn prepare(mut self, uuid: [u8; 16]) -> anyhow::Result<Disks> {
        let (mut next, room) = (self.base, self.room);
        let mut needs = Needs::default();
        for (opened, _, _) in &mut self.disks {
            opened.measure(left(next))?;
            opened.count(&mut needs)?;
            next = next.saturating_add(opened.mapped(room));
        }
        fits(room, next)?;
        needs.judge()?;
        let mut all: Vec<Disk> = Vec::new();
        let mut next = self.base;
        for (opened, dvd, place) in self.disks {
            let disk = Disk::prepare(opened, dvd, place, (next, uuid, room), all.len())?;
            next += disk.backing.size;
            all.push(disk);
        }
        let window = (room != 0).then(|| Window::new(next, room)).transpose()?;
        let backing = window.as_ref().map(|window| Backing {
            file: Arc::clone(&window.file),
            name: saved::WINDOW.into(),
            size: room,
            read_only: false,
            private: None,
        });
        let live = all.iter().map(Disk::live).collect::<BTreeMap<_, _>>();
        let live = Arc::new(Live::new(live, window, uuid));
        let trimmed = Arc::clone(&live);
        let undo = interrupt::on_second_signal(move || trimmed.trim_at_once());
        let saved = Vec::new();
        let disks = Disks { disks: all, saved, window: backing, window_base: next, live, _undo: undo };
        disks.lengthen()?;
        Ok(disks)
    }
}

impl Disks {
    /// Makes files as long as what QEMU maps of them; it maps no more than a file has. [`Live::trim`] reverts it.
    fn lengthen(&self) -> anyhow::Result<()> {
        for disk in self.disks.iter().filter(|disk| disk.mode == Some(Mode::ReadWrite)) {
            let file = &disk.backing.file;
            let meta = file.metadata()?;
            if meta.is_file() && meta.len() < disk.backing.size {
                file.set_len(disk.backing.size).with_context(|| {
                    format!("cannot make room for the disk {} to grow", disk.path.display())
                })?;
            }
        }
        Ok(())
    }

    /// Returns what changes while the machine runs.
    pub(crate) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Returns what the hypervisor is told of them: their number, themselves, base and size of the window.
    pub(crate) fn boot(&self) -> (u32, [BootDisk; MAX_DISKS], u64, u64) {
        let mut boot = [BootDisk::new_zeroed(); MAX_DISKS];
        for (place, disk) in boot.iter_mut().zip(&self.disks) {
            *place = disk.boot;
        }
        let size = self.window.as_ref().map_or(0, |window| window.size);
        (self.disks.len() as u32, boot, if size == 0 { 0 } else { self.window_base }, size)
    }

    /// Returns what QEMU maps, in this order.
    pub(crate) fn backings(&self) -> anyhow::Result<Vec<Backing>> {
        let disks = self.disks.iter().map(|disk| &disk.backing);
        let mut backings: Vec<Backing> =
            self.saved.iter().chain(disks).chain(&self.window).cloned().collect();
        let size: u64 = backings.iter().map(|backing| backing.size).sum();
        let rest = size.next_multiple_of(RAM_ALIGN) - size;
        if rest != 0 {
            let file = tempfile::tempfile().context("cannot make a file")?;
            file.set_len(rest)?;
            backings.push(Backing {
                file: Arc::new(file),
                name: "PADDING".into(),
                size: rest,
                read_only: false,
                private: None,
            });
        }
        Ok(backings)
    }

    /// Brings what the guest has written to the files' own storage, at the end of the run.
    pub(crate) fn sync(&self) -> Vec<anyhow::Error> {
        self.live.sync()
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        self.live.trim();
    }
}

impl Disk {
    fn prepare(
        opened: Opened,
        dvd: bool,
        (controller, lun): Place,
        (base, uuid, room): (u64, [u8; 16], u64),
        number: usize,
    ) -> anyhow::Result<Self> {
        let (path, mode) = (opened.path().to_owned(), opened.mode());
        let image = opened.prepare(room)?;
        let flags = [(mode == Mode::ReadOnly, DiskFlags::READ_ONLY), (dvd, DiskFlags::DVD)];
        let flags = flags.iter().filter(|(on, _)| *on).map(|(_, flag)| flag).sum();
        let id = identity(uuid, (controller, lun));
        let boot = BootDisk { base, size: image.size, id, flags, controller, lun };
        let backing = Backing {
            file: Arc::new(image.file),
            name: format!("DISK{number}"),
            size: image.region,
            read_only: mode == Mode::ReadOnly,
            private: None,
        };
        Ok(Self { path, mode: (!dvd).then_some(mode), boot, backing })
    }

    /// Returns it by its place, as it is at first.
    fn live(&self) -> (Place, LiveDisk) {
        let memory = Memory::File(Arc::clone(&self.backing.file), self.backing.size);
        let disk = LiveDisk { path: self.path.clone(), mode: self.mode, size: self.boot.size, memory };
        ((self.boot.controller, self.boot.lun), disk)
    }
}

/// Returns the identity of the disk at a place of a machine with this UUID, other than those at other places and in
/// other machines.
fn identity(mut uuid: [u8; 16], (controller, lun): Place) -> [u8; 16] {
    uuid[0] ^= controller as u8 + 1;
    uuid[1] ^= lun as u8;
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(text: &str) -> DiskOption {
        text.parse().unwrap()
    }

    #[test]
    fn disks_lie_one_behind_the_other_and_qemu_gets_a_size_that_it_takes() {
        let files: Vec<_> = [4096u64, 8192, 12288]
            .map(|size| {
                let file = tempfile::NamedTempFile::new().unwrap();
                file.as_file().set_len(size).unwrap();
                file
            })
            .into();
        let options: Vec<_> =
            files.iter().map(|file| option(&format!("{},rw", file.path().display()))).collect();
        let open = |options: &[DiskOption], base| Chosen::open(options, &[], base, 0);
        let disks = open(&options[..2], 1 << 30).unwrap().prepare([7; 16]).unwrap();
        let (count, boot, ..) = disks.boot();
        assert_eq!((count, boot[0].base, boot[1].base), (2, 1 << 30, (1 << 30) + 4096));
        assert_ne!(boot[0].id, boot[1].id);
        let sizes: Vec<_> = disks.backings().unwrap().iter().map(|backing| backing.size).collect();
        assert_eq!(sizes, [4096, 8192, 4096]);
        assert!(open(&options[2..], ADDRESS_END - 8192).is_err());
        // Each fits, but not after the other.
        drop(disks);
        assert!(
            open(&options[..2], ADDRESS_END - 8192).is_err()
                && open(&options[1..2], ADDRESS_END - 8192).is_ok()
        );

        let room = 4 << 20;
        let disks = Chosen::open(&options[..2], &[], 1 << 30, room).unwrap().prepare([7; 16]).unwrap();
        let (_, boot, base, size) = disks.boot();
        assert_eq!(boot[1].base, (1 << 30) + 4096 + room);
        assert_eq!((base, size), (boot[1].base + 8192 + room, room));
        let length = |file: &tempfile::NamedTempFile| file.as_file().metadata().unwrap().len();
        assert_eq!(length(&files[0]), 4096 + room, "QEMU maps no more than a file has");
        disks.live().trim();
        assert_eq!(length(&files[0]), 4096);
        drop(disks);
        assert_eq!((length(&files[0]), length(&files[1])), (4096, 8192));
        let error = Chosen::open(&options[2..], &[], ADDRESS_END - (1 << 20), room).unwrap_err();
        assert!(error.to_string().contains("39"), "{error}");
    }
}
