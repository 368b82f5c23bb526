//! A client of a control port: a line out, a line in, and what a person gets to see.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::lines::{self, DriverStateName, Given, Line, MemoryLine, Reason, Reply, Request, SCHEMA};
use super::target::Target;
use crate::exit::Exit;
use crate::setup::size::size;
use crate::ui;

/// Maximum length of a reply: a list of pairs.
const LONGEST: usize = 64 << 20;
/// How much longer than the timeout it was given the server may take.
const GRACE: Duration = Duration::from_secs(5);

/// Options of a command's request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The command's name for users.
    pub(super) command: &'static str,
    /// The reply is printed as JSON.
    pub(super) json: bool,
    /// Seconds to wait, if the user says so.
    pub(super) timeout: Option<u32>,
}

/// Sends a request, and reports the reply.
pub(super) fn ask(target: &Target, request: Request, asked: &Asked) -> anyhow::Result<Exit> {
    let command = asked.command;
    let timeout = asked.timeout.map_or(request.patience(), |seconds| Duration::from_secs(seconds.into()));
    let Some(reply) = exchange(target, &Line { request, timeout })? else {
        ui::note(&format!("{command}: no reply from {target} in time"));
        return Ok(Exit::Timeout);
    };
    if asked.json {
        ui::out(&format!("{}\n", serde_json::to_string_pretty(&reply)?));
    }
    if let Some(failure) = &reply.error {
        ui::note(&format!("{command}: {}", ui::one_line(&failure.message)));
        return Ok(match failure.reason {
            Reason::TimedOut => Exit::Timeout,
            Reason::InvalidRequest | Reason::Ended => Exit::Usage,
            _ => Exit::Failed,
        });
    }
    if let Some(given) = reply.result.filter(|_| !asked.json) {
        ui::out(&text(&given));
    }
    Ok(Exit::Success)
}

/// Sends a line and reads the reply; `None` if it does not come in time.
fn exchange(target: &Target, line: &Line) -> anyhow::Result<Option<Reply>> {
    let mut stream = target.connect()?;
    let request = line.write()?;
    anyhow::ensure!(
        request.len() as u64 <= lines::LONGEST,
        "the request has {} bytes, expected at most {}",
        request.len(),
        lines::LONGEST
    );
    stream.write_all(request.as_bytes())?;
    let Some(reply) = read_line(stream, line.timeout.saturating_add(GRACE))? else { return Ok(None) };
    if reply.is_empty() {
        bail!("{target} has ended, or has too many clients");
    }
    let what = || format!("{target} has no control port: its reply is unknown");
    let reply: Reply = serde_json::from_slice(&reply).with_context(what)?;
    anyhow::ensure!(reply.schema == SCHEMA, "{}: schema {}, expected {SCHEMA}", what(), reply.schema);
    Ok(Some(reply))
}

/// Reads a line, or what there is of it before the end of the stream; `None` if that takes longer than `timeout`.
fn read_line(mut stream: UnixStream, timeout: Duration) -> anyhow::Result<Option<Vec<u8>>> {
    let end = Instant::now().checked_add(timeout);
    let mut line = Vec::new();
    let mut bytes = vec![0; 1 << 16];
    while line.len() < LONGEST {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(None);
        }
        stream.set_read_timeout(left)?;
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => line.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
        if line.last() == Some(&b'\n') {
            break;
        }
    }
    Ok(Some(line))
}

/// Formats the guest's memory on a line.
fn of_memory(memory: &MemoryLine) -> String {
    let MemoryLine { bytes, given_up, host_bytes, pressure } = *memory;
    let pressure = pressure.map_or(String::new(), |pressure| {
        format!(", needs {}", size(pressure.committed.saturating_sub(given_up)))
    });
    format!("{} of {}{pressure}, {} of the host's", size(bytes), size(bytes + given_up), size(host_bytes))
}

/// Formats a request's result for users. What comes from the guest is on one line, with nothing that a terminal would
/// act on.
fn text(given: &Given) -> String {
    match given {
        Given::Done {} => String::new(),
        Given::Disk(disk) => format!("{}:{}, {} bytes\n", disk.controller, disk.lun, disk.bytes),
        Given::Memory(memory) => format!("{}\n", of_memory(memory)),
        Given::Saved(saved) => super::snapshot::text(saved),
        Given::Picture(picture) => format!("{} by {} pixels\n", picture.width, picture.height),
        Given::Copied(copied) => format!("{} bytes\n", copied.bytes),
        Given::Pair(pair) => format!("{}\n", ui::one_line(&pair.value)),
        Given::Pairs(pairs) => {
            let line = |pair: &super::pairs::Pair| {
                format!("{}={}\n", ui::one_line(&pair.key), ui::one_line(&pair.value))
            };
            pairs.iter().map(line).collect()
        }
        Given::Services(services) => {
            let line = |(name, service): (&String, &super::lines::ServiceLine)| {
                let state = match service.state {
                    DriverStateName::Absent => "not on the bus",
                    DriverStateName::NoDriver => "no driver",
                    DriverStateName::Waiting => "the driver waits for its program",
                    DriverStateName::Ready => "ready",
                    DriverStateName::Incompatible => "no common version",
                };
                let version =
                    service.version.as_ref().map_or(String::new(), |version| format!(", version {version}"));
                let memory = service
                    .memory
                    .as_ref()
                    .map_or(String::new(), |memory| format!(", {}", of_memory(memory)));
                format!("{name:<10} {state}{version}{memory}\n")
            };
            services.iter().map(line).collect()
        }
        Given::Addresses(found) => {
            let lists = [
                ("addresses", &found.addresses),
                ("masks", &found.masks),
                ("gateways", &found.gateways),
                ("name servers", &found.name_servers),
            ];
            let line = |(name, list): &(&str, &Vec<String>)| {
                format!("{name:<13} {}\n", ui::one_line(&list.join(", ")))
            };
            lists.iter().map(line).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::pairs::{Pair, PoolName};

    #[test]
    fn what_a_guest_says_stays_on_its_line() {
        let pair = Pair { key: "k\n\u{1b}[2J".to_owned(), value: "v\nexit code 0".to_owned() };
        let shown = text(&Given::Pairs(vec![pair.clone()]));
        assert_eq!(shown.lines().count(), 1, "{shown:?}");
        assert!(!shown.contains('\u{1b}'));
        assert_eq!(text(&Given::Pair(pair)).lines().count(), 1);
    }

    #[test]
    fn a_request_that_no_server_takes_is_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        // It takes no client, and so reads nothing: what is sent fills the socket's buffer.
        let _server = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (key, value) = ("key".to_owned(), "x".repeat(1 << 20));
        let request = Request::KvpSet { pool: PoolName::External, key, value };
        let error = exchange(&Target::Socket(path), &Line { request, timeout: Duration::ZERO }).unwrap_err();
        assert!(error.to_string().contains("expected at most 65536"), "{error:#}");
    }

    #[test]
    fn a_reply_that_never_ends_is_not_waited_for() {
        let (stream, server) = UnixStream::pair().unwrap();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let told = std::sync::Arc::clone(&stop);
        // A byte for each time that it is asked for one: a limit for each read would never be reached.
        let sender = std::thread::spawn(move || {
            while !told.load(std::sync::atomic::Ordering::Relaxed) && (&server).write_all(b" ").is_ok() {
                std::thread::yield_now();
            }
        });
        let read = read_line(stream, Duration::from_millis(50)).unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(read, None);
        sender.join().unwrap();
    }
}
