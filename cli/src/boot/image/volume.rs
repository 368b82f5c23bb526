//! The file systems of an image.

use anyhow::Context as _;

use super::ext4::Ext4;
use super::part::Part;
use crate::fat::Fat;

/// Names that are read of a folder.
const NAMES: usize = 4096;

/// A file system, to read.
pub(super) struct Volume {
    /// Its name for users: the partition and its kind.
    name: String,
    /// The partition's identity, if it has one.
    guid: Option<String>,
    kind: Kind,
}

enum Kind {
    Ext4(Box<Ext4>),
    Fat(Box<Fat<Part>>),
}

impl Volume {
    /// Opens the file system of a partition; `None` if it is none of these.
    ///
    /// # Errors
    /// It is one of these, and cannot be read.
    pub(super) fn open(part: Part) -> anyhow::Result<Option<Self>> {
        let (name, guid) = (part.name.clone(), part.guid.clone());
        if let Some(ext4) = Ext4::open(&part).with_context(|| format!("{name} (ext4)"))? {
            return Ok(Some(Self { name: format!("{name} (ext4)"), guid, kind: Kind::Ext4(Box::new(ext4)) }));
        }
        let fat = Fat::open(part);
        Ok(fat.map(|fat| Self { name: format!("{name} (FAT)"), guid, kind: Kind::Fat(Box::new(fat)) }))
    }

    /// Returns how the kernel finds it as its root, if it can be that.
    pub(super) fn as_root(&self) -> Option<String> {
        match (&self.kind, &self.guid) {
            (Kind::Ext4(_), Some(guid)) => Some(format!("root=PARTUUID={guid}")),
            (Kind::Ext4(ext4), None) => Some(format!("root=UUID={}", ext4.uuid())),
            (Kind::Fat(_), _) => None,
        }
    }

    /// Reads a file of up to `most` bytes; `None` if it is not there.
    pub(super) fn read(&self, path: &str, most: u64) -> anyhow::Result<Option<Vec<u8>>> {
        let read = match &self.kind {
            Kind::Ext4(ext4) => ext4.read(path, most),
            Kind::Fat(fat) => fat.read(path, most),
        };
        read.with_context(|| format!("cannot read {path} of {}", self.name))
    }

    /// Returns the names in a folder, [`NAMES`] at most; none if it is not there.
    pub(super) fn names(&self, path: &str) -> anyhow::Result<Vec<String>> {
        let names = match &self.kind {
            Kind::Ext4(ext4) => ext4.names(path, NAMES),
            Kind::Fat(fat) => fat.names(path, NAMES),
        };
        names.with_context(|| format!("cannot read the folder /{path} of {}", self.name))
    }
}
