//! Sockets: programs of Debian's in a stock guest, and this program on the host, connect to each other through
//! `hv boot --vsock`.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hv_machine::initrd::Module;
use serde_json::Value;

use super::super::context::{Context, HUNG, HUNG_SECONDS, console, read};
use super::super::life::until;
use super::super::packages::initrd_of;
use super::super::runner::Step;
use super::super::schema;
use super::super::signals::end;
use rustix::process::Signal;

use hv_setup::cache::Cache;
use hv_setup::exit::Exit;
use hv_setup::stock::{self, Stock};

mod pauses;

/// What the guest runs.
const GUEST: &str = include_str!("sockets.py");
const BLOCK: usize = 64 << 10;
/// Ports of the guest's: its own program, and socat's echo.
const PROGRAM: u32 = 22;
const SOCAT: u32 = 23;
/// One that no program of the guest's listens on.
const NO_LISTENER: u32 = 24;
/// What the error of a connection begins with that was closed without an answer.
const UNTAKEN: &str = "the guest did not take the connection";
/// How long the guest has to take a connection: Linux does not say that it refuses one.
const TO_LISTEN: Duration = Duration::from_secs(10);
/// Sends a file, and waits until the host has closed its direction: it has all of it. May fail: a connection can take
/// Linux longer than its two seconds.
const SEND: &str = "socat -t 1200 - VSOCK-CONNECT:2:5005 </bin/busybox";

/// Amounts of everything.
#[derive(Clone, Copy)]
struct Size {
    /// Connections one after another.
    count: u32,
    /// Connections at a time.
    at_a_time: u32,
    /// Blocks of 64 KiB each way.
    blocks: u32,
    /// Seconds after which the run counts as hung.
    limit: &'static str,
}

const SMALL: Size = Size { count: 20, at_a_time: 16, blocks: 64, limit: HUNG_SECONDS };
/// 10,000 connections, 256 at a time, 1 GiB each way.
const LARGE: Size = Size { count: 10_000, at_a_time: 256, blocks: 16 << 10, limit: "3000" };

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let stock = [("6.12", Stock::Cloud612), ("6.1", Stock::Cloud61), ("16k", Stock::Pages16k)];
    let mut steps: Vec<Step> = stock
        .into_iter()
        .map(|(name, stock)| {
            Step::new(format!("devices/sockets/{name}"), move |context| {
                run(context, stock, name, SMALL, &["--strict"])
            })
        })
        .collect();
    for (name, stock) in stock {
        let step = Step::new(format!("devices/sockets/large/{name}"), move |context| {
            run(context, stock, name, LARGE, &["--memory", "1G", "--strict=note"])
        });
        steps.push(step.slow());
    }
    steps.push(Step::new("devices/sockets/refused", refused));
    steps.push(Step::new("devices/sockets/tool-that-pauses", pauses::pauses));
    steps.push(Step::new("devices/sockets/ctrl-c", |context| stopped(context, Signal::INT)));
    steps.push(Step::new("devices/sockets/terminated", |context| stopped(context, Signal::TERM)));
    steps.push(Step::new("inject/devices/sockets", reset));
    steps
}

/// Runs everything in one guest.
fn run(context: &Context, stock: Stock, name: &str, size: Size, options: &[&str]) -> anyhow::Result<()> {
    let initrd = guest(context, stock, size)?;
    let folder = context.folder()?;
    let host = Host::new(&folder.join("sockets"), size)?;
    let (keep, report) = (folder.join("keep"), folder.join("report.json"));
    let line = ["boot", "--quiet", "--stock", name, "--timeout", size.limit];
    let files = [("--initrd", &initrd), ("--vsock", &host.folder), ("--keep", &keep), ("--json", &report)];
    let mut command = context.command(&line)?;
    for (option, file) in files {
        command.arg(option).arg(file);
    }
    let mut child = command.args(options).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let outcome = talk(&host, size, &mut || {
        ensure!(child.try_wait()?.is_none(), "it has ended");
        Ok(console(&keep).contains("sockets: ready"))
    });
    if outcome.is_err() {
        let _ = child.kill();
    }
    let status = child.wait()?;
    let console = console(&keep);
    outcome.with_context(|| format!("the console:\n{console}"))?;
    ensure!(status.code() == Some(Exit::Success as i32), "it ended with {status}:\n{console}");
    for text in [
        "sockets: sent blocks".to_owned(),
        "sockets: got blocks".to_owned(),
        format!("sockets: at a time {}", size.at_a_time),
        format!("sockets: one after another {}", size.count),
        "sockets: refused".to_owned(),
        "sockets: all good".to_owned(),
    ] {
        ensure!(console.contains(&text), "the console does not say {text:?}:\n{console}");
    }
    for bad in ["WARNING", "BUG", "Traceback", "hv: connection lost"] {
        ensure!(!console.contains(bad), "the console says {bad:?}:\n{console}");
    }
    ensure!(!host.folder.join("vsock").exists(), "hv has left its socket");
    let json: Value = serde_json::from_slice(&read(&report)?)?;
    schema::check(schema::BOOT, &json)?;
    let device = &json["devices"][0];
    ensure!(device["name"] == "sockets", "{device}");
    let opened = device["opened"].as_u64().unwrap_or_default();
    ensure!(opened >= u64::from(size.count + 2 * size.at_a_time), "only {opened} connections");
    let bytes = |way: &str| device[way].as_u64().unwrap_or_default();
    let least = u64::from(size.blocks) * BLOCK as u64;
    ensure!(bytes("bytes_in") > least && bytes("bytes_out") > least, "{device}");
    ensure!(json["findings"] == serde_json::json!([]), "{}", json["findings"]);
    Ok(())
}

/// Builds a guest with socat and python3, and the modules of its kernel.
fn guest(context: &Context, stock: Stock, size: Size) -> anyhow::Result<PathBuf> {
    let Size { count, at_a_time, blocks, .. } = size;
    let script = format!(
        "socat VSOCK-LISTEN:{SOCAT},fork EXEC:/bin/cat &\n\
         until {SEND} 2>why; do cat why; grep -q 'timed out' why || echo 'hv: connection lost'; done\n\
         /usr/bin/python3.11 -I -S /guest.py {count} {at_a_time} {blocks}"
    );
    // The C library looks for the last one when a thread ends.
    let others = ["usr/lib/python3.11", "lib/aarch64-linux-gnu/libgcc_s.so.1"];
    let files = vec![("guest.py".to_owned(), GUEST.as_bytes().to_vec())];
    let paths = ["usr/bin/socat", "usr/bin/python3.11"];
    programs(context, stock, &["socat", "python3-minimal"], &paths, &others, files, &script)
}

/// Builds a guest with programs of packages and the modules of its kernel, that runs a script when sockets can be used.
fn programs(
    context: &Context,
    stock: Stock,
    packages: &[&str],
    paths: &[&str],
    others: &[&str],
    mut files: Vec<(String, Vec<u8>)>,
    script: &str,
) -> anyhow::Result<PathBuf> {
    let folder = stock::drivers(&Cache::open()?, stock)?;
    for module in ["hv_vmbus", "vsock", "hv_sock"] {
        let file = fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).find(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.split('.').next() == Some(module)
        });
        let file = file.with_context(|| format!("{} has no {module}", folder.display()))?;
        let bytes = Module::read(&file.to_string_lossy(), read(&file)?)?.bytes;
        files.push((format!("modules/{module}.ko"), bytes));
    }
    let script = format!("for name in hv_vmbus vsock hv_sock; do insmod /modules/$name.ko; done\n{script}");
    initrd_of(context, packages, paths, others, &files, &script)
}

/// The host's programs.
struct Host {
    folder: PathBuf,
    /// Length and sum of what socat has sent.
    sent: Receiver<(u64, u32)>,
    /// Bytes of that which have arrived.
    arrived: Arc<AtomicU64>,
}

impl Host {
    /// Listens on the ports that the guest connects to.
    fn new(folder: &Path, size: Size) -> anyhow::Result<Self> {
        fs::create_dir(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        let (sender, sent) = channel();
        serve(folder, 5000, |mut stream| {
            let (length, sum) = sum(&mut stream)?;
            writeln!(stream, "{length} {sum}")
        })?;
        serve(folder, 5001, move |stream| {
            BufReader::new(&stream).read_line(&mut String::new())?;
            (0..size.blocks).try_for_each(|number| { &stream }.write_all(&block(number)))
        })?;
        serve(folder, 5002, |mut stream| {
            let mut bytes = [0; 4096];
            loop {
                match stream.read(&mut bytes)? {
                    0 => return Ok(()),
                    length => stream.write_all(&bytes[..length])?,
                }
            }
        })?;
        // No program reads, so the streams stay open.
        serve(folder, 5003, |stream| {
            std::mem::forget(stream);
            Ok(())
        })?;
        let arrived = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&arrived);
        serve(folder, 5005, move |mut stream| {
            let _ = Sender::clone(&sender).send(count_and_sum(&mut stream, &count)?);
            Ok(())
        })?;
        Ok(Self { folder: folder.to_owned(), sent, arrived })
    }

    /// Waits for a stream of this length and sum. One that Linux has given up has nothing.
    fn gets(&self, whole: (u64, u32)) -> anyhow::Result<()> {
        loop {
            match self.sent.recv_timeout(HUNG).context("a stream has not ended")? {
                (0, _) => {}
                sent if sent == whole => return Ok(()),
                sent => bail!("length and sum of a stream are {sent:?}, not {whole:?}"),
            }
        }
    }

    /// Connects to a port of the guest's.
    fn connect(&self, port: u32) -> anyhow::Result<UnixStream> {
        connect(&self.folder, port)
    }
}

/// Connects to a port of the guest's, through the folder of sockets.
fn connect(folder: &Path, port: u32) -> anyhow::Result<UnixStream> {
    let mut stream = UnixStream::connect(folder.join("vsock"))?;
    writeln!(stream, "CONNECT {port}")?;
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            bail!("{UNTAKEN} to port {port}");
        }
        line.extend(byte);
    }
    ensure!(line.starts_with(b"OK "), "{:?}", String::from_utf8_lossy(&line));
    Ok(stream)
}

/// Checks that a connection to a port of the guest's without a listener is closed, after the time that a listener has.
fn is_refused(folder: &Path, port: u32) -> anyhow::Result<()> {
    let started = Instant::now();
    let refused = connect(folder, port).err().context("a port without a listener took a connection")?;
    let took = started.elapsed();
    ensure!(refused.to_string().starts_with(UNTAKEN) && took >= TO_LISTEN, "after {took:?}: {refused:#}");
    Ok(())
}

/// Serves each connection to a port of the host's in a thread of its own.
fn serve(
    folder: &Path,
    port: u32,
    work: impl Fn(UnixStream) -> std::io::Result<()> + Clone + Send + 'static,
) -> anyhow::Result<()> {
    let listener = UnixListener::bind(folder.join(format!("vsock_{port}")))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let work = work.clone();
            std::thread::spawn(move || work(stream));
        }
    });
    Ok(())
}

/// Plays the host's side: it connects to the guest. Meanwhile a connection waits for a listener, which never comes.
fn talk(host: &Host, size: Size, ready: &mut dyn FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    until("the guest listens", ready)?;
    let folder = &host.folder;
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| is_refused(folder, NO_LISTENER));
        let talked = talk_with_programs(host, size);
        let refused = refused.join().unwrap_or_else(|_| bail!("it panicked"));
        talked.and(refused)?;
        writeln!(host.connect(PROGRAM)?, "quit")?;
        Ok(())
    })
}

fn talk_with_programs(host: &Host, size: Size) -> anyhow::Result<()> {
    host.gets(busybox()?)?;

    let mut deaf = host.connect(PROGRAM)?;
    writeln!(deaf, "deaf")?;
    deaf.set_nonblocking(true)?;
    let mut full = 0;
    // A guest that does not read has a ring, and the tool and the kernel some buffers.
    while full < 64 << 20 {
        match deaf.write(&block(0)) {
            Ok(bytes) => full += bytes,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    ensure!(full < 64 << 20, "a stream that the guest does not read took {full} bytes");

    for (port, greeting) in [(SOCAT, ""), (PROGRAM, "echo\n")] {
        let mut stream = host.connect(port)?;
        stream.write_all(greeting.as_bytes())?;
        stream.write_all(b"hello\n")?;
        let mut bytes = [0; 6];
        stream.read_exact(&mut bytes)?;
        ensure!(&bytes == b"hello\n");
        stream.shutdown(std::net::Shutdown::Write)?;
        ensure!(stream.read(&mut bytes)? == 0, "the guest closes its direction too");
    }

    let mut many = (0..size.at_a_time).map(|_| host.connect(PROGRAM)).collect::<Result<Vec<_>, _>>()?;
    for (number, stream) in many.iter_mut().enumerate() {
        writeln!(stream, "echo")?;
        stream.write_all(&(number as u32).to_le_bytes())?;
    }
    for (number, stream) in many.iter_mut().enumerate() {
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes)?;
        ensure!(bytes == (number as u32).to_le_bytes(), "stream {number} has bytes of another");
    }
    drop(many);

    let mut stream = host.connect(PROGRAM)?;
    writeln!(stream, "sum")?;
    let mut expected = 1;
    for number in 0..size.blocks {
        let block = block(number);
        expected = adler(expected, &block);
        stream.write_all(&block)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer == format!("{} {expected}\n", u64::from(size.blocks) * BLOCK as u64), "{answer:?}");

    let mut stream = host.connect(PROGRAM)?;
    writeln!(stream, "blocks {}", size.blocks)?;
    let (whole, got) = ((u64::from(size.blocks) * BLOCK as u64, expected), sum(&mut stream)?);
    ensure!(got == whole, "length and sum of the guest's blocks are {got:?}, not {whole:?}");
    Ok(())
}

/// Returns the block of a number: that number again and again.
fn block(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(BLOCK / 4)
}

/// Computes Adler-32, as in RFC 1950.
fn adler(sum: u32, bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (sum & 0xffff, sum >> 16);
    // As many as a word holds without a remainder.
    for part in bytes.chunks(5552) {
        for byte in part {
            a += u32::from(*byte);
            b += a;
        }
        (a, b) = (a % 65521, b % 65521);
    }
    b << 16 | a
}

/// Returns length and sum of the program that the guest sends.
fn busybox() -> anyhow::Result<(u64, u32)> {
    let bytes = read(&stock::busybox(&Cache::open()?)?)?;
    Ok((bytes.len() as u64, adler(1, &bytes)))
}

/// Returns length and sum of everything that a stream has.
fn sum(stream: &mut UnixStream) -> std::io::Result<(u64, u32)> {
    count_and_sum(stream, &AtomicU64::new(0))
}

/// Counts the bytes of a stream as they come, and sums them.
fn count_and_sum(stream: &mut UnixStream, count: &AtomicU64) -> std::io::Result<(u64, u32)> {
    let (mut length, mut sum, mut bytes) = (0, 1, vec![0; BLOCK]);
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok((length, sum)),
            read => {
                length += read as u64;
                count.fetch_add(read as u64, Ordering::Relaxed);
                sum = adler(sum, &bytes[..read]);
            }
        }
    }
}

/// Checks that an interrupted run removes its socket, and the folder if it created it, and that the program's own
/// sockets stay. A program that is connected sees the end.
fn stopped(context: &Context, signal: Signal) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let [made, own, temporary] = ["made", "own", "temporary"].map(|name| folder.join(name));
    fs::create_dir(&temporary)?;
    fs::create_dir(&own)?;
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700))?;
    let _listener = UnixListener::bind(own.join("vsock_5000"))?;
    // Before the guest runs, and while it does.
    for (sockets, waits_for) in [(&made, ""), (&own, "hv: shell")] {
        let keep = sockets.with_extension("keep");
        let line = ["boot", "--quiet", "--vps", "1", "--timeout", HUNG_SECONDS, "--run", "shell", "--vsock"];
        let mut command = context.command(&line)?;
        command.arg(sockets).arg("--keep").arg(&keep).env("TMPDIR", &temporary).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut stream = None;
        let connected = until("there is a socket, and the guest as far as it is to be", || {
            ensure!(child.try_wait()?.is_none(), "it has ended");
            if !console(&keep).contains(waits_for) {
                return Ok(false);
            }
            stream = UnixStream::connect(sockets.join("vsock")).ok();
            Ok(stream.is_some())
        });
        let result = connected.and_then(|()| end(&mut child, signal));
        let _ = child.kill();
        let _ = child.wait();
        result?;
        // One that was not accepted yet is reset.
        let ended = match stream.context("a stream")?.read(&mut [0]) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        };
        ensure!(ended, "the stream has not ended");
    }
    ensure!(!made.exists(), "hv has left the folder that it made");
    ensure!(!own.join("vsock").exists(), "hv has left its socket");
    ensure!(own.join("vsock_5000").exists(), "hv has removed a socket of another program's");
    let left: Vec<_> = fs::read_dir(&temporary)?.flatten().map(|entry| entry.path()).collect();
    ensure!(left.is_empty(), "{left:?} is left");
    Ok(())
}

/// Checks that connections that are reset end for the program in the guest and on the host, and that others continue.
fn reset(context: &Context) -> anyhow::Result<()> {
    let stock = Stock::Cloud612;
    let script = format!(
        "n=0\n\
         while [ $n -lt 3 ]; do {SEND} && n=$((n + 1)); done\n\
         echo 'sockets: done'"
    );
    let initrd = programs(context, stock, &["socat"], &["usr/bin/socat"], &[], Vec::new(), &script)?;
    let folder = context.folder()?;
    let host = Host::new(&folder.join("sockets"), SMALL)?;
    let (initrd, sockets) = (initrd.to_string_lossy(), host.folder.to_string_lossy());
    let plan = "rescind=sockets@5,mute=100ms@500ms";
    let booted = context.boot(&["--initrd", &initrd, "--vsock", &sockets, "--inject", plan])?;
    booted.ended(Exit::Success, "power-off")?;
    booted.says("sockets: done")?;
    let fired = |at: usize| booted.json.pointer(&format!("/faults/{at}/fired")).and_then(Value::as_u64);
    booted.check(fired(0) == Some(1), "one connection was taken away")?;
    booted.check(fired(1).is_some_and(|times| times > 0), "the host was silent")?;
    let whole = busybox()?;
    let mut sent = Vec::new();
    while sent.iter().filter(|sent| **sent == whole).count() < 3 {
        sent.push(host.sent.recv_timeout(HUNG).with_context(|| format!("only {sent:?}"))?);
    }
    let cut = |sent: &&(u64, u32)| (1..whole.0).contains(&sent.0);
    ensure!(sent.iter().filter(cut).count() == 1, "one is cut off: {sent:?}");
    Ok(())
}

/// Checks that a folder that is not a folder of sockets, or in use, is refused before anything starts.
fn refused(context: &Context) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let [open, link] = ["open", "link"].map(|name| folder.join(name));
    fs::create_dir(&open)?;
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755))?;
    std::os::unix::fs::symlink(&open, &link)?;
    let hv = |path: &Path| context.hv(&["boot", "--vsock", &path.to_string_lossy()]);
    hv(&open)?.refused("expected mode 0700")?;
    hv(&link)?.refused("links are not followed")?;
    hv(&folder.join("a/b"))?.refused("an existing folder")?;
    fs::set_permissions(&open, fs::Permissions::from_mode(0o700))?;
    let _other = UnixListener::bind(open.join("vsock"))?;
    hv(&open)?.refused("another machine may use it")?;
    // A folder that it would make is gone again when another option is refused.
    let made = folder.join("made");
    let text = made.to_string_lossy().into_owned();
    context.hv(&["boot", "--vsock", &text, "--kernel", "/nonexistent"])?.refused("/nonexistent")?;
    ensure!(!made.exists(), "hv has left the folder that it made");
    Ok(())
}
