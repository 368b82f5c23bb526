//! Files that QEMU maps after the machine's RAM.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use anyhow::Context as _;
use rustix::io::FdFlags;

use super::private::Own;

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
    /// What QEMU writes to it stays in QEMU's memory, if this is there.
    pub(crate) private: Option<Own>,
}

impl Backing {
    /// Returns the path that it has in a child that inherits it.
    pub(super) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }

    /// Notes that this child has mapped it.
    pub(super) fn mapped_by(&self, child: u32) {
        if let Some(own) = &self.private {
            own.find(child, &self.file, self.size);
        }
    }

    /// Writes what QEMU has of its own to a copy of the file. Ends if `check` fails, which is called again and again.
    ///
    /// # Errors
    /// It cannot be read or written; or that of `check`.
    pub(crate) fn copy_own(&self, to: &File, check: &dyn Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let own = self.private.as_ref().map(Own::get).transpose()?.flatten();
        let Some(own) = own else { return Ok(()) };
        let mut pages = Vec::new();
        let mut at = 0;
        while let Some(next) = own.next_own(at, self.size)? {
            check()?;
            at = next.end.min(self.size);
            pages.resize((at - next.start) as usize, 0);
            own.read(next.start, &mut pages)?;
            to.write_all_at(&pages, next.start).context("cannot copy a disk")?;
        }
        Ok(())
    }

    /// Lets the children that are started from now on inherit the file, or no longer.
    pub(super) fn inherit(&self, on: bool) -> anyhow::Result<()> {
        let flags = if on { FdFlags::empty() } else { FdFlags::CLOEXEC };
        Ok(rustix::io::fcntl_setfd(&*self.file, flags)?)
    }
}
