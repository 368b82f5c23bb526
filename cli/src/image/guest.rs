//! The guest that unpacks a bundle on an image's root, and configures the packages there: a stock kernel with the agent
//! of `hv exec`, which runs `configure.sh`.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};

use anyhow::Context as _;

use crate::setup::child;
use crate::{interrupt, process, ui};

/// The script that the guest runs.
pub(super) const SCRIPT: &str = include_str!("configure.sh");
/// What the lines of its output that name a step begin with, and dpkg's for each package.
const STEP: &str = "step: ";
const PACKAGE: &str = "Setting up ";
/// The step that begins when everything is unpacked and on the disk.
const CONFIGURING: &str = "configuring";
/// Lines of the output that are shown after a failure.
const TAIL: usize = 20;
/// Memory of the guest: the initrd is packed with zstd.
const MEMORY: &str = "1G";

/// Work for the guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job<'a> {
    pub(super) image: &'a Path,
    pub(super) bundle: &'a Path,
    /// The bundle is unpacked.
    pub(super) resume: bool,
    /// Number of packages.
    pub(super) packages: usize,
}

/// A failure of the guest, with the end of its output.
#[derive(Debug, thiserror::Error)]
#[error("the guest could not configure the packages ({status}):\n{tail}")]
pub(super) struct Failed {
    status: std::process::ExitStatus,
    tail: String,
}

/// Runs the job in a guest. `unpacked` is called when the bundle is unpacked.
///
/// # Errors
/// [`Failed`], or a signal came.
pub(super) fn run(job: Job<'_>, mut unpacked: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let _orderly = interrupt::orderly();
    let mut command = child::tied(Path::new(child::SELF), &line(job));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut task = ui::Task::new(if job.resume {
        "Starting a guest that continues to configure the packages"
    } else {
        "Starting a guest that installs the packages"
    });
    let mut child = command.spawn().context("cannot start hv exec")?;
    let (sender, lines) = channel();
    let send = move |line: &str| drop(sender.send(line.to_owned()));
    let stdout = process::collect(child.stdout.take().context("hv exec has no stdout")?, send);
    let stderr = process::collect(child.stderr.take().context("hv exec has no stderr")?, |_| {});
    let (mut count, mut failure) = (0, None);
    let mut tick = || {
        failure = failure.take().or(watch(&lines, job, &mut task, &mut count, &mut unpacked).err());
    };
    let status = process::wait(&mut child, &mut tick)?;
    let (stdout, stderr) = (stdout.finish(), stderr.finish());
    tick();
    drop(task);
    failure.map_or(Ok(()), Err)?;
    if status.success() {
        return Ok(());
    }
    let text = format!("{}\n{}", stdout.trim_end(), stderr.trim_end());
    let tail: Vec<&str> = text.lines().collect();
    let tail =
        tail[tail.len().saturating_sub(TAIL)..].iter().map(|line| ui::one_line(line)).collect::<Vec<_>>();
    Err(Failed { status, tail: tail.join("\n") }.into())
}

/// Returns the command line of the tool.
fn line(job: Job<'_>) -> Vec<OsString> {
    let disk = |path: &Path, mode: &str| {
        let mut word = path.as_os_str().to_owned();
        word.push(mode);
        word
    };
    let mut line: Vec<OsString> =
        ["exec", "--cold", "--stock", "6.12", "--memory", MEMORY, "--timeout", "0", "--silence", "0"]
            .map(OsString::from)
            .into();
    line.extend(["--disk".into(), disk(job.image, ",rw"), "--disk".into(), disk(job.bundle, ",ro")]);
    let mode = if job.resume { "resume" } else { "unpack" };
    line.extend(["--", "sh", "-c", SCRIPT, "configure", mode].map(OsString::from));
    line
}

/// Shows the progress that the guest's lines tell.
fn watch(
    lines: &Receiver<String>,
    job: Job<'_>,
    task: &mut ui::Task,
    count: &mut usize,
    unpacked: &mut impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for line in lines.try_iter() {
        if let Some(step) = line.strip_prefix(STEP) {
            *task = ui::Task::new(format!("The guest is {step}"));
            if step == CONFIGURING && !job.resume {
                unpacked()?;
            }
        } else if let Some(package) = line.strip_prefix(PACKAGE) {
            *count += 1;
            let name = package.split(' ').next().unwrap_or_default();
            task.say(format!("The guest is configuring {count} of {}: {name}", job.packages));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
