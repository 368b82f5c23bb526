//! Entries of the cache in use: a process locks those that it uses, until it ends, and only what no other process has
//! locked is removed.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, Mode, OFlags};

use super::{Cache, LOCK, Lock, MACHINES};

/// The folders that this process has locked. Descriptors, and with them locks, end with the process.
static HELD: Mutex<BTreeMap<PathBuf, OwnedFd>> = Mutex::new(BTreeMap::new());

/// Outcome of an entry that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Done,
    /// Another process uses it, so it stays.
    InUse,
}

impl Cache {
    /// Keeps the folder called `name` from being removed while this process runs. Without such a folder, does nothing.
    pub fn hold(&self, name: &str) {
        let path = self.entry(name);
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(&path).is_some_and(|folder| is_at(folder, &path)) {
            return;
        }
        // One that another process is removing is as good as gone.
        if let Some(folder) = lock(&path, FlockOperation::NonBlockingLockShared) {
            held.insert(path, folder);
        }
    }

    /// Reverts [`hold`](Self::hold).
    pub fn release(&self, name: &str) {
        HELD.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.entry(name));
    }

    /// Removes the entries whose names begin with `prefix`, except the `most` whose folders have changed last, and
    /// those that a process uses.
    ///
    /// # Errors
    /// The cache cannot be read or written.
    pub fn keep_newest(&self, guard: &Lock, prefix: &str, most: usize) -> anyhow::Result<()> {
        let changed = |name: &String| fs::symlink_metadata(self.entry(name)).and_then(|meta| meta.modified());
        let mut names: Vec<String> =
            self.names()?.into_iter().filter(|name| name.starts_with(prefix)).collect();
        names.sort_by_cached_key(|name| std::cmp::Reverse(changed(name).ok()));
        for name in names.iter().skip(most) {
            self.remove(guard, name)?;
        }
        Ok(())
    }

    /// Returns true if a process uses the entry called `name`.
    #[must_use]
    pub fn is_in_use(&self, name: &str) -> bool {
        let path = self.entry(name);
        path.is_dir() && lock(&path, FlockOperation::NonBlockingLockExclusive).is_none()
    }

    /// Removes the entry called `name`, unless a process uses it.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, guard: &Lock, name: &str) -> anyhow::Result<Removal> {
        let path = self.entry(name);
        let explain = || format!("cannot remove {}", path.display());
        // The type is that of the entry itself: a link is removed, not its target.
        if !fs::symlink_metadata(&path).with_context(explain)?.is_dir() {
            fs::remove_file(&path).with_context(explain)?;
            return Ok(Removal::Done);
        }
        let Some(_alone) = lock(&path, FlockOperation::NonBlockingLockExclusive) else {
            return Ok(Removal::InUse);
        };
        // By its new name, so that one that is half removed is never found.
        let scratch = self.scratch(guard)?;
        fs::rename(&path, scratch.path().join("old")).with_context(explain)?;
        scratch.close().with_context(explain)?;
        Ok(Removal::Done)
    }

    /// Returns the names of the entries, sorted. Running machines are none of them.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn names(&self) -> anyhow::Result<Vec<String>> {
        let listed = match fs::read_dir(self.dir()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.with_context(|| format!("cannot read the cache {}", self.dir().display()))?,
        };
        let names = listed.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name != LOCK && name != MACHINES).collect();
        names.sort();
        Ok(names)
    }
}

/// Locks a folder, and returns it; `None` if it is not there, or another process has locked it.
fn lock(path: &Path, how: FlockOperation) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    rustix::fs::flock(&folder, how).ok()?;
    // It may have been replaced before it was locked.
    is_at(&folder, path).then_some(folder)
}

/// Returns true if this folder still has this path.
fn is_at(folder: &OwnedFd, path: &Path) -> bool {
    let (here, there) = (rustix::fs::fstat(folder), rustix::fs::lstat(path));
    matches!((here, there), (Ok(here), Ok(there)) if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("cache"));
        (dir, cache)
    }

    #[test]
    fn what_a_process_uses_stays_and_all_else_goes() {
        let (dir, cache) = cache();
        let guard = cache.lock().unwrap();
        for name in ["used", "free"] {
            fs::create_dir_all(cache.entry(name)).unwrap();
            fs::write(cache.entry(name).join("file"), name).unwrap();
        }
        fs::create_dir(dir.path().join("outside")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), cache.entry("planted")).unwrap();
        cache.hold("used");
        cache.hold("absent");
        assert!(cache.is_in_use("used") && !cache.is_in_use("free") && !cache.is_in_use("absent"));
        let removed = cache
            .names()
            .unwrap()
            .iter()
            .map(|name| (name.clone(), cache.remove(&guard, name).unwrap()))
            .collect::<Vec<_>>();
        let expected = [
            ("free", Removal::Done),
            ("planted", Removal::Done),
            ("tmp", Removal::Done),
            ("used", Removal::InUse),
        ];
        let expected = expected.map(|(name, what)| (name.to_owned(), what));
        assert!(removed.iter().all(|one| expected.contains(one)), "{removed:?}");
        assert_eq!(cache.names().unwrap().iter().filter(|name| *name != "tmp").collect::<Vec<_>>(), ["used"]);
        assert!(cache.entry("used/file").exists() && dir.path().join("outside").exists());
    }

    #[test]
    fn what_was_used_last_is_kept() {
        let (_dir, cache) = cache();
        let guard = cache.lock().unwrap();
        assert!(cache.try_lock().is_none());
        let old = std::time::SystemTime::UNIX_EPOCH;
        for (name, age) in [("a-1", 9), ("a-2", 7), ("a-3", 8), ("a-4", 1), ("b-1", 1)] {
            fs::create_dir_all(cache.entry(name)).unwrap();
            let changed = old + std::time::Duration::from_secs(age);
            fs::File::open(cache.entry(name)).unwrap().set_modified(changed).unwrap();
        }
        cache.hold("a-4");
        cache.keep_newest(&guard, "a-", 2).unwrap();
        let left = || cache.names().unwrap().into_iter().filter(|name| name != "tmp").collect::<Vec<_>>();
        assert_eq!(left(), ["a-1", "a-3", "a-4", "b-1"]);
        cache.release("a-4");
        cache.keep_newest(&guard, "a-", 2).unwrap();
        assert_eq!(left(), ["a-1", "a-3", "b-1"]);
        drop(guard);
        assert!(cache.try_lock().is_some());
    }

    #[test]
    fn a_folder_that_was_replaced_is_held_anew() {
        let (_dir, cache) = cache();
        let guard = cache.lock().unwrap();
        fs::create_dir_all(cache.entry("replaced")).unwrap();
        cache.hold("replaced");
        fs::rename(cache.entry("replaced"), cache.entry("away")).unwrap();
        fs::create_dir_all(cache.entry("replaced")).unwrap();
        assert!(!cache.is_in_use("replaced"));
        cache.hold("replaced");
        assert_eq!(cache.remove(&guard, "replaced").unwrap(), Removal::InUse);
        assert_eq!(cache.remove(&guard, "away").unwrap(), Removal::Done);
    }
}
