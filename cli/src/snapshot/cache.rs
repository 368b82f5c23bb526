//! Snapshots of machines that have booted, and whose agent waits for a command: a run of `hv exec` with the same inputs
//! resumes one.
//!
//! They are in the cache, one folder each, whose name is a digest of all inputs. The machine is saved at the moment
//! when the guest asks for a connection to the agent's port. Until then the tool has sent it nothing, and that request
//! is all that it has sent to the tool. So nothing else is in flight, and the request is kept with the snapshot.

use std::fs::{DirBuilder, File};
use std::io::{BufReader, BufWriter, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, ensure};
use rustix::fs::{FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};

use super::Key;
use super::file::{self, MACHINE, MEMORY};
use crate::machine::{Qmp, Ram, Saved};
use crate::setup::cache::{Cache, Lock};

/// What the names of their folders in the cache begin with.
pub(crate) const SNAPSHOT: &str = "snapshot-";
/// Snapshots that are kept: those that were used last.
const KEPT: usize = 4;
/// Bytes of the files of a snapshot at most: a machine that uses more is not kept.
const LARGEST: u64 = 1 << 30;

/// The snapshot of a run's machine, whether it is there or not.
#[derive(Debug)]
pub(crate) struct Cached {
    cache: Cache,
    key: Key,
    /// Bytes of the machine's RAM.
    ram_size: u64,
}

impl Cached {
    pub(crate) fn new(cache: Cache, key: Key, ram_size: u64) -> Self {
        Self { cache, key, ram_size }
    }

    /// Returns the name of its folder.
    pub(crate) fn name(&self) -> String {
        format!("{SNAPSHOT}{}", self.key.name())
    }

    /// Reads it; `None` if it is not there.
    ///
    /// # Errors
    /// It cannot be used; or a signal came.
    pub(crate) fn find(&self) -> Option<anyhow::Result<Saved>> {
        // No other process removes it meanwhile. Later one may: what is open stays.
        self.cache.hold(&self.name());
        let path = self.cache.entry(&self.name());
        let found = path.symlink_metadata().is_ok().then(|| read(&path, &self.key, self.ram_size));
        self.cache.release(&self.name());
        found
    }

    /// Removes it, since no machine can be resumed from it, unless another process uses it.
    pub(crate) fn discard(&self) {
        if let Some(guard) = self.cache.try_lock() {
            // One that stays is met again.
            let _ = self.cache.remove(&guard, &self.name());
        }
    }

    /// Saves the machine, which has sent `sent` over the sockets' port and nothing else, and lets it continue. Does
    /// nothing if another process is just doing it or has done it.
    ///
    /// # Errors
    /// QEMU cannot save the machine, or the cache has no room for it. The machine continues even so, unless QEMU has
    /// ended.
    pub(crate) fn save(
        &self,
        mut monitor: Qmp,
        ram: Ram,
        console: impl FnOnce() -> Vec<u8>,
        (sent, port): (&[u8], &UnixStream),
    ) -> anyhow::Result<()> {
        let target = self.cache.entry(&self.name());
        let Some(guard) = self.cache.try_lock().filter(|_| target.symlink_metadata().is_err()) else {
            return Ok(());
        };
        let scratch = self.cache.scratch(&guard)?;
        let folder = scratch.path().join(MACHINE);
        monitor.pause(|monitor| {
            ensure!(rustix::io::ioctl_fionread(port)? == 0, "the guest has sent more than its request");
            let machine = Saved { ram, state: monitor.state()?, console: console(), sent: sent.to_vec() };
            self.write(&folder, &machine)
        })?;
        self.publish(&guard, &folder)
    }

    /// Writes the file of a machine into a new folder.
    fn write(&self, folder: &Path, machine: &Saved) -> anyhow::Result<()> {
        DirBuilder::new().mode(0o700).create(folder)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create =
            |name| rustix::fs::open(folder.join(name), flags, Mode::RUSR | Mode::WUSR).map(File::from);
        let mut made = BufWriter::with_capacity(1 << 20, create(MACHINE)?);
        file::write(&mut made, &create(MEMORY)?, &self.key, machine, (LARGEST, &|| Ok(())))?;
        Ok(made.flush()?)
    }

    /// Gives the folder its name, and removes the snapshots that were used longest ago.
    fn publish(&self, guard: &Lock, folder: &Path) -> anyhow::Result<()> {
        std::fs::rename(folder, self.cache.entry(&self.name())).context("cannot fill the cache")?;
        // What cannot be removed now is met again by the next run that saves a machine.
        let _ = self.cache.keep_newest(guard, SNAPSHOT, KEPT);
        Ok(())
    }
}

/// Reads the file of a snapshot, through descriptors that were judged, and notes that it was used.
fn read(path: &Path, key: &Key, ram_size: u64) -> anyhow::Result<Saved> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags | OFlags::DIRECTORY, Mode::empty())?;
    judge(&folder, FileType::Directory)?;
    // Opening something else than a file would wait.
    let open = |name| {
        let file = rustix::fs::openat(&folder, name, flags | OFlags::NONBLOCK, Mode::empty())?;
        judge(&file, FileType::RegularFile).map(|()| File::from(file))
    };
    let mut machine = BufReader::with_capacity(1 << 20, open(MACHINE)?);
    let saved = file::read(&mut machine, open(MEMORY)?, key, ram_size)?;
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let _ = rustix::fs::futimens(&folder, &Timestamps { last_access: now, last_modification: now });
    Ok(saved)
}

/// Judges that a file is of this type, and that only this user can write to it and read it.
fn judge(file: &OwnedFd, kind: FileType) -> anyhow::Result<()> {
    let stat = rustix::fs::fstat(file)?;
    let is_own = stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o077 == 0;
    ensure!(
        is_own && FileType::from_raw_mode(stat.st_mode) == kind,
        "mode {:o}, owner {}; expected a {kind:?} that is this user's alone",
        stat.st_mode,
        stat.st_uid
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use hv_wire::platform::GUEST_RAM_BASE;

    use super::*;
    use crate::machine::Layout;

    const SIZE: u64 = GUEST_RAM_BASE - hv_wire::platform::RAM_BASE + (3 << 20);
    const GUEST: u64 = 2 << 20;

    /// Snapshots of machines with these keys in one cache.
    fn snapshots<const N: usize>(keys: [u8; N]) -> (tempfile::TempDir, [Cached; N]) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("cache"));
        (dir, keys.map(|key| Cached::new(cache.clone(), Key([key; 32]), SIZE)))
    }

    fn fill(snapshot: &Cached) -> PathBuf {
        let ram = Ram::of(Layout::apart(SIZE, GUEST)).unwrap();
        ram.write(GUEST_RAM_BASE, b"contents").unwrap();
        let machine = Saved { ram, state: vec![1], console: vec![2], sent: vec![3] };
        let guard = snapshot.cache.lock().unwrap();
        let scratch = snapshot.cache.scratch(&guard).unwrap();
        let folder = scratch.path().join("made");
        snapshot.write(&folder, &machine).unwrap();
        snapshot.publish(&guard, &folder).unwrap();
        snapshot.cache.entry(&snapshot.name())
    }

    #[test]
    fn a_snapshot_is_found_by_its_key_and_is_its_users_alone() {
        let (_dir, [one, other]) = snapshots([1, 2]);
        assert!(one.find().is_none());
        let folder = fill(&one);
        let mode = |path: &Path| path.symlink_metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!([".", MACHINE, MEMORY].map(|name| mode(&folder.join(name))), [0o700, 0o600, 0o600]);
        let saved = one.find().unwrap().unwrap();
        assert_eq!((saved.state, saved.console, saved.sent), (vec![1], vec![2], vec![3]));
        assert!(other.find().is_none());
        // What is open stays.
        one.discard();
        assert!(one.find().is_none() && !folder.exists());
    }

    #[test]
    fn one_that_cannot_be_used_is_removed_and_nothing_else() {
        let (dir, [one, other]) = snapshots([1, 2]);
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join(MACHINE), "mine").unwrap();
        let elsewhere = fill(&other);
        let ways: [&dyn Fn(&Path); 8] = [
            &|folder| fs::remove_file(folder.join(MACHINE)).unwrap(),
            &|folder| fs::remove_file(folder.join(MEMORY)).unwrap(),
            &|folder| fs::set_permissions(folder.join(MEMORY), fs::Permissions::from_mode(0o644)).unwrap(),
            &|folder| {
                fs::File::options().write(true).open(folder.join(MACHINE)).unwrap().set_len(90).unwrap();
            },
            &|folder| fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap(),
            &|folder| fs::set_permissions(folder.join(MACHINE), fs::Permissions::from_mode(0o644)).unwrap(),
            &|folder| {
                fs::remove_file(folder.join(MACHINE)).unwrap();
                symlink(elsewhere.join(MACHINE), folder.join(MACHINE)).unwrap();
            },
            &|folder| {
                fs::remove_dir_all(folder).unwrap();
                symlink(&outside, folder).unwrap();
            },
        ];
        for (n, harm) in ways.iter().enumerate() {
            let folder = fill(&one);
            harm(&folder);
            assert!(one.find().is_some_and(|found| found.is_err()), "{n}");
            one.discard();
            assert!(one.find().is_none() && folder.symlink_metadata().is_err(), "{n}");
        }
        assert!(other.find().unwrap().is_ok());
        assert_eq!(fs::read_to_string(outside.join(MACHINE)).unwrap(), "mine");
    }

    #[test]
    fn there_are_no_more_than_a_few() {
        let (_dir, all) = snapshots([1, 2, 3, 4, 5, 6]);
        let mut age = 0;
        let folders = all.each_ref().map(|snapshot| {
            let folder = fill(snapshot);
            age += 1;
            let used = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age);
            File::open(&folder).unwrap().set_modified(used).unwrap();
            folder
        });
        let left = folders.iter().filter(|folder| folder.exists()).count();
        assert_eq!(left, KEPT);
        assert!(folders[2..].iter().all(|folder| folder.exists()));
    }
}
