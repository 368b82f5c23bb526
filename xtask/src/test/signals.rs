//! Commands that run no guest end with the first signal, wherever they are.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context as _, ensure};
use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, Signal};

use super::context::Context;
use super::life::until;
use super::runner::Step;
use hv_setup::exit::Exit;

const SIGNALS: [(&str, Signal); 3] =
    [("ctrl-c", Signal::INT), ("terminated", Signal::TERM), ("terminal-gone", Signal::HUP)];

/// Commands that read a file, which stands at the end.
const READERS: [(&str, &[&str]); 6] = [
    ("trace", &["trace"]),
    ("trace-summary", &["trace", "--summary"]),
    ("conformance-read", &["conformance", "--read"]),
    ("bench-compare", &["bench", "--compare"]),
    ("boot-kernel", &["boot", "--kernel"]),
    ("boot-symbols", &["boot", "--symbols"]),
];

/// The scenarios.
pub(super) fn steps() -> impl Iterator<Item = Step> {
    let readers = READERS.into_iter().map(|(name, line)| {
        Step::new(format!("life/first-signal-ends-{name}"), move |context| {
            SIGNALS.into_iter().try_for_each(|(name, signal)| {
                reading(context, line, signal).with_context(|| name.to_owned())
            })
        })
    });
    readers.chain([Step::new("life/first-signal-ends-a-command-that-is-not-read", not_read)])
}

/// A command waits for the rest of a file that does not come.
fn reading(context: &Context, line: &[&str], signal: Signal) -> anyhow::Result<()> {
    let fifo = context.folder()?.join("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let file = fifo.to_string_lossy();
    let line: Vec<&str> = line.iter().copied().chain([&*file]).collect();
    let mut child = context.command(&line)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    // Opens when the other side does.
    let writer = opened(&fifo, &mut child)?;
    let result = end(&mut child, signal);
    drop(writer);
    let _ = child.kill();
    let _ = child.wait();
    result
}

/// The writing side of a pipe that `child` reads.
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

/// A command has more to say than its reader takes.
fn not_read(context: &Context) -> anyhow::Result<()> {
    for (name, signal) in SIGNALS {
        let mut child =
            context.command(&["abi", "--json", ""])?.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut stdout = child.stdout.take().context("no stdout")?;
        stdout.read_exact(&mut [0])?;
        let result = end(&mut child, signal).context(name);
        let _ = child.kill();
        let _ = child.wait();
        result?;
    }
    Ok(())
}

/// Sends a signal, once, and waits for the end that it brings.
fn end(child: &mut Child, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("no process id")?;
    rustix::process::kill_process(pid, signal)?;
    until("the command has ended", || Ok(child.try_wait()?.is_some()))?;
    let status = child.wait()?;
    ensure!(status.code() == Some(Exit::Interrupted as i32), "it ended with {status}");
    Ok(())
}
