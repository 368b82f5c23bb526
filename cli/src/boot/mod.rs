//! `hv boot`: one guest, from the kernel file to the report.

mod args;
mod faults;
mod keep;
mod modules;
mod sources;

use std::path::PathBuf;

use anyhow::bail;
use hv_machine::{ALIGN_2M, Image};
use hv_wire::{BootFlags, BootInfo, Report, platform};
use zerocopy::FromZeros as _;

pub(crate) use args::Args;
use args::Strict;
use keep::Keep;
use sources::Given;

use crate::exit::Exit;
use crate::input::Named;
use crate::machine::{self, Outcome, Ram, Running, Settings, Sink};
use crate::report::{self, About, Known, Summary};
use crate::setup::cache::Cache;
use crate::setup::qemu::{self, Qemu};
use crate::setup::stock;
use crate::trace::{self, Collector, Kept, Region};
use crate::ui::Stream;
use crate::{build, interrupt, output, process, ui};

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
    let mut kept = Keep::open(args.keep.as_deref())?;
    // What can be wrong with the user's own files is said before anything is installed.
    let plan = args.inject.as_deref().map(faults::judge).transpose()?.unwrap_or_default();
    let given = Given::read(args)?;
    let own = given.own(args)?;
    let (hypervisor, (qemu, stock)) = set_up(args, own.is_none())?;
    let (image, kernel) = match (own, stock) {
        (Some(own), _) => own,
        (None, Some((kernel, busybox))) => given.stock(args, &kernel, &busybox)?,
        (None, None) => bail!("there is no kernel"),
    };
    let mut symbols = given.symbols;
    let settings = Settings {
        qemu: qemu.clone(),
        hypervisor: Some(hypervisor.path().to_owned()),
        cpu: cpu(args.cpu.as_deref(), image.page_size)?,
        vps: args.vps,
        deterministic: args.deterministic,
        gdb: args.gdb.clone(),
        timeout: args.limit(),
        silence: args.silence(&image.command_line),
    };
    let ram = load(args, &image, &plan)?;
    kept.write("cmdline.txt", format!("{}\n", image.command_line).as_bytes());
    kept.write("qemu.txt", (machine::command_line(&settings, ram.size()) + "\n").as_bytes());
    let log = kept.create("console.txt");
    if symbols.is_empty() {
        symbols = crate::symbols::Symbols::of_linux(image.kernel());
    }
    let about = About {
        kernel: report::Kernel { page_size_bytes: image.page_size, ..kernel },
        command_line: image.command_line.clone(),
        qemu: report::Qemu {
            version: qemu.version.clone(),
            command: machine::command_line(&settings, ram.size()),
        },
        memory_bytes: args.memory,
    };
    drop(image);
    // From here on neither a signal nor a reader of what is shown keeps the report from being written.
    let _orderly = interrupt::orderly();
    ui::wait_for_nobody();
    let tag = sink(args).filter(|stream| *stream == Stream::Stdout).map(|_| tag()).transpose()?;
    let announced = tag.as_ref().map_or_else(String::new, |tag| format!("; its report will be report {tag}"));
    ui::note(&format!(
        "Booting {} on {} VPs ({}, QEMU {}){announced}",
        about.kernel.title(),
        args.vps,
        settings.cpu,
        qemu.version
    ));
    let shared = ram.share()?;
    let collector = trace_region(args)
        .map(|region| Collector::start(ram.share()?, region, args.trace_limit))
        .transpose()?;
    let outcome = Running::start(&settings, ram, sink(args), log)?.wait()?;
    let trace = match (collector, &args.trace) {
        (Some(collector), Some(file)) if outcome.report.magic == Report::MAGIC => Some(trace::keep(
            collector,
            &shared,
            &outcome,
            &plan.rules,
            args.memory,
            (file, args.trace_limit),
        )),
        _ => None,
    };
    let known = Known {
        firmware: args.firmware.into(),
        symbols,
        rules: plan.rules,
        fails_from: args.strict.and_then(Strict::fails_from),
        about,
    };
    let mut summary = Summary::new(&outcome, &known);
    summary.set_tag(tag);
    finish(args, &outcome, summary, trace, kept)
}

/// What a run needs beside the guest: the hypervisor, QEMU, and a stock kernel with its busybox if it is to be one.
///
/// What is missing is built, installed and fetched side by side.
#[expect(clippy::type_complexity, reason = "three things that are taken apart at once")]
fn set_up(args: &Args, stock: bool) -> anyhow::Result<(Named, (Qemu, Option<(stock::Kernel, PathBuf)>))> {
    // What the user gave is judged before anything is installed.
    let given = args.hypervisor.as_ref().map(|file| build::hypervisor(Some(file))).transpose()?;
    let qemu = args.qemu.as_deref().map(|program| qemu::prepare(Some(program))).transpose()?;
    process::both(
        || given.map_or_else(|| build::hypervisor(None), Ok),
        || {
            process::both(
                || qemu.map_or_else(|| qemu::prepare(None), Ok),
                || stock.then(|| stock::kernel(&Cache::open()?, args.stock)).transpose(),
            )
        },
    )
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
        _ if args.quiet => None,
        Some(file) if file.as_os_str() == "-" => Some(Stream::Stderr),
        _ => Some(Stream::Stdout),
    }
}

/// A word that is said before the guest starts and stands at the head of its report: a guest can print what looks like a
/// report, but not this.
fn tag() -> anyhow::Result<String> {
    Ok(sources::random::<6>()?.map(|byte| format!("{byte:02x}")).concat())
}

/// Reports, and turns the outcome into an exit code. What cannot be written costs nothing but itself.
fn finish(
    args: &Args,
    outcome: &Outcome,
    mut summary: Summary,
    trace: Option<anyhow::Result<Kept>>,
    mut kept: Keep,
) -> anyhow::Result<Exit> {
    match trace {
        Some(Ok(trace)) => summary.set_trace(trace),
        Some(Err(error)) => kept.failed.push(error),
        None => {}
    }
    kept.outcome(outcome);
    let exit = summary.outcome();
    // Files first: whoever reads stdout may be slow.
    kept.report(&summary, args.json.as_deref().filter(|_| exit != Exit::Usage))?;
    if exit == Exit::Usage {
        kept.complain();
        bail!("{}", summary.explanation());
    }
    match &args.json {
        Some(file) if file.as_os_str() == "-" => ui::out(&(serde_json::to_string_pretty(&summary)? + "\n")),
        _ => ui::out(&summary.to_string()),
    }
    if exit != Exit::Success {
        ui::note(&format!("hv boot: {}", ui::one_line(summary.explanation())));
    }
    if sink(args).is_some_and(|stream| summary.set_console_dropped(ui::drain(stream))) {
        kept.report_again(&summary, args.json.as_deref())?;
    }
    Ok(if kept.complain() { Exit::Usage } else { exit })
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
