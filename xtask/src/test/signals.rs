//! Commands that run no guest end with the first signal, wherever they are; and what a second signal undoes all the
//! same.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use super::context::{Context, HUNG_SECONDS};
use super::life::until;
use super::runner::Step;
use hv_setup::exit::Exit;
use hv_setup::process;

const SIGNALS: [(&str, Signal); 4] = [
    ("ctrl-c", Signal::INT),
    ("ctrl-backslash", Signal::QUIT),
    ("terminated", Signal::TERM),
    ("terminal-gone", Signal::HUP),
];

/// Commands that read a file, which stands at the end.
const READERS: [(&str, &[&str]); 6] = [
    ("trace", &["trace"]),
    ("trace-summary", &["trace", "--summary"]),
    ("conformance-read", &["conformance", "--read"]),
    ("bench-compare", &["bench", "--compare"]),
    ("boot-kernel", &["boot", "--kernel"]),
    ("boot-symbols", &["boot", "--symbols"]),
];

/// Returns the scenarios.
pub(super) fn steps() -> impl Iterator<Item = Step> {
    let readers = READERS.into_iter().map(|(name, line)| {
        Step::new(format!("life/first-signal-ends-{name}"), move |context| {
            SIGNALS.into_iter().try_for_each(|(name, signal)| {
                reading(context, line, signal).with_context(|| name.to_owned())
            })
        })
    });
    readers.chain([
        Step::new("life/first-signal-ends-a-command-that-is-not-read", not_read),
        Step::new("life/signal-is-no-fault-of-a-program", in_a_check),
        Step::new("life/nohup-outlives-its-terminal", nohup),
        Step::new("life/second-signal-leaves-nothing", second),
        Step::new("life/killed-with-a-debuggers-socket", killed),
    ])
}

/// Runs a command that waits for the rest of a file that does not come.
fn reading(context: &Context, line: &[&str], signal: Signal) -> anyhow::Result<()> {
    let fifo = context.folder()?.join("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let file = fifo.to_string_lossy();
    let line: Vec<&str> = line.iter().copied().chain([&*file]).collect();
    let mut command = context.command_that_hangs_up(&line);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    // Opens when the other side does.
    let writer = opened(&fifo, &mut child)?;
    let result = end(&mut child, signal);
    drop(writer);
    let _ = child.kill();
    let _ = child.wait();
    result
}

/// Returns the writing side of a pipe that `child` reads.
fn opened(fifo: &Path, child: &mut Child) -> anyhow::Result<File> {
    use rustix::fs::OFlags;
    let mut found = None;
    until("the command reads its file", || {
        ensure!(child.try_wait()?.is_none(), "it has ended before");
        found =
            rustix::fs::open(fifo, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok();
        Ok(found.is_some())
    })?;
    Ok(found.context("no pipe")?.into())
}

/// Runs a command that has more output than its reader reads.
fn not_read(context: &Context) -> anyhow::Result<()> {
    for (name, signal) in SIGNALS {
        let mut command = context.command_that_hangs_up(&["abi", "--json", ""]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut stdout = child.stdout.take().context("no stdout")?;
        stdout.read_exact(&mut [0])?;
        let result = end(&mut child, signal).context(name);
        let _ = child.kill();
        let _ = child.wait();
        result?;
    }
    Ok(())
}

/// Checks that a command that is interrupted while it looks at QEMU says that, and not that QEMU does not work.
fn in_a_check(context: &Context) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let (fifo, qemu) = (folder.join("fifo"), folder.join("qemu"));
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    std::fs::write(&qemu, format!("#!/bin/sh\nexec cat '{}'\n", fifo.display()))?;
    std::fs::set_permissions(&qemu, std::fs::Permissions::from_mode(0o755))?;
    let mut command = context.command(&["boot", "--quiet", "--qemu"])?;
    command.arg(&qemu).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let stderr = child.stderr.take().map(|pipe| process::collect(pipe, |_| {}));
    let result = opened(&fifo, &mut child).and_then(|_writer| end(&mut child, Signal::INT));
    let _ = child.kill();
    let _ = child.wait();
    let said = stderr.map(process::Reader::finish).unwrap_or_default();
    result.with_context(|| said.clone())?;
    ensure!(said.trim_end().ends_with("error: interrupted") && !said.contains("QEMU"), "it says {said}");
    Ok(())
}

/// Checks that a command under nohup(1) continues when its terminal is closed.
fn nohup(context: &Context) -> anyhow::Result<()> {
    let fifo = context.folder()?.join("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let line = context.command(&["trace".as_ref(), fifo.as_os_str()])?;
    // It becomes the program.
    let mut command = Command::new("nohup");
    command.arg(line.get_program()).args(line.get_args());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let result = (|| {
        let writer = opened(&fifo, &mut child)?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("no process id")?;
        rustix::process::kill_process(pid, Signal::HUP)?;
        // The end of its input is what ends it.
        drop(writer);
        until("the command has ended", || Ok(child.try_wait()?.is_some()))?;
        let status = child.wait()?;
        ensure!(status.code() == Some(Exit::Usage as i32), "it ended with {status}");
        Ok(())
    })();
    let _ = child.kill();
    let _ = child.wait();
    result
}

/// Opens a terminal: our side, and the side of programs.
pub(super) fn terminal() -> anyhow::Result<(OwnedFd, OwnedFd)> {
    use rustix::fs::OFlags;
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let theirs = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((ours, theirs))
}

/// Starts a machine that waits for a debugger, and whose keyboard is a terminal; returns the folder of the debugger's
/// socket.
fn waiting(context: &Context, terminal: &OwnedFd, temporary: &Path) -> anyhow::Result<(Child, PathBuf)> {
    std::fs::create_dir(temporary)?;
    let line = context.command(&["boot", "--quiet", "--vps", "1", "--timeout", HUNG_SECONDS, "--gdb"])?;
    // Without --fork it becomes the program.
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(line.get_program()).args(line.get_args()).env("TMPDIR", temporary);
    command.stdin(terminal.try_clone()?).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut folder = PathBuf::new();
    until("the machine waits", || {
        ensure!(child.try_wait()?.is_none(), "hv boot has ended before");
        let entries = std::fs::read_dir(temporary)?.flatten().map(|entry| entry.path());
        let found = entries.into_iter().find(|path| path.join("gdb.sock").exists());
        folder = found.unwrap_or_default();
        Ok(!echoes(terminal)? && !folder.as_os_str().is_empty())
    })?;
    Ok((child, folder))
}

/// Returns true if the terminal shows what is typed, as it does while no program has changed it.
pub(super) fn echoes(terminal: &OwnedFd) -> anyhow::Result<bool> {
    Ok(tcgetattr(terminal)?.local_modes.contains(LocalModes::ECHO))
}

/// Checks that a second signal before the answer to the first one leaves the terminal as before, and no folder.
fn second(context: &Context) -> anyhow::Result<()> {
    let dir = context.folder()?;
    for round in 0..3 {
        let (_ours, theirs) = terminal()?;
        ensure!(echoes(&theirs)?, "a new terminal does not echo");
        let temporary = dir.join(round.to_string());
        let (mut child, _) = waiting(context, &theirs, &temporary)?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("no process id")?;
        rustix::process::kill_process(pid, Signal::INT)?;
        let result = end(&mut child, Signal::TERM);
        let _ = child.kill();
        let _ = child.wait();
        result?;
        ensure!(echoes(&theirs)?, "the terminal does not echo");
        let left: Vec<_> = std::fs::read_dir(&temporary)?.flatten().map(|entry| entry.path()).collect();
        ensure!(left.is_empty(), "{left:?} is left");
    }
    Ok(())
}

/// Checks that what a killed run leaves is named by `hv clean --list`, and removed by `hv clean`. What a running one
/// has is not.
fn killed(context: &Context) -> anyhow::Result<()> {
    let dir = context.folder()?;
    let temporary = dir.join("tmp");
    let (_ours, theirs) = terminal()?;
    let (mut child, folder) = waiting(context, &theirs, &temporary)?;
    let clean = |option: &[&str]| -> anyhow::Result<String> {
        let mut command = context.command(&[&["clean"], option].concat())?;
        command.env("TMPDIR", &temporary).env("XDG_CACHE_HOME", &dir);
        Ok(process::run(&mut command, || {})?.stdout)
    };
    let name = folder.to_string_lossy();
    let while_it_runs = clean(&[])?;
    child.kill()?;
    child.wait()?;
    ensure!(
        !while_it_runs.contains(&*name) && folder.exists(),
        "a folder in use is removed: {while_it_runs}"
    );
    let listed = clean(&["--list"])?;
    ensure!(listed.contains(&*name) && folder.exists(), "hv clean --list says {listed}");
    let removed = clean(&[])?;
    ensure!(removed.contains(&*name) && !folder.exists(), "hv clean says {removed}");
    Ok(())
}

/// Sends a signal, once, and waits for the end that it brings.
pub(super) fn end(child: &mut Child, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("no process id")?;
    rustix::process::kill_process(pid, signal)?;
    until("the command has ended", || Ok(child.try_wait()?.is_some()))?;
    let status = child.wait()?;
    ensure!(status.code() == Some(Exit::Interrupted as i32), "it ended with {status}");
    Ok(())
}
