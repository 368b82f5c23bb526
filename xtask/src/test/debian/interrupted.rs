//! Runs that are interrupted while they make an image, and go on: the image is right, and nothing else is left.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hv_setup::cache::Cache;
use hv_setup::exit::Exit;
use rustix::process::{Pid, Signal};

use super::system::{self, Image, Key};
use super::{GIBS, OF_SYSTEMD, disk, make};
use crate::test::context::Context;
use crate::test::life::until;

/// When a run is interrupted: the line after which, the milliseconds after it, and the signal.
type Point = (&'static str, u64, Signal);

/// Points of a run's time. A run that continues has no line of its own for the packages: it starts with them. The first
/// ones come in any case, the others may come too late.
const POINTS: [Point; 7] = [
    ("Unpacking ", 0, Signal::INT),
    ("The guest is unpacking", 0, Signal::KILL),
    ("The guest is configuring", 500, Signal::INT),
    ("Starting a guest that continues", 2_000, Signal::KILL),
    ("The guest is ending", 0, Signal::TERM),
    ("Writing the EFI", 0, Signal::KILL),
    ("Writing /", 0, Signal::INT),
];
const SURE: usize = 4;
/// What the names of unfinished layers in the cache end with.
const UNFINISHED: &str = "-unfinished";
/// What is added to the image: what no user's image in the cache is likely to have. And one of its programs.
const PACKAGES: &str = "file,less";
const PROGRAM: &str = "less";

/// Checks an image to which a package is added, interrupted everywhere: the image is right, and no FILE is there before
/// it. The cache has the image below, and what the guest needs, of the user's.
pub(super) fn interrupted(context: &Context) -> anyhow::Result<()> {
    let (folder, home) = (context.folder()?, context.folder()?);
    let (file, key) = (folder.join("trixie"), Key::make(&context.folder()?)?);
    let below = home.join("below");
    let words = |more: &[&str], file: &Path| {
        let words: Vec<String> = ["image", "debian", "--suite", "trixie"]
            .iter()
            .chain(more)
            .map(|word| (*word).to_owned())
            .chain([file.to_string_lossy().into_owned()])
            .collect();
        context.command(&words)
    };
    make(words(&[], &below)?, &below, GIBS)?;
    fs::remove_file(&below)?;
    let cache = home.join("hv-arm64");
    fs::create_dir(&cache)?;
    for entry in fs::read_dir(Cache::open()?.dir())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_wanted = ["busybox", "linux-", "image-"].iter().any(|start| name.starts_with(start));
        if is_wanted && !name.ends_with(UNFINISHED) {
            symlink(entry.path(), cache.join(name))?;
        }
    }
    let line = || -> anyhow::Result<Command> {
        let mut command = words(&["--include", PACKAGES, "--ssh-key", &key.public()], &file)?;
        command.env("XDG_CACHE_HOME", &home);
        Ok(command)
    };
    for (number, point) in POINTS.into_iter().enumerate() {
        let is_made = interrupt(line()?, point, &home)?;
        ensure!(number >= SURE || !is_made, "it ended before {point:?}");
        if is_made {
            eprintln!("  the signal came too late: {point:?}");
            fs::remove_file(&file)?;
        }
        ensure!(fs::read_dir(&folder)?.count() == 0, "something is left after {point:?}");
    }
    make(line()?, &file, GIBS)?;
    let left: Vec<PathBuf> = fs::read_dir(&cache)?.flatten().map(|entry| entry.path()).collect();
    let is_left = left.iter().any(|path| path.to_string_lossy().ends_with(UNFINISHED));
    ensure!(!is_left, "unfinished work is left: {left:?}");
    disk::sound(&file)?;
    let image = Image { file: &file, key: &key, program: PROGRAM, gibs: GIBS, mirror: None };
    system::on_hyper_v(context, &image, OF_SYSTEMD)?;
    disk::sound(&file)
}

/// Runs the tool, and sends it a signal after a line. Returns true if it had made its image before.
fn interrupt(mut command: Command, point: Point, cache: &Path) -> anyhow::Result<bool> {
    let (text, after, signal) = point;
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let stderr = child.stderr.take().context("no stderr")?;
    let mut said = Vec::new();
    for line in BufReader::new(stderr).lines() {
        let line = line?;
        let is_it = line.starts_with(text);
        said.push(line);
        if is_it {
            std::thread::sleep(Duration::from_millis(after));
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
