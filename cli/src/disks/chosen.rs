//! The disks that the user chose: their files, open and judged, and their places.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use hv_wire::{MAX_CONTROLLERS, MAX_DISKS, MAX_LUNS};

use super::image::{self, Opened};
use super::live::Place;
use super::option::{DiskOption, Mode};

/// Bytes of a disk's block, and of a DVD's.
pub(super) const BLOCK: u64 = 512;
const DVD_BLOCK: u64 = 2048;
/// The controller that DVDs are on, so that a slow one holds no disk up.
const DVDS: u16 = MAX_CONTROLLERS as u16 - 1;
/// Where the addresses end that EL2 maps.
pub(crate) const ADDRESS_END: u64 = 1 << 39;

/// Disks whose files are open and judged. Nothing has been copied or allocated yet.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(super) disks: Vec<(Opened, bool, Place)>,
    /// Address after everything else that is in the machine's RAM.
    pub(super) base: u64,
    /// Bytes by which each disk that can be written may grow, and of the window for more disks.
    pub(super) room: u64,
}

impl Chosen {
    /// Opens the files. `base`: address after everything else that is in the machine's RAM. `room`: bytes by which
    /// each disk that can be written may grow, and of the window for more disks.
    pub(crate) fn open(disks: &[DiskOption], dvds: &[PathBuf], base: u64, room: u64) -> anyhow::Result<Self> {
        ensure!(
            disks.len() + dvds.len() <= MAX_DISKS,
            "{} disks and DVDs are too many: a machine has {MAX_DISKS} at most",
            disks.len() + dvds.len()
        );
        let mut all = Self { disks: Vec::new(), base, room };
        let places = places(disks, dvds.len())?;
        let wanted = disks.iter().map(|disk| (&*disk.path, disk.mode, false));
        let wanted = wanted.chain(dvds.iter().map(|path| (&**path, Mode::ReadOnly, true)));
        let mut next = base;
        for ((path, mode, dvd), place) in wanted.zip(places) {
            let opened = image::open(path, mode, if dvd { DVD_BLOCK } else { BLOCK }, left(next))
                .map_err(|error| if dvd { hint_dvd(error, path) } else { error })?;
            next = next.saturating_add(opened.mapped(room));
            all.disks.push((opened, dvd, place));
        }
        fits(room, next)?;
        Ok(all)
    }

    /// Places them at another address. [`Chosen::prepare`] judges that.
    pub(crate) fn place(&mut self, base: u64) {
        self.base = base;
    }

    /// Returns the first disk as a raw image, with its name; `None` if there are DVDs alone.
    pub(crate) fn first(&self) -> anyhow::Result<Option<(File, PathBuf)>> {
        let disk = self.disks.iter().find(|(_, dvd, _)| !dvd);
        let raw = |(opened, ..): &(Opened, bool, Place)| Ok((opened.readable()?, opened.path().to_owned()));
        disk.map(raw).transpose()
    }
}

/// Checks that the window for more disks, and what lies before it up to `next`, can be mapped.
pub(super) fn fits(room: u64, next: u64) -> anyhow::Result<()> {
    ensure!(
        next.checked_add(room).is_some_and(|end| end <= ADDRESS_END),
        "--hotplug-room {room} does not fit: the hypervisor maps 39 bits of address, for guest memory, disks, as much room behind each \
         disk that can be written, and as much for more disks"
    );
    Ok(())
}

/// Returns the number of bytes that can be mapped from this address on.
pub(super) fn left(base: u64) -> u64 {
    ADDRESS_END.saturating_sub(base)
}

/// Says that a DVD has no options, where its file's name looks as if it had.
fn hint_dvd(error: anyhow::Error, path: &Path) -> anyhow::Error {
    let text = path.to_string_lossy();
    match text.rsplit_once(',') {
        Some((_, word)) if !path.exists() => {
            anyhow::anyhow!("the disk {text} does not exist; --dvd takes a file name alone, without ,{word}")
        }
        _ => error,
    }
}

/// Returns the address of each disk, then of each DVD: the user's choice, else the first free one of its controller.
fn places(disks: &[DiskOption], dvds: usize) -> anyhow::Result<Vec<(u16, u16)>> {
    let mut taken: Vec<(u16, u16)> = disks.iter().filter_map(|disk| disk.place).collect();
    for (at, (controller, lun)) in taken.iter().enumerate() {
        if taken[..at].contains(&(*controller, *lun)) {
            bail!("two disks are at={controller}:{lun}: give each a place of its own");
        }
    }
    let mut free = |controller: u16| {
        let mut luns = (0..MAX_LUNS as u16).map(|lun| (controller, lun));
        let place = luns.find(|place| !taken.contains(place));
        let place = place
            .with_context(|| format!("controller {controller} has no place left: give at=CONTROLLER:LUN"))?;
        taken.push(place);
        Ok(place)
    };
    let mut places = Vec::new();
    for disk in disks {
        places.push(disk.place.map_or_else(|| free(0), Ok::<_, anyhow::Error>)?);
    }
    for _ in 0..dvds {
        places.push(free(DVDS)?);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_where_the_user_says_and_else_at_the_first_free_place() {
        let option = |text: &str| text.parse().unwrap();
        let disks = ["a", "b,at=0:0", "c,at=2:5", "d"].map(option);
        assert_eq!(places(&disks, 2).unwrap(), [(0, 1), (0, 0), (2, 5), (0, 2), (3, 0), (3, 1)]);
        assert!(places(&["a,at=1:1", "b,at=1:1"].map(option), 0).is_err());
    }
}
