//! The start of the machine: CPU 0 builds the maps and creates the partition, then each CPU sets itself up and waits
//! for its VP.
#![expect(unsafe_code, reason = "start.s enters here")]

use core::sync::atomic::AtomicUsize;

use hv_partition::faults::Injector;
use hv_partition::strict::Judge;
use hv_partition::{Partition, VpContext};
use hv_vgic::{Gic, VpGic};
use hv_wire::platform::{MAX_VPS, SHARED_STATE, VP_STACK_STRIDE, VP_STATE};
use spin::Once;

use crate::arch::mrs;
use crate::cpu::{ThisCpu, TrapFrame};
use crate::devices::BUS;
use crate::host::on;
use crate::hypervisor::{Hypervisor, Requests};
use crate::lock::{Lock, Mutex};
use crate::memory::Room;
use crate::{
    config, control, el2, gic, loopback, machine, memory, mmu, network, power, report, stacks, vcpu,
};

core::arch::global_asm!(
    include_str!("start.s"),
    frame = const size_of::<TrapFrame>(),
    stacks = sym stacks::STACKS,
    stack_stride = const VP_STACK_STRIDE,
    primary_main = sym primary_main,
    cpu_main = sym cpu_main,
    stage1_root = sym mmu::STAGE1_ROOT,
    mair = const mmu::MAIR,
    tcr = const mmu::TCR,
    sctlr = const mmu::SCTLR,
);

type Vp = hv_partition::Vp<Lock>;

const _: () = {
    // Each array may begin with a gap.
    assert!(size_of::<Vp>() + size_of::<VpGic>() + size_of::<Requests>() <= VP_STATE as usize);
    let gaps = align_of::<Vp>() + align_of::<VpGic>() + align_of::<Requests>();
    assert!(
        size_of::<Mutex<Judge<MAX_VPS>>>() + align_of::<Mutex<Judge<MAX_VPS>>>() + gaps
            <= SHARED_STATE as usize
    );
};

static HYPERVISOR: Once<Hypervisor> = Once::new();

/// Runs on CPU 0 with the MMU off, the first Rust code: builds the maps and returns the root of EL2's.
extern "C" fn primary_main() -> u64 {
    let info = memory::boot_info();
    if let Err(refusal) = config::check(&info) {
        config::refuse(refusal);
    }
    stacks::place(&info);
    mmu::build(&info)
}

/// Runs on every CPU, with the MMU on.
///
/// # Safety
///
/// start.s enters it, once on each CPU, with the CPU's number.
unsafe extern "C" fn cpu_main(cpu: usize) -> ! {
    if cpu == 0 {
        create();
    }
    let hypervisor = HYPERVISOR.get().expect("CPU 0 created it before it started other CPUs");
    // SAFETY: start.s enters this function once on each CPU, with its number, and no other code makes a `ThisCpu`.
    let cpu = unsafe { ThisCpu::new(cpu, hypervisor) };
    el2::init(&hypervisor.features, hypervisor.counter_offset);
    gic::init_cpu(cpu.index());
    if cpu.index() == 0 {
        hypervisor.partition.reset(&on::<true>(&cpu));
        (1..hypervisor.vps()).for_each(power::start_cpu);
        machine::of(&on::<true>(&cpu)).offer(hypervisor.record);
        control::begin(&on::<true>(&cpu), hypervisor.info.flags);
        network::begin(hypervisor.info.flags);
        let info = &hypervisor.info;
        hypervisor.request_start(0, &VpContext::at(info.entry, info.entry_x0));
        report::begin(mmu::memory_used(info) + hypervisor.vp_memory);
    }
    vcpu::run(TrapFrame::of(cpu))
}

/// Creates, on CPU 0, what all CPUs share.
fn create() {
    let info = memory::boot_info();
    let vps = info.vps as usize;
    gic::init(vps);
    // SAFETY: `primary_main` has checked the same boot information, which nothing writes, and has mapped what it
    // describes; this function runs once, and nothing else uses the region.
    let mut room = unsafe { Room::new(config::vp_state(&info)) };
    let vp_states: &[Vp] = room.make(vps, || const { Vp::new() });
    let gic_vps: &[VpGic] = room.make(vps, || const { VpGic::new() });
    let requests: &[Requests] = room.make(vps, || const { Requests::new() });
    let judge = config::judge(&info, &mut room);
    let vp_memory = room.used() + vps as u64 * VP_STACK_STRIDE;
    HYPERVISOR.call_once(|| {
        // SAFETY: `primary_main` has checked the same boot information, which nothing writes, and has mapped what it
        // describes.
        let ram = unsafe { config::guest_ram(&info) };
        // SAFETY: `primary_main` has checked the same boot information, which nothing writes, and has mapped what it
        // describes; `HYPERVISOR` lets this happen once.
        let disks = unsafe { config::disk_ram(&info) };
        // SAFETY: `primary_main` has checked the same boot information, which nothing writes, and has mapped what it
        // describes; `HYPERVISOR` lets this happen once.
        let record = unsafe { config::record(&info) };
        Hypervisor {
            partition: Partition::new(config::partition(&info), vp_states, loopback::ports(&info), &BUS),
            gic: Gic::new(gic_vps, &gic::FORWARDED),
            features: el2::visible_features(),
            ram,
            disks,
            info,
            counter_offset: mrs!("cntpct_el0"),
            judge,
            record,
            // `config::check` has validated it.
            injector: config::plan(&info).ok().flatten().map(Injector::new),
            online: AtomicUsize::new(0),
            requests,
            vp_memory,
        }
    });
}
