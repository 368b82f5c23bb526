//! Injected faults of devices: what stock kernels make of them.

use anyhow::ensure;
use serde_json::Value;

use super::super::context::{Booted, Context};
use super::super::packages::script;
use super::super::runner::Step;
use super::super::services::{UTILS, modules};
use super::storage::Disks;
use hv_setup::exit::Exit;
use hv_setup::stock::Stock;

/// Plans that a driver lives with: its disks are as they should be afterwards. With them what the kernel says, if it
/// says anything.
const BORNE: [(&str, &str, &str); 5] = [
    ("busy", "busy@/5", "status: scsi 0x8 srb 0x5"),
    ("late", "late=5ms@/6", ""),
    ("reorder", "reorder@/2", ""),
    ("mute", "mute=50ms@200ms", ""),
    // An ABORTED COMMAND is repeated.
    ("sense", "sense=b/00/00@/40", "status: scsi 0x2 srb 0x84"),
];

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = BORNE
        .into_iter()
        .map(|(name, plan, says)| {
            Step::new(format!("inject/devices/{name}"), move |context| borne(context, plan, says))
        })
        .collect();
    steps.push(Step::new("inject/devices/medium", medium));
    steps.push(Step::new("inject/devices/rescind", rescind));
    steps.push(Step::new("inject/devices/open", rescind_open));
    // The driver may wait for its time-out, 180 s, for the answer to a packet that it sent before it heard.
    steps.push(Step::new("inject/devices/open/storage", rescind_open_storage).slow());
    steps.push(Step::new("inject/devices/versions", versions));
    steps
}

/// Waits until the heartbeat is gone. Linux takes the offers in their order, and the last one is that of vss.
const RELEASING: &str = "for name in hv_vmbus hv_utils; do insmod /modules/$name.ko; done\n\
    has() { grep -q $1 /sys/bus/vmbus/devices/*/class_id 2>/dev/null; }\n\
    until has 35fa2e29-ea23-4236-96ae-3a6ebacba440 && dmesg | grep -q 'TimeSync IC version'; do sleep 0.1; done\n\
    while has 57164f39-9115-4e78-ab55-382f3bd5422d; do sleep 0.1; done\n\
    sleep 2";

/// Sectors that only the disk of data has, near its end.
const SECTORS: (u64, u64) = (40_000, 40_007);

pub(crate) fn fired(booted: &Booted, at: usize) -> anyhow::Result<()> {
    let times = booted.json.pointer(&format!("/faults/{at}/fired")).and_then(Value::as_u64);
    booted.check(times.is_some_and(|times| times > 0), "the rule has fired")
}

/// Checks that the guest finishes its work in spite of a plan.
fn borne(context: &Context, plan: &str, says: &str) -> anyhow::Result<()> {
    let disks = Disks::new(context)?;
    let booted = disks.run(context, &["--vps", "2", "--inject", plan])?;
    booted.ended(Exit::Success, "power-off")?;
    booted.says("disk: all good on 2 processors")?;
    booted.says(says)?;
    fired(&booted, 0)?;
    disks.check()
}

/// Checks that the driver reports the sector, and the program gets an error.
fn medium(context: &Context) -> anyhow::Result<()> {
    let plan = format!("media={}-{}", SECTORS.0, SECTORS.1);
    let booted = Disks::new(context)?.run(context, &["--inject", &plan])?;
    booted.says("Sense Key : Medium Error")?;
    booted.says("I/O error, dev sd")?;
    booted.says("disk: FAILED")?;
    fired(&booted, 0)
}

/// Checks that a rescinded service is closed and released by its driver, and the guest continues.
fn rescind(context: &Context) -> anyhow::Result<()> {
    rescinded(context, "rescind=heartbeat@1")?;
    Ok(())
}

/// Checks the same for a service that goes before its driver knows that it is there.
fn rescind_open(context: &Context) -> anyhow::Result<()> {
    let booted = rescinded(context, "rescind-open=heartbeat")?;
    booted.says("TimeSync IC version")?;
    booted.never_says("Heartbeat IC version")
}

/// Has a guest lose its heartbeat, and checks that it releases the channel.
fn rescinded(context: &Context, plan: &str) -> anyhow::Result<Booted> {
    let trace = context.folder()?.join("trace").display().to_string();
    let initrd = script(context, &modules(Stock::Cloud612, &UTILS)?, RELEASING)?.display().to_string();
    let options =
        ["--initrd", &initrd, "--devices", "heartbeat,time,vss", "--inject", plan, "--trace", &trace];
    let booted = context.boot(&options)?;
    booted.ended(Exit::Success, "power-off")?;
    fired(&booted, 0)?;
    let released = context.hv(&["trace", &trace, "--kind", "vmbus-state-released"])?;
    ensure!(released.stdout.contains("channel released"), "the driver kept the channel: {}", released.stdout);
    Ok(booted)
}

/// Checks the same for a disk's controller.
fn rescind_open_storage(context: &Context) -> anyhow::Result<()> {
    let disks = Disks::new(context)?;
    let data = disks.data.display().to_string();
    let booted = context.boot(&["--disk", &data, "--inject", "rescind-open=storage"])?;
    booted.ended(Exit::Success, "power-off")?;
    booted.never_says("[sda]")?;
    fired(&booted, 0)
}

/// Checks that stock drivers speak the older versions too.
fn versions(context: &Context) -> anyhow::Result<()> {
    let plan = "newest=vmbus:4.1,newest=storage:5.1,newest=shutdown:3.0,newest=timesync:3.0";
    let options = ["--inject", plan, "--devices", "shutdown,time"];
    let booted = Disks::new(context)?.run(context, &options)?;
    booted.ended(Exit::Success, "power-off")?;
    booted.says("Vmbus version:4.1")?;
    booted.says("disk: all good on 2 processors")?;
    booted.is("/devices/0/version", "5.1")?;
    booted.says("TimeSync IC version 3.0")?;
    booted.says("Shutdown IC version 3.0")?;
    (0..4).try_for_each(|rule| fired(&booted, rule))
}
