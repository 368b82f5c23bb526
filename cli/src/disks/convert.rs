//! Images that are not raw: known by their magic, converted into the cache by qemu-img.
//!
//! Sources: QEMU, docs/interop/qcow2.txt, "General"; MS-VHDX, "File type identifier"; Virtual Hard Disk Image Format
//! Specification, "Hard disk footer format".

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use rustix::io::FdFlags;

use super::image::{head, too_large};
use super::room;
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

/// The raw image of a packed one, made once and kept in the cache as long as the file stays the same. It has `most` bytes at most.
pub(super) fn raw(path: &Path, file: &File, format: Format, most: u64) -> anyhow::Result<File> {
    refuse_parent(file, format, path)?;
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
    let tool = Tool { qemu_img, driver, source: source_path, path };
    tool.judge(most)?;
    tool.fits(scratch.path())?;
    let task = ui::Task::new(format!("Converting {} ({format}) with qemu-img", path.display()));
    let done = tool.run(&["convert", "-O", "raw"], Some(&made))?;
    drop(task);
    if !done.status.success() {
        bail!("cannot convert the disk {} ({format}): {}", path.display(), done.complaint("qemu-img:"));
    }
    std::fs::create_dir_all(&folder)?;
    std::fs::rename(&made, &kept).with_context(|| format!("cannot keep {}", kept.display()))?;
    Ok(File::open(&kept)?)
}

/// qemu-img, for one image.
struct Tool<'a> {
    qemu_img: PathBuf,
    driver: &'static str,
    source: String,
    path: &'a Path,
}

impl Tool<'_> {
    /// Runs a subcommand on the image.
    fn run(&self, words: &[&str], target: Option<&Path>) -> anyhow::Result<process::Finished> {
        let mut command = Command::new(&self.qemu_img);
        command.args(&words[..1]).args(["-f", self.driver]).args(&words[1..]).arg(&self.source).args(target);
        process::run(&mut command, || {})
    }

    /// What a subcommand says of the image.
    fn ask(&self, words: &[&str]) -> anyhow::Result<serde_json::Value> {
        let done = self.run(words, None)?;
        if !done.status.success() {
            bail!("cannot read the disk {}: {}", self.path.display(), done.complaint("qemu-img:"));
        }
        Ok(serde_json::from_str(&done.stdout).unwrap_or_default())
    }

    /// Refuses an image that is made of other files too, or is larger than what fits.
    fn judge(&self, most: u64) -> anyhow::Result<()> {
        let info = self.ask(&["info", "--output=json"])?;
        let data = info.pointer("/format-specific/data/data-file");
        if let Some(other) = info.get("backing-filename").or(data).and_then(serde_json::Value::as_str) {
            return Err(builds_on(self.path, &format!("{other:?}")));
        }
        let size = info.get("virtual-size").and_then(serde_json::Value::as_u64);
        let size =
            size.with_context(|| format!("qemu-img says no size of the disk {}", self.path.display()))?;
        ensure!(size <= most, too_large(self.path, size, most));
        Ok(())
    }

    /// Refuses an image whose data does not fit into the cache: a small one may have very much, packed.
    fn fits(&self, folder: &Path) -> anyhow::Result<()> {
        let measured = self.ask(&["measure", "-O", "raw", "--output=json"])?;
        let needed = measured.get("required").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let free = File::open(folder).ok().and_then(|folder| room::free(&folder)).unwrap_or(u64::MAX);
        ensure!(
            needed <= free,
            "the disk {} has {needed} bytes of data once it is converted, and the cache, {}, has {free} bytes free; make room \
             there, or set XDG_CACHE_HOME to a folder with more",
            self.path.display(),
            folder.display()
        );
        Ok(())
    }
}

/// The error for an image that is not whole.
fn builds_on(path: &Path, other: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "the disk {} builds on another file, {other}; give one that is whole (`qemu-img convert` makes it)",
        path.display()
    )
}

/// Refuses an image whose header says that it is made of other files, before qemu-img may open those.
fn refuse_parent(file: &File, format: Format, path: &Path) -> anyhow::Result<()> {
    /// Where a qcow2 header has the offset of the backing file's name, and, from version 3 on, the incompatible features.
    const BACKING: usize = 8;
    const FEATURES: usize = 72;
    /// The data is in another file.
    const EXTERNAL_DATA: u8 = 1 << 2;
    /// Where a VHD's footer has the low byte of the disk's type, and that of a differencing disk.
    const TYPE: u64 = 63;
    const DIFFERENCING: u8 = 4;
    match format {
        Format::Qcow2 => {
            let head = head(file, FEATURES + 8)?;
            let word = |at: usize| {
                head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes)
            };
            let new = head.get(4..8).is_some_and(|version| version != [0, 0, 0, 2]);
            if word(BACKING).is_some_and(|offset| offset != 0) {
                return Err(builds_on(path, "which its header names"));
            }
            if new && word(FEATURES).is_some_and(|features| features & u64::from(EXTERNAL_DATA) != 0) {
                return Err(builds_on(path, "which has its data"));
            }
        }
        Format::Vhd => {
            let mut kind = [0];
            let end = file.metadata()?.len();
            file.read_exact_at(&mut kind, end.saturating_sub(FOOTER) + TYPE)?;
            // qemu-img takes it for one that is whole, with zeros where the parent has data.
            if kind == [DIFFERENCING] {
                return Err(builds_on(path, "its parent"));
            }
        }
        // qemu-img knows no other ones than those that are whole.
        Format::Vhdx | Format::Raw => {}
    }
    Ok(())
}

/// The program that converts, which is installed if it is not there.
fn qemu_img() -> anyhow::Result<PathBuf> {
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

    fn judged(bytes: &[u8], format: Format) -> anyhow::Result<()> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        refuse_parent(&file, format, Path::new("disk"))
    }

    #[test]
    fn an_image_that_builds_on_another_is_refused_by_its_header() {
        let qcow2 = |version: u8, backing: u8, features: u8| {
            let mut head = [0; 104];
            head[..8].copy_from_slice(&[b'Q', b'F', b'I', 0xfb, 0, 0, 0, version]);
            (head[15], head[79]) = (backing, features);
            judged(&head, Format::Qcow2)
        };
        assert!(qcow2(3, 0, 0b11).is_ok() && qcow2(2, 0, 4).is_ok());
        assert!(qcow2(3, 1, 0).is_err() && qcow2(2, 1, 0).is_err() && qcow2(3, 0, 4).is_err());
        let vhd = |kind: u8| {
            let mut image = [0; 1024];
            image[512 + 63] = kind;
            judged(&image, Format::Vhd)
        };
        assert!(vhd(2).is_ok() && vhd(3).is_ok());
        assert!(vhd(4).unwrap_err().to_string().contains("builds on another file"));
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
