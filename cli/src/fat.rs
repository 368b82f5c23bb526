//! FAT12, FAT16 and FAT32, to read; and [`new`] ones of FAT32.
//!
//! Source: Microsoft Extensible Firmware Initiative FAT32 File System Specification, 1.03. Sums are of 64 bits: no
//! field of a boot sector overflows them.

pub(crate) mod new;

use std::collections::HashSet;

use anyhow::{Context as _, ensure};

use crate::read_at::{ReadAt, number};

/// Bytes of an entry in a folder.
const ENTRY: usize = 32;
/// Bytes of a folder at most: 65,536 entries ("FAT Directory Structure").
const LONGEST_FOLDER: u64 = 65_536 * ENTRY as u64;
/// Parts of a long name at most, of 13 characters each.
const NAME_PARTS: usize = 20;
/// Attributes of an entry: a volume's label, a folder, and all four of a long name's.
const VOLUME_ID: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const LONG_NAME: u8 = 0x0f;

/// A file system in a partition.
#[derive(Debug)]
pub(crate) struct Fat<P> {
    part: P,
    /// Bits of an entry in the table of clusters.
    bits: u64,
    /// Place of that table.
    table: u64,
    /// Place of the first cluster, which has number 2.
    data: u64,
    /// Bytes of a cluster.
    cluster: u64,
    /// Number after the last cluster's.
    end: u64,
    root: Root,
}

/// Location of the root folder.
#[derive(Clone, Copy, Debug)]
enum Root {
    /// Place and bytes, of FAT12 and FAT16.
    Fixed(u64, u64),
    /// Its first cluster, of FAT32.
    Cluster(u64),
}

/// An entry of a folder.
#[derive(Clone, Debug)]
struct Entry {
    /// The long name, if there is one, else the short one.
    name: String,
    short: String,
    is_folder: bool,
    cluster: u64,
    size: u64,
}

impl<P: ReadAt> Fat<P> {
    /// Opens the file system of a partition; `None` if it is not FAT.
    pub(crate) fn open(part: P) -> Option<Self> {
        let mut sector = [0; 512];
        part.read_at(0, &mut sector).ok()?;
        let word = |at: usize| number(&sector[at..at + 2]);
        let long = |at: usize| number(&sector[at..at + 4]);
        let or = |short: u64, long: u64| if short == 0 { long } else { short };
        let (bytes, per_cluster) = (word(11), u64::from(sector[13]));
        let is_fat = sector[510..] == [0x55, 0xaa]
            && (512..=4096).contains(&bytes)
            && bytes.is_power_of_two()
            && per_cluster.is_power_of_two();
        let (reserved, fats) = (word(14), u64::from(sector[16]));
        let (per_fat, total) = (or(word(22), long(36)), or(word(19), long(32)));
        if !is_fat || reserved == 0 || !(1..=2).contains(&fats) || per_fat == 0 {
            return None;
        }
        let root = (word(17) * ENTRY as u64).div_ceil(bytes);
        let first = reserved + fats * per_fat + root;
        let clusters = total.checked_sub(first)? / per_cluster;
        let bits = match clusters {
            0 => return None,
            1..4085 => 12,
            4085..65_525 => 16,
            _ => 32,
        };
        let fixed = Root::Fixed((reserved + fats * per_fat) * bytes, root * bytes);
        Some(Self {
            part,
            bits,
            table: reserved * bytes,
            data: first * bytes,
            cluster: per_cluster * bytes,
            end: (clusters + 2).min(per_fat * bytes * 8 / bits),
            root: if bits == 32 { Root::Cluster(long(44)) } else { fixed },
        })
    }

    /// Reads a file of up to `most` bytes; `None` if it is not there.
    pub(crate) fn read(&self, path: &str, most: u64) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(entry) = self.find(path)?.filter(|entry| !entry.is_folder) else { return Ok(None) };
        ensure!(entry.size <= most, "it has {} bytes, expected {most} at most", entry.size);
        let bytes = if entry.size == 0 { Vec::new() } else { self.chain(entry.cluster, entry.size)? };
        ensure!(
            bytes.len() as u64 == entry.size,
            "it ends after {} of its {} bytes",
            bytes.len(),
            entry.size
        );
        Ok(Some(bytes))
    }

    /// Returns up to `most` names in a folder; none if it is not there.
    pub(crate) fn names(&self, path: &str, most: usize) -> anyhow::Result<Vec<String>> {
        let bytes = if path.split('/').all(|name| name.is_empty() || name == ".") {
            self.root()?
        } else {
            match self.find(path)?.filter(|entry| entry.is_folder) {
                Some(folder) => self.chain(folder.cluster, LONGEST_FOLDER)?,
                None => return Ok(Vec::new()),
            }
        };
        Ok(entries(&bytes).take(most).map(|entry| entry.name).collect())
    }

    /// Finds a file or a folder other than the root.
    fn find(&self, path: &str) -> anyhow::Result<Option<Entry>> {
        let mut folder = Some(self.root()?);
        let mut found = None;
        for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
            let Some(bytes) = folder.take() else { return Ok(None) };
            let is_it =
                |entry: &Entry| [&entry.name, &entry.short].iter().any(|one| one.eq_ignore_ascii_case(name));
            let Some(entry) = entries(&bytes).find(is_it) else { return Ok(None) };
            folder = entry.is_folder.then(|| self.chain(entry.cluster, LONGEST_FOLDER)).transpose()?;
            found = Some(entry);
        }
        Ok(found)
    }

    /// Reads the root folder.
    fn root(&self) -> anyhow::Result<Vec<u8>> {
        match self.root {
            Root::Cluster(first) => self.chain(first, LONGEST_FOLDER),
            Root::Fixed(at, length) => {
                let mut bytes = vec![0; usize::try_from(length)?];
                self.part.read_at(at, &mut bytes).context("the root folder")?;
                Ok(bytes)
            }
        }
    }

    /// Reads a chain of clusters, up to `most` bytes of it, each cluster once.
    fn chain(&self, first: u64, most: u64) -> anyhow::Result<Vec<u8>> {
        let (mut bytes, mut cluster, mut visited) = (Vec::new(), first, HashSet::new());
        while (bytes.len() as u64) < most {
            ensure!(
                (2..self.end).contains(&cluster),
                "a chain leads to cluster {cluster}, expected 2 to {}",
                self.end - 1
            );
            ensure!(visited.insert(cluster), "a chain leads back to cluster {cluster}, expected each once");
            let start = bytes.len();
            let part = self.cluster.min(most - start as u64);
            bytes.resize(start + usize::try_from(part)?, 0);
            self.part.read_at(self.data + (cluster - 2) * self.cluster, &mut bytes[start..])?;
            match self.next(cluster)? {
                Some(next) => cluster = next,
                None => break,
            }
        }
        Ok(bytes)
    }

    /// Returns the cluster after this one, which is valid; `None` if it is the last of its chain.
    fn next(&self, cluster: u64) -> anyhow::Result<Option<u64>> {
        let bit = cluster * self.bits;
        let mut bytes = [0; 4];
        let bytes = &mut bytes[..if self.bits == 32 { 4 } else { 2 }];
        self.part.read_at(self.table + bit / 8, bytes)?;
        // The upper four bits of FAT32 are reserved ("FAT Type Determination").
        let (next, last) = match self.bits {
            12 => (number(bytes) >> (bit % 8) & 0xfff, 0xff8),
            16 => (number(bytes), 0xfff8),
            _ => (number(bytes) & 0x0fff_ffff, 0x0fff_fff8),
        };
        Ok((next < last).then_some(next))
    }
}

/// Iterates over the entries of a folder, without those of deleted files and of labels.
fn entries(bytes: &[u8]) -> impl Iterator<Item = Entry> {
    const DELETED: u8 = 0xe5;
    let mut long = LongName::default();
    let raw = bytes.as_chunks::<ENTRY>().0.iter().take_while(|raw| raw[0] != 0);
    raw.filter_map(move |raw| {
        if raw[11] & 0x3f == LONG_NAME && raw[0] != DELETED {
            long.add(raw);
            return None;
        }
        let long = std::mem::take(&mut long);
        if raw[0] == DELETED || raw[11] & VOLUME_ID != 0 {
            return None;
        }
        let short = short_name(raw);
        Some(Entry {
            name: long.of(raw).unwrap_or_else(|| short.clone()),
            short,
            is_folder: raw[11] & DIRECTORY != 0,
            cluster: number(&raw[20..22]) << 16 | number(&raw[26..28]),
            size: number(&raw[28..32]),
        })
    })
}

/// Decodes a short name, with the letters' case that Windows NT keeps at byte 12.
fn short_name(raw: &[u8; ENTRY]) -> String {
    let part = |bytes: &[u8], lower: bool| {
        let text = String::from_utf8_lossy(bytes).trim_end_matches(' ').to_owned();
        if lower { text.to_ascii_lowercase() } else { text }
    };
    let (base, end) = (part(&raw[..8], raw[12] & 8 != 0), part(&raw[8..11], raw[12] & 16 != 0));
    if end.is_empty() { base } else { format!("{base}.{end}") }
}

/// The parts of a long name, which come before its entry, the last one first ("Long Directory Entries").
#[derive(Debug, Default)]
struct LongName {
    parts: Vec<[u16; 13]>,
    /// Number of the part that comes next.
    next: u8,
    checksum: u8,
}

impl LongName {
    const LAST: u8 = 0x40;

    fn add(&mut self, raw: &[u8; ENTRY]) {
        let order = raw[0] & !Self::LAST;
        if raw[0] & Self::LAST != 0 {
            *self = Self { parts: Vec::new(), next: order, checksum: raw[13] };
        }
        if order == 0 || order != self.next || raw[13] != self.checksum || self.parts.len() >= NAME_PARTS {
            *self = Self::default();
            return;
        }
        self.next -= 1;
        let mut part = [0; 13];
        let characters = [&raw[1..11], &raw[14..26], &raw[28..32]].concat();
        for (character, bytes) in part.iter_mut().zip(characters.as_chunks::<2>().0) {
            *character = u16::from_le_bytes(*bytes);
        }
        self.parts.push(part);
    }

    /// Returns the whole name, if it is that of this entry.
    fn of(self, raw: &[u8; ENTRY]) -> Option<String> {
        let sum = raw[..11].iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        if self.parts.is_empty() || self.next != 0 || self.checksum != sum {
            return None;
        }
        let all = self.parts.iter().rev().flatten().copied().take_while(|character| *character != 0);
        Some(String::from_utf16_lossy(&all.collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::volume;

    const NAME: &str = "hv-conformance.txt";

    /// Builds a volume with many files in its root directory, the last of them called [`NAME`].
    fn sample(content: &[u8]) -> Vec<u8> {
        let names: Vec<String> = (0..40).map(|n| format!("file-{n}.text")).collect();
        let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"other"[..])).collect();
        files.push((NAME, content));
        volume(&files).unwrap()
    }

    fn open(bytes: &[u8]) -> Fat<&[u8]> {
        Fat::open(bytes).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let volume = Fat::open(bytes).ok_or("it is not FAT")?;
        let content = volume.read(NAME, bytes.len() as u64).map_err(|error| error.to_string())?;
        content.ok_or_else(|| "it is not there".to_owned())
    }

    /// Returns the offset of a cluster's entry in the first file allocation table.
    fn entry(bytes: &[u8], cluster: u64) -> usize {
        (open(bytes).table + cluster * 4) as usize
    }

    fn set(bytes: &mut [u8], at: usize, value: u32) {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Returns the clusters of the root directory.
    fn root(bytes: &[u8]) -> Vec<u64> {
        let volume = open(bytes);
        let Root::Cluster(first) = volume.root else { panic!("not FAT32") };
        std::iter::successors(Some(first), |&cluster| volume.next(cluster).unwrap()).collect()
    }

    /// Returns the offset of the directory entry of [`NAME`]: the last one in use.
    fn file(bytes: &[u8]) -> usize {
        let volume = open(bytes);
        let mut entries = root(bytes).into_iter().flat_map(|cluster| {
            let base = (volume.data + (cluster - 2) * volume.cluster) as usize;
            (base..base + volume.cluster as usize).step_by(ENTRY)
        });
        entries.rfind(|&at| bytes[at] != 0).unwrap()
    }

    #[test]
    fn a_file_is_read_by_its_long_name_and_its_short_one() {
        let content: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let bytes = sample(&content);
        assert_eq!(read(&bytes), Ok(content));
        let volume = open(&bytes);
        let read_as = |name| volume.read(name, 100_000).unwrap();
        assert_eq!(read_as("HV-CONFORMANCE.TXT").unwrap().len(), 100_000);
        assert_eq!(read_as("HV-CON~1.TXT").unwrap().len(), 100_000);
        assert_eq!(read_as("file-7.text").unwrap(), b"other");
        assert_eq!(read_as("file-41.text"), None);
        assert!(volume.read(NAME, 99_999).is_err());
        assert_eq!(read(&sample(b"")), Ok(Vec::new()));
    }

    #[test]
    fn loops_end() {
        let good = sample(&[7; 5000]);
        let clusters = root(&good);
        let (first, last) = (clusters[0], clusters[clusters.len() - 1]);
        assert!(first != last);
        for to in [first, last] {
            let mut bytes = good.clone();
            let place = entry(&bytes, last);
            set(&mut bytes, place, to as u32);
            let error = read(&bytes).unwrap_err();
            assert!(error.contains(&format!("leads back to cluster {to},")), "{error}");
        }
        // A file that has one cluster, which points to itself, and one that claims the whole volume.
        let at = file(&good);
        for size in [5000, 60 << 20] {
            let mut bytes = good.clone();
            let cluster = number(&good[at + 26..at + 28]);
            let place = entry(&good, cluster);
            set(&mut bytes, place, cluster as u32);
            set(&mut bytes, at + 28, size);
            let error = read(&bytes).unwrap_err();
            assert!(error.contains(&format!("leads back to cluster {cluster},")), "{error}");
        }
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let good = sample(&[7; 5000]);
        let at = file(&good);
        let place = entry(&good, number(&good[at + 26..at + 28]));
        for value in [0, 1, 0x0fff_fff7, 0x0aaa_aaaa] {
            let mut bytes = good.clone();
            set(&mut bytes, place, value);
            let error = read(&bytes).unwrap_err();
            assert!(error.contains(&format!("leads to cluster {value},")), "{error}");
        }
        for size in [u32::MAX, 1 << 30, 5121] {
            let mut bytes = good.clone();
            set(&mut bytes, at + 28, size);
            assert!(read(&bytes).unwrap_err().contains(&format!("{size} ")), "{size}");
        }
        for (field, value) in [(11, 0), (13, 0), (13, 3), (16, 0), (17, 1), (36, u32::MAX), (44, u32::MAX)] {
            let mut bytes = good.clone();
            if field < 36 {
                bytes[field..field + if field == 13 || field == 16 { 1 } else { 2 }].fill(0);
                bytes[field] = value as u8;
            } else {
                set(&mut bytes, field, value);
            }
            assert!(read(&bytes).is_err(), "{field}");
        }
        assert!(read(&[]).is_err());
        assert!(read(&good[..513]).is_err());
    }

    /// Checks that any bytes give a file or an error.
    #[test]
    fn a_damaged_volume_gives_a_file_or_an_error() {
        let good = sample(&[7; 5000]);
        let (end, table) = (good.len().min(file(&good) + 512), entry(&good, 0));
        let mut seed = 1u64;
        let mut random = move || {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (seed >> 33) as usize
        };
        let mut bytes = good.clone();
        for _ in 0..1000 {
            let mut damaged: Vec<(usize, u8)> = Vec::new();
            for _ in 0..8 {
                // The boot sector, the tables, the directory.
                let at = [random() % 90, table + random() % 1024, end - 1 - random() % 4096][random() % 3];
                damaged.push((at, std::mem::replace(&mut bytes[at], random() as u8)));
            }
            if let Ok(content) = read(&bytes) {
                assert!(content.len() < good.len(), "{damaged:?}");
            }
            for (at, was) in damaged.into_iter().rev() {
                bytes[at] = was;
            }
        }
    }
}
