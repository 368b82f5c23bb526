//! Disks while the machine runs: added, removed, resized.
//!
//! Each change is carried out by the hypervisor, which is asked by a function of the caller's. Memory that a disk gets
//! is ready before the hypervisor is asked, and memory that it loses is freed once the hypervisor has answered.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hv_wire::{BootDisk, DiskFlags, MAX_DISKS, MAX_LUNS};

use super::image::{self, PAGE};
use super::option::{DiskOption, Mode};
use super::window::{Window, punch};
use super::{ADDRESS_END, BLOCK, identity, room};
use crate::setup::size::exact;
use crate::ui;

/// Controller and logical unit.
pub(crate) type Place = (u16, u16);

/// A request to the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Add(BootDisk),
    Remove(Place),
    Resize(Place, u64),
}

/// What the hypervisor said to a [`Change`], if it did not carry it out.
#[derive(Debug)]
pub(crate) enum Unmade<E> {
    /// It refused.
    Refused(E),
    /// It has not answered, and may carry the change out yet.
    Unknown(E),
}

/// Reason why a change failed.
#[derive(Debug)]
pub(crate) enum Denied<E> {
    /// There is no such disk.
    Absent(String),
    /// The change is invalid for this machine or disk.
    Invalid(String),
    /// The host lacks something.
    Failed(String),
    /// The hypervisor did not carry it out.
    Machine(E),
}

/// The disks of a machine that runs.
#[derive(Debug)]
pub(crate) struct Live {
    state: Mutex<State>,
    pub(super) uuid: [u8; 16],
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) disks: BTreeMap<Place, LiveDisk>,
    pub(super) window: Option<Window>,
    /// Number of disks added so far.
    pub(super) added: u8,
}

#[derive(Debug)]
pub(super) struct LiveDisk {
    pub(super) path: PathBuf,
    /// `None` for a DVD.
    pub(super) mode: Option<Mode>,
    pub(super) size: u64,
    pub(super) memory: Memory,
}

/// Location of a disk's blocks.
#[derive(Clone, Debug)]
pub(super) enum Memory {
    /// A file of its own, of which QEMU has mapped this many bytes.
    File(Arc<File>, u64),
    /// In the window, from this byte on.
    Window(u64),
    /// In QEMU's memory, over this file of a snapshot.
    Private(Arc<File>),
}

impl Live {
    pub(super) fn new(disks: BTreeMap<Place, LiveDisk>, window: Option<Window>, uuid: [u8; 16]) -> Self {
        Self { state: Mutex::new(State { disks, window, added: 0 }), uuid }
    }

    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Continues the count of the disks that were added.
    pub(super) fn set_added(&self, added: u8) {
        self.state().added = added;
    }

    /// Shortens files that are longer than their disks: while QEMU starts, one that may grow has the bytes that QEMU
    /// maps.
    pub(crate) fn trim(&self) {
        for disk in self.state().disks.values() {
            disk.trim();
        }
    }

    /// Trims where nothing may be waited for: not while a change is in progress.
    pub(super) fn trim_at_once(&self) {
        if let Ok(state) = self.state.try_lock() {
            state.disks.values().for_each(LiveDisk::trim);
        }
    }

    /// Brings what the guest has written to the files' own storage.
    pub(super) fn sync(&self) -> Vec<anyhow::Error> {
        let state = self.state();
        state.disks.values().filter_map(|disk| disk.sync().err()).collect()
    }

    /// Adds a disk. Returns its place and its size in bytes.
    pub(crate) fn add<E>(
        &self,
        option: &DiskOption,
        tell: impl FnOnce(Change) -> Result<(), Unmade<E>>,
    ) -> Result<(Place, u64), Denied<E>> {
        let invalid = |error: anyhow::Error| Denied::Invalid(format!("{error:#}"));
        // A file that is not there is so on any machine.
        image::check(&option.path).map_err(invalid)?;
        let mut state = self.state();
        let place = state.place(option)?;
        let State { window, added, .. } = &mut *state;
        let window = window.as_mut().ok_or_else(|| {
            Denied::Invalid(
                "the machine has no room for more disks; start it with --hotplug-room SIZE".to_owned(),
            )
        })?;
        if option.mode == Mode::ReadWrite {
            return Err(Denied::Invalid(format!(
                "the disk {} cannot be added as rw: QEMU maps a file at its start only; give it as snapshot or ro, or to \
                 hv boot --disk",
                option.path.display()
            )));
        }
        let (source, size) = image::source(&option.path, option.mode, BLOCK, ADDRESS_END).map_err(invalid)?;
        let at = window.take(size.next_multiple_of(PAGE)).map_err(Denied::Invalid)?;
        let task = ui::Task::quiet(format!("Copying {}", option.path.display()));
        let copied = image::copy_data(&source, (&window.file, at), size, |_| Ok(()));
        drop(task);
        if let Err(error) = copied {
            window.give_back(at);
            return Err(Denied::Failed(format!("cannot copy the disk {}: {error:#}", option.path.display())));
        }
        *added = added.wrapping_add(1);
        let mut id = identity(self.uuid, place);
        // A disk that takes the place of another one is another disk.
        id[2] ^= *added;
        let flags = if option.mode == Mode::ReadOnly { DiskFlags::READ_ONLY } else { 0 };
        let base = window.base + at;
        let disk = BootDisk { base, size, id, flags, controller: place.0, lun: place.1 };
        match tell(Change::Add(disk)) {
            Ok(()) => {}
            Err(Unmade::Refused(error)) => {
                window.give_back(at);
                return Err(Denied::Machine(error));
            }
            // Its memory stays taken.
            Err(Unmade::Unknown(error)) => return Err(Denied::Machine(error)),
        }
        let (path, mode) = (option.path.clone(), Some(option.mode));
        state.disks.insert(place, LiveDisk { path, mode, size, memory: Memory::Window(at) });
        Ok((place, size))
    }

    /// Removes a disk. One of the start keeps its file locked, since QEMU has it mapped.
    pub(crate) fn remove<E>(
        &self,
        place: Place,
        tell: impl FnOnce(Change) -> Result<(), Unmade<E>>,
    ) -> Result<(), Denied<E>> {
        let mut state = self.state();
        state.disk(place)?;
        match tell(Change::Remove(place)) {
            Ok(()) => {}
            Err(Unmade::Refused(error) | Unmade::Unknown(error)) => return Err(Denied::Machine(error)),
        }
        let Some(disk) = state.disks.remove(&place) else { return Ok(()) };
        if let (Memory::Window(at), Some(window)) = (&disk.memory, &mut state.window) {
            window.give_back(*at);
        }
        disk.sync().map_err(|error| Denied::Failed(format!("{error:#}")))
    }

    /// Changes the size of a disk. Blocks that it gains read as zeros; those that it loses are lost.
    pub(crate) fn resize<E>(
        &self,
        place: Place,
        size: u64,
        tell: impl FnOnce(Change) -> Result<(), Unmade<E>>,
    ) -> Result<(), Denied<E>> {
        let mut state = self.state();
        let disk = state.disk(place)?;
        let (name, old, mode) = (disk.path.display().to_string(), disk.size, disk.mode);
        if !matches!(mode, Some(Mode::ReadWrite | Mode::Snapshot)) {
            let what = format!("the disk {name} is read-only, and cannot be resized");
            return Err(Denied::Invalid(what));
        }
        if let Memory::Private(_) = disk.memory {
            let what = format!("the machine was resumed from a snapshot, so the disk {name} keeps its size");
            return Err(Denied::Invalid(what));
        }
        let unit = if mode == Some(Mode::ReadWrite) { PAGE } else { BLOCK };
        if size == 0 || !size.is_multiple_of(unit) {
            return Err(Denied::Invalid(format!(
                "{size} bytes are not a size of the disk {name}: expected a multiple of {unit}, and not 0"
            )));
        }
        let memory = disk.memory.clone();
        let State { window, disks, .. } = &mut *state;
        if size > old {
            grow(&memory, window.as_mut(), (old, size), &name).map_err(Denied::Invalid)?;
        }
        let told = tell(Change::Resize(place, size));
        let now = match &told {
            Ok(()) => size,
            Err(Unmade::Refused(_)) => old,
            // The memory of the larger size stays, whichever it is.
            Err(Unmade::Unknown(_)) => old.max(size),
        };
        if let Some(disk) = disks.get_mut(&place) {
            disk.size = now;
        }
        shrink(&memory, window.as_mut(), (old.max(size), now), mode);
        told.map_err(|why| match why {
            Unmade::Refused(error) | Unmade::Unknown(error) => Denied::Machine(error),
        })
    }
}

/// Makes room for a disk to grow.
fn grow(
    memory: &Memory,
    window: Option<&mut Window>,
    (old, new): (u64, u64),
    name: &str,
) -> Result<(), String> {
    match (memory, window) {
        (Memory::File(file, mapped), _) => {
            if new > *mapped {
                return Err(format!(
                    "{} do not fit: the disk {name} may grow to {}; start the machine with a larger --hotplug-room",
                    exact(new),
                    exact(*mapped)
                ));
            }
            if !file.metadata().is_ok_and(|meta| meta.is_file()) {
                return Err(format!("the disk {name} is a block device, which cannot grow"));
            }
            let length = file.metadata().map_or(0, |meta| meta.len());
            if length < new {
                file.set_len(new).map_err(|error| format!("cannot extend the disk {name}: {error}"))?;
            }
            room::extend(file, old, new - old).inspect_err(|_| drop(file.set_len(length)))
        }
        (Memory::Window(at), Some(window)) => window.resize(*at, new.next_multiple_of(PAGE)),
        (Memory::Window(_), None) => Err("the machine has no hot-plug room".to_owned()),
        (Memory::Private(_), _) => Err(format!("the disk {name} keeps its size")),
    }
}

/// Frees memory after a disk of `size` bytes, up to byte `end` of it.
fn shrink(memory: &Memory, window: Option<&mut Window>, (end, size): (u64, u64), mode: Option<Mode>) {
    if end <= size {
        return;
    }
    match (memory, window) {
        (Memory::File(file, _), _) if mode == Some(Mode::ReadWrite) => drop(file.set_len(size)),
        (Memory::File(file, _), _) => punch(file, size..end),
        (Memory::Window(at), Some(window)) => {
            window.punch(at + size..at + end);
            let _ = window.resize(*at, size.next_multiple_of(PAGE));
        }
        (Memory::Window(_), None) | (Memory::Private(_), _) => {}
    }
}

impl State {
    fn disk<E>(&self, place: Place) -> Result<&LiveDisk, Denied<E>> {
        self.disks
            .get(&place)
            .ok_or_else(|| Denied::Absent(format!("the machine has no disk at {}:{}", place.0, place.1)))
    }

    /// Finds a place for a new disk.
    fn place<E>(&self, option: &DiskOption) -> Result<Place, Denied<E>> {
        if self.disks.len() >= MAX_DISKS {
            return Err(Denied::Invalid(format!("the machine has {MAX_DISKS} disks, the maximum")));
        }
        match option.place {
            Some(place) if self.disks.contains_key(&place) => {
                Err(Denied::Invalid(format!("there is a disk at {}:{} already", place.0, place.1)))
            }
            Some(place) => Ok(place),
            None => (0..MAX_LUNS as u16)
                .map(|lun| (0, lun))
                .find(|place| !self.disks.contains_key(place))
                .ok_or_else(|| {
                    Denied::Invalid("controller 0 has no place left: give at=CONTROLLER:LUN".to_owned())
                }),
        }
    }
}

impl LiveDisk {
    /// Shortens a file that is longer than its disk.
    fn trim(&self) {
        if let (Memory::File(file, _), Some(Mode::ReadWrite)) = (&self.memory, self.mode)
            && file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > self.size)
        {
            let _ = file.set_len(self.size);
        }
    }

    fn sync(&self) -> anyhow::Result<()> {
        self.trim();
        if let (Memory::File(file, _), Some(Mode::ReadWrite)) = (&self.memory, self.mode) {
            file.sync_all().map_err(|error| {
                anyhow::anyhow!("the disk {} was not written completely: {error}", self.path.display())
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
pub(super) mod tests;
