//! A folder of the host for a guest, read-only or to change: the server of the FUSE protocol (Linux,
//! include/uapi/linux/fuse.h; fuse(4)).
//!
//! [`Share::answer`] takes a request and gives the reply; it knows nothing of how both travel. The guest's kernel names
//! files by numbers that the server has given it (`nodes`), and everything that comes from it is judged as if from an
//! enemy:
//!
//! - It leaves the folder by no path: a name is one component and neither `.` nor `..`, and each step opens one name in
//!   a folder that is open already, without following links or entering a mount. A link's text goes to the guest, which
//!   follows it in its own tree.
//! - It leaves it by no race: what a step has opened must be the very file that the number was given for, by device and
//!   inode.
//! - It opens nothing but files and folders: opening a device may move it, and opening a pipe may wait.
//! - It makes the host grow by no request: the memory of numbers, open files and the length of a reply are bounded.
//! - It changes nothing in a folder that is read-only: each request to change something is refused with `EROFS`.
//! - It gains no rights by what it writes to a folder that it may change: it makes no device and no set-id program, and
//!   writes to none (`change`). Locks of guest and host programs exclude each other (`locks`).
#![forbid(unsafe_code)]

mod change;
mod files;
mod folder;
mod handles;
mod locks;
mod nodes;
mod reply;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use polyfuse_kernel::{
    FUSE_ACCESS, FUSE_ASYNC_READ, FUSE_AUTO_INVAL_DATA, FUSE_BATCH_FORGET, FUSE_BIG_WRITES, FUSE_BMAP,
    FUSE_DESTROY, FUSE_DO_READDIRPLUS, FUSE_FLOCK_LOCKS, FUSE_FLUSH, FUSE_FORGET, FUSE_FSYNC, FUSE_FSYNCDIR,
    FUSE_GETATTR, FUSE_GETATTR_FH, FUSE_GETLK, FUSE_GETXATTR, FUSE_INIT, FUSE_INTERRUPT, FUSE_IOCTL,
    FUSE_KERNEL_VERSION, FUSE_LISTXATTR, FUSE_LOOKUP, FUSE_LSEEK, FUSE_MAX_PAGES, FUSE_OPEN, FUSE_OPENDIR,
    FUSE_PARALLEL_DIROPS, FUSE_POLL, FUSE_POSIX_LOCKS, FUSE_READ, FUSE_READDIR, FUSE_READDIRPLUS,
    FUSE_READDIRPLUS_AUTO, FUSE_READLINK, FUSE_RELEASE, FUSE_RELEASEDIR, FUSE_SETLK, FUSE_SETLKW,
    FUSE_STATFS, fuse_attr_out, fuse_batch_forget_in, fuse_forget_in, fuse_forget_one, fuse_getattr_in,
    fuse_in_header, fuse_init_in, fuse_init_out, fuse_kstatfs, fuse_open_in, fuse_open_out, fuse_read_in,
    fuse_release_in, fuse_statfs_out,
};
use rustix::fs::OFlags;
use rustix::io::Errno;
use zerocopy::FromBytes;

use files::Files;
use handles::{Handle, Handles};
use locks::Locks;
use reply::Reply;

/// Bytes of a request at most: no request that reads is longer, but for many numbers that are forgotten at once, of
/// which Linux sends as many as its reader has room for.
pub const MAX_REQUEST: usize = 64 << 10;
/// Bytes of a file or a folder in a reply at most, also the value of the mount option `max_read`.
pub const MAX_READ: u32 = 128 << 10;
/// Bytes that one request writes at most: whole pages, and room for what stands before them.
const MAX_WRITE: u32 = (MAX_REQUEST - 4096) as u32;
/// Bytes of a reply at most.
pub const MAX_REPLY: usize = MAX_READ as usize + size_of::<polyfuse_kernel::fuse_out_header>();

/// The oldest minor version of the protocol: Linux 4.20's.
const OLDEST: u32 = 28;
/// Seconds that the guest believes what it knows of the file behind a name, and of a file in a folder that it only
/// reads. In one that both sides change it asks for a file's attributes each time: under a lock, it must see what the
/// host has written.
const VALID: u64 = 1;
/// How a file is opened: these flags have the same values on all of Linux's architectures.
const O_ACCMODE: u32 = 0o3;
const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;
const O_APPEND: u32 = 0o2000;

/// Requests that Linux may send before it has the replies, and from how many on it holds others back.
const MOST_AT_ONCE: u16 = 32;

/// A request that the protocol does not define: nothing that follows it can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// Outcome of a request.
type Done = Result<Answer, Errno>;

/// Answer to a request that succeeded: with a reply, or without.
enum Answer {
    Reply,
    /// Linux waits for none, or it comes later.
    None,
}

/// What the guest may do with a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    ReadOnly,
    /// Change it, as far as the user of this process may.
    ReadWrite,
}

/// What a guest may take of this process for a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files that it may have open at once. In a folder that it may change, locks take as many descriptors again at
    /// most.
    pub handles: usize,
    /// Bytes of memory for the numbers and names of the files that its kernel knows.
    pub memory: usize,
}

/// A folder that is given to a guest.
#[derive(Debug)]
pub struct Share {
    access: Access,
    files: Files,
    handles: Handles,
    locks: Locks,
    reply: Reply,
}

impl Share {
    /// Opens the folder.
    ///
    /// # Errors
    /// It is not a folder, or cannot be read.
    pub fn open(path: &Path, access: Access, limits: Limits) -> io::Result<Self> {
        let valid = if access == Access::ReadOnly { VALID } else { 0 };
        Ok(Self {
            access,
            files: Files::open(path, valid, limits.memory)?,
            handles: Handles::new(limits.handles),
            locks: Locks::new(limits.handles),
            reply: Reply::default(),
        })
    }

    /// Returns what the guest may do with the folder.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// Forgets all numbers and closes all files: another kernel begins.
    pub fn restart(&mut self) {
        self.files.nodes.clear();
        self.handles.close_all();
        self.locks.release_all();
    }

    /// Does what a request asks for, and returns the reply; `None` if it has none, or if that comes later
    /// ([`retry`](Self::retry)).
    ///
    /// # Errors
    /// It is not a request.
    pub fn answer(&mut self, request: &[u8]) -> Result<Option<&[u8]>, Invalid> {
        let (head, body) = fuse_in_header::read_from_prefix(request).map_err(|_| Invalid)?;
        if head.len as usize != request.len() || request.len() > MAX_REQUEST {
            return Err(Invalid);
        }
        self.reply.begin();
        match self.act(&head, body) {
            Ok(Answer::None) => Ok(None),
            Ok(Answer::Reply) => Ok(Some(self.reply.end(head.unique, None))),
            Err(error) => Ok(Some(self.reply.end(head.unique, Some(error)))),
        }
    }

    fn act(&mut self, head: &fuse_in_header, body: &[u8]) -> Done {
        let node = head.nodeid;
        match head.opcode {
            FUSE_INIT => self.init(take(body)?),
            FUSE_LOOKUP => self.look_up(node, body),
            FUSE_FORGET => {
                let fuse_forget_in { nlookup } = take(body)?;
                self.files.nodes.forget(node, nlookup);
                Ok(Answer::None)
            }
            FUSE_BATCH_FORGET => self.forget(body),
            FUSE_GETATTR => self.attributes(node, take(body)?),
            FUSE_READLINK => {
                let text = self.files.link(node)?;
                self.reply.bytes(text.to_bytes());
                Ok(Answer::Reply)
            }
            FUSE_OPEN => self.open_file(node, take(body)?),
            FUSE_FLUSH | FUSE_GETLK | FUSE_SETLK | FUSE_SETLKW | FUSE_INTERRUPT if self.is_writable() => {
                self.lock(head, body)
            }
            FUSE_READ => self.read(take(body)?),
            FUSE_OPENDIR => {
                let folder = self.files.folder(node)?;
                self.opened(Handle::Folder { folder, node })
            }
            FUSE_READDIR => self.list(take(body)?, false),
            FUSE_READDIRPLUS => self.list(take(body)?, true),
            FUSE_RELEASE | FUSE_RELEASEDIR => {
                let fuse_release_in { fh, .. } = take(body)?;
                self.handles.close(fh)?;
                Ok(Answer::Reply)
            }
            FUSE_STATFS => self.statistics(),
            FUSE_DESTROY => Ok(Answer::Reply),
            FUSE_FSYNC | FUSE_FSYNCDIR if self.is_writable() => self.sync(take(body)?),
            // Linux does without these, and does not ask again.
            FUSE_ACCESS | FUSE_BMAP | FUSE_FLUSH | FUSE_FSYNC | FUSE_FSYNCDIR | FUSE_GETLK
            | FUSE_GETXATTR | FUSE_INTERRUPT | FUSE_IOCTL | FUSE_LISTXATTR | FUSE_LSEEK | FUSE_POLL
            | FUSE_SETLK | FUSE_SETLKW => Err(Errno::NOSYS),
            // All others change something, or are newer.
            _ if self.is_writable() => self.change(head, body),
            _ => Err(Errno::ROFS),
        }
    }

    fn is_writable(&self) -> bool {
        self.access == Access::ReadWrite
    }

    /// Agrees with the guest's kernel on a version of the protocol.
    fn init(&mut self, asked: fuse_init_in) -> Done {
        if asked.major != FUSE_KERNEL_VERSION || asked.minor < OLDEST {
            return Err(Errno::PROTO);
        }
        let mut wanted = FUSE_ASYNC_READ
            | FUSE_AUTO_INVAL_DATA
            | FUSE_DO_READDIRPLUS
            | FUSE_READDIRPLUS_AUTO
            | FUSE_PARALLEL_DIROPS
            | FUSE_MAX_PAGES;
        if self.is_writable() {
            wanted |= FUSE_BIG_WRITES | FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS;
        }
        let ours = fuse_init_out::default();
        self.reply.put(&fuse_init_out {
            minor: ours.minor.min(asked.minor),
            max_readahead: asked.max_readahead.min(MAX_READ),
            flags: wanted & asked.flags,
            max_background: MOST_AT_ONCE,
            congestion_threshold: MOST_AT_ONCE / 4 * 3,
            max_write: MAX_WRITE,
            time_gran: 1,
            max_pages: (MAX_READ / 4096) as u16,
            ..ours
        });
        Ok(Answer::Reply)
    }

    /// Gives the file of a name in a folder its number.
    fn look_up(&mut self, folder: u64, body: &[u8]) -> Done {
        let folder_file = self.files.reach(folder)?;
        let entry = self.files.enter(&folder_file, folder, name(body)?)?;
        self.reply.put(&entry);
        Ok(Answer::Reply)
    }

    fn forget(&mut self, body: &[u8]) -> Done {
        let (head, list) = fuse_batch_forget_in::read_from_prefix(body).map_err(|_| Errno::INVAL)?;
        let list = list.chunks_exact(size_of::<fuse_forget_one>()).take(head.count as usize);
        for one in list.filter_map(|bytes| fuse_forget_one::read_from_bytes(bytes).ok()) {
            self.files.nodes.forget(one.nodeid, one.nlookup);
        }
        Ok(Answer::None)
    }

    fn attributes(&mut self, node: u64, asked: fuse_getattr_in) -> Done {
        let of_handle = asked.getattr_flags & FUSE_GETATTR_FH != 0;
        let stat = match self.handles.get(asked.fh) {
            Ok(handle) if of_handle => rustix::fs::fstat(handle.file())?,
            _ => rustix::fs::fstat(self.place(node)?)?,
        };
        self.told(&stat)
    }

    /// Opens the place of a file, to look at it or to change its attributes; of one that the guest has open, whatever
    /// its name leads to by now. Linux names the handle in few requests about an open file (fs/fuse/dir.c,
    /// `fuse_getattr` and `fuse_do_setattr`).
    fn place(&self, node: u64) -> Result<OwnedFd, Errno> {
        self.files.reach(node).or_else(|error| files::again(self.handles.of(node).ok_or(error)?))
    }

    /// Opens a file with contents. One that has lost its name is opened only if the guest has it open for as much: it
    /// may no longer be in the folder.
    fn contents(&self, node: u64, flags: OFlags) -> Result<OwnedFd, Errno> {
        let open = |error| files::again(self.handles.open_as(node, flags).ok_or(error)?);
        files::open(&self.files.reach(node).or_else(open)?, flags)
    }

    /// Replies with a file's attributes.
    fn told(&mut self, stat: &rustix::fs::Stat) -> Done {
        let attr = files::attributes(stat);
        self.reply.put(&fuse_attr_out { attr_valid: self.files.valid, attr, ..Default::default() });
        Ok(Answer::Reply)
    }

    fn open_file(&mut self, node: u64, asked: fuse_open_in) -> Done {
        if asked.flags & (O_ACCMODE | O_TRUNC) != 0 && !self.is_writable() {
            return Err(Errno::ROFS);
        }
        let file = self.contents(node, files::flags(asked.flags))?;
        self.opened(Handle::File { file, node })
    }

    fn opened(&mut self, handle: Handle) -> Done {
        let fh = self.handles.add(handle)?;
        self.reply.put(&fuse_open_out { fh, ..Default::default() });
        Ok(Answer::Reply)
    }

    fn read(&mut self, asked: fuse_read_in) -> Done {
        let Handle::File { file, .. } = self.handles.get(asked.fh)? else { return Err(Errno::ISDIR) };
        let room = self.reply.room(asked.size)?;
        let mut filled = 0;
        while filled < room.len() {
            let offset = asked.offset.checked_add(filled as u64).ok_or(Errno::INVAL)?;
            match rustix::io::pread(file, &mut room[filled..], offset) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        self.reply.keep(filled);
        Ok(Answer::Reply)
    }

    fn list(&mut self, asked: fuse_read_in, plus: bool) -> Done {
        let Handle::Folder { folder, node } = self.handles.get(asked.fh)? else { return Err(Errno::NOTDIR) };
        // It may have been moved out of the folder since.
        self.files.reach(*node)?;
        let files = plus.then_some((&mut self.files, *node));
        folder::list(folder, asked.offset, asked.size, files, &mut self.reply)?;
        Ok(Answer::Reply)
    }

    fn statistics(&mut self) -> Done {
        let stat = self.files.statistics()?;
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let st = fuse_kstatfs {
            blocks: stat.f_blocks,
            bfree: stat.f_bfree,
            bavail: stat.f_bavail,
            files: stat.f_files,
            ffree: stat.f_ffree,
            bsize: small(stat.f_bsize),
            namelen: small(stat.f_namemax),
            frsize: small(stat.f_frsize),
            ..Default::default()
        };
        self.reply.put(&fuse_statfs_out { st });
        Ok(Answer::Reply)
    }
}

/// Takes the structure that a request begins with; a newer kernel's may be longer.
fn take<T: FromBytes>(body: &[u8]) -> Result<T, Errno> {
    T::read_from_prefix(body).map(|(value, _)| value).map_err(|_| Errno::INVAL)
}

/// Judges a name, which ends with a zero: one component of a path, and no way up.
fn name(body: &[u8]) -> Result<&OsStr, Errno> {
    named(body).map(|(name, _)| name)
}

/// Splits a body into a name and what is after it.
fn named(body: &[u8]) -> Result<(&OsStr, &[u8]), Errno> {
    const LONGEST: usize = 255;
    let (name, rest) = text(body)?;
    match name {
        [] | b"." | b".." => Err(Errno::INVAL),
        name if name.contains(&b'/') => Err(Errno::INVAL),
        name if name.len() > LONGEST => Err(Errno::NAMETOOLONG),
        name => Ok((OsStr::from_bytes(name), rest)),
    }
}

/// Splits bytes at the first zero.
fn text(body: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    let end = body.iter().position(|byte| *byte == 0).ok_or(Errno::INVAL)?;
    Ok((&body[..end], &body[end + 1..]))
}
