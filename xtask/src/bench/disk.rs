//! Disks: fio in a stock guest, on a SCSI disk of this machine's and on QEMU's virtio-blk.
//!
//! Both guests have the same kernel, root file system and programs; both disks are files on this computer, of the same
//! size and filled alike, in its page cache.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use hv_setup::cache::Cache;
use hv_setup::developer::BenchDevicesArgs;
use hv_setup::exit::Exit;
use hv_setup::qemu::{self, Qemu};
use hv_setup::stock::{self, Stock};
use hv_setup::{interrupt, process};

use super::table::Figures;
use crate::test::context::{Context, read};
use crate::test::devices::file_systems::load;
use crate::test::devices::programs::{Machine, Programs};
use crate::test::devices::storage::ROOT;

/// Bytes of the disk.
const SIZE: u64 = 128 << 20;
/// What a run may take besides the measurements.
const START: Duration = Duration::from_secs(300);

/// fio's options for each row, and the place of the figure in its terse output (fio(1), "TERSE OUTPUT", version 3).
const JOBS: &[(&str, &str, u32)] = &[
    ("disk-randread-1", "--rw=randread --bs=4k --iodepth=1", READ_IOPS),
    ("disk-randwrite-1", "--rw=randwrite --bs=4k --iodepth=1", WRITE_IOPS),
    ("disk-randread-32", "--rw=randread --bs=4k --iodepth=32", READ_IOPS),
    ("disk-randwrite-32", "--rw=randwrite --bs=4k --iodepth=32", WRITE_IOPS),
    ("disk-read", "--rw=read --bs=1m --iodepth=1", READ_BANDWIDTH),
    ("disk-write", "--rw=write --bs=1m --iodepth=1", WRITE_BANDWIDTH),
];
const READ_BANDWIDTH: u32 = 7;
const READ_IOPS: u32 = 8;
const WRITE_BANDWIDTH: u32 = 48;
const WRITE_IOPS: u32 = 49;

/// What both sides need.
pub(super) struct Bench {
    files: Machine,
    qemu: Qemu,
    kernel: PathBuf,
    initrd: PathBuf,
    vps: String,
    limit: Duration,
}

impl Bench {
    pub(super) fn prepare(context: &Context, args: &BenchDevicesArgs) -> anyhow::Result<Self> {
        let cache = Cache::open()?;
        let programs = Programs { packages: &["fio"], paths: &["usr/bin/fio"] };
        let files = Machine::sized(context, &programs, &[], &script(args.seconds), SIZE)?;
        let (kernel, busybox) = stock::kernel(&cache, Stock::Cloud612)?;
        let mut modules = Vec::new();
        load(&stock::virtio(&cache)?, "virtio_blk", &mut modules)?;
        ensure!(!modules.is_empty(), "{} has no virtio_blk", kernel.package);
        let initrd = context.folder()?.join("initrd");
        std::fs::write(&initrd, hv_machine::initrd::stock(&read(&busybox)?, &modules, None)?)?;
        let image = initrd.with_file_name("Image");
        std::fs::write(&image, hv_machine::unpack_kernel(read(&kernel.image)?, 1 << 30)?)?;
        let measured = Duration::from_secs(u64::from(args.seconds) * JOBS.len() as u64);
        Ok(Self {
            files,
            qemu: qemu::prepare(None)?,
            kernel: image,
            initrd,
            vps: args.vps.to_string(),
            limit: START + 2 * measured,
        })
    }

    pub(super) fn qemu_version(&self) -> &str {
        &self.qemu.version
    }

    /// Fills the disk, so that every run begins with the same file, all of it in the page cache.
    fn fill(&self) -> anyhow::Result<()> {
        let page: Vec<u8> = (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let bytes = page.iter().copied().cycle().take(SIZE as usize).collect::<Vec<_>>();
        std::fs::write(&self.files.data, bytes).context("cannot fill the disk")
    }

    /// Measures this machine.
    pub(super) fn here(&self, context: &Context) -> anyhow::Result<Figures> {
        self.fill()?;
        let (root, data) =
            (self.files.root.display().to_string(), format!("{},rw", self.files.data.display()));
        let limit = self.limit.as_secs().to_string();
        let booted = context.boot(&[
            "--stock",
            "6.12",
            "--vps",
            &self.vps,
            "--disk",
            &root,
            "--disk",
            &data,
            "--append",
            ROOT,
            "--timeout",
            &limit,
        ])?;
        booted.ended(Exit::Success, "power-off")?;
        figures(&booted.console)
    }

    /// Measures QEMU's virtio-blk, without the hypervisor.
    pub(super) fn peer(&self) -> anyhow::Result<Figures> {
        self.fill()?;
        let drive = |id: &str, file: &PathBuf, more: &str| {
            format!("if=none,id={id},format=raw,file={}{more}", file.display().to_string().replace(',', ",,"))
        };
        let mut command = self.qemu.command();
        command
            .args(["-nodefaults", "-no-user-config", "-nic", "none", "-display", "none", "-no-reboot"])
            .args(["-machine", "virt,gic-version=3", "-cpu", "cortex-a72", "-m", "512M", "-smp", &self.vps])
            .args(["-serial", "stdio"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initrd)
            .args(["-append", &format!("console=ttyAMA0 {ROOT} panic=-1")])
            .args(["-drive", &drive("root", &self.files.root, ",snapshot=on")])
            .args(["-device", "virtio-blk-pci,drive=root"])
            .args(["-drive", &drive("data", &self.files.data, "")])
            .args(["-device", "virtio-blk-pci,drive=data"]);
        figures(&output(command, self.limit)?)
    }
}

/// Runs QEMU to its end, and returns what its guest printed.
fn output(mut command: Command, limit: Duration) -> anyhow::Result<String> {
    let _orderly = interrupt::orderly();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start QEMU")?;
    let stdout = child.stdout.take().map(|pipe| process::collect(pipe, |_| {}));
    let stderr = child.stderr.take().map(|pipe| process::collect(pipe, |_| {}));
    let end = Instant::now() + limit;
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Ok(status);
        }
        let why = match interrupt::check() {
            Err(stop) => Some(stop.into()),
            Ok(()) if Instant::now() >= end => {
                Some(anyhow!("QEMU with virtio-blk has not ended after {} s", limit.as_secs()))
            }
            Ok(()) => None,
        };
        if let Some(why) = why {
            let _ = child.kill();
            let _ = child.wait();
            break Err(why);
        }
        std::thread::sleep(process::POLL);
    };
    let text = |reader: Option<process::Reader>| reader.map(process::Reader::finish).unwrap_or_default();
    let (stdout, stderr) = (text(stdout), text(stderr));
    let status = ended?;
    ensure!(status.success(), "QEMU with virtio-blk ended with {status}: {stderr}\n{stdout}");
    Ok(stdout)
}

/// The script of both guests.
fn script(seconds: u32) -> String {
    let head = format!(
        "J=\"--name=bench --filename=$D --direct=1 --ioengine=libaio --time_based --runtime={seconds} --ramp_time=1 \
         --randrepeat=1 --eta=never --output-format=terse --terse-version=3\"\n"
    );
    let jobs = JOBS.iter().map(|(name, options, field)| {
        format!(
            "echo \"bench: {name} $(fio $J {options} 2>/dev/null | tail -n 1 | cut -d ';' -f {field})\"\n"
        )
    });
    head + &jobs.collect::<String>()
}

/// Reads the figures that a guest printed: one for each job.
fn figures(console: &str) -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    for line in console.lines() {
        let Some((_, rest)) = line.split_once("bench: ") else { continue };
        if let Some((name, value)) = rest.trim().split_once(' ')
            && let Ok(value) = value.trim().parse::<f64>()
            && value > 0.0
        {
            figures.insert(name.to_owned(), value);
        }
    }
    let missing: Vec<&str> =
        JOBS.iter().map(|(name, ..)| *name).filter(|name| !figures.contains_key(*name)).collect();
    ensure!(missing.is_empty(), "the guest gave no figure of {}:\n{console}", missing.join(", "));
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_has_a_row_and_a_figure() {
        let rows: Vec<&str> = super::super::table::ROWS.iter().map(|row| row.name).collect();
        let jobs: Vec<&str> = JOBS.iter().map(|(name, ..)| *name).collect();
        assert_eq!(rows, jobs);
        let console: String = jobs.iter().map(|name| format!("[ 1.0] x\r\nbench: {name} 12\r\n")).collect();
        assert_eq!(figures(&console).unwrap().len(), jobs.len());
        let error = figures("bench: disk-read 0\nbench: disk-write \n").unwrap_err().to_string();
        assert!(error.contains("disk-read, disk-write"), "{error}");
    }
}
