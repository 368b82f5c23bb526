//! The folder of a debugger's socket: the user's alone, and gone with the process that made it.
//!
//! It is locked while that process lives. So one that a killed process has left is known for what it is, and `hv clean`
//! removes it. The same goes for the folder that `hv exec` has for its agent's sockets.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};

/// What the names of all begin with.
const PREFIX: &str = "hv-gdb-";
/// The same for those of `hv exec`.
pub(crate) const EXEC_PREFIX: &str = "hv-exec-";
/// Name of the socket in it.
const SOCKET: &str = "gdb.sock";
/// What the names of the sockets begin with that `hv exec` has: those of `--vsock`.
const AGENT_SOCKETS: &[u8] = b"vsock";

/// A folder that no other user can enter, with a place for a socket.
#[derive(Debug)]
pub(crate) struct SocketFolder {
    folder: tempfile::TempDir,
    _lock: OwnedFd,
}

impl SocketFolder {
    /// Makes one in this folder.
    pub(super) fn new(parent: &Path) -> anyhow::Result<Self> {
        loop {
            let folder = tempfile::Builder::new()
                .prefix(PREFIX)
                .permissions(std::fs::Permissions::from_mode(0o700))
                .tempdir_in(parent)
                .with_context(|| {
                    format!("cannot make a folder for the debugger's socket in {}", parent.display())
                })?;
            // Another process may take it for one that was left, until it is locked.
            if let Some(lock) = lock(folder.path()) {
                return Ok(Self { folder, _lock: lock });
            }
        }
    }

    /// Returns the path for the socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }
}

/// Locks a folder that is there, is this user's alone, and that no process has locked.
fn lock(folder: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty()).ok()?;
    rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).ok()?;
    let stat = rustix::fs::fstat(&folder).ok()?;
    let own = stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o077 == 0;
    // A removed folder has no link.
    (own && stat.st_nlink != 0).then_some(folder)
}

/// Removes a socket and its folder.
pub(super) fn remove(socket: &Path) {
    let _ = std::fs::remove_file(socket);
    if let Some(folder) = socket.parent() {
        let _ = std::fs::remove_dir(folder);
    }
}

/// Returns the folders left by processes that were killed; `remove` removes them.
pub(crate) fn left(remove: bool) -> Vec<PathBuf> {
    let mut parents = vec![std::env::temp_dir(), PathBuf::from("/tmp")];
    parents.dedup();
    parents.iter().flat_map(|parent| left_in(parent, remove)).collect()
}

fn left_in(parent: &Path, remove: bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| {
        let name = entry.file_name();
        [PREFIX, EXEC_PREFIX].iter().any(|prefix| name.to_string_lossy().starts_with(prefix))
    });
    let mut found = Vec::new();
    for path in ours.map(|entry| entry.path()) {
        let Some(folder) = lock(&path) else { continue };
        if remove {
            // What else may be in it is not ours.
            for name in
                std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.file_name())
            {
                if name == SOCKET || name.as_bytes().starts_with(AGENT_SOCKETS) {
                    let _ = rustix::fs::unlinkat(&folder, &name, AtFlags::empty());
                }
            }
            if std::fs::remove_dir(&path).is_err() {
                continue;
            }
        }
        found.push(path);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_that_were_left_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let held = SocketFolder::new(parent.path()).unwrap();
        let left = |name: &str, mode| {
            let path = parent.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            std::fs::write(path.join(SOCKET), "").unwrap();
            path
        };
        let [killed, open, other] =
            [("hv-gdb-1", 0o700), ("hv-gdb-2", 0o755), ("other", 0o700)].map(|(name, mode)| left(name, mode));
        let exec = left("hv-exec-1", 0o700);
        for name in ["vsock", "vsock_4294967200"] {
            std::fs::write(exec.join(name), "").unwrap();
        }
        let full = left("hv-gdb-3", 0o700);
        std::fs::write(full.join("mine"), "mine").unwrap();
        std::os::unix::fs::symlink(&other, parent.path().join("hv-gdb-4")).unwrap();
        let mut found = left_in(parent.path(), false);
        found.sort();
        assert_eq!(found, [exec.clone(), killed.clone(), full.clone()]);
        let mut removed = left_in(parent.path(), true);
        removed.sort();
        assert_eq!(removed, [exec.clone(), killed.clone()]);
        assert!(!killed.exists() && !exec.exists() && held.socket().parent().unwrap().exists());
        assert!(open.join(SOCKET).exists() && other.join(SOCKET).exists() && full.join("mine").exists());
    }
}
