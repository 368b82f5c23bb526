//! The plan of a run: the command's options, resolved once. What is missing is set up, and the guest is loaded into its
//! RAM.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use hv_machine::{ALIGN_2M, Identity, Image};
use hv_wire::control::Service;
use hv_wire::{BootFlags, BootInfo, platform};

use super::args::{Args, Strict};
use super::faults;
use super::image::{self, System};
use super::keep::Keep;
use super::resume::Options;
use super::sources::{self, Given};
use crate::control::{Server, host_time};
use crate::disks::{ADDRESS_END, Chosen, Disks};
use crate::input::Named;
use crate::machine::load::{orders, ram};
use crate::machine::platform::{CPU, longest};
use crate::machine::{self, Ram, Saved, Settings, Sink, Typing};
use crate::machines::{Entry, Machines};
use crate::net::{self, Capture, NetOption};
use crate::report::{self, About, Known};
use crate::setup::cache::Cache;
use crate::setup::qemu::{self, Qemu};
use crate::setup::size::exact;
use crate::setup::stock;
use crate::snapshot::{self, Cached, Versions};
use crate::symbols::Symbols;
use crate::trace::Region;
use crate::ui::{self, Stream};
use crate::{build, interrupt, process, sockets, terminal};

/// The fastest one with a 16K granule.
const CPU_16K: &str = "cortex-a76";
/// CPU models without a 16K granule: a kernel that needs it stops silently.
const NO_16K: [&str; 4] = ["cortex-a35", "cortex-a53", "cortex-a57", "cortex-a72"];

/// A run that is ready to start.
pub(super) struct Plan {
    pub(super) settings: Settings,
    /// RAM, loaded with the guest and the hypervisor's boot information.
    pub(super) ram: Ram,
    /// What the report needs to know about the guest.
    pub(super) known: Known,
    /// Where the machine listens for `hv ctl`.
    pub(super) control: Option<Server>,
    /// Its place among the machines that run.
    pub(super) entry: Option<Entry>,
    /// Where programs find the guest's sockets.
    pub(super) sockets: Option<sockets::Server>,
    /// The guest's disks.
    pub(super) disks: Disks,
    /// The file with the network's frames.
    pub(super) capture: Option<Capture>,
    /// Physical address of the video memory, if the guest has a screen.
    pub(super) video: Option<u64>,
    /// The trace, if there is one.
    pub(super) trace: Option<Recording>,
    /// Where the console is shown.
    pub(super) sink: Sink,
    /// Where the machine comes from.
    pub(super) origin: Origin,
    /// What a snapshot of the machine fits, and what it keeps of the options; or why the machine cannot be saved.
    pub(super) saved_with: Result<(Versions, Options), String>,
    /// Number of folders of the host's that the agent in the guest mounts, if the run has an agent.
    pub(super) agent: Option<u32>,
    /// The tag in the report's header, if the report follows the console.
    pub(super) tag: Option<String>,
    /// The hypervisor's file; it may be a copy that is removed with this value.
    pub(super) _hypervisor: Named,
}

/// A trace that is recorded.
pub(super) struct Recording {
    /// The rings' place in the machine's RAM.
    pub(super) region: Region,
    /// The file that it is written to.
    pub(super) file: PathBuf,
    /// Maximum size of the file in bytes.
    pub(super) limit: u64,
}

/// Origin of a machine.
pub(super) enum Origin {
    /// It boots.
    Boot,
    /// It is resumed from a snapshot of the cache, if there is one, or boots and is saved as that.
    Cached(Cached),
    /// It is resumed from a snapshot of the user's, with this name of the next request to the hypervisor.
    Saved(Box<Saved>, u32),
}

impl Plan {
    /// Resolves the options: checks the user's own files, then sets up what is missing.
    pub(super) fn resolve(args: &Args, kept: &mut Keep) -> anyhow::Result<Self> {
        // Errors in the user's own files are reported before anything is installed.
        args.judge_actions()?;
        // A list removes the sockets that killed machines have left.
        let _ = Machines::open().and_then(|machines| machines.list());
        let socket = args.control.as_ref().and_then(Option::as_deref);
        let control = socket.map(|path| Server::listen(path, args.deterministic)).transpose()?;
        let sockets = args.vsock.as_deref().map(sockets::Server::listen).transpose()?;
        let orders = args.inject.as_deref().map(faults::judge).transpose()?.unwrap_or_default();
        let trace = trace_region(args)?;
        let disks = disks(args, trace)?;
        let (network, capture) = net::open(&args.net, args.net_capture.as_deref(), args.deterministic)?;
        let system = system(args, &disks)?;
        let args = &match &system {
            Some((system, disk)) => args
                .with_system(&system.options, system.initrd.is_some())
                .with_context(|| format!("the command line of {} in {}", system.title, disk.display()))?,
            None => args.clone(),
        };
        let given = match system {
            Some((system, disk)) => Given::of_system(system, &disk, args)?,
            None => Given::read(args)?,
        };
        let own = given.own(args)?;
        let (mut entry, control) = enter(args, control)?;
        if let (Some(entry), Some(path), Some(server)) = (&mut entry, &args.vsock, &sockets) {
            // So that others can remove the sockets, should this process be killed.
            let _ = entry.set_sockets(path, server.has_made_folder());
        }
        let (hypervisor, (qemu, stock)) = set_up(args, own.is_none())?;
        let (image, kernel) = match (own, stock) {
            (Some(own), _) => own,
            (None, Some((kernel, busybox))) => given.stock(args, &kernel, &busybox)?,
            (None, None) => bail!("there is no kernel"),
        };
        let cpu = cpu(args.cpu.as_deref(), image.page_size)?;
        // All else has been judged: only now disks are copied, converted and allocated.
        let disks = disks.prepare(uuid(args))?;
        let unsaved = args.unsaved();
        let settings = Settings {
            qemu,
            hypervisor: Some(hypervisor.path().to_owned()),
            cpu,
            vps: args.vps,
            backings: disks.backings()?,
            deterministic: args.deterministic,
            control: args.has_control(),
            sockets: args.vsock.is_some(),
            network,
            gdb: args.gdb.clone(),
            monitor: args.warm || unsaved.is_none(),
            timeout: args.limit(terminal::is_ours()),
            typing: typing(args, kernel.version.is_some()),
            silence: args.silence(&image.command_line),
        };
        let boot_info = boot_info(args, &image, &orders, trace, &disks);
        let ram = ram(&image, &boot_info)?;
        let cached =
            args.warm.then(|| cached(args, &settings, &image, &boot_info, ram.size())).transpose()?;
        let saved_with = match unsaved {
            Some(why) => Err(why),
            None => {
                let versions = Versions::current(hypervisor.path(), &settings.qemu)?;
                Ok((versions, args.saved(&settings.cpu)))
            }
        };
        let about = About {
            kernel: report::Kernel { page_size_bytes: image.page_size, ..kernel },
            command_line: image.command_line.clone(),
            qemu: report::Qemu {
                version: settings.qemu.version.clone(),
                command: machine::command_line(&settings, ram.size()),
            },
            memory_bytes: args.memory,
        };
        kept.write("cmdline.txt", format!("{}\n", about.command_line).as_bytes());
        kept.write("qemu.txt", format!("{}\n", about.qemu.command).as_bytes());
        if let Some(entry) = &mut entry {
            // A list that lacks it is no reason to end.
            let _ = entry.set_kernel(about.kernel.title());
        }
        let symbols = given.symbols;
        let symbols = if symbols.is_empty() { Symbols::of_linux(image.kernel()) } else { symbols };
        let known = Known {
            firmware: args.firmware.into(),
            symbols,
            rules: orders.rules,
            strict: args.strict.is_some(),
            fails_from: args.strict.and_then(Strict::fails_from),
            about,
        };
        let sink = sink(args);
        Ok(Self {
            settings,
            ram,
            known,
            control,
            entry,
            sockets,
            disks,
            capture,
            video: has_screen(args).then_some(boot_info.video_base),
            trace: recording(args, trace),
            sink,
            origin: cached.map_or(Origin::Boot, Origin::Cached),
            saved_with,
            agent: args.agent.as_ref().map(|_| args.shares as u32),
            tag: tag_for(sink)?,
            _hypervisor: hypervisor,
        })
    }

    /// Returns the announcement of the run.
    pub(super) fn announcement(&self) -> String {
        let Settings { vps, cpu, qemu, .. } = &self.settings;
        let tag =
            self.tag.as_ref().map_or_else(String::new, |tag| format!("; its report will be report {tag}"));
        let name = self.entry.as_ref().filter(|_| self.settings.control);
        let name = name.map_or_else(String::new, |entry| format!(" as {}", entry.name()));
        let verb = if matches!(self.origin, Origin::Saved(..)) { "Going on with" } else { "Booting" };
        format!(
            "{verb} {}{name} on {vps} VPs ({cpu}, QEMU {}){tag}",
            self.known.about.kernel.title(),
            qemu.version
        )
    }
}

/// Adds the machine to those that run, and gives it its control port. A machine that was given no name, and needs none,
/// runs also where it cannot be added.
pub(super) fn enter(args: &Args, control: Option<Server>) -> anyhow::Result<(Option<Entry>, Option<Server>)> {
    let is_found = args.name.is_some() || args.control == Some(None);
    let entry = match Machines::open().and_then(|machines| machines.add(args.name.as_ref())) {
        Err(error) if is_found || interrupt::is_cause(&error) => return Err(error),
        entered => entered.ok(),
    };
    let control = match (control, &entry, args.control.as_ref().and_then(Option::as_deref)) {
        (Some(server), Some(entry), Some(path)) => {
            entry.link(path)?;
            Some(server)
        }
        (None, Some(entry), _) if is_found => Some(Server::of(entry, args.deterministic)?),
        (server, _, _) => server,
    };
    Ok((entry, control))
}

/// Sets up what a run needs besides the guest: the hypervisor, QEMU, and for a stock kernel that kernel and busybox.
///
/// What is missing is built, installed and fetched in parallel.
#[expect(clippy::type_complexity, reason = "three values that the caller destructures")]
pub(super) fn set_up(
    args: &Args,
    stock: bool,
) -> anyhow::Result<(Named, (Qemu, Option<(stock::Kernel, PathBuf)>))> {
    // The user's files and --cpu are checked before anything is installed or built.
    let given = args.hypervisor.as_ref().map(|file| build::hypervisor(Some(file))).transpose()?;
    let checked = |program: Option<&Path>| {
        let qemu = qemu::prepare(program)?;
        args.cpu.as_deref().map(|model| qemu::check_cpu(&qemu, model)).transpose()?;
        anyhow::Ok(qemu)
    };
    let present = args.qemu.clone().or_else(qemu::find);
    let qemu = present.as_deref().map(|program| checked(Some(program))).transpose()?;
    process::both(
        || given.map_or_else(|| build::hypervisor(None), Ok),
        || {
            process::both(
                || qemu.map_or_else(|| checked(None), Ok),
                || stock.then(|| stock::kernel(&Cache::open()?, args.stock())).transpose(),
            )
        },
    )
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

/// Returns the run's flags.
fn flags(args: &Args) -> u64 {
    let switches = [
        (args.strict.is_some(), BootFlags::STRICT),
        (args.trace.is_some(), BootFlags::TRACE),
        (args.loopback, BootFlags::LOOPBACK),
        (args.has_control(), BootFlags::CONTROL),
        (args.vsock.is_some(), BootFlags::SOCKETS),
        (args.net != NetOption::None, BootFlags::NETWORK),
    ];
    switches.iter().filter(|(on, _)| *on).map(|(_, flag)| flag).sum()
}

/// Returns the location of the trace, if there is one: after the guest's RAM and the page tables.
fn trace_region(args: &Args) -> anyhow::Result<Option<Region>> {
    let size = args.trace_buffer.max(1).next_multiple_of(ALIGN_2M);
    let base = platform::GUEST_RAM_BASE + args.memory + BootInfo::tables_size(args.memory);
    let most = ADDRESS_END.saturating_sub(base);
    ensure!(
        args.trace.is_none() || size <= most,
        "--trace-buffer {} does not fit after {} of guest memory: the hypervisor maps 39 bits of address; give at most {}",
        exact(args.trace_buffer),
        exact(args.memory),
        exact(most)
    );
    Ok(args.trace.is_some().then_some(Region { base, size, vps: args.vps }))
}

/// Returns the trace to be recorded in this region.
fn recording(args: &Args, region: Option<Region>) -> Option<Recording> {
    let file = args.trace.clone();
    region.zip(file).map(|(region, file)| Recording { region, file, limit: args.trace_limit })
}

/// Returns true if the machine has a screen.
pub(super) fn has_screen(args: &Args) -> bool {
    args.services().has(Service::Video)
}

/// Returns where video memory is, on a machine that has it: after the guest's RAM, the page tables and the trace.
pub(super) fn video_base(args: &Args, trace: Option<Region>) -> u64 {
    let tables = platform::GUEST_RAM_BASE + args.memory + BootInfo::tables_size(args.memory);
    trace.map_or(tables, |trace| trace.base + trace.size)
}

/// Chooses the guest's disks, placed after everything else in the machine's RAM.
fn disks(args: &Args, trace: Option<Region>) -> anyhow::Result<Chosen> {
    let size = if has_screen(args) { platform::VIDEO_BYTES } else { 0 };
    let base = video_base(args, trace) + size;
    Chosen::open(&args.disk, &args.dvd, base, args.hotplug_room.next_multiple_of(ALIGN_2M))
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
    ram_size: u64,
) -> anyhow::Result<Cached> {
    let inputs = snapshot::Inputs { settings, ram_size, image, firmware: args.firmware.into(), orders };
    Ok(Cached::new(Cache::open()?, inputs.key()?, ram_size))
}

/// Returns the hypervisor's boot information.
fn boot_info(
    args: &Args,
    image: &Image,
    plan: &faults::Orders,
    trace: Option<Region>,
    disks: &Disks,
) -> BootInfo {
    let (disk_count, disks, window_base, window_size) = disks.boot();
    let [a, b, c, d, e, f] = net::MAC;
    BootInfo {
        flags: flags(args),
        trace_base: trace.map_or(0, |trace| trace.base),
        trace_size: trace.map_or(0, |trace| trace.size),
        plan_rules: plan.rules.len() as u32,
        plan: plan.words,
        host_time: host_time(args.deterministic),
        services: args.services().bits(),
        disk_count,
        disks,
        mac: [a, b, c, d, e, f, 0, 0],
        video_base: if has_screen(args) { video_base(args, trace) } else { 0 },
        window_base,
        window_size,
        ..orders(image, args.vps, args.memory)
    }
}

/// Returns what is typed on the guest's console, whose kernel is Linux or another one.
pub(super) fn typing(args: &Args, is_linux: bool) -> Typing {
    let piped = machine::is_piped() && !args.reads_stdin();
    match (args.agent.is_none(), terminal::is_ours()) {
        (true, true) => Typing::Keys,
        (true, false) if piped => args.piped(is_linux),
        _ => Typing::Nothing,
    }
}

/// Returns where the console is shown, if at all.
pub(super) fn sink(args: &Args) -> Sink {
    match &args.json {
        _ if args.quiet => None,
        Some(file) if file.as_os_str() == "-" => Some(Stream::Stderr),
        _ => Some(Stream::Stdout),
    }
}

/// Returns the tag of a report that follows the console, which is shown in `sink`.
pub(super) fn tag_for(sink: Sink) -> anyhow::Result<Option<String>> {
    sink.filter(|stream| *stream == Stream::Stdout).map(|_| tag()).transpose()
}

/// Returns a word that is printed before the guest starts and again in the header of its report: a guest can print what
/// looks like a report, but cannot guess this word.
fn tag() -> anyhow::Result<String> {
    Ok(sources::random::<6>()?.map(|byte| format!("{byte:02x}")).concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_buffer_that_cannot_be_mapped_is_refused_at_once() {
        let region = |words: &str| trace_region(&Args::of_words(words));
        assert_eq!(region("").unwrap().map(|region| region.size), None);
        assert_eq!(region("--trace x").unwrap().map(|region| region.size), Some(64 << 20));
        let error = region("--trace x --trace-buffer 1T").unwrap_err().to_string();
        assert!(error.starts_with("--trace-buffer 1 TiB does not fit after 512 MiB"), "{error}");
        assert!(region("--trace x --trace-buffer 511G").is_err());
        assert!(region("--trace x --trace-buffer 300G --memory 200G").is_ok());
    }

    #[test]
    fn the_cpu_has_the_kernels_page_size() {
        assert_eq!(cpu(None, Some(4096)).unwrap(), "cortex-a72");
        assert_eq!(cpu(None, None).unwrap(), "cortex-a72");
        assert_eq!(cpu(None, Some(16384)).unwrap(), "cortex-a76");
        assert_eq!(cpu(Some("max,sve=off"), Some(16384)).unwrap(), "max,sve=off");
        assert!(cpu(Some("cortex-a72,pmu=off"), Some(16384)).is_err());
    }
}
