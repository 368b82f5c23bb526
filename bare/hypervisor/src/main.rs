//! The hypervisor: it boots at EL2, builds two maps, sets up the GIC, and runs one VP on each CPU.
//!
//! It is thin on purpose. What a hypercall, a PSCI call or a SynIC register means is hv-host's business; what the
//! distributor does is hv-vgic's; both are tested in process. What is here touches hardware: exits, list registers,
//! timers, page tables. ARCHITECTURE.md tells the way of a trap.
#![no_std]
#![no_main]

mod arch;
mod backtrace;
mod config;
mod el2;
mod faults;
mod gic;
mod host;
mod irq;
mod log;
mod loopback;
mod memory;
mod mmu;
mod power;
mod report;
mod reset;
mod trace;
mod trap;
mod vcpu;

use core::sync::atomic::{AtomicUsize, Ordering};

use hv_cpu::id::Values;
use hv_partition::Partition;
use hv_partition::faults::Injector;
use hv_partition::strict::Judge;
use hv_vgic::Gic;
use hv_wire::BootInfo;
use hv_wire::platform::MAX_VPS;
use spin::{Mutex, Once};

use crate::arch::mrs;
use crate::memory::GuestRam;
use crate::vcpu::Cpu;

/// What all CPUs share.
pub(crate) struct Hypervisor {
    /// The partition: everything that is Hyper-V.
    pub partition: Partition<'static, Lock>,
    /// The guest's interrupt controller.
    pub gic: Gic<'static>,
    /// What the guest sees of the CPU.
    pub features: Values,
    /// The guest's memory.
    pub ram: GuestRam,
    /// What the tool asked for.
    pub info: BootInfo,
    /// CNTVOFF_EL2: the guest's counter starts at 0 when the partition is created.
    pub counter_offset: u64,
    /// The strict mode's judge, if this run has one.
    pub judge: Option<Mutex<Judge<MAX_VPS>>>,
    /// The faults that this run is to see, if any.
    pub injector: Option<Injector>,
    /// VPs that are on, or were asked to start.
    online: AtomicUsize,
}

/// The partition's lock: a CPU at EL2 has nothing else to do while it waits.
type Lock = spin::Mutex<()>;

static BUS: hv_partition::Bus<Lock> = hv_partition::Bus::new(Some(hv_vmbus::Config::DEFAULT));
static VPS: [hv_partition::Vp<Lock>; MAX_VPS] = [const { hv_partition::Vp::new() }; MAX_VPS];
static GIC_VPS: [hv_vgic::VpGic; MAX_VPS] = [const { hv_vgic::VpGic::new() }; MAX_VPS];
static HYPERVISOR: Once<Hypervisor> = Once::new();
static CPUS: Once<[Cpu; MAX_VPS]> = Once::new();

/// The CPU of this number, once they are created.
pub(crate) fn cpu_by_index(index: usize) -> Option<&'static Cpu> {
    CPUS.get()?.get(index)
}

/// First Rust code, on CPU 0 with the MMU off: builds the maps and returns the root of EL2's.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "start.s calls it by name")]
extern "C" fn primary_main() -> u64 {
    let info = memory::boot_info();
    if let Err(refusal) = config::check(&info) {
        config::refuse(refusal);
    }
    mmu::build(&info)
}

/// Every CPU, MMU on.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "start.s calls it by name")]
extern "C" fn cpu_main(cpu: usize) -> ! {
    if cpu == 0 {
        create();
    }
    let cpu = &CPUS.get().expect("CPU 0 created them before it started others")[cpu];
    el2::init(&cpu.hypervisor.features, cpu.hypervisor.counter_offset);
    gic::init_cpu(cpu.index);
    if cpu.index == 0 {
        cpu.hypervisor.partition.reset(&<host::Embedder>::new(cpu));
        (1..cpu.hypervisor.vps()).for_each(power::start_cpu);
        let info = &cpu.hypervisor.info;
        cpu.request_start(&hv_partition::VpContext::at(info.entry, info.entry_x0));
        report::begin();
    }
    cpu.run()
}

/// CPU 0 creates the partition.
fn create() {
    let info = memory::boot_info();
    let vps = info.vps as usize;
    gic::init(vps);
    let hypervisor = HYPERVISOR.call_once(|| Hypervisor {
        partition: Partition::new(config::partition(&info), &VPS[..vps], loopback::ports(&info), &BUS),
        gic: Gic::new(&GIC_VPS[..vps], &gic::FORWARDED),
        features: el2::visible_features(),
        ram: config::guest_ram(&info),
        info,
        counter_offset: mrs!("cntpct_el0"),
        judge: config::judge(&info),
        // `config::check` has judged it.
        injector: faults::plan(&info).ok().flatten().map(Injector::new),
        online: AtomicUsize::new(0),
    });
    CPUS.call_once(|| core::array::from_fn(|index| Cpu::new(index, hypervisor)));
}

impl Hypervisor {
    /// Number of VPs.
    pub(crate) fn vps(&self) -> usize {
        self.info.vps as usize
    }

    /// The CPU that runs a VP.
    pub(crate) fn cpu(&self, vp: usize) -> Option<&'static Cpu> {
        cpu_by_index(vp)
    }

    /// A VP is about to run its first instruction.
    pub(crate) fn vp_started(&self, cpu: &'static Cpu) {
        self.partition.vp_online(&<host::Embedder>::new(cpu), cpu.index);
        report::vp_started(cpu);
    }

    /// A VP ran its last one.
    pub(crate) fn vp_stopped(&self, cpu: &'static Cpu) {
        report::vp_stopped(cpu);
        self.partition.vp_offline(&<host::Embedder>::new(cpu), cpu.index);
        if self.online.fetch_sub(1, Ordering::Relaxed) == 1 {
            trap::all_vps_off();
        }
    }
}
