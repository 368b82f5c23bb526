//! Dynamic memory: what `hv ctl memory` takes from a stock guest, and gives back.

use anyhow::{Context as _, ensure};
use hv_setup::exit::Exit;
use hv_setup::stock::Stock;
use serde_json::Value;

use super::super::context::Context;
use super::super::packages::script;
use super::super::runner::Step;
use super::super::services::{Controlled, modules};

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let step = |name: &'static str, stock: Stock| {
        Step::new(format!("devices/memory/{name}"), move |context| resized(context, name, stock))
    };
    vec![
        step("6.12", Stock::Cloud612),
        step("6.1", Stock::Cloud61).slow(),
        Step::new("devices/memory/16k", large_pages).slow(),
        Step::new("devices/memory/refused", refused).slow(),
    ]
}

const MIB: u64 = 1 << 20;
/// Bytes of the guest's memory.
const ALL: u64 = 512 * MIB;
/// Bytes that the guest keeps.
const KEPT: u64 = 256 * MIB;
/// Bytes that the host gets at least: the guest has used 300 MiB, and gives up 256 MiB of its 512 MiB.
const FREED: u64 = 100 * MIB;

/// Uses memory, then says how many times 128 MiB are free whenever that changes, and uses memory again when it has it
/// back.
const SCRIPT: &str = "\
    insmod /modules/hv_vmbus.ko\ninsmod /modules/hv_utils.ko\n\
    insmod /modules/hv_balloon.ko pressure_report_delay=1\n\
    mkdir /srv\nmount -t tmpfs -o size=90% tmpfs /srv\n\
    fill() { dd if=/dev/zero of=/srv/fill bs=1M count=300 2>/dev/null && rm /srv/fill && echo \"memory: filled $1\"; }\n\
    fill once\n\
    echo 'hv: waiting'\n\
    last= small=\n\
    while :; do\n\
    while read -r name number rest; do [ $name = MemFree: ] && break; done </proc/meminfo\n\
    free=$((number >> 17))\n\
    [ \"$free\" = \"$last\" ] || echo \"memory: free $free\"\n\
    [ $free -lt 2 ] && small=yes\n\
    [ \"$small\" ] && [ $free -gt 2 ] && small= && fill again\n\
    last=$free\n\
    sleep 0.1\n\
    done";

fn guest<'c>(context: &'c Context, name: &str, stock: Stock) -> anyhow::Result<Controlled<'c>> {
    let initrd = script(context, &modules(stock, &["hv_vmbus", "hv_utils", "hv_balloon"])?, SCRIPT)?;
    Controlled::start(context, &["--stock", name, "--memory", "512M", "--initrd", &initrd.to_string_lossy()])
}

/// Returns a number of a reply's memory.
fn bytes(memory: &Value, name: &str) -> anyhow::Result<u64> {
    memory[name].as_u64().with_context(|| format!("no {name} in {memory}"))
}

/// Checks that memory that the guest gives up is the host's, and that the guest gets it back and uses it.
fn resized(context: &Context, name: &str, stock: Stock) -> anyhow::Result<()> {
    let machine = guest(context, name, stock)?;
    let memory = |words: &[&str]| -> anyhow::Result<Value> {
        Ok(machine.reply(&[&["memory"][..], words].concat())?["result"]["memory"].take())
    };
    let balloon = || -> anyhow::Result<Value> {
        Ok(machine.reply(&["status"])?["result"]["services"]["balloon"].take())
    };
    machine.until("the driver is ready", || Ok(balloon()?["state"] == "ready"))?;
    ensure!(balloon()?["version"] == "2.0", "not version 2.0: {}", balloon()?);
    let before = memory(&[])?;
    ensure!(bytes(&before, "bytes")? == ALL && bytes(&before, "given_up")? == 0, "{before}");
    ensure!(bytes(&before, "host_bytes")? > 300 * MIB, "the guest has not used its memory: {before}");

    let small = memory(&["256M"])?;
    ensure!(bytes(&small, "bytes")? == KEPT && bytes(&small, "given_up")? == ALL - KEPT, "{small}");
    let freed = bytes(&before, "host_bytes")?.saturating_sub(bytes(&small, "host_bytes")?);
    ensure!(freed >= FREED, "the host got {freed} bytes only: {before}, {small}");
    let says = |what: &str| machine.console().contains(&format!("memory: {what}"));
    machine.until("the guest has lost its memory", || Ok(says("free 0") || says("free 1")))?;
    // The last report may be from before: there is one each second.
    machine.until("the guest reports what it has given up as committed", || {
        Ok(balloon()?["memory"]["pressure"]["committed"].as_u64() > Some(ALL - KEPT))
    })?;

    // The guest keeps what it needs, and gives up the rest.
    machine.refuses(&["memory", "16M"], 1, "the guest keeps ")?;
    let least = memory(&[])?;
    ensure!((16 * MIB..=KEPT).contains(&bytes(&least, "bytes")?), "{least}");

    let all = memory(&["max"])?;
    ensure!(bytes(&all, "bytes")? == ALL && bytes(&all, "given_up")? == 0, "{all}");
    machine.until("the guest has its memory again, and uses it", || Ok(says("filled again")))?;
    let after = memory(&[])?;
    ensure!(bytes(&after, "host_bytes")? > 300 * MIB, "the guest has not used its memory: {after}");

    // A second time, and the device goes with memory in it.
    memory(&["300M"])?;
    machine.reply(&["rescind", "balloon"])?;
    for words in [&["memory"][..], &["memory", "max"], &["memory", "256M"]] {
        machine.refuses(words, 1, "the machine has no balloon device: it was taken away")?;
    }
    ensure!(balloon()?["state"] == "absent", "{}", balloon()?);
    end(machine)
}

/// Checks that Linux with pages of 16 KiB has the driver, and gives up nothing.
fn large_pages(context: &Context) -> anyhow::Result<()> {
    let machine = guest(context, "16k", Stock::Pages16k)?;
    machine.until("the driver is ready", || {
        Ok(machine.reply(&["status"])?["result"]["services"]["balloon"]["state"] == "ready")
    })?;
    machine.refuses(&["memory", "256M"], 1, "gives up no memory")?;
    machine.reply(&["memory"])?;
    end(machine)
}

/// Checks that sizes that no guest can have are refused, and that a guest without a driver is told from one with an old
/// driver.
fn refused(context: &Context) -> anyhow::Result<()> {
    let machine = Controlled::start(
        context,
        &["--devices", "shutdown,balloon", "--memory", "256M", "--inject", "newest=balloon:1.0"],
    )?;
    let balloon = || -> anyhow::Result<Value> {
        Ok(machine.reply(&["status"])?["result"]["services"]["balloon"].take())
    };
    machine.until("the driver is ready", || Ok(balloon()?["state"] == "ready"))?;
    ensure!(balloon()?["version"] == "1.0", "a newer version was accepted: {}", balloon()?);
    machine.refuses(&["memory", "1G"], 2, "the guest cannot have 1 GiB: it was started with 256 MiB")?;
    machine.refuses(&["memory", "much"], 2, "or max")?;
    machine.refuses(&["freeze"], 1, "no vss device")?;
    machine.reply(&["memory", "200M"])?;
    end(machine)
}

/// Ends a guest, which has broken no rule of the interface.
fn end(machine: Controlled<'_>) -> anyhow::Result<()> {
    ensure!(machine.ctl(&["shutdown"])?.code == Some(0), "the guest refused to power off");
    machine.ended(Exit::Success)?;
    Ok(())
}
