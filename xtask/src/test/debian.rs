//! `hv image debian`: images whose own system boots to its end, on this machine and by UEFI firmware, and what
//! interrupted runs leave.

mod disk;
mod system;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hv_setup::exit::Exit;
use rustix::process::{Pid, Signal};

use self::system::Key;
use super::context::Context;
use super::life::until;
use super::runner::Step;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("image/debian/bookworm", bookworm).slow(),
        Step::new("image/debian/trixie-interrupted", trixie).slow(),
    ]
}

/// Makes an image, and says how long it took.
fn make(mut command: Command, file: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    let done = hv_setup::process::run(&mut command, || {})?;
    ensure!(done.status.code() == Some(Exit::Success as i32), "{}: {}", done.status, done.stderr);
    ensure!(!done.stderr.contains('\r'), "a progress line though it is no terminal: {}", done.stderr);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    eprintln!("  {name} after {:.1} s", started.elapsed().as_secs_f64());
    let meta = fs::metadata(file)?;
    ensure!(meta.len() == 2 << 30 && meta.blocks() * 512 < 3 << 29, "{} blocks", meta.blocks());
    Ok(())
}

/// Checks an image with the cache that there is: a minimal one, and one with another package above it.
fn bookworm(context: &Context) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let (first, second) = (folder.join("minimal"), folder.join("with-file"));
    let key = Key::make(&folder)?;
    let line = |file: &Path, more: &[&str]| {
        let file = file.to_string_lossy();
        let words = [&["image", "debian"], more, &[&*file]].concat();
        context.command(&words)
    };
    make(line(&first, &[])?, &first)?;
    // A file that is there stays as it is.
    context.hv(&["image", "debian", &first.to_string_lossy()])?.refused("exists")?;
    let private = key.private.to_string_lossy();
    context
        .hv(&["image", "debian", "--ssh-key", &private, "/nonexistent/x"])?
        .refused("a folder that exists")?;
    let third = folder.join("third").to_string_lossy().into_owned();
    context.hv(&["image", "debian", "--ssh-key", &private, &third])?.refused("it is a private key")?;
    disk::sound(&first)?;
    fs::remove_file(&first)?;
    // Above the layer that the first one has left in the cache.
    make(line(&second, &["--include", "file", "--ssh-key", &key.public()])?, &second)?;
    disk::sound(&second)?;
    system::on_hyper_v(context, &second, &key, "file")?;
    system::by_firmware(&second, &key, "file")?;
    disk::sound(&second)
}

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

/// Checks that an image is right which was interrupted everywhere while it was made, with a cache of its own.
fn trixie(context: &Context) -> anyhow::Result<()> {
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
        let ended = interrupt(line()?, point, &cache)?;
        ensure!(!ended, "it ended before {point:?}");
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
    let is_left = |path: &&PathBuf| path.to_string_lossy().ends_with("-unfinished");
    ensure!(!left.iter().any(|path| is_left(&path)), "unfinished work is left: {left:?}");
    disk::sound(&file)?;
    system::on_hyper_v(context, &file, &key, "dpkg")?;
    system::by_firmware(&file, &key, "dpkg")?;
    disk::sound(&file)
}

/// Runs the tool, and sends it a signal after a line. Returns true if it had made its image before.
fn interrupt(mut command: Command, point: Point, cache: &Path) -> anyhow::Result<bool> {
    let (text, seconds, signal) = point;
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let stderr = child.stderr.take().context("no stderr")?;
    let mut said = Vec::new();
    for line in BufReader::new(stderr).lines() {
        said.push(line?);
        if said.last().is_some_and(|line| line.starts_with(text) && !line.contains("-unfinished")) {
            std::thread::sleep(Duration::from_secs(seconds));
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
            if child.try_wait()?.is_none() {
                rustix::process::kill_process(pid, signal)?;
            }
        }
    }
    let ended = ended(&mut child, signal).with_context(|| format!("{point:?}: {}", said.join("\n")))?;
    until("nothing runs for the image", || Ok(!runs(cache)))?;
    Ok(ended)
}

/// Waits for the tool's end: by the signal, or true for a success.
fn ended(child: &mut Child, signal: Signal) -> anyhow::Result<bool> {
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
