//! Disks under programs of Debian's packages, in a guest whose root file system is on a disk of its own, with busybox's
//! shell as the init.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use hv_setup::cache::Cache;
use hv_setup::exit::Exit;
use hv_setup::stock;

use super::super::context::{Booted, Context, read};
use super::super::packages::unpacked;
use super::storage::{LOCKED, ROOT, SIZE, file_system};

/// Beginning of every script, which runs in a file system in memory. `$D` is the disk that may be written.
const HEAD: &str = "#!/bin/busybox sh\n\
    export PATH=/sbin:/usr/sbin:/usr/bin:/bin HOME=/tmp\n\
    busybox mount -t tmpfs tmpfs /tmp\n\
    cd\n\
    for name in $(busybox --list); do [ -e /bin/$name ] || busybox ln -s busybox /bin/$name; done\n\
    mount -t proc proc /proc\n\
    mount -t sysfs sysfs /sys\n\
    [ -b /dev/sda ] || mount -t devtmpfs devtmpfs /dev\n\
    dmesg -n 1\n\
    find_disk() {\n\
        while :; do\n\
            for d in sda sdb sdc sdd vda vdb; do\n\
                [ -b /dev/$d ] && [ \"$(cat /sys/block/$d/size)\" = $1 ] && echo /dev/$d && return\n\
            done\n\
            sleep 0.1\n\
        done\n\
    }\n";

/// What the kernel runs when the host asks the guest to shut down.
const POWEROFF: &[u8] = b"#!/bin/busybox sh\n/bin/busybox sync\nexec /bin/busybox poweroff -f\n";

/// Programs that a guest has besides busybox.
pub(crate) struct Programs<'a> {
    /// Debian's packages.
    pub(crate) packages: &'a [&'a str],
    /// Paths of the programs in them.
    pub(crate) paths: &'a [&'a str],
}

/// The files of a machine that runs such programs.
pub(crate) struct GuestFiles {
    pub(crate) root: PathBuf,
    /// A disk of [`SIZE`] bytes or those asked for, all zeros at first.
    pub(crate) data: PathBuf,
    /// A disk of [`LOCKED`] bytes, which is also the DVD.
    locked: PathBuf,
}

impl GuestFiles {
    /// Makes the files. The guest's init runs `script`, and powers off at its end. `files`: others on the root file
    /// system.
    pub(super) fn new(
        context: &Context,
        programs: &Programs<'_>,
        files: &[(String, Vec<u8>)],
        script: &str,
    ) -> anyhow::Result<Self> {
        Self::sized(context, programs, files, script, SIZE)
    }

    /// Runs the same with a writable disk of this many bytes.
    pub(crate) fn sized(
        context: &Context,
        programs: &Programs<'_>,
        files: &[(String, Vec<u8>)],
        script: &str,
        size: u64,
    ) -> anyhow::Result<Self> {
        let folder = context.folder()?;
        let tree = folder.join("root");
        for name in ["bin", "sbin", "dev", "proc", "sys", "tmp", "mnt", "etc"] {
            fs::create_dir_all(tree.join(name))?;
        }
        let init = format!("{HEAD}D=$(find_disk {})\n{script}\nsync\npoweroff -f\n", size / 512);
        let mut all = match programs.packages {
            [] => BTreeMap::new(),
            packages => unpacked(context, packages, programs.paths)?,
        };
        all.extend(files.iter().cloned());
        all.insert("bin/busybox".to_owned(), read(&stock::busybox(&Cache::open()?)?)?);
        all.insert("sbin/init".to_owned(), init.into_bytes());
        all.insert("sbin/poweroff".to_owned(), POWEROFF.to_vec());
        let mut bytes = 0;
        for (path, content) in all {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().context("a file has a folder")?)?;
            fs::write(&path, &content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            bytes += content.len() as u64;
        }
        let file = |name: &str, size: u64| -> anyhow::Result<PathBuf> {
            let path = folder.join(name);
            File::create(&path)?.set_len(size)?;
            Ok(path)
        };
        let root = folder.join("root.img");
        file_system(&tree, &root, (bytes + bytes / 4 + (16 << 20)).next_multiple_of(4096))?;
        fs::remove_dir_all(&tree)?;
        Ok(Self { root, data: file("data.img", size)?, locked: file("locked.img", LOCKED)? })
    }

    /// Returns the options of `hv boot` for these files.
    pub(super) fn options(&self) -> Vec<String> {
        self.options_with("0:1")
    }

    /// Returns the options with the writable disk at this place.
    pub(super) fn options_with(&self, place: &str) -> Vec<String> {
        let (root, data, locked) = (self.root.display(), self.data.display(), self.locked.display());
        let disks = [root.to_string(), format!("{data},rw,at={place}"), format!("{locked},ro,at=0:2")];
        let mut options: Vec<String> =
            disks.into_iter().flat_map(|disk| ["--disk".to_owned(), disk]).collect();
        options.extend(["--dvd".to_owned(), locked.to_string(), "--append".to_owned(), ROOT.to_owned()]);
        options
    }

    /// Boots it to its end, which must be a power-off.
    pub(super) fn run(&self, context: &Context, options: &[&str]) -> anyhow::Result<Booted> {
        let own = self.options();
        let all: Vec<&str> = own.iter().map(String::as_str).chain(options.iter().copied()).collect();
        let booted = context.boot(&all)?;
        booted.ended(Exit::Success, "power-off")?;
        Ok(booted)
    }
}

/// A command that a guest runs, with its exit status and lines of its output.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    pub(super) command: &'static str,
    pub(super) status: u32,
    pub(super) lines: &'static [&'static str],
}

/// What a line of the console begins with before a command, and before its exit status.
const BEGIN: &str = "try: ";
const STATUS: &str = "status: ";

/// Returns a script that runs the commands.
pub(super) fn script(commands: &[Expected]) -> String {
    let head = format!("try() {{ echo \"{BEGIN}$*\"; eval \"$*\" 2>&1; echo \"{STATUS}$?\"; }}\n");
    let commands = commands.iter().map(|expected| format!("try '{}'\n", expected.command));
    head + &commands.collect::<String>()
}

/// Checks what the commands of [`script`] printed, in their order.
pub(super) fn judge(console: &str, commands: &[Expected]) -> anyhow::Result<()> {
    let mut lines = console.lines().map(str::trim);
    let mut wrong = Vec::new();
    for Expected { command, status, lines: expected } in commands {
        let head = format!("{BEGIN}{command}");
        lines.find(|line| *line == head).with_context(|| format!("{command} was not run:\n{console}"))?;
        let mut said = Vec::new();
        let found = lines.by_ref().find_map(|line| {
            said.push(line);
            line.strip_prefix(STATUS)
        });
        let found = found.with_context(|| format!("{command} did not end:\n{}", said.join("\n")))?;
        let missing: Vec<_> = expected.iter().filter(|line| !said.contains(*line)).collect();
        if found != status.to_string() || !missing.is_empty() {
            wrong.push(format!(
                "{command}: status {found}, expected {status}; without {missing:?} in:\n{}",
                said.join("\n")
            ));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

/// Runs e2fsck of this host over an image, which it must find clean.
pub(super) fn clean(image: &Path) -> anyhow::Result<()> {
    let mut check = std::process::Command::new(super::storage::tool("e2fsck", "e2fsprogs")?);
    check.args(["-f", "-n"]).arg(image);
    super::storage::run(&mut check)
}
