//! `hv boot`: one guest, from the kernel file to the report.

mod args;
mod faults;
mod sources;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use hv_machine::{ALIGN_2M, Image};
use hv_wire::{BootFlags, BootInfo, Report, platform};
use zerocopy::FromZeros as _;

pub(crate) use args::Args;
use args::Strict;
use sources::Given;

use crate::exit::Exit;
use crate::machine::{Outcome, Ram, Running, Settings, Sink};
use crate::report::{Known, Summary};
use crate::setup::cache::Cache;
use crate::setup::{qemu, stock};
use crate::trace::{self, Collector, Kept, Region};
use crate::{build, output, ui};

/// INTID of the VMBus interrupt: the PPI that Hyper-V itself announces.
pub(crate) const VMBUS_INTID: u32 = 18;
/// INTID for direct-mode synthetic timers: the next free PPI.
pub(crate) const STIMER_INTID: u32 = 19;
/// The CPU that boots fastest under emulation.
pub(crate) const CPU: &str = "cortex-a72";
/// The fastest one with a 16K granule.
const CPU_16K: &str = "cortex-a76";
/// CPU models without a 16K granule: a kernel that needs it stops without a word.
const NO_16K: [&str; 4] = ["cortex-a35", "cortex-a53", "cortex-a57", "cortex-a72"];

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    if let Some(json) = &args.json {
        output::check("report", "--json", json)?;
    }
    if let Some(trace) = &args.trace {
        output::check("trace", "--trace", trace)?;
    }
    if let Some(dir) = &args.keep {
        fs::create_dir_all(dir)
            .with_context(|| format!("cannot make the folder {} of --keep", dir.display()))?;
    }
    // What can be wrong with the user's own files is said before anything is installed.
    let plan = args.inject.as_deref().map(faults::judge).transpose()?.unwrap_or_default();
    let given = Given::read(args)?;
    let own = given.kernel.as_ref().map(|_| sources::image(args, &given, None)).transpose()?;
    let qemu = qemu::prepare(args.qemu.as_deref())?;
    let hypervisor = build::hypervisor(args.hypervisor.as_ref())?;
    let (image, title) = match (own, &args.kernel) {
        (Some(image), Some(file)) => (image, file.to_string()),
        _ => {
            let stock = stock::kernel(&Cache::open()?, args.stock)?;
            (sources::image(args, &given, Some(&stock))?, stock.0.package)
        }
    };
    let symbols = given.symbols;
    let settings = Settings {
        qemu: qemu.clone(),
        hypervisor: Some(hypervisor.path().to_owned()),
        cpu: cpu(args.cpu.as_deref(), image.page_size)?,
        vps: args.vps,
        deterministic: args.deterministic,
        gdb: args.gdb.clone(),
        timeout: args.limit(),
    };
    let ram = load(args, &image, &plan)?;
    if let Some(dir) = &args.keep {
        let file = dir.join("cmdline.txt");
        fs::write(&file, format!("{}\n", image.command_line))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    drop(image);
    ui::note(&format!("Booting {title} on {} VPs ({}, QEMU {})", args.vps, settings.cpu, qemu.version));
    let kept = ram.share()?;
    let collector = trace_region(args).map(|region| Collector::start(ram.share()?, region)).transpose()?;
    let outcome = Running::start(&settings, ram, sink(args), args.keep.as_deref())?.wait()?;
    let trace = match (collector, &args.trace) {
        (Some(collector), Some(file)) if outcome.report.magic == Report::MAGIC => {
            Some(trace::keep(collector, &kept, &outcome, &plan.rules, file))
        }
        _ => None,
    };
    let known = Known {
        firmware: args.firmware.into(),
        symbols,
        rules: plan.rules,
        fails_from: args.strict.and_then(Strict::fails_from),
    };
    finish(args, &outcome, &known, trace)
}

/// The CPU model: the one given if it has the kernel's page size, else the fastest that has.
fn cpu(given: Option<&str>, page_size: Option<u32>) -> anyhow::Result<String> {
    let wants_16k = page_size == Some(16 << 10);
    let Some(given) = given else {
        return Ok(if wants_16k { CPU_16K } else { CPU }.to_owned());
    };
    let model = given.split(',').next().unwrap_or(given);
    if wants_16k && NO_16K.contains(&model) {
        bail!(
            "the kernel uses 16K pages, which {model} does not have; give --cpu {CPU_16K}, neoverse-n1 or max"
        );
    }
    Ok(given.to_owned())
}

/// The run's switches.
fn flags(args: &Args) -> u64 {
    let switches = [
        (args.strict.is_some(), BootFlags::STRICT),
        (args.trace.is_some(), BootFlags::TRACE),
        (args.loopback, BootFlags::LOOPBACK),
    ];
    switches.iter().filter(|(on, _)| *on).map(|(_, flag)| flag).sum()
}

/// Where the trace goes, if there is to be one: behind the guest's RAM.
fn trace_region(args: &Args) -> Option<Region> {
    let size = args.trace_buffer.max(1).next_multiple_of(ALIGN_2M);
    let base = platform::GUEST_RAM_BASE + args.memory;
    args.trace.is_some().then_some(Region { base, size, vps: args.vps })
}

/// RAM with the guest and the hypervisor's orders in it.
fn load(args: &Args, image: &Image, plan: &faults::Orders) -> anyhow::Result<Ram> {
    let trace = trace_region(args);
    let numbers = plan.numbers.as_bytes();
    let mut plan_bytes = [0; hv_wire::PLAN_BYTES];
    plan_bytes[..numbers.len()].copy_from_slice(numbers);
    let orders = BootInfo {
        flags: flags(args),
        trace_base: trace.map_or(0, |trace| trace.base),
        trace_size: trace.map_or(0, |trace| trace.size),
        plan_len: numbers.len() as u32,
        plan: plan_bytes,
        ..orders(image, args.vps, args.memory)
    };
    ram(image, &orders)
}

/// What the hypervisor is told of every guest.
pub(crate) fn orders(image: &Image, vps: u32, memory: u64) -> BootInfo {
    BootInfo {
        magic: BootInfo::MAGIC,
        version: hv_wire::VERSION,
        vps,
        entry: image.entry,
        entry_x0: image.x0,
        ram_base: platform::GUEST_RAM_BASE,
        ram_size: memory,
        vmbus_intid: VMBUS_INTID,
        stimer_intid: STIMER_INTID,
        ..BootInfo::new_zeroed()
    }
}

/// RAM with a guest and these orders in it.
pub(crate) fn ram(image: &Image, orders: &BootInfo) -> anyhow::Result<Ram> {
    let below = platform::GUEST_RAM_BASE - platform::RAM_BASE;
    let ram = Ram::new(below + orders.ram_size + orders.trace_size)?;
    for (address, bytes) in &image.segments {
        ram.write(*address, bytes)?;
    }
    ram.put_boot_info(orders)?;
    Ok(ram)
}

fn sink(args: &Args) -> Sink {
    match &args.json {
        _ if args.quiet => Sink::Nowhere,
        Some(file) if file.as_os_str() == "-" => Sink::Stderr,
        _ => Sink::Stdout,
    }
}

/// Reports, and turns the outcome into an exit code.
fn finish(
    args: &Args,
    outcome: &Outcome,
    known: &Known,
    trace: Option<anyhow::Result<Kept>>,
) -> anyhow::Result<Exit> {
    let sink = sink(args);
    if sink != Sink::Nowhere && !outcome.console.is_empty() && !outcome.console.ends_with('\n') {
        ui::line_end(sink == Sink::Stderr);
    }
    let mut summary = Summary::new(outcome, known);
    // A trace that could not be kept does not cost the report as well.
    let (trace, no_trace) = match trace.transpose() {
        Ok(trace) => (trace, None),
        Err(error) => (None, Some(error)),
    };
    if let Some(trace) = trace {
        summary.set_trace(trace);
    }
    if let Some(dir) = &args.keep {
        keep(dir, outcome, &summary).with_context(|| format!("cannot write to {}", dir.display()))?;
    }
    let exit = summary.outcome();
    if exit == Exit::Usage {
        bail!("{}", summary.explanation());
    }
    let json = || Ok::<_, anyhow::Error>(serde_json::to_string_pretty(&summary)? + "\n");
    match &args.json {
        Some(file) if file.as_os_str() == "-" => ui::out(&json()?),
        Some(file) => {
            output::write("report", file, json()?.as_bytes())?;
            ui::out(&summary.to_string());
        }
        None => ui::out(&summary.to_string()),
    }
    if exit != Exit::Success {
        ui::note(&format!("hv boot: {}", summary.explanation()));
    }
    no_trace.map_or(Ok(exit), Err)
}

fn keep(dir: &Path, outcome: &Outcome, summary: &Summary) -> anyhow::Result<()> {
    use zerocopy::IntoBytes as _;
    let mut bytes = outcome.report.as_bytes().to_vec();
    for vp in &outcome.vps {
        bytes.extend_from_slice(vp.as_bytes());
    }
    fs::write(dir.join("report.bin"), bytes)?;
    fs::write(dir.join("report.json"), serde_json::to_vec_pretty(summary)?)?;
    Ok(fs::write(dir.join("qemu-messages.txt"), &outcome.complaints)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_has_the_kernels_page_size() {
        assert_eq!(cpu(None, Some(4096)).unwrap(), "cortex-a72");
        assert_eq!(cpu(None, None).unwrap(), "cortex-a72");
        assert_eq!(cpu(None, Some(16384)).unwrap(), "cortex-a76");
        assert_eq!(cpu(Some("max,sve=off"), Some(16384)).unwrap(), "max,sve=off");
        assert!(cpu(Some("cortex-a72,pmu=off"), Some(16384)).is_err());
    }
}
