//! The folder of a snapshot: written under another name, and renamed once it is whole.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::file::{self, MACHINE, MEMORY};
use super::{About, Key, partial};
use crate::disks::copy_whole;
use crate::interrupt;
use crate::machine::{Backing, Saved};

/// Name of the file that says what the machine is.
const ABOUT: &str = "about.json";
/// What the names of the files with the contents of backings begin with.
const DISK: &str = "disk";
/// Bytes of [`ABOUT`] at most.
const LONGEST: u64 = 4 << 20;

/// Returns the name of the file with the contents of a backing.
fn disk(number: usize) -> String {
    format!("{DISK}{number}")
}

/// Returns true for the names of a snapshot's files.
pub(super) fn is_file(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    [ABOUT, MACHINE, MEMORY].contains(&name) || name.strip_prefix(DISK).is_some_and(is_number)
}

/// A folder that is being written. Dropping it removes what there is, unless it was published.
#[derive(Debug)]
pub(super) struct Unfinished {
    // Dropped in this order: a second signal may remove the folder too.
    scratch: tempfile::TempDir,
    _undo: interrupt::Undo,
    _lock: OwnedFd,
    target: PathBuf,
}

/// A snapshot that was opened, and whose description was read.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    pub(crate) about: About,
    key: Key,
    machine: File,
    memory: File,
    /// Its disks, as long as they were.
    pub(crate) disks: Vec<File>,
}

impl Unfinished {
    /// Begins with a folder, which must not be there.
    pub(super) fn begin(target: &Path) -> anyhow::Result<Self> {
        let name = target.display();
        ensure!(target.symlink_metadata().is_err(), "{name} already exists; give another name, or remove it");
        let parent = target.parent().filter(|parent| parent.is_dir());
        let (parent, last) = parent.zip(target.file_name()).with_context(|| {
            format!("cannot make {name}: give the path of a new folder in one that exists")
        })?;
        let _orderly = interrupt::orderly();
        partial::remove_dead(parent);
        let (scratch, lock) = partial::make(parent, last)?;
        let path = scratch.path().to_owned();
        let undo = interrupt::on_second_signal(move || drop(fs::remove_dir_all(&path)));
        Ok(Self { scratch, _undo: undo, _lock: lock, target: target.to_owned() })
    }

    fn create(&self, name: &str) -> io::Result<File> {
        let path = self.scratch.path().join(name);
        File::options().read(true).write(true).create_new(true).mode(0o600).open(path)
    }

    /// Writes a stopped machine with its disks. `check` fails once the result is no longer awaited: the machine stands
    /// still meanwhile, and it is asked for every few bytes.
    pub(super) fn fill(
        &self,
        about: &About,
        machine: &Saved,
        backings: &[Backing],
        check: &dyn Fn() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (bytes, key) = about.write()?;
        self.create(ABOUT)?.write_all(&bytes)?;
        let mut to = BufWriter::with_capacity(1 << 20, self.create(MACHINE)?);
        let written = file::write(&mut to, &self.create(MEMORY)?, &key, machine, (u64::MAX, check));
        written
            .and_then(|()| Ok(to.flush()?))
            .with_context(|| format!("cannot write {}", self.target.display()))?;
        for (number, backing) in backings.iter().enumerate() {
            let to = self.create(&disk(number))?;
            copy_whole(&backing.file, &to, backing.size, check)?;
            backing.copy_own(&to, check)?;
        }
        check()
    }

    /// Gives the folder its name, and returns the bytes that it occupies.
    pub(super) fn publish(self) -> anyhow::Result<u64> {
        let (from, to) = (self.scratch.path(), &*self.target);
        let renamed = match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // A file system that cannot tell: at most an empty folder is replaced.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rustix::fs::rename(from, to),
            renamed => renamed,
        };
        renamed.with_context(|| format!("cannot give the snapshot the name {}", to.display()))?;
        let files = fs::read_dir(to)?.flatten().filter_map(|entry| entry.metadata().ok());
        Ok(files.map(|meta| std::os::unix::fs::MetadataExt::blocks(&meta).saturating_mul(512)).sum())
    }
}

impl Folder {
    /// Opens a snapshot.
    ///
    /// # Errors
    /// It is not a snapshot, is incomplete, or others can write to it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        Self::read(path).with_context(|| format!("cannot resume from the snapshot {}", path.display()))
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = match rustix::fs::open(path, flags | OFlags::DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => anyhow::bail!("there is no such folder"),
            Err(Errno::NOTDIR) => anyhow::bail!("it is not a folder; hv snapshot makes one"),
            opened => opened?,
        };
        judge(&folder, FileType::Directory, "the folder")?;
        let open = |name: &str, mode: OFlags| {
            let flags = mode | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let opened = match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
                Err(Errno::NOENT) => anyhow::bail!("it has no file {name}; hv snapshot writes one"),
                Err(Errno::ROFS) => anyhow::bail!(
                    "its file {name} is on a file system that cannot be written to, and QEMU opens it for writing, though it \
                     never writes to it: copy the folder elsewhere"
                ),
                Err(Errno::ACCESS) => anyhow::bail!(
                    "you may not open its file {name} for reading and writing, as QEMU does, though it never writes to \
                     it: give yourself the right (chmod u+rw), or copy the folder"
                ),
                opened => opened.with_context(|| format!("cannot open its file {name}"))?,
            };
            judge(&opened, FileType::RegularFile, name)?;
            Ok(File::from(opened))
        };
        let mut bytes = Vec::new();
        open(ABOUT, OFlags::RDONLY)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 <= LONGEST, "its file {ABOUT} has more than {LONGEST} bytes");
        let (about, key) = About::read(&bytes).with_context(|| format!("its file {ABOUT} is not usable"))?;
        let mut disks = Vec::new();
        for (number, backing) in about.disks.backings.iter().enumerate() {
            let (name, size) = (disk(number), backing.size);
            let file = open(&name, if backing.is_read_only() { OFlags::RDONLY } else { OFlags::RDWR })?;
            let length = file.metadata()?.len();
            ensure!(length == size, "its file {name} has {length} bytes, expected {size}");
            disks.push(file);
        }
        let (machine, memory) = (open(MACHINE, OFlags::RDONLY)?, open(MEMORY, OFlags::RDWR)?);
        Ok(Self { path: path.to_owned(), about, key, machine, memory, disks })
    }

    /// Says which snapshot an error is about.
    pub(crate) fn explain(&self) -> String {
        format!("cannot resume from the snapshot {}", self.path.display())
    }

    /// Reads the machine. Its guest's RAM stays where it is.
    ///
    /// # Errors
    /// It is truncated, or another one's.
    pub(crate) fn machine(&self) -> anyhow::Result<Saved> {
        let mut from = BufReader::with_capacity(1 << 20, &self.machine);
        let saved = file::read(&mut from, self.memory.try_clone()?, &self.key, self.about.ram_size);
        saved.with_context(|| format!("its file {MACHINE} is not usable")).with_context(|| self.explain())
    }
}

/// Judges that a file is of this type, and that no other user can write to it: its contents are run by QEMU and by the
/// hypervisor.
fn judge(file: &OwnedFd, kind: FileType, name: &str) -> anyhow::Result<()> {
    let stat = rustix::fs::fstat(file)?;
    ensure!(FileType::from_raw_mode(stat.st_mode) == kind, "{name} is not a {kind:?}");
    let is_own = stat.st_uid == rustix::process::geteuid().as_raw() || stat.st_uid == 0;
    ensure!(
        is_own && stat.st_mode & 0o022 == 0,
        "{name} has mode {:o} and owner {}; expected one that no other user can write to, since its contents are executed: chmod go-w",
        stat.st_mode & 0o7777,
        stat.st_uid
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
    use std::sync::Arc;

    use hv_wire::platform::{GUEST_RAM_BASE, RAM_BASE};

    use super::super::about::tests::about;
    use super::*;
    use crate::machine::{Layout, Ram};

    const SIZE: u64 = GUEST_RAM_BASE - RAM_BASE + (3 << 20);

    fn machine() -> Saved {
        let ram = Ram::of(Layout::apart(SIZE, 2 << 20)).unwrap();
        ram.write(GUEST_RAM_BASE, b"contents").unwrap();
        Saved { ram, state: vec![1], console: vec![2], sent: Vec::new() }
    }

    /// A disk of 12 KiB, with contents in the middle.
    fn backing() -> Backing {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"disk", 4096).unwrap();
        file.set_len(12288).unwrap();
        Backing { file: Arc::new(file), name: "DISK0".into(), size: 12288, read_only: false, private: None }
    }

    /// A snapshot of a machine with one disk.
    fn snapshot(parent: &Path) -> PathBuf {
        let path = parent.join("snap");
        let mut about = about(SIZE);
        about.disks.backings = vec![crate::disks::SavedBacking::of(&backing())];
        let unfinished = Unfinished::begin(&path).unwrap();
        unfinished.fill(&about, &machine(), &[backing()], &|| Ok(())).unwrap();
        unfinished.publish().unwrap();
        path
    }

    fn refused(path: &Path) -> String {
        let error = Folder::open(path).and_then(|folder| folder.machine()).unwrap_err();
        format!("{error:#}")
    }

    #[test]
    fn what_was_saved_is_there_for_each_that_opens_it() {
        let parent = tempfile::tempdir().unwrap();
        let path = snapshot(parent.path());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        for _ in 0..2 {
            let folder = Folder::open(&path).unwrap();
            let saved = folder.machine().unwrap();
            let mut bytes = [0; 8];
            saved.ram.read_into(GUEST_RAM_BASE, &mut bytes).unwrap();
            assert_eq!((&bytes, &*saved.state), (b"contents", &[1][..]));
            let mut disk = [9; 12288];
            folder.disks[0].read_exact_at(&mut disk, 0).unwrap();
            assert_eq!(&disk[4095..4101], b"\0disk\0");
        }
    }

    #[test]
    fn one_that_is_not_finished_leaves_nothing_and_one_that_is_there_is_not_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("snap");
        fs::create_dir(parent.path().join(".snap.a1B2c3.partial")).unwrap();
        let stopped = Unfinished::begin(&path).unwrap();
        let fill = stopped.fill(&about(SIZE), &machine(), &[], &|| anyhow::bail!("the client has gone"));
        assert!(
            fill.is_err() && fs::read_dir(parent.path()).unwrap().count() == 1,
            "a killed run's folder stays"
        );
        drop(stopped);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        let late = Unfinished::begin(&path).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("mine"), "mine").unwrap();
        assert!(late.publish().unwrap_err().to_string().contains("cannot give the snapshot the name"));
        let there = Unfinished::begin(&path).unwrap_err().to_string();
        assert!(there.contains("already exists"), "{there}");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        let nowhere = Unfinished::begin(&parent.path().join("no/snap")).unwrap_err().to_string();
        assert!(nowhere.contains("in one that exists"), "{nowhere}");
    }

    /// The machine stands still until then.
    #[test]
    fn a_save_that_is_no_longer_awaited_ends_at_once() {
        const BIG: u64 = 64 << 20;
        let parent = tempfile::tempdir().unwrap();
        // Of another file system than the copy, which so shares no blocks with it.
        let file = File::from(rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        file.write_all_at(&vec![7; BIG as usize], 0).unwrap();
        let disk = Backing { file: Arc::new(file), size: BIG, ..backing() };
        let (machine, used) = (machine(), RAM_BASE + SIZE - GUEST_RAM_BASE);
        machine.ram.write(GUEST_RAM_BASE, &vec![7; used as usize]).unwrap();
        for (calls, part, whole) in [(2, "ram", 2 << 20), (60, "disk0", BIG)] {
            let left = std::cell::Cell::new(calls);
            let check = || {
                left.set(left.get() - 1);
                ensure!(left.get() != 0, "the client has gone");
                Ok(())
            };
            let unfinished = Unfinished::begin(&parent.path().join("snap")).unwrap();
            let disks = std::slice::from_ref(&disk);
            let error = unfinished.fill(&about(SIZE), &machine, disks, &check).unwrap_err();
            assert!(format!("{error:#}").ends_with("the client has gone"), "{error:#}");
            let part = unfinished.scratch.path().join(part).metadata().unwrap();
            let bytes = std::os::unix::fs::MetadataExt::blocks(&part) * 512;
            assert!(bytes <= whole / 2, "{bytes} of {whole} bytes after {calls} calls");
        }
    }

    #[test]
    fn a_folder_that_is_none_or_not_whole_is_refused_with_its_reason() {
        let parent = tempfile::tempdir().unwrap();
        assert!(refused(&parent.path().join("none")).contains("no such folder"));
        assert!(refused(parent.path()).contains("no file about.json"));
        let path = snapshot(parent.path());
        let shorten = |name: &str, length: u64| {
            File::options().write(true).open(path.join(name)).unwrap().set_len(length).unwrap();
        };
        shorten("disk0", 8192);
        assert!(refused(&path).contains("disk0 has 8192 bytes, expected 12288"), "{}", refused(&path));
        shorten("disk0", 12288);
        shorten("ram", 1 << 20);
        assert!(refused(&path).contains("ram has 1048576 bytes, expected 2097152"), "{}", refused(&path));
        // The contents were there, and are zeros now.
        shorten("ram", 0);
        shorten("ram", 2 << 20);
        assert!(refused(&path).contains("the digest of its file ram is another"), "{}", refused(&path));
        let length = path.join("machine").metadata().unwrap().len();
        for length in [length - 1, 40, 0] {
            shorten("machine", length);
            assert!(refused(&path).contains("it is truncated"), "{}", refused(&path));
        }
        for (file, why) in [("ram", "no file ram"), ("machine", "no file machine")] {
            fs::remove_file(path.join(file)).unwrap();
            assert!(refused(&path).contains(why), "{}", refused(&path));
        }
        fs::write(path.join("about.json"), vec![b' '; LONGEST as usize + 1]).unwrap();
        assert!(refused(&path).contains("more than"));
    }

    #[test]
    fn what_others_can_write_to_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = snapshot(parent.path());
        for (name, mode) in [
            ("about.json", 0o622),
            ("machine", 0o606 & !4 | 2),
            ("ram", 0o602),
            ("disk0", 0o620),
            (".", 0o777),
        ] {
            let (file, right) = (path.join(name), if name == "." { 0o700 } else { 0o600 });
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            assert!(refused(&path).contains("no other user can write"), "{name}: {}", refused(&path));
            fs::set_permissions(&file, Permissions::from_mode(right)).unwrap();
        }
        fs::rename(path.join("machine"), parent.path().join("machine")).unwrap();
        std::os::unix::fs::symlink(parent.path().join("machine"), path.join("machine")).unwrap();
        assert!(refused(&path).contains("cannot open its file machine"));
    }
}
