//! The folder of the sockets: the user's alone, never reached through a link, and left as it was found. A machine that
//! uses it holds a lock on it, so a socket without a listener is known for what a killed one has left.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::interrupt::{self, Undo};
use crate::machine::socket;
use crate::process;

/// Name of the socket that programs of the host connect to.
pub(crate) const SOCKET: &str = "vsock";

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
        ensure!(
            lock(&folder)?,
            "{} of --vsock is in use by another machine; give another folder",
            path.display()
        );
        Ok(Self { path: path.to_owned(), folder, undo: None, made, names: Vec::new() })
    }

    /// Returns true if the folder was not there before.
    pub(super) fn is_made(&self) -> bool {
        self.made
    }

    /// Returns the path of a name in the folder, by which no link on the way to it matters.
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
        let in_use = |error: &std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse;
        let mut bound = socket::bind(&self.name(name));
        // The folder is locked, so this is not a machine's that runs.
        if bound.as_ref().is_err_and(in_use) && self.is_left(name) {
            rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())?;
            bound = socket::bind(&self.name(name));
        }
        let listener = match bound {
            Ok(listener) => listener,
            Err(error) if in_use(&error) => bail!(
                "{} of --vsock exists, and is not a socket that a machine has left: another machine may use it, or a program; remove it, \
                 or give another folder",
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

    /// Finds a socket in the folder. The very file that was looked at is then connected to, whatever its name is by
    /// then.
    fn socket(&self, name: &str) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, name, flags, Mode::empty()).ok()?;
        let mode = rustix::fs::fstat(&file).ok()?.st_mode;
        (FileType::from_raw_mode(mode) == FileType::Socket).then_some(file)
    }

    /// Returns true if this is a socket on which nothing listens.
    fn is_left(&self, name: &str) -> bool {
        self.socket(name).is_some_and(|file| {
            UnixStream::connect(format!("/proc/self/fd/{}", file.as_raw_fd()))
                .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
        })
    }

    /// Connects to the program that listens for a port of the host's.
    pub(super) fn connect(&self, port: u32) -> Connected {
        let Some(file) = self.socket(&format!("{SOCKET}_{port}")) else { return Connected::No };
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

/// Locks a folder for this process. Returns false if another one has it: `hv clean` for a moment, a machine for longer.
fn lock(folder: &OwnedFd) -> anyhow::Result<bool> {
    for _ in 0..10 {
        match rustix::fs::flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(process::POLL),
            locked => return Ok(locked.map(|()| true)?),
        }
    }
    Ok(false)
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
