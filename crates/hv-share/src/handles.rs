//! What the guest has open: a bounded number.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

/// Open file or folder.
#[derive(Debug)]
pub(crate) enum Handle {
    /// A file with contents.
    File(OwnedFd),
    /// A folder, and its number.
    Folder {
        /// To be read.
        folder: OwnedFd,
        /// Its number.
        node: u64,
    },
}

impl Handle {
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        match self {
            Self::File(file) | Self::Folder { folder: file, .. } => file.as_fd(),
        }
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

    /// Gives something its number.
    ///
    /// # Errors
    /// `ENFILE`: too many are open.
    pub(crate) fn add(&mut self, handle: Handle) -> Result<u64, Errno> {
        if self.open.len() >= self.most {
            return Err(Errno::NFILE);
        }
        let number = self.next;
        self.next += 1;
        self.open.insert(number, handle);
        Ok(number)
    }

    pub(crate) fn get(&self, number: u64) -> Result<&Handle, Errno> {
        self.open.get(&number).ok_or(Errno::BADF)
    }

    /// Closes everything. Numbers are not given again.
    pub(crate) fn close_all(&mut self) {
        self.open.clear();
    }

    pub(crate) fn close(&mut self, number: u64) -> Result<(), Errno> {
        self.open.remove(&number).map(drop).ok_or(Errno::BADF)
    }
}
