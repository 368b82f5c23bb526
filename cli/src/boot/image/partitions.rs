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

/// Returns the primary partitions of an MBR: four entries of 16 bytes from byte 446 on, each with its type at byte 4,
/// its first block at byte 8 and its blocks at byte 12; then 55 aa (UEFI, table 5.1).
fn of_mbr(disk: &Part) -> Vec<Part> {
    let mut block = [0; BLOCK as usize];
    if disk.read_at(0, &mut block).is_err() || block[510..] != [0x55, 0xaa] {
        return Vec::new();
    }
    // The disk's signature, from which Linux makes the partitions' identities (block/partitions/msdos.c).
    let signature = number(&block[440..444]);
    let entries = block[446..510].as_chunks::<16>().0.iter().zip(1..);
    let range = |(entry, number_of): (&[u8; 16], u32)| {
        let (start, size) = (number(&entry[8..12]) * BLOCK, number(&entry[12..16]) * BLOCK);
        // A boot sector of FAT ends in the same way, and has text here: status and type are none.
        let is_one = matches!(entry[0], 0 | 0x80) && !matches!(entry[4], 0 | PROTECTIVE) && start != 0;
        let guid = format!("{signature:08x}-{number_of:02x}");
        is_one.then(|| disk.partition(number_of, start, size, guid)).flatten()
    };
    entries.filter_map(range).collect()
}
