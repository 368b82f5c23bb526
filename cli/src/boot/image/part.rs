//! A range of an image, to read.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use crate::read_at::{ReadAt, outside};

/// Bytes that are read of an image at most, in all: many times a kernel and an initrd.
const BUDGET: u64 = 4 << 30;
/// What a read costs at least, however short it is.
const LEAST: u64 = 4096;

/// A range of an image.
#[derive(Clone, Debug)]
pub(super) struct Part {
    file: Rc<File>,
    start: u64,
    size: u64,
    /// Its name for users.
    pub(super) name: String,
    /// The partition's identity, if it has one.
    pub(super) guid: Option<String>,
    /// Bytes that may yet be read of the image.
    budget: Rc<Cell<u64>>,
}

impl Part {
    /// Takes a whole image.
    pub(super) fn whole(file: File, size: u64) -> Self {
        let budget = Rc::new(Cell::new(BUDGET));
        Self { file: Rc::new(file), start: 0, size, name: "the whole disk".into(), guid: None, budget }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Returns a range of it, if it is one: the partition of this number.
    pub(super) fn partition(&self, number: u32, start: u64, size: u64, guid: String) -> Option<Self> {
        start.checked_add(size).filter(|end| *end <= self.size && size != 0)?;
        let (start, name) = (self.start + start, format!("partition {number}"));
        Some(Self { start, size, name, guid: Some(guid), ..self.clone() })
    }
}

impl ReadAt for Part {
    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        let end = at.checked_add(length).filter(|end| *end <= self.size);
        end.ok_or_else(outside)?;
        let left = self.budget.get().checked_sub(length.max(LEAST));
        self.budget.set(left.ok_or_else(|| io::Error::other("it has no end: too much was read of it"))?);
        crate::interrupt::check().map_err(io::Error::other)?;
        self.file.read_exact_at(bytes, self.start + at)
    }
}
