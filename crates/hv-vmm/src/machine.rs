//! The process of a machine over KVM.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use hv_control::{ControlPort, Serves, SocketsPort};
use hv_kvm::vm_memory::{Bytes as _, FileOffset, GuestAddress, GuestMemoryMmap};
use hv_kvm::{KvmVm, Layout, Machine, RunOutcome, Vm as _, VmMemory, enter_sandbox};
use hv_partition::faults::{Injector, Plan};
use hv_partition::strict::Judge;
use hv_partition::{Config, Faulty, Partition, Profile, Vp, VpContext};
use hv_wire::control::Service;
use hv_wire::platform::{self, MAX_VPS};
use hv_wire::{BootFlags, BootInfo, ExitKind, PLAN_RULES, Place};
use parking_lot::RawMutex;
use rustix::io::Errno;
use zerocopy::{FromZeros as _, IntoBytes as _};

use crate::accounts::{Accounts, Part, lock};
use crate::console::Console;
use crate::devices::{self, BUS, OwnPartition, Ports, STATE};
use crate::disks::{Disks, WORKERS};
use crate::handed::Handed;
use crate::hearer::Hearer;
use crate::network::{Inward, Network};
use crate::pipe::Stream;
use crate::ports::{self, Bells};
use crate::rings::Rings;
use crate::{faults, keyboard, loopback};

const _: () = {
    assert!(Layout::VIRT.distributor == platform::GICD_BASE);
    assert!(Layout::VIRT.redistributors == platform::GICR_BASE);
    assert!(Layout::REDISTRIBUTOR_SIZE == platform::GICR_STRIDE);
    assert!(Layout::VIRT.uart == platform::UART_BASE && Layout::VIRT.uart_intid == platform::UART_INTID);
};

/// How often what has changed of the report is copied.
const PERIOD: Duration = Duration::from_millis(20);
/// Exit status after a panic, as Rust's own.
const PANICKED: i32 = 101;
/// System calls that this process makes while the guest runs, besides those of a machine: input and disks.
const CALLS: [libc::c_long; 6] = [
    libc::SYS_read,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_pwrite64,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
];
/// Stack of the threads beside the VPs'.
const STACK: usize = 256 << 10;

/// The strict mode's judge: too large for a stack.
static JUDGE: Mutex<Judge<MAX_VPS>> = Mutex::new(Judge::new(0, 0));

/// Runs the machine whose RAM is a file, with the boot information, until its end, and with the files of its disks, in
/// their order. The report says how the run ended. The threads and the memory of the machine end with the process.
///
/// # Errors
/// KVM does not give the machine, or fails.
pub fn run(ram: &Path, disks: &[PathBuf]) -> anyhow::Result<()> {
    die_together();
    let file = File::options().read(true).write(true).open(ram).context("cannot open the machine's RAM")?;
    let info: &'static BootInfo = Box::leak(boot_info(&file)?);
    let map = |base: u64, size: u64| {
        let file = FileOffset::new(file.try_clone()?, base - platform::RAM_BASE);
        GuestMemoryMmap::from_ranges_with_files(&[(GuestAddress(base), size as usize, Some(file))])
            .with_context(|| format!("cannot map {size} bytes of the machine's RAM"))
    };
    let own = map(platform::RAM_BASE, platform::GUEST_RAM_BASE - platform::RAM_BASE)?;
    let vp_reports = map(info.vps_base, info.vps_size)?;
    let vps = info.vps as usize;
    let screen = (info.video_base != 0).then(|| screen(&file, info.video_base)).transpose()?;
    let parts = KvmVm::create_with(map(info.ram_base, info.ram_size)?, screen, vps, Layout::VIRT)?;
    let mut handed = Handed::receive(std::io::stdin()).context("nothing was handed over")?;
    let typed = handed.typed.take();
    let (hearer, streams) = hearer(info, &parts.vm, (Disks::open(info, disks)?, handed), map)?;
    let machine = Machine::new(parts, hearer).context("cannot set up the virtual CPUs")?;
    // The threads beside the VPs' end with the process.
    let machine: &'static devices::Machine = Box::leak(Box::new(machine));
    let frequency = machine.vm().counter_frequency();
    let mut config = Config::new(frequency);
    config.hypervisor.profile =
        Profile::by_number(info.profile).with_context(|| format!("there is no profile {}", info.profile))?;
    let states: Vec<Vp<RawMutex>> = (0..vps).map(|_| Vp::new()).collect();
    let partition = Partition::new(config.hypervisor, Box::leak(states.into()), loopback::ports(info), &BUS);
    let partition: &'static OwnPartition = Box::leak(Box::new(partition));

    let memory: &'static _ = Box::leak(Box::new((own, vp_reports)));
    let publish = move |always: bool| {
        let (own, vp_reports) = memory;
        machine.observer().accounts.publish(always, |part, bytes| {
            let (memory, address) = match part {
                Part::Run => (own, platform::REPORT),
                Part::Vp(number) => (vp_reports, info.vp_report(number)),
            };
            // The region is larger than its reports.
            let _ = memory.write_slice(bytes, GuestAddress(address));
        });
    };
    beside("reports", move || {
        loop {
            publish(false);
            thread::sleep(PERIOD);
        }
    })?;
    beside("console", move || machine.observer().console.work(write))?;
    if let Some(typed) = typed {
        beside("keyboard", move || {
            keyboard::forward(&typed, |bytes| machine.input(bytes), || machine.unread());
        })?;
    }
    let boot = VpContext::at(info.entry, info.entry_x0);
    enter_sandbox(&CALLS)?;
    // What serves the guest begins after the partition's reset, which would take away what it has done.
    let mut served = Ok(());
    let outcome = match &machine.observer().injector {
        None => {
            let ports = ports(partition, machine.embedder(), info, machine);
            let begin = || served = serve(ports, machine, streams).inspect_err(|_| machine.stop());
            machine.run_as(machine.embedders(), partition, &boot, begin)
        }
        Some((injector, _)) => {
            let hosts: Vec<_> = machine.embedders().iter().map(|host| Faulty::new(host, *injector)).collect();
            let hosts: &'static [faults::Host] = Box::leak(hosts.into());
            let ports = ports(partition, &hosts[vps], info, machine);
            let begin = || {
                let inject = move || faults::inject(ports, (machine.observer(), frequency));
                served = serve(ports, machine, streams)
                    .and_then(|()| beside("faults", inject))
                    .inspect_err(|_| machine.stop());
            };
            machine.run_as(hosts, partition, &boot, begin)
        }
    };
    served?;
    // What is known goes out even if KVM has failed.
    machine.observer().console.finish();
    machine.observer().settle(|| Place::at(0));
    let kind = kind(outcome);
    if let Ok(kind) = &kind {
        machine.observer().accounts.end(*kind, machine.vm().counter());
    }
    publish(true);
    kind.map(drop)
}

/// Ends the process when any of its threads panics: the others would wait for that one.
fn die_together() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        std::process::exit(PANICKED);
    }));
}

/// Returns how the run ended.
///
/// # Errors
/// KVM ended it.
fn kind(outcome: RunOutcome) -> anyhow::Result<ExitKind> {
    Ok(match outcome {
        RunOutcome::PowerOff => ExitKind::PowerOff,
        RunOutcome::Reset => ExitKind::Reset,
        RunOutcome::AllVpsOff => ExitKind::AllVpsOff,
        RunOutcome::Failed { what, error } => bail!("KVM failed at {what}: {error}"),
        outcome => bail!("the machine ended with {outcome:?}"),
    })
}

/// Returns the machine as the ports to the tool see it.
fn ports<H>(
    partition: &'static OwnPartition,
    host: &'static H,
    info: &'static BootInfo,
    machine: &'static devices::Machine,
) -> &'static Ports<H> {
    let hearer = machine.observer();
    let disks = &hearer.disks.table;
    Box::leak(Box::new(Ports { partition, host, info, disks, state: &STATE, outside: hearer }))
}

/// Maps the screen's memory, where the guest finds it.
fn screen(file: &File, base: u64) -> anyhow::Result<GuestMemoryMmap> {
    let (at, file) = (GuestAddress(platform::VIDEO_WINDOW), file.try_clone()?);
    let file = FileOffset::new(file, base.checked_sub(platform::RAM_BASE).context("no place of a screen")?);
    GuestMemoryMmap::from_ranges_with_files(&[(at, platform::VIDEO_BYTES as usize, Some(file))])
        .context("cannot map the screen's memory")
}

/// Offers the devices, and starts the threads that serve them. Without all of them the machine does not run.
fn serve<H: Serves + Sync>(
    ports: &'static Ports<H>,
    machine: &'static devices::Machine,
    handed: Streams,
) -> anyhow::Result<()> {
    let (hearer, info) = (machine.observer(), ports.info);
    let has_memory = info.services & Service::Balloon.bit() != 0;
    let words = if has_memory { BootInfo::record_size(info.ram_size) / 8 } else { 0 };
    let record: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
    ports.offer(Box::leak(record.into()));
    let settled = || hearer.settle(|| Place::at(0));
    if info.disk_count != 0 || info.window_size != 0 {
        for _ in 0..WORKERS {
            beside("disks", move || {
                hearer.disks.work(ports.partition, ports.host, machine.vm().memory(), settled);
            })?;
        }
    }
    if let Some(stream) = handed.control {
        let (port, bell) = (ControlPort::new(stream), &hearer.bells.control);
        beside("control", move || ports::serve(port, ports, bell, settled))?;
    }
    if let Some(stream) = handed.sockets {
        ports.serve_sockets();
        let (port, bell) = (SocketsPort::new(stream), &hearer.bells.sockets);
        beside("sockets", move || ports::serve(port, ports, bell, settled))?;
    }
    if let (Some(inward), Some(network)) = (handed.inward, &hearer.network) {
        let bell = &hearer.bells.network;
        beside("network", move || ports::network(network, inward, ports, bell, settled))?;
    }
    Ok(())
}

/// What the threads beside the VPs serve.
struct Streams {
    control: Option<Stream>,
    sockets: Option<Stream>,
    inward: Option<Inward>,
}

/// Makes what hears of the guest, and what the threads beside the VPs serve.
fn hearer(
    info: &BootInfo,
    vm: &KvmVm,
    (disks, handed): (Disks, Handed),
    map: impl Fn(u64, u64) -> anyhow::Result<GuestMemoryMmap>,
) -> anyhow::Result<(Hearer, Streams)> {
    let has = |flag| info.flags & flag != 0;
    let rings = has(BootFlags::TRACE)
        .then(|| anyhow::Ok(Rings::begin(info, map(info.trace_base, info.trace_size)?, vm.clock())))
        .transpose()?;
    let judge = has(BootFlags::STRICT).then(|| {
        lock(&JUDGE).set_memory(info.ram_base, info.ram_size);
        &JUDGE
    });
    let plan = (info.plan_rules != 0)
        .then(|| Plan::from_words(&info.plan).context("no plan of faults has these words"))
        .transpose()?;
    let injector = plan.map(|plan| {
        let injector: &'static Injector = Box::leak(Box::new(Injector::new(plan)));
        (injector, [const { AtomicU64::new(0) }; PLAN_RULES])
    });
    let accounts = Accounts::begin(info.vps as usize, vm.counter_frequency(), vm.counter());
    let stream = |end: Option<OwnedFd>| end.map(|end| Stream::new(File::from(end))).transpose();
    let faults = injector.as_ref().map(|(injector, _)| *injector);
    let capture = handed.capture.map(File::from);
    let network = handed.network.map(|end| Network::new(File::from(end), capture, faults)).transpose()?;
    let (network, inward) = network.unzip();
    let streams = Streams { control: stream(handed.control)?, sockets: stream(handed.sockets)?, inward };
    let hearer = Hearer {
        accounts,
        console: Console::default(),
        disks,
        network,
        memory: VmMemory(map(info.ram_base, info.ram_size)?),
        bells: Bells::new()?,
        has_control: streams.control.is_some(),
        rings,
        judge,
        injector,
    };
    Ok((hearer, streams))
}

/// Reads the boot information.
fn boot_info(file: &File) -> anyhow::Result<Box<BootInfo>> {
    let mut info = BootInfo::new_box_zeroed().map_err(|_| anyhow::anyhow!("out of memory"))?;
    file.read_exact_at(info.as_mut_bytes(), platform::BOOT_INFO - platform::RAM_BASE)
        .context("the machine's RAM has no boot information")?;
    ensure!(
        info.magic == BootInfo::MAGIC && info.version == hv_wire::VERSION,
        "the machine's RAM has boot information of another program"
    );
    Ok(info)
}

/// Starts a thread beside those of the VPs.
fn beside(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work);
    thread.map(drop).with_context(|| format!("cannot start the thread {name}"))
}

/// Writes the guest's output to standard output. The tool reads all that comes; without it this process ends, too.
fn write(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(std::io::stdout(), bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
