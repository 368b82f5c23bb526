//! A run: from the start of QEMU, or of this program over KVM, to its end.

use std::ffi::OsString;
use std::fs::File;
use std::iter;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hv_vmm::Handed;
use hv_wire::{ExitKind, Report, VpReport};
use rustix::io::FdFlags;
use rustix::pipe::PipeFlags;

use super::command::Files;
use super::console::{Heard, Kept};
use super::debugger::Door;
use super::keyboard::Keyboard;
use super::{Accel, Backing, Console, Qmp, Ram, Settings, Silence, Sink, Typing, command};
use crate::child;
use crate::interrupt::{self, Orderly};
use crate::kvm;
use crate::net::{Network, Passt};
use crate::process;
use crate::ui;

/// Polling interval of a run: it ends this much late.
const WATCH: Duration = Duration::from_millis(5);
/// How long QEMU may take to exit after the hypervisor has recorded the end of the run.
const GRACE: Duration = Duration::from_secs(5);
/// How long QEMU and the hypervisor may take to start.
const MAPPED: Duration = Duration::from_secs(120);

/// Reason why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// QEMU exited.
    Exited(ExitStatus),
    /// The time limit was reached.
    Timeout,
    /// The user interrupted it.
    Interrupted,
}

/// Results of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What the machine was.
    pub(crate) accel: Accel,
    /// Why it ended.
    pub(crate) end: End,
    /// The hypervisor's report.
    pub(crate) report: Box<Report>,
    /// The report of each VP.
    pub(crate) vps: Vec<Box<VpReport>>,
    /// The end of the console output.
    pub(crate) console: String,
    /// Bytes at its beginning that the guest had printed before it was saved.
    pub(crate) console_earlier: usize,
    /// Number of console bytes that the reader did not take in time.
    pub(crate) console_dropped: u64,
    /// Number of console bytes that are not in `console`, since later ones are.
    pub(crate) console_left_out: u64,
    /// Why the console log is incomplete.
    pub(crate) log_failed: Option<std::io::Error>,
    /// The error output of QEMU, or of the process over KVM.
    pub(crate) complaints: String,
    /// When the tool saw that the hypervisor had recorded the end, after QEMU's start.
    pub(crate) over: Option<Duration>,
    /// Duration of the run.
    pub(crate) wall: Duration,
}

/// A machine that was saved: it continues where it was.
#[derive(Debug)]
pub(crate) struct Saved {
    /// Its RAM.
    pub(crate) ram: Ram,
    /// Everything else, as QEMU has saved it.
    pub(crate) state: Vec<u8>,
    /// What its guest had printed.
    pub(crate) console: Vec<u8>,
    /// What it had sent over the sockets' port, to which nothing was answered.
    pub(crate) sent: Vec<u8>,
}

/// A running machine. Dropping it ends its process: QEMU, or this program over KVM.
#[derive(Debug)]
pub(crate) struct Running {
    accel: Accel,
    child: Child,
    ram: Ram,
    console: Option<Console>,
    complaints: Option<process::Reader>,
    /// What the guest reads, until something forwards to it.
    typed: Option<ChildStdin>,
    keyboard: Option<Keyboard>,
    control: Option<UnixStream>,
    sockets: Option<UnixStream>,
    monitor: Option<Qmp>,
    _debugger: Option<Door>,
    _orderly: Orderly,
    started: Instant,
    timeout: Option<Duration>,
    silence: Option<Silence>,
    vps: u32,
}

/// Pairs of sockets, our end and the machine's: of the control port, of the sockets' port, and of the monitor.
struct Ports([Option<(UnixStream, UnixStream)>; 3]);

impl Ports {
    /// Creates those that the machine has.
    fn open(settings: &Settings) -> std::io::Result<Self> {
        let pair = |wanted: bool| wanted.then(UnixStream::pair).transpose();
        Ok(Self([pair(settings.control)?, pair(settings.sockets)?, pair(settings.monitor)?]))
    }

    /// Returns the descriptors of QEMU's ends.
    fn descriptors(&self) -> [Option<String>; 3] {
        self.0.each_ref().map(|pair| pair.as_ref().map(|(_, theirs)| theirs.as_raw_fd().to_string()))
    }

    /// Returns duplicates of the ends of the control port and of the sockets' port that are not ours.
    fn theirs(&self) -> std::io::Result<[Option<OwnedFd>; 2]> {
        let theirs = |port: usize| {
            let end = self.0[port].as_ref().map(|(_, theirs)| theirs.try_clone()).transpose();
            end.map(|end| end.map(OwnedFd::from))
        };
        Ok([theirs(0)?, theirs(1)?])
    }

    /// Lets a child inherit QEMU's ends.
    fn inherit(&self) -> std::io::Result<()> {
        for (_, theirs) in self.0.iter().flatten() {
            rustix::io::fcntl_setfd(theirs, FdFlags::empty())?;
        }
        Ok(())
    }
}

/// Returns the standard input of the process over KVM, with what it is handed over, and where what is typed goes, if
/// something is.
fn hand_over(
    ports: &Ports,
    passt: Option<&Passt>,
    capture: Option<&File>,
    is_typed: bool,
) -> std::io::Result<(OwnedFd, Option<ChildStdin>)> {
    let pipe = is_typed.then(|| rustix::pipe::pipe_with(PipeFlags::CLOEXEC)).transpose()?;
    let (typed, typing) = pipe.unzip();
    let [control, sockets] = ports.theirs()?;
    let network = passt.map(Passt::end).transpose()?;
    let capture = capture.map(File::try_clone).transpose()?.map(OwnedFd::from);
    let stdin = Handed { typed, control, sockets, network, capture }.send()?;
    Ok((stdin, typing.map(ChildStdin::from)))
}

impl Running {
    /// Starts the machine with the contents of `ram`. Its console is shown in `sink`, recorded in `log`, and passed to
    /// `heard`.
    pub(crate) fn start(
        settings: &Settings,
        ram: Ram,
        sink: Sink,
        log: Option<File>,
        heard: Heard,
    ) -> anyhow::Result<Self> {
        let mut running = Self::launch(settings, ram, (sink, log, heard), false)?;
        running.begin_typing(settings);
        Ok(running)
    }

    /// Forwards to the guest what is typed.
    fn begin_typing(&mut self, settings: &Settings) {
        let typed = self.typed.take().zip(self.console.as_ref());
        self.keyboard = typed.and_then(|(guest, console)| settings.typing.forward(guest, console.prompt()));
    }

    /// Resumes a machine that was saved under the same settings, and returns it with what it had sent over the
    /// sockets' port.
    ///
    /// # Errors
    /// QEMU does not take it.
    pub(crate) fn resume(
        settings: &Settings,
        saved: Saved,
        sink: Sink,
        log: Option<File>,
    ) -> anyhow::Result<(Self, Vec<u8>)> {
        let Saved { ram, state, console, sent } = saved;
        let mut running = Self::launch(settings, ram, (sink, log, None), true)?;
        if let Some(output) = &running.console {
            output.precede(&console);
        }
        running.monitor.as_mut().context("a machine without a monitor cannot be resumed")?.restore(state)?;
        let child = running.child.id();
        running.ram.mapped_by(child);
        settings.backings.iter().for_each(|backing| backing.mapped_by(child));
        // Not before: it would be typed for the machine that QEMU has given up.
        running.begin_typing(settings);
        Ok((running, sent))
    }

    fn launch(
        settings: &Settings,
        ram: Ram,
        (sink, log, heard): (Sink, Option<File>, Heard),
        incoming: bool,
    ) -> anyhow::Result<Self> {
        let orderly = interrupt::orderly();
        // First: it must not inherit what is the machine's.
        let network = settings.network.as_ref();
        let passt = network.and_then(Network::start).transpose()?;
        let paths = ram.inherit()?;
        let debugger = settings.gdb.as_ref().map(Door::open).transpose()?;
        let gdb = debugger.as_ref().map(Door::words);
        let backings: Vec<String> = settings.backings.iter().map(Backing::path).collect();
        let ports = Ports::open(settings)?;
        let descriptors = ports.descriptors();
        let inherited = passt.as_ref().filter(|_| settings.emulator.is_some());
        let passt_descriptor = inherited.map(Passt::inherit).transpose()?;
        let capture = network.and_then(|network| network.capture.as_deref());
        let capture_path = capture.map(|file| format!("/proc/self/fd/{}", file.as_raw_fd()));
        let files = Files {
            ram: &paths,
            backings: &backings,
            control: descriptors[0].as_deref(),
            sockets: descriptors[1].as_deref(),
            passt: passt_descriptor.as_deref(),
            capture: capture_path.as_deref(),
            gdb: gdb.as_deref(),
            monitor: descriptors[2].as_deref(),
            incoming,
        };
        let (program, arguments) = match &settings.emulator {
            Some(emulator) => {
                (emulator.qemu.path.as_path(), command::arguments(settings, emulator, &files, ram.layout()))
            }
            None => {
                let words = iter::once(kvm::NAME).chain(paths.iter().chain(&backings).map(String::as_str));
                (Path::new(child::SELF), words.map(OsString::from).collect())
            }
        };
        settings.backings.iter().try_for_each(|backing| backing.inherit(true))?;
        let is_typed = settings.typing != Typing::Nothing;
        let (stdin, mut typed) = if settings.emulator.is_some() {
            ports.inherit()?;
            if let Some(file) = capture {
                rustix::io::fcntl_setfd(file, FdFlags::empty())?;
            }
            (if is_typed { Stdio::piped() } else { Stdio::null() }, None)
        } else {
            let (stdin, typed) = hand_over(&ports, passt.as_ref(), capture, is_typed)?;
            (stdin.into(), typed)
        };
        let mut child = child::tied(program, &arguments)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A process group of its own: Ctrl-C goes only to us, and we shut QEMU down in an orderly way.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", settings.accel().program()))?;
        ram.disinherit()?;
        settings.backings.iter().try_for_each(|backing| backing.inherit(false))?;
        if let Some(file) = capture {
            rustix::io::fcntl_setfd(file, FdFlags::CLOEXEC)?;
        }
        let debugger = debugger.map(Door::started);
        let console = child.stdout.take().map(|pipe| Console::start(pipe, sink, log, heard));
        let complaints = child.stderr.take().map(|pipe| process::collect(pipe, |_| {}));
        typed = typed.or(child.stdin.take());
        let [control, sockets, monitor] = ports.0.map(|pair| pair.map(|(ours, _)| ours));
        Ok(Self {
            accel: settings.accel(),
            child,
            ram,
            console,
            complaints,
            typed,
            keyboard: None,
            control,
            sockets,
            monitor: monitor.map(Qmp::new).transpose()?,
            _debugger: debugger,
            _orderly: orderly,
            started: Instant::now(),
            timeout: settings.timeout,
            silence: settings.silence.clone(),
            vps: settings.vps,
        })
    }

    /// Returns the tool's end of the control port, once, if the machine has one.
    pub(crate) fn control(&mut self) -> Option<UnixStream> {
        self.control.take()
    }

    /// Returns the tool's end of the sockets' port, once, if the machine has one.
    pub(crate) fn sockets(&mut self) -> Option<UnixStream> {
        self.sockets.take()
    }

    /// Returns QEMU's monitor, once, if it has one.
    pub(crate) fn monitor(&mut self) -> Option<Qmp> {
        self.monitor.take()
    }

    /// Returns another handle of the machine's RAM.
    pub(crate) fn ram(&self) -> Ram {
        self.ram.clone()
    }

    /// Returns what the guest has printed until the result is called.
    pub(crate) fn printed_so_far(&self) -> Option<impl Fn() -> Vec<u8> + Send + use<>> {
        self.console.as_ref().map(Console::so_far)
    }

    /// Calls a function, in a thread of its own, once QEMU has mapped all memory: the hypervisor runs then. If it never
    /// does, the function is not called.
    pub(crate) fn once_mapped(&self, then: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
        let (ram, limit) = (self.ram.clone(), Instant::now() + MAPPED);
        std::thread::spawn(move || {
            while Instant::now() < limit {
                if ram.report().is_ok_and(|report| report.magic == Report::MAGIC) {
                    return then();
                }
                std::thread::sleep(process::POLL);
            }
        });
        Ok(())
    }

    /// Waits for the end of the run.
    pub(crate) fn wait(mut self) -> anyhow::Result<Outcome> {
        let (end, over) = self.watch()?;
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.keyboard.take().is_some_and(|keyboard| keyboard.is_untyped()) {
            ui::note("What was piped in was not typed: the guest has shown no prompt");
        }
        let Kept { text, earlier, dropped, left_out, log_failed } =
            self.console.take().map(Console::finish).unwrap_or_default();
        let complaints = self.complaints.take().map(process::Reader::finish).unwrap_or_default();
        Ok(Outcome {
            accel: self.accel,
            end,
            report: self.ram.report()?,
            vps: self.ram.vp_reports(self.vps)?,
            console: text,
            console_earlier: earlier,
            console_dropped: dropped,
            console_left_out: left_out,
            log_failed,
            complaints,
            over,
            wall: self.started.elapsed(),
        })
    }

    /// Waits for the end of the run; returns its reason, and when the hypervisor had recorded it.
    fn watch(&mut self) -> anyhow::Result<(End, Option<Duration>)> {
        let mut over: Option<Duration> = None;
        let mut heard = (0, Instant::now());
        loop {
            let printed = self.console.as_ref().map_or(0, Console::printed);
            if printed != heard.0 {
                heard = (printed, Instant::now());
            }
            // Printed once.
            if let Some(silence) = self.silence.take_if(|silence| silence.is_due(heard.1.elapsed())) {
                ui::note(&silence.hint(printed != 0));
            }
            let exited = self.child.try_wait()?;
            if over.is_none() && self.is_over()? {
                over = Some(self.started.elapsed());
            }
            if let Some(status) = exited {
                return Ok((End::Exited(status), over));
            }
            if interrupt::requested() {
                return Ok((End::Interrupted, over));
            }
            let elapsed = self.started.elapsed();
            let timeout = self.timeout.is_some_and(|timeout| elapsed >= timeout);
            if timeout || over.is_some_and(|over| elapsed >= over + GRACE) {
                return Ok((End::Timeout, over));
            }
            std::thread::sleep(WATCH);
        }
    }

    /// Returns true once the hypervisor has recorded the end of the run.
    fn is_over(&self) -> anyhow::Result<bool> {
        let report = self.ram.report()?;
        Ok(report.magic == Report::MAGIC && report.exit != ExitKind::Running as u32)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
