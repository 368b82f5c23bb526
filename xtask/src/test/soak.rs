//! A long run of mixed load, after which the tool takes no more memory than before.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hv_setup::size::size;

use super::context::Context;
use super::devices::network::{HOST, Server};
use super::runner::Step;
use super::snapshot::Shell;

/// Bytes of the disk.
const DISK: u64 = 64 << 20;
/// What the tool may have grown by since the first part of a run.
const GROWTH: u64 = 4 << 20;
/// Time between two rounds of the host's.
const PAUSE: Duration = Duration::from_secs(5);

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    [("minutes", 4), ("hour", 60)]
        .map(|(name, minutes)| {
            Step::new(format!("soak/{name}"), move |context| soak(context, minutes)).slow()
        })
        .into()
}

/// Returns the memory of a process that is its own, in bytes (proc(5), `/proc/PID/status`).
fn memory(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: u64 = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no RssAnon")?.parse()?;
    Ok(kib << 10)
}

/// Returns the guest's part: it writes and reads its disk, and gets bytes over the network, until it reads a line.
///
/// Linux refuses to take a CPU off that has a channel's interrupt.
fn load(port: u16) -> String {
    format!(
        "n=0 got=0 bad=FAILED; until read -t 1 line; do\n\
         dd if=/dev/zero of=/dev/sda bs=64k count=256 oflag=direct 2>/dev/null || echo \"soak: $bad write\"\n\
         dd if=/dev/sda of=/dev/null bs=4k count=1024 iflag=direct 2>/dev/null || echo \"soak: $bad read\"\n\
         if [ $((n % 4)) = 0 ] && timeout 60 wget -q -O /dev/null http://{HOST}:{port}/pattern\n\
         then got=$((got + 1)); fi\n\
         n=$((n + 1)); done; echo \"soak: $n rounds, $got answers, $((0))ver\"\n"
    )
}

/// Runs a machine for this long, and has its host use it all the while.
fn soak(context: &Context, minutes: u64) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let [disk, other] = ["disk.img", "other.img"].map(|name| folder.join(name));
    for file in [&disk, &other] {
        fs::File::create(file)?.set_len(DISK)?;
    }
    let server = Server::start()?;
    let (disk, other) = (disk.display().to_string(), other.display().to_string());
    let plan = "migrate@5000ms,late=5ms@/50,twice@/500,received=twice@/40";
    let options =
        ["--vps", "2", "--strict=note", "--disk", &disk, "--hotplug-room", "128M", "--inject", plan];
    let options = [&options[..], &["--devices", "all", "--net", "user"]].concat();
    let name = format!("soak{}", std::process::id());
    let limit = (minutes * 60 + 1200).to_string();
    let mut machine = Shell::boot_for(&limit, context, &name, &options)?;
    machine.types("echo hv: is$((0))ready\n")?;
    machine.shows("is0ready")?;
    machine.types(&load(server.port))?;
    let (began, whole) = (Instant::now(), Duration::from_secs(minutes * 60));
    let (mut before, mut rounds) = (None, 0);
    while began.elapsed() < whole {
        uses(context, &name, &other)?;
        rounds += 1;
        if before.is_none() && began.elapsed() > whole / 4 {
            before = Some(memory(machine.pid())?);
        }
        std::thread::sleep(PAUSE);
    }
    let (before, after) = (before.context("there was no round")?, memory(machine.pid())?);
    machine.types("\n")?;
    let last = machine.shows(", 0ver")?;
    let console = machine.console();
    ensure!(
        !console.contains("soak: FAILED") && !console.contains("Call trace:"),
        "the guest complains:\n{console}"
    );
    let counts: Vec<u64> = last.split(' ').filter_map(|word| word.parse().ok()).collect();
    // It asks in one round of four, and the link is down at times.
    ensure!(matches!(counts[..], [rounds, answers] if answers > rounds / 16), "too few answers: {last}");
    ensure!(
        after <= before + GROWTH,
        "after {rounds} rounds the tool has {}, and had {} after a quarter of them",
        size(after),
        size(before)
    );
    let report = machine.ends()?;
    ensure!(report["findings"] == serde_json::json!([]), "findings: {}", report["findings"]);
    Ok(())
}

/// Does once what a host does with a machine.
fn uses(context: &Context, name: &str, other: &str) -> anyhow::Result<()> {
    let added = format!("{other},at=0:5");
    let commands: [&[&str]; 8] = [
        &["status"],
        &["time"],
        &["disk", "add", &added],
        &["memory", "400M"],
        &["net", "down"],
        &["net", "up"],
        &["memory", "512M"],
        &["disk", "remove", "0:5"],
    ];
    for words in commands {
        let done = context.hv(&[&["ctl", name], words].concat())?;
        ensure!(done.code == Some(0), "hv ctl {words:?} ended with {:?}: {}", done.code, done.stderr);
    }
    Ok(())
}
