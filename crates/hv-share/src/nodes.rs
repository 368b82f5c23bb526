//! The numbers of files: what the guest's kernel knows of the folder.
//!
//! A number stands for a name in a folder with a number, and for the file that had this name when the number was given.
//! No file is open for it, so the guest's kernel may know as many files as it likes. Numbers are given once: one that
//! was forgotten leads to nothing.

use std::collections::HashMap;
use std::sync::Arc;

use rustix::fs::Stat;
use rustix::io::Errno;

/// The number of the folder itself (Linux, include/uapi/linux/fuse.h, `FUSE_ROOT_ID`).
#[doc(alias = "FUSE_ROOT_ID")]
pub(crate) const ROOT: u64 = 1;
/// Numbers at most: each has a name, and Linux has some KiB of its own memory for each.
const MOST: usize = 1 << 20;
/// Folders on the way to a file at most: a path has 4,096 bytes in Linux, and each folder two of them at least.
const DEEPEST: usize = 2048;

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl From<&Stat> for FileId {
    fn from(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

#[derive(Debug)]
struct Node {
    folder: u64,
    name: Arc<[u8]>,
    file: FileId,
    /// How often the guest's kernel was told of it, and has not forgotten it.
    known: u64,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Nodes {
    by_number: HashMap<u64, Node>,
    /// The newest number of each name.
    by_name: HashMap<(u64, Arc<[u8]>), u64>,
    next: u64,
}

impl Nodes {
    pub(crate) fn new() -> Self {
        Self { by_number: HashMap::new(), by_name: HashMap::new(), next: ROOT + 1 }
    }

    /// Returns the number of the file of a name, a new one if another file had the name, and counts that the guest was
    /// told.
    ///
    /// # Errors
    /// `ENOMEM`: there are too many.
    pub(crate) fn enter(&mut self, folder: u64, name: &[u8], file: FileId) -> Result<u64, Errno> {
        let key = (folder, Arc::from(name));
        let number = self.by_name.get(&key).copied();
        if let Some(number) = number
            && let Some(node) = self.by_number.get_mut(&number).filter(|node| node.file == file)
        {
            node.known = node.known.saturating_add(1);
            return Ok(number);
        }
        if self.by_number.len() >= MOST {
            return Err(Errno::NOMEM);
        }
        let number = self.next;
        self.next += 1;
        self.by_number.insert(number, Node { folder, name: Arc::clone(&key.1), file, known: 1 });
        self.by_name.insert(key, number);
        Ok(number)
    }

    /// Forgets a number that the guest's kernel has been told so often.
    pub(crate) fn forget(&mut self, number: u64, times: u64) {
        let Some(node) = self.by_number.get_mut(&number) else { return };
        node.known = node.known.saturating_sub(times);
        if node.known == 0
            && let Some(node) = self.by_number.remove(&number)
        {
            let key = (node.folder, node.name);
            if self.by_name.get(&key) == Some(&number) {
                self.by_name.remove(&key);
            }
        }
    }

    /// Takes a name from its number: the file was removed, or another has the name now.
    pub(crate) fn removed(&mut self, folder: u64, name: &[u8]) {
        self.by_name.remove(&(folder, Arc::from(name)));
    }

    /// Gives the number of a name another name: the guest has moved the file, and continues with its number.
    pub(crate) fn moved(&mut self, from: (u64, &[u8]), to: (u64, &[u8])) {
        let to = (to.0, Arc::from(to.1));
        self.by_name.remove(&to);
        if let Some(number) = self.by_name.remove(&(from.0, Arc::from(from.1))) {
            self.put(number, to);
        }
    }

    /// Exchanges the numbers of two names.
    pub(crate) fn exchanged(&mut self, one: (u64, &[u8]), other: (u64, &[u8])) {
        let (one, other) = ((one.0, Arc::from(one.1)), (other.0, Arc::from(other.1)));
        let (first, second) = (self.by_name.remove(&one), self.by_name.remove(&other));
        if let Some(number) = first {
            self.put(number, other);
        }
        if let Some(number) = second {
            self.put(number, one);
        }
    }

    fn put(&mut self, number: u64, name: (u64, Arc<[u8]>)) {
        if let Some(node) = self.by_number.get_mut(&number) {
            (node.folder, node.name) = name.clone();
            self.by_name.insert(name, number);
        }
    }

    /// Returns the way to a file from the root: its folders' names and its own, with the files that they had.
    ///
    /// # Errors
    /// `ESTALE`: there is no such number, one of a folder was forgotten, or the way is too long.
    pub(crate) fn way(&self, mut number: u64) -> Result<Vec<(&[u8], FileId)>, Errno> {
        let mut way = Vec::new();
        while number != ROOT {
            let node = self.by_number.get(&number).ok_or(Errno::STALE)?;
            if way.len() == DEEPEST {
                return Err(Errno::STALE);
            }
            way.push((&*node.name, node.file));
            number = node.folder;
        }
        way.reverse();
        Ok(way)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert!(self.by_name.len() <= self.by_number.len());
        self.by_number.len()
    }
}
