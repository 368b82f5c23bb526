//! The start of a machine that may be resumed from a snapshot, or be saved as one.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use hv_wire::control::AGENT_PORT;

use crate::machine::{Backing, Ram, Running, Saved, Settings, Sink};
use crate::report::{About, Start};
use crate::snapshot::{Cached, Options, Versions, WITHOUT_PORT, What};
use crate::sockets::{Beginning, First};
use crate::{interrupt, ui};

/// A machine that has just begun.
pub(super) struct Begun {
    pub(super) running: Running,
    /// How its sockets' port begins.
    pub(super) beginning: Beginning,
    /// Where it came from.
    pub(super) started: Started,
}

/// Origin of a machine, known for certain when its sockets are no longer served.
#[derive(Clone, Default)]
pub(super) struct Started(Arc<Mutex<Start>>);

impl Started {
    fn change(&self, change: impl FnOnce(&mut Start)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn warn(&self, warning: String) {
        self.change(|start| start.warnings.push(warning));
    }

    pub(super) fn get(&self) -> Start {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl From<Running> for Begun {
    fn from(running: Running) -> Self {
        Self { running, beginning: Beginning::default(), started: Started::default() }
    }
}

/// Returns what saves a machine that runs, or why it cannot be saved.
pub(super) fn saver(
    running: &mut Running,
    backings: &[Backing],
    about: &About,
    saved_with: Result<(Versions, Options), String>,
) -> Result<What, String> {
    let (versions, options) = saved_with?;
    let without = || WITHOUT_PORT.to_owned();
    let console = running.printed_so_far().ok_or_else(without)?;
    Ok(What {
        monitor: running.monitor().ok_or_else(without)?,
        ram: running.ram(),
        console: Box::new(console),
        backings: backings.to_vec(),
        versions,
        options,
        kernel: about.kernel.clone(),
        command_line: about.command_line.clone(),
    })
}

/// Resumes a machine of the user's.
pub(super) fn saved(
    settings: &Settings,
    saved: Saved,
    sink: Sink,
    log: Option<File>,
) -> anyhow::Result<Begun> {
    let started = Started::default();
    started.change(|start| start.from_snapshot = true);
    let (running, sent) = Running::resume(settings, saved, sink, log)?;
    Ok(Begun { running, beginning: Beginning { sent, first: None }, started })
}

/// Resumes the snapshot, if it is there and QEMU takes it. Else boots the machine with `ram`, to be saved when the
/// agent connects.
pub(super) fn warm(settings: &Settings, ram: Ram, snapshot: Cached) -> anyhow::Result<Begun> {
    let started = Started::default();
    let found = snapshot.find();
    match found.map(|saved| saved.and_then(|saved| Running::resume(settings, saved, None, None))) {
        Some(Ok((running, sent))) => {
            started.change(|start| start.from_snapshot = true);
            return Ok(Begun { running, beginning: Beginning { sent, first: None }, started });
        }
        Some(Err(error)) if interrupt::is_cause(&error) => return Err(error),
        Some(Err(error)) => {
            let why = ui::one_line(&format!("{error:#}")).into_owned();
            let what =
                format!("the snapshot {} cannot be used, so the machine boots: {why}", snapshot.name());
            ui::note(&format!("hv exec: {what}"));
            started.warn(what);
            snapshot.discard();
        }
        None => {}
    }
    let mut running = Running::start(settings, ram, None, None, None)?;
    let monitor = running.monitor().context("a machine that is to be saved has a monitor")?;
    let (ram, console) = (running.ram(), running.printed_so_far());
    let result = started.clone();
    let action = move |sent: &[u8], port: &UnixStream| {
        let console = || console.map_or_else(Vec::new, |console| console());
        if let Err(error) = snapshot.save(monitor, ram, console, (sent, port)) {
            let why = ui::one_line(&format!("{error:#}")).into_owned();
            result.warn(format!("the machine was not saved, so the next run boots it again: {why}"));
        }
    };
    let first = First { port: AGENT_PORT, action: Box::new(action) };
    Ok(Begun { running, beginning: Beginning { sent: Vec::new(), first: Some(first) }, started })
}
