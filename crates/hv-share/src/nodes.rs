//! The numbers of files: what the guest's kernel knows of the folder.
//!
//! A number stands for a name in a folder with a number, and for the file that had this name when the number was given.
//! No file is open for it, so the guest's kernel may know as many files as there is memory for. Numbers are given once:
//! one that was forgotten leads to nothing.

use std::collections::HashMap;
use std::sync::Arc;

use rustix::fs::Stat;
use rustix::io::Errno;

/// The number of the folder itself (Linux, include/uapi/linux/fuse.h, `FUSE_ROOT_ID`).
#[doc(alias = "FUSE_ROOT_ID")]
pub(crate) const ROOT: u64 = 1;
/// Bytes that a number takes at most, without its name: both tables' entries, at the least that a table is filled, and
/// the allocation of the name.
pub(crate) const NODE: usize = 256;
// 48 bytes are the counts of an `Arc`, and what the allocator adds.
const _: () =
    assert!(entry(size_of::<(u64, Node)>()) + entry(size_of::<((u64, Arc<[u8]>), u64)>()) + 48 <= NODE);

/// Returns the bytes that an entry of a table takes at most: a place has one byte more, and a table that has just grown
/// has 7 entries in 16 places.
const fn entry(bytes: usize) -> usize {
    (bytes + 1) * 16 / 7
}

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
    /// Bytes that all of them take.
    bytes: usize,
    most: usize,
}

impl Nodes {
    /// Creates room for numbers that take this many bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self { by_number: HashMap::new(), by_name: HashMap::new(), next: ROOT + 1, bytes: 0, most }
    }

    /// Forgets all: another kernel begins.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.most);
    }

    /// Judges whether there is room for one more number, or for a longer name of one.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn has_room(&self, name: &[u8]) -> Result<(), Errno> {
        if self.bytes + NODE + name.len() > self.most { Err(Errno::NOMEM) } else { Ok(()) }
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
        self.has_room(name)?;
        let number = self.next;
        self.next += 1;
        self.bytes += NODE + name.len();
        self.by_number.insert(number, Node { folder, name: Arc::clone(&key.1), file, known: 1 });
        // The table would keep the key that it has, whose name is the old number's.
        self.by_name.remove(&key);
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
            self.bytes -= NODE + node.name.len();
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
            self.bytes = self.bytes - node.name.len() + name.1.len();
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
        let names: usize = self.by_number.values().map(|node| node.name.len()).sum();
        assert_eq!(self.bytes, self.by_number.len() * NODE + names);
        let is_once =
            |(key, number): (&(u64, Arc<[u8]>), &u64)| Arc::ptr_eq(&key.1, &self.by_number[number].name);
        assert!(self.by_name.iter().all(is_once), "a name that is counted once is kept twice");
        self.by_number.len()
    }
}
