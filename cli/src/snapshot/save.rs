//! A running machine is saved: stopped, written to a folder with its disks, and set going again.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::folder::Unfinished;
use super::{About, Options, Versions};
use crate::disks::Live;
use crate::machine::{Backing, Qmp, Ram, Saved};
use crate::report::Kernel;

/// Why a machine cannot be saved that has no control port.
pub(crate) const WITHOUT_PORT: &str = "it has no control port";

/// What the saver of a machine needs to know.
pub(crate) struct What {
    pub(crate) monitor: Qmp,
    pub(crate) ram: Ram,
    /// Returns what the guest has printed.
    pub(crate) console: Box<dyn Fn() -> Vec<u8> + Send>,
    pub(crate) backings: Vec<Backing>,
    pub(crate) versions: Versions,
    pub(crate) options: Options,
    pub(crate) kernel: Kernel,
    pub(crate) command_line: String,
}

/// Service that saves a machine while it runs, or says why it cannot be saved.
#[derive(Debug)]
pub(crate) struct Saver(Mutex<State>);

enum State {
    Ready(Box<What>),
    /// This machine cannot be saved.
    Refused(String),
    /// It has ended.
    Ended,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ready(_) => "Ready",
            Self::Refused(_) => "Refused",
            Self::Ended => "Ended",
        })
    }
}

/// Reason why a machine was not saved.
#[derive(Debug)]
pub(crate) enum Unsaved {
    /// It cannot be, whenever it is tried.
    Refused(String),
    /// Something was on its way to or from the guest; it may succeed later.
    Busy,
    /// It has ended.
    Ended,
    /// The host lacks something.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Unsaved {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// A snapshot that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// Bytes of the host's file system.
    pub(crate) bytes: u64,
    /// How long the machine stood still.
    pub(crate) paused: Duration,
}

impl Saver {
    /// Takes what saves a machine, or why it cannot be saved.
    pub(crate) fn new(what: Result<What, String>) -> Self {
        Self(Mutex::new(match what {
            Ok(what) => State::Ready(Box::new(what)),
            Err(why) => State::Refused(why),
        }))
    }

    /// Judges whether the machine can be saved to a folder at all.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn judge(&self, disks: &Live) -> Result<(), Unsaved> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Ready(what) => disks.saved(&what.backings).map(drop).map_err(Unsaved::Refused),
            State::Refused(why) => Err(Unsaved::Refused(why.clone())),
            State::Ended => Err(Unsaved::Ended),
        }
    }

    /// Saves the machine, which continues in any case. `still` returns the name of the next request to the hypervisor
    /// if nothing is on its way to or from it, once the machine is stopped; `check` fails once the result is no longer
    /// awaited.
    ///
    /// # Errors
    /// Why not; the folder is not there then.
    pub(crate) fn save(
        &self,
        folder: &Path,
        disks: &Live,
        still: impl FnOnce() -> Option<u32>,
        check: &dyn Fn() -> anyhow::Result<()>,
    ) -> Result<Made, Unsaved> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let what = match &mut *state {
            State::Ready(what) => what,
            State::Refused(why) => return Err(Unsaved::Refused(why.clone())),
            State::Ended => return Err(Unsaved::Ended),
        };
        let unfinished = Unfinished::begin(folder)?;
        let began = Instant::now();
        let What { monitor, ram, console, backings, versions, options, kernel, command_line } = &mut **what;
        let done = monitor.pause(|monitor| {
            let Some(next_request) = still() else { return Ok(false) };
            // Nothing adds or removes a disk meanwhile: that takes a request.
            let about = About {
                versions: versions.clone(),
                saved: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
                options: options.clone(),
                kernel: kernel.clone(),
                command_line: command_line.clone(),
                ram_size: ram.size(),
                disks: disks.saved(backings).map_err(anyhow::Error::msg)?,
                next_request,
            };
            let machine =
                Saved { ram: ram.clone(), state: monitor.state()?, console: console(), sent: Vec::new() };
            unfinished.fill(&about, &machine, backings, check)?;
            Ok(true)
        })?;
        let paused = began.elapsed();
        if !done {
            return Err(Unsaved::Busy);
        }
        Ok(Made { bytes: unfinished.publish()?, paused })
    }

    /// Ends with the machine: waits until a save that is under way has cleaned up, and refuses others.
    pub(crate) fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::Ended;
    }
}
