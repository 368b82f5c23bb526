//! Disks: fio in a stock guest, on a SCSI disk of this machine's and on QEMU's virtio-blk.
//!
//! Both guests have the same kernel, root file system and programs; both disks are files on this computer, of the same
//! size and filled alike, in its page cache.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use hv_setup::cache::Cache;
use hv_setup::developer::BenchDevicesArgs;
use hv_setup::exit::Exit;
use hv_setup::stock;

use super::peer::{self, Peer};
use super::table::{Figures, median_command, said};
use super::{Measure, Names};
use crate::test::context::{Context, read};
use crate::test::devices::programs::{GuestFiles, Programs};
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
    names: Names,
    files: GuestFiles,
    initrd: PathBuf,
    vps: String,
    limit: Duration,
}

impl Bench {
    pub(super) fn prepare(context: &Context, args: &BenchDevicesArgs, names: Names) -> anyhow::Result<Self> {
        let programs = Programs { packages: &["fio"], paths: &["usr/bin/fio"] };
        let files =
            GuestFiles::sized(context, &programs, &[], &script(&names, &timed(args.seconds), 1), SIZE)?;
        let busybox = read(&stock::busybox(&Cache::open()?)?)?;
        let initrd = context.folder()?.join("initrd");
        let drivers = peer::drivers(&["virtio_blk"])?;
        std::fs::write(&initrd, hv_machine::initrd::stock(&busybox, &drivers, None)?)?;
        let measured = Duration::from_secs(u64::from(args.seconds) * names.len() as u64);
        Ok(Self { names, files, initrd, vps: args.vps.to_string(), limit: START + 2 * measured })
    }

    /// Fills the disk, so that every run begins with the same file, all of it in the page cache.
    fn fill(&self) -> anyhow::Result<()> {
        let page: Vec<u8> = (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let bytes = page.iter().copied().cycle().take(SIZE as usize).collect::<Vec<_>>();
        std::fs::write(&self.files.data, bytes).context("cannot fill the disk")
    }
}

impl Measure for Bench {
    const NAME: &'static str = "disk";

    fn here(&self, context: &Context) -> anyhow::Result<Figures> {
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
        said(&booted.console, &self.names)
    }

    fn peer(&self, peer: &Peer<'_>) -> anyhow::Result<Figures> {
        self.fill()?;
        let drive = |id: &str, file: &Path, more: &str| {
            format!("if=none,id={id},format=raw,file={}{more}", file.display().to_string().replace(',', ",,"))
        };
        let mut options = Vec::new();
        for (id, file, more) in [("root", &self.files.root, ",snapshot=on"), ("data", &self.files.data, "")] {
            options.extend(["-drive".to_owned(), drive(id, file, more)]);
            options.extend(["-device".to_owned(), format!("virtio-blk-pci,drive={id}")]);
        }
        let command = peer.command(&self.initrd, ROOT, &options);
        said(&peer::output(command, self.limit)?, &self.names)
    }
}

/// Returns fio's options for jobs of this length, after a second of warming up.
fn timed(seconds: u32) -> String {
    format!("--time_based --runtime={seconds} --ramp_time=1")
}

/// Returns the script of both guests, which measures the figures with these names on the disk `$D`, with fio's options
/// for the length of a job. A figure is the median of an odd number of jobs; a job that ends with an error (fio's field
/// 5) has none. The bytes are what the kernel has read and written for all of them (Documentation/block/stat.rst),
/// fio's warming up included.
pub(crate) fn script(names: &[&str], length: &str, times: usize) -> String {
    let head = format!(
        "J=\"--name=bench --filename=$D --direct=1 --ioengine=libaio {length} \
         --randrepeat=1 --eta=never --output-format=terse --terse-version=3\"\n\
         moved() {{ set -- $(cat /sys/block/${{D#/dev/}}/stat); echo $((($3 + $7) * 512)); }}\n\
         measure() {{\n\
         name=$1\nfield=$2\nshift 2\n\
         before=$(moved)\n\
         figure=$(for _ in $(seq {times}); do fio $J $* | awk -F ';' -v field=$field '$1 == 3 && $5 == 0 {{ print $field }}'; done | {})\n\
         echo \"bench: $name $figure $(($(moved) - before))\"\n\
         }}\n",
        median_command(times)
    );
    let jobs = JOBS.iter().filter(|(name, ..)| names.contains(name));
    let jobs = jobs.map(|(name, options, field)| format!("measure {name} {field} {options}\n"));
    head + &jobs.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::super::table::ROWS;
    use super::*;

    #[test]
    fn every_job_has_a_row() {
        let names: Names = JOBS.iter().map(|(name, ..)| *name).collect();
        let rows: Names =
            ROWS.iter().map(|row| row.name).filter(|name| name.starts_with(Bench::NAME)).collect();
        assert_eq!(names, rows);
    }
}
