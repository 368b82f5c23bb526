//! Images that are not raw: known by their magic, converted into the cache by qemu-img.
//!
//! Sources: QEMU, docs/interop/qcow2.txt, "General"; MS-VHDX, "File type identifier"; Virtual Hard Disk Image Format
//! Specification, "Hard disk footer format".

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use rustix::io::FdFlags;

use super::image::head;
use crate::setup::cache::Cache;
use crate::setup::system;
use crate::{process, ui};

/// How an image is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Raw,
    Qcow2,
    Vhd,
    Vhdx,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
        })
    }
}

/// Bytes of a VHD's footer, the last of the file.
const FOOTER: u64 = 512;

/// Tells the format of an image of `size` bytes.
pub(super) fn format(file: &File, size: u64) -> io::Result<Format> {
    const VHD: &[u8] = b"conectix";
    let head = head(file, 8)?;
    if head.starts_with(b"QFI\xfb") {
        return Ok(Format::Qcow2);
    }
    if head == b"vhdxfile" {
        return Ok(Format::Vhdx);
    }
    // One that grows has a copy of the footer at its start, and one of fixed size has not.
    let mut footer = [0; 8];
    let at = size.checked_sub(FOOTER);
    if let Some(at) = at {
        file.read_exact_at(&mut footer, at)?;
    }
    Ok(if head == VHD || footer == VHD { Format::Vhd } else { Format::Raw })
}

/// The raw image of a packed one, made once and kept in the cache as long as the file stays the same.
pub(super) fn raw(path: &Path, file: &File, format: Format) -> anyhow::Result<File> {
    let cache = Cache::open()?;
    let meta = file.metadata()?;
    let name = format!(
        "{:x}-{:x}-{:x}-{:x}.{:x}.raw",
        meta.dev(),
        meta.ino(),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec()
    );
    let folder = cache.entry("disks");
    let kept = folder.join(name);
    if let Ok(raw) = File::open(&kept) {
        return Ok(raw);
    }
    let qemu_img = qemu_img()?;
    let lock = cache.lock()?;
    if let Ok(raw) = File::open(&kept) {
        return Ok(raw);
    }
    let scratch = cache.scratch(&lock)?;
    let made = scratch.path().join("disk.raw");
    // By the file that is open, locked and judged: its name may lead to another one by now. An image that names others, which
    // it builds on, is read with the user's rights, so it must not.
    let source = file.try_clone()?;
    rustix::io::fcntl_setfd(&source, FdFlags::empty())?;
    let source_path = format!("/proc/self/fd/{}", source.as_raw_fd());
    let driver = match format {
        Format::Vhd => "vpc",
        Format::Vhdx => "vhdx",
        Format::Qcow2 | Format::Raw => "qcow2",
    };
    refuse_others(&qemu_img, driver, &source_path, path)?;
    let task = ui::Task::new(format!("Converting {} ({format}) with qemu-img", path.display()));
    let mut command = Command::new(&qemu_img);
    command.args(["convert", "-f", driver, "-O", "raw", &source_path]).arg(&made);
    let done = process::run(&mut command, || {})?;
    drop(task);
    if !done.status.success() {
        bail!("cannot convert the disk {} ({format}): {}", path.display(), done.complaint("qemu-img:"));
    }
    std::fs::create_dir_all(&folder)?;
    std::fs::rename(&made, &kept).with_context(|| format!("cannot keep {}", kept.display()))?;
    Ok(File::open(&kept)?)
}

/// Refuses an image that is made of other files too.
fn refuse_others(qemu_img: &Path, driver: &str, source: &str, path: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(qemu_img);
    command.args(["info", "-f", driver, "--output=json", source]);
    let done = process::run(&mut command, || {})?;
    if !done.status.success() {
        bail!("cannot read the disk {}: {}", path.display(), done.complaint("qemu-img:"));
    }
    let info: serde_json::Value = serde_json::from_str(&done.stdout).unwrap_or_default();
    let data = info.pointer("/format-specific/data/data-file");
    if let Some(other) = info.get("backing-filename").or(data).and_then(serde_json::Value::as_str) {
        bail!(
            "the disk {} builds on another file, {other:?}; give one that is whole (`qemu-img convert` makes it)",
            path.display()
        );
    }
    Ok(())
}

/// The program that converts, which is installed if it is not there.
fn qemu_img() -> anyhow::Result<std::path::PathBuf> {
    const PROGRAM: &str = "qemu-img";
    if let Some(found) = process::which(PROGRAM) {
        return Ok(found);
    }
    system::install("QEMU's tool for disk images", &["qemu-utils"])?;
    process::which(PROGRAM)
        .with_context(|| format!("{PROGRAM} is not in $PATH, though its package was installed"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn told(bytes: &[u8]) -> Format {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        format(&file, bytes.len() as u64).unwrap()
    }

    #[test]
    fn formats_are_known_by_their_magic() {
        let mut fixed = vec![0; 4096 + 512];
        fixed[4096..4104].copy_from_slice(b"conectix");
        assert_eq!(told(b"QFI\xfb\0\0\0\x03"), Format::Qcow2);
        assert_eq!(told(b"vhdxfile...."), Format::Vhdx);
        assert_eq!(told(b"conectix...."), Format::Vhd);
        assert_eq!(told(&fixed), Format::Vhd);
        assert_eq!(told(&fixed[..4096]), Format::Raw);
        assert_eq!(told(b""), Format::Raw);
    }
}
