//! The image's partitions: a GPT with an EFI partition and a root.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;

use crate::fat::new;
use crate::process;
use crate::setup::size;

/// Bytes of a block, of the EFI partition, and where partitions begin.
const BLOCK: u64 = 512;
const EFI: u64 = 256 << 20;
const START: u64 = 1 << 20;
/// Where the root begins.
pub(super) const ROOT: u64 = START + EFI;
/// What a GPT takes at the end of a disk, rounded up.
const END: u64 = 1 << 20;
/// Bytes that are written at a time, unless all are 0.
const CHUNK: usize = 64 << 10;

/// The partitions of an image, by their identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) efi: String,
    pub(super) root: String,
}

/// Returns the size of an image whose root has this size.
pub(super) const fn around(root: u64) -> u64 {
    ROOT + root.next_multiple_of(START) + END
}

/// Makes the partitions of an image of `size` bytes, and an empty ext4 in the second of them. `mke2fs` is that of
/// e2fsprogs.
///
/// # Errors
/// The file exists, a write to it fails, or mke2fs fails.
pub(super) fn make(path: &Path, size: u64, mke2fs: &Path) -> anyhow::Result<Table> {
    let explain = || format!("cannot make {}", path.display());
    let least = around(64 << 20);
    ensure!(
        size >= least,
        "{}: it has {}, expected {} or more",
        explain(),
        size::exact(size),
        size::exact(least)
    );
    let file = File::create_new(path).with_context(explain)?;
    file.set_len(size).with_context(explain)?;
    let table = partition(file, size).with_context(explain)?;
    let bytes = size - ROOT - END;
    let mut command = Command::new(mke2fs);
    // The host's file has zeros already.
    let extended = format!("offset={ROOT},lazy_itable_init=1,lazy_journal_init=1,nodiscard");
    command.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-L", "root", "-E", &extended]);
    let done = process::run(command.arg(path).arg(format!("{}k", bytes >> 10)), || {})?;
    ensure!(done.status.success(), "{}: {}", explain(), done.complaint("mke2fs:"));
    Ok(table)
}

/// Writes the table.
fn partition(mut file: File, size: u64) -> anyhow::Result<Table> {
    let blocks = u32::try_from(size / BLOCK - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(blocks).overwrite_lba0(&mut file)?;
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = config.create_from_device(file, None)?;
    // The Discoverable Partitions Specification's root for arm64, which systemd finds by itself.
    let kinds = [gpt::partition_types::EFI, gpt::partition_types::LINUX_ROOT_ARM_64];
    let parts = [("EFI", START, EFI), ("root", ROOT, size - ROOT - END)];
    for (id, (kind, (name, start, bytes))) in (1..).zip(kinds.into_iter().zip(parts)) {
        table.add_partition_at(name, id, start / BLOCK, bytes / BLOCK, kind, 0)?;
    }
    let guid = |id: u32| table.partitions().get(&id).map(|part| part.part_guid.to_string().to_lowercase());
    let found = guid(1).zip(guid(2));
    table.write()?;
    let (efi, root) = found.context("the table has lost its partitions")?;
    Ok(Table { efi, root })
}

/// Writes the EFI partition: a FAT file system with these files, by path.
///
/// # Errors
/// They do not fit, or a write to the image fails.
pub(super) fn write_efi(path: &Path, files: &[(String, Vec<u8>)]) -> anyhow::Result<()> {
    // Firmware must read FAT32 on a disk (UEFI, 13.3).
    let volume = new::volume(*b"EFI        ", EFI as usize, files)?;
    let file = File::options().write(true).open(path)?;
    for (at, chunk) in (START..).step_by(CHUNK).zip(volume.chunks(CHUNK)) {
        // An earlier run may have written here.
        if chunk.iter().any(|byte| *byte != 0)
            || rustix::fs::fallocate(&file, HOLE, at, chunk.len() as u64).is_err()
        {
            file.write_all_at(chunk, at)?;
        }
    }
    Ok(())
}

/// Flags that make a part of a file a hole.
const HOLE: rustix::fs::FallocateFlags =
    rustix::fs::FallocateFlags::PUNCH_HOLE.union(rustix::fs::FallocateFlags::KEEP_SIZE);

/// Gives back the blocks of a file that are zeros. A file system that knows which have never been written still calls
/// those data that are in the page cache.
pub(super) fn dig(path: &Path) -> std::io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let (length, mut at) = (file.metadata()?.len(), 0);
    let mut chunk = vec![0; CHUNK];
    while at < length {
        let data = match rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data.min(length),
            // No data follows.
            Err(rustix::io::Errno::NXIO) => length,
            // A file system that cannot tell: all may be data.
            Err(_) => at,
        };
        // A file system without holes keeps its blocks.
        if data > at && rustix::fs::fallocate(&file, HOLE, at, data - at).is_err() {
            return Ok(());
        }
        at = match rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(data)) {
            Ok(hole) if hole > data => hole,
            _ => length,
        };
        for place in (data..at).step_by(CHUNK) {
            let part = &mut chunk[..CHUNK.min((at - place) as usize)];
            file.read_exact_at(part, place)?;
            let is_empty = part.iter().all(|byte| *byte == 0);
            if is_empty && rustix::fs::fallocate(&file, HOLE, place, part.len() as u64).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
