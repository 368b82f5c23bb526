//! Hostile channels: what `bare/stress` does to each device on VMBus, and what the report says of it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use hv_setup::exit::Exit;

use super::context::{Booted, Context, HUNG_SECONDS};
use super::programs::{counted, program, stressed};
use super::runner::Step;

/// The devices that are attacked: the guest's name for each, that of the report, and packets that one call takes at
/// most. A call ends after 32 KiB, and for storage after 256 KiB, and a packet counts as 512 bytes at least
/// (`Device::WORK_LIMIT`, hv-vmbus).
const ATTACKED: [(&str, &str, u64); 13] = [
    ("storage", "SCSI controller", 512),
    ("network", "network card", 64),
    ("sockets", "sockets", 64),
    ("shutdown", "shutdown", 64),
    ("time", "time synchronization", 64),
    ("heartbeat", "heartbeat", 64),
    ("kvp", "key-value pairs", 64),
    ("vss", "shadow copies", 64),
    ("fcopy", "file copy", 64),
    ("keyboard", "keyboard", 64),
    ("mouse", "mouse", 64),
    ("memory", "dynamic memory", 64),
    ("screen", "screen", 64),
];
/// The port of the host's that the guest's sockets connect to.
const PORT: u32 = 5000;
/// Bytes of each disk.
const DISK: u64 = 1 << 20;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = [2, 4]
        .into_iter()
        .map(|vps| {
            Step::new(format!("program/stress/{vps}-vps/channels"), move |context| {
                channels(context, vps, 400, HUNG_SECONDS, &[])
            })
        })
        .collect();
    steps.push(
        Step::new("program/stress/4-vps/channels-100000", |context| {
            channels(context, 4, 100_000, "7200", &[])
        })
        .slow(),
    );
    // The judge and the trace see every packet, and the judge finds what is wrong with them.
    steps.push(
        Step::new("program/stress/4-vps/channels-strict", |context| {
            let trace = context.folder()?.join("channels.pftrace");
            channels(context, 4, 500, HUNG_SECONDS, &["--strict=note", "--trace", &trace.to_string_lossy()])
        })
        .slow(),
    );
    steps
}

/// Sends each device this number of packets that no driver may send.
fn channels(context: &Context, vps: u64, count: u64, limit: &str, options: &[&str]) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let disks = ["0:0", "1:0"].map(|place| (folder.join(format!("{}.img", &place[..1])), place));
    for (disk, _) in &disks {
        File::create(disk)?.set_len(DISK)?;
    }
    let disks = disks.map(|(disk, place)| format!("{},at={place}", disk.display()));
    let program_of_host = Program::start(&folder.join("sockets"))?;
    let sockets = program_of_host.folder.display().to_string();
    let append = format!("stress.only=channels stress.channels={count} stress.port={PORT}");
    let vps_option = vps.to_string();
    let devices = ["--net", "user", "--devices", "all", "--vsock", &*sockets];
    let machine = ["--vps", &*vps_option, "--timeout", limit, "--disk", &*disks[0], "--disk", &*disks[1]];
    let line = [&devices[..], &machine[..], &["--append", &*append], options].concat();
    let booted = program(context, "stress", &line)?;
    drop(program_of_host);
    if options.is_empty() {
        stressed(&booted)?;
    } else {
        booted.ended(Exit::Strict, "power-off")?;
        counted(&booted)?;
    }
    for line in
        booted.console.lines().filter(|line| line.contains(" at most") || line.contains(" packets taken"))
    {
        eprintln!("  {}", line.trim_end());
    }
    let longest = booted.json["longest_queue"].as_u64();
    booted.check(
        longest.is_some_and(|longest| longest < vps),
        &format!("a lock's longest queue of others, {longest:?}, is at most {}", vps - 1),
    )?;
    judge(&booted, count)
}

/// Checks what the report says of each device.
fn judge(booted: &Booted, count: u64) -> anyhow::Result<()> {
    let devices = booted.json["devices"].as_array().cloned().unwrap_or_default();
    // The first controller's driver does nothing wrong, and none of its bytes were (the guest has compared them).
    let first = devices.iter().position(|device| device["name"] == "SCSI controller");
    booted.check(
        first.is_some_and(|first| devices[first]["errors"].as_u64().is_some_and(|errors| errors <= 1)),
        "the disk of the well-behaved driver has a unit attention at most",
    )?;
    for (name, reported, most) in ATTACKED {
        let taken = booted.console.lines().find_map(|line| {
            line.trim_end()
                .strip_prefix(name)?
                .strip_prefix(": ")?
                .split_once(" packets taken")?
                .0
                .parse::<u64>()
                .ok()
        });
        booted.check(
            taken.is_some_and(|taken| taken >= count),
            &format!("{name} took {count} packets: {taken:?}"),
        )?;
        booted.says(&format!("{name} serves a driver again: true")).or_else(|error| {
            // A socket that was attacked is gone; the next one is another.
            if name == "sockets" { Ok(()) } else { Err(error) }
        })?;
        let device = devices.iter().rfind(|device| device["name"] == reported);
        let number = |field: &str| device.and_then(|device| device[field].as_u64()).unwrap_or_default();
        booted.check(number("errors") > 0, &format!("the report counts errors of {reported}"))?;
        booted.check(
            number("packets_in") >= count,
            &format!("the report counts packets of {reported}: {}", number("packets_in")),
        )?;
        let longest = number("most_packets_in");
        eprintln!("  {name}: {longest} packets in one call at most");
        booted.check(
            (1..=most).contains(&longest),
            &format!("one call took {longest} packets of {reported}, at most {most}"),
        )?;
    }
    Ok(())
}

/// A program of the host's that the guest's sockets connect to. It reads, answers now and then, and hangs up on every
/// fourth.
struct Program {
    folder: PathBuf,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Program {
    fn start(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        let listener = UnixListener::bind(folder.join(format!("vsock_{PORT}")))?;
        let over = Arc::new(AtomicBool::new(false));
        let flag = over.clone();
        let thread = std::thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                if flag.load(Ordering::Acquire) {
                    return;
                }
                std::thread::spawn(move || talk(stream, number));
            }
        });
        Ok(Self { folder: folder.to_owned(), over, thread: Some(thread) })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        let _ = UnixStream::connect(self.folder.join(format!("vsock_{PORT}")));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads what a guest sends until it ends, or hangs up before.
fn talk(mut stream: UnixStream, number: usize) -> Option<()> {
    let mut bytes = [0; 4096];
    let mut reads = 0_usize;
    while stream.read(&mut bytes).ok()? > 0 {
        reads += 1;
        if number % 4 == 3 && reads > number % 16 {
            return None;
        }
        if reads % 8 == 1 {
            stream.write_all(&bytes[..number % 64]).ok()?;
        }
    }
    Some(())
}
