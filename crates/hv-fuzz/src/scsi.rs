//! SCSI commands with their parameter lists, at a disk, a read-only one, and a DVD in its drive.

use hv_devices::scsi::{CDB_LEN, DATA_LEN, Disk, Extent, Reply, Transfer, UNMAP_LIST_LEN};

use crate::input::Input;

/// Bytes of one transfer at most.
const MAX_TRANSFER: u32 = 16 << 10;
/// Bytes that one command may clear: what the block limits page says.
const MAX_CLEAR: u64 = 32 << 20;
/// Commands that a disk or a drive knows, and some that none does.
const OPERATIONS: [u8; 36] = [
    0x00, 0x03, 0x08, 0x0a, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x2a, 0x2f, 0x35, 0x41, 0x42, 0x43, 0x46,
    0x4a, 0x51, 0x52, 0x5a, 0x88, 0x8a, 0x8f, 0x91, 0x93, 0x9e, 0xa0, 0xa3, 0xa8, 0xaa, 0xbd, 0x15, 0x55,
    0x5e, 0x85,
];

/// Takes commands until the bytes are used up. What a disk lets through to its back end must lie on the disk, be within
/// its limits, and leave a read-only one alone; a disk of bytes carries it out.
pub fn scsi(data: &[u8]) {
    let input = &mut Input::new(data);
    let kind = input.below(3);
    let size = u64::from(input.half());
    let mut disk = match kind {
        0 => Disk::new(size, [7; 16], MAX_TRANSFER),
        1 => Disk::new(size, [7; 16], MAX_TRANSFER).read_only(),
        _ => Disk::dvd(size, [7; 16], MAX_TRANSFER),
    };
    let size = disk.blocks() * u64::from(disk.block_size());
    let mut bytes = vec![0; usize::try_from(size).expect("a small disk")];
    while !input.is_empty() {
        let cdb = command(input);
        let list = input.below(2 * UNMAP_LIST_LEN);
        let list = input.bytes(list);
        let mut asked = 0;
        let reply = disk.command(&cdb, |into| {
            asked = into.len();
            let len = list.len().min(into.len());
            into[..len].copy_from_slice(&list[..len]);
            (!list.is_empty()).then_some(len)
        });
        assert!(asked <= UNMAP_LIST_LEN, "{cdb:x?} wants a list of {asked} bytes");
        match reply {
            Reply::Good => {}
            Reply::Data(data) => {
                assert!(data.bytes().len() <= DATA_LEN.min(allocation(&cdb)), "{cdb:x?}: too much data");
            }
            Reply::Check(sense) => assert_eq!(sense.bytes()[0], 0x70),
            Reply::Transfer(transfer) => carry_out(&disk, &mut bytes, transfer, &cdb),
        }
        if kind == 0 && input.below(64) == 0 {
            // It shrinks or grows as it likes; the bytes stay as many as they were.
            disk.resize(u64::from(input.half()) % (size + 1));
        }
    }
    assert!(kind == 0 || bytes.iter().all(|byte| *byte == 0), "a disk that is read-only was written");
}

/// Generates a command: one that means something more often than not.
fn command(input: &mut Input<'_>) -> [u8; CDB_LEN] {
    let mut cdb = [0; CDB_LEN];
    let fields = input.bytes(CDB_LEN - 1);
    cdb[1..=fields.len()].copy_from_slice(fields);
    cdb[0] = if input.below(8) == 0 { input.byte() } else { input.of(&OPERATIONS) };
    if input.flag() {
        // Small numbers in the places of addresses and counts.
        cdb[1] &= 0x1a;
        cdb[2..5].fill(0);
        if cdb[0] >= 0x80 {
            cdb[5..9].fill(0);
            cdb[10..12].fill(0);
        }
    }
    cdb
}

/// Returns the number of bytes that the initiator has room for, by the command's own form.
fn allocation(cdb: &[u8; CDB_LEN]) -> usize {
    let half = |at: usize| usize::from(u16::from_be_bytes([cdb[at], cdb[at + 1]]));
    let word = |at: usize| u32::from_be_bytes([cdb[at], cdb[at + 1], cdb[at + 2], cdb[at + 3]]) as usize;
    match cdb[0] {
        0x03 | 0x1a => cdb[4].into(),
        0x12 => half(3),
        0x43 | 0x46 | 0x4a | 0x51 | 0x52 | 0x5a => half(7),
        0xbd => half(8),
        0x9e => word(10),
        0xa0 => word(6),
        // READ CAPACITY(10) has no such field.
        0x25 => 8,
        _ => panic!("{cdb:x?} answers with data"),
    }
}

fn carry_out(disk: &Disk, bytes: &mut [u8], transfer: Transfer, cdb: &[u8; CDB_LEN]) {
    let block = u64::from(disk.block_size());
    let part = |offset: u64, len: u64, most: u64| {
        assert!(len <= most && len > 0, "{cdb:x?}: {len} bytes");
        assert!(offset.is_multiple_of(block) && len.is_multiple_of(block), "{cdb:x?}: no whole blocks");
        assert!(offset + len <= disk.blocks() * block, "{cdb:x?}: beyond the disk");
        (offset as usize, len as usize)
    };
    let writes = !matches!(transfer, Transfer::Read { .. } | Transfer::Flush);
    assert!(!(writes && disk.is_read_only()), "{cdb:x?} writes to a read-only disk");
    match transfer {
        Transfer::Read { offset, len } => {
            part(offset, len, MAX_TRANSFER.into());
        }
        Transfer::Write { offset, len, .. } => {
            let (offset, len) = part(offset, len, MAX_TRANSFER.into());
            bytes[offset..offset + len].fill(1);
        }
        Transfer::Fill { offset, len, .. } => {
            let (offset, len) = part(offset, len, MAX_CLEAR);
            bytes[offset..offset + len].fill(2);
        }
        Transfer::Discard { extents } => {
            for Extent { block: first, count } in extents.into_iter().filter(|extent| extent.count > 0) {
                let (offset, len) = part(first * block, u64::from(count) * block, MAX_CLEAR);
                bytes[offset..offset + len].fill(0);
            }
        }
        _ => {}
    }
}
