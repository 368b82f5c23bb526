//! A SCSI target, sans-IO: commands to a disk, and its answers.
//!
//! [`Disk::command`] takes a command descriptor block, and returns a [`Reply`]: data, a status with sense, or a
//! [`Transfer`] for a back end. It is independent of VMBus and of the location of the blocks.
//!
//! Identity and limits are those of a Hyper-V virtual disk: vendor "Msft    ", product "Virtual Disk    ", which Linux
//! (drivers/scsi/storvsc_drv.c, `storvsc_device_configure`), udev and cloud-init rely on.
//!
//! Sources: SPC-4 and SBC-3 of INCITS T10, by the names of commands and pages; OpenVMM, scsidisk.

mod command;
mod disk;
mod dvd;
mod inquiry;
mod mode;
mod parameters;
mod sense;

pub use command::{CDB_LEN, Command};
pub(crate) use disk::absent_inquiry;
pub use disk::{Disk, Reply, Transfer};
pub use dvd::Optical;
pub use parameters::{Extent, MAX_EXTENTS, UNMAP_LIST_LEN};
pub use sense::{Sense, SenseKey, Status};

/// Maximum size of the answer to a command about the disk itself, in bytes.
pub const DATA_LEN: usize = 256;

/// The data of an answer, inline.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    bytes: [u8; DATA_LEN],
    len: usize,
}

impl Data {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; DATA_LEN], len: 0 }
    }

    /// Appends bytes; excess bytes are dropped.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let len = bytes.len().min(room.len());
        room[..len].copy_from_slice(&bytes[..len]);
        self.len += len;
    }

    /// Appends zeros, up to a length of `len`.
    pub(crate) fn pad(&mut self, len: usize) {
        self.len = self.len.max(len.min(DATA_LEN));
    }

    /// Overwrites existing bytes.
    pub(crate) fn set(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// Truncates the data to the command's buffer size.
    pub(crate) fn cut(mut self, allocation: usize) -> Self {
        self.len = self.len.min(allocation);
        self
    }

    /// Returns the data.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
