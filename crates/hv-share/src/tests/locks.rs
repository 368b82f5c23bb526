//! Locks that guests and the host's programs have of the same files.

use std::fs::{File, TryLockError};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use polyfuse_kernel::*;
use rustix::io::Errno;
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{Guest, request};
use crate::Access;
use crate::locks::MOST_WAITING;

const READ: u32 = 0;
const WRITE: u32 = 1;
const UNLOCK: u32 = 2;
const END: u64 = i64::MAX as u64;

/// Builds a lock of a guest's owner.
fn lock(fh: u64, owner: u64, typ: u32, start: u64, end: u64) -> fuse_lk_in {
    fuse_lk_in { fh, owner, lk: fuse_file_lock { start, end, typ, pid: 77 }, ..Default::default() }
}

/// Builds a lock of the whole file, by flock(2).
fn flock(fh: u64, typ: u32) -> fuse_lk_in {
    fuse_lk_in { lk_flags: FUSE_LK_FLOCK, ..lock(fh, 0, typ, 0, END) }
}

impl Guest {
    fn lock(&mut self, asked: &fuse_lk_in) -> Result<(), Errno> {
        self.ask(FUSE_SETLK, 0, asked.as_bytes()).map(drop)
    }

    /// Asks for a lock that is not to be had yet, and returns the request's number.
    fn wait(&mut self, asked: &fuse_lk_in) -> u64 {
        self.unique += 1;
        let sent = request(FUSE_SETLKW, self.unique, 0, asked.as_bytes());
        assert_eq!(self.share.answer(&sent), Ok(None));
        self.unique
    }

    /// Returns the reply to a request that has waited: its number, and the error or 0.
    fn retried(&mut self) -> Option<(u64, i32)> {
        let reply = self.share.retry()?;
        let head = fuse_out_header::read_from_bytes(reply).unwrap();
        Some((head.unique, -head.error))
    }

    fn two(&mut self) -> (u64, u64) {
        let node = self.walk("file").unwrap();
        (self.open_with(FUSE_OPEN, node, 2).unwrap(), self.open_with(FUSE_OPEN, node, 2).unwrap())
    }
}

/// Takes the host's own lock of a range, by fcntl(2).
fn host(file: &File, kind: i32, start: i64, length: i64) -> bool {
    let (l_type, l_whence) = (kind as i16, libc::SEEK_SET as i16);
    let range = libc::flock { l_type, l_whence, l_start: start, l_len: length, l_pid: 0 };
    fcntl(file, FcntlArg::F_OFD_SETLK(&range)).is_ok()
}

#[test]
fn ranges_are_locked_against_the_host_and_other_owners() {
    let mut guest = Guest::with(Access::ReadWrite);
    let file = File::options().read(true).write(true).open(guest.path("file")).unwrap();
    let (fh, again) = guest.two();
    guest.lock(&lock(fh, 1, WRITE, 0, 3)).unwrap();
    assert!(!host(&file, libc::F_WRLCK, 3, 1) && host(&file, libc::F_WRLCK, 4, 1));
    assert_eq!(guest.lock(&lock(again, 2, READ, 4, 9)), Err(Errno::AGAIN));
    // Its own owner is not in the way, by whichever descriptor.
    guest.lock(&lock(again, 1, READ, 2, 3)).unwrap();
    guest.lock(&lock(again, 2, READ, 2, 3)).unwrap();
    assert_eq!(guest.lock(&lock(again, 2, READ, 0, 0)), Err(Errno::AGAIN));
    // What is in the way, by the host's doing and by the guest's; and nothing.
    let out: fuse_lk_out = guest.get(FUSE_GETLK, 0, lock(fh, 1, WRITE, 4, END).as_bytes()).unwrap();
    assert_eq!((out.lk.typ, out.lk.start, out.lk.end, out.lk.pid), (WRITE, 4, 4, 0));
    let out: fuse_lk_out = guest.get(FUSE_GETLK, 0, lock(fh, 2, READ, 0, 1).as_bytes()).unwrap();
    assert_eq!((out.lk.typ, out.lk.start, out.lk.end), (WRITE, 0, 1));
    let out: fuse_lk_out = guest.get(FUSE_GETLK, 0, lock(fh, 1, WRITE, 5, END).as_bytes()).unwrap();
    assert_eq!(out.lk.typ, UNLOCK);
    guest.lock(&lock(fh, 1, UNLOCK, 0, 1)).unwrap();
    assert!(host(&file, libc::F_WRLCK, 0, 2) && host(&file, libc::F_UNLCK, 0, 2));
    // An owner who closes the file loses all locks of it.
    let flush = fuse_flush_in { fh: again, lock_owner: 1, ..Default::default() };
    guest.ask(FUSE_FLUSH, 0, flush.as_bytes()).unwrap();
    guest.lock(&lock(again, 2, UNLOCK, 0, END)).unwrap();
    assert!(host(&file, libc::F_WRLCK, 0, 0));
    for (start, end, kind) in [(2, 1, READ), (0, u64::MAX, READ), (0, 1, 3), (0, 1, u32::MAX)] {
        assert_eq!(guest.lock(&lock(fh, 3, kind, start, end)), Err(Errno::INVAL), "{start} {end} {kind}");
    }
}

#[test]
fn whole_files_are_locked_against_the_host() {
    let mut guest = Guest::with(Access::ReadWrite);
    let file = File::open(guest.path("file")).unwrap();
    let (fh, again) = guest.two();
    guest.lock(&flock(fh, WRITE)).unwrap();
    assert!(matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)));
    assert_eq!(guest.lock(&flock(again, READ)), Err(Errno::AGAIN));
    guest.lock(&flock(fh, READ)).unwrap();
    guest.lock(&flock(again, READ)).unwrap();
    file.try_lock_shared().unwrap();
    guest.lock(&flock(again, UNLOCK)).unwrap();
    // Closing the descriptor is enough.
    guest.close(fh).unwrap();
    file.unlock().unwrap();
    file.try_lock().unwrap();
    assert_eq!(guest.lock(&flock(again, READ)), Err(Errno::AGAIN));
}

#[test]
fn a_lock_is_waited_for() {
    let mut guest = Guest::with(Access::ReadWrite);
    let file = File::options().read(true).write(true).open(guest.path("file")).unwrap();
    let (fh, again) = guest.two();
    assert!(host(&file, libc::F_WRLCK, 0, 0));
    let (first, second) = (guest.wait(&lock(fh, 1, WRITE, 0, END)), guest.wait(&lock(fh, 2, WRITE, 0, END)));
    file.try_lock().unwrap();
    let third = guest.wait(&flock(again, READ));
    assert!(guest.share.is_waiting());
    assert_eq!(guest.retried(), None);
    file.unlock().unwrap();
    assert_eq!(guest.retried(), Some((third, 0)));
    // A signal ends the wait of one alone; one that waits no longer is not ended.
    for unique in [second, third] {
        guest.tell(FUSE_INTERRUPT, 0, &fuse_interrupt_in { unique });
    }
    assert_eq!(guest.retried(), Some((second, Errno::INTR.raw_os_error())));
    assert_eq!(guest.retried(), None);
    assert!(host(&file, libc::F_UNLCK, 0, 0));
    assert_eq!(guest.retried(), Some((first, 0)));
    assert!(!guest.share.is_waiting() && !host(&file, libc::F_WRLCK, 0, 1));
    // One that is closed meanwhile.
    let waits = guest.wait(&lock(fh, 2, WRITE, 0, END));
    guest.close(fh).unwrap();
    assert_eq!(guest.retried(), Some((waits, Errno::BADF.raw_os_error())));
    // They are bounded, and a kernel that starts over has none.
    let (fh, _) = guest.two();
    for _ in 0..MOST_WAITING {
        guest.wait(&lock(fh, 2, READ, 0, END));
    }
    assert_eq!(guest.ask(FUSE_SETLKW, 0, lock(fh, 2, READ, 0, END).as_bytes()), Err(Errno::NOLCK));
    guest.share.restart();
    assert!(!guest.share.is_waiting() && host(&file, libc::F_WRLCK, 0, 0));
}

#[test]
fn owners_are_bounded() {
    let mut guest = Guest::with(Access::ReadWrite);
    let (fh, _) = guest.two();
    for owner in 0..16 {
        guest.lock(&lock(fh, owner, READ, 0, 0)).unwrap();
    }
    assert_eq!(guest.lock(&lock(fh, 16, READ, 0, 0)), Err(Errno::NOLCK));
    guest.lock(&lock(fh, 3, UNLOCK, 0, END)).unwrap();
    guest.lock(&lock(fh, 16, READ, 0, 0)).unwrap();
}
