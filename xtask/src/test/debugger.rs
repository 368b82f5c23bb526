//! A debugger at QEMU's stub: it can connect where the user says, and reach no more than the machine.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, ensure};

use super::context::{Context, HUNG, HUNG_SECONDS};
use super::runner::Step;
use hv_setup::qemu;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("debugger/socket-is-the-users-alone", |context| private(context, &[])),
        Step::new("debugger/socket-of-a-path", of_a_path),
        Step::new("debugger/tcp-by-name-with-a-warning", tcp),
        Step::new("debugger/monitor-runs-no-program", no_program),
    ]
}

/// A machine that waits for a debugger.
struct Waiting {
    hv: Child,
    /// The address to connect to.
    target: String,
    /// The messages before it.
    notes: String,
}

impl Waiting {
    fn start(context: &Context, gdb: &str, options: &[&str]) -> anyhow::Result<Self> {
        let mut line = vec!["boot", "--quiet", "--vps", "1", "--timeout", HUNG_SECONDS];
        line.extend(options);
        line.push("--gdb");
        line.extend((!gdb.is_empty()).then_some(gdb));
        let mut hv = context.command(&line)?.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut stderr = BufReader::new(hv.stderr.take().context("no stderr")?);
        let mut notes = String::new();
        let target = loop {
            let mut text = String::new();
            ensure!(stderr.read_line(&mut text)? > 0, "hv boot --gdb {gdb} ended: {notes}");
            if let Some((_, rest)) = text.split_once("target remote ") {
                break rest.trim_end().trim_end_matches('\'').to_owned();
            }
            notes.push_str(&text);
        };
        // Later output must find a reader.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Ok(Self { hv, target, notes })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.hv.kill();
        let _ = self.hv.wait();
    }
}

/// The remote protocol of gdb, as far as needed ("GDB Remote Serial Protocol", "Overview").
struct Stub<S>(S);

impl<S: Read + Write> Stub<S> {
    /// Sends a packet, and returns the answer.
    fn ask(&mut self, packet: &str) -> anyhow::Result<String> {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        self.0.write_all(format!("${packet}#{sum:02x}").as_bytes())?;
        self.packet()
    }

    /// Reads the next packet, and acknowledges it.
    fn packet(&mut self) -> anyhow::Result<String> {
        let mut byte = [0];
        while byte[0] != b'$' {
            self.0.read_exact(&mut byte).context("the stub said nothing")?;
        }
        let mut text = String::new();
        loop {
            self.0.read_exact(&mut byte)?;
            if byte[0] == b'#' {
                break;
            }
            text.push(char::from(byte[0]));
        }
        self.0.read_exact(&mut [0; 2])?;
        self.0.write_all(b"+")?;
        Ok(text)
    }

    /// Returns the answer of QEMU's monitor to a command. Its text comes in packets of its own, before the answer.
    fn monitor(&mut self, command: &str) -> anyhow::Result<String> {
        let words: String = command.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut answer = self.ask(&format!("qRcmd,{words}"))?;
        let mut said = String::new();
        while let Some(text) = answer.strip_prefix('O').filter(|text| *text != "K") {
            let bytes =
                (0..text.len() / 2).filter_map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok());
            said.extend(bytes.map(char::from));
            answer = self.packet()?;
        }
        Ok(said)
    }
}

fn connect(socket: &Path) -> anyhow::Result<Stub<UnixStream>> {
    let stream =
        UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(HUNG))?;
    Ok(Stub(stream))
}

/// Checks that the socket is the user's alone, and that a debugger gets at the machine by it: QEMU, started with these
/// options, has inherited the socket.
pub(super) fn private(context: &Context, options: &[&str]) -> anyhow::Result<()> {
    let waiting = Waiting::start(context, "", options)?;
    let socket = PathBuf::from(&waiting.target);
    let folder = socket.parent().context("a socket is in a folder")?;
    ensure!(folder.metadata()?.mode() & 0o777 == 0o700, "others can enter {}", folder.display());
    ensure!(socket.metadata()?.mode() & 0o077 == 0, "others can open {}", socket.display());
    ensure!(!waiting.notes.contains("every user"), "{}", waiting.notes);
    let mut stub = connect(&socket)?;
    ensure!(stub.ask("?")?.starts_with('T'), "the machine does not stand still");
    let status = stub.monitor("info status")?;
    ensure!(status.contains("paused"), "the monitor says {status:?}");
    // QEMU answers for one register only who has asked for their description.
    stub.ask("qXfer:features:read:target.xml:0,ffb")?;
    // The last of the general registers is the PC ("GDB Remote Serial Protocol", "Packets", p).
    let pc = stub.ask("p20")?;
    ensure!(pc.len() == 16 && !pc.starts_with('E'), "the PC is {pc:?}");
    // A step leaves the first instruction.
    ensure!(stub.ask("s")?.starts_with('T'), "the machine does not step");
    let next = stub.ask("p20")?;
    ensure!(next.len() == 16 && next != pc, "after a step the PC is {next:?} as before");
    Ok(())
}

fn of_a_path(context: &Context) -> anyhow::Result<()> {
    let socket = context.folder()?.join("gdb");
    let waiting = Waiting::start(context, &socket.to_string_lossy(), &[])?;
    ensure!(waiting.target == socket.to_string_lossy(), "the socket is {}", waiting.target);
    ensure!(socket.metadata()?.mode() & 0o077 == 0, "others can open {}", socket.display());
    connect(&socket)?.ask("?")?;
    let line = ["boot".as_ref(), "--gdb".as_ref(), socket.as_os_str()];
    context.hv(&line)?.refused("an unused path")
}

fn tcp(context: &Context) -> anyhow::Result<()> {
    // A port that is free now; another program may take it before QEMU does, which then reports it.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let waiting = Waiting::start(context, &format!("tcp:{port}"), &[])?;
    ensure!(waiting.notes.contains("every user of this machine"), "no warning: {}", waiting.notes);
    ensure!(waiting.target == format!(":{port}"), "the port is {}", waiting.target);
    // QEMU opens the port itself, a moment after its start.
    let started = std::time::Instant::now();
    let stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => ensure!(started.elapsed() < HUNG, "cannot connect: {error}"),
        }
        std::thread::sleep(hv_setup::process::POLL);
    };
    stream.set_read_timeout(Some(HUNG))?;
    ensure!(Stub(stream).ask("?")?.starts_with('T'), "the machine does not stand still");
    Ok(())
}

/// Checks that QEMU's sandbox prevents the monitor behind the stub from starting programs (`migrate exec:`).
fn no_program(context: &Context) -> anyhow::Result<()> {
    if !qemu::prepare(None)?.sandbox {
        // Said by prepare.
        return Ok(());
    }
    let trace = context.folder()?.join("trace");
    let mut waiting = Waiting::start(context, "", &[])?;
    let mut stub = connect(Path::new(&waiting.target))?;
    let command = format!("migrate \"exec:echo was here >'{}'; cat >/dev/null\"", trace.display());
    // QEMU is killed when it tries, or reports that it could not.
    if stub.monitor(&command).is_err() {
        waiting.hv.wait()?;
    }
    ensure!(!fs::exists(&trace)?, "the monitor has run a program");
    Ok(())
}
