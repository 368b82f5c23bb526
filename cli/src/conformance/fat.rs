//! Reads a file from the root directory of a FAT32 volume with any contents: each cluster is visited once, and no
//! number is trusted beyond the volume's end.
//!
//! Source: Microsoft, FAT32 File System Specification 1.03, "Boot Sector and BPB", "FAT Data Structure", "Long
//! Directory Entries".

/// Reason why a volume could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// Not FAT32, or its geometry is damaged.
    #[error("its file system is not FAT32: {field} is {value}, expected {expected}")]
    Geometry { field: &'static str, value: u64, expected: &'static str },
    /// A chain returns to a cluster that it has visited.
    #[error("its file system is damaged: the clusters of {what} form a loop at cluster {cluster}")]
    Circle { what: &'static str, cluster: u32 },
    /// A chain leads to a cluster that does not exist.
    #[error("its file system is damaged: {what} continues at cluster {cluster}, expected 2 to {last}")]
    Cluster { what: &'static str, cluster: u32, last: u32 },
    /// The file is longer than its clusters or the volume.
    #[error(
        "its file system is damaged: the file has {size} bytes according to its entry, but {there} in its clusters"
    )]
    Size { size: u32, there: u64 },
    /// No such file.
    #[error("there is no {0}")]
    Missing(String),
}

/// Size of a directory entry.
const ENTRY: usize = 32;
/// First byte of an entry that ends the directory, and of one that was deleted.
const END: u8 = 0x00;
const DELETED: u8 = 0xe5;
/// Attributes of a part of a long name, and of a label or a directory.
const LONG_NAME: u8 = 0x0f;
const NO_FILE: u8 = 0x08 | 0x10;
/// Offsets of the UTF-16 units in a part of a long name.
const LONG_UNITS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
/// Entries of the file allocation table from this value on end a chain; the upper four bits are ignored.
const LAST: u32 = 0x0fff_fff8;
const MASK: u32 = 0x0fff_ffff;

/// Reads a little-endian number; 0 outside the bytes.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u16::from_le_bytes(*word))
}
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

/// A volume with consistent geometry.
#[derive(Debug)]
pub(super) struct Volume<'v> {
    table: &'v [u8],
    data: &'v [u8],
    cluster_bytes: usize,
    root: u32,
}

impl<'v> Volume<'v> {
    /// Reads the boot sector.
    pub(super) fn new(bytes: &'v [u8]) -> Result<Self, Error> {
        let byte = |at: usize| u64::from(bytes.get(at).copied().unwrap_or(0));
        let geometry = |field, value, expected| Err(Error::Geometry { field, value, expected });
        let sector = u64::from(u16_at(bytes, 11));
        if !matches!(sector, 512 | 1024 | 2048 | 4096) {
            return geometry("BPB_BytsPerSec", sector, "512, 1024, 2048 or 4096");
        }
        let per_cluster = byte(13);
        if !per_cluster.is_power_of_two() {
            return geometry("BPB_SecPerClus", per_cluster, "a power of two up to 128");
        }
        let (reserved, tables) = (u64::from(u16_at(bytes, 14)), byte(16));
        let table_sectors = u64::from(u32_at(bytes, 36));
        for (field, value, expected) in [
            ("BPB_RootEntCnt", u64::from(u16_at(bytes, 17)), "0"),
            ("BPB_FATSz16", u64::from(u16_at(bytes, 22)), "0"),
        ] {
            if value != 0 {
                return geometry(field, value, expected);
            }
        }
        // At most 2^16 and 2^8 times 2^32 sectors of 2^12 bytes: no sum overflows.
        let (table, data) = (reserved * sector, (reserved + tables * table_sectors) * sector);
        let slice =
            |start: u64, end: u64| bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?);
        let len = bytes.len() as u64;
        match (slice(table, table + table_sectors * sector), slice(data, len)) {
            (Some(table), Some(data)) if tables != 0 => Ok(Self {
                table,
                data,
                cluster_bytes: (per_cluster * sector) as usize,
                root: u32_at(bytes, 44),
            }),
            _ => geometry("BPB_FATSz32", table_sectors, "a number of sectors that fits into the volume"),
        }
    }

    /// Returns the number of the last cluster. The first one is 2.
    fn last(&self) -> u32 {
        let clusters = (self.data.len() / self.cluster_bytes).min((self.table.len() / 4).saturating_sub(2));
        u32::try_from(clusters + 1).unwrap_or(MASK)
    }

    /// Iterates over the bytes of each cluster of a chain. The first error ends it.
    fn chain(&self, what: &'static str, first: u32) -> Chain<'_, 'v> {
        let visited = vec![false; self.data.len() / self.cluster_bytes];
        Chain { volume: self, what, next: Some(first), visited }
    }

    /// Returns the contents of a file in the root directory. Supports 8.3 names and long names, case-insensitively.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let mut long = LongName::default();
        for cluster in self.chain("the root directory", self.root) {
            for entry in cluster?.chunks_exact(ENTRY) {
                match (entry[0], entry[11]) {
                    (END, _) => return Err(Error::Missing(name.to_owned())),
                    (DELETED, _) => long = LongName::default(),
                    (_, LONG_NAME) => long.add(entry),
                    (_, attributes) => {
                        let named = std::mem::take(&mut long).is(name, entry) || short_name(entry) == name;
                        if named && attributes & NO_FILE == 0 {
                            return self.content(entry);
                        }
                    }
                }
            }
        }
        Err(Error::Missing(name.to_owned()))
    }

    /// Returns the contents of the file with this entry.
    fn content(&self, entry: &[u8]) -> Result<Vec<u8>, Error> {
        let size = u32_at(entry, 28);
        let first = u32::from(u16_at(entry, 20)) << 16 | u32::from(u16_at(entry, 26));
        let wanted = size as usize;
        if wanted > self.data.len() {
            return Err(Error::Size { size, there: self.data.len() as u64 });
        }
        let mut content = Vec::new();
        if wanted == 0 {
            return Ok(content);
        }
        for cluster in self.chain("the file", first) {
            let cluster = cluster?;
            content.extend_from_slice(&cluster[..cluster.len().min(wanted - content.len())]);
            if content.len() == wanted {
                return Ok(content);
            }
        }
        Err(Error::Size { size, there: content.len() as u64 })
    }
}

/// An iterator over a chain of clusters.
struct Chain<'a, 'v> {
    volume: &'a Volume<'v>,
    what: &'static str,
    next: Option<u32>,
    visited: Vec<bool>,
}

impl<'v> Iterator for Chain<'_, 'v> {
    type Item = Result<&'v [u8], Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (what, volume) = (self.what, self.volume);
        let cluster = self.next.take()?;
        let index = cluster.wrapping_sub(2) as usize;
        let size = volume.cluster_bytes;
        let bytes =
            index.checked_mul(size).and_then(|start| volume.data.get(start..start.checked_add(size)?));
        let entry = volume.table.get(cluster as usize * 4..).and_then(|rest| rest.first_chunk());
        let (Some(bytes), Some(entry), Some(visited)) = (bytes, entry, self.visited.get_mut(index)) else {
            return Some(Err(Error::Cluster { what, cluster, last: volume.last() }));
        };
        if std::mem::replace(visited, true) {
            return Some(Err(Error::Circle { what, cluster }));
        }
        self.next = Some(u32::from_le_bytes(*entry) & MASK).filter(|&next| next < LAST);
        Some(Ok(bytes))
    }
}

/// The parts of a long name, which precede the entry that they belong to, last part first.
#[derive(Default)]
struct LongName {
    /// UTF-16 units of all parts from the last one on.
    units: Vec<u16>,
    /// Number of the part that was read last; 0 for none.
    part: u8,
    checksum: u8,
}

impl LongName {
    /// Adds a part.
    fn add(&mut self, entry: &[u8]) {
        let (number, checksum) = (entry[0] & 0x3f, entry[13]);
        if entry[0] & 0x40 != 0 {
            *self = Self { part: number, checksum, units: Vec::new() };
        } else if self.part != number + 1 || self.checksum != checksum {
            *self = Self::default();
            return;
        } else {
            self.part = number;
        }
        let units = LONG_UNITS.map(|at| u16_at(entry, at));
        let units = units.iter().take_while(|&&unit| unit != 0).copied();
        self.units = units.chain(std::mem::take(&mut self.units)).collect();
    }

    /// Returns true if the name is complete, belongs to `entry`, and equals `name`.
    fn is(self, name: &str, entry: &[u8]) -> bool {
        let sum = entry[..11].iter().fold(0u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte));
        let text = String::from_utf16_lossy(&self.units);
        self.part == 1 && self.checksum == sum && text.eq_ignore_ascii_case(name)
    }
}

/// Formats the "NAME.EXT" of an entry, in upper case as stored.
fn short_name(entry: &[u8]) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match (part(&entry[..8]), part(&entry[8..11])) {
        (name, extension) if extension.is_empty() => name,
        (name, extension) => format!("{name}.{extension}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::uefi::volume;

    const NAME: &str = "hv-conformance.txt";

    /// Builds a volume with many files in its root directory, the last of them called [`NAME`].
    fn sample(content: &[u8]) -> Vec<u8> {
        let names: Vec<String> = (0..40).map(|n| format!("file-{n}.text")).collect();
        let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"other"[..])).collect();
        files.push((NAME, content));
        volume(&files).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        Volume::new(bytes)?.read(NAME)
    }

    /// Returns the offset of a cluster's entry in the first file allocation table.
    fn entry(bytes: &[u8], cluster: u32) -> usize {
        usize::from(u16_at(bytes, 14)) * 512 + cluster as usize * 4
    }

    fn set(bytes: &mut [u8], at: usize, value: u32) {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Returns the clusters of the root directory.
    fn root(bytes: &[u8]) -> Vec<u32> {
        let next = |&cluster: &u32| Some(u32_at(bytes, entry(bytes, cluster))).filter(|&next| next < LAST);
        std::iter::successors(Some(u32_at(bytes, 44)), next).collect()
    }

    /// Returns the offset of the directory entry of [`NAME`]: the last one in use.
    fn file(bytes: &[u8]) -> usize {
        let volume = Volume::new(bytes).unwrap();
        let start = bytes.len() - volume.data.len();
        let mut entries = root(bytes).into_iter().flat_map(|cluster| {
            let base = start + (cluster as usize - 2) * 512;
            (base..base + 512).step_by(ENTRY)
        });
        entries.rfind(|&at| bytes[at] != 0).unwrap()
    }

    #[test]
    fn a_file_is_read_by_its_long_name_and_its_short_one() {
        let content: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let bytes = sample(&content);
        assert_eq!(read(&bytes), Ok(content));
        let volume = Volume::new(&bytes).unwrap();
        assert_eq!(volume.read("HV-CONFORMANCE.TXT").unwrap().len(), 100_000);
        assert_eq!(volume.read("HV-CON~1.TXT").unwrap().len(), 100_000);
        assert_eq!(volume.read("file-7.text").unwrap(), b"other");
        assert_eq!(volume.read("file-41.text"), Err(Error::Missing("file-41.text".to_owned())));
        assert_eq!(read(&sample(b"")), Ok(Vec::new()));
    }

    #[test]
    fn circles_end() {
        let good = sample(&[7; 5000]);
        let clusters = root(&good);
        let (first, last) = (clusters[0], clusters[clusters.len() - 1]);
        assert!(first != last);
        // Without the file and an end marker the whole directory is followed.
        let mut bytes = good.clone();
        let at = file(&good);
        let rest = at - at % 512..at - at % 512 + 512;
        bytes[rest].fill(DELETED);
        for to in [first, last] {
            let place = entry(&bytes, last);
            set(&mut bytes, place, to);
            assert_eq!(read(&bytes), Err(Error::Circle { what: "the root directory", cluster: to }));
        }
        // A file that claims the whole volume, and has one cluster that points to itself.
        let mut bytes = good.clone();
        let cluster = u32::from(u16_at(&good, at + 26));
        let place = entry(&good, cluster);
        set(&mut bytes, place, cluster);
        set(&mut bytes, at + 28, 60 << 20);
        assert_eq!(read(&bytes), Err(Error::Circle { what: "the file", cluster }));
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let good = sample(&[7; 5000]);
        let at = file(&good);
        let place = entry(&good, u32::from(u16_at(&good, at + 26)));
        for value in [0, 1, 0x0fff_fff7, 0x0aaa_aaaa] {
            let mut bytes = good.clone();
            set(&mut bytes, place, value);
            assert!(matches!(read(&bytes), Err(Error::Cluster { cluster, .. }) if cluster == value));
        }
        for size in [u32::MAX, 1 << 30, 5121] {
            let mut bytes = good.clone();
            set(&mut bytes, at + 28, size);
            assert!(matches!(read(&bytes), Err(Error::Size { .. })), "{size}");
        }
        for (field, value) in
            [(11, 0), (13, 0), (13, 3), (16, 0), (17, 1), (22, 1), (36, u32::MAX), (44, u32::MAX)]
        {
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
        let end = good.len().min(file(&good) + 512);
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
                let at = [random() % 90, entry(&good, 0) + random() % 1024, end - 1 - random() % 4096]
                    [random() % 3];
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
