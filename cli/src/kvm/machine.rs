//! The process of a machine over KVM.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use hv_devices::storage;
use hv_kvm::vm_memory::{Bytes as _, FileOffset, GuestAddress, GuestMemoryMmap};
use hv_kvm::{KvmVm, Layout, Machine, RunOutcome, Vm as _, enter_sandbox};
use hv_partition::faults::{Injector, Plan};
use hv_partition::strict::Judge;
use hv_partition::{BusObserver, Config, Faulty, Host, HostBackend, Partition, Profile, Vp, VpContext};
use hv_wire::platform::{self, MAX_VPS};
use hv_wire::{BootDisk, BootFlags, BootInfo, ExitKind, PLAN_RULES, Place};
use parking_lot::RawMutex;
use rustix::io::Errno;
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::accounts::{Accounts, Part, lock};
use super::console::Console;
use super::devices::{self, BUS};
use super::disks::{Disks, WORKERS};
use super::faults;
use super::hearer::Hearer;
use super::loopback;
use super::rings::Rings;
use crate::exit::Exit;

const _: () = {
    assert!(Layout::VIRT.distributor == platform::GICD_BASE);
    assert!(Layout::VIRT.redistributors == platform::GICR_BASE);
    assert!(Layout::REDISTRIBUTOR_SIZE == platform::GICR_STRIDE);
    assert!(Layout::VIRT.uart == platform::UART_BASE && Layout::VIRT.uart_intid == platform::UART_INTID);
};

/// How often what has changed of the report is copied.
const PERIOD: Duration = Duration::from_millis(20);
/// How often to look whether the guest has read what was typed, at first and after a while.
const TAKEN: Duration = Duration::from_millis(2);
const TAKEN_AT_MOST: Duration = Duration::from_millis(50);
/// Exit status after a panic, as Rust's own.
const PANICKED: i32 = 101;
/// System calls that this process makes while the guest runs, besides those of a machine: input and disks.
const CALLS: [libc::c_long; 5] =
    [libc::SYS_read, libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_fdatasync, libc::SYS_fallocate];
/// Stack of the threads beside the VPs'.
const STACK: usize = 256 << 10;

/// Run the machine whose RAM is this file over KVM
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine's RAM, with the boot information
    ram: PathBuf,
    /// The files of its disks, in their order
    disks: Vec<PathBuf>,
}

/// The strict mode's judge: too large for a stack.
static JUDGE: Mutex<Judge<MAX_VPS>> = Mutex::new(Judge::new(0, 0));

/// Runs the machine, and ends the process: with 0 if the report says how the run ended.
///
/// # Errors
/// KVM does not give the machine, or fails.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    die_together();
    let file =
        File::options().read(true).write(true).open(&args.ram).context("cannot open the machine's RAM")?;
    let info: &'static BootInfo = Box::leak(boot_info(&file)?);
    let map = |base: u64, size: u64| {
        let file = FileOffset::new(file.try_clone()?, base - platform::RAM_BASE);
        GuestMemoryMmap::from_ranges_with_files(&[(GuestAddress(base), size as usize, Some(file))])
            .with_context(|| format!("cannot map {size} bytes of the machine's RAM"))
    };
    let own = map(platform::RAM_BASE, platform::GUEST_RAM_BASE - platform::RAM_BASE)?;
    let vp_reports = map(info.vps_base, info.vps_size)?;
    let vps = info.vps as usize;
    let parts = KvmVm::create(map(info.ram_base, info.ram_size)?, vps, Layout::VIRT)?;
    let disks = &info.disks[..(info.disk_count as usize).min(info.disks.len())];
    let files = Disks::open(disks, &args.disks)?;
    let hearer = hearer(info, &parts.vm, files, map)?;
    let machine = Machine::new(parts, hearer).context("cannot set up the virtual CPUs")?;
    // The threads beside the VPs' end with the process.
    let machine: &'static Machine<KvmVm, Hearer> = Box::leak(Box::new(machine));
    let frequency = machine.vm().counter_frequency();
    let mut config = Config::new(frequency);
    config.hypervisor.profile =
        Profile::by_number(info.profile).with_context(|| format!("there is no profile {}", info.profile))?;
    let states: Vec<Vp<RawMutex>> = (0..vps).map(|_| Vp::new()).collect();
    let partition = Partition::new(config.hypervisor, Box::leak(states.into()), loopback::ports(info), &BUS);
    let partition: &'static _ = Box::leak(Box::new(partition));

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
    beside("keyboard", move || keyboard(machine))?;
    let boot = VpContext::at(info.entry, info.entry_x0);
    let outcome = match &machine.observer().injector {
        None => {
            let host = machine.embedder();
            serve(machine, partition, host, disks)?;
            enter_sandbox(&CALLS)?;
            machine.run(partition, &boot)
        }
        Some((injector, _)) => {
            let hosts: Vec<_> = machine.embedders().iter().map(|host| Faulty::new(host, *injector)).collect();
            let hosts: &'static [faults::Host] = Box::leak(hosts.into());
            serve(machine, partition, &hosts[vps], disks)?;
            beside("faults", move || {
                faults::inject(partition, &hosts[vps], (machine.observer(), frequency));
            })?;
            enter_sandbox(&CALLS)?;
            machine.run_as(hosts, partition, &boot)
        }
    };
    // What is known goes out even if KVM has failed.
    machine.observer().console.finish();
    machine.observer().settle(|| Place::at(0));
    let kind = kind(outcome);
    if let Ok(kind) = &kind {
        machine.observer().accounts.end(*kind, machine.vm().counter());
    }
    publish(true);
    kind.map(|_| Exit::Success)
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

/// Offers the disks, and starts the threads that serve them.
fn serve<H>(
    machine: &'static Machine<KvmVm, Hearer>,
    partition: &'static Partition<'static, RawMutex, devices::Bus>,
    host: &'static H,
    disks: &[BootDisk],
) -> anyhow::Result<()>
where
    H: Host + BusObserver + HostBackend<storage::Request> + Sync,
{
    if disks.is_empty() {
        return Ok(());
    }
    let hearer = machine.observer();
    devices::offer(partition, host, (disks, &hearer.accounts))?;
    for _ in 0..WORKERS {
        beside("disks", move || {
            let settled = || hearer.settle(|| Place::at(0));
            hearer.disks.work(partition, host, machine.vm().memory(), settled);
        })?;
    }
    Ok(())
}

/// Makes what hears of the guest.
fn hearer(
    info: &BootInfo,
    vm: &KvmVm,
    disks: Disks,
    map: impl Fn(u64, u64) -> anyhow::Result<GuestMemoryMmap>,
) -> anyhow::Result<Hearer> {
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
    Ok(Hearer { accounts, console: Console::default(), disks, rings, judge, injector })
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

/// Types what comes on standard input, as fast as the guest takes it. What it has not taken stays where the tool sees
/// it.
fn keyboard(machine: &Machine<KvmVm, Hearer>) {
    let mut buffer = [0; 256];
    loop {
        match rustix::io::read(std::io::stdin(), &mut buffer) {
            Ok(0) => return,
            // There is room for all of it.
            Ok(count) => machine.input(&buffer[..count]),
            Err(Errno::INTR) => continue,
            Err(_) => return,
        };
        let mut pause = TAKEN;
        while machine.unread() != 0 {
            thread::sleep(pause);
            pause = (pause * 2).min(TAKEN_AT_MOST);
        }
    }
}
