//! The machine's RAM: anonymous files, mapped by QEMU, read and written by us.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hv_wire::platform::{self, GUEST_RAM_BASE, MAX_VPS, RAM_BASE};
use hv_wire::{BootInfo, Report, VpReport};
use rustix::fs::{FallocateFlags, MemfdFlags, SeekFrom};
use rustix::io::{Errno, FdFlags};
use zerocopy::{FromBytes, IntoBytes};

use super::private::{Own, Private};
use crate::interrupt;
use crate::setup::size::exact;

/// Bytes of a piece of RAM at most.
pub(crate) const PIECE: usize = 64 << 10;

/// Names of the files of RAM that lies apart, in their order.
const APART: [&str; 3] = ["below", "ram", "behind"];
/// The one of them that is the guest's.
const GUEST: usize = 1;

/// The files that RAM is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One, of this many bytes.
    Whole(u64),
    /// Three: of what is below the guest's RAM, of the guest's RAM, and of what is behind it. The first and the last
    /// are the hypervisor's. A machine that can be saved has these, so that one that goes on can have the guest's from
    /// the snapshot, as pages of QEMU's own.
    Apart { sizes: [u64; 3], private: bool },
}

impl Layout {
    /// Returns the layout of a machine that can be saved, whose guest has `guest` bytes of the `size` bytes of RAM.
    pub(crate) fn apart(size: u64, guest: u64) -> Self {
        let below = GUEST_RAM_BASE - RAM_BASE;
        Self::Apart { sizes: [below, guest, size.saturating_sub(below + guest)], private: false }
    }

    /// Returns the bytes of RAM.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Whole(size) => *size,
            Self::Apart { sizes, .. } => sizes.iter().sum(),
        }
    }

    /// Returns the files' names, the bytes of each, and whether QEMU maps it privately.
    pub(super) fn files(&self) -> Vec<(&'static str, u64, bool)> {
        match self {
            Self::Whole(size) => vec![("ram", *size, false)],
            Self::Apart { sizes, private } => {
                let files = APART.into_iter().zip(*sizes).enumerate();
                files.map(|(n, (name, size))| (name, size, *private && n == GUEST)).collect()
            }
        }
    }
}

/// RAM of a machine, initially zero. Its files have no names in any file system, so they are freed with the last
/// process that holds them; the guest's of a machine that goes on is the snapshot's. A copy is another handle of the
/// same RAM.
#[derive(Clone, Debug)]
pub(crate) struct Ram {
    layout: Layout,
    parts: Arc<[Part]>,
}

/// A file of RAM.
#[derive(Debug)]
struct Part {
    file: File,
    /// Where it begins in RAM.
    start: u64,
    size: u64,
    /// What QEMU writes stays in its own pages, if this is there.
    private: Option<Own>,
}

impl Ram {
    /// Creates RAM of `size` bytes at [`RAM_BASE`], in one file.
    #[cfg(test)]
    pub(crate) fn new(size: u64) -> anyhow::Result<Self> {
        Self::of(Layout::Whole(size))
    }

    /// Creates RAM at [`RAM_BASE`].
    pub(crate) fn of(layout: Layout) -> anyhow::Result<Self> {
        Self::with(layout, None)
    }

    /// Creates RAM whose guest's is `file`, which stays as it is: QEMU writes to pages of its own.
    pub(crate) fn of_saved(sizes: [u64; 3], file: File) -> anyhow::Result<Self> {
        Self::with(Layout::Apart { sizes, private: true }, Some(file))
    }

    fn with(layout: Layout, mut saved: Option<File>) -> anyhow::Result<Self> {
        let explain = || {
            format!("cannot reserve {} for the machine's RAM; give a smaller --memory", exact(layout.size()))
        };
        let mut start = 0;
        let mut parts = Vec::new();
        for (_, size, is_private) in layout.files() {
            let part = match saved.take_if(|_| is_private) {
                Some(file) => Part { file, start, size, private: Some(Own::default()) },
                None => {
                    let fd = rustix::fs::memfd_create("hv-ram", MemfdFlags::CLOEXEC).with_context(explain)?;
                    let file = File::from(fd);
                    file.set_len(size).with_context(explain)?;
                    Part { file, start, size, private: None }
                }
            };
            start += size;
            parts.push(part);
        }
        Ok(Self { layout, parts: parts.into() })
    }

    /// Returns the size of RAM in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.layout.size()
    }

    /// Returns the files that it is in.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Lets children started from now on inherit the files, and returns their paths in them.
    pub(crate) fn inherit(&self) -> anyhow::Result<Vec<String>> {
        let inherited = self.parts.iter().map(|part| {
            rustix::io::fcntl_setfd(&part.file, FdFlags::empty())?;
            Ok(format!("/proc/self/fd/{}", part.file.as_raw_fd()))
        });
        inherited.collect()
    }

    /// Reverts [`Ram::inherit`].
    pub(crate) fn disinherit(&self) -> anyhow::Result<()> {
        self.parts.iter().try_for_each(|part| Ok(rustix::io::fcntl_setfd(&part.file, FdFlags::CLOEXEC)?))
    }

    /// Notes that this child has mapped the files: what it has of its own is read from there.
    pub(super) fn mapped_by(&self, child: u32) {
        for part in self.parts.iter() {
            if let Some(own) = &part.private {
                own.find(child, &part.file, part.size);
            }
        }
    }

    /// Passes the parts of RAM from a physical address on to `act`: each with the offset in it, and the range of the
    /// `length` bytes.
    fn each(
        &self,
        address: u64,
        length: usize,
        mut act: impl FnMut(&Part, u64, Range<usize>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let offset = address.checked_sub(RAM_BASE);
        let end = offset.and_then(|offset| offset.checked_add(length as u64));
        let mut offset = end
            .filter(|&end| end <= self.size())
            .and(offset)
            .with_context(|| format!("{length} bytes at {address:#x} are outside the machine's RAM"))?;
        let mut done = 0;
        for part in self.parts.iter() {
            if done == length || part.start + part.size <= offset {
                continue;
            }
            let at = offset - part.start;
            let count = ((length - done) as u64).min(part.size - at);
            act(part, at, done..done + count as usize)?;
            (offset, done) = (offset + count, done + count as usize);
        }
        Ok(())
    }

    /// Writes to a physical address.
    ///
    /// # Errors
    /// It is outside of RAM, or in the guest's of a machine that was saved, which stays as it is.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> anyhow::Result<()> {
        self.each(address, bytes.len(), |part, at, range| {
            ensure!(part.private.is_none(), "{address:#x} is in memory that is QEMU's own");
            part.file.write_all_at(&bytes[range], at).context("cannot write the machine's RAM")
        })
    }

    /// Reads the value at a physical address.
    pub(crate) fn read<T: FromBytes + IntoBytes>(&self, address: u64) -> anyhow::Result<Box<T>> {
        let mut value = T::new_box_zeroed().map_err(|_| anyhow::anyhow!("out of memory"))?;
        self.read_into(address, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Reads bytes from a physical address.
    pub(crate) fn read_into(&self, address: u64, bytes: &mut [u8]) -> anyhow::Result<()> {
        self.each(address, bytes.len(), |part, at, range| part.read(at, &mut bytes[range]))
    }

    /// Returns the bytes of the host's memory that it occupies, without what it shares with a snapshot.
    pub(crate) fn occupied(&self) -> anyhow::Result<u64> {
        self.parts.iter().map(Part::occupied).sum()
    }

    /// Gives the host's memory at a physical address back: `length` bytes there read as zeros. Of a machine that was
    /// saved, the guest's stays QEMU's.
    pub(crate) fn discard(&self, address: u64, length: u64) -> std::io::Result<()> {
        let offset = address.checked_sub(RAM_BASE).ok_or(std::io::ErrorKind::InvalidInput)?;
        let part = self.parts.iter().find(|part| (part.start..part.start + part.size).contains(&offset));
        let part = part.ok_or(std::io::ErrorKind::InvalidInput)?;
        if part.private.is_some() {
            return Ok(());
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&part.file, hole, offset - part.start, length)?)
    }

    /// Passes each piece of RAM that is not zero to `take`, with its physical address. Pieces have [`PIECE`] bytes,
    /// the last one of a file as many as there are.
    pub(crate) fn pieces(
        &self,
        mut take: impl FnMut(u64, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.parts
            .iter()
            .try_for_each(|part| part.pieces(|at, bytes| take(RAM_BASE + part.start + at, bytes)))
    }

    /// Passes each piece of the guest's RAM that is not zero to `take`, with its offset in its file.
    pub(crate) fn guest_pieces(
        &self,
        take: impl FnMut(u64, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.parts.get(GUEST).map_or(Ok(()), |part| part.pieces(take))
    }

    /// Writes the hypervisor's boot information.
    pub(crate) fn put_boot_info(&self, info: &BootInfo) -> anyhow::Result<()> {
        self.write(platform::BOOT_INFO, info.as_bytes())
    }

    /// Reads the hypervisor's current report.
    pub(crate) fn report(&self) -> anyhow::Result<Box<Report>> {
        self.read(platform::REPORT)
    }

    /// Reads the current reports of the first `vps` VPs.
    pub(crate) fn vp_reports(&self, vps: u32) -> anyhow::Result<Vec<Box<VpReport>>> {
        let vps = u64::from(vps).min(MAX_VPS as u64);
        let info: Box<BootInfo> = self.read(platform::BOOT_INFO)?;
        (0..vps as usize).map(|vp| self.read(info.vp_report(vp))).collect()
    }
}

impl Part {
    /// Returns what QEMU has of its own.
    fn own(&self) -> anyhow::Result<Option<&Private>> {
        Ok(self.private.as_ref().map(Own::get).transpose()?.flatten())
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> anyhow::Result<()> {
        match self.own()? {
            Some(own) if own.is_own(at, bytes.len() as u64)? => own.read(at, bytes),
            _ => self.file.read_exact_at(bytes, at).context("cannot read the machine's RAM"),
        }
    }

    fn occupied(&self) -> anyhow::Result<u64> {
        /// Bytes of the unit of `st_blocks` (POSIX leaves it open; Linux, stat(2)).
        const BLOCK: u64 = 512;
        match (&self.private, self.own()?) {
            (_, Some(own)) => own.own_bytes(),
            (Some(_), None) => Ok(0),
            (None, _) => {
                let metadata = self.file.metadata().context("cannot see how large the machine's RAM is")?;
                Ok(metadata.blocks() * BLOCK)
            }
        }
    }

    /// Returns the offset from which on the next piece may not be zero, a multiple of [`PIECE`]; `at` is one.
    fn next(&self, at: u64) -> anyhow::Result<Option<u64>> {
        let data = match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
            Ok(data) => data.min(self.size),
            // There are no more data.
            Err(Errno::NXIO) => self.size,
            Err(error) => return Err(error).context("cannot read the machine's RAM"),
        };
        let own = self.own()?.map(|own| own.next_own(at, data)).transpose()?.flatten();
        let next = own.map_or(data, |own| own.start);
        Ok((next < self.size).then(|| next - next % PIECE as u64))
    }

    fn pieces(&self, mut take: impl FnMut(u64, &[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        static ZEROS: [u8; PIECE] = [0; PIECE];
        let mut buffer = vec![0; PIECE];
        let mut at = 0;
        while let Some(next) = self.next(at)? {
            interrupt::check()?;
            let bytes = &mut buffer[..(self.size - next).min(PIECE as u64) as usize];
            self.read(next, bytes)?;
            if *bytes != ZEROS[..bytes.len()] {
                take(next, bytes)?;
            }
            at = next + bytes.len() as u64;
            if at == self.size {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let ram = Ram::new(8 << 20).unwrap();
        let info = BootInfo { vps: 8, vps_base: platform::GUEST_RAM_BASE, ..BootInfo::new_zeroed() };
        ram.put_boot_info(&info).unwrap();
        let mut second = VpReport::new_zeroed();
        second.started = 1;
        ram.write(info.vp_report(1), second.as_bytes()).unwrap();
        let mut report = Report::new_zeroed();
        report.magic = Report::MAGIC;
        report.guest_os_id = 7;
        ram.write(platform::REPORT, report.as_bytes()).unwrap();
        assert_eq!(ram.report().unwrap().guest_os_id, 7);
        let started = ram.vp_reports(8).unwrap().iter().map(|vp| vp.started).collect::<Vec<_>>();
        assert_eq!(started, [0, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_pieces_are_all_that_is_not_zero() {
        let ram = Ram::new(64 << 20).unwrap();
        assert!(ram.pieces(|_, _| panic!("a piece of nothing")).is_ok());
        let ones = vec![1; 3 * PIECE + 5];
        let end = RAM_BASE + (64 << 20);
        for (address, bytes) in [(RAM_BASE, &b"start"[..]), (RAM_BASE + 70_001, &ones), (end - 3, b"end")] {
            ram.write(address, bytes).unwrap();
        }
        ram.write(RAM_BASE + (8 << 20), &vec![0; 2 * PIECE]).unwrap();
        let copy = Ram::new(ram.size()).unwrap();
        let mut count = 0;
        ram.pieces(|address, bytes| {
            count += bytes.len();
            assert!((address - RAM_BASE).is_multiple_of(PIECE as u64) && bytes.len() == PIECE);
            assert!(bytes.iter().any(|byte| *byte != 0));
            copy.write(address, bytes)
        })
        .unwrap();
        assert!(count < 1 << 20, "{count} bytes");
        let read = |ram: &Ram| {
            let mut bytes = vec![0; 64 << 20];
            ram.read_into(RAM_BASE, &mut bytes).unwrap();
            bytes
        };
        assert!(read(&ram) == read(&copy));
    }

    #[test]
    fn ram_that_lies_apart_reads_and_writes_as_one_piece() {
        let (below, guest) = (GUEST_RAM_BASE - RAM_BASE, 1 << 20);
        let ram = Ram::of(Layout::apart(below + guest + 4096, guest)).unwrap();
        let all: Vec<u8> = (0..guest + 2).map(|n| (n % 251) as u8 + 1).collect();
        ram.write(GUEST_RAM_BASE - 1, &all).unwrap();
        let mut read = vec![0; all.len()];
        ram.read_into(GUEST_RAM_BASE - 1, &mut read).unwrap();
        assert!(read == all);
        let mut pieces = Vec::new();
        ram.pieces(|address, bytes| {
            pieces.extend(
                bytes
                    .iter()
                    .enumerate()
                    .filter(|(_, byte)| **byte != 0)
                    .map(|(n, byte)| (address + n as u64, *byte)),
            );
            Ok(())
        })
        .unwrap();
        let expected = all.iter().enumerate().map(|(n, byte)| (GUEST_RAM_BASE - 1 + n as u64, *byte));
        assert!(pieces.iter().copied().eq(expected));
        assert!(ram.write(RAM_BASE + ram.size() - 1, &[1]).is_ok());
        assert!(ram.write(RAM_BASE + ram.size() - 1, &[1, 2]).is_err());
        assert!(ram.discard(RAM_BASE + ram.size(), 1).is_err());
    }

    #[test]
    fn addresses_outside_are_errors() {
        let ram = Ram::new(1 << 20).unwrap();
        assert!(ram.write(RAM_BASE - 1, &[0]).is_err());
        assert!(ram.write(RAM_BASE + (1 << 20), &[0]).is_err());
        assert!(ram.write(u64::MAX, &[0, 0]).is_err());
        assert!(ram.write(RAM_BASE + (1 << 20) - 1, &[0]).is_ok());
    }
}
