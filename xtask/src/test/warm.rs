//! `hv exec` from a machine that has booted before.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use hv_setup::cache::{Cache, sha256};
use serde_json::Value;

use super::context::{Context, HUNG_SECONDS};
use super::runner::Step;
use super::schema;

/// The scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("exec/warm", warm)]
}

/// Says where the kernel lies, which is another place on each boot, the time, random numbers in two ways, and what comes from stdin; and
/// exits with 7.
const SCRIPT: &str = "grep -m 1 ' _text$' /proc/kallsyms; date +%s; head -c 16 /dev/urandom | hexdump -v; \
                      cat /proc/sys/kernel/random/uuid; cat; echo err >&2; exit 7";
/// Bytes of a snapshot's head (cli/src/warm/file.rs), and of the digest behind it all.
const HEAD: usize = 72;
const DIGEST: u64 = 32;

/// A cache of its own, whose kernels are those of the user's: no other run removes its snapshots.
struct Room {
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
}

impl Room {
    fn new(context: &Context) -> anyhow::Result<Self> {
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

    /// Runs the script with these options, and checks all that does not depend on where the machine came from.
    fn run(&self, context: &Context, number: usize, options: &[&str]) -> anyhow::Result<Ran> {
        let report = self.folder.join(format!("{number}.json"));
        let mut line: Vec<&str> = vec!["exec", "--timeout", HUNG_SECONDS, "--json"];
        line.push(report.to_str().context("a path that is no text")?);
        line.extend(options);
        line.extend(["--", "sh", "-c", SCRIPT]);
        let earlier = now()?;
        let mut child = context
            .command(&line)?
            .env("XDG_CACHE_HOME", &self.folder)
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
        Ok(Ran { start, place: place.to_owned(), random: random.join("\n") })
    }

    /// The file of the one snapshot in the cache.
    fn file(&self) -> anyhow::Result<PathBuf> {
        let names = fs::read_dir(&self.cache)?.flatten().map(|entry| entry.path());
        let mut found = names.filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snapshot-"))
        });
        let one = found.next().context("there is no snapshot")?;
        ensure!(found.next().is_none(), "there is more than one snapshot");
        Ok(one.join("machine"))
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
    let first = room.run(context, 0, &[])?;
    ensure!(first.start == "boot", "{}", first.start);
    let file = room.file()?;
    let folder = file.parent().context("no folder")?;
    ensure!((mode(folder)?, mode(&file)?) == (0o700, 0o600), "{:o} {:o}", mode(folder)?, mode(&file)?);
    // Two at a time, and as often as one likes.
    let second = std::thread::scope(|scope| {
        let other = scope.spawn(|| room.run(context, 1, &[]));
        let runs = [room.run(context, 2, &[])?, other.join().map_err(|_| anyhow::anyhow!("a panic"))??];
        anyhow::Ok(runs)
    })?;
    let third = room.run(context, 3, &[])?;
    let [a, b] = &second;
    for ran in [a, b, &third] {
        ensure!(ran.start == "snapshot" && ran.place == first.place, "{}: {}", ran.start, ran.place);
    }
    let random = [&first.random, &a.random, &b.random, &third.random];
    let is_new = |n: usize| !random[..n].contains(&random[n]);
    ensure!((1..random.len()).all(is_new), "the same random numbers: {random:?}");
    ensure!(room.run(context, 4, &["--cold"])?.start == "boot", "--cold has booted nothing");
    // One that is not whole is replaced, and so is one that is whole and that QEMU refuses.
    let size = file.metadata()?.len();
    fs::File::options().write(true).open(&file)?.set_len(size / 2)?;
    ensure!(room.run(context, 5, &[])?.start == "boot", "half a snapshot was used");
    corrupt(&room.file()?)?;
    ensure!(room.run(context, 6, &[])?.start == "boot", "a snapshot with a corrupt state was used");
    let last = room.run(context, 7, &[])?;
    ensure!(last.start == "snapshot" && last.place != first.place, "{}: {}", last.start, last.place);
    Ok(())
}

/// Changes the beginning of QEMU's state in a snapshot, and makes the digest that of the changed file.
fn corrupt(file: &Path) -> anyhow::Result<()> {
    let mut bytes = fs::read(file)?;
    let length = |at: usize| {
        let bytes = bytes.get(at..at + 8).context("a snapshot without a head")?;
        anyhow::Ok(u64::from_ne_bytes(bytes.try_into()?) as usize)
    };
    let state = HEAD + length(48)? + length(56)?;
    bytes.get_mut(state..state + 4).context("a snapshot without a state")?.fill(0);
    bytes.truncate(bytes.len().saturating_sub(DIGEST as usize));
    fs::write(file, &bytes)?;
    let sum = sha256(file)?;
    let sum = (0..DIGEST as usize).map(|n| u8::from_str_radix(&sum[2 * n..2 * n + 2], 16));
    bytes.extend(sum.collect::<Result<Vec<_>, _>>()?);
    Ok(fs::write(file, &bytes)?)
}
