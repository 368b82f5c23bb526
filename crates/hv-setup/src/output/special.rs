//! Results to what is not a regular file: devices, pipes, sockets, terminals.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::interrupt;
use crate::ui::printable;

/// How long the reader of a pipe has to open it, and to make room, which takes it a page (Linux, fs/pipe.c,
/// `pipe_full`): what it does never holds up the end of a run.
const PATIENCE: Duration = Duration::from_secs(5);

/// A device, a pipe or a socket. A reader that does not read does not block signals.
#[derive(Debug)]
pub struct Special {
    fd: OwnedFd,
    is_socket: bool,
    /// What a terminal would obey is escaped.
    is_terminal: bool,
    /// A signal came before: this is the result of a run that it has ended, and is written anyway.
    is_last: bool,
}

impl Special {
    /// Returns stdout or stderr, if this is its path and it is a socket, which cannot be opened again by that path.
    pub(super) fn own_socket(descriptor: &Path) -> io::Result<Option<Self>> {
        let fd = match descriptor.file_name().and_then(|name| name.to_str()) {
            Some("1") => io::stdout().as_fd().try_clone_to_owned()?,
            Some("2") => io::stderr().as_fd().try_clone_to_owned()?,
            _ => return Ok(None),
        };
        let is_socket = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Socket;
        let own = Self { fd, is_socket, is_terminal: false, is_last: interrupt::requested() };
        Ok(is_socket.then_some(own))
    }

    /// Opens it; a pipe must have a reader for that.
    pub(super) fn open(mut attempt: impl FnMut() -> rustix::io::Result<OwnedFd>) -> io::Result<Self> {
        let (begun, is_last) = (Instant::now(), interrupt::requested());
        loop {
            match attempt() {
                // The other end of the pipe has not been opened yet.
                Err(Errno::NXIO) => std::thread::sleep(crate::process::POLL),
                result => {
                    let fd = result?;
                    let is_terminal = rustix::termios::isatty(&fd);
                    return Ok(Self { fd, is_socket: false, is_terminal, is_last });
                }
            }
            check_signal(is_last)?;
            patience(begun, "it is a pipe that no program has opened for reading")?;
        }
    }

    /// Writes some of `bytes`, without waiting.
    fn attempt(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        if self.is_socket {
            // The descriptor shares its flags with other processes, so it stays a blocking one.
            rustix::net::send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
        } else {
            rustix::io::write(&self.fd, bytes)
        }
    }

    /// Writes some of `bytes`.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_terminal {
            return self.write_some(bytes);
        }
        let text = String::from_utf8_lossy(bytes);
        let text = printable(&text);
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            rest = &rest[self.write_some(rest)?..];
        }
        Ok(bytes.len())
    }

    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        let begun = Instant::now();
        loop {
            match self.attempt(bytes) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return Ok(result?),
            }
            let fd = self.fd.as_fd();
            let wait =
                rustix::event::Timespec { tv_sec: 0, tv_nsec: crate::process::POLL.subsec_nanos().into() };
            let _ = rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&wait));
            check_signal(self.is_last)?;
            patience(begun, "its reader does not read")?;
        }
    }
}

/// Returns an error once a signal has arrived, unless one had arrived before.
fn check_signal(before: bool) -> io::Result<()> {
    if before { Ok(()) } else { interrupt::check().map_err(io::Error::other) }
}

/// Returns an error if this has lasted for too long.
fn patience(begun: Instant, why: &str) -> io::Result<()> {
    if begun.elapsed() < PATIENCE {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("{why} for {} s: start the reader first", PATIENCE.as_secs()),
    ))
}
