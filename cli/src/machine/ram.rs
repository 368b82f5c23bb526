//! The machine's RAM: an anonymous file, mapped by QEMU, read and written by us.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use anyhow::Context as _;
use hv_wire::platform::{self, MAX_VPS, RAM_BASE};
use hv_wire::{BootInfo, Report, VpReport};
use rustix::fs::{FallocateFlags, MemfdFlags, SeekFrom};
use rustix::io::{Errno, FdFlags};
use zerocopy::{FromBytes, IntoBytes};

use crate::interrupt;
use crate::setup::size::exact;

/// Bytes of a piece of RAM at most.
pub(crate) const PIECE: usize = 64 << 10;

/// RAM of a machine, initially zero. It has no name in any file system, so it is freed with the last process that holds
/// it.
#[derive(Debug)]
pub(crate) struct Ram {
    file: File,
    size: u64,
}

impl Ram {
    /// Creates RAM of `size` bytes at [`RAM_BASE`].
    pub(crate) fn new(size: u64) -> anyhow::Result<Self> {
        let explain =
            || format!("cannot reserve {} for the machine's RAM; give a smaller --memory", exact(size));
        let fd = rustix::fs::memfd_create("hv-ram", MemfdFlags::CLOEXEC).with_context(explain)?;
        let file = File::from(fd);
        file.set_len(size).with_context(explain)?;
        Ok(Self { file, size })
    }

    /// Returns the size of RAM in bytes.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Lets children started from now on inherit the file, and returns its path in them.
    pub(crate) fn inherit(&self) -> anyhow::Result<String> {
        rustix::io::fcntl_setfd(&self.file, FdFlags::empty())?;
        Ok(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Reverts [`Ram::inherit`].
    pub(crate) fn disinherit(&self) -> anyhow::Result<()> {
        Ok(rustix::io::fcntl_setfd(&self.file, FdFlags::CLOEXEC)?)
    }

    fn offset(&self, address: u64, length: usize) -> anyhow::Result<u64> {
        let offset = address.checked_sub(RAM_BASE);
        let end = offset.and_then(|offset| offset.checked_add(length as u64));
        end.filter(|&end| end <= self.size)
            .and(offset)
            .with_context(|| format!("{length} bytes at {address:#x} are outside the machine's RAM"))
    }

    /// Writes to a physical address.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> anyhow::Result<()> {
        let offset = self.offset(address, bytes.len())?;
        self.file.write_all_at(bytes, offset).context("cannot write the machine's RAM")
    }

    /// Reads the value at a physical address.
    pub(crate) fn read<T: FromBytes + IntoBytes>(&self, address: u64) -> anyhow::Result<Box<T>> {
        let mut value = T::new_box_zeroed().map_err(|_| anyhow::anyhow!("out of memory"))?;
        self.read_into(address, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Reads bytes from a physical address.
    pub(crate) fn read_into(&self, address: u64, bytes: &mut [u8]) -> anyhow::Result<()> {
        let offset = self.offset(address, bytes.len())?;
        self.file.read_exact_at(bytes, offset).context("cannot read the machine's RAM")
    }

    /// Returns the bytes of the host's memory that it occupies.
    pub(crate) fn occupied(&self) -> anyhow::Result<u64> {
        /// Bytes of the unit of `st_blocks` (POSIX leaves it open; Linux, stat(2)).
        const BLOCK: u64 = 512;
        let metadata = self.file.metadata().context("cannot see how large the machine's RAM is")?;
        Ok(metadata.blocks() * BLOCK)
    }

    /// Gives the host's memory at a physical address back: `length` bytes there read as zeros.
    pub(crate) fn discard(&self, address: u64, length: u64) -> std::io::Result<()> {
        let offset = address.checked_sub(RAM_BASE).ok_or(std::io::ErrorKind::InvalidInput)?;
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.file, hole, offset, length)?)
    }

    /// Passes each piece of RAM that is not zero to `take`, with its physical address; none has more than [`PIECE`]
    /// bytes.
    pub(crate) fn pieces(
        &self,
        mut take: impl FnMut(u64, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        static ZEROS: [u8; PIECE] = [0; PIECE];
        let mut buffer = vec![0; PIECE];
        let mut at = 0;
        loop {
            at = match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
                Ok(at) => at,
                // There are no more data.
                Err(Errno::NXIO) => return Ok(()),
                Err(error) => return Err(error).context("cannot read the machine's RAM"),
            };
            let end = rustix::fs::seek(&self.file, SeekFrom::Hole(at))?.min(self.size);
            while at < end {
                interrupt::check()?;
                let bytes = &mut buffer[..(end - at).min(PIECE as u64) as usize];
                self.file.read_exact_at(bytes, at).context("cannot read the machine's RAM")?;
                if *bytes != ZEROS[..bytes.len()] {
                    take(RAM_BASE + at, bytes)?;
                }
                at += bytes.len() as u64;
            }
        }
    }

    /// Returns another handle of the same RAM, for another thread.
    pub(crate) fn share(&self) -> anyhow::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, size: self.size })
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
            assert!(bytes.len() <= PIECE && bytes.iter().any(|byte| *byte != 0));
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
    fn addresses_outside_are_errors() {
        let ram = Ram::new(1 << 20).unwrap();
        assert!(ram.write(RAM_BASE - 1, &[0]).is_err());
        assert!(ram.write(RAM_BASE + (1 << 20), &[0]).is_err());
        assert!(ram.write(u64::MAX, &[0, 0]).is_err());
        assert!(ram.write(RAM_BASE + (1 << 20) - 1, &[0]).is_ok());
    }
}
