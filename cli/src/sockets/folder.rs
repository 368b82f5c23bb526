//! The folder of the sockets: the user's alone, never reached through a link, and left as it was found.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::interrupt::{self, Undo};
use crate::machine::socket;

/// Name of the socket that programs of the host connect to.
const SOCKET: &str = "vsock";

/// The folder of `--vsock`.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    folder: OwnedFd,
    /// What a signal removes. Dropped before the rest.
    undo: Option<Undo>,
    made: bool,
    /// Our own sockets in it.
    names: Vec<String>,
}

/// The outcome of a connection to a program of the host.
#[derive(Debug)]
pub(super) enum Connected {
    /// The program has it.
    Yes(UnixStream),
    /// The program does not take more connections now.
    Later,
    /// There is no program.
    No,
}

impl Folder {
    /// Opens the folder, or makes it with mode 0700 if it is not there.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let made = match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) => true,
            Err(rustix::io::Errno::EXIST) => false,
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot make {}; give --vsock a path in an existing folder", path.display())
                });
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty()).with_context(|| {
            format!("cannot open {} as a folder for --vsock; links are not followed", path.display())
        })?;
        let stat = rustix::fs::fstat(&folder)?;
        let (mode, owner) = (stat.st_mode & 0o777, stat.st_uid);
        ensure!(
            owner == rustix::process::geteuid().as_raw() && mode == 0o700,
            "{} of --vsock has mode {mode:#o} and owner {owner}, expected mode 0700 and your own user: chmod 700 it, or give a path \
             that does not exist",
            path.display()
        );
        Ok(Self { path: path.to_owned(), folder, undo: None, made, names: Vec::new() })
    }

    /// A name in the folder, by which no link on the way to it matters.
    fn name(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.folder.as_raw_fd()))
    }

    /// Listens on the socket that programs of the host connect to.
    pub(super) fn listen(&mut self) -> anyhow::Result<UnixListener> {
        self.bind(SOCKET)
    }

    /// Listens for the guest's connections to a port.
    pub(super) fn listen_to_guest(&mut self, port: u32) -> anyhow::Result<UnixListener> {
        self.bind(&format!("{SOCKET}_{port}"))
    }

    fn bind(&mut self, name: &str) -> anyhow::Result<UnixListener> {
        let listener = match socket::bind(&self.name(name)) {
            Ok(listener) => listener,
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
                "{} of --vsock exists: another machine may use it, or one that was killed has left it; remove it, or give another folder",
                self.path.join(name).display()
            ),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot listen on {}", self.path.join(name).display()));
            }
        };
        self.names.push(name.to_owned());
        let (path, made, names) = (self.path.clone(), self.made, self.names.clone());
        self.undo = Some(interrupt::on_second_signal(move || {
            for name in &names {
                let _ = std::fs::remove_file(path.join(name));
            }
            if made {
                let _ = std::fs::remove_dir(&path);
            }
        }));
        Ok(listener)
    }

    /// Connects to the program that listens for a port of the host's.
    pub(super) fn connect(&self, port: u32) -> Connected {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // The very file that was looked at is connected to, whatever its name is by then.
        let Ok(file) = rustix::fs::openat(&self.folder, format!("{SOCKET}_{port}"), flags, Mode::empty())
        else {
            return Connected::No;
        };
        let is_socket = rustix::fs::fstat(&file)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket);
        if !is_socket {
            return Connected::No;
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        else {
            return Connected::Later;
        };
        let Ok(address) = SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd())) else {
            return Connected::No;
        };
        match rustix::net::connect(&socket, &address) {
            Ok(()) => Connected::Yes(UnixStream::from(socket)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Connected::Later,
            Err(_) => Connected::No,
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.undo.take());
        for name in &self.names {
            let _ = rustix::fs::unlinkat(&self.folder, name.as_str(), AtFlags::empty());
        }
        // Sockets of programs may still be in it.
        if self.made {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}
