//! The address of QEMU's debug stub.
//!
//! Anyone connected to the stub controls QEMU: its monitor is one packet away (`qRcmd`) and can read and write the
//! user's files. So the stub listens on a Unix socket that only the user can open, and on TCP only if explicitly
//! requested.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::io::FdFlags;

use super::folder::{self, SocketFolder};
use super::socket::{self, LONGEST, SocketFile, listen};
use crate::ui;

/// The address where a debugger finds the stub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A Unix socket in a new folder.
    Fresh,
    /// A Unix socket of this path.
    Socket(PathBuf),
    /// A TCP port of the local host.
    Tcp(u16),
}

impl Address {
    /// The option's value if none is given. No path is empty.
    pub(crate) const FRESH: &str = "";

    /// Checks early that a stub can listen there.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match self {
            Self::Socket(path) => socket::check(path, "--gdb"),
            Self::Fresh | Self::Tcp(_) => Ok(()),
        }
    }

    /// Formats a stub at this address in QEMU's notation; QEMU inherits its socket as `descriptor`.
    pub(super) fn words(&self, descriptor: &str) -> String {
        let place = match self {
            Self::Fresh | Self::Socket(_) => format!("fd={descriptor}"),
            Self::Tcp(port) => format!("host=127.0.0.1,port={port}"),
        };
        format!("socket,id=gdb,{place},server=on,wait=off")
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == Self::FRESH {
            return Ok(Self::Fresh);
        }
        if let Some(port) = text.strip_prefix("tcp:") {
            let digits = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
            let port = digits.and_then(|port| port.parse().ok()).filter(|&port| port != 0);
            return port.map(Self::Tcp).ok_or_else(|| "expected tcp:1 to tcp:65535".to_owned());
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!(
                "expected the path of a socket: a TCP port lets every user of this machine act as you; give tcp:{text} if \
                 you want that, no value for a socket that only you can open, or ./{text} for a socket of that name"
            ));
        }
        Ok(Self::Socket(PathBuf::from(text)))
    }
}

/// A stub's address, acquired before QEMU starts and released on drop.
#[derive(Debug)]
pub(super) struct Door {
    address: Address,
    /// Present until QEMU has inherited it.
    listener: Option<UnixListener>,
    path: Option<SocketFile>,
}

impl Door {
    /// Acquires the address, and lets children started from now on inherit the socket.
    pub(super) fn open(address: &Address) -> anyhow::Result<Self> {
        let (path, folder) = match address {
            Address::Tcp(_) => return Ok(Self { address: address.clone(), listener: None, path: None }),
            Address::Socket(path) => (path.clone(), None),
            Address::Fresh => {
                let folder = fresh_folder()?;
                (folder.socket(), Some(folder))
            }
        };
        let listener = listen(&path, "--gdb")?;
        let path = Some(SocketFile::new(path, folder));
        rustix::io::fcntl_setfd(&listener, FdFlags::empty())?;
        Ok(Self { address: address.clone(), listener: Some(listener), path })
    }

    /// Formats it in QEMU's notation.
    pub(super) fn words(&self) -> String {
        let descriptor = self.listener.as_ref().map_or(-1, |listener| listener.as_raw_fd());
        self.address.words(&descriptor.to_string())
    }

    /// Leaves the socket to QEMU, which has started, and tells the user how to connect.
    pub(super) fn started(mut self) -> Self {
        self.listener = None;
        match (&self.path, &self.address) {
            (Some(file), _) => {
                let path = std::path::absolute(&file.path).unwrap_or_else(|_| file.path.clone());
                ui::note(&format!("Waiting for a debugger: gdb -ex 'target remote {}'", path.display()));
            }
            (None, Address::Tcp(port)) => {
                ui::note(&format!(
                    "warning: every user of this machine can connect to port {port} and act as you, through QEMU's \
                     debug stub; --gdb without tcp: takes a socket that only you can open"
                ));
                ui::note(&format!("Waiting for a debugger: gdb -ex 'target remote :{port}'"));
            }
            (None, _) => {}
        }
        self
    }
}

/// Creates a folder that only the user can enter, and removes those left by killed runs.
fn fresh_folder() -> anyhow::Result<SocketFolder> {
    folder::left(true);
    let folder = SocketFolder::new(&std::env::temp_dir())?;
    // A socket's path must be short; $TMPDIR may be long.
    let short = folder.socket().as_os_str().len() <= LONGEST;
    if short { Ok(folder) } else { SocketFolder::new(Path::new("/tmp")) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

    use super::*;

    #[test]
    fn tcp_is_taken_only_when_it_is_named() {
        assert_eq!("".parse(), Ok(Address::Fresh));
        assert_eq!("tcp:1234".parse(), Ok(Address::Tcp(1234)));
        assert_eq!("run/gdb".parse(), Ok(Address::Socket("run/gdb".into())));
        assert!("1234".parse::<Address>().unwrap_err().contains("tcp:1234"));
        for bad in ["tcp:", "tcp:0", "tcp:65536", "tcp:0.0.0.0:1234"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
        assert!(Address::Tcp(9).words("-1").contains("host=127.0.0.1,port=9,"));
    }

    #[test]
    fn the_socket_and_its_folder_are_the_users_alone_and_go_away() {
        let door = Door::open(&Address::Fresh).unwrap();
        let socket = door.path.as_ref().unwrap().path.clone();
        let folder = socket.parent().unwrap().to_owned();
        assert_eq!(folder.metadata().unwrap().mode() & 0o777, 0o700);
        let found = socket.metadata().unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.mode() & 0o077, 0);
        drop(door);
        assert!(!folder.exists());
    }

    #[test]
    fn a_socket_of_the_users_path_is_private_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gdb");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
        let address = Address::Socket(path.clone());
        assert!(format!("{:#}", Door::open(&address).unwrap_err()).contains("an unused path"));
        assert!(path.is_symlink() && !folder.path().join("elsewhere").exists());
        std::fs::remove_file(&path).unwrap();
        let door = Door::open(&address).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o077, 0);
        drop(door);
        assert!(!path.exists());
        let long = Address::Socket(folder.path().join("x".repeat(200)));
        assert!(format!("{:#}", Door::open(&long).unwrap_err()).contains("107"));
    }
}
