//! Unix sockets that only their owner can connect to.

use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

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
    bind(path).with_context(|| {
        format!("cannot listen on {}; give {option} an unused path in an existing folder", path.display())
    })
}

/// Makes a socket that only its owner can connect to, and listens on it. It has its final mode from the start: Linux
/// gives it that of its descriptor (net/unix/af_unix.c, `unix_bind_bsd`). The umask would be that of the whole process.
pub(crate) fn bind(path: &Path) -> std::io::Result<UnixListener> {
    /// Connections that wait to be accepted, as for a listener of the standard library.
    const WAITING: i32 = 128;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, WAITING)?;
    Ok(UnixListener::from(socket))
}

/// Removes a socket that a killed process has left: one on which nothing listens. Anything else stays.
pub(crate) fn remove_left(path: &Path) {
    let is_socket = path.symlink_metadata().is_ok_and(|meta| meta.file_type().is_socket());
    let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).is_err_and(refused) {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_socket_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _listener = bind(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind(&path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        assert!(bind(&folder.path().join("x".repeat(200))).is_err());
    }
}
