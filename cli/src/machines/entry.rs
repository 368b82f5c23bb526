//! A machine's own folder among those that run.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use rustix::fs::{FlockOperation, Mode};
use serde::{Deserialize, Serialize};

use super::{LONGEST, Name, OPEN};
use crate::interrupt::{self, Undo};
use crate::machine::socket;
use crate::output::Folder;
use crate::{input, sockets};

/// Name of the file with the facts.
pub(super) const ABOUT: &str = "machine.json";
/// Name of the control port's socket, or of the link to it.
pub(super) const CONTROL: &str = "control";

/// What is known of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Its process.
    pub(crate) pid: u32,
    /// When it was started, as of RFC 3339.
    pub(crate) since: String,
    /// Its kernel, once that is known.
    pub(crate) kernel: Option<String>,
    /// The folder of its sockets, if it has one.
    #[serde(default)]
    pub(super) sockets: Option<Sockets>,
}

/// The folder of a machine's sockets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sockets {
    folder: PathBuf,
    /// The machine has made it.
    made: bool,
}

/// The folder of a machine of this process. Dropping it removes the folder; after a kill, the next process does.
#[derive(Debug)]
pub(crate) struct Entry {
    name: Name,
    /// The folder of all machines, and its own.
    paths: (PathBuf, PathBuf),
    /// Its own, locked.
    folder: OwnedFd,
    facts: Facts,
    /// What a second signal cleans up. Dropped before the rest.
    undo: Option<Undo>,
}

impl Entry {
    /// Makes the folder, in the one of all machines, which the caller has locked.
    pub(super) fn make(all: &OwnedFd, parent: &Path, name: &Name) -> std::io::Result<Self> {
        let _orderly = interrupt::orderly();
        rustix::fs::mkdirat(all, name.as_str(), Mode::RWXU)?;
        let paths = (parent.to_owned(), parent.join(name.as_str()));
        let undo = interrupt::on_second_signal({
            let paths = paths.clone();
            move || remove(&paths)
        });
        let folder = rustix::fs::openat(all, name.as_str(), OPEN, Mode::empty())?;
        rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
        let since = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let facts = Facts { pid: std::process::id(), since, kernel: None, sockets: None };
        let entry = Self { name: name.clone(), paths, folder, facts, undo: Some(undo) };
        entry.write()?;
        Ok(entry)
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// Records which kernel it runs.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn set_kernel(&mut self, title: &str) -> std::io::Result<()> {
        self.facts.kernel = Some(title.to_owned());
        self.write()
    }

    /// Records the folder of its sockets, and whether the machine has made that.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn set_sockets(&mut self, folder: &Path, made: bool) -> std::io::Result<()> {
        self.facts.sockets = Some(Sockets { folder: std::path::absolute(folder)?, made });
        self.write()
    }

    fn write(&self) -> std::io::Result<()> {
        Folder::make(&self.paths.1)?.write(ABOUT, &serde_json::to_vec(&self.facts)?)
    }

    /// Listens on a socket in the folder, as the machine's control port.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub(crate) fn listen(&self) -> anyhow::Result<UnixListener> {
        // However long the path is.
        let path = PathBuf::from(format!("/proc/self/fd/{}/{CONTROL}", self.folder.as_raw_fd()));
        socket::bind(&path).with_context(|| format!("cannot listen in {}", self.paths.1.display()))
    }

    /// Records where the user has put the machine's control port.
    ///
    /// # Errors
    /// The link to it cannot be made.
    pub(crate) fn link(&self, socket: &Path) -> anyhow::Result<()> {
        let socket = std::path::absolute(socket).context("cannot find the folder of the socket")?;
        rustix::fs::symlinkat(&socket, &self.folder, CONTROL)
            .with_context(|| format!("cannot write to {}", self.paths.1.display()))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        drop(self.undo.take());
        // Its lock goes after its name.
        remove(&self.paths);
    }
}

/// Removes the folder of a machine that was killed, and the sockets that it had elsewhere.
pub(super) fn remove_left(folder: &Path) {
    if let Ok(control) = fs::read_link(folder.join(CONTROL)) {
        socket::remove_left(&control);
    }
    if let Some(Sockets { folder, made }) = read(folder).and_then(|facts| facts.sockets) {
        socket::remove_left(&folder.join(sockets::SOCKET));
        if made {
            // Sockets of programs may still be in it.
            let _ = fs::remove_dir(&folder);
        }
    }
    let _ = fs::remove_dir_all(folder);
}

/// Reads the facts of a machine from its folder.
pub(super) fn read(folder: &Path) -> Option<Facts> {
    serde_json::from_slice(&input::read(&folder.join(ABOUT), LONGEST).ok()?).ok()
}

/// Removes a machine's folder, and that of all if this was the last.
fn remove((all, own): &(PathBuf, PathBuf)) {
    let _ = fs::remove_dir_all(own);
    let _ = fs::remove_dir(all);
}
