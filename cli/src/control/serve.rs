//! The server of `hv boot --control`: a thread for each client, a line in, a line out.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hv_tlfs::vmbus::ic::Status;
use hv_tlfs::vmbus::kvp::Operation;
use hv_tlfs::vmbus::vss;
use hv_wire::control::{DriverState, Refusal, Service, ToHypervisor};

use super::lines::{DriverStateName, Failure, Given, LONGEST, Line, Reason, Reply, Request, ServiceLine};
use super::memory::Memory;
use super::pointing;
use super::port::{Answer, ControlPort, NoAnswer};
use super::services::{driver, host_time, name};
use super::typing;
use crate::TOOL;
use crate::disks::Live;
use crate::machine::socket::{SocketFile, listen};
use crate::machines::Entry;
use crate::snapshot::Saver;

mod files;
mod machine;
mod snapshot;
mod task;

use task::Task;

/// Clients at a time.
const CLIENTS: usize = 16;
/// How long a resumed guest may take to set its clock.
const TIME: Duration = Duration::from_secs(10);
/// The server's socket, before the machine is there.
#[derive(Debug)]
pub(crate) struct Server {
    listener: UnixListener,
    /// The socket's name, unless it is in the machine's own folder.
    file: Option<SocketFile>,
    /// Time is that of a deterministic run.
    fixed: bool,
}

/// The running server. Dropping it removes its socket.
#[derive(Debug)]
pub(crate) struct Serving {
    _file: Option<SocketFile>,
    port: Arc<ControlPort>,
}

/// What of a machine the requests change or read.
#[derive(Debug)]
pub(crate) struct Controlled {
    /// What `hv ctl disk` changes.
    pub(crate) disks: Arc<Live>,
    /// What `hv ctl memory` changes.
    pub(crate) memory: Arc<Memory>,
    /// What `hv snapshot` saves.
    pub(crate) saver: Arc<Saver>,
    /// The name of the first request to the hypervisor.
    pub(crate) next_request: u32,
}

impl Serving {
    /// Has the guest's clock set to the host's, in a thread of its own. `failed` gets the reason if it is not.
    pub(crate) fn set_time(&self, failed: impl FnOnce(&str) + Send + 'static) {
        let port = Arc::clone(&self.port);
        std::thread::spawn(move || {
            let answer = port.ask(&ToHypervisor::TimeSync { now: host_time(false) }, TIME);
            let answer = answer.map_err(|why| no_answer(why, Service::TimeSync));
            if let Err(failure) = answer.and_then(|answer| judge(Service::TimeSync, answer)) {
                failed(&failure.message);
            }
        });
    }
}

impl Server {
    /// Takes the path of `--control`.
    pub(crate) fn listen(path: &Path, fixed: bool) -> anyhow::Result<Self> {
        let listener = listen(path, "--control")?;
        Ok(Self { listener, file: Some(SocketFile::new(path.to_owned(), None)), fixed })
    }

    /// Takes the socket in the machine's own folder, which goes with that.
    pub(crate) fn of(machine: &Entry, fixed: bool) -> anyhow::Result<Self> {
        Ok(Self { listener: machine.listen()?, file: None, fixed })
    }

    /// Serves clients until the process ends. `stream` is the tool's end of the port.
    pub(crate) fn start(self, stream: UnixStream, controlled: Controlled) -> anyhow::Result<Serving> {
        let Self { listener, file, fixed } = self;
        let Controlled { disks, memory, saver, next_request } = controlled;
        let port = Arc::new(ControlPort::new(stream, memory, next_request)?);
        let served = Arc::clone(&port);
        let clients = Arc::new(AtomicUsize::new(0));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if clients.fetch_add(1, Ordering::Relaxed) >= CLIENTS {
                    clients.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                let (port, clients) = (Arc::clone(&served), Arc::clone(&clients));
                let (disks, saver) = (Arc::clone(&disks), Arc::clone(&saver));
                std::thread::spawn(move || {
                    let _ = serve(&client, &port, (&disks, &saver), fixed);
                    clients.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Ok(Serving { _file: file, port })
    }
}

/// Answers a client's lines until the client closes its end.
fn serve(
    client: &UnixStream,
    port: &ControlPort,
    (disks, saver): (&Live, &Saver),
    fixed: bool,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client);
    loop {
        let mut line = Vec::new();
        (&mut reader).take(LONGEST + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        let whole = line.last() == Some(&b'\n');
        let outcome = if line.len() as u64 > LONGEST {
            Err(Failure::new(Reason::InvalidRequest, format!("the line is longer than {LONGEST} bytes")))
        } else {
            let line = Line::read(&line).map_err(|message| Failure::new(Reason::InvalidRequest, message));
            line.and_then(|line| match &line.request {
                Request::Snapshot { folder } => {
                    snapshot::save((port, disks, saver), Path::new(folder), line.timeout, client)
                }
                _ => carry_out(port, disks, &line, fixed),
            })
        };
        let reply = serde_json::to_string(&Reply::from(outcome))?;
        { client }.write_all(format!("{reply}\n").as_bytes())?;
        if !whole {
            return Ok(());
        }
    }
}

/// Carries a request out.
fn carry_out(port: &ControlPort, disks: &Live, line: &Line, fixed: bool) -> Result<Given, Failure> {
    let task = Task::new(port, line.timeout);
    let left = || task.left();
    match &line.request {
        // A snapshot is the client's affair: see `serve`.
        Request::DiskAdd { .. }
        | Request::DiskRemove { .. }
        | Request::DiskResize { .. }
        | Request::Snapshot { .. } => machine::disk(port, disks, &line.request, left),
        Request::Rescind { device } => machine::rescind(port, *device, left()),
        Request::Net { link } => machine::net(port, *link, left()),
        Request::Memory {} => machine::memory(port, left()).map(Given::Memory),
        Request::MemorySet { bytes } => machine::resize(port, *bytes, left).map(Given::Memory),
        Request::Screenshot { file } => task.screenshot(Path::new(file)),
        Request::Status {} => task.status(),
        Request::Shutdown { action, force } => task.shutdown(*action, *force),
        Request::KvpGet { pool, key } => task.pair(*pool, key).map(Given::Pair),
        Request::KvpSet { pool, key, value } => task.change(Operation::SET, *pool, key, value),
        Request::KvpDelete { pool, key } => task.change(Operation::DELETE, *pool, key, ""),
        Request::KvpList { pool } => task.pairs(*pool).map(Given::Pairs),
        Request::Addresses { adapter } => task.addresses(adapter.as_deref()),
        Request::Time {} => {
            // A deterministic run has a time of its own.
            let now = if fixed { 0 } else { host_time(false) };
            task.tell(Service::TimeSync, &ToHypervisor::TimeSync { now })
        }
        Request::Type { text } => type_text(port, text, left),
        Request::Fcopy { file, to, overwrite, create_path } => {
            let (overwrite, create_path) = (*overwrite, *create_path);
            files::copy(port, &files::Copy { file, to, overwrite, create_path }, left)
        }
        Request::Mouse { x, y, scroll, click } => {
            let states = pointing::states(*x, *y, *scroll, *click)
                .map_err(|message| Failure::new(Reason::InvalidRequest, message))?;
            task.tell(Service::Mouse, &ToHypervisor::Point { states: &states })
        }
        Request::Freeze {} => {
            task.tell(Service::Vss, &ToHypervisor::Vss { operation: vss::Operation::FREEZE.0 })
        }
        Request::Thaw {} => task.tell(Service::Vss, &ToHypervisor::Vss { operation: vss::Operation::THAW.0 }),
    }
}

/// Types text, one part after another.
fn type_text(port: &ControlPort, text: &str, left: impl Fn() -> Duration) -> Result<Given, Failure> {
    let pieces = typing::pieces(text).map_err(|message| Failure::new(Reason::InvalidRequest, message))?;
    let (mut typed, all) = (0, text.chars().count());
    for piece in &pieces {
        let answer = port.ask(&ToHypervisor::Type { keys: &piece.keys }, left());
        let answer = answer.map_err(|why| no_answer(why, Service::Keyboard));
        answer.and_then(|answer| judge(Service::Keyboard, answer)).map_err(|failure| match typed {
            0 => failure,
            _ => {
                let message = format!("{}; {typed} of {all} characters were typed", failure.message);
                Failure::new(failure.reason, message)
            }
        })?;
        typed += piece.characters;
    }
    Ok(Given::Done {})
}

fn services(states: &[hv_wire::control::ServiceState; Service::ALL.len()]) -> BTreeMap<String, ServiceLine> {
    let line = |state: &hv_wire::control::ServiceState| ServiceLine {
        state: match state.driver {
            DriverState::Absent => DriverStateName::Absent,
            DriverState::Closed => DriverStateName::NoDriver,
            DriverState::Negotiating => DriverStateName::Waiting,
            DriverState::Ready => DriverStateName::Ready,
            DriverState::Incompatible => DriverStateName::Incompatible,
        },
        version: (state.driver == DriverState::Ready).then(|| format!("{}.{}", state.major, state.minor)),
        memory: None,
    };
    Service::ALL
        .into_iter()
        .zip(states)
        .map(|(service, state)| (name(service).to_owned(), line(state)))
        .collect()
}

/// Checks a path of a client's: its folder is not this process's.
fn absolute(path: &Path) -> Result<(), Failure> {
    if path.is_absolute() {
        return Ok(());
    }
    let what = format!("{} is not an absolute path", path.display());
    Err(Failure::new(Reason::InvalidRequest, what))
}

/// Tells an answer that is good from one that is none.
fn judge(service: Service, answer: Answer) -> Result<Answer, Failure> {
    /// Numbers of outcomes above all statuses: see hv-wire.
    const MALFORMED: u64 = 1 << 32;
    const CLOSED: u64 = 2 << 32;
    match answer {
        Answer::Refused(why) => Err(refused(service, why)),
        Answer::Outcome { outcome: MALFORMED, .. } => Err(malformed(service)),
        Answer::Outcome { outcome: CLOSED, .. } => Err(Failure::new(
            Reason::Closed,
            format!("the guest closed its {} channel before it answered", name(service)),
        )),
        Answer::Outcome { outcome, .. } => match Status(outcome as u32) {
            Status::SUCCESS => Ok(answer),
            Status::CONTINUE => Err(Failure::new(Reason::NotFound, "the guest has no such key")),
            status => Err(Failure::new(
                Reason::Refused,
                format!("the guest refused with status {:#010x}{}", status.0, hint(service)),
            )),
        },
        answer => Ok(answer),
    }
}

/// Returns the likely cause of a refusal.
fn hint(service: Service) -> &'static str {
    match service {
        Service::Kvp => "; hv_kvp_daemon may not be running, or may not know the key",
        Service::Vss => "; hv_vss_daemon may not be running",
        Service::Fcopy => {
            "; hv_fcopy_daemon may not be running, or its folder does not exist (--create-path creates it)"
        }
        _ => "",
    }
}

fn malformed(service: Service) -> Failure {
    let what = format!("the guest's answer is not a valid message of the {} service", name(service));
    Failure::new(Reason::Malformed, what)
}

fn no_answer(why: NoAnswer, service: Service) -> Failure {
    match why {
        NoAnswer::Late => Failure::new(
            Reason::TimedOut,
            format!("no answer in time; the guest may be stopped, or busy{}", hint(service)),
        ),
        NoAnswer::Ended => Failure::new(Reason::Ended, "the machine has ended"),
        NoAnswer::TooLong => {
            Failure::new(Reason::InvalidRequest, "the request is too long for a message to the hypervisor")
        }
    }
}

fn refused(service: Service, why: Refusal) -> Failure {
    let name = name(service);
    let (reason, message) = match why {
        Refusal::Unknown => (
            Reason::InvalidRequest,
            "the hypervisor does not know the request; is it older than the tool?".to_owned(),
        ),
        Refusal::Absent => (
            Reason::Absent,
            format!(
                "the machine has no {name} device: it was taken away, or not asked for; start the machine with {TOOL} \
                 boot --devices all, or without --devices"
            ),
        ),
        Refusal::Closed => {
            let (module, option) = driver(service);
            let until = match service {
                Service::Fcopy => ", up to Linux 6.9",
                Service::Video => ", or hyperv_drm (CONFIG_DRM_HYPERV)",
                _ => "",
            };
            (
                Reason::NoDriver,
                format!("the guest has no driver for {name}; Linux's is {module} ({option}){until}"),
            )
        }
        Refusal::Negotiating => (
            Reason::NoProgram,
            match service {
                Service::Kvp => "the guest's driver waits for hv_kvp_daemon, which is not running".to_owned(),
                Service::Vss => "the guest's driver waits for hv_vss_daemon, which is not running".to_owned(),
                Service::Fcopy => "the guest's driver waits for hv_fcopy_daemon, which is not running".to_owned(),
                _ => format!("the guest's driver for {name} has not chosen a version yet"),
            },
        ),
        Refusal::Incompatible => (
            Reason::Incompatible,
            format!("the guest's driver for {name} supports none of the host's versions"),
        ),
        Refusal::Busy => (Reason::Busy, format!("the guest has not answered the last {name} request")),
        Refusal::Invalid if service == Service::Video => {
            (Reason::Refused, "the guest shows nothing: its driver has set no picture, or switched the screen off".to_owned())
        }
        Refusal::Unsupported if service == Service::Balloon => (
            Reason::Unsupported,
            "the guest's driver gives up no memory; Linux's does only with pages of 4 KiB".to_owned(),
        ),
        Refusal::Unsupported => {
            (Reason::Unsupported, format!("the version of {name} that the guest chose has no such request"))
        }
        Refusal::Invalid => (
            Reason::InvalidRequest,
            match service {
                Service::Kvp => {
                    "the request is invalid: expected a key of at most 255 UTF-16 units, and a value of at most 1023"
                        .to_owned()
                }
                _ => format!("the {name} device refused the request as invalid; is the hypervisor older than the tool?"),
            },
        ),
        Refusal::Full => (Reason::RingFull, format!("the guest does not read its {name} channel")),
    };
    Failure::new(reason, message)
}

#[cfg(test)]
mod tests;
