//! Sockets: bytes between this computer and a stock guest, on a socket of this machine's and on a port of QEMU's
//! virtio-serial. socat sends each byte back, and this program measures: a virtio-serial port has no connections, so
//! only the way there and back is compared.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hv_setup::cache::Cache;
use hv_setup::developer::BenchDevicesArgs;
use hv_setup::stock::{self, Stock};

use super::network::{files_of, loading};
use super::peer::{Peer, Running};
use super::table::{Figure, Figures, median};
use super::{Measure, Names};
use crate::test::context::{Context, HUNG, HUNG_SECONDS};
use crate::test::devices::file_systems::load;
use crate::test::life::until;
use crate::test::packages::initrd_of;

/// The guest's port.
const PORT: u32 = 23;
/// Connections that are measured at least, and bytes.
const LEAST: u32 = 20;
/// How long an answer to a connection is waited for. A guest without the driver never answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// The figures.
const BYTE: &str = "socket-byte";
const CONNECT: &str = "socket-connect";

/// What both sides need.
pub(super) struct Bench {
    names: Names,
    initrd: PathBuf,
    vps: String,
    seconds: Duration,
}

impl Bench {
    pub(super) fn prepare(context: &Context, args: &BenchDevicesArgs, names: Names) -> anyhow::Result<Self> {
        let mut modules = Vec::new();
        load(&stock::drivers(&Cache::open()?, Stock::Cloud612)?, "hv_sock", &mut modules)?;
        // socat's PIPE sends back what comes. A port that is not open on the host is at its end. Its driver is
        // built in.
        let script = format!(
            "{}if [ -d /sys/bus/vmbus ]; then\n\
             socat VSOCK-LISTEN:{PORT},fork PIPE\n\
             fi\n\
             until [ -c /dev/vport0p1 ]; do sleep 0.1; done\n\
             while :; do socat /dev/vport0p1 PIPE; sleep 0.1; done\n",
            loading(&modules)
        );
        let files = files_of(&modules);
        let initrd = initrd_of(context, &["socat"], &["usr/bin/socat"], &[], &files, &script)?;
        let seconds = Duration::from_secs(args.seconds.into());
        Ok(Self { names, initrd, vps: args.vps.to_string(), seconds })
    }

    /// Repeats something for as long as a figure is measured, if it is wanted, and returns the median time in
    /// microseconds, and the bytes that were sent and came back.
    fn measure(
        &self,
        name: &'static str,
        mut once: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Figures> {
        if !self.names.contains(&name) {
            return Ok(Figures::new());
        }
        let (start, mut times, mut bytes) = (Instant::now(), Vec::new(), 0);
        while bytes < LEAST || start.elapsed() < self.seconds {
            let begin = Instant::now();
            once()?;
            times.push(begin.elapsed().as_secs_f64() * 1e6);
            bytes += 1;
            hv_setup::interrupt::check()?;
        }
        let value = median(times).context("nothing was measured")?;
        Ok([(name.to_owned(), Figure { value, bytes: f64::from(bytes) })].into())
    }
}

impl Measure for Bench {
    const NAME: &'static str = "socket";

    fn here(&self, context: &Context) -> anyhow::Result<Figures> {
        let folder = context.folder()?.join("sockets");
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let line = ["boot", "--quiet", "--stock", "6.12", "--vps", &self.vps, "--timeout", HUNG_SECONDS];
        let mut command = context.command(&line)?;
        command.arg("--initrd").arg(&self.initrd).arg("--vsock").arg(&folder);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut boot = Boot(child);
        let mut first = None;
        until("the guest accepts connections", || {
            ensure!(boot.0.try_wait()?.is_none(), "hv boot has ended");
            first = connect(&folder).ok();
            Ok(first.is_some())
        })?;
        let mut stream = first.context("a stream")?;
        let mut figures = self.measure(BYTE, || echo(&mut stream))?;
        figures.extend(self.measure(CONNECT, || echo(&mut connect(&folder)?))?);
        Ok(figures)
    }

    fn peer(&self, peer: &Peer<'_>) -> anyhow::Result<Figures> {
        if !self.names.contains(&BYTE) {
            return Ok(Figures::new());
        }
        let socket = peer.context.folder()?.join("port");
        let chardev = format!("socket,id=port,server=on,wait=off,path={}", socket.display());
        let port = "virtserialport,chardev=port,name=bench";
        let devices = ["-chardev", &chardev, "-device", "virtio-serial-pci", "-device", port];
        let mut running = Running::start(peer.command(&self.initrd, "", &devices))?;
        let mut stream = None;
        until("QEMU listens", || {
            ensure!(running.ended()?.is_none(), "QEMU alone has ended");
            stream = UnixStream::connect(&socket).ok();
            Ok(stream.is_some())
        })?;
        let mut stream = stream.context("a stream")?;
        stream.set_read_timeout(Some(HUNG))?;
        // The first one is answered when the guest is there.
        echo(&mut stream)?;
        self.measure(BYTE, || echo(&mut stream))
    }
}

/// `hv boot` while it runs. It ends with this value.
struct Boot(Child);

impl Drop for Boot {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Connects to the guest's port.
fn connect(folder: &Path) -> anyhow::Result<UnixStream> {
    let mut stream = UnixStream::connect(folder.join("vsock"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "CONNECT {PORT}")?;
    let mut line = String::new();
    // The guest sends nothing of its own, so no byte after the line is read.
    BufReader::new(&stream).read_line(&mut line)?;
    ensure!(line.starts_with("OK "), "the connection was refused: {line:?}");
    stream.set_read_timeout(Some(HUNG))?;
    Ok(stream)
}

/// Sends a byte, and waits for it.
fn echo(stream: &mut UnixStream) -> anyhow::Result<()> {
    stream.write_all(b"x")?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    ensure!(&byte == b"x", "another byte came back");
    Ok(())
}
