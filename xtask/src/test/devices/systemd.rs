//! A guest that runs systemd: Debian's packages, unpacked on a disk. What the host asks for is done by its services, in
//! their order, and the next start finds the disk in good order.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use hv_setup::cache::Cache;
use hv_setup::exit::Exit;
use hv_setup::{guest, stock};
use serde_json::json;

use super::super::context::{Context, read};
use super::super::runner::Step;
use super::super::services::Controlled;
use super::programs::clean;
use super::storage::{ROOT, file_system};

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("devices/ic/systemd", systemd).slow()]
}

/// bash is what the daemon's scripts are written for.
const PACKAGES: [&str; 5] = ["systemd-sysv", "udev", "hyperv-daemons", "chrony", "bash"];
/// Folders of the packages that no program here needs.
const NEEDLESS: [&str; 8] = [
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl",
    "usr/share/perl5",
    "usr/share/zoneinfo",
    "usr/lib/aarch64-linux-gnu/gconv",
    "usr/lib/aarch64-linux-gnu/perl-base",
];
/// Services that would only take time, on a machine that runs for a minute.
const MASKED: [&str; 16] = [
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "kmod-static-nodes.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-firstboot.service",
    "systemd-journal-flush.service",
    "systemd-machine-id-commit.service",
    "systemd-modules-load.service",
    "systemd-random-seed.service",
    "systemd-sysusers.service",
    "systemd-update-utmp.service",
];
/// Bytes of the disk.
const DISK: u64 = 192 << 20;
/// Files of the guest. `check.service` ends when everything is there, and says so.
const FILES: [(&str, &str); 10] = [
    ("etc/passwd", "root::0:0:root:/root:/bin/sh\nsystemd-network:x:102:102::/:/bin/false\n"),
    (
        "etc/group",
        "root:x:0:\ntty:x:5:\ndisk:x:6:\nkmem:x:15:\ndialout:x:20:\ncdrom:x:24:\ntape:x:26:\naudio:x:29:\n\
         video:x:44:\nsystemd-network:x:102:\n",
    ),
    ("etc/fstab", ""),
    ("etc/hostname", "guest\n"),
    // Without it, systemd takes each start for the first, and enables all services.
    ("etc/machine-id", "5d0e9c3f7a1b4c2d8e6f00155d485601\n"),
    ("etc/systemd/network/card.network", "[Match]\nName=e*\n[Network]\nDHCP=ipv4\n"),
    (
        "etc/systemd/system/guest.target",
        "[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n\
         Wants=systemd-networkd.service check.service\n",
    ),
    (
        "etc/systemd/system/check.service",
        "[Unit]\nAfter=systemd-networkd.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
         StandardOutput=tty\nTTYPath=/dev/console\nExecStart=/bin/busybox sh /check\n\
         ExecStop=/bin/busybox echo hv: stopped\n",
    ),
    // Steps the clock whenever it is wrong by more than a second.
    ("etc/chrony.conf", "makestep 1 -1\nrefclock PHC /dev/ptp_hyperv poll 0\npidfile /run/chronyd.pid\n"),
    ("check", CHECK),
];
/// The name servers are those of the lease: there is no resolver.
const CHECK: &str = "\
    until clock=$(readlink /dev/ptp_hyperv); do sleep 0.1; done\n\
    echo \"systemd: clock $(cat /sys/class/ptp/$clock/clock_name)\"\n\
    until ip -4 -o address show scope global | grep -q 'inet '; do sleep 0.1; done\n\
    until sed -n 's/^DNS=/nameserver /p' /run/systemd/netif/leases/* >/etc/resolv.conf; do sleep 0.1; done\n\
    if [ -e /before ]; then echo 'systemd: again'; else\n\
    date -s '2020-01-01 00:00:00' >/dev/null\n\
    chronyd -u root -f /etc/chrony.conf\n\
    until chronyc -n sources | grep '^#\\* PHC0' >/run/source; do sleep 0.5; done\n\
    echo \"systemd: source $(cat /run/source)\"\n\
    echo \"systemd: $(chronyc tracking | grep '^Reference ID')\"\n\
    echo \"systemd: year $(date +%Y)\"\n\
    touch /before\n\
    fi\n\
    echo \"systemd: virtualization $(systemd-detect-virt)\"\n\
    echo \"systemd: failed <$(systemctl --failed --no-legend --plain)>\"\n\
    echo 'hv: waiting'\n";
/// Names that the scripts and services have for busybox.
const BUSYBOX: [&str; 12] =
    ["awk", "cat", "date", "echo", "grep", "ls", "mkdir", "readlink", "sed", "sh", "sleep", "touch"];

/// Makes the disk.
fn disk(context: &Context) -> anyhow::Result<PathBuf> {
    let folder = context.folder()?;
    let tree = folder.join("root");
    guest::unpack(&Cache::open()?, &PACKAGES, &tree)?;
    for path in NEEDLESS.map(|path| tree.join(path)).iter().filter(|path| path.exists()) {
        fs::remove_dir_all(path)?;
    }
    let write = |path: &str, bytes: &[u8]| -> anyhow::Result<()> {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    for (path, text) in FILES {
        write(path, text.as_bytes())?;
    }
    write("bin/busybox", &read(&stock::busybox(&Cache::open()?)?)?)?;
    fs::set_permissions(tree.join("bin/busybox"), fs::Permissions::from_mode(0o755))?;
    let missing =
        |name: &str| !tree.join("bin").join(name).exists() && !tree.join("usr/bin").join(name).exists();
    for name in BUSYBOX.into_iter().filter(|name| missing(name)) {
        symlink("busybox", tree.join("bin").join(name))?;
    }
    let units = tree.join("etc/systemd/system");
    for unit in MASKED {
        symlink("/dev/null", units.join(unit))?;
    }
    symlink("guest.target", units.join("default.target"))?;
    let image = folder.join("root.img");
    file_system(&tree, &image, DISK)?;
    fs::remove_dir_all(&tree)?;
    Ok(image)
}

/// Boots the disk until its services are there.
fn start<'c>(context: &'c Context, disk: &Path) -> anyhow::Result<Controlled<'c>> {
    let disk = format!("{},rw", disk.display());
    let append = format!("{ROOT} SYSTEMD_COLORS=0");
    let machine = ["--net", "user", "--memory", "512M", "--disk", &disk, "--append", &append];
    let machine = Controlled::start(context, &machine)?;
    machine.until("udev has started the daemons", || {
        let services = machine.reply(&["status"])?["result"]["services"].take();
        Ok(["kvp", "vss"].iter().all(|service| services[service]["state"] == "ready"))
    })?;
    Ok(machine)
}

/// Checks that systemd ended its services before the file systems, and those before the machine.
fn in_order(console: &str, request: &str, target: &str, kernel: &str) -> anyhow::Result<()> {
    let (request, target) = (format!("graceful {request} initiated"), format!("Reached target {target}"));
    let steps = [
        &request,
        "hv: stopped",
        "Stopped hv-kvp-daemon",
        "Reached target umount.target",
        "Reached target final.target",
        &target,
        "All filesystems unmounted.",
        kernel,
    ];
    let mut rest = console.split_once("hv: waiting").context("the guest was not ready")?.1;
    for step in steps {
        let found = rest.split_once(step);
        rest = found.with_context(|| format!("no {step:?}, or too early:\n{console}"))?.1;
    }
    Ok(())
}

/// Checks that `reboot` and `shutdown` go through systemd, that chrony takes the host's clock by the name that udev
/// gives it, and that the daemon tells the card's addresses.
fn systemd(context: &Context) -> anyhow::Result<()> {
    let disk = disk(context)?;
    let machine = start(context, &disk)?;
    let found = machine.reply(&["kvp", "addresses"])?["result"]["addresses"].take();
    for (list, address) in [
        ("addresses", "10.0.2.15"),
        ("masks", "255.255.255.0"),
        ("gateways", "10.0.2.2"),
        ("name_servers", "10.0.2.3"),
    ] {
        let has = found[list].as_array().is_some_and(|list| list.contains(&json!(address)));
        ensure!(has, "no {address} among the {list}: {found}");
    }
    machine.refuses(&["kvp", "addresses", "eth0"], 2, "expected an address")?;
    machine.refuses(&["kvp", "addresses", "00:15:5d:48:56:02"], 1, "status 0x80004005")?;
    ensure!(machine.ctl(&["reboot"])?.code == Some(0), "the guest refused to restart");
    let console = machine.ended(Exit::Reset)?;
    for text in ["clock hyperv", "source #* PHC0", "virtualization microsoft", "failed <>"] {
        ensure!(console.contains(&format!("systemd: {text}")), "it does not say {text:?}:\n{console}");
    }
    let year = console.split("systemd: year ").nth(1).and_then(|text| text.get(..4)?.parse::<u32>().ok());
    ensure!(year.is_some_and(|year| year >= 2025), "chrony has not set the clock:\n{console}");
    in_order(&console, "restart", "reboot.target", "reboot: Restarting system")?;
    clean(&disk)?;

    let machine = start(context, &disk)?;
    ensure!(machine.console().contains("systemd: again"), "it has lost a file:\n{}", machine.console());
    ensure!(machine.ctl(&["shutdown"])?.code == Some(0), "the guest refused to power off");
    in_order(&machine.ended(Exit::Success)?, "shutdown", "poweroff.target", "reboot: Power down")?;
    clean(&disk)
}
