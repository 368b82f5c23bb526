//! Files that QEMU maps after the machine's RAM.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use rustix::io::FdFlags;

/// A file that is memory of the machine, after all that comes before it.
#[derive(Clone, Debug)]
pub(crate) struct Backing {
    pub(crate) file: Arc<File>,
    /// What it is called where a person reads QEMU's command line.
    pub(crate) name: String,
    /// Bytes, a multiple of the host's page.
    pub(crate) size: u64,
    /// QEMU cannot write to it either.
    pub(crate) read_only: bool,
    /// What QEMU writes to it stays in QEMU's memory.
    pub(crate) private: bool,
}

impl Backing {
    /// Returns the path that it has in a child that inherits it.
    pub(super) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }

    /// Lets the children that are started from now on inherit the file, or no longer.
    pub(super) fn inherit(&self, on: bool) -> anyhow::Result<()> {
        let flags = if on { FdFlags::empty() } else { FdFlags::CLOEXEC };
        Ok(rustix::io::fcntl_setfd(&*self.file, flags)?)
    }
}
