//! Requests that change the folder. They are carried out with the rights of this process's user, whoever in the guest
//! sends them: the guest's own kernel judges its users (fuse(8), `default_permissions`).

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use polyfuse_kernel::{
    FATTR_ATIME, FATTR_ATIME_NOW, FATTR_FH, FATTR_GID, FATTR_MODE, FATTR_MTIME, FATTR_MTIME_NOW, FATTR_SIZE,
    FATTR_UID, FUSE_CREATE, FUSE_FALLOCATE, FUSE_LINK, FUSE_MKDIR, FUSE_MKNOD, FUSE_RENAME, FUSE_RENAME2,
    FUSE_RMDIR, FUSE_SETATTR, FUSE_SYMLINK, FUSE_UNLINK, FUSE_WRITE, fuse_create_in, fuse_fallocate_in,
    fuse_fsync_in, fuse_in_header, fuse_link_in, fuse_mkdir_in, fuse_mknod_in, fuse_open_out, fuse_rename_in,
    fuse_rename2_in, fuse_setattr_in, fuse_write_in, fuse_write_out,
};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW,
    UTIME_OMIT, Uid,
};
use rustix::io::Errno;
use zerocopy::FromBytes;

use crate::files::{self, flags, has_set_id, itself};
use crate::handles::Handle;
use crate::{Answer, Done, MAX_WRITE, O_EXCL, O_TRUNC, Share, name, named, take, text};

/// Permissions, without the type of a file.
const PERMISSIONS: u32 = 0o7777;
/// Bytes of a link's text at most.
const LONGEST_LINK: usize = 4095;

impl Share {
    pub(crate) fn change(&mut self, head: &fuse_in_header, body: &[u8]) -> Done {
        let node = head.nodeid;
        match head.opcode {
            FUSE_SETATTR => self.set_attributes(node, take(body)?),
            FUSE_WRITE => self.write(body),
            FUSE_CREATE => {
                let (asked, name) = split(body)?;
                self.create(node, asked, crate::name(name)?)
            }
            FUSE_MKNOD => {
                let (fuse_mknod_in { mode, .. }, name) = split(body)?;
                self.add(node, name, |folder, name| make_node(folder, name, mode))
            }
            FUSE_MKDIR => {
                let (fuse_mkdir_in { mode, .. }, name) = split(body)?;
                self.add(node, name, |folder, name| rustix::fs::mkdirat(folder, name, permissions(mode)))
            }
            FUSE_SYMLINK => {
                let (_, target) = named(body)?;
                let (target, _) = text(target)?;
                if target.is_empty() || target.len() > LONGEST_LINK {
                    return Err(Errno::INVAL);
                }
                self.add(node, body, |folder, name| rustix::fs::symlinkat(target, folder, name))
            }
            FUSE_LINK => {
                let (fuse_link_in { oldnodeid }, name) = split(body)?;
                let file = self.files.reach(oldnodeid)?;
                let follow = AtFlags::SYMLINK_FOLLOW;
                self.add(node, name, |folder, name| {
                    rustix::fs::linkat(CWD, itself(&file), folder, name, follow)
                })
            }
            FUSE_UNLINK => self.remove(node, body, AtFlags::empty()),
            FUSE_RMDIR => self.remove(node, body, AtFlags::REMOVEDIR),
            FUSE_RENAME => {
                let (fuse_rename_in { newdir }, names) = split(body)?;
                self.rename(node, newdir, names, RenameFlags::empty())
            }
            FUSE_RENAME2 => {
                let (fuse_rename2_in { newdir, flags, .. }, names) = split(body)?;
                let flags = RenameFlags::from_bits_retain(flags);
                if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
                    return Err(Errno::INVAL);
                }
                self.rename(node, newdir, names, flags)
            }
            FUSE_FALLOCATE => self.allocate(take(body)?),
            _ => Err(Errno::NOSYS),
        }
    }

    /// Makes something with a name in a folder, and gives it its number.
    fn add(
        &mut self,
        folder: u64,
        body: &[u8],
        make: impl FnOnce(&OwnedFd, &OsStr) -> Result<(), Errno>,
    ) -> Done {
        let name = name(body)?;
        self.files.nodes.has_room(name.as_encoded_bytes())?;
        let place = self.files.reach(folder)?;
        make(&place, name)?;
        let entry = self.files.enter(&place, folder, name)?;
        self.reply.put(&entry);
        Ok(Answer::Reply)
    }

    /// Makes a file and opens it; opens the one that is there, unless the guest wants none to be there.
    fn create(&mut self, folder: u64, asked: fuse_create_in, name: &OsStr) -> Done {
        // Before there is a file of which the guest does not know.
        self.handles.has_room()?;
        self.files.nodes.has_room(name.as_encoded_bytes())?;
        let place = self.files.reach(folder)?;
        let create = flags(asked.flags) | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let made =
            match rustix::fs::openat(&place, name, create, permissions(checked(asked.mode & PERMISSIONS)?)) {
                Ok(file) => Some(file),
                Err(Errno::EXIST) if asked.flags & O_EXCL == 0 => None,
                Err(error) => return Err(error),
            };
        let entry = self.files.enter(&place, folder, name)?;
        let node = entry.nodeid;
        // Linux truncates no file that it has asked to be created (fs/namei.c, `do_open`).
        let mut there = flags(asked.flags);
        there.set(OFlags::TRUNC, asked.flags & O_TRUNC != 0);
        let open = || files::open(&self.files.reach(node)?, there);
        let file = made.map_or_else(open, Ok);
        let opened = file.and_then(|file| self.handles.add(Handle::File { file, node }));
        // A number of which the guest is not told is none that it could forget.
        let fh = opened.inspect_err(|_| self.files.nodes.forget(node, 1))?;
        self.reply.put(&entry);
        self.reply.put(&fuse_open_out { fh, ..Default::default() });
        Ok(Answer::Reply)
    }

    fn remove(&mut self, folder: u64, body: &[u8], flags: AtFlags) -> Done {
        let name = name(body)?;
        rustix::fs::unlinkat(self.files.reach(folder)?, name, flags)?;
        self.files.nodes.removed(folder, name.as_encoded_bytes());
        Ok(Answer::Reply)
    }

    fn rename(&mut self, from: u64, to: u64, names: &[u8], flags: RenameFlags) -> Done {
        let (old, rest) = named(names)?;
        let new = name(rest)?;
        self.files.nodes.has_room(new.as_encoded_bytes())?;
        let (from_folder, to_folder) = (self.files.reach(from)?, self.files.reach(to)?);
        rustix::fs::renameat_with(&from_folder, old, &to_folder, new, flags)?;
        let (old, new) = ((from, old.as_encoded_bytes()), (to, new.as_encoded_bytes()));
        if flags.contains(RenameFlags::EXCHANGE) {
            self.files.nodes.exchanged(old, new);
        } else {
            self.files.nodes.moved(old, new);
        }
        Ok(Answer::Reply)
    }

    fn set_attributes(&mut self, node: u64, asked: fuse_setattr_in) -> Done {
        let has = |bits| asked.valid & bits != 0;
        let place = self.place_to_change(node, has(FATTR_FH).then_some(asked.fh))?;
        if has(FATTR_SIZE) {
            self.truncate(node, &asked)?;
        }
        if has(FATTR_UID | FATTR_GID) {
            let owner = has(FATTR_UID).then_some(Uid::from_raw(asked.uid));
            let group = has(FATTR_GID).then_some(Gid::from_raw(asked.gid));
            rustix::fs::chownat(&place, "", owner, group, AtFlags::EMPTY_PATH)?;
        }
        if has(FATTR_MODE) {
            let kind = rustix::fs::fstat(&place)?.st_mode & !PERMISSIONS;
            let mode = checked(kind | asked.mode & PERMISSIONS)?;
            rustix::fs::chmodat(CWD, itself(&place), permissions(mode), AtFlags::empty())?;
        }
        if has(FATTR_ATIME | FATTR_MTIME) {
            let times = Timestamps {
                last_access: time(has(FATTR_ATIME), has(FATTR_ATIME_NOW), asked.atime, asked.atimensec)?,
                last_modification: time(
                    has(FATTR_MTIME),
                    has(FATTR_MTIME_NOW),
                    asked.mtime,
                    asked.mtimensec,
                )?,
            };
            rustix::fs::utimensat(CWD, itself(&place), &times, AtFlags::empty())?;
        }
        let stat = rustix::fs::fstat(&place)?;
        self.told(&stat)
    }

    /// Opens the place of a file whose attributes are to change: that of a handle, or the one that its name leads to.
    ///
    /// # Errors
    /// `ESTALE`: the file has lost its name but is somewhere, so that it may have left the folder, and the guest does
    /// not have it open for writing.
    fn place_to_change(&self, node: u64, handle: Option<u64>) -> Result<OwnedFd, Errno> {
        let named = self.files.reach(node);
        let place = match handle {
            Some(number) => files::again(self.handles.get(number)?.file())?,
            None => self.place(node)?,
        };
        let is_gone = || Ok::<_, Errno>(rustix::fs::fstat(&place)?.st_nlink == 0);
        match named {
            Err(error) if self.handles.open_as(node, OFlags::WRONLY).is_none() && !is_gone()? => Err(error),
            _ => Ok(place),
        }
    }

    /// Changes the length of a file, of the one that is open where the guest names it.
    fn truncate(&mut self, node: u64, asked: &fuse_setattr_in) -> Result<(), Errno> {
        if i64::try_from(asked.size).is_err() {
            return Err(Errno::FBIG);
        }
        if asked.valid & FATTR_FH != 0 {
            return rustix::fs::ftruncate(self.written(asked.fh)?, asked.size);
        }
        const WRITE_ONLY: u32 = 0o1;
        rustix::fs::ftruncate(self.contents(node, flags(WRITE_ONLY))?, asked.size)
    }

    /// Returns an open file whose contents are to be changed.
    ///
    /// # Errors
    /// `EPERM`: the host has given it a set-id bit since it was opened. Linux takes that from no file that root writes.
    fn written(&self, fh: u64) -> Result<&OwnedFd, Errno> {
        let Handle::File { file, .. } = self.handles.get(fh)? else { return Err(Errno::ISDIR) };
        if has_set_id(rustix::fs::fstat(file)?.st_mode) { Err(Errno::PERM) } else { Ok(file) }
    }

    fn write(&mut self, body: &[u8]) -> Done {
        let (asked, data) = split::<fuse_write_in>(body)?;
        let data = data.get(..asked.size as usize).filter(|_| asked.size <= MAX_WRITE).ok_or(Errno::INVAL)?;
        let file = self.written(asked.fh)?;
        let mut done = 0;
        while done < data.len() {
            let offset = asked.offset.checked_add(done as u64).ok_or(Errno::INVAL)?;
            match rustix::io::pwrite(file, &data[done..], offset) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                // What was written is told; the guest finds the error with the next write.
                Err(_) if done != 0 => break,
                Err(error) => return Err(error),
            }
        }
        self.reply.put(&fuse_write_out { size: done as u32, padding: 0 });
        Ok(Answer::Reply)
    }

    fn allocate(&mut self, asked: fuse_fallocate_in) -> Done {
        let mode = FallocateFlags::from_bits_retain(asked.mode);
        rustix::fs::fallocate(self.written(asked.fh)?, mode, asked.offset, asked.length)?;
        Ok(Answer::Reply)
    }

    /// Writes a file's or a folder's contents to the disk.
    pub(crate) fn sync(&mut self, asked: fuse_fsync_in) -> Done {
        const DATA_ALONE: u32 = 1;
        let file = self.handles.get(asked.fh)?.file();
        if asked.fsync_flags & DATA_ALONE != 0 {
            rustix::fs::fdatasync(file)
        } else {
            rustix::fs::fsync(file)
        }?;
        Ok(Answer::Reply)
    }
}

/// Takes the structure that a request begins with, and returns what is after it.
fn split<T: FromBytes>(body: &[u8]) -> Result<(T, &[u8]), Errno> {
    T::read_from_prefix(body).map_err(|_| Errno::INVAL)
}

/// Makes a file, a pipe or a socket; a device would give the guest what is behind it on the host.
fn make_node(folder: &OwnedFd, name: &OsStr, mode: u32) -> Result<(), Errno> {
    let kind = FileType::from_raw_mode(mode);
    match kind {
        FileType::RegularFile | FileType::Fifo | FileType::Socket => {}
        _ => return Err(Errno::PERM),
    }
    rustix::fs::mknodat(folder, name, kind, permissions(checked(mode)?), 0)
}

/// Judges a mode.
///
/// # Errors
/// `EPERM`: a file would give this process's rights to who runs it.
fn checked(mode: u32) -> Result<u32, Errno> {
    if has_set_id(mode) { Err(Errno::PERM) } else { Ok(mode) }
}

fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & PERMISSIONS)
}

/// Returns a time as utimensat(2) takes it.
fn time(is_set: bool, is_now: bool, seconds: u64, nanoseconds: u32) -> Result<Timespec, Errno> {
    let tv_nsec = match (is_set, is_now) {
        (false, _) => UTIME_OMIT,
        (true, true) => UTIME_NOW,
        (true, false) if nanoseconds < 1_000_000_000 => nanoseconds.into(),
        (true, false) => return Err(Errno::INVAL),
    };
    // Negative before 1970.
    Ok(Timespec { tv_sec: seconds.cast_signed(), tv_nsec })
}
