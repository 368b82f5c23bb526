//! `hv exec` from a machine that has booted before.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use hv_setup::cache::{Cache, sha256};
use hv_setup::process;
use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::context::{Context, HUNG_SECONDS};
use super::runner::Step;
use super::schema;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("exec/warm", warm), Step::new("exec/warm-interrupted", interrupted)]
}

/// Says where the kernel lies, which is another place on each boot, the time, random numbers in two ways, and what
/// comes from stdin; and exits with 7.
const SCRIPT: &str = "grep -m 1 ' _text$' /proc/kallsyms; date +%s; head -c 16 /dev/urandom | hexdump -v; \
                      cat /proc/sys/kernel/random/uuid; cat; echo err >&2; exit 7";
/// Bytes of a snapshot's head (cli/src/snapshot/file.rs), and of the digest after it all.
const HEAD: usize = 88;
const DIGEST: u64 = 32;

/// A cache of its own, whose kernels are those of the user's: no other run removes its snapshots.
pub(super) struct Room {
    folder: PathBuf,
    cache: PathBuf,
}

/// A run of [`SCRIPT`].
struct Ran {
    /// `boot` or `snapshot`.
    start: String,
    /// Where the kernel lies.
    place: String,
    /// The rest, other than the time.
    random: String,
    /// What the tool and the script have said on stderr.
    said: String,
}

impl Room {
    pub(super) fn new(context: &Context) -> anyhow::Result<Self> {
        let folder = context.folder()?;
        let cache = folder.join("hv-arm64");
        fs::create_dir(&cache)?;
        for entry in fs::read_dir(Cache::open()?.dir())?.flatten() {
            let name = entry.file_name();
            if name == "busybox" || name.to_string_lossy().starts_with("linux-") {
                symlink(entry.path(), cache.join(name))?;
            }
        }
        Ok(Self { folder, cache })
    }

    /// Runs `hv` with this cache.
    pub(super) fn command(&self, context: &Context, line: &[&str]) -> anyhow::Result<Command> {
        let mut command = context.command(line)?;
        command.env("XDG_CACHE_HOME", &self.folder);
        Ok(command)
    }

    /// Runs the script twice at once.
    fn two(&self, context: &Context, numbers: [usize; 2]) -> anyhow::Result<[Ran; 2]> {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| self.run(context, numbers[0], &[]));
            Ok([self.run(context, numbers[1], &[])?, other.join().map_err(|_| anyhow::anyhow!("a panic"))??])
        })
    }

    /// Runs the script with these options, and checks all that does not depend on where the machine came from.
    fn run(&self, context: &Context, number: usize, options: &[&str]) -> anyhow::Result<Ran> {
        let report = self.folder.join(format!("{number}.json"));
        let mut line: Vec<&str> = vec!["exec", "--timeout", HUNG_SECONDS, "--json"];
        line.push(report.to_str().context("a path that is not text")?);
        line.extend(options);
        line.extend(["--", "sh", "-c", SCRIPT]);
        let earlier = now()?;
        let mut child = self
            .command(context, &line)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("no stdin")?.write_all(b"from stdin\n")?;
        let done = child.wait_with_output()?;
        let (stdout, stderr) =
            (String::from_utf8_lossy(&done.stdout).into_owned(), String::from_utf8_lossy(&done.stderr));
        let all = || format!("{}, stdout:\n{stdout}\nstderr:\n{stderr}", done.status);
        ensure!(done.status.code() == Some(7) && stderr.ends_with("err\n"), "{}", all());
        let mut lines = stdout.lines();
        let (place, time) = (lines.next().with_context(all)?, lines.next().with_context(all)?);
        let random: Vec<&str> = lines.collect();
        ensure!(place.ends_with(" _text") && random.last() == Some(&"from stdin"), "{}", all());
        let time: u64 = time.parse().with_context(all)?;
        ensure!((earlier.saturating_sub(2)..=now()? + 2).contains(&time), "{time}: {}", all());
        let json: Value = serde_json::from_slice(&fs::read(&report)?)?;
        schema::check(schema::BOOT, &json)?;
        let start = json["start"].as_str().unwrap_or_default().to_owned();
        ensure!(!json["warnings"].to_string().contains("not saved"), "{}", json["warnings"]);
        let (place, said) = (place.to_owned(), stderr.into_owned());
        Ok(Ran { start, place, random: random.join("\n"), said })
    }

    /// Returns the folders of the snapshots in the cache.
    fn snapshots(&self) -> anyhow::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.cache)?.flatten();
        let found = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("snapshot-"));
        Ok(found.map(|entry| entry.path()).collect())
    }

    /// Returns the file of the one snapshot in the cache.
    fn file(&self) -> anyhow::Result<PathBuf> {
        match &self.snapshots()?[..] {
            [one] => Ok(one.join("machine")),
            found => anyhow::bail!("{} snapshots in the cache; expected one", found.len()),
        }
    }

    /// Returns true if a file of a snapshot is being written.
    fn is_saving(&self) -> bool {
        let scratch = fs::read_dir(self.cache.join("tmp")).into_iter().flatten().flatten();
        scratch.into_iter().any(|folder| folder.path().join("machine").exists())
    }
}

fn now() -> anyhow::Result<u64> {
    Ok(SystemTime::UNIX_EPOCH.elapsed()?.as_secs())
}

fn mode(path: &Path) -> anyhow::Result<u32> {
    Ok(path.symlink_metadata()?.permissions().mode() & 0o777)
}

fn warm(context: &Context) -> anyhow::Result<()> {
    let room = Room::new(context)?;
    // Two at once, of which one saves the machine.
    let first = room.two(context, [0, 1])?;
    ensure!(first.iter().any(|ran| ran.start == "boot"), "a snapshot from nowhere");
    let file = room.file()?;
    let folder = file.parent().context("no folder")?;
    ensure!((mode(folder)?, mode(&file)?) == (0o700, 0o600), "{:o} {:o}", mode(folder)?, mode(&file)?);
    // Two resume it at once, and any number of times.
    let second = room.two(context, [2, 3])?;
    let third = room.run(context, 4, &[])?;
    let [a, b] = &second;
    for ran in [a, b, &third] {
        let is_known = first.iter().any(|first| first.place == ran.place);
        ensure!(ran.start == "snapshot" && is_known, "{}: {}", ran.start, ran.place);
        ensure!(ran.said == "err\n", "{}", ran.said);
    }
    let random = [&first[0].random, &first[1].random, &a.random, &b.random, &third.random];
    let is_new = |n: usize| !random[..n].contains(&random[n]);
    ensure!((1..random.len()).all(is_new), "the same random numbers: {random:?}");
    ensure!(room.run(context, 5, &["--cold"])?.start == "boot", "--cold has booted nothing");
    // One that is truncated is replaced, and so is one that is complete and that QEMU refuses.
    let size = file.metadata()?.len();
    fs::File::options().write(true).open(&file)?.set_len(size / 2)?;
    let half = room.run(context, 6, &[])?;
    ensure!(half.start == "boot", "half a snapshot was used");
    corrupt(&room.file()?)?;
    let refused = room.run(context, 7, &[])?;
    ensure!(refused.start == "boot", "a snapshot with a corrupt state was used");
    for (ran, why) in [(&half, "it is truncated"), (&refused, "QEMU")] {
        let said = ran.said.lines().find(|line| line.contains("cannot be used, so the machine boots"));
        ensure!(said.is_some_and(|line| line.contains(why)), "stderr lacks {why:?}: {}", ran.said);
    }
    let last = room.run(context, 8, &[])?;
    ensure!(last.start == "snapshot" && last.place == refused.place, "{}: {}", last.start, last.place);
    let listed = room.command(context, &["clean", "--list"])?.output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(listed.contains("snapshots ") && listed.contains(" snapshot-"), "{listed}");
    let cleaned = room.command(context, &["clean", "snapshots"])?.output()?;
    ensure!(cleaned.status.success() && room.snapshots()?.is_empty(), "{cleaned:?}");
    Ok(())
}

/// Checks that Ctrl-C while the machine is saved leaves a complete snapshot or none, and nothing else.
fn interrupted(context: &Context) -> anyhow::Result<()> {
    let room = Room::new(context)?;
    let line = ["exec", "--timeout", HUNG_SECONDS, "--", "sleep", "1000"];
    let mut child = room.command(context, &line)?.stderr(Stdio::piped()).spawn()?;
    let stderr = child.stderr.take().map(|pipe| process::collect(pipe, |_| {}));
    // It is there for a moment, and the snapshot afterwards.
    while !room.is_saving() && room.snapshots()?.is_empty() {
        ensure!(child.try_wait()?.is_none(), "hv exec has ended: {:?}", stderr.map(process::Reader::finish));
        std::thread::sleep(Duration::from_millis(1));
    }
    rustix::process::kill_process(Pid::from_child(&child), Signal::INT)?;
    let status = process::wait(&mut child, &mut || {})?;
    let said = stderr.map(process::Reader::finish).unwrap_or_default();
    ensure!(status.code() == Some(130) && !room.is_saving(), "{status}: {said}");
    let saved = !room.snapshots()?.is_empty();
    let next = room.run(context, 1, &[])?;
    ensure!((next.start == "snapshot") == saved && next.said == "err\n", "{}: {}", next.start, next.said);
    Ok(())
}

/// Changes the beginning of QEMU's state in a snapshot, and makes the digest that of the changed file.
fn corrupt(file: &Path) -> anyhow::Result<()> {
    let mut bytes = fs::read(file)?;
    let length = |at: usize| {
        let bytes = bytes.get(at..at + 8).context("a snapshot without a head")?;
        anyhow::Ok(u64::from_ne_bytes(bytes.try_into()?) as usize)
    };
    let state = HEAD + length(64)? + length(72)?;
    bytes.get_mut(state..state + 4).context("a snapshot without a state")?.fill(0);
    bytes.truncate(bytes.len().saturating_sub(DIGEST as usize));
    fs::write(file, &bytes)?;
    let sum = sha256(file)?;
    let sum = (0..DIGEST as usize).map(|n| u8::from_str_radix(&sum[2 * n..2 * n + 2], 16));
    bytes.extend(sum.collect::<Result<Vec<_>, _>>()?);
    Ok(fs::write(file, &bytes)?)
}
