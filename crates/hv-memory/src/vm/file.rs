//! Transfers between a file and guest memory, by the kernel and without a buffer in between.
#![expect(unsafe_code, reason = "the kernel gets addresses of guest memory")]

use core::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::vec::Vec;

use vm_memory::bitmap::Bitmap as _;
use vm_memory::volatile_memory::{PtrGuard, PtrGuardMut};
use vm_memory::{GuestAddress, Permissions};

use crate::{BadAddress, VmMemory};

/// Maximum number of parts of memory in a preadv (Linux, include/uapi/linux/uio.h: UIO_MAXIOV).
const READ_PARTS: usize = 1024;
/// Maximum number of parts in a pwritev: pages, where a guest's memory is scattered. The first writes to a file in
/// memory took a third longer with 64 such parts than with 16 (Linux 6.12).
const WRITE_PARTS: usize = 16;

/// preadv and pwritev: a descriptor, parts and their number, the place in the file.
type Call = unsafe extern "C" fn(c_int, *const libc::iovec, c_int, libc::off_t) -> libc::ssize_t;

/// The way of a transfer.
#[derive(Clone, Copy)]
enum Way {
    /// From the file to guest memory.
    In,
    /// From guest memory to the file.
    Out,
}

/// What keeps a slice mapped, if vm-memory maps it for a time.
enum Guard {
    In(PtrGuardMut),
    Out(PtrGuard),
}

impl Guard {
    fn part(&self) -> libc::iovec {
        match self {
            Self::In(guard) => libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() },
            Self::Out(guard) => {
                libc::iovec { iov_base: guard.as_ptr().cast_mut().cast(), iov_len: guard.len() }
            }
        }
    }
}

impl<M: vm_memory::GuestMemory> VmMemory<M> {
    /// Reads a file from byte `offset` on into guest memory: ranges of addresses and lengths, in their order. The
    /// system calls are preadv.
    ///
    /// # Errors
    /// [`BadAddress`] if part of a range is not guest memory; nothing has been read then. Within it, the file's error:
    /// `UnexpectedEof` if it ends before. Part of it has been read then.
    pub fn read_file(
        &self,
        file: &File,
        offset: u64,
        ranges: &[(u64, u64)],
    ) -> Result<io::Result<()>, BadAddress> {
        self.transfer(Way::In, file, offset, ranges)
    }

    /// Writes guest memory to a file from byte `offset` on: ranges of addresses and lengths, in their order. The system
    /// calls are pwritev.
    ///
    /// # Errors
    /// [`BadAddress`] if part of a range is not guest memory; nothing has been written then. Within it, the file's
    /// error. Part of it has been written then.
    pub fn write_file(
        &self,
        file: &File,
        offset: u64,
        ranges: &[(u64, u64)],
    ) -> Result<io::Result<()>, BadAddress> {
        self.transfer(Way::Out, file, offset, ranges)
    }

    fn transfer(
        &self,
        way: Way,
        file: &File,
        offset: u64,
        ranges: &[(u64, u64)],
    ) -> Result<io::Result<()>, BadAddress> {
        let (access, call, most): (_, Call, _) = match way {
            Way::In => (Permissions::Write, libc::preadv, READ_PARTS),
            Way::Out => (Permissions::Read, libc::pwritev, WRITE_PARTS),
        };
        let mut slices = Vec::with_capacity(ranges.len());
        for &(gpa, len) in ranges {
            let len = usize::try_from(len).map_err(|_| BadAddress)?;
            for slice in self.0.get_slices(GuestAddress(gpa), len, access).map_err(|_| BadAddress)? {
                let slice = slice.map_err(|_| BadAddress)?;
                if !slice.is_empty() {
                    slices.push(slice);
                }
            }
        }
        let guards: Vec<_> = slices
            .iter()
            .map(|slice| match way {
                Way::In => Guard::In(slice.ptr_guard_mut()),
                Way::Out => Guard::Out(slice.ptr_guard()),
            })
            .collect();
        let mut parts: Vec<libc::iovec> = guards.iter().map(Guard::part).collect();
        let end = match way {
            Way::In => io::ErrorKind::UnexpectedEof,
            Way::Out => io::ErrorKind::WriteZero,
        };
        let result = all(&mut parts, offset, end, |parts, offset| {
            let (fd, count) = (file.as_raw_fd(), parts.len().min(most) as c_int);
            // SAFETY: `call` is preadv or pwritev, which access nothing but `count` `iovec`, of which `parts` has as
            // many, and what they describe. That is the memory of one of `slices` each, or the end of it: `all` takes
            // bytes away from the front and does nothing else. By the contract of `VolatileSlice` that memory is
            // mapped, and all accesses to it are volatile, so no reference to it exists that the kernel's accesses
            // could contradict. This holds as long as the slice's lifetime, which is that of the borrow of `self`, and
            // its guard, which is dropped after the last call. The memory was asked for with the permission to write
            // it, and its guard is one for writes, if the kernel writes it: preadv alone does. The descriptor is open,
            // since `file` is borrowed.
            let done = unsafe { call(fd, parts.as_ptr(), count, offset) };
            usize::try_from(done).map_err(|_| io::Error::last_os_error())
        });
        drop(guards);
        if matches!(way, Way::In) {
            // All of it: what an error leaves is not known.
            slices.iter().for_each(|slice| slice.bitmap().mark_dirty(0, slice.len()));
        }
        Ok(result)
    }
}

/// Repeats a call until all parts are transferred. It gets what is left of them, and the place in the file, and returns
/// how many bytes it has transferred. None is the error `end`.
fn all(
    mut parts: &mut [libc::iovec],
    mut offset: u64,
    end: io::ErrorKind,
    mut call: impl FnMut(&[libc::iovec], libc::off_t) -> io::Result<usize>,
) -> io::Result<()> {
    while !parts.is_empty() {
        let at = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        match call(parts, at) {
            Ok(0) => return Err(end.into()),
            Ok(done) => {
                offset += done as u64;
                parts = behind(parts, done);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns what is left of the parts after their first `done` bytes.
fn behind(mut parts: &mut [libc::iovec], mut done: usize) -> &mut [libc::iovec] {
    while let Some(first) = parts.first_mut() {
        if done < first.iov_len {
            first.iov_base = first.iov_base.wrapping_byte_add(done);
            first.iov_len -= done;
            break;
        }
        done -= first.iov_len;
        parts = &mut parts[1..];
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    /// Returns parts with these addresses and lengths.
    fn parts(of: &[(usize, usize)]) -> Vec<libc::iovec> {
        let part = |&(address, len): &(usize, usize)| libc::iovec {
            iov_base: core::ptr::without_provenance_mut(address),
            iov_len: len,
        };
        of.iter().map(part).collect()
    }

    #[test]
    fn a_call_that_is_interrupted_or_ends_early_is_made_again_for_the_rest() {
        let mut outcomes = vec![
            Err(io::ErrorKind::Interrupted.into()),
            Ok(3),
            Err(io::ErrorKind::Interrupted.into()),
            Ok(7),
            Ok(6),
            Ok(4),
        ]
        .into_iter();
        let mut calls = Vec::new();
        let end = io::ErrorKind::UnexpectedEof;
        let done = all(&mut parts(&[(100, 8), (200, 8), (300, 4)]), 50, end, |parts, at| {
            calls.push((at, parts.len(), parts[0].iov_base as usize, parts[0].iov_len));
            outcomes.next().unwrap()
        });
        assert!(done.is_ok() && outcomes.next().is_none());
        let first = (50, 3, 100, 8);
        let second = (53, 3, 103, 5);
        assert_eq!(calls, [first, first, second, second, (60, 2, 202, 6), (66, 1, 300, 4)]);
    }

    #[test]
    fn an_end_and_an_error_end_a_transfer() {
        for (outcome, kind) in [
            (Ok(0), io::ErrorKind::WriteZero),
            (Err(io::ErrorKind::StorageFull.into()), io::ErrorKind::StorageFull),
        ] {
            let mut outcomes = vec![Ok(5), outcome].into_iter();
            let end = io::ErrorKind::WriteZero;
            let error = all(&mut parts(&[(100, 8)]), 0, end, |_, _| outcomes.next().unwrap()).unwrap_err();
            assert_eq!(error.kind(), kind);
        }
        let end = io::ErrorKind::UnexpectedEof;
        let error = all(&mut parts(&[(100, 8)]), u64::MAX, end, |_, _| Ok(8)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
