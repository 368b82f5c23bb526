//! A run that boots: the command's options, resolved in three phases. They are judged, with the user's files; then what
//! is missing is set up; then the guest is placed into its RAM.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use hv_machine::{Identity, Image};
use hv_wire::BootInfo;

use super::args::Args;
use super::faults::{self, Orders};
use super::image::{self, System};
use super::plan::{Origin, Plan, Recording, known};
use super::programs::{self, Programs};
use super::sources::{self, Given};
use super::{accel, console, entry, place, stock};
use crate::control::Server;
use crate::disks::Chosen;
use crate::input::Named;
use crate::machine::load::ram;
use crate::machine::platform::{CPU, longest};
use crate::machine::{Accel, Backing, Emulator, Layout, Settings};
use crate::machines::{Entry, Machines};
use crate::net::{self, Capture, Network};
use crate::report::Kernel;
use crate::setup::cache::Cache;
use crate::setup::qemu::Qemu;
use crate::snapshot::{Cached, Inputs, Versions};
use crate::symbols::Symbols;
use crate::timings::Counter;
use crate::trace::Region;
use crate::{sockets, terminal, timings, ui};

/// The fastest one with a 16K granule.
const CPU_16K: &str = "cortex-a76";
/// CPU models without a 16K granule: a kernel that needs it stops silently.
const NO_16K: [&str; 4] = ["cortex-a35", "cortex-a53", "cortex-a57", "cortex-a72"];

/// Options that were judged, and the user's files. Nothing has been installed, copied or allocated.
struct Judged {
    /// The options, with those of the system that the first disk boots.
    args: Args,
    control: Option<Server>,
    entry: Option<Entry>,
    sockets: Option<sockets::Server>,
    orders: Orders,
    trace: Option<Region>,
    disks: Chosen,
    network: Option<Network>,
    capture: Option<Capture>,
    given: Given,
}

/// A guest whose image is built, and the programs that run it.
struct Ready {
    judged: Judged,
    /// The hypervisor, QEMU, and the CPU that it emulates; unless KVM runs the guest.
    emulator: Option<(Named, Qemu, String)>,
    image: Image,
    kernel: Kernel,
}

impl Plan {
    /// Resolves the options: checks the user's own files, then sets up what is missing.
    pub(super) fn resolve(args: &Args) -> anyhow::Result<Self> {
        let judged = timings::part("options and files", || Judged::of(args))?;
        let ready = judged.set_up()?;
        timings::part("RAM and disks", || ready.place())
    }
}

impl Judged {
    /// Judges the options, and reads the user's files.
    fn of(args: &Args) -> anyhow::Result<Self> {
        args.judge_actions()?;
        let accel = accel::choose(args)?;
        // Only a machine of QEMU's can be saved.
        let warm = args.warm && accel == Accel::Tcg;
        let args = &Args { accel: Some(accel), warm, ..args.clone() };
        // A list removes the sockets that killed machines have left.
        let _ = Machines::open().and_then(|machines| machines.list());
        let socket = args.control.as_ref().and_then(Option::as_deref);
        let control = socket.map(|path| Server::listen(path, args.deterministic)).transpose()?;
        let sockets = args.vsock.as_deref().map(sockets::Server::listen).transpose()?;
        let orders = args.inject.as_deref().map(faults::judge).transpose()?.unwrap_or_default();
        faults::fit(&orders, args)?;
        let trace = place::trace_region(args)?;
        let mut disks = place::disks(args, trace)?;
        let system = system(args, &disks)?;
        let (network, capture) = net::open(&args.net, args.net_capture.as_deref(), args.deterministic)?;
        let args = match &system {
            Some((system, disk)) => args
                .with_system(&system.options, system.initrd.is_some())
                .with_context(|| format!("the command line of {} in {}", system.title, disk.display()))?,
            None => args.clone(),
        };
        // A system's own devices take memory, too.
        disks.place(place::disk_base(&args, trace));
        let given = sources::read(&args, system)?;
        let (mut entry, control) = entry::enter(&args, control)?;
        if let (Some(entry), Some(path), Some(server)) = (&mut entry, &args.vsock, &sockets) {
            // So that others can remove the sockets, should this process be killed.
            let _ = entry.set_sockets(path, server.has_made_folder());
        }
        Ok(Self { args, control, entry, sockets, orders, trace, disks, network, capture, given })
    }

    /// Sets up what is missing, and builds the guest's image.
    fn set_up(mut self) -> anyhow::Result<Ready> {
        let (args, given) = (&self.args, &mut self.given);
        let own = given.own.take();
        let parts = (given.initrd.take(), given.modules.as_deref());
        let of_stock = |kernel, busybox: PathBuf| stock::image(args, &kernel, &busybox, parts);
        let of_stock = own.is_none().then_some(of_stock);
        let Programs { emulator, stock } =
            timings::part(programs::PART, || programs::set_up(args, of_stock))?;
        let (image, kernel) = own.or(stock).context("there is no kernel")?;
        let with_cpu =
            |(hypervisor, qemu)| anyhow::Ok((hypervisor, qemu, cpu(args.cpu.as_deref(), image.page_size)?));
        let emulator = emulator.map(with_cpu).transpose()?;
        Ok(Ready { judged: self, emulator, image, kernel })
    }
}

impl Ready {
    /// Copies, converts and allocates the disks, and loads the guest into its RAM.
    fn place(self) -> anyhow::Result<Plan> {
        let Self { judged, emulator, image, kernel } = self;
        let Judged { args, control, entry, sockets, orders, trace, disks, network, capture, given } = judged;
        let disks = disks.prepare(uuid(&args))?;
        let boot_info = place::boot_info(&args, &image, &orders, trace, &disks);
        let (hypervisor, emulator) = match emulator {
            Some((hypervisor, qemu, cpu)) => {
                let file = Some(hypervisor.path().to_owned());
                (Some(hypervisor), Some(Emulator { qemu, hypervisor: file, cpu }))
            }
            None => (None, None),
        };
        let hardware = (emulator, disks.backings()?, network);
        let settings = settings(&args, hardware, (&image, kernel.version.is_some()));
        let ram = ram(&image, &boot_info, settings.monitor)?;
        let cached =
            args.warm.then(|| cached(&args, &settings, &image, &boot_info, ram.layout())).transpose()?;
        let saved_with = match (args.unsaved(), &hypervisor, &settings.emulator) {
            (None, Some(hypervisor), Some(Emulator { qemu, cpu, .. })) => {
                let versions = Versions::current(hypervisor.path(), qemu)?;
                Ok((versions, args.saved(cpu)))
            }
            (why, ..) => Err(why.unwrap_or_default()),
        };
        let kernel = Kernel { page_size_bytes: image.page_size, ..kernel };
        let command_line = image.command_line.clone();
        let symbols = match given.symbols {
            symbols if symbols.is_empty() => Symbols::later(move || Symbols::of_linux(image.kernel())),
            symbols => symbols.into(),
        };
        let guest = (kernel, command_line, symbols);
        let known = known(&args, &settings, guest, orders.rules, ram.layout());
        let sink = console::sink(&args);
        Ok(Plan {
            settings,
            ram,
            known,
            control,
            entry,
            sockets,
            disks,
            capture,
            video: place::has_screen(&args).then_some(boot_info.video_base),
            trace: recording(&args, trace),
            sink,
            origin: cached.map_or(Origin::Boot, Origin::Cached),
            saved_with,
            agent: args.agent.as_ref().map(|_| args.shares as u32),
            timings: args.timings.then_some(match args.accel {
                Some(Accel::Kvm) => Counter::Other,
                _ if args.deterministic => Counter::Other,
                _ => Counter::Wall,
            }),
            tag: console::tag_for(sink)?,
            _hypervisor: hypervisor,
        })
    }
}

/// Returns the machine's settings.
fn settings(
    args: &Args,
    (emulator, backings, network): (Option<Emulator>, Vec<Backing>, Option<Network>),
    (image, is_linux): (&Image, bool),
) -> Settings {
    Settings {
        emulator,
        vps: args.vps,
        backings,
        deterministic: args.deterministic,
        control: args.has_control(),
        sockets: args.vsock.is_some(),
        network,
        gdb: args.gdb.clone(),
        monitor: args.warm || args.unsaved().is_none(),
        timeout: args.limit(terminal::is_ours()),
        typing: console::typing(args, is_linux),
        silence: args.silence(&image.command_line),
    }
}

/// Returns the CPU model: the given one if it supports the kernel's page size, else the fastest that does.
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

/// Returns the trace to be recorded in this region.
fn recording(args: &Args, region: Option<Region>) -> Option<Recording> {
    let file = args.trace.clone();
    region.zip(file).map(|(region, file)| Recording { region, file, limit: args.trace_limit })
}

/// Finds the system of the first disk, if that is to boot; returns it with the disk's name.
fn system(args: &Args, disks: &Chosen) -> anyhow::Result<Option<(System, PathBuf)>> {
    if !args.may_boot_disk() {
        ensure!(
            args.entry.is_none(),
            "--entry: --append says what to boot by its root= or rdinit=; leave one of both out"
        );
        return Ok(None);
    }
    let Some((file, path)) = disks.first()? else { return Ok(None) };
    let found = image::find(file, &path, args.entry.as_deref(), longest(args.memory))?;
    if let Some(system) = &found {
        ui::note(&format!("The disk {} boots {}", path.display(), system.title));
    }
    Ok(found.map(|system| (system, path)))
}

/// Returns the machine's UUID.
fn uuid(args: &Args) -> [u8; 16] {
    args.uuid.map_or(Identity::DEFAULT.uuid, uuid::Uuid::into_bytes)
}

/// Returns the snapshot of a machine in the cache, whether it is there or not.
fn cached(
    args: &Args,
    settings: &Settings,
    image: &Image,
    orders: &BootInfo,
    layout: Layout,
) -> anyhow::Result<Cached> {
    let inputs = Inputs { settings, layout, image, firmware: args.firmware.into(), orders };
    Ok(Cached::new(Cache::open()?, inputs.key()?, layout.size()))
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
