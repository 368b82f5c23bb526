//! A disk's file: opened, judged, locked, and copied where the guest's writes must not reach it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{FlockOperation, Mode as Permissions, OFlags, SeekFrom as Seek};
use rustix::io::Errno;

use super::convert::{self, Format, Packed};
use super::option::Mode;
use super::room::{self, Needs};
use crate::setup::cache::Cache;
use crate::setup::size::exact;
use crate::ui;

/// Bytes of a block of every file system and of a page of the host.
pub(super) const PAGE: u64 = 4096;
/// Regions that are copies are as long as a large page.
const ALIGN: u64 = 2 << 20;
/// Bytes that are copied at a time.
const CHUNK: usize = 1 << 20;

/// What is mapped for a disk.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) file: File,
    /// Bytes that the guest sees.
    pub(super) size: u64,
    /// Bytes that are mapped: as many, rounded up.
    pub(super) region: u64,
}

/// A disk's file, opened, locked and judged. Nothing has been copied or allocated yet.
#[derive(Debug)]
pub(super) struct Opened {
    path: PathBuf,
    mode: Mode,
    /// Bytes of a logical block.
    block: u64,
    file: File,
    /// Bytes of the file, or of the disk in it; `None` while only qemu-img can tell.
    size: Option<u64>,
    /// How a packed image becomes a raw one.
    packed: Option<Packed>,
}

/// Opens a disk's file for a mode. `block`: bytes of a logical block. `most`: bytes of all that fits into the machine.
pub(super) fn open(path: &Path, mode: Mode, block: u64, most: u64) -> anyhow::Result<Opened> {
    let name = path.display();
    let file = open_file(path, mode)?;
    let size = length(&file, path)?;
    let format = convert::format(&file, size).with_context(|| format!("cannot read the disk {name}"))?;
    lock(&file, path, mode)?;
    let mut opened = Opened { path: path.to_owned(), mode, block, file, size: Some(size), packed: None };
    if format != Format::Raw {
        ensure!(
            mode != Mode::ReadWrite,
            "the disk {name} is a {format} image, and only a raw image can be written: give it as snapshot or ro, or convert \
             it with `qemu-img convert -O raw`"
        );
        opened.size = convert::declared(&opened.file, format)
            .with_context(|| format!("cannot read the disk {name}"))?;
        opened.packed = Some(Packed::new(path, &opened.file, format)?);
    }
    opened.judge(most)?;
    Ok(opened)
}

impl Opened {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns the number of bytes that are mapped.
    pub(super) fn region(&self) -> u64 {
        match (self.size.unwrap_or(0), self.mode) {
            (size, Mode::ReadWrite) => size,
            (size, Mode::ReadOnly) if size.is_multiple_of(PAGE) => size,
            (size, _) => size.checked_next_multiple_of(ALIGN).unwrap_or(u64::MAX),
        }
    }

    /// Returns the number of bytes that the guest sees: whole blocks.
    fn whole(&self) -> u64 {
        let size = self.size.unwrap_or(0);
        size - size % self.block
    }

    /// Returns its contents as a raw image, to read.
    pub(super) fn readable(&self) -> anyhow::Result<File> {
        match self.packed {
            Some(_) => {
                source(&self.path, Mode::ReadOnly, self.block, super::ADDRESS_END).map(|(file, _)| file)
            }
            None => Ok(self.file.try_clone()?),
        }
    }

    /// Has qemu-img tell the size of a packed image. `most`: bytes of all that fits into the machine.
    pub(super) fn measure(&mut self, most: u64) -> anyhow::Result<()> {
        if let Some(packed) = &mut self.packed {
            self.size = Some(packed.measure(most)?);
            self.judge(most)?;
        }
        Ok(())
    }

    /// Refuses an invalid size.
    fn judge(&self, most: u64) -> anyhow::Result<()> {
        let (name, Some(size), block) = (self.path.display(), self.size, self.block) else { return Ok(()) };
        ensure!(size != 0, "the disk {name} is empty: make one with `truncate -s 1G {name}`");
        ensure!(
            self.whole() != 0,
            "the disk {name} has {}, less than a block of {block}: make it longer",
            exact(size)
        );
        ensure!(self.region() <= most, too_large(&self.path, size, most));
        ensure!(
            self.mode != Mode::ReadWrite || size.is_multiple_of(PAGE),
            "the disk {name} has {}, and a file that is written must be a multiple of {PAGE} bytes: extend it with `truncate \
             -s %{PAGE} {name}`, or give it as snapshot",
            exact(size)
        );
        Ok(())
    }

    /// Adds the room on the host that it needs.
    pub(super) fn count(&self, needs: &mut Needs) -> anyhow::Result<()> {
        if let Some(packed) = &self.packed {
            packed.count(needs)?;
        }
        match self.mode {
            Mode::ReadOnly => Ok(()),
            Mode::ReadWrite => needs.allocation(&self.file, &self.path, self.region()),
            Mode::Snapshot => needs.snapshot(&copies()?, &self.path, self.region()),
        }
    }

    /// Returns the number of bytes that are mapped for a disk that may grow by `growth`, if it can be written.
    pub(super) fn mapped(&self, growth: u64) -> u64 {
        if self.mode == Mode::ReadOnly { self.region() } else { self.region().saturating_add(growth) }
    }

    /// Makes what is mapped: converts, allocates or copies. `growth`: bytes by which a disk that can be written may
    /// grow.
    pub(super) fn prepare(self, growth: u64) -> anyhow::Result<Image> {
        let (whole, region, mapped, mode) = (self.whole(), self.region(), self.mapped(growth), self.mode);
        let (path, mut size) = (self.path.clone(), self.size.unwrap_or(0));
        let (path, file) = (&*path, self.raw()?);
        match mode {
            Mode::ReadWrite => {
                room::allocate(&file, path, region)?;
                Ok(Image { file, size: whole, region: mapped })
            }
            Mode::ReadOnly if region == size => Ok(Image { file, size: whole, region }),
            Mode::ReadOnly | Mode::Snapshot => {
                // One that shrank since it was opened has nothing to copy there.
                size = size.min(length(&file, path)?);
                let copy = copy(&file, path, size, region, mode == Mode::Snapshot)?;
                copy.set_len(mapped)
                    .with_context(|| format!("cannot make room for the disk {} to grow", path.display()))?;
                Ok(Image { file: copy, size: whole, region: mapped })
            }
        }
    }

    /// Makes a raw image, and says what of it the guest does not see.
    fn raw(self) -> anyhow::Result<File> {
        let (whole, path) = (self.whole(), &*self.path);
        let size = self.size.unwrap_or(0);
        let name = path.display();
        let file = match self.packed {
            Some(packed) => {
                let file = packed.raw()?;
                let found = length(&file, path)?;
                ensure!(
                    found == size,
                    "the disk {name} has {} once it is converted, and qemu-img said {}: it has changed; try again",
                    exact(found),
                    exact(size)
                );
                file
            }
            None => self.file,
        };
        if whole != size {
            ui::note(&format!(
                "The disk {name} has {size} bytes; the guest sees {whole}, without the {} after the last block of {}",
                size - whole,
                self.block
            ));
        }
        Ok(file)
    }
}

/// Opens a disk's file and makes a raw image of it. Returns that, and the bytes that the guest sees. `most`: maximum
/// size in bytes.
pub(super) fn source(path: &Path, mode: Mode, block: u64, most: u64) -> anyhow::Result<(File, u64)> {
    let mut opened = open(path, mode, block, most)?;
    opened.measure(most)?;
    let mut needs = Needs::default();
    opened.count(&mut needs)?;
    needs.judge()?;
    let whole = opened.whole();
    Ok((opened.raw()?, whole))
}

/// Checks that there is a file which a disk could be made of.
pub(super) fn check(path: &Path) -> anyhow::Result<()> {
    open_file(path, Mode::ReadOnly).map(drop)
}

/// Returns the error for a disk that is larger than what fits.
pub(super) fn too_large(path: &Path, size: u64, most: u64) -> String {
    format!(
        "the disk {} has {}, and at most {} fit: the hypervisor maps 39 bits of address, for guest memory, trace buffer and \
         disks together",
        path.display(),
        exact(size),
        exact(most)
    )
}

fn open_file(path: &Path, mode: Mode) -> anyhow::Result<File> {
    let name = path.display();
    // A pipe without a writer is refused below, and not waited for.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let opened = OpenOptions::new().read(true).write(mode == Mode::ReadWrite).custom_flags(flags).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = path.to_string_lossy();
            let hint = match text.rsplit_once(',') {
                Some((_, word)) => {
                    format!(
                        "; unknown option {word} after the file name: expected ro, rw, snapshot or at=CONTROLLER:LUN"
                    )
                }
                None => String::new(),
            };
            bail!("the disk {name} does not exist{hint}");
        }
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            bail!("the disk {name} is a folder: expected a file")
        }
        Err(error) if mode == Mode::ReadWrite && error.kind() == io::ErrorKind::PermissionDenied => {
            bail!("the disk {name} cannot be written ({error}); give it as snapshot or ro")
        }
        Err(error) if mode == Mode::ReadWrite && error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            bail!("the disk {name} cannot be written ({error}); give it as snapshot or ro")
        }
        Err(error) => return Err(error).with_context(|| format!("cannot open the disk {name}")),
    };
    let kind = file.metadata().with_context(|| format!("cannot look at the disk {name}"))?.file_type();
    ensure!(!kind.is_dir(), "the disk {name} is a folder: expected a file");
    ensure!(kind.is_file() || kind.is_block_device(), "the disk {name} is neither a file nor a block device");
    Ok(file)
}

/// Returns the number of bytes of a file or block device.
fn length(file: &File, path: &Path) -> anyhow::Result<u64> {
    let mut file = file;
    file.seek(SeekFrom::End(0))
        .with_context(|| format!("cannot find the length of the disk {}", path.display()))
}

/// Keeps other runs from writing to what this one reads, and from using what it writes.
fn lock(file: &File, path: &Path, mode: Mode) -> anyhow::Result<()> {
    let how = match mode {
        Mode::ReadWrite => FlockOperation::NonBlockingLockExclusive,
        Mode::ReadOnly | Mode::Snapshot => FlockOperation::NonBlockingLockShared,
    };
    match rustix::fs::flock(file, how) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) if mode == Mode::ReadWrite => {
            bail!(
                "the disk {} is in use by another run, or given twice here; wait for its end, or give the disk as snapshot",
                path.display()
            )
        }
        Err(Errno::WOULDBLOCK) => {
            bail!(
                "the disk {} is in use by another run, or given twice here, and written; wait for its end",
                path.display()
            )
        }
        // A file system without locks is no reason to stop.
        Err(Errno::NOLCK | Errno::NOTSUP) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot lock the disk {}", path.display())),
    }
}

/// Makes a copy without a name, `region` bytes long: it shares the file's blocks where the file system can, and has
/// holes where the file has. `written`: the guest may write to it, so there is room for all of it.
fn copy(file: &File, path: &Path, size: u64, region: u64, written: bool) -> anyhow::Result<File> {
    let folder = copies()?;
    let explain = || {
        format!(
            "cannot copy the disk {} to {}; set TMPDIR to a folder with more room",
            path.display(),
            folder.display()
        )
    };
    let copy = unnamed(&folder).with_context(explain)?;
    let shared = rustix::fs::ioctl_ficlone(&copy, file).is_ok();
    copy.set_len(region).with_context(explain)?;
    if written {
        room::reserve(&copy, path, &folder, region, shared)?;
    }
    if !shared {
        let task = ui::Task::bytes(format!("Copying {}", path.display()), size);
        let progress = |done| {
            task.position(done);
            Ok(())
        };
        copy_data(file, (&copy, 0), size, progress).with_context(explain)?;
    }
    Ok(copy)
}

/// Returns the folder for copies of disks: `$TMPDIR`, else the cache.
pub(super) fn copies() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("TMPDIR").map(PathBuf::from).filter(|folder| folder.is_absolute())
    {
        return Ok(folder);
    }
    let folder = Cache::open()?.dir().to_owned();
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}; set TMPDIR", folder.display()))?;
    Ok(folder)
}

/// Creates a file that goes away with the last process that holds it.
pub(super) fn unnamed(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Permissions::RUSR | Permissions::WUSR) {
        Ok(fd) => Ok(File::from(fd)),
        // Not every file system can: then one whose name is taken away at once.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => tempfile::tempfile_in(folder),
        Err(error) => Err(error.into()),
    }
}

/// Copies what is not a hole to a place in a file, which has zeros there. `progress` is called with the bytes done, and
/// ends the copying if it fails.
pub(crate) fn copy_data(
    from: &File,
    (to, place): (&File, u64),
    size: u64,
    mut progress: impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(from, Seek::Data(at)) {
            Ok(data) => data.min(size),
            // Nothing but a hole follows.
            Err(Errno::NXIO) => break,
            Err(_) => at,
        };
        let end = rustix::fs::seek(from, Seek::Hole(data)).map_or(size, |end| end.min(size));
        at = data;
        while at < end {
            crate::interrupt::check()?;
            let part = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            from.read_exact_at(&mut buffer[..part], at)?;
            // Blocks that were reserved, or only read, count as data and are zeros: they stay holes.
            for range in written(&buffer[..part]) {
                to.write_all_at(&buffer[range.clone()], place + at + range.start as u64)?;
            }
            at += part as u64;
            progress(at)?;
        }
        if end == data {
            break;
        }
    }
    Ok(())
}

/// Returns the runs of blocks that are not zeros.
fn written(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    const BLOCK: usize = 4096;
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    let is_zero = |block: &[u8]| *block == ZEROS[..block.len()];
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..)?;
        let start = at + BLOCK * rest.chunks(BLOCK).position(|block| !is_zero(block))?;
        let run = bytes[start..].chunks(BLOCK).take_while(|block| !is_zero(block));
        at = start + run.map(<[u8]>::len).sum::<usize>();
        Some(start..at)
    })
}

/// Reads the first bytes of a file, as many as it has.
pub(super) fn head(file: &File, bytes: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    file.take(bytes as u64).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    const MOST: u64 = 1 << 30;

    /// Does all that a run does with a disk before it starts.
    fn open(path: &Path, mode: Mode, block: u64, most: u64) -> anyhow::Result<Image> {
        let mut opened = super::open(path, mode, block, most)?;
        opened.measure(most)?;
        let mut needs = Needs::default();
        opened.count(&mut needs)?;
        needs.judge()?;
        opened.prepare(0)
    }

    fn file_of(size: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        file
    }

    fn refused(path: &Path, mode: Mode, text: &str) {
        let error = format!("{:#}", open(path, mode, 512, MOST).unwrap_err());
        assert!(error.contains(text), "{error}");
        assert!(error.contains(&*path.to_string_lossy()), "{error}");
    }

    #[test]
    fn each_file_that_does_not_do_has_its_reason() {
        for mode in [Mode::ReadOnly, Mode::ReadWrite, Mode::Snapshot] {
            refused(Path::new("/no/such/file"), mode, "does not exist");
            refused(Path::new("/no/such/file,rx"), mode, "unknown option rx");
            refused(Path::new("/tmp"), mode, "is a folder");
            refused(Path::new("/dev/null"), mode, "neither a file nor a block device");
            refused(file_of(0).path(), mode, "is empty");
            refused(file_of(511).path(), mode, "less than a block");
            refused(file_of(MOST + 4096).path(), mode, "39 bits");
        }
        refused(file_of(4096 + 512).path(), Mode::ReadWrite, "truncate -s %4096");
    }

    #[test]
    fn what_is_reserved_or_was_zeroed_stays_a_hole_in_a_copy() {
        let bytes = [vec![0; 5000], vec![7], vec![0; 2 * 4096], vec![8; 4096], vec![0; 10]].concat();
        let runs: Vec<_> = written(&bytes).collect();
        assert_eq!(runs, [4096..8192, 12288..bytes.len()]);
        assert_eq!(written(&[0; 9000]).count(), 0);
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.write_all_at(&vec![0; 4 << 20], 0).unwrap();
        from.write_all_at(&bytes, 1 << 20).unwrap();
        to.set_len(4 << 20).unwrap();
        copy_data(&from, (&to, 0), 4 << 20, |_| Ok(())).unwrap();
        let mut all = [vec![1; 4 << 20], vec![2; 4 << 20]];
        from.read_exact_at(&mut all[0], 0).unwrap();
        to.read_exact_at(&mut all[1], 0).unwrap();
        assert!(all[0] == all[1]);
        assert!(to.metadata().unwrap().blocks() * 512 <= 64 << 10, "{:?}", to.metadata());
    }

    #[test]
    fn the_rest_behind_the_last_block_is_not_seen() {
        let file = file_of(4096 + 700);
        for mode in [Mode::ReadOnly, Mode::Snapshot] {
            let image = open(file.path(), mode, 512, MOST).unwrap();
            assert_eq!((image.size, image.region), (4096 + 512, ALIGN));
        }
        let dvd = open(file_of(8192).path(), Mode::ReadOnly, 2048, MOST).unwrap();
        assert_eq!((dvd.size, dvd.region), (8192, 8192));
    }

    #[test]
    fn a_snapshot_has_the_data_and_the_holes_and_leaves_the_file_alone() {
        let file = file_of(64 << 20);
        file.as_file().write_all_at(b"data", 32 << 20).unwrap();
        let image = open(file.path(), Mode::Snapshot, 512, MOST).unwrap();
        let mut bytes = [0; 4];
        image.file.read_exact_at(&mut bytes, 32 << 20).unwrap();
        assert_eq!(&bytes, b"data");
        assert!(
            image.file.metadata().unwrap().blocks() * 512 >= 64 << 20,
            "there is room for what a guest writes"
        );
        let locked = file_of((64 << 20) + 512);
        let copy = open(locked.path(), Mode::ReadOnly, 512, MOST).unwrap().file;
        assert!(
            copy.metadata().unwrap().blocks() * 512 < 4 << 20,
            "blocks that are not written stay unallocated"
        );
        image.file.write_all_at(b"other", 32 << 20).unwrap();
        file.as_file().read_exact_at(&mut bytes, 32 << 20).unwrap();
        assert_eq!(&bytes, b"data");
        assert_eq!(image.file.metadata().unwrap().nlink(), 0, "it has no name");
    }

    #[test]
    fn what_does_not_fit_on_the_host_is_refused_before_a_byte_is_allocated() {
        let file = file_of(4096);
        let free = room::free(file.as_file()).unwrap();
        let most = 1 << 60;
        // The longest file that ext4 has with blocks of 4096 bytes ends below 16 TiB.
        let size = (free + (8 << 30)).next_multiple_of(ALIGN);
        if file.as_file().set_len(size).is_err() {
            return;
        }
        for (mode, text) in [(Mode::Snapshot, "its snapshot needs room"), (Mode::ReadWrite, "has no room")] {
            let error = format!("{:#}", open(file.path(), mode, 512, most).unwrap_err());
            assert!(error.contains(text) && error.contains(&exact(size)), "{error}");
        }
        assert_eq!(file.as_file().metadata().unwrap().blocks(), 0);
        let locked = open(file.path(), Mode::ReadOnly, 512, most).unwrap();
        assert_eq!(locked.size, size);
    }

    #[test]
    fn a_pipe_is_no_disk_and_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let mode = Permissions::RUSR | Permissions::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for mode in [Mode::ReadOnly, Mode::ReadWrite, Mode::Snapshot] {
            refused(&pipe, mode, "neither a file nor a block device");
        }
    }

    #[test]
    fn a_file_that_is_written_is_allocated_and_nobody_elses() {
        let file = file_of(1 << 20);
        let image = open(file.path(), Mode::ReadWrite, 512, MOST).unwrap();
        assert!(file.as_file().metadata().unwrap().blocks() * 512 >= 1 << 20);
        for mode in [Mode::ReadOnly, Mode::ReadWrite, Mode::Snapshot] {
            refused(file.path(), mode, "in use by another run");
        }
        drop(image);
        let reader = open(file.path(), Mode::ReadOnly, 512, MOST).unwrap();
        open(file.path(), Mode::Snapshot, 512, MOST).unwrap();
        refused(file.path(), Mode::ReadWrite, "in use by another run");
        drop(reader);
        open(file.path(), Mode::ReadWrite, 512, MOST).unwrap();
    }
}
