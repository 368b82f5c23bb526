//! Runs that are interrupted while they make an image, and go on: the image is right, and nothing else is left.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hv_setup::exit::Exit;
use rustix::process::{Pid, Signal};

use super::system::{self, Key};
use super::{disk, make};
use crate::test::context::Context;
use crate::test::life::until;

/// When a run is interrupted: the line after which, the seconds after it, and the signal.
type Point = (&'static str, u64, Signal);

/// Points of a run's time in the guest. A run that continues has no line of its own for the packages: it starts with
/// them.
const POINTS: [Point; 5] = [
    ("Unpacking ", 0, Signal::INT),
    ("The guest is unpacking", 5, Signal::KILL),
    ("The guest is configuring", 30, Signal::INT),
    ("Starting a guest that continues", 60, Signal::KILL),
    ("Starting a guest that continues", 100, Signal::TERM),
];
/// Points that a fast machine may have passed before the signal comes.
const SHORT: [Point; 2] = [("Writing the EFI", 0, Signal::KILL), ("Writing /", 0, Signal::INT)];

/// Checks an image that was interrupted everywhere while it was made, with a cache of its own.
pub(super) fn interrupted(context: &Context) -> anyhow::Result<()> {
    let (folder, cache) = (context.folder()?, context.folder()?);
    let (file, key) = (folder.join("trixie"), Key::make(&context.folder()?)?);
    let line = || -> anyhow::Result<Command> {
        let words =
            ["image", "debian", "--suite", "trixie", "--ssh-key", &key.public(), &file.to_string_lossy()];
        let mut command = context.command(&words)?;
        command.env("XDG_CACHE_HOME", &cache);
        Ok(command)
    };
    for point in POINTS {
        let is_made = interrupt(line()?, point, &cache)?;
        ensure!(!is_made, "it ended before {point:?}");
        ensure!(fs::read_dir(&folder)?.count() == 0, "something is left after {point:?}");
    }
    for point in SHORT {
        if interrupt(line()?, point, &cache)? {
            fs::remove_file(&file)?;
        }
        ensure!(fs::read_dir(&folder)?.count() == 0, "something is left after {point:?}");
    }
    make(line()?, &file)?;
    let left: Vec<PathBuf> =
        fs::read_dir(cache.join("hv-arm64"))?.flatten().map(|entry| entry.path()).collect();
    let is_left = left.iter().any(|path| path.to_string_lossy().ends_with("-unfinished"));
    ensure!(!is_left, "unfinished work is left: {left:?}");
    disk::sound(&file)?;
    system::on_hyper_v(context, &file, &key, "dpkg")?;
    disk::sound(&file)
}

/// Runs the tool, and sends it a signal after a line. Returns true if it had made its image before.
fn interrupt(mut command: Command, point: Point, cache: &Path) -> anyhow::Result<bool> {
    let (text, seconds, signal) = point;
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let stderr = child.stderr.take().context("no stderr")?;
    let mut said = Vec::new();
    for line in BufReader::new(stderr).lines() {
        let line = line?;
        let is_it = line.starts_with(text);
        said.push(line);
        if is_it {
            std::thread::sleep(Duration::from_secs(seconds));
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
            if child.try_wait()?.is_none() {
                rustix::process::kill_process(pid, signal)?;
            }
        }
    }
    let is_made = wait(&mut child, signal).with_context(|| format!("{point:?}: {}", said.join("\n")))?;
    until("nothing runs for the image", || Ok(!runs(cache)))?;
    Ok(is_made)
}

/// Waits for the tool's end. Returns true for a success, false for an end by the signal.
fn wait(child: &mut Child, signal: Signal) -> anyhow::Result<bool> {
    use std::os::unix::process::ExitStatusExt as _;
    let status = child.wait()?;
    let is_by_signal = match signal {
        Signal::KILL => status.signal() == Some(Signal::KILL.as_raw()),
        _ => status.code() == Some(Exit::Interrupted as i32),
    };
    ensure!(is_by_signal || status.success(), "it ended with {status}");
    Ok(status.success())
}

/// Returns true if a process has this folder in its command line.
fn runs(folder: &Path) -> bool {
    let folder = folder.join("hv-arm64");
    let folder = folder.to_string_lossy();
    let found = fs::read_dir("/proc").into_iter().flatten().flatten();
    found
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(&*folder))
}
