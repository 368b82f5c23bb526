//! The system of an image, while it runs: over ssh, as its user would see it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use hv_setup::cache::Cache;
use hv_setup::exit::Exit;
use hv_setup::{process, qemu, stock};

use crate::test::context::{Context, HUNG};
use crate::test::devices::network::free_port;
use crate::test::devices::storage::tool;
use crate::test::uefi;

/// What is asked, each answer on a line of its own. The first waits for the end of the boot.
const ASKED: &str = "echo state: $(systemctl is-system-running --wait)
    echo failed: $(systemctl --failed --no-legend --plain).
    echo virtualization: $(systemd-detect-virt)
    echo daemons: $(systemctl list-units --no-legend --plain --state=running '*hv-*-daemon*' '*hv_*_daemon*' | cut -d' ' -f1)
    echo leases: $(ip -4 -o address show scope global dynamic | wc -l)
    echo host keys: $(ls /etc/ssh/ssh_host_*_key | wc -l)
    echo machine: $(wc -c < /etc/machine-id)
    echo mebibytes: $(df --block-size=M --output=size / | tr -dc 0-9)
    echo sources: $(grep -h ^deb /etc/apt/sources.list | cut -d' ' -f2 | sort -u)
    echo audit: $(dpkg --audit).";
/// Exit code of ssh when the connection failed (ssh(1), "EXIT STATUS").
const SSH_FAILED: i32 = 255;
/// What Linux's EFI stub prints when its initrd comes from the boot loader (drivers/firmware/efi/libstub).
const HANDED_OVER: &str = "EFI stub: Loaded initrd from LINUX_EFI_INITRD_MEDIA_GUID";
/// Between two tries to log in.
const PAUSE: Duration = Duration::from_secs(2);

/// A pair of keys.
pub(super) struct Key {
    pub(super) private: PathBuf,
}

impl Key {
    /// Makes one in a folder.
    pub(super) fn make(folder: &Path) -> anyhow::Result<Self> {
        let private = folder.join("key");
        let mut command = Command::new(tool("ssh-keygen", "openssh-client")?);
        command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&private);
        let done = process::run(&mut command, || {})?;
        ensure!(done.status.success(), "ssh-keygen: {}", done.stderr);
        Ok(Self { private })
    }

    /// Returns the path of the public one.
    pub(super) fn public(&self) -> String {
        self.private.with_extension("pub").to_string_lossy().into_owned()
    }
}

/// A machine's ssh server.
struct Server<'a> {
    port: u16,
    key: &'a Key,
    /// The machine has ended.
    over: &'a AtomicBool,
}

impl Server<'_> {
    /// Runs a script there; ssh fails while it does not answer.
    fn run(&self, script: &str, identity: &[&str]) -> anyhow::Result<process::Finished> {
        let mut command = Command::new(tool("ssh", "openssh-client")?);
        command.args(["-F", "/dev/null", "-p", &self.port.to_string()]);
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=20",
        ] {
            command.args(["-o", option]);
        }
        process::run(command.args(identity).args(["root@127.0.0.1", script]), || {})
    }

    /// Waits until it answers, asks, runs a script, and switches the machine off, whatever it answers. Returns the
    /// answers.
    fn visit(&self, program: &str, script: &str) -> anyhow::Result<String> {
        let private = self.key.private.to_string_lossy();
        let own = ["-o", "IdentitiesOnly=yes", "-i", &private];
        self.wait(&own)?;
        let answers = self.ask(program, &own).and_then(|answers| {
            let done = self.run(script, &own)?;
            ensure!(done.status.success(), "{script}: {}: {}{}", done.status, done.stdout, done.stderr);
            Ok(answers)
        });
        let off = self.run("systemctl poweroff", &own)?;
        // The machine may end the connection before ssh has the command's status: then ssh fails. That it powers off
        // shows in how it ends.
        let is_off = off.status.success() || off.status.code() == Some(SSH_FAILED);
        let answers = answers?;
        ensure!(is_off, "systemctl poweroff: {}", off.stderr);
        Ok(answers)
    }

    /// Waits until it lets this identity log in.
    fn wait(&self, own: &[&str]) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let done = self.run("true", own)?;
            if done.status.success() {
                return Ok(());
            }
            ensure!(!self.over.load(Ordering::Relaxed), "the machine has ended: {}", done.stderr);
            ensure!(started.elapsed() < HUNG, "no ssh: {}", done.stderr);
            std::thread::sleep(PAUSE);
        }
    }

    /// Asks it, and whether it lets others log in.
    fn ask(&self, program: &str, own: &[&str]) -> anyhow::Result<String> {
        // Root has no password, and none is asked for.
        let other = self.run("true", &["-o", "PubkeyAuthentication=no"])?;
        ensure!(other.stderr.contains("Permission denied (publickey"), "without a key: {}", other.stderr);
        let script = format!("{ASKED}\necho program: $(command -v {program})\n");
        let answers = self.run(&script, own)?;
        ensure!(answers.status.success(), "{}: {}", answers.status, answers.stderr);
        Ok(answers.stdout)
    }
}

/// An image, and what its system has.
pub(super) struct Image<'i> {
    pub(super) file: &'i Path,
    /// Lets root log in.
    pub(super) key: &'i Key,
    /// A program in `/usr/bin`.
    pub(super) program: &'i str,
    pub(super) gibs: u64,
    /// The mirror that it was made from and has as its source, if one was named.
    pub(super) mirror: Option<&'i str>,
}

impl Image<'_> {
    /// Judges what its system has answered on this machine.
    fn judge(&self, answers: &str, virtualization: &str) -> anyhow::Result<()> {
        let line = |word: &str| answers.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(": "));
        for (word, expected) in [
            ("state", "running"),
            ("failed", "."),
            ("virtualization", virtualization),
            ("leases", "1"),
            ("host keys", "3"),
            ("machine", "33"),
            ("audit", "."),
            ("program", &format!("/usr/bin/{}", self.program)),
        ] {
            ensure!(line(word) == Some(expected), "expected {word}: {expected}\n{answers}");
        }
        // That of file copy runs where the host has the service.
        let runs = |daemon: &str| line("daemons").is_some_and(|names| names.contains(daemon));
        let expected = virtualization == "microsoft";
        ensure!(runs("kvp") == expected && runs("vss") == expected, "hyperv-daemons:\n{answers}");
        let mebibytes: u64 = line("mebibytes").and_then(|size| size.parse().ok()).unwrap_or_default();
        // Without the EFI partition, and what ext4 takes.
        ensure!(
            mebibytes > ((self.gibs << 10) - 256) * 9 / 10,
            "the root does not fill the image:\n{answers}"
        );
        let sources = line("sources").unwrap_or_default();
        match self.mirror {
            Some(mirror) => ensure!(sources == mirror, "expected {mirror} alone:\n{answers}"),
            None => ensure!(!sources.is_empty(), "apt has no sources:\n{answers}"),
        }
        Ok(())
    }
}

/// Visits a machine of an image while `run` runs it, with a port of the host's that leads to its ssh server, and runs a
/// script there.
fn visited<T>(
    image: &Image<'_>,
    script: &str,
    virtualization: &str,
    run: impl FnOnce(u16) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let &Image { key, program, .. } = image;
    let (port, over) = (free_port()?, AtomicBool::new(false));
    let (ran, answers) = std::thread::scope(|scope| {
        let visit = scope.spawn(|| Server { port, key, over: &over }.visit(program, script));
        let ran = run(port);
        over.store(true, Ordering::Relaxed);
        (ran, visit.join().unwrap_or_else(|_| bail!("it panicked")))
    });
    // If both failed, the machine's end follows from what was wrong in it, or is the reason itself.
    let (ran, answers) = match (ran, answers) {
        (Ok(ran), Ok(answers)) => (ran, answers),
        (Ok(_), Err(error)) => return Err(error),
        (Err(error), Ok(answers)) => return Err(error.context(answers)),
        (Err(end), Err(error)) => return Err(end.context(format!("{error:#}"))),
    };
    image.judge(&answers, virtualization)?;
    Ok(ran)
}

/// Boots an image on this machine, whose entry is told of with `entry`.
pub(super) fn on_hyper_v(context: &Context, image: &Image<'_>, entry: &str) -> anyhow::Result<()> {
    boot(context, image, (&image.file.to_string_lossy(), "true"), entry)
}

/// Boots an image on this machine, and has its system run a script that changes it.
pub(super) fn changed(context: &Context, image: &Image<'_>, script: &str, entry: &str) -> anyhow::Result<()> {
    boot(context, image, (&format!("{},rw", image.file.display()), script), entry)
}

fn boot(
    context: &Context,
    image: &Image<'_>,
    (disk, script): (&str, &str),
    entry: &str,
) -> anyhow::Result<()> {
    let booted = visited(image, script, "microsoft", |port| {
        let net = format!("user,forward=tcp:{port}:22");
        let machine = ["--net", &*net, "--memory", "1G", "--vps", "2"];
        let booted = context.boot(&[&["--disk", disk], &machine[..]].concat())?;
        booted.ended(Exit::Success, "power-off")?;
        Ok(booted)
    })?;
    ensure!(booted.stderr.contains(entry), "expected {entry:?}: {}", booted.stderr);
    booted.says("debian login:")
}

/// Boots an image on QEMU's own machine: firmware finds the boot loader, and that the kernel.
pub(super) fn by_firmware(image: &Image<'_>) -> anyhow::Result<()> {
    let firmware = stock::firmware(&Cache::open()?)?;
    let console = visited(image, "true", "qemu", |port| {
        let mut command = qemu::prepare(None)?.command();
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none"]);
        command.args(["-machine", "virt,gic-version=3", "-cpu", "cortex-a72", "-smp", "2", "-m", "1G"]);
        command.arg("-no-reboot").arg("-bios").arg(&firmware).stdin(Stdio::null());
        command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        command.args(["-device", "virtio-blk-pci,drive=disk", "-drive"]);
        command.arg(format!("file={},format=raw,if=none,id=disk", image.file.display()));
        command.args(["-device", "virtio-net-pci,netdev=net,romfile=", "-netdev"]);
        command.arg(format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22"));
        uefi::run(&mut command)
    })?;
    // The boot loader has passed the initrd on, and the visit has shown the rest. The console's prompt may be missing:
    // on a busy machine systemd gives up that device after 90 s.
    ensure!(console.contains(HANDED_OVER), "the console says:\n{console}");
    Ok(())
}
