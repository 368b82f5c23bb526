//! Our drivers of the integration services, and a disk that comes, with a host that uses them.

use std::fs;
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use hv_setup::exit::Exit;
use hv_setup::programs as bare;

use super::super::context::Context;
use super::super::services::Controlled;
use super::{DISK, bytes};

/// Has the host ask for pairs, set one, tell the time, add a disk, and end the machine.
pub(super) fn services(context: &Context) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let [first, second] = ["first", "second"].map(|name| folder.join(name).with_extension("img"));
    for file in [&first, &second] {
        fs::write(file, bytes(DISK, 1))?;
    }
    let kernel = bare::output("drivers")?;
    let (kernel, first, second) =
        (kernel.to_string_lossy(), first.to_string_lossy(), second.to_string_lossy());
    let options = ["--firmware", "dt", "--kernel", &kernel, "--append", "drivers.services=1"];
    let options = [&options[..], &["--disk", &first, "--hotplug-room", "16M"]].concat();
    let machine = Controlled::start_until(context, &options, "drivers: serving")?;
    let shows = |text: &str| machine.until(text, || Ok(machine.console().contains(text)));
    let value = |words: &[&str]| anyhow::Ok(machine.reply(words)?["result"]["pair"]["value"].take());
    ensure!(value(&["kvp", "get", "auto", "OSName"])? == "drivers");
    ensure!(value(&["kvp", "get", "guest", "number"])? == "0");
    ensure!(machine.ctl(&["kvp", "set", "external", "number", "4711"])?.code == Some(0));
    shows("drivers: the host's number is 4711")?;
    ensure!(value(&["kvp", "get", "guest", "number"])? == "4711");
    ensure!(
        machine.ctl(&["kvp", "set", "external", "other", "1"])?.code != Some(0),
        "a refused pair counts as set"
    );
    shows("drivers: the host's clock says ")?;
    let console = machine.console();
    let clock = console.split_once("clock says ").and_then(|(_, rest)| rest.split_whitespace().next());
    let clock: u64 = clock.context("no time")?.parse()?;
    let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    // The machine may have run for as long as a scenario takes.
    ensure!(clock <= now && now - clock < 3600, "{clock} at {now}");
    let added = machine.ctl(&["disk", "add", &second])?;
    ensure!(added.code == Some(0), "no disk was added: {}", added.stderr);
    shows("drivers: 2 disks now")?;
    ensure!(machine.ctl(&["shutdown"])?.code == Some(0), "the guest refused to power off");
    let console = machine.ended(Exit::Success)?;
    ensure!(console.contains("drivers: PowerOff"), "{console}");
    ensure!(console.contains("drivers: all good on 2 VPs"), "{console}");
    Ok(())
}
