//! Requests that change the machine: its disks, and the devices on the guest's bus.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hv_tlfs::vmbus::balloon::CHUNK_PAGES;
use hv_wire::control::{Refusal, Service, ToHypervisor};

use super::super::lines::{
    AddMode, DiskLine, DiskPlace, DriverStateName, Failure, Given, MemoryLine, NetLink, PressureLine, Reason,
    Request, ServiceLine,
};
use super::super::memory::PAGE;
use super::super::port::{Answer, ControlPort, NoAnswer};
use super::super::services::{DeviceName, name};
use super::{absolute, judge, no_answer};
use crate::disks::{Change, Denied, DiskOption, Live, Mode, Place, Unmade};
use crate::setup::size::exact;

/// Carries out a request for a disk.
pub(super) fn disk(
    port: &ControlPort,
    disks: &Live,
    request: &Request,
    left: impl Fn() -> Duration,
) -> Result<Given, Failure> {
    let tell = |change: Change| tell(port, change, left());
    match request {
        Request::DiskAdd { file, mode, at } => {
            absolute(Path::new(file))?;
            let mode = match mode {
                AddMode::Snapshot => Mode::Snapshot,
                AddMode::Ro => Mode::ReadOnly,
                AddMode::Rw => Mode::ReadWrite,
            };
            let option = DiskOption { path: file.into(), mode, place: at.map(judged).transpose()? };
            let ((controller, lun), bytes) = disks.add(&option, tell).map_err(denied)?;
            Ok(Given::Disk(DiskLine { controller, lun, bytes }))
        }
        Request::DiskRemove { at } => {
            disks.remove(judged(*at)?, tell).map_err(denied).map(|()| Given::Done {})
        }
        Request::DiskResize { at, bytes } => {
            disks.resize(judged(*at)?, *bytes, tell).map_err(denied).map(|()| Given::Done {})
        }
        _ => Err(Failure::new(Reason::InvalidRequest, "the request is for no disk")),
    }
}

/// Takes a device away from the guest.
pub(super) fn rescind(port: &ControlPort, device: DeviceName, left: Duration) -> Result<Given, Failure> {
    match port.ask(&ToHypervisor::Rescind { device: device.number() }, left) {
        Ok(Answer::Outcome { outcome: 0, .. }) => Ok(Given::Done {}),
        Ok(Answer::Refused(_)) => {
            Err(Failure::new(Reason::Absent, format!("the guest's bus has no device {device}")))
        }
        Ok(_) => Err(unknown_answer()),
        Err(why) => Err(unanswered(why)),
    }
}

/// Takes the link of the guest's network card up or down.
pub(super) fn net(port: &ControlPort, link: NetLink, left: Duration) -> Result<Given, Failure> {
    match port.ask(&ToHypervisor::Link { up: link == NetLink::Up }, left) {
        Ok(Answer::Outcome { outcome: 0, .. }) => Ok(Given::Done {}),
        Ok(Answer::Refused(_)) => Err(Failure::new(
            Reason::Absent,
            "the machine has no network card: it was taken away, or not asked for; start the machine with --net user",
        )),
        Ok(_) => Err(unknown_answer()),
        Err(why) => Err(unanswered(why)),
    }
}

/// Returns what is known of the guest's memory.
pub(super) fn memory(port: &ControlPort, left: Duration) -> Result<MemoryLine, Failure> {
    let answer = port.ask(&ToHypervisor::Memory {}, left).map_err(unanswered)?;
    let Answer::Memory { taken, pressure } = judge(Service::Balloon, answer)? else {
        return Err(unknown_answer());
    };
    let bytes = |pages: u64| pages.saturating_mul(PAGE);
    let host = port.memory.host_bytes();
    Ok(MemoryLine {
        bytes: port.memory.bytes().saturating_sub(bytes(taken)),
        given_up: bytes(taken),
        host_bytes: host.map_err(|error| Failure::new(Reason::Refused, format!("{error:#}")))?,
        pressure: pressure.map(|(available, committed)| PressureLine {
            available: bytes(available),
            committed: bytes(committed),
        }),
    })
}

/// Adds what is known of the guest's memory to the states of the services.
pub(super) fn with_memory(
    port: &ControlPort,
    mut services: BTreeMap<String, ServiceLine>,
    left: Duration,
) -> Result<BTreeMap<String, ServiceLine>, Failure> {
    if let Some(balloon) = services.get_mut(name(Service::Balloon))
        && balloon.state == DriverStateName::Ready
    {
        balloon.memory = Some(memory(port, left)?);
    }
    Ok(services)
}

/// Takes memory from the guest or gives it back, until it has this many bytes; all of it without a number.
pub(super) fn resize(
    port: &ControlPort,
    bytes: Option<u64>,
    left: impl Fn() -> Duration,
) -> Result<MemoryLine, Failure> {
    let all = port.memory.bytes();
    let wanted = bytes.unwrap_or(all);
    let taken = all.checked_sub(wanted).ok_or_else(|| {
        let what = format!("the guest cannot have {}: it was started with {}", exact(wanted), exact(all));
        Failure::new(Reason::InvalidRequest, what)
    })?;
    let request = ToHypervisor::Balloon { taken: taken / PAGE };
    let answer = port.ask(&request, left()).map_err(|why| no_answer(why, Service::Balloon))?;
    judge(Service::Balloon, answer)?;
    if let Some(error) = port.memory.take_failure() {
        let what = format!("the host cannot use the memory that the guest gave up: {error}");
        return Err(Failure::new(Reason::Refused, what));
    }
    let line = memory(port, left())?;
    if line.bytes >= wanted + CHUNK {
        let what = format!("the guest keeps {}: it gave up what it could spare", exact(line.bytes));
        return Err(Failure::new(Reason::Refused, what));
    }
    Ok(line)
}

/// Bytes that a guest is asked for at a time: it may keep less than these besides what it is to have.
const CHUNK: u64 = CHUNK_PAGES as u64 * PAGE;

/// Checks a place as the words of an option are checked.
fn judged(place: DiskPlace) -> Result<Place, Failure> {
    let text = format!("{}:{}", place.controller, place.lun);
    let place: Result<DiskPlace, String> = text.parse();
    place
        .map(|place| (place.controller, place.lun))
        .map_err(|error| Failure::new(Reason::InvalidRequest, error))
}

/// Asks the hypervisor for a change.
fn tell(port: &ControlPort, change: Change, left: Duration) -> Result<(), Unmade<Failure>> {
    let answer = match change {
        Change::Add(disk) => {
            let (base, size, flags, controller, lun) =
                (disk.base, disk.size, disk.flags, disk.controller, disk.lun);
            port.ask(&ToHypervisor::DiskAdd { base, size, identity: &disk.id, flags, controller, lun }, left)
        }
        Change::Remove((controller, lun)) => port.ask(&ToHypervisor::DiskRemove { controller, lun }, left),
        Change::Resize((controller, lun), size) => {
            port.ask(&ToHypervisor::DiskResize { controller, lun, size }, left)
        }
    };
    match answer {
        Ok(Answer::Outcome { outcome: 0, .. }) => Ok(()),
        Ok(Answer::Refused(why)) => Err(Unmade::Refused(match why {
            Refusal::Absent => Failure::new(Reason::Absent, "the hypervisor has no such disk"),
            Refusal::Busy => Failure::new(Reason::Busy, "the hypervisor has a disk at that place"),
            Refusal::Closed => Failure::new(
                Reason::Busy,
                "the guest has not released the rescinded controller yet; try again later",
            ),
            Refusal::Full => Failure::new(Reason::Refused, "the hypervisor has no room for another disk"),
            _ => Failure::new(Reason::InvalidRequest, "the hypervisor refused the change as invalid"),
        })),
        Ok(_) => Err(Unmade::Unknown(unknown_answer())),
        Err(why @ NoAnswer::TooLong) => Err(Unmade::Refused(unanswered(why))),
        Err(why) => Err(Unmade::Unknown(unanswered(why))),
    }
}

fn unknown_answer() -> Failure {
    Failure::new(Reason::Malformed, "the hypervisor answered with something else")
}

pub(super) fn unanswered(why: NoAnswer) -> Failure {
    match why {
        NoAnswer::Late => Failure::new(Reason::TimedOut, "the hypervisor has not answered in time"),
        NoAnswer::Ended => Failure::new(Reason::Ended, "the machine has ended"),
        NoAnswer::TooLong => Failure::new(Reason::InvalidRequest, "the request is too long for a message"),
    }
}

fn denied(why: Denied<Failure>) -> Failure {
    match why {
        Denied::Absent(text) => Failure::new(Reason::Absent, text),
        Denied::Invalid(text) => Failure::new(Reason::InvalidRequest, text),
        Denied::Failed(text) => Failure::new(Reason::Refused, text),
        Denied::Machine(failure) => failure,
    }
}
