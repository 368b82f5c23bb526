//! Command descriptor blocks.

use hv_vmbus_client::Direction;

use super::Extent;

/// Bytes of an UNMAP parameter list with one extent.
pub(super) const UNMAP_LIST: usize = 8 + 16;

/// A SCSI command.
///
/// Sources: SPC-4, "Commands for all device types"; SBC-3, "Commands for direct access block devices".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cdb {
    bytes: [u8; 16],
    len: u8,
    writes: bool,
}

impl Cdb {
    /// Makes a command of at most 16 bytes; what is more is cut off. `writes`: its data go to the device.
    #[must_use]
    pub fn new(command: &[u8], writes: bool) -> Self {
        let mut bytes = [0; 16];
        let len = command.len().min(bytes.len());
        bytes.iter_mut().zip(command).for_each(|(to, from)| *to = *from);
        Self { bytes, len: len as u8, writes }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or(&self.bytes)
    }

    pub(super) fn writes(&self) -> bool {
        self.writes
    }

    /// Returns which way its data go.
    pub(super) fn direction(&self) -> Direction {
        if self.writes { Direction::ToHost } else { Direction::FromHost }
    }

    fn extent(code: u8, flags: u8, block: u64, count: u32, writes: bool) -> Self {
        let mut command = [0; 16];
        command[0] = code;
        command[1] = flags;
        command[2..10].copy_from_slice(&block.to_be_bytes());
        command[10..14].copy_from_slice(&count.to_be_bytes());
        Self { bytes: command, len: 16, writes }
    }

    /// Creates READ(16).
    #[must_use]
    pub fn read(block: u64, count: u32) -> Self {
        Self::extent(0x88, 0, block, count, false)
    }

    /// Creates WRITE(16); `durable` sets FUA.
    #[must_use]
    pub fn write(block: u64, count: u32, durable: bool) -> Self {
        Self::extent(0x8a, u8::from(durable) << 3, block, count, true)
    }

    /// Creates SYNCHRONIZE CACHE(10) of all blocks.
    #[must_use]
    pub fn flush() -> Self {
        Self::new(&[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], false)
    }

    /// Creates UNMAP with a parameter list of `list` bytes.
    #[must_use]
    pub fn unmap(list: usize) -> Self {
        Self::new(&[0x42, 0, 0, 0, 0, 0, 0, (list >> 8) as u8, list as u8, 0], true)
    }

    /// Creates TEST UNIT READY.
    #[must_use]
    pub fn test_unit_ready() -> Self {
        Self::new(&[0; 6], false)
    }

    /// Creates INQUIRY, of a page of vital product data if one is named.
    #[must_use]
    pub fn inquiry(page: Option<u8>, room: u16) -> Self {
        let [high, low] = room.to_be_bytes();
        Self::new(&[0x12, u8::from(page.is_some()), page.unwrap_or(0), high, low, 0], false)
    }

    /// Creates REPORT LUNS.
    #[must_use]
    pub fn report_luns(room: u32) -> Self {
        let [a, b, c, d] = room.to_be_bytes();
        Self::new(&[0xa0, 0, 0, 0, 0, 0, a, b, c, d, 0, 0], false)
    }

    /// Creates READ CAPACITY(16).
    #[must_use]
    pub fn capacity(room: u32) -> Self {
        let [a, b, c, d] = room.to_be_bytes();
        Self::new(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d, 0, 0], false)
    }

    /// Creates MODE SENSE(6) of all pages.
    #[must_use]
    pub fn mode_sense(room: u8) -> Self {
        Self::new(&[0x1a, 0, 0x3f, 0, room, 0], false)
    }
}

/// Writes an UNMAP parameter list with one extent.
pub(super) fn unmap_list(extent: Extent) -> [u8; UNMAP_LIST] {
    let mut list = [0; UNMAP_LIST];
    list[..2].copy_from_slice(&(UNMAP_LIST as u16 - 2).to_be_bytes());
    list[2..4].copy_from_slice(&16_u16.to_be_bytes());
    list[8..16].copy_from_slice(&extent.block.to_be_bytes());
    list[16..20].copy_from_slice(&extent.count.to_be_bytes());
    list
}
