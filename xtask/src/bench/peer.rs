//! The machine beside this one: QEMU alone, with its own virtio devices and the same kernel.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use hv_machine::initrd::Module;
use hv_setup::cache::Cache;
use hv_setup::qemu::{self, Qemu};
use hv_setup::stock::{self, Stock};
use hv_setup::{interrupt, process};

use crate::test::context::{Context, read};
use crate::test::devices::file_systems::load;

/// QEMU and a kernel for it.
pub(super) struct Peer<'a> {
    pub(super) context: &'a Context,
    pub(super) qemu: Qemu,
    kernel: PathBuf,
    vps: String,
}

impl<'a> Peer<'a> {
    pub(super) fn prepare(context: &'a Context, vps: u32) -> anyhow::Result<Self> {
        let (kernel, _) = stock::kernel(&Cache::open()?, Stock::Cloud612)?;
        let image = context.folder()?.join("Image");
        std::fs::write(&image, hv_machine::unpack_kernel(read(&kernel.image)?, 1 << 30)?)?;
        Ok(Self { context, qemu: qemu::prepare(None)?, kernel: image, vps: vps.to_string() })
    }

    /// Returns the command of a machine with these devices, which dies with this program.
    pub(super) fn command<S: AsRef<OsStr>>(&self, initrd: &Path, append: &str, devices: &[S]) -> Command {
        let mut command = self.qemu.command();
        command
            .args(["-nodefaults", "-no-user-config", "-nic", "none", "-display", "none", "-no-reboot"])
            .args(["-machine", "virt,gic-version=3", "-cpu", "cortex-a72", "-m", "512M", "-smp", &self.vps])
            .args(["-serial", "stdio"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(initrd)
            .args(["-append", &format!("console=ttyAMA0 panic=-1 {append}")])
            .args(devices);
        let arguments: Vec<OsString> = command.get_args().map(OsStr::to_owned).collect();
        self.context.tied(&self.qemu.path, &arguments)
    }
}

/// Returns drivers of virtio devices, with those that they need, in the order in which they are loaded.
pub(crate) fn drivers(names: &[&str]) -> anyhow::Result<Vec<Module>> {
    let folder = stock::virtio(&Cache::open()?)?;
    let mut modules = Vec::new();
    for name in names {
        load(&folder, name, &mut modules)?;
        ensure!(modules.iter().any(|module| module.name == *name), "the kernel's package has no {name}");
    }
    Ok(modules)
}

/// Runs QEMU to its end, and returns what its guest printed.
pub(super) fn output(command: Command, limit: Duration) -> anyhow::Result<String> {
    let mut running = Running::start(command)?;
    let end = Instant::now() + limit;
    loop {
        if let Some(console) = running.ended()? {
            return Ok(console);
        }
        if Instant::now() >= end {
            return Err(anyhow!("QEMU alone has not ended after {} s", limit.as_secs()));
        }
        std::thread::sleep(process::POLL);
    }
}

/// QEMU while it runs. It ends with this value.
pub(super) struct Running {
    _orderly: interrupt::Orderly,
    child: Child,
    output: Option<[process::Reader; 2]>,
}

impl Running {
    pub(super) fn start(mut command: Command) -> anyhow::Result<Self> {
        let orderly = interrupt::orderly();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start QEMU")?;
        let stdout = child.stdout.take().map(|pipe| process::collect(pipe, |_| {}));
        let stderr = child.stderr.take().map(|pipe| process::collect(pipe, |_| {}));
        Ok(Self { _orderly: orderly, child, output: stdout.zip(stderr).map(<[_; 2]>::from) })
    }

    /// Returns what the guest printed, if QEMU has ended.
    pub(super) fn ended(&mut self) -> anyhow::Result<Option<String>> {
        interrupt::check()?;
        let Some(status) = self.child.try_wait()? else { return Ok(None) };
        let [stdout, stderr] =
            self.output.take().context("QEMU has ended before")?.map(process::Reader::finish);
        ensure!(status.success(), "QEMU alone ended with {status}: {stderr}\n{stdout}");
        Ok(Some(stdout))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
