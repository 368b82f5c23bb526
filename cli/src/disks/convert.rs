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
use super::room::Needs;
use crate::setup::cache::Cache;
use crate::setup::system;
use crate::{process, ui};

/// Packed format of an image.
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

/// Returns the number of bytes of the disk in a packed image, as its header declares; `None` where only qemu-img can
/// tell. A declared size is judged before anything is installed or run.
pub(super) fn declared(file: &File, format: Format) -> io::Result<Option<u64>> {
    /// Where the header has the size, big-endian.
    const QCOW2: u64 = 24;
    const VHD: u64 = 48;
    let at = match format {
        Format::Qcow2 => QCOW2,
        Format::Vhd => file.metadata()?.len().saturating_sub(FOOTER) + VHD,
        Format::Vhdx | Format::Raw => return Ok(None),
    };
    let mut size = [0; 8];
    match file.read_exact_at(&mut size, at) {
        Ok(()) => Ok(Some(u64::from_be_bytes(size))),
        // qemu-img says what is wrong with it.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// A packed image, which is converted into the cache once, and kept as long as the file stays the same.
#[derive(Debug)]
pub(super) struct Packed {
    path: PathBuf,
    format: Format,
    cache: Cache,
    /// Where the raw image is.
    kept: PathBuf,
    tool: Option<Tool>,
}

impl Packed {
    /// Refuses an image that is made of other files, by its header.
    pub(super) fn new(path: &Path, file: &File, format: Format) -> anyhow::Result<Self> {
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
        let kept = cache.entry("disks").join(name);
        let tool = if kept.is_file() { None } else { Some(Tool::new(path, file, format)?) };
        Ok(Self { path: path.to_owned(), format, cache, kept, tool })
    }

    /// Returns the number of bytes of the disk, at most `most`.
    pub(super) fn measure(&mut self, most: u64) -> anyhow::Result<u64> {
        match &mut self.tool {
            None => Ok(self
                .kept
                .metadata()
                .with_context(|| format!("cannot read {}", self.kept.display()))?
                .len()),
            Some(tool) => {
                tool.program = qemu_img()?;
                tool.judge(most)
            }
        }
    }

    /// Adds the room that the conversion needs.
    pub(super) fn count(&self, needs: &mut Needs) -> anyhow::Result<()> {
        match &self.tool {
            None => Ok(()),
            Some(tool) => {
                let folder = self.cache.dir();
                std::fs::create_dir_all(folder).with_context(|| {
                    format!("cannot make the folder {}; set XDG_CACHE_HOME", folder.display())
                })?;
                needs.conversion(folder, &self.path, tool.data()?)
            }
        }
    }

    /// Returns the raw image.
    pub(super) fn raw(self) -> anyhow::Result<File> {
        let open = || File::open(&self.kept).with_context(|| format!("cannot read {}", self.kept.display()));
        let Some(tool) = self.tool else { return open() };
        let lock = self.cache.lock()?;
        // Another run may have made it meanwhile.
        if let Ok(raw) = File::open(&self.kept) {
            return Ok(raw);
        }
        let scratch = self.cache.scratch(&lock)?;
        let made = scratch.path().join("disk.raw");
        let task =
            ui::Task::new(format!("Converting {} ({}) with qemu-img", self.path.display(), self.format));
        let done = tool.run(&["convert", "-O", "raw"], Some(&made))?;
        drop(task);
        if !done.status.success() {
            bail!(
                "cannot convert the disk {} ({}): {}",
                self.path.display(),
                self.format,
                done.complaint("qemu-img:")
            );
        }
        std::fs::create_dir_all(self.cache.entry("disks"))?;
        std::fs::rename(&made, &self.kept).with_context(|| format!("cannot keep {}", self.kept.display()))?;
        open()
    }
}

/// qemu-img, for one image.
#[derive(Debug)]
struct Tool {
    program: PathBuf,
    driver: &'static str,
    /// The image, which qemu-img inherits.
    file: File,
    path: PathBuf,
}

impl Tool {
    fn new(path: &Path, file: &File, format: Format) -> anyhow::Result<Self> {
        let driver = match format {
            Format::Vhd => "vpc",
            Format::Vhdx => "vhdx",
            Format::Qcow2 | Format::Raw => "qcow2",
        };
        Ok(Self { program: PathBuf::new(), driver, file: file.try_clone()?, path: path.to_owned() })
    }

    /// Runs a subcommand on the image: the file that is open, locked and judged, since its name may lead to another one
    /// by now.
    fn run(&self, words: &[&str], target: Option<&Path>) -> anyhow::Result<process::Finished> {
        rustix::io::fcntl_setfd(&self.file, FdFlags::empty())?;
        let source = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let mut command = Command::new(&self.program);
        command.args(&words[..1]).args(["-f", self.driver]).args(&words[1..]).arg(source).args(target);
        let done = process::run(&mut command, || {});
        rustix::io::fcntl_setfd(&self.file, FdFlags::CLOEXEC)?;
        done
    }

    /// Returns what a subcommand reports about the image.
    fn ask(&self, words: &[&str]) -> anyhow::Result<serde_json::Value> {
        let done = self.run(words, None)?;
        if !done.status.success() {
            bail!("cannot read the disk {}: {}", self.path.display(), done.complaint("qemu-img:"));
        }
        Ok(serde_json::from_str(&done.stdout).unwrap_or_default())
    }

    /// Refuses an image that is made of other files too, or is larger than what fits; else returns its size.
    fn judge(&self, most: u64) -> anyhow::Result<u64> {
        let info = self.ask(&["info", "--output=json"])?;
        let data = info.pointer("/format-specific/data/data-file");
        if let Some(other) = info.get("backing-filename").or(data).and_then(serde_json::Value::as_str) {
            return Err(builds_on(&self.path, &format!("{other:?}")));
        }
        let size = info.get("virtual-size").and_then(serde_json::Value::as_u64);
        let size =
            size.with_context(|| format!("qemu-img says no size of the disk {}", self.path.display()))?;
        ensure!(size <= most, too_large(&self.path, size, most));
        Ok(size)
    }

    /// Returns the number of bytes of data that the image has once it is converted: a small one may have very much,
    /// packed.
    fn data(&self) -> anyhow::Result<u64> {
        let measured = self.ask(&["measure", "-O", "raw", "--output=json"])?;
        Ok(measured.get("required").and_then(serde_json::Value::as_u64).unwrap_or(0))
    }
}

/// Returns the error for an image that is incomplete.
fn builds_on(path: &Path, other: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "the disk {0} depends on another file, {other}; give one that is complete, as \
         `qemu-img convert -O qcow2 {0} complete.qcow2` makes it",
        path.display()
    )
}

/// Refuses an image whose header says that it is made of other files, before qemu-img may open those.
fn refuse_parent(file: &File, format: Format, path: &Path) -> anyhow::Result<()> {
    /// Where a qcow2 header has the offset of the backing file's name, and, from version 3 on, the incompatible
    /// features.
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

/// Returns the program that converts, which is installed if it is missing.
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
        assert!(vhd(4).unwrap_err().to_string().contains("depends on another file"));
    }

    #[test]
    fn a_header_says_how_large_the_disk_is() {
        let said = |bytes: &[u8], format| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            declared(&file, format).unwrap()
        };
        let mut qcow2 = [0; 104];
        qcow2[24..32].copy_from_slice(&(60u64 << 40).to_be_bytes());
        assert_eq!(said(&qcow2, Format::Qcow2), Some(60 << 40));
        let mut vhd = [0; 1024];
        vhd[512 + 48..512 + 56].copy_from_slice(&(3u64 << 30).to_be_bytes());
        assert_eq!(said(&vhd, Format::Vhd), Some(3 << 30));
        assert_eq!(said(&[0; 8], Format::Qcow2), None, "it is cut off");
        assert_eq!(said(&[0; 8], Format::Vhd), None);
        assert_eq!(said(&[0; 1024], Format::Vhdx), None);
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
