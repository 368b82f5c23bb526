//! Room on the host's file systems for what a guest may write: a write through a mapping of a full one is SIGBUS, which
//! ends QEMU.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use rustix::fs::{FallocateFlags, SeekFrom as Seek};
use rustix::io::Errno;

use crate::setup::size::exact;

/// The room that the disks of a run need, by file system: judged for all together before anything is allocated or
/// copied.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// By device: needed, free, and the disks that need it.
    systems: BTreeMap<u64, (u64, u64, Vec<String>)>,
}

impl Needs {
    /// Reserves room for a disk that is written: its file is allocated.
    pub(super) fn allocation(&mut self, file: &File, path: &Path, size: u64) -> anyhow::Result<()> {
        let meta = file.metadata().with_context(|| format!("cannot look at the disk {}", path.display()))?;
        let missing = size.saturating_sub(meta.blocks().saturating_mul(512));
        match free(file).filter(|_| meta.is_file()) {
            Some(free) if free < missing => return Err(unallocated(path, size, missing, free)),
            Some(free) => self.add(meta.dev(), missing, free, path),
            None => {}
        }
        Ok(())
    }

    /// Reserves room for a snapshot, for all that a guest may write.
    pub(super) fn snapshot(&mut self, folder: &Path, path: &Path, size: u64) -> anyhow::Result<()> {
        match system(folder) {
            Some((_, free)) if free < size => return Err(no_snapshot(path, folder, size, Some(free))),
            Some((device, free)) => self.add(device, size, free, path),
            None => {}
        }
        Ok(())
    }

    /// Reserves room for an image that is converted into the cache, where it has this much data.
    pub(super) fn conversion(&mut self, folder: &Path, path: &Path, data: u64) -> anyhow::Result<()> {
        let Some((device, free)) = system(folder) else { return Ok(()) };
        ensure!(
            data <= free,
            "the disk {} has {} of data once it is converted, and the cache, {}, has {} free; make room there, or set \
             XDG_CACHE_HOME to a folder with more",
            path.display(),
            exact(data),
            folder.display(),
            exact(free)
        );
        self.add(device, data, free, path);
        Ok(())
    }

    /// Counts bytes on a file system.
    fn add(&mut self, device: u64, bytes: u64, free: u64, path: &Path) {
        let (needed, _, disks) = self.systems.entry(device).or_insert((0, free, Vec::new()));
        *needed = needed.saturating_add(bytes);
        let name = path.display().to_string();
        if !disks.contains(&name) {
            disks.push(name);
        }
    }

    /// Refuses what has no room together.
    pub(super) fn judge(&self) -> anyhow::Result<()> {
        for (needed, free, disks) in self.systems.values() {
            ensure!(
                needed <= free,
                "the disks {} need {} of room together on one file system of the host, which has {} free; make room there, set \
                 TMPDIR to a folder of another one, or give disks as ro",
                disks.join(", "),
                exact(*needed),
                exact(*free)
            );
        }
        Ok(())
    }
}

/// Returns the file system of a folder, and its free bytes.
fn system(folder: &Path) -> Option<(u64, u64)> {
    let folder = File::open(folder).ok()?;
    Some((folder.metadata().ok()?.dev(), free(&folder)?))
}

/// Returns the error for a disk that is written, and has no room.
fn unallocated(path: &Path, size: u64, missing: u64, free: u64) -> anyhow::Error {
    anyhow::anyhow!(
        "the host has no room for the {} of the disk {}, which are allocated before it is written: {} are missing, and {} are \
         free; make room, or give the disk as ro",
        exact(size),
        path.display(),
        exact(missing),
        exact(free)
    )
}

/// Returns the error for a snapshot without room.
fn no_snapshot(path: &Path, folder: &Path, size: u64, free: Option<u64>) -> anyhow::Error {
    anyhow::anyhow!(
        "a guest may write all of the disk {}, so its snapshot needs room for {}, and {} has {} free; make room there, set \
         TMPDIR to a folder with more, or give the disk as ro or rw",
        path.display(),
        exact(size),
        folder.display(),
        free.map_or("less".to_owned(), exact)
    )
}

/// Makes the file system keep room for every byte of a disk that the guest writes.
pub(super) fn allocate(file: &File, path: &Path, size: u64) -> anyhow::Result<()> {
    let name = path.display();
    let has = file.metadata().map_or(0, |meta| meta.blocks().saturating_mul(512));
    let missing = size.saturating_sub(has);
    let full = |free: u64| unallocated(path, size, missing, free);
    let is_file = file.metadata().is_ok_and(|meta| meta.is_file());
    // Before the allocation, which would fill the file system up, and leave it so, before it fails.
    if let Some(free) = free(file).filter(|free| is_file && *free < missing) {
        return Err(full(free));
    }
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, size) {
        Ok(()) => Ok(()),
        Err(Errno::NOSPC | Errno::DQUOT) => Err(full(free(file).unwrap_or(0))),
        // A block device, or a file system that cannot: good if there are no holes.
        Err(Errno::OPNOTSUPP | Errno::NODEV | Errno::SPIPE) => {
            let hole = rustix::fs::seek(file, Seek::Hole(0));
            ensure!(
                hole.is_err() || hole == Ok(size),
                "the file system of {name} can allocate no room, and the file has holes: fill them (`cp --sparse=never`), or \
                 give the disk as snapshot"
            );
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("cannot allocate the disk {name}")),
    }
}

/// Makes the file system keep room for all that a guest may write to a copy of a disk, which lies in `folder`. One that
/// cannot keep it must have it free.
///
/// `shared`: the copy shares its blocks with the file. Each takes a block of its own once it is written, which no file
/// system keeps in advance without giving up the sharing.
pub(super) fn reserve(
    copy: &File,
    path: &Path,
    folder: &Path,
    size: u64,
    shared: bool,
) -> anyhow::Result<()> {
    let (name, place) = (path.display(), folder.display());
    let full = |free: Option<u64>| no_snapshot(path, folder, size, free);
    // Before the allocation, which would fill the file system up before it fails.
    if let Some(free) = free(copy).filter(|free| *free < size) {
        return Err(full(Some(free)));
    }
    if shared {
        return Ok(());
    }
    match rustix::fs::fallocate(copy, FallocateFlags::KEEP_SIZE, 0, size) {
        Err(Errno::NOSPC | Errno::DQUOT) => Err(full(None)),
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NODEV) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot keep room for the disk {name} in {place}")),
    }
}

/// Makes the file system keep room for `bytes` more of a file, from `at` on, while the machine runs.
pub(super) fn extend(file: &File, at: u64, bytes: u64) -> Result<(), String> {
    let full = |free: u64| format!("the host has no room for {bytes} bytes more: {free} are free");
    // Before the allocation, which would fill the file system up before it fails.
    if let Some(free) = free(file).filter(|free| *free < bytes) {
        return Err(full(free));
    }
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, at, bytes) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NODEV) => Ok(()),
        Err(Errno::NOSPC | Errno::DQUOT) => Err(full(free(file).unwrap_or(0))),
        Err(error) => Err(format!("the host cannot keep room for {bytes} bytes: {error}")),
    }
}

/// Returns the number of bytes that the file system of a file has free for a user.
pub(super) fn free(file: &File) -> Option<u64> {
    let found = rustix::fs::fstatvfs(file).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_that_have_room_only_one_by_one_are_refused_together() {
        let folder = tempfile::tempdir().unwrap();
        let (device, free) = system(folder.path()).unwrap();
        let disk = Path::new("disk");
        let mut needs = Needs::default();
        needs.snapshot(folder.path(), disk, free / 4 * 3).unwrap();
        needs.judge().unwrap();
        needs.snapshot(folder.path(), Path::new("other"), free / 4 * 3).unwrap();
        let error = needs.judge().unwrap_err().to_string();
        assert!(error.starts_with("the disks disk, other need"), "{error}");
        let mut needs = Needs::default();
        needs.add(device, free / 2, free, disk);
        needs.add(device ^ 1, free / 2 + free / 4, free, disk);
        needs.judge().unwrap();
        assert!(Needs::default().snapshot(folder.path(), disk, u64::MAX).is_err());
        assert!(Needs::default().conversion(folder.path(), disk, u64::MAX).is_err());
    }
}
