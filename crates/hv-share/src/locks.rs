//! Locks of files, which the guest's programs and the host's have of each other.
//!
//! flock(2) locks what the guest has open. A lock of fcntl(2) has an owner in the guest, who loses all locks of a file
//! once he closes it, by whichever descriptor; so each owner has a descriptor of his own here, with locks of its open
//! file description (fcntl(2), "Open file description locks").

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use polyfuse_kernel::{
    FUSE_FLUSH, FUSE_GETLK, FUSE_INTERRUPT, FUSE_LK_FLOCK, FUSE_SETLKW, fuse_file_lock, fuse_flush_in,
    fuse_in_header, fuse_interrupt_in, fuse_lk_in, fuse_lk_out,
};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::handles::{Handle, Handles};
use crate::nodes::FileId;
use crate::{Answer, Done, Share, take};

/// Requests that wait for a lock at most.
pub(crate) const MOST_WAITING: usize = 64;

/// Kinds of a lock, with the same values on all of Linux's architectures but Alpha's and SPARC's.
const READ: u32 = 0;
const WRITE: u32 = 1;
const UNLOCK: u32 = 2;

/// A request that waits for a lock.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    unique: u64,
    asked: Asked,
}

/// A lock that is asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    fh: u64,
    owner: u64,
    /// A lock of flock(2), of the whole file.
    whole: bool,
    start: u64,
    end: u64,
    kind: u32,
}

/// All locks of the guest's owners, and those that are waited for.
#[derive(Debug)]
pub(crate) struct Locks {
    owners: HashMap<(FileId, u64), OwnedFd>,
    most: usize,
    waiting: VecDeque<Waiting>,
}

impl Locks {
    /// Creates room for this number of owners' descriptors.
    pub(crate) fn new(most: usize) -> Self {
        Self { owners: HashMap::new(), most, waiting: VecDeque::new() }
    }

    pub(crate) fn release_all(&mut self) {
        self.owners.clear();
        self.waiting.clear();
    }

    /// Sets a lock if no other is in the way.
    ///
    /// # Errors
    /// `EAGAIN`: one is; others as of flock(2) and fcntl(2).
    fn set(&mut self, handles: &Handles, asked: &Asked) -> Result<(), Errno> {
        let Handle::File { file, .. } = handles.get(asked.fh)? else { return Err(Errno::BADF) };
        if asked.whole {
            let operation = match asked.kind {
                READ => FlockOperation::NonBlockingLockShared,
                WRITE => FlockOperation::NonBlockingLockExclusive,
                UNLOCK => FlockOperation::NonBlockingUnlock,
                _ => return Err(Errno::INVAL),
            };
            return rustix::fs::flock(file, operation);
        }
        let range = range(asked)?;
        let id = (FileId::from(&rustix::fs::fstat(file)?), asked.owner);
        if asked.kind == UNLOCK && asked.start == 0 && range.l_len == 0 {
            // All that he has.
            self.owners.remove(&id);
            return Ok(());
        }
        call(self.owner(id, file)?, FcntlArg::F_OFD_SETLK(&range))
    }

    /// Returns an owner's descriptor of a file.
    fn owner(&mut self, id: (FileId, u64), file: &OwnedFd) -> Result<&OwnedFd, Errno> {
        if self.owners.len() >= self.most && !self.owners.contains_key(&id) {
            return Err(Errno::NOLCK);
        }
        Ok(match self.owners.entry(id) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(again(file)?),
        })
    }

    /// Returns the lock that is in the way of one, if any.
    fn in_the_way(&mut self, handles: &Handles, asked: &Asked) -> Result<fuse_file_lock, Errno> {
        let Handle::File { file, .. } = handles.get(asked.fh)? else { return Err(Errno::BADF) };
        let mut range = range(asked)?;
        let id = (FileId::from(&rustix::fs::fstat(file)?), asked.owner);
        call(self.owner(id, file)?, FcntlArg::F_OFD_GETLK(&mut range))?;
        // No guest process has the number of the host's.
        let start = range.l_start.cast_unsigned();
        let end = if range.l_len == 0 { LAST } else { start + (range.l_len - 1).cast_unsigned() };
        Ok(fuse_file_lock { start, end, typ: range.l_type.cast_unsigned().into(), pid: 0 })
    }
}

impl Share {
    /// Does what a request about locks asks for, in a folder that the guest may change.
    pub(crate) fn lock(&mut self, head: &fuse_in_header, body: &[u8]) -> Done {
        match head.opcode {
            FUSE_INTERRUPT => {
                let fuse_interrupt_in { unique } = take(body)?;
                self.interrupt(unique);
                Ok(Answer::None)
            }
            FUSE_FLUSH => {
                let asked: fuse_flush_in = take(body)?;
                let Handle::File { file, .. } = self.handles.get(asked.fh)? else { return Err(Errno::BADF) };
                let id = (FileId::from(&rustix::fs::fstat(file)?), asked.lock_owner);
                self.locks.owners.remove(&id);
                Ok(Answer::Reply)
            }
            opcode => {
                let asked = Asked::from(take::<fuse_lk_in>(body)?);
                if opcode == FUSE_GETLK {
                    let lk = self.locks.in_the_way(&self.handles, &asked)?;
                    self.reply.put(&fuse_lk_out { lk });
                    return Ok(Answer::Reply);
                }
                match self.locks.set(&self.handles, &asked) {
                    Err(Errno::AGAIN) if opcode == FUSE_SETLKW => {
                        self.wait(Waiting { unique: head.unique, asked })
                    }
                    done => done.map(|()| Answer::Reply),
                }
            }
        }
    }

    fn wait(&mut self, waiting: Waiting) -> Done {
        if self.locks.waiting.len() >= MOST_WAITING {
            return Err(Errno::NOLCK);
        }
        self.locks.waiting.push_back(waiting);
        Ok(Answer::None)
    }

    /// Ends a request that waits: [`retry`](Self::retry) replies to it.
    fn interrupt(&mut self, unique: u64) {
        for waiting in self.locks.waiting.iter_mut().filter(|waiting| waiting.unique == unique) {
            waiting.asked.kind = INTERRUPTED;
        }
    }

    /// Returns true if requests wait for locks: call [`retry`](Self::retry) from time to time.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.locks.waiting.is_empty()
    }

    /// Tries each request that waits for a lock once more, and returns the reply to the first that has ended, if any
    /// has.
    pub fn retry(&mut self) -> Option<&[u8]> {
        for n in 0..self.locks.waiting.len() {
            let Waiting { unique, asked } = self.locks.waiting[n];
            let done = match asked.kind {
                INTERRUPTED => Err(Errno::INTR),
                _ => self.locks.set(&self.handles, &asked),
            };
            if done != Err(Errno::AGAIN) {
                self.locks.waiting.remove(n);
                self.reply.begin();
                return Some(self.reply.end(unique, done.err()));
            }
        }
        None
    }
}

/// Kind of a lock that is waited for no longer; no lock of a guest has it.
const INTERRUPTED: u32 = u32::MAX;

impl From<fuse_lk_in> for Asked {
    fn from(asked: fuse_lk_in) -> Self {
        let fuse_lk_in { fh, owner, lk, lk_flags, .. } = asked;
        // What the guest gives as no kind of a lock is none, and refused.
        let kind = if lk.typ > UNLOCK { UNLOCK + 1 } else { lk.typ };
        Self { fh, owner, whole: lk_flags & FUSE_LK_FLOCK != 0, start: lk.start, end: lk.end, kind }
    }
}

/// The last byte that a file can have (Linux, include/linux/fs.h, `OFFSET_MAX`).
const LAST: u64 = i64::MAX as u64;

/// Returns the range of a lock as fcntl(2) takes it.
fn range(asked: &Asked) -> Result<libc::flock, Errno> {
    let l_type = match asked.kind {
        READ => libc::F_RDLCK,
        WRITE => libc::F_WRLCK,
        UNLOCK => libc::F_UNLCK,
        _ => return Err(Errno::INVAL),
    };
    if asked.start > asked.end || asked.end > LAST {
        return Err(Errno::INVAL);
    }
    // 0 is up to the end, wherever that will be.
    let length = if asked.end == LAST { 0 } else { asked.end - asked.start + 1 };
    Ok(libc::flock {
        l_type: l_type as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: asked.start.cast_signed(),
        l_len: length.cast_signed(),
        l_pid: 0,
    })
}

fn call(file: &OwnedFd, argument: FcntlArg<'_>) -> Result<(), Errno> {
    fcntl(file, argument).map(drop).map_err(|error| Errno::from_raw_os_error(error as i32))
}

/// Opens an open file once more, to read and write if this process may: its locks are of both kinds.
fn again(file: &OwnedFd) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let own = rustix::fs::fcntl_getfl(file)? & OFlags::RWMODE;
    let rest = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let both = rustix::fs::openat(CWD, &path, OFlags::RDWR | rest, Mode::empty());
    both.or_else(|_| rustix::fs::openat(CWD, &path, own | rest, Mode::empty()))
}
