//! The command as a process: its streams, and its end.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};

use hv_wire::control::FromAgent;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::pty::OpenptFlags;

use crate::order::{Order, Terminal};

/// Where a command is looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a terminal takes for the end of its input: Ctrl-D.
const END_OF_INPUT: u8 = 4;

/// A running command.
pub(crate) struct Job {
    child: Child,
    /// Readable once the command has ended.
    pub(crate) ended: OwnedFd,
    /// Its stdin, or its terminal; `None` once it takes no more.
    pub(crate) stdin: Option<File>,
    /// Bytes for its stdin; the tool bounds them.
    pending: VecDeque<u8>,
    /// No more bytes will come.
    input_ended: bool,
    /// Its stdout and stderr; `None` once they have ended.
    pub(crate) outputs: [Option<File>; 2],
    /// Its terminal, if it has one.
    terminal: Option<File>,
}

impl Job {
    /// Starts the command.
    ///
    /// # Errors
    /// There is no such command, or it is not a program.
    pub(crate) fn start(order: &Order) -> io::Result<Self> {
        if order.is_too_long() {
            return Err(rustix::io::Errno::TOOBIG.into());
        }
        match &order.terminal {
            Some(terminal) => Self::on_terminal(order, terminal),
            None => Self::on_pipes(order),
        }
    }

    fn on_pipes(order: &Order) -> io::Result<Self> {
        let (program, arguments) = order.words.split_first().ok_or(ErrorKind::NotFound)?;
        let mut child = Command::new(program)
            .args(arguments)
            .env("PATH", PATH)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A signal reaches what the command has started, too.
            .process_group(0)
            .spawn()?;
        let stdin = child.stdin.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        let stdout = child.stdout.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        let stderr = child.stderr.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        Self::watched(child, stdin, [stdout, stderr], None)
    }

    fn on_terminal(order: &Order, terminal: &Terminal) -> io::Result<Self> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::pty::unlockpt(&master)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let slave = rustix::fs::open(
            name.as_c_str(),
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        rustix::termios::tcsetwinsize(&slave, terminal.size)?;
        // busybox's setsid makes its stdin the terminal of the new session, which has job control.
        let child = Command::new("setsid")
            .args(["-c", "--"])
            .args(&order.words)
            .env("PATH", PATH)
            .env("TERM", &terminal.kind)
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave)
            .spawn()?;
        let master = File::from(master);
        let (stdin, stdout) = (master.try_clone()?, master.try_clone()?);
        Self::watched(child, Some(stdin), [Some(stdout), None], Some(master))
    }

    fn watched(
        child: Child,
        stdin: Option<File>,
        outputs: [Option<File>; 2],
        terminal: Option<File>,
    ) -> io::Result<Self> {
        for file in stdin.iter().chain(outputs.iter().flatten()) {
            rustix::fs::fcntl_setfl(file, OFlags::NONBLOCK)?;
        }
        let ended = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Self { child, ended, stdin, pending: VecDeque::new(), input_ended: false, outputs, terminal })
    }

    /// Returns true if bytes wait for the command to read them.
    pub(crate) fn has_input(&self) -> bool {
        self.stdin.is_some() && (!self.pending.is_empty() || self.input_ended)
    }

    /// Takes bytes for the command's stdin, and returns how many of them it will never read.
    pub(crate) fn input(&mut self, bytes: &[u8]) -> usize {
        if self.stdin.is_none() {
            return bytes.len();
        }
        self.pending.extend(bytes);
        0
    }

    /// Ends its stdin after what it has not read.
    pub(crate) fn end_input(&mut self) {
        self.input_ended = true;
    }

    /// Writes what the command's stdin takes, and returns how many bytes wait no more.
    pub(crate) fn feed(&mut self) -> usize {
        let before = self.pending.len();
        while let Some(stdin) = &mut self.stdin {
            let (front, _) = self.pending.as_slices();
            let end = [END_OF_INPUT];
            let (bytes, is_end) = match front {
                [] if !self.input_ended => break,
                [] => (&end[..], true),
                front => (front, false),
            };
            if is_end && self.terminal.is_none() {
                self.stdin = None;
                break;
            }
            match stdin.write(bytes) {
                Ok(_) if is_end => self.stdin = None,
                Ok(count) => drop(self.pending.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The command reads no more.
                Err(_) => {
                    self.stdin = None;
                    self.pending.clear();
                }
            }
        }
        before - self.pending.len()
    }

    /// Reads from one of its outputs; `None` if nothing is there now, or ever again.
    pub(crate) fn read<'b>(&mut self, which: usize, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let file = self.outputs.get_mut(which)?.as_mut()?;
        loop {
            match file.read(buffer) {
                Ok(count @ 1..) => return Some(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                // A terminal that no process has open reports an error.
                Ok(_) | Err(_) => {
                    self.outputs[which] = None;
                    return None;
                }
            }
        }
    }

    /// Closes an output that is no longer read: the command gets SIGPIPE, as in a pipeline.
    pub(crate) fn close(&mut self, which: usize) {
        if let Some(output) = self.outputs.get_mut(which) {
            *output = None;
        }
    }

    /// Sends a signal to the command and to what it has started.
    pub(crate) fn signal(&self, number: u32) {
        let signal = i32::try_from(number).ok().and_then(Signal::from_named_raw);
        if let Some(signal) = signal {
            // It may have ended.
            let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), signal);
        }
    }

    /// Gives its terminal another size.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        if let Some(terminal) = &self.terminal {
            let _ = rustix::termios::tcsetwinsize(terminal, crate::order::winsize(rows, columns));
        }
    }

    /// Returns how the command ended, if it has.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

/// Returns the message of a command that has ended.
pub(crate) fn outcome(status: ExitStatus) -> FromAgent<'static> {
    match (status.code(), status.signal()) {
        (Some(code), _) => FromAgent::Exited { status: code as u8 },
        (None, signal) => FromAgent::Killed { signal: signal.unwrap_or_default() as u8 },
    }
}
