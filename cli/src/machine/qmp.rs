//! QMP, QEMU's machine protocol (QEMU, docs/interop/qmp-spec): the requests that save a running machine, and
//! that resume a saved one.
//!
//! QEMU saves its devices alone: RAM is in files that the tool has. A migration would take the RAM along that QEMU maps
//! privately, so the request is `xen-save-devices-state`, which never does (QEMU, qapi/migration.json). What it writes
//! is read as a migration is, without the two parts that only `migrate` writes: the configuration and the description.
//! What it reads comes through a pipe: its sandbox lets it run no program.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, PipeWriter, Read, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::MemfdFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::{Value, json};

use crate::interrupt;
use crate::process::POLL;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Bytes of an answer at most; the greeting has the most of those that are asked for here.
const LONGEST: usize = 1 << 20;
/// Bytes that QEMU saves at most, besides RAM; a machine with eight CPUs takes less than 1 MiB.
pub(crate) const LARGEST_STATE: u64 = 64 << 20;
/// Name of the pipe that QEMU reads from.
const PIPE: &str = "state";

/// The tool's end of QEMU's monitor.
#[derive(Debug)]
pub(crate) struct Qmp {
    socket: UnixStream,
    /// What was read and is not a whole line.
    bytes: Vec<u8>,
    /// QEMU takes requests.
    open: bool,
}

impl Qmp {
    /// Takes the socket, whose other end QEMU has. QEMU may start later.
    pub(super) fn new(socket: UnixStream) -> anyhow::Result<Self> {
        socket.set_read_timeout(Some(POLL))?;
        socket.set_write_timeout(Some(LIMIT))?;
        Ok(Self { socket, bytes: Vec::new(), open: false })
    }

    /// Stops the machine, does `work`, and lets the machine continue, whether the work succeeded or not.
    ///
    /// # Errors
    /// Those of the work; QEMU does not answer, or has ended.
    pub(crate) fn pause<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.open()?;
        // Also if it did not answer: it may have stopped the machine nevertheless.
        let done = self.ask("stop", &json!({})).and_then(|_| work(self));
        let gone_on = self.ask("cont", &json!({}));
        let done = done?;
        gone_on.map(|_| done)
    }

    /// Returns what QEMU saves of the machine, which is stopped: the devices, with the CPUs.
    ///
    /// # Errors
    /// QEMU cannot save this machine, or has ended.
    pub(crate) fn state(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut state = File::from(rustix::fs::memfd_create("hv-state", MemfdFlags::CLOEXEC)?);
        // QEMU takes a descriptor to write to for a file to write to alone.
        let writer = File::options().write(true).open(format!("/proc/self/fd/{}", state.as_raw_fd()))?;
        let answer = self.give("add-fd", &json!({}), writer.as_fd())?;
        let set = answer.get("fdset-id").and_then(Value::as_u64).context("QEMU's add-fd returns no set")?;
        let file = json!({ "filename": format!("/dev/fdset/{set}"), "live": false });
        let saved = self.ask("xen-save-devices-state", &file);
        // QEMU closes its end when the machine continues.
        self.ask("remove-fd", &json!({ "fdset-id": set }))?;
        saved?;
        let mut bytes = Vec::new();
        (&mut state).take(LARGEST_STATE + 1).read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 <= LARGEST_STATE, "QEMU's state has more than {LARGEST_STATE} bytes");
        Ok(bytes)
    }

    /// Has a QEMU that waits for a machine take this one, which continues.
    ///
    /// # Errors
    /// It is not a machine that this QEMU, with its command line, has saved; or QEMU has ended.
    pub(super) fn restore(&mut self, state: Vec<u8>) -> anyhow::Result<()> {
        self.open()?;
        let (reader, writer) = io::pipe()?;
        self.give("getfd", &json!({ "fdname": PIPE }), reader.as_fd())?;
        drop(reader);
        // The thread ends with QEMU at the latest.
        std::thread::spawn(move || {
            let mut writer: PipeWriter = writer;
            writer.write_all(&state)
        });
        self.ask("migrate-incoming", &json!({ "uri": format!("fd:{PIPE}") }))?;
        self.migrated()
    }

    /// Ends the negotiation of capabilities.
    fn open(&mut self) -> anyhow::Result<()> {
        if self.open {
            return Ok(());
        }
        let greeting = self.line()?;
        ensure!(greeting.get("QMP").is_some(), "QEMU's monitor greets with {greeting}; expected QMP");
        self.ask("qmp_capabilities", &json!({}))?;
        self.open = true;
        Ok(())
    }

    /// Waits for the end of a migration.
    fn migrated(&mut self) -> anyhow::Result<()> {
        let limit = Instant::now() + LIMIT;
        loop {
            let answer = self.ask("query-migrate", &json!({}))?;
            match answer.get("status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some(status @ ("failed" | "cancelled")) => {
                    let why = answer.get("error-desc").and_then(Value::as_str).unwrap_or("no reason given");
                    bail!("QEMU's migration {status}: {why}");
                }
                status => ensure!(Instant::now() < limit, "QEMU's migration does not end: {status:?}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends a request, and returns the answer.
    fn ask(&mut self, command: &str, arguments: &Value) -> anyhow::Result<Value> {
        let line = request(command, arguments);
        self.socket.write_all(&line).with_context(|| format!("cannot send {command} to QEMU"))?;
        self.answer(command)
    }

    /// Sends a request together with a descriptor, and returns the answer.
    fn give(
        &mut self,
        command: &str,
        arguments: &Value,
        descriptor: BorrowedFd<'_>,
    ) -> anyhow::Result<Value> {
        let line = request(command, arguments);
        let descriptors = [descriptor];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        ensure!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "no room for a descriptor");
        let sent =
            rustix::net::sendmsg(&self.socket, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)?;
        self.socket.write_all(line.get(sent..).unwrap_or_default())?;
        self.answer(command)
    }

    /// Reads the answer to a request. Events between two are of no interest.
    fn answer(&mut self, command: &str) -> anyhow::Result<Value> {
        loop {
            let mut line = self.line()?;
            if let Some(error) = line.get("error") {
                let why = error.get("desc").and_then(Value::as_str).unwrap_or("no reason given");
                bail!("QEMU refuses {command}: {why}");
            }
            if let Some(answer) = line.get_mut("return") {
                return Ok(answer.take());
            }
        }
    }

    /// Reads a line.
    fn line(&mut self) -> anyhow::Result<Value> {
        let limit = Instant::now() + LIMIT;
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                return serde_json::from_slice(&line).context("QEMU's monitor sent invalid JSON");
            }
            interrupt::check()?;
            ensure!(self.bytes.len() < LONGEST, "QEMU's monitor sends a line of more than {LONGEST} bytes");
            ensure!(Instant::now() < limit, "QEMU's monitor does not answer");
            let mut buffer = [0; 4096];
            match self.socket.read(&mut buffer) {
                Ok(0) => bail!("QEMU has ended"),
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(error) if is_none_yet(&error) => {}
                Err(error) => return Err(error).context("cannot read from QEMU's monitor"),
            }
        }
    }
}

/// Returns true if nothing has come so far.
fn is_none_yet(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Builds the line of a request.
fn request(command: &str, arguments: &Value) -> Vec<u8> {
    let mut line = json!({ "execute": command, "arguments": arguments }).to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    /// Plays QEMU: greets, and answers each request with the next line. Returns the requests.
    fn qemu(socket: UnixStream, answers: &'static [&'static str]) -> std::thread::JoinHandle<Vec<String>> {
        std::thread::spawn(move || {
            let mut reader = BufReader::new(socket.try_clone().unwrap());
            let mut socket = socket;
            writeln!(socket, "{{\"QMP\": {{}}}}\r").unwrap();
            let mut requests = Vec::new();
            for answer in answers {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let request: Value = serde_json::from_str(&line).unwrap();
                requests.push(request["execute"].as_str().unwrap().to_owned());
                writeln!(socket, "{answer}").unwrap();
            }
            requests
        })
    }

    const DONE: &str = "{\"return\": {}}";

    #[test]
    fn a_machine_goes_on_whatever_was_done_meanwhile() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let playing = qemu(theirs, &[DONE, "{\"event\": \"STOP\"}\n{\"return\": {}}", DONE]);
        let mut qmp = Qmp::new(ours).unwrap();
        let failed = qmp.pause(|_| -> anyhow::Result<()> { bail!("no room") });
        assert_eq!(failed.unwrap_err().to_string(), "no room");
        assert_eq!(playing.join().unwrap(), ["qmp_capabilities", "stop", "cont"]);
    }

    #[test]
    fn what_qemu_refuses_is_an_error_with_its_reason() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        const REFUSED: &str = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such state\"}}";
        let playing = qemu(theirs, &[DONE, REFUSED, DONE]);
        let error = Qmp::new(ours).unwrap().pause(|_| Ok(())).unwrap_err().to_string();
        assert_eq!(error, "QEMU refuses stop: no such state");
        assert_eq!(playing.join().unwrap(), ["qmp_capabilities", "stop", "cont"]);
    }

    #[test]
    fn a_qemu_that_ends_or_talks_nonsense_is_an_error() {
        for (said, expected) in
            [("", "QEMU has ended"), ("no JSON\n", "invalid JSON"), ("{\"x\": 1}\n", "greets with")]
        {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(said.as_bytes()).unwrap();
            drop(theirs);
            let error = Qmp::new(ours).unwrap().restore(Vec::new()).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
}
