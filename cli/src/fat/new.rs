//! A new FAT32 file system with files.
//!
//! The crate `fatfs` (0.3) writes all of it but a folder's first two entries as the specification has them: it gives
//! "." and ".." a long name each, and ".." in a folder of the root the root's cluster, where 0 is right ("Directory
//! creation" in Microsoft's FAT32 File System Specification, 1.03). fsck.vfat finds that folder corrupt.

use std::io::{Cursor, Write as _};

use anyhow::{Context as _, ensure};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};

use super::{DIRECTORY, ENTRY, LONG_NAME};

/// Bytes of a cluster: with these, the smallest file systems are FAT32.
const CLUSTER: usize = 512;
/// Mark of an entry that is free, as its first byte; 0 also says that all after it are.
const FREE: u8 = 0xe5;
/// Numbers in a table of clusters from this on end a chain; the upper four bits are none of the number's.
const CHAIN_END: u32 = 0x0fff_fff8;
const NUMBER: u32 = 0x0fff_ffff;

/// Returns a file system of `size` bytes with these files, by path.
///
/// # Errors
/// They do not fit.
pub(crate) fn volume(
    label: [u8; 11],
    size: usize,
    files: &[(impl AsRef<str>, impl AsRef<[u8]>)],
) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Cursor::new(vec![0; size]);
    let options = FormatVolumeOptions::new().fat_type(FatType::Fat32).bytes_per_cluster(CLUSTER as u32);
    fatfs::format_volume(&mut bytes, options.volume_label(label))?;
    let system = FileSystem::new(&mut bytes, FsOptions::new())?;
    for (path, contents) in files {
        let path = path.as_ref();
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut folder = system.root_dir();
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            folder = folder.create_dir(part)?;
        }
        let mut file = folder.create_file(name)?;
        file.write_all(contents.as_ref()).with_context(|| format!("cannot write {path}"))?;
        file.flush()?;
    }
    // This counts the free clusters, for the file system's own record of them.
    system.stats()?;
    system.unmount()?;
    let mut bytes = bytes.into_inner();
    Raw::of(&mut bytes)?.mend()?;
    Ok(bytes)
}

/// The bytes of a FAT32 file system that was just made.
struct Raw<'a> {
    bytes: &'a mut [u8],
    /// Places of the first table of clusters, and of cluster 2.
    table: usize,
    data: usize,
    root: u32,
}

impl<'a> Raw<'a> {
    /// Reads the boot sector ("Boot Sector and BPB").
    fn of(bytes: &'a mut [u8]) -> anyhow::Result<Self> {
        let number = |at: usize, count: usize| {
            bytes[at..at + count].iter().rev().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte))
        };
        ensure!(number(11, 2) * number(13, 1) == CLUSTER, "clusters have another size than {CLUSTER}");
        let table = number(14, 2) * number(11, 2);
        let (data, root) = (table + number(16, 1) * number(36, 4) * number(11, 2), number(44, 4) as u32);
        Ok(Self { bytes, table, data, root })
    }

    /// Returns the places of a folder's entries.
    fn entries(&self, folder: u32) -> Vec<usize> {
        let (mut cluster, mut places) = (folder, Vec::new());
        while (2..CHAIN_END).contains(&cluster) {
            let start = self.data + (cluster as usize - 2) * CLUSTER;
            places.extend((start..start + CLUSTER).step_by(ENTRY));
            let at = self.table + cluster as usize * 4;
            let next = [0, 1, 2, 3].map(|byte| self.bytes[at + byte]);
            cluster = u32::from_le_bytes(next) & NUMBER;
        }
        places
    }

    /// Mends the first entries of all folders but the root, which has none of them.
    fn mend(&mut self) -> anyhow::Result<()> {
        let mut folders = vec![(self.root, None)];
        while let Some((folder, parent)) = folders.pop() {
            let places = self.entries(folder);
            if let Some(parent) = parent {
                self.dots(&places, if parent == self.root { 0 } else { parent })?;
            }
            for at in places {
                let entry = &self.bytes[at..at + ENTRY];
                let is_own = entry[0] == b'.' || entry[0] == FREE || entry[0] == 0;
                if !is_own && entry[11] != LONG_NAME && entry[11] & DIRECTORY != 0 {
                    let cluster = u32::from_le_bytes([entry[26], entry[27], entry[20], entry[21]]);
                    folders.push((cluster, Some(folder)));
                }
            }
        }
        Ok(())
    }

    /// Moves "." and ".." to the front of a folder, where each has a long name before it.
    fn dots(&mut self, places: &[usize], parent: u32) -> anyhow::Result<()> {
        let [first, dot, second, dots, ..] = *places else { anyhow::bail!("a folder has no entries") };
        let is_long = |at: usize| self.bytes[at + 11] == LONG_NAME;
        let is_named = |at: usize, name: &[u8; 11]| self.bytes[at..at + 11] == *name;
        let is_expected = is_long(first)
            && is_long(second)
            && is_named(dot, b".          ")
            && is_named(dots, b"..         ");
        ensure!(is_expected, "a folder begins with other entries than fatfs 0.3 writes");
        self.bytes.copy_within(dot..dot + ENTRY, first);
        self.bytes.copy_within(dots..dots + ENTRY, dot);
        let [low, next, high, last] = parent.to_le_bytes();
        self.bytes[dot + 26..dot + 28].copy_from_slice(&[low, next]);
        self.bytes[dot + 20..dot + 22].copy_from_slice(&[high, last]);
        for at in [second, dots] {
            self.bytes[at..at + ENTRY].fill(0);
            self.bytes[at] = FREE;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fat::Fat;

    const SIZE: usize = 40 << 20;

    #[test]
    fn folders_begin_with_themselves_and_their_parent() {
        let many: Vec<_> =
            (0..40).map(|n| (format!("a/b/c/A long name of file {n}"), vec![n; 1000])).collect();
        let files = [many.clone(), vec![("x/y".into(), b"y".to_vec()), ("top".into(), vec![])]].concat();
        let mut bytes = volume(*b"LABEL      ", SIZE, &files).unwrap();
        let raw = Raw::of(&mut bytes).unwrap();
        let (mut folders, mut seen) = (vec![(raw.root, None)], 0);
        while let Some((folder, parent)) = folders.pop() {
            let entries: Vec<_> =
                raw.entries(folder).into_iter().map(|at| &raw.bytes[at..at + ENTRY]).collect();
            let cluster = |entry: &[u8]| u32::from_le_bytes([entry[26], entry[27], entry[20], entry[21]]);
            if let Some(parent) = parent {
                seen += 1;
                let own: Vec<_> =
                    entries[..2].iter().map(|entry| (&entry[..11], entry[11], cluster(entry))).collect();
                let is = [(&b".          "[..], DIRECTORY, folder), (&b"..         "[..], DIRECTORY, parent)];
                assert_eq!(own, is);
            }
            let inner =
                entries.iter().filter(|entry| entry[11] == DIRECTORY && entry[0].is_ascii_uppercase());
            let own = if folder == raw.root { 0 } else { folder };
            folders.extend(inner.map(|entry| (cluster(entry), Some(own))));
        }
        assert_eq!(seen, 4, "a, b, c and x");
        let places = (raw.table, raw.data);
        let fat = Fat::open(&*bytes).unwrap();
        for (path, contents) in &files {
            assert_eq!(fat.read(path, 1 << 20).unwrap().as_ref(), Some(contents), "{path}");
        }
        // FSInfo: its signature, and the number of free clusters, which is known.
        assert_eq!(bytes[CLUSTER..CLUSTER + 4], *b"RRaA");
        let free = u32::from_le_bytes([0, 1, 2, 3].map(|byte| bytes[CLUSTER + 488 + byte]));
        let (table, end) = (places.0 + 8, places.0 + 8 + (SIZE - places.1) / CLUSTER * 4);
        let counted = bytes[table..end].chunks(4).filter(|number| **number == [0; 4]).count();
        assert_eq!(free as usize, counted);
    }

    #[test]
    fn no_program_finds_a_fault() {
        let Some(fsck) = crate::process::which_system("fsck.vfat") else { return };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, volume(*b"EFI        ", SIZE, &[("EFI/BOOT/BOOTAA64.EFI", b"x")]).unwrap())
            .unwrap();
        let done = std::process::Command::new(fsck).arg("-n").arg(file.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    }

    #[test]
    fn files_that_do_not_fit_are_an_error() {
        let error = volume(*b"EFI        ", SIZE, &[("a/b", vec![1; SIZE])]).unwrap_err();
        assert!(error.to_string().contains("cannot write a/b"), "{error:#}");
    }
}
