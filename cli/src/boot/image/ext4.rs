//! ext2, ext3 and ext4, to read, by the crate ext4-view.
//!
//! The crate takes what an image says for sizes that it allocates: so the superblock is judged first, and links are
//! followed here, where their length is.

use anyhow::{Context as _, bail, ensure};
use ext4_view::{Ext4 as View, Ext4Error, Ext4Read};

use super::part::Part;
use crate::read_at::{ReadAt, number};

/// Place and bytes of the superblock (Linux, Documentation/filesystems/ext4/super.rst, as all offsets in it).
const SUPERBLOCK: (u64, usize) = (1024, 1024);
/// The magic number, and its offset.
const MAGIC: (usize, u64) = (0x38, 0xef53);
/// Links of a path, and bytes of it, at most (Linux, MAXSYMLINKS and PATH_MAX).
const LINKS: usize = 40;
const LONGEST_PATH: u64 = 4096;
/// Bytes that are read at a time.
const CHUNK: usize = 1 << 16;

/// A file system.
pub(super) struct Ext4(View);

impl Ext4Read for Part {
    fn read(
        &mut self,
        start: u64,
        bytes: &mut [u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync + 'static>> {
        Ok(self.read_at(start, bytes)?)
    }
}

impl Ext4 {
    /// Opens the file system of a partition; `None` if it is another one.
    ///
    /// # Errors
    /// It is corrupt, or has features that the crate does not know.
    pub(super) fn open(part: &Part) -> anyhow::Result<Option<Self>> {
        let mut superblock = [0; SUPERBLOCK.1];
        if part.read_at(SUPERBLOCK.0, &mut superblock).is_err()
            || number(&superblock[MAGIC.0..MAGIC.0 + 2]) != MAGIC.1
        {
            return Ok(None);
        }
        judge(&superblock, part.size())?;
        Ok(Some(Self(View::load(Box::new(part.clone()))?)))
    }

    pub(super) fn uuid(&self) -> String {
        self.0.uuid().to_string()
    }

    /// Reads a file of up to `most` bytes; `None` if it is not there.
    pub(super) fn read(&self, path: &str, most: u64) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(path) = self.resolve(path)? else { return Ok(None) };
        let mut file = match self.0.open(&*path) {
            Err(Ext4Error::NotFound | Ext4Error::NotADirectory | Ext4Error::IsADirectory) => return Ok(None),
            opened => opened?,
        };
        let length = file.metadata().len();
        ensure!(length <= most, "it has {length} bytes, expected {most} at most");
        let (mut bytes, mut chunk) = (Vec::new(), vec![0; CHUNK]);
        while (bytes.len() as u64) < length {
            match file.read_bytes(&mut chunk)? {
                0 => bail!("it ends after {} of its {length} bytes", bytes.len()),
                count => bytes.extend_from_slice(&chunk[..count]),
            }
        }
        Ok(Some(bytes))
    }

    /// Returns up to `most` names in a folder; none if it is not there.
    pub(super) fn names(&self, path: &str, most: usize) -> anyhow::Result<Vec<String>> {
        let Some(path) = self.resolve(path)? else { return Ok(Vec::new()) };
        let entries = match self.0.read_dir(&*path) {
            Err(Ext4Error::NotFound | Ext4Error::NotADirectory) => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.take(most).map(|entry| Ok(entry?.file_name().as_str().ok().map(str::to_owned)));
        names.filter_map(Result::transpose).collect()
    }

    /// Returns the path that a path leads to, without links; `None` if it leads nowhere.
    fn resolve(&self, path: &str) -> anyhow::Result<Option<String>> {
        let mut rest: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let (mut found, mut links): (Vec<String>, usize) = (Vec::new(), 0);
        while let Some(name) = rest.pop() {
            match &*name {
                "" | "." => continue,
                ".." => {
                    found.pop();
                    continue;
                }
                _ => found.push(name),
            }
            let whole = format!("/{}", found.join("/"));
            ensure!(whole.len() as u64 <= LONGEST_PATH, "its path is too long");
            let about = match self.0.symlink_metadata(&*whole) {
                Err(Ext4Error::NotFound | Ext4Error::NotADirectory | Ext4Error::MalformedPath) => {
                    return Ok(None);
                }
                about => about?,
            };
            if about.is_symlink() {
                links += 1;
                ensure!(links <= LINKS, "its path has more than {LINKS} symbolic links");
                let length = about.len();
                ensure!(length < LONGEST_PATH, "the symbolic link {whole} has {length} bytes");
                let target = self.0.read_link(&*whole)?;
                let target = target.to_str().context("a symbolic link is not UTF-8")?;
                found.pop();
                if target.starts_with('/') {
                    found.clear();
                }
                rest.extend(target.split('/').rev().map(str::to_owned));
            }
        }
        Ok(Some(format!("/{}", found.join("/"))))
    }
}

/// Judges what a superblock says of sizes, for a partition of `size` bytes.
fn judge(superblock: &[u8], size: u64) -> anyhow::Result<()> {
    /// Blocks of a group at least, and exponents of a block's bytes (e2fsprogs, EXT2_MIN_BLOCK_LOG_SIZE and mke2fs -g).
    const LEAST_GROUP: u64 = 256;
    const BLOCKS: std::ops::RangeInclusive<u64> = 10..=16;
    let word = |at: usize| number(&superblock[at..at + 4]);
    let short = |at: usize| number(&superblock[at..at + 2]);
    const IS_64BIT: u64 = 0x80;
    let high = if word(0x60) & IS_64BIT == 0 { 0 } else { word(0x150) };
    let (blocks, exponent, per_group) = (word(4) | high << 32, word(0x18) + 10, word(0x20));
    ensure!(BLOCKS.contains(&exponent), "its blocks have 2^{exponent} bytes, expected 2^10 to 2^16");
    let bytes = blocks.checked_mul(1 << exponent).filter(|bytes| *bytes <= size);
    bytes.with_context(|| {
        format!(
            "it has {blocks} blocks of {} bytes, more than the {size} bytes of the partition",
            1 << exponent
        )
    })?;
    ensure!(per_group >= LEAST_GROUP, "a group has {per_group} blocks, expected {LEAST_GROUP} or more");
    let inode = short(0x58);
    ensure!(
        inode.is_power_of_two() && (128..=1 << exponent).contains(&inode),
        "an inode has {inode} bytes, expected a power of two from 128 on"
    );
    Ok(())
}
