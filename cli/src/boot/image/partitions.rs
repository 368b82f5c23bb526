//! The partitions of an image: GPT, MBR, or a file system without either.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};

use anyhow::Context as _;

use super::part::Part;
use crate::read_at::{ReadAt as _, number};

/// Bytes of a block.
const BLOCK: u64 = 512;
/// Partitions of a GPT at most: the specification asks for room for 128 (UEFI, 5.3.2).
const MOST: u64 = 256;
/// Bytes of an entry of a GPT: 128 times a power of two (UEFI, 5.3.3).
const ENTRY: [u64; 4] = [128, 256, 512, 1024];
/// An MBR's type of a GPT's place holder.
const PROTECTIVE: u8 = 0xee;

/// Returns the partitions of an image, or all of it if it has none.
///
/// # Errors
/// It cannot be read.
pub(super) fn find(mut disk: File) -> anyhow::Result<Vec<Part>> {
    let size = disk.seek(SeekFrom::End(0)).context("cannot find its length")?;
    let whole = Part::whole(disk, size);
    let backup = (size / BLOCK).saturating_sub(1);
    let found = of_gpt(&whole, 1).or_else(|| of_gpt(&whole, backup)).unwrap_or_else(|| of_mbr(&whole));
    Ok(if found.is_empty() { vec![whole] } else { found })
}

/// Returns the partitions of a GPT whose header is at this block; `None` if there is no valid one.
fn of_gpt(disk: &Part, block: u64) -> Option<Vec<Part>> {
    // Offsets in the header: its size and checksum, its own block, the first of the entries, their number, size and
    // checksum (UEFI, table 5.5).
    const HEADER: u64 = 92;
    let mut header = [0; BLOCK as usize];
    disk.read_at(block.checked_mul(BLOCK)?, &mut header).ok()?;
    let word = |at: usize| number(&header[at..at + 4]);
    let long = |at: usize| number(&header[at..at + 8]);
    let (length, sum, own, first) = (word(12), word(16), long(24), long(72));
    let (count, size, entries_sum) = (word(80), word(84), word(88));
    let is_header = header.starts_with(b"EFI PART") && own == block && (HEADER..=BLOCK).contains(&length);
    if !is_header || count > MOST || !ENTRY.contains(&size) {
        return None;
    }
    let mut entries = vec![0; (count * size) as usize];
    disk.read_at(first.checked_mul(BLOCK)?, &mut entries).ok()?;
    header[16..20].fill(0);
    if crc(&header[..length as usize]) != sum || crc(&entries) != entries_sum {
        return None;
    }
    let parts = entries.chunks_exact(size as usize).zip(1..).filter_map(|(entry, number_of)| {
        let (start, last) = (number(&entry[32..40]), number(&entry[40..48]));
        let blocks = last.checked_sub(start)?.checked_add(1)?;
        let is_used = entry[..16].iter().any(|byte| *byte != 0);
        let guid = uuid::Uuid::from_slice_le(&entry[16..32]).ok()?.to_string();
        let (start, bytes) = (start.checked_mul(BLOCK)?, blocks.checked_mul(BLOCK)?);
        is_used.then(|| disk.partition(number_of, start, bytes, guid)).flatten()
    });
    Some(parts.collect())
}

/// Computes the checksum of a GPT (UEFI, 5.3.2).
fn crc(bytes: &[u8]) -> u64 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    u64::from(crc.sum())
}

/// Returns the partitions of an MBR, primary and logical ones (UEFI, table 5.1).
fn of_mbr(disk: &Part) -> Vec<Part> {
    let Some((block, all)) = entries(disk, 0) else { return Vec::new() };
    // The disk's signature, from which Linux makes the partitions' identities (block/partitions/msdos.c).
    let signature = number(&block[440..444]);
    let part = |number_of: u32, start: u64, size: u64| {
        disk.partition(number_of, start, size, format!("{signature:08x}-{number_of:02x}"))
    };
    let mut found = Vec::new();
    // Those of all extended partitions are counted on.
    let mut logicals = LOGICAL..;
    for (entry, number_of) in all.iter().zip(1..) {
        if entry.is_extended() {
            let inner = logical(disk, entry);
            found.extend(
                inner.into_iter().zip(&mut logicals).filter_map(|((start, size), n)| part(n, start, size)),
            );
        } else if entry.is_used() {
            found.extend(part(number_of, entry.start, entry.size));
        }
    }
    found
}

/// Number of the first logical partition (Linux, block/partitions/msdos.c).
const LOGICAL: u32 = 5;
/// Tables of an extended partition at most (the same file).
const TABLES: usize = 100;

/// An entry of an MBR, in bytes.
#[derive(Clone, Copy, Debug)]
struct MbrEntry {
    status: u8,
    kind: u8,
    start: u64,
    size: u64,
}

impl MbrEntry {
    /// Returns true if it is a partition. A boot sector of FAT ends as an MBR does, and has text here: status and type
    /// are none.
    fn is_used(self) -> bool {
        matches!(self.status, 0 | 0x80) && !matches!(self.kind, 0 | PROTECTIVE) && self.start != 0
    }

    /// Returns true if it has tables of logical partitions: DOS's, Windows's or Linux's type of it.
    fn is_extended(self) -> bool {
        self.is_used() && matches!(self.kind, 0x05 | 0x0f | 0x85)
    }
}

/// Returns the block at this byte and its table, if it is one: four entries of 16 bytes from byte 446 on, each with its
/// status at byte 0, its type at byte 4, its first block at byte 8 and its blocks at byte 12; then 55 aa.
fn entries(disk: &Part, at: u64) -> Option<([u8; BLOCK as usize], [MbrEntry; 4])> {
    let mut block = [0; BLOCK as usize];
    disk.read_at(at, &mut block).ok().filter(|()| block[510..] == [0x55, 0xaa])?;
    let entry = |n: usize| {
        let bytes = &block[446 + 16 * n..][..16];
        let (start, size) = (number(&bytes[8..12]) * BLOCK, number(&bytes[12..16]) * BLOCK);
        MbrEntry { status: bytes[0], kind: bytes[4], start, size }
    };
    Some((block, [0, 1, 2, 3].map(entry)))
}

/// Returns the logical partitions in an extended one, as bytes of the disk. Each has a table before it, whose first
/// entry counts from the table, and whose link to the next table counts from the extended partition. Linux counts one
/// that leaves the extended partition, unless it is the third or fourth of a table, which may be left over (the same
/// file, `parse_extended`).
fn logical(disk: &Part, extended: &MbrEntry) -> Vec<(u64, u64)> {
    let (mut found, mut table) = (Vec::new(), 0);
    for _ in 0..TABLES {
        let Some((_, all)) = entries(disk, extended.start + table) else { break };
        for (entry, place) in all.iter().zip(0..).filter(|(entry, _)| entry.is_used() && !entry.is_extended())
        {
            if place < 2 || table + entry.start + entry.size <= extended.size {
                found.push((extended.start + table + entry.start, entry.size));
            }
        }
        match all.iter().find(|entry| entry.is_extended()) {
            Some(next) if next.start < extended.size => table = next.start,
            _ => break,
        }
    }
    found
}
