//! Room on the host's file systems for what a guest may write: a write through a mapping of a full one is SIGBUS, which ends QEMU.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use rustix::fs::{FallocateFlags, SeekFrom as Seek};
use rustix::io::Errno;

/// Makes the file system keep room for every byte of a disk that the guest writes.
pub(super) fn allocate(file: &File, path: &Path, size: u64) -> anyhow::Result<()> {
    let name = path.display();
    let has = file.metadata().map_or(0, |meta| meta.blocks().saturating_mul(512));
    let missing = size.saturating_sub(has);
    let full = |free: u64| {
        anyhow::anyhow!(
            "the host has no room for the {size} bytes of the disk {name}, which are allocated before it is written: {missing} \
             are missing, and {free} are free"
        )
    };
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

/// Makes the file system keep room for all that a guest may write to a copy of a disk, which lies in `folder`. One that cannot
/// keep it must have it free.
///
/// `shared`: the copy shares its blocks with the file. Each takes a block of its own once it is written, which no file system
/// keeps in advance without giving up the sharing.
pub(super) fn reserve(
    copy: &File,
    path: &Path,
    folder: &Path,
    size: u64,
    shared: bool,
) -> anyhow::Result<()> {
    let (name, place) = (path.display(), folder.display());
    let full = |free: Option<u64>| {
        let free = free.map_or("less".to_owned(), |free| format!("{free} bytes"));
        anyhow::anyhow!(
            "a guest may write all of the disk {name}, so its snapshot needs room for {size} bytes, and {place} has {free} \
             free; make room there, set TMPDIR to a folder with more, or give the disk as ro or rw"
        )
    };
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

/// Bytes that the file system of a file has free for a user.
pub(super) fn free(file: &File) -> Option<u64> {
    let found = rustix::fs::fstatvfs(file).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}
