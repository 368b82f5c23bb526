//! A frozen guest: its disk is copied while fio writes, and the copy is clean. The guest breaks no rule of the
//! interface meanwhile.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use hv_setup::exit::Exit;

use super::super::context::Context;
use super::super::life::until;
use super::super::runner::Step;
use super::super::services::Controlled;
use super::programs::{GuestFiles, Programs, clean};
use super::storage::{SIZE, run, tool};

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    [("6.12", "2"), ("6.1", "1"), ("16k", "4")]
        .into_iter()
        .map(|(stock, vps)| {
            Step::new(format!("devices/ic/freeze/{stock}"), move |context| freeze(context, stock, vps)).slow()
        })
        .collect()
}

/// Bytes that the copy has more than the disk, by which the guest finds it.
const MORE: u64 = 1 << 20;

/// Mounts the disk, writes it without end, and mounts its copy when that comes.
fn script() -> String {
    format!(
        "mount -t ext4 $D /mnt || echo 'freeze: FAILED'\n\
         mkdir -p /var/lib/hyperv\n\
         until [ -e /dev/vmbus/hv_vss ] && [ -e /dev/vmbus/hv_kvp ]; do sleep 0.1; done\n\
         hv_vss_daemon -n &\n\
         hv_kvp_daemon -n &\n\
         fio --name=write --filename=/mnt/data --size=8m --rw=randwrite --bs=4k --fsync=16 --time_based \
         --runtime=100000 --thread --eta=never --output=fio &\n\
         echo 'hv: waiting'\n\
         C=$(find_disk {})\n\
         mkdir copy\n\
         mount -t ext4 -o ro $C copy && [ -s copy/data ] && echo 'freeze: copy mounted'\n\
         dmesg | grep \"(${{C#/dev/}})\" | grep -i recover && echo 'freeze: FAILED'\n\
         echo 'freeze: done'\n\
         while :; do sleep 1; done",
        (SIZE + MORE) / 512
    )
}

fn freeze(context: &Context, stock: &str, vps: &str) -> anyhow::Result<()> {
    let paths = ["usr/bin/fio", "usr/sbin/hv_vss_daemon", "usr/sbin/hv_kvp_daemon"];
    let programs = Programs { packages: &["fio", "hyperv-daemons"], paths: &paths };
    let files = GuestFiles::new(context, &programs, &[], &script())?;
    let (disk, copy) = (&files.data, files.data.with_file_name("copy.img"));
    run(Command::new(tool("mke2fs", "e2fsprogs")?).args(["-q", "-t", "ext4"]).arg(disk))?;
    let options = files.options();
    let mut line = vec!["--stock", stock, "--vps", vps, "--hotplug-room", "64M"];
    line.extend(options.iter().map(String::as_str));
    let machine = Controlled::start(context, &line)?;
    machine.until("the daemons have registered", || {
        let services = machine.reply(&["status"])?["result"]["services"].take();
        Ok(["vss", "kvp"].iter().all(|service| services[service]["state"] == "ready"))
    })?;
    machine.reply(&["kvp", "set", "external", "colour", "blue"])?;
    changes(disk)?;
    ensure!(journal(disk)?, "a mounted file system has a journal to replay");

    machine.reply(&["freeze"])?;
    fs::copy(disk, &copy)?;
    ensure!(fs::read(disk)? == fs::read(&copy)?, "the frozen disk was written");
    machine.reply(&["thaw"])?;
    changes(disk)?;
    let pair = machine.reply(&["kvp", "get", "external", "colour"])?["result"]["pair"]["value"].take();
    ensure!(pair == "blue", "the daemon has lost the pair: {pair}");
    ensure!(!journal(&copy)?, "the copy has a journal to replay");
    clean(&copy)?;

    File::options().write(true).open(&copy)?.set_len(SIZE + MORE)?;
    machine.reply(&["disk", "add", &format!("{},ro,at=0:9", copy.display())])?;
    machine.until("the guest has mounted the copy", || Ok(machine.console().contains("freeze: done")))?;
    let console = machine.console();
    ensure!(console.contains("freeze: copy mounted"), "the copy was not mounted:\n{console}");
    ensure!(!console.contains("freeze: FAILED"), "{console}");
    machine.until("the guest takes the request to power off", || {
        Ok(machine.ctl(&["shutdown"])?.code == Some(0))
    })?;
    machine.ended(Exit::Success)?;
    Ok(())
}

/// Waits until the disk is written.
fn changes(disk: &Path) -> anyhow::Result<()> {
    let before = fs::read(disk)?;
    until("the guest writes its disk", || Ok(fs::read(disk)? != before))
}

/// Returns true if a file system of ext4 has a journal that a mount would replay: the feature `needs_recovery` of its
/// superblock (e2fsprogs, lib/ext2fs/ext2_fs.h, EXT3_FEATURE_INCOMPAT_RECOVER).
fn journal(disk: &Path) -> anyhow::Result<bool> {
    const INCOMPATIBLE: u64 = 1024 + 0x60;
    let mut word = [0; 4];
    let mut file = File::open(disk)?;
    file.seek(SeekFrom::Start(INCOMPATIBLE))?;
    file.read_exact(&mut word)?;
    Ok(u32::from_le_bytes(word) & 4 != 0)
}
