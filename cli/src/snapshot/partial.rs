//! Folders that are being written. Each is locked by its process, so what a killed one has left is known by its lack of
//! a lock, and removed by the next that saves a machine beside it.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::folder::is_file;
use crate::interrupt;

/// What the names of such folders end with.
const SUFFIX: &str = ".partial";
/// Random characters before that.
const RANDOM: usize = 6;

/// Makes a folder in `parent` for the snapshot of this name. The lock lasts as long as the descriptor.
///
/// # Errors
/// It cannot be made; or a signal came.
pub(super) fn make(parent: &Path, name: &OsStr) -> anyhow::Result<(tempfile::TempDir, OwnedFd)> {
    loop {
        interrupt::check()?;
        let folder = tempfile::Builder::new()
            .prefix(&format!(".{}.", name.to_string_lossy()))
            .suffix(SUFFIX)
            .rand_bytes(RANDOM)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .with_context(|| format!("cannot write to {}", parent.display()))?;
        // Before it has its lock, another process may take it for a dead one's.
        match lock(folder.path()) {
            Ok(lock) if is_at(&lock, folder.path()) => return Ok((folder, lock)),
            Ok(_) | Err(Errno::WOULDBLOCK | Errno::NOENT) => {}
            // A file system without locks: nothing there is taken for a dead one's.
            Err(Errno::NOLCK | Errno::NOTSUP | Errno::NOSYS) => {
                let open = open(folder.path()).context("cannot open a folder that was just made")?;
                return Ok((folder, open));
            }
            Err(error) => return Err(error).context("cannot lock a folder that was just made"),
        }
    }
}

/// Removes what killed processes have left in a folder. What cannot be removed stays.
pub(super) fn remove_dead(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if is_partial(&entry.file_name()) {
            let _ = remove(&entry.path());
        }
    }
}

/// Removes one, if no process has it locked, and nothing else is in it than what a snapshot has.
fn remove(path: &Path) -> anyhow::Result<()> {
    let lock = lock(path)?;
    let is_own = rustix::fs::fstat(&lock)?.st_uid == rustix::process::geteuid().as_raw();
    let files = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    let is_snapshot = files.iter().all(|file| file.file_name().to_str().is_some_and(is_file));
    // It may have got its name meanwhile.
    if is_own && is_snapshot && is_at(&lock, path) {
        files.iter().try_for_each(|file| fs::remove_file(file.path()))?;
        fs::remove_dir(path)?;
    }
    Ok(())
}

/// Returns true for the names that [`make`] gives.
fn is_partial(name: &OsStr) -> bool {
    let parts = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(SUFFIX)?.rsplit_once('.'));
    parts.is_some_and(|(name, random)| {
        !name.is_empty() && random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Opens a folder and locks it, unless another process has it locked.
fn lock(path: &Path) -> rustix::io::Result<OwnedFd> {
    let folder = open(path)?;
    rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
    Ok(folder)
}

/// Returns true if this folder is the one of this path.
fn is_at(folder: &OwnedFd, path: &Path) -> bool {
    let of = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    rustix::fs::fstat(folder).map(of).is_ok_and(|own| rustix::fs::lstat(path).map(of) == Ok(own))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_a_killed_process_has_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let put = |folder: &str, files: &[&str]| {
            let path = parent.path().join(folder);
            fs::create_dir(&path).unwrap();
            files.iter().for_each(|file| fs::write(path.join(file), "contents").unwrap());
            path
        };
        let dead = [
            put(".booted.a1B2c3.partial", &["about.json", "machine", "ram", "disk0", "disk17"]),
            put(".my.other one.zzzzzz.partial", &[]),
        ];
        let other = [
            put("booted", &["about.json", "ram"]),
            put("booted.a1B2c3.partial", &["ram"]),
            put(".booted.a1B2c.partial", &["ram"]),
            put(".booted.a1B2c3", &["ram"]),
            put(".booted.a-B2c3.partial", &["ram"]),
            put(".theirs.a1B2c3.partial", &["ram", "mine"]),
        ];
        symlink("booted", parent.path().join(".link.a1B2c3.partial")).unwrap();
        fs::write(parent.path().join(".file.a1B2c3.partial"), "").unwrap();
        let (alive, lock) = make(parent.path(), OsStr::new("booted")).unwrap();
        fs::write(alive.path().join("ram"), "contents").unwrap();
        remove_dead(parent.path());
        assert!(dead.iter().all(|path| !path.exists()));
        assert!(other.iter().all(|path| path.join("ram").exists()));
        for name in [".link.a1B2c3.partial", ".file.a1B2c3.partial"] {
            assert!(parent.path().join(name).symlink_metadata().is_ok(), "{name}");
        }
        assert!(alive.path().join("ram").exists());
        // As if its process had been killed.
        drop(lock);
        remove_dead(parent.path());
        assert!(!alive.path().exists());
    }

    #[test]
    fn a_folder_is_never_taken_away_from_the_process_that_makes_it() {
        let parent = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let making = scope.spawn(|| {
                for _ in 0..500 {
                    let (folder, lock) = make(parent.path(), OsStr::new("booted")).unwrap();
                    std::thread::yield_now();
                    assert!(is_at(&lock, folder.path()));
                }
            });
            while !making.is_finished() {
                remove_dead(parent.path());
            }
        });
    }
}
