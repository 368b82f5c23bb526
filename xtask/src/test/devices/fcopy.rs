//! File copy: what `hv ctl fcopy` puts into a stock guest, through Debian's daemon.

use std::fs;

use anyhow::ensure;
use hv_setup::cache::sha256;
use hv_setup::exit::Exit;
use hv_setup::stock::Stock;

use super::super::context::Context;
use super::super::packages::initrd;
use super::super::runner::Step;
use super::super::services::{Controlled, UTILS, modules};

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("devices/fcopy/6.1", copied).slow(), Step::new("devices/fcopy/refused", refused)]
}

/// Says what the file is each time that a file comes that asks for it, then has the daemon stop.
const SCRIPT: &str = "\
    insmod /modules/hv_vmbus.ko\ninsmod /modules/hv_utils.ko\n\
    mkdir /small /var /var/run\nmount -t tmpfs -o size=60k tmpfs /small\n\
    until [ -e /dev/vmbus/hv_fcopy ]; do sleep 0.1; done\n\
    /usr/sbin/hv_fcopy_daemon -n &\n\
    daemon=$!\n\
    echo 'hv: waiting'\n\
    for n in 1 2; do\n\
    until [ -e /check$n ]; do sleep 0.1; done\n\
    echo \"fcopy: $n $(sha256sum /new/folder/data | cut -c 1-64) $(ls /small)\"\n\
    done\n\
    kill -STOP $daemon\n\
    echo 'fcopy: stopped'\n\
    while :; do sleep 1; done";

/// Bytes of the first file: pieces, and a part of one.
const LONG: usize = 30 * 6144 + 1234;

/// Checks that files arrive as they are, also over longer ones, that refusals are the guest's, and that a daemon that
/// stops costs the machine nothing.
fn copied(context: &Context) -> anyhow::Result<()> {
    let daemon = ["usr/sbin/hv_fcopy_daemon"];
    let initrd = initrd(context, "hyperv-daemons", &daemon, &modules(Stock::Cloud61, &UTILS)?, SCRIPT)?;
    let machine = Controlled::start(context, &["--stock", "6.1", "--initrd", &initrd.to_string_lossy()])?;
    let folder = context.folder()?;
    let [long, short, none] = ["long", "short", "none"].map(|name| folder.join(name));
    let bytes: Vec<u8> =
        (0..LONG as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    fs::write(&long, &bytes)?;
    fs::write(&short, &bytes[LONG - 7000..])?;
    fs::write(&none, "")?;
    let [long, short, none] = [&long, &short, &none].map(|path| path.to_string_lossy().into_owned());
    let target = "/new/folder/data";
    let checked = |number: u32, file: &str| -> anyhow::Result<()> {
        machine.reply(&["fcopy", &none, &format!("/check{number}")])?;
        let line = format!("fcopy: {number} {} ", sha256(file.as_ref())?);
        machine.until(&format!("the guest says {line:?}"), || {
            Ok(machine.console().contains(&format!("fcopy: {number} ")))
        })?;
        let console = machine.console();
        ensure!(
            console.lines().any(|said| said.trim_end() == line.trim_end()),
            "it does not say {line:?}:\n{console}"
        );
        Ok(())
    };

    machine.until("the daemon has registered", || {
        Ok(machine.ctl(&["fcopy", &long, target, "--create-path"])?.code == Some(0))
    })?;
    machine.refuses(&["fcopy", &short, "/nowhere/x"], 1, "status 0x80004005")?;
    machine.refuses(&["fcopy", &short, target], 1, "the guest has a file /new/folder/data already")?;
    // Ten pieces fit, and nothing of the next.
    machine.refuses(&["fcopy", &long, "/small/"], 1, "the guest's disk is full")?;
    checked(1, &long)?;
    let reply = machine.reply(&["fcopy", &short, target, "--overwrite"])?;
    ensure!(reply["result"]["copied"]["bytes"] == 7000, "{reply}");
    checked(2, &short)?;

    machine.until("the daemon has stopped", || Ok(machine.console().contains("fcopy: stopped")))?;
    machine.refuses(&["fcopy", &long, "/late", "--timeout", "1"], 5, "no answer in time")?;
    let services = machine.reply(&["status"])?["result"]["services"].take();
    ensure!(services["fcopy"]["version"] == "1.1", "{services}");
    ensure!(machine.ctl(&["shutdown"])?.code == Some(0), "the guest refused to power off");
    machine.ended(Exit::Success)?;
    Ok(())
}

/// Checks that what cannot be copied is refused before the guest is asked, and newer kernels have another driver.
fn refused(context: &Context) -> anyhow::Result<()> {
    let machine = Controlled::start(context, &["--stock", "6.12", "--devices", "shutdown,fcopy"])?;
    let file = context.folder()?.join("file");
    fs::write(&file, "x")?;
    let file = file.to_string_lossy();
    machine.refuses(
        &["fcopy", &file, "/x"],
        1,
        "Linux's is hv_utils (CONFIG_HYPERV_UTILS), up to Linux 6.9",
    )?;
    machine.refuses(&["fcopy", &file, "tmp/x"], 2, "is not absolute")?;
    machine.refuses(
        &["fcopy", &file, &format!("/{}", "x".repeat(300))],
        2,
        "has 301 bytes, expected at most 258",
    )?;
    machine.refuses(&["fcopy", "/", "/x"], 2, "is not a regular file")?;
    machine.refuses(&["fcopy", "/none", "/x"], 2, "cannot read /none")?;
    machine.refuses(&["freeze"], 1, "no vss device")?;
    ensure!(machine.ctl(&["shutdown"])?.code == Some(0), "the guest refused to power off");
    machine.ended(Exit::Success)?;
    Ok(())
}
