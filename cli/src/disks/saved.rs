//! The disks of a saved machine: what a snapshot says of them, and the disks of a machine that is resumed from it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hv_wire::{MAX_CONTROLLERS, MAX_DISKS, MAX_LUNS};
use serde::{Deserialize, Serialize};

use super::live::{Live, LiveDisk, Memory};
use super::option::Mode;
use super::window::Window;
use super::{ADDRESS_END, Disks, PAGE, image};
use crate::interrupt;
use crate::machine::{Backing, Own};

/// Name of the window's backing.
pub(super) const WINDOW: &str = "HOTPLUG";

/// What QEMU maps after the machine's RAM, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedBacking {
    name: String,
    /// Bytes, and those of the file.
    pub(crate) size: u64,
    read_only: bool,
}

/// A disk of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedDisk {
    controller: u16,
    lun: u16,
    path: PathBuf,
    /// `None` for a DVD.
    mode: Option<Mode>,
    size: u64,
    place: SavedPlace,
}

/// Location of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SavedPlace {
    /// In the backing of this number.
    Backing(usize),
    /// In the window, from this byte on.
    Window(u64),
}

/// The disks of a saved machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedDisks {
    pub(crate) backings: Vec<SavedBacking>,
    disks: Vec<SavedDisk>,
    /// Number of disks added so far.
    added: u8,
    /// Address of the window's first byte.
    window_base: u64,
    /// The machine's UUID, from which disks get their identities.
    uuid: uuid::Uuid,
}

impl SavedBacking {
    pub(crate) const fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(crate) fn of(backing: &Backing) -> Self {
        Self { name: backing.name.clone(), size: backing.size, read_only: backing.read_only }
    }
}

impl Live {
    /// Returns what a snapshot says of the disks, whose backings these are.
    ///
    /// # Errors
    /// Why they cannot be saved.
    pub(crate) fn saved(&self, backings: &[Backing]) -> Result<SavedDisks, String> {
        let state = self.state();
        let mut disks = Vec::new();
        for ((controller, lun), disk) in &state.disks {
            let name = disk.path.display();
            if disk.mode == Some(Mode::ReadWrite) {
                return Err(format!(
                    "its disk {name} is rw: others may change the file, and the snapshot would no longer fit it; start the \
                     machine with the disk as snapshot or ro"
                ));
            }
            let place = match &disk.memory {
                Memory::File(file, _) | Memory::Private(file) => {
                    let number = backings.iter().position(|backing| Arc::ptr_eq(&backing.file, file));
                    SavedPlace::Backing(number.ok_or_else(|| format!("the disk {name} is in no backing"))?)
                }
                Memory::Window(at) => SavedPlace::Window(*at),
            };
            let (path, mode, size) = (disk.path.clone(), disk.mode, disk.size);
            disks.push(SavedDisk { controller: *controller, lun: *lun, path, mode, size, place });
        }
        Ok(SavedDisks {
            backings: backings.iter().map(SavedBacking::of).collect(),
            disks,
            added: state.added,
            window_base: state.window.as_ref().map_or(0, |window| window.base),
            uuid: uuid::Uuid::from_bytes(self.uuid),
        })
    }
}

impl SavedDisks {
    /// Returns the disks of a resumed machine. `files`: one for each backing, as long as that. What the guest
    /// writes stays in QEMU's memory, except for the window, which is copied: the tool writes to it too.
    ///
    /// # Errors
    /// They are not disks of a machine, or the window cannot be copied.
    pub(crate) fn go_on(&self, files: Vec<File>) -> anyhow::Result<Disks> {
        ensure!(
            files.len() == self.backings.len() && self.disks.len() <= MAX_DISKS,
            "{} disks, and {} files for {} backings",
            self.disks.len(),
            files.len(),
            self.backings.len()
        );
        let mut total: u64 = 0;
        let (mut backings, mut window) = (Vec::new(), None);
        for (saved, file) in self.backings.iter().zip(files) {
            let SavedBacking { name, size, read_only } = saved;
            total = total.saturating_add(*size);
            ensure!(
                *size != 0 && size.is_multiple_of(PAGE) && total <= ADDRESS_END,
                "a backing has {size} bytes, and all have {total}: expected a multiple of {PAGE}, and up to {ADDRESS_END} for all"
            );
            let mut backing = Backing {
                file: Arc::new(file),
                name: name.clone(),
                size: *size,
                read_only: *read_only,
                private: (!read_only).then(Own::default),
            };
            if name == WINDOW {
                ensure!(window.is_none() && !read_only, "two windows for more disks, or one to read");
                let made = Window::new(self.window_base, *size)?;
                image::copy_data(&backing.file, (&made.file, 0), *size, |_| Ok(()))
                    .context("cannot copy the hot-plug room")?;
                (backing.file, backing.private) = (Arc::clone(&made.file), None);
                window = Some(made);
            }
            backings.push(backing);
        }
        let mut disks = BTreeMap::new();
        for disk in &self.disks {
            disk.judge()?;
            let memory = match disk.place {
                SavedPlace::Backing(number) => {
                    let backing = backings.get(number).filter(|backing| disk.size <= backing.size);
                    let backing = backing.with_context(|| format!("{disk:?} is in no backing"))?;
                    Memory::Private(Arc::clone(&backing.file))
                }
                SavedPlace::Window(at) => {
                    let window = window.as_mut().context("a disk in a window that is not there")?;
                    let taken = window.retake(at, disk.size.next_multiple_of(PAGE));
                    taken.map_err(anyhow::Error::msg)?;
                    Memory::Window(at)
                }
            };
            let live = LiveDisk { path: disk.path.clone(), mode: disk.mode, size: disk.size, memory };
            let twice = disks.insert((disk.controller, disk.lun), live).is_some();
            ensure!(!twice, "two disks at {}:{}", disk.controller, disk.lun);
        }
        let live = Live::new(disks, window, *self.uuid.as_bytes());
        live.set_added(self.added);
        Ok(Disks {
            disks: Vec::new(),
            saved: backings,
            window: None,
            window_base: 0,
            live: Arc::new(live),
            // Nothing of the user's is changed.
            _undo: interrupt::on_second_signal(|| {}),
        })
    }
}

impl SavedDisk {
    fn judge(&self) -> anyhow::Result<()> {
        let is_place = usize::from(self.controller) < MAX_CONTROLLERS && usize::from(self.lun) < MAX_LUNS;
        ensure!(
            is_place && self.size != 0 && self.size <= ADDRESS_END && self.mode != Some(Mode::ReadWrite),
            "{self:?} is not a disk of a saved machine"
        );
        Ok(())
    }
}

/// Copies a file of `size` bytes whole to an empty one: it shares the blocks where the file system can, and has holes
/// where the file has. Ends if `check` fails, which is called while bytes are copied.
pub(crate) fn copy_whole(
    from: &File,
    to: &File,
    size: u64,
    check: &dyn Fn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_err() {
        image::copy_data(from, (to, 0), size, |_| check()).context("cannot copy a disk")?;
    }
    to.set_len(size).context("cannot copy a disk")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::super::live::tests::{file_of, option};
    use super::super::live::{Denied, Unmade};
    use super::super::{Chosen, Place};
    use super::*;

    const ROOM: u64 = 4 << 20;

    /// A machine with a disk to write, one to read and one that was added.
    fn saved() -> (SavedDisks, Vec<Vec<u8>>) {
        let file = file_of(&[7; 8192]);
        let disks = [option(&file, ""), option(&file, ",ro")];
        let disks = Chosen::open(&disks, &[], 1 << 32, ROOM).unwrap().prepare([5; 16]).unwrap();
        disks.live().add(&option(&file_of(&[9; 4096]), ",at=1:2"), |_| Ok::<_, Unmade<()>>(())).unwrap();
        let backings = disks.backings().unwrap();
        let saved = disks.live().saved(&backings).unwrap();
        let text = serde_json::to_string(&saved).unwrap();
        assert_eq!(serde_json::from_str::<SavedDisks>(&text).unwrap(), saved);
        let contents = backings.iter().map(|backing| {
            let mut bytes = vec![0; backing.size as usize];
            backing.file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        });
        (saved, contents.collect())
    }

    fn files(contents: &[Vec<u8>]) -> Vec<File> {
        contents.iter().map(|bytes| file_of(bytes).into_file()).collect()
    }

    fn at(disks: &Disks, place: Place) -> (u64, Vec<u8>) {
        let live = disks.live();
        let state = live.state();
        let mut bytes = vec![0; 16];
        match &state.disks[&place].memory {
            Memory::File(file, _) | Memory::Private(file) => file.read_exact_at(&mut bytes, 0).unwrap(),
            Memory::Window(at) => {
                state.window.as_ref().unwrap().file.read_exact_at(&mut bytes, *at).unwrap();
            }
        }
        (state.disks[&place].size, bytes)
    }

    #[test]
    fn a_machine_that_goes_on_has_its_disks_with_pages_of_its_own() {
        let (saved, contents) = saved();
        let disks = saved.go_on(files(&contents)).unwrap();
        assert_eq!(at(&disks, (0, 0)), (8192, vec![7; 16]));
        assert_eq!(at(&disks, (0, 1)), (8192, vec![7; 16]));
        assert_eq!(at(&disks, (1, 2)), (4096, vec![9; 16]));
        let backings = disks.backings().unwrap();
        let sizes = |all: &[Backing]| all.iter().map(|backing| backing.size).sum::<u64>();
        assert_eq!(sizes(&backings), saved.backings.iter().map(|backing| backing.size).sum::<u64>());
        // The one to read and the window are not private.
        let private: Vec<_> = backings.iter().map(|backing| backing.private.is_some()).collect();
        assert_eq!(private[..3], [true, false, false], "{:?}", saved.backings);
        // The place of an added one is taken, and another finds room after it.
        let live = disks.live();
        let small = file_of(&[1; 4096]);
        let (place, _) = live.add(&option(&small, ""), |_| Ok::<_, Unmade<()>>(())).unwrap();
        assert_eq!((at(&disks, place).1, at(&disks, (1, 2)).1), (vec![1; 16], vec![9; 16]));
        let refused = live.resize((0, 0), 4096, |_| Ok::<_, Unmade<()>>(()));
        assert!(matches!(refused, Err(Denied::Invalid(why)) if why.contains("was resumed from a snapshot")));
        let again = live.saved(&backings).unwrap();
        assert_eq!((again.backings, again.disks.len()), (saved.backings, saved.disks.len() + 1));
    }

    #[test]
    fn a_disk_that_is_written_in_its_file_is_not_saved() {
        let file = file_of(&[7; 8192]);
        let disks = Chosen::open(&[option(&file, ",rw")], &[], 1 << 32, 0).unwrap().prepare([5; 16]).unwrap();
        let error = disks.live().saved(&disks.backings().unwrap()).unwrap_err();
        assert!(error.contains("is rw") && error.contains(&*file.path().to_string_lossy()), "{error}");
    }

    #[test]
    fn what_a_hostile_snapshot_says_of_disks_is_judged() {
        let (good, contents) = saved();
        let refused = |change: &dyn Fn(&mut SavedDisks)| {
            let mut bad = good.clone();
            change(&mut bad);
            bad.go_on(files(&contents)).unwrap_err().to_string()
        };
        assert!(refused(&|bad| drop(bad.backings.pop())).contains("backings"));
        for size in [0, 100, 1 << 40, !4095] {
            assert!(refused(&|bad| bad.backings[0].size = size).contains("a backing has"), "{size}");
        }
        for (controller, lun, size) in [(4, 0, 512), (0, 64, 512), (0, 0, 0), (0, 0, u64::MAX)] {
            let judged = refused(&|bad| {
                (bad.disks[0].controller, bad.disks[0].lun, bad.disks[0].size) = (controller, lun, size);
            });
            assert!(judged.contains("is not a disk of a saved machine"), "{judged}");
        }
        assert!(refused(&|bad| bad.disks[0].mode = Some(Mode::ReadWrite)).contains("is not a disk"));
        assert!(refused(&|bad| bad.disks[0].size = 1 << 30).contains("is in no backing"));
        assert!(refused(&|bad| bad.disks[0].place = SavedPlace::Backing(9)).contains("is in no backing"));
        assert!(refused(&|bad| bad.disks[1].lun = bad.disks[0].lun).contains("two disks at 0:0"));
        for at in [100, ROOM, !4095] {
            let judged = refused(&|bad| bad.disks[2].place = SavedPlace::Window(at));
            assert!(judged.contains("cannot hold a disk"), "{judged}");
        }
        assert!(refused(&|bad| bad.disks[0].place = SavedPlace::Window(0)).contains("cannot hold a disk"));
        assert!(refused(&|bad| bad.backings[0].name = WINDOW.into()).contains("two windows"));
    }
}
