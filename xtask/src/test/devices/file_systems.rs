//! A file system that a guest makes on a disk is whole after what ends it in the middle of writing: the machine is
//! killed, the disk is taken away, another kernel starts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use hv_machine::initrd::{Module, name_of};
use hv_setup::cache::Cache;
use hv_setup::stock::{self, Stock};
use rustix::fs::FlockOperation;

use super::super::context::{Context, read};
use super::super::life::until;
use super::super::runner::Step;
use super::super::services::Controlled;
use super::programs::{GuestFiles, Programs, clean};

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("devices/storage/file-system/killed", killed).slow(),
        Step::new("devices/storage/file-system/rescinded", rescinded).slow(),
        Step::new("devices/storage/file-system/kexec", kexec).slow(),
    ]
}

const TOOLS: Programs<'_> = Programs { packages: &["e2fsprogs"], paths: &["sbin/mke2fs", "sbin/e2fsck"] };

/// Commands that make a file system on the disk and write to it until that fails, and that check it.
const COMMANDS: &str = r#"
check() {
    e2fsck -p $D; echo "fs: repair $?"
    e2fsck -f -n $D; echo "fs: check $?"
    mount -t ext4 $D /mnt && (cd /mnt && md5sum -c kept.md5); echo "fs: kept $?"
    umount /mnt
}
write() {
    /sbin/mke2fs -q -t ext4 $D && mount -t ext4 $D /mnt || echo "fs: FAILED"
    head -c 3000000 /dev/urandom >/mnt/kept
    (cd /mnt && md5sum kept >kept.md5)
    sync
    round=0
    while :; do
        for file in 0 1 2 3 4 5 6 7 8 9; do
            head -c 300000 /dev/urandom >/mnt/$file.new || return
            mv /mnt/$file.new /mnt/$file || return
            [ $((file % 4)) = 0 ] && sync
        done
        [ -b $D ] || return
        round=$((round + 1))
        echo "fs: round $round"
    done
}
"#;

/// Checks the file system of an earlier kernel, or writes one.
const CHECK_OR_WRITE: &str = r#"
if mount -t ext4 -o ro,noload $D /mnt; then
    umount /mnt
    check
else
    echo 'hv: waiting'
    write
    echo "fs: gone"
    while :; do sleep 1; done
fi"#;

/// The same, but another kernel is started in the middle of writing: by kexec-init, in a folder with its files.
const CHECK_OR_KEXEC: &str = r#"
if mount -t ext4 -o ro,noload $D /mnt; then
    umount /mnt
    check
else
    write >said 2>&1 &
    until grep -q 'round 2' said; do sleep 0.1; done
    cat said
    chroot /next /kexec-init
fi"#;

/// Checks the console of a run that checked a file system: clean, perhaps after the journal was replayed.
fn checked(console: &str) -> anyhow::Result<()> {
    let repaired = console.contains("fs: repair 0") || console.contains("fs: repair 1");
    let whole = console.contains("fs: check 0") && console.contains("fs: kept 0");
    ensure!(repaired && whole, "the file system is damaged:\n{console}");
    Ok(())
}

/// Waits until no process holds a disk's file.
fn released(image: &Path) -> anyhow::Result<()> {
    until("the disk is released", || {
        let file = std::fs::File::open(image)?;
        Ok(rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
    })
}

/// Ends a machine by SIGKILL, boots another one with its disk, and checks the file system there and on this host.
fn kill_and_check(
    context: &Context,
    files: &GuestFiles,
    machine: Controlled<'_>,
    options: &[&str],
) -> anyhow::Result<()> {
    drop(machine);
    released(&files.data)?;
    let booted = files.run(context, options)?;
    checked(&booted.console)?;
    clean(&files.data)
}

/// Kills the machine while the guest writes.
fn killed(context: &Context) -> anyhow::Result<()> {
    let files = GuestFiles::new(context, &TOOLS, &[], &format!("{COMMANDS}{CHECK_OR_WRITE}"))?;
    let options = files.options();
    let mut line = vec!["--vps", "2"];
    line.extend(options.iter().map(String::as_str));
    let machine = Controlled::start(context, &line)?;
    machine.until("the guest has written", || Ok(machine.console().contains("fs: round 2")))?;
    kill_and_check(context, &files, machine, &["--vps", "2"])
}

/// Rescinds the controller with the disk while the guest writes. Linux 6.12 never completes a command that it issues
/// after a rescind, and it issues a SYNCHRONIZE CACHE when it removes a disk with a write cache; so the removal does
/// not end, and the check needs another machine.
fn rescinded(context: &Context) -> anyhow::Result<()> {
    let files = GuestFiles::new(context, &TOOLS, &[], &format!("{COMMANDS}{CHECK_OR_WRITE}"))?;
    let options = files.options_with("1:0");
    let mut line = vec!["--vps", "2"];
    line.extend(options.iter().map(String::as_str));
    let machine = Controlled::start(context, &line)?;
    machine.until("the guest has written", || Ok(machine.console().contains("fs: round 2")))?;
    machine.reply(&["rescind", "scsi1"])?;
    machine.until("the guest has lost the disk", || Ok(machine.console().contains("fs: gone")))?;
    kill_and_check(context, &files, machine, &["--vps", "2"])
}

/// Starts another kernel by kexec while the guest writes. The guest has one processor: Linux on arm64 stays connected
/// to VMBus, so that it cannot take a processor with a channel of storvsc's offline, and it stops there (6.12,
/// `smp_shutdown_nonboot_cpus`).
fn kexec(context: &Context) -> anyhow::Result<()> {
    let cache = Cache::open()?;
    let (kernel, busybox) = stock::kernel(&cache, Stock::Cloud612)?;
    let drivers = stock::drivers(&cache, Stock::Cloud612)?;
    let mut modules = Vec::new();
    for name in ["hv_vmbus", "hv_storvsc", "sd_mod", "ext4"] {
        load(&drivers, name, &mut modules)?;
    }
    let vmbus = modules.iter().find(|module| module.name == "hv_vmbus").context("there is no hv_vmbus")?;
    let files = [
        ("next/Image".to_owned(), hv_machine::unpack_kernel(read(&kernel.image)?, 1 << 30)?),
        ("next/initrd".to_owned(), hv_machine::initrd::stock(&read(&busybox)?, &modules, None)?),
        ("next/hv_vmbus.ko".to_owned(), vmbus.bytes.clone()),
        ("next/kexec-init".to_owned(), read(&hv_setup::programs::output("kexec-init")?)?),
        // Folders for its mounts.
        ("next/proc/none".to_owned(), Vec::new()),
        ("next/sys/none".to_owned(), Vec::new()),
    ];
    let guest = GuestFiles::new(context, &TOOLS, &files, &format!("{COMMANDS}{CHECK_OR_KEXEC}"))?;
    let booted = guest.run(context, &["--vps", "1"])?;
    booted.says("kexec: first kernel connected")?;
    booted
        .check(booted.console.matches("Booting Linux on physical CPU").count() == 2, "two kernels start")?;
    checked(&booted.console)?;
    clean(&guest.data)
}

/// Reads a module and those that it depends on from a folder, in the order in which they are loaded. One that is not
/// there is built in.
pub(crate) fn load(folder: &Path, name: &str, loaded: &mut Vec<Module>) -> anyhow::Result<()> {
    if loaded.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let Some(file) = find(folder, name)? else { return Ok(()) };
    let module = Module::read(&file.to_string_lossy(), read(&file)?)?;
    for depended in &module.depends {
        load(folder, depended, loaded)?;
    }
    loaded.push(module);
    Ok(())
}

/// Finds a module's file below a folder.
fn find(folder: &Path, name: &str) -> anyhow::Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            find(&path, name)?
        } else {
            Some(path).filter(|path| {
                let file = path.to_string_lossy();
                file.contains(".ko") && name_of(&file) == name
            })
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
