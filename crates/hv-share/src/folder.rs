//! The listing of a folder, a part at a time, from where the guest's kernel says that it was.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use polyfuse_kernel::{fuse_dirent, fuse_direntplus, fuse_entry_out};
use rustix::fs::{FileType, RawDir, SeekFrom};
use rustix::io::Errno;

use crate::MAX_READ;
use crate::files::Files;
use crate::reply::Reply;

/// Bytes that are read from a folder at once.
const PIECE: usize = 32 << 10;

/// Adds the entries of a folder that come behind `offset`, in `size` bytes at most. With `files`, each is given its
/// number too, in the folder of that number.
///
/// # Errors
/// The folder cannot be read from there.
pub(crate) fn list(
    folder: &OwnedFd,
    offset: u64,
    size: u32,
    mut files: Option<(&mut Files, u64)>,
    reply: &mut Reply,
) -> Result<(), Errno> {
    if size > MAX_READ || i64::try_from(offset).is_err() {
        return Err(Errno::INVAL);
    }
    rustix::fs::seek(folder, SeekFrom::Start(offset))?;
    let mut buffer = [MaybeUninit::uninit(); PIECE];
    let mut entries = RawDir::new(folder, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let head = if files.is_some() { size_of::<fuse_direntplus>() } else { size_of::<fuse_dirent>() };
        // Before it is given a number, of which the guest would never know.
        if reply.len() + (head + name.len()).next_multiple_of(8) > size as usize {
            break;
        }
        let dirent = fuse_dirent {
            ino: entry.ino(),
            off: entry.next_entry_cookie(),
            namelen: name.len() as u32,
            // The type's bits of a mode, as getdents(2) has them.
            typ: match entry.file_type() {
                FileType::Unknown => 0,
                kind => kind.as_raw_mode() >> 12,
            },
            name: [],
        };
        match &mut files {
            Some((files, number)) => {
                let is_own = matches!(name, b"." | b"..");
                let found = (!is_own).then(|| files.enter(folder, *number, OsStr::from_bytes(name)).ok());
                // Without a number, the guest's kernel looks the name up if it needs it.
                let entry_out: fuse_entry_out = found.flatten().unwrap_or_default();
                reply.put(&fuse_direntplus { entry_out, dirent });
            }
            None => reply.put(&dirent),
        }
        reply.bytes(name);
        reply.align();
    }
    Ok(())
}
