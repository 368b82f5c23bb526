//! The window: memory for disks that are added while the machine runs.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use anyhow::Context as _;
use rustix::fs::FallocateFlags;

use super::image;
use super::room;
use crate::setup::size::exact;

/// A file without a name, which QEMU maps from the start, and what of it is taken.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) file: Arc<File>,
    /// Address of its first byte.
    pub(super) base: u64,
    pub(super) size: u64,
    /// Taken parts, in bytes from the start, in order.
    taken: Vec<Range<u64>>,
}

impl Window {
    /// Makes a window of `size` bytes, all of them holes.
    pub(super) fn new(base: u64, size: u64) -> anyhow::Result<Self> {
        let folder = image::copies()?;
        let make = || -> std::io::Result<File> {
            let file = image::unnamed(&folder)?;
            file.set_len(size)?;
            Ok(file)
        };
        let file = make().with_context(|| {
            format!("cannot make the hot-plug room of {size} bytes in {}", folder.display())
        })?;
        Ok(Self { file: Arc::new(file), base, size, taken: Vec::new() })
    }

    /// Takes the first free part with this many bytes, and has the file system keep room for it.
    pub(super) fn take(&mut self, bytes: u64) -> Result<u64, String> {
        let ends = [0].into_iter().chain(self.taken.iter().map(|part| part.end));
        let starts = self.taken.iter().map(|part| part.start).chain([self.size]);
        let gap = ends.zip(starts).enumerate().find(|(_, (end, start))| start - end >= bytes);
        let Some((place, (at, _))) = gap else {
            return Err(format!(
                "{} do not fit into what is free of the hot-plug room of {}; start the machine with a larger \
                 --hotplug-room",
                exact(bytes),
                exact(self.size)
            ));
        };
        room::extend(&self.file, at, bytes)?;
        self.taken.insert(place, at..at + bytes);
        Ok(at)
    }

    /// Takes the part of a saved machine's disk again, which has its contents already.
    pub(super) fn retake(&mut self, at: u64, bytes: u64) -> Result<(), String> {
        let end = at.checked_add(bytes).filter(|end| *end <= self.size && at.is_multiple_of(image::PAGE));
        let end = end.filter(|end| self.taken.iter().all(|part| part.end <= at || *end <= part.start));
        let end =
            end.ok_or_else(|| format!("{bytes} bytes at {at} of the hot-plug room cannot hold a disk"))?;
        room::extend(&self.file, at, bytes)?;
        let place = self.taken.partition_point(|part| part.start < at);
        self.taken.insert(place, at..end);
        Ok(())
    }

    /// Changes the size of the part at `at`, if what is after it is free.
    pub(super) fn resize(&mut self, at: u64, bytes: u64) -> Result<(), String> {
        let place = self.taken.iter().position(|part| part.start == at).ok_or("there is no such part")?;
        let limit = self.taken.get(place + 1).map_or(self.size, |next| next.start);
        if limit - at < bytes {
            return Err(format!(
                "{} do not fit: the disk lies in the hot-plug room, with {} up to the next disk or the end",
                exact(bytes),
                exact(limit - at)
            ));
        }
        let end = self.taken[place].end;
        if at + bytes > end {
            room::extend(&self.file, end, at + bytes - end)?;
        }
        self.taken[place].end = at + bytes;
        Ok(())
    }

    /// Gives bytes back to the file system; they read as zeros.
    pub(super) fn punch(&self, bytes: Range<u64>) {
        punch(&self.file, bytes);
    }

    /// Gives the part at `at` back.
    pub(super) fn give_back(&mut self, at: u64) {
        if let Some(place) = self.taken.iter().position(|part| part.start == at) {
            let part = self.taken.remove(place);
            self.punch(part);
        }
    }
}

/// Makes bytes of a file a hole, or zeros where the file system has no holes.
pub(super) fn punch(file: &File, bytes: Range<u64>) {
    let len = bytes.end.saturating_sub(bytes.start);
    if len == 0 {
        return;
    }
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if rustix::fs::fallocate(file, hole, bytes.start, len).is_ok() {
        return;
    }
    let zeros = vec![0; 1 << 20];
    let mut at = bytes.start;
    while at < bytes.end {
        let part = zeros.len().min((bytes.end - at) as usize);
        if std::os::unix::fs::FileExt::write_all_at(file, &zeros[..part], at).is_err() {
            return;
        }
        at += part as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

    #[test]
    fn parts_never_overlap_and_are_taken_again() {
        let mut window = Window::new(1 << 30, 1 << 20).unwrap();
        let parts: Vec<u64> = (0..4).map(|_| window.take(256 << 10).unwrap()).collect();
        assert_eq!(parts, [0, 256 << 10, 512 << 10, 768 << 10]);
        assert!(window.take(4096).is_err());
        window.give_back(256 << 10);
        assert!(window.take(512 << 10).is_err());
        assert_eq!(window.take(4096).unwrap(), 256 << 10);
        assert_eq!(window.take(8192).unwrap(), (256 << 10) + 4096);
    }

    #[test]
    fn a_part_grows_up_to_the_next_one() {
        let mut window = Window::new(1 << 30, 1 << 20).unwrap();
        let (first, second) = (window.take(4096).unwrap(), window.take(4096).unwrap());
        assert!(window.resize(first, 8192).is_err());
        window.resize(second, (1 << 20) - 4096).unwrap();
        assert!(window.resize(second, 1 << 20).is_err());
        window.give_back(second);
        window.resize(first, 8192).unwrap();
        assert_eq!(window.take(4096).unwrap(), 8192);
    }

    #[test]
    fn what_is_given_back_reads_as_zeros_and_takes_no_room() {
        let mut window = Window::new(1 << 30, 1 << 20).unwrap();
        let at = window.take(1 << 20).unwrap();
        window.file.write_all_at(&[7; 8192], at).unwrap();
        assert!(window.file.metadata().unwrap().blocks() * 512 >= 1 << 20, "there is room for all of it");
        window.give_back(at);
        let mut bytes = [1; 8192];
        window.file.read_exact_at(&mut bytes, at).unwrap();
        assert_eq!(bytes, [0; 8192]);
        assert!(window.file.metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}
