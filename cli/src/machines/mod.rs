//! The running machines of this user: `hv ps` lists them, and `hv ctl` finds one by its name.
//!
//! Each machine of `hv boot` and `hv exec` has a folder with its name, for as long as it runs ([`entry`]). Its process
//! holds a lock on that folder, so a folder without a lock is one that a killed process has left. The folder of all is
//! locked while a machine is added or they are listed, and gone without them.

mod entry;
mod name;
mod ps;
#[cfg(test)]
mod tests;

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::setup::cache::{Cache, MACHINES};
use crate::{interrupt, process};

#[cfg(test)]
use entry::ABOUT;
pub(crate) use entry::Entry;
use entry::{CONTROL, Facts};
pub(crate) use name::Name;
pub(crate) use ps::{Args, run};

/// Name of the folder of all machines in that of the user's session.
const FOLDER: &str = "hv-arm64";
/// How a folder is opened: never through a link.
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Maximum size of a machine's file in bytes.
const LONGEST: u64 = 64 << 10;

/// The folder of all machines.
#[derive(Clone, Debug)]
pub(crate) struct Machines {
    folder: PathBuf,
}

/// A running machine.
#[derive(Clone, Debug)]
pub(crate) struct RunningMachine {
    pub(crate) name: Name,
    pub(crate) facts: Facts,
    /// The socket of its control port, if it has one.
    pub(crate) control: Option<PathBuf>,
    /// Its folder.
    folder: PathBuf,
}

impl Machines {
    /// Finds the folder: in `$XDG_RUNTIME_DIR`, else in `/run/user/UID`, else in the cache. Creates nothing yet.
    ///
    /// # Errors
    /// There is no such place.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let user = rustix::process::geteuid().as_raw();
        let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        let usual = PathBuf::from(format!("/run/user/{user}"));
        let is_own =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == user);
        let folder = match given.into_iter().chain([usual]).find(is_own) {
            Some(session) => session.join(FOLDER),
            None => Cache::open()?.entry(MACHINES),
        };
        Ok(Self { folder })
    }

    /// Takes this folder.
    #[cfg(test)]
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Adds a machine; without a name it gets the first of `vm1`, `vm2` and so on that is free.
    ///
    /// # Errors
    /// A machine of this name runs, or the folder cannot be written.
    pub(crate) fn add(&self, name: Option<&Name>) -> anyhow::Result<Entry> {
        loop {
            let Some(all) = self.lock(true)? else { continue };
            let running = self.sweep();
            if let Some(machine) = running.iter().find(|machine| Some(&machine.name) == name) {
                anyhow::bail!(
                    "--name {}: a machine of this name runs, as process {}; give another name, or end it",
                    machine.name,
                    machine.facts.pid
                );
            }
            let mut names =
                name.cloned().into_iter().chain((1..).map(Name::numbered).take_while(|_| name.is_none()));
            // A name is taken too while its machine ends.
            let made = names.find_map(|name| match Entry::make(&all, &self.folder, &name) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => None,
                made => Some(made),
            });
            match made {
                // The last machine that ended has removed the folder.
                Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
                Some(made) => {
                    return made.with_context(|| format!("cannot write to {}", self.folder.display()));
                }
                None => {
                    anyhow::bail!("the name of --name is taken in {}; give another", self.folder.display())
                }
            }
        }
    }

    /// Returns the machines that run, the oldest first. Removes what killed processes have left.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn list(&self) -> anyhow::Result<Vec<RunningMachine>> {
        let Some(_all) = self.lock(false)? else { return Ok(Vec::new()) };
        let mut machines = self.sweep();
        machines.sort_by(|a, b| (&a.facts.since, &a.name).cmp(&(&b.facts.since, &b.name)));
        // Only if it is empty.
        let _ = fs::remove_dir(&self.folder);
        Ok(machines)
    }

    /// Locks the folder for a moment; `None` if there is none, and none is to be made.
    fn lock(&self, make: bool) -> anyhow::Result<Option<OwnedFd>> {
        let explain = || format!("cannot use {}, the folder of running machines", self.folder.display());
        loop {
            if make {
                fs::create_dir_all(self.folder.parent().unwrap_or(Path::new("/"))).with_context(explain)?;
                match rustix::fs::mkdir(&self.folder, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error).with_context(explain),
                }
            }
            let all = match rustix::fs::openat(CWD, &self.folder, OPEN, Mode::empty()) {
                Err(Errno::NOENT) if make => continue,
                Err(Errno::NOENT) => return Ok(None),
                opened => opened.with_context(explain)?,
            };
            let stat = rustix::fs::fstat(&all)?;
            let (mode, owner) = (stat.st_mode & 0o777, stat.st_uid);
            ensure!(
                owner == rustix::process::geteuid().as_raw() && mode == 0o700,
                "{} has mode {mode:#o} and owner {owner}, expected mode 0700 and your own user; remove it",
                self.folder.display()
            );
            while let Err(error) = rustix::fs::flock(&all, FlockOperation::NonBlockingLockExclusive) {
                if error != Errno::WOULDBLOCK {
                    return Err(error).with_context(explain);
                }
                interrupt::check()?;
                std::thread::sleep(process::POLL);
            }
            // A removed folder has no link.
            if rustix::fs::fstat(&all)?.st_nlink != 0 {
                return Ok(Some(all));
            }
        }
    }

    /// Removes what killed processes have left, and returns the machines that run.
    fn sweep(&self) -> Vec<RunningMachine> {
        let names = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().to_str()?.parse::<Name>().ok());
        names.filter_map(|name| self.judge(name)).collect()
    }

    /// Returns the machine of a name, if it runs, and removes its folder otherwise.
    fn judge(&self, name: Name) -> Option<RunningMachine> {
        let folder = self.folder.join(name.as_str());
        let opened = rustix::fs::openat(CWD, &folder, OPEN, Mode::empty()).ok()?;
        if rustix::fs::flock(&opened, FlockOperation::NonBlockingLockExclusive).is_ok() {
            entry::remove_left(&folder);
            return None;
        }
        // One that ends no longer has a file.
        let facts = entry::read(&folder)?;
        let control = folder.join(CONTROL);
        let control = match fs::read_link(&control) {
            Ok(named) => Some(named),
            Err(_) => control.exists().then_some(control),
        };
        Some(RunningMachine { name, facts, control, folder })
    }
}

impl RunningMachine {
    /// Connects to its control port.
    pub(crate) fn connect(&self) -> std::io::Result<UnixStream> {
        let folder = rustix::fs::openat(CWD, &self.folder, OPEN, Mode::empty())?;
        // However long the path is.
        UnixStream::connect(format!("/proc/self/fd/{}/{CONTROL}", folder.as_raw_fd()))
    }
}
