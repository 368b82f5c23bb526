//! Unix sockets that only their owner can connect to.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::Mode;

use super::folder::{self, SocketFolder};
use crate::interrupt::{self, Undo};

/// Maximum length of a Unix socket's path: `sun_path` of `struct sockaddr_un` in Linux, less the NUL.
pub(super) const LONGEST: usize = 107;

/// The name of a socket in the file system, removed on drop.
#[derive(Debug)]
pub(crate) struct SocketFile {
    pub(crate) path: PathBuf,
    /// Its folder, if it is ours.
    _folder: Option<SocketFolder>,
    _undo: Undo,
}

impl SocketFile {
    pub(crate) fn new(path: PathBuf, folder: Option<SocketFolder>) -> Self {
        let (file, in_folder) = (path.clone(), folder.is_some());
        let undo = move || {
            if in_folder {
                folder::remove(&file);
            } else {
                let _ = std::fs::remove_file(&file);
            }
        };
        Self { path, _folder: folder, _undo: interrupt::on_second_signal(undo) }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Checks early that a socket can be made: what listens on it starts late.
pub(super) fn check(path: &Path, option: &str) -> anyhow::Result<()> {
    let length = path.as_os_str().len();
    anyhow::ensure!(
        length <= LONGEST,
        "the path {} of {option} has {length} bytes, expected at most {LONGEST} for a socket",
        path.display()
    );
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    anyhow::ensure!(
        parent.is_dir() && path.symlink_metadata().is_err(),
        "cannot listen on {}; give {option} an unused path in an existing folder",
        path.display()
    );
    Ok(())
}

/// Listens on a new socket that only its owner can connect to.
pub(crate) fn listen(path: &Path, option: &str) -> anyhow::Result<UnixListener> {
    check(path, option)?;
    // The socket has its final mode from the start.
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    listener.with_context(|| {
        format!("cannot listen on {}; give {option} an unused path in an existing folder", path.display())
    })
}
