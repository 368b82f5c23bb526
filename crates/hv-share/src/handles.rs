//! What the guest has open: a bounded number.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Open file or folder.
#[derive(Debug)]
pub(crate) enum Handle {
    /// A file with contents, and its number.
    File { file: OwnedFd, node: u64 },
    /// A folder to be read, and its number.
    Folder { folder: OwnedFd, node: u64 },
}

impl Handle {
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        match self {
            Self::File { file, .. } | Self::Folder { folder: file, .. } => file.as_fd(),
        }
    }

    const fn node(&self) -> u64 {
        match self {
            Self::File { node, .. } | Self::Folder { node, .. } => *node,
        }
    }

    /// Returns true if it is open to read, to write or for both, as these flags ask for.
    fn allows(&self, flags: OFlags) -> bool {
        rustix::fs::fcntl_getfl(self.file()).is_ok_and(|own| {
            let own = own & OFlags::RWMODE;
            own == OFlags::RDWR || own == flags & OFlags::RWMODE
        })
    }
}

/// All of them, by numbers that are given once.
#[derive(Debug)]
pub(crate) struct Handles {
    open: HashMap<u64, Handle>,
    next: u64,
    most: usize,
}

impl Handles {
    pub(crate) fn new(most: usize) -> Self {
        Self { open: HashMap::new(), next: 1, most }
    }

    /// Judges whether one more may be open.
    ///
    /// # Errors
    /// `ENFILE`.
    pub(crate) fn has_room(&self) -> Result<(), Errno> {
        if self.open.len() >= self.most { Err(Errno::NFILE) } else { Ok(()) }
    }

    /// Gives something its number.
    ///
    /// # Errors
    /// `ENFILE`: too many are open.
    pub(crate) fn add(&mut self, handle: Handle) -> Result<u64, Errno> {
        self.has_room()?;
        let number = self.next;
        self.next += 1;
        self.open.insert(number, handle);
        Ok(number)
    }

    pub(crate) fn get(&self, number: u64) -> Result<&Handle, Errno> {
        self.open.get(&number).ok_or(Errno::BADF)
    }

    /// Returns something that the guest has open by the number of its file, whatever its name leads to by now.
    pub(crate) fn of(&self, node: u64) -> Option<BorrowedFd<'_>> {
        self.open.values().find(|handle| handle.node() == node).map(Handle::file)
    }

    /// Returns such a thing that is open as these flags ask for, or for more.
    pub(crate) fn open_as(&self, node: u64, flags: OFlags) -> Option<BorrowedFd<'_>> {
        let fits = |handle: &&Handle| handle.node() == node && handle.allows(flags);
        self.open.values().find(fits).map(Handle::file)
    }

    /// Closes everything. Numbers are not given again.
    pub(crate) fn close_all(&mut self) {
        self.open.clear();
    }

    pub(crate) fn close(&mut self, number: u64) -> Result<(), Errno> {
        self.open.remove(&number).map(drop).ok_or(Errno::BADF)
    }
}
