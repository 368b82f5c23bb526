//! The interrupt controller: a GICv3 with one handler per INTID.
//!
//! Handlers run on the CPU that takes the interrupt, with interrupts masked, and must not print or wait for long.
#![expect(unsafe_code, reason = "the GIC is a raw address, and handlers are kept as pointers")]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicV3, SgiTarget, SgiTargetGroup};
use arm_gic::{IntId, InterruptGroup, Trigger};
use safe_mmio::UniqueMmioPointer;
use spin::{Mutex, Once};

pub use crate::arch::{mask, unmask};
use crate::hardware::{self, Hardware};
use crate::{arch, cpu};

/// INTIDs that can have a handler: SGIs, PPIs and the first 32 SPIs.
pub const INTIDS: usize = 64;
/// The priority that every interrupt gets.
const PRIORITY: u8 = 0x80;

static GIC: Once<Mutex<GicV3<'static>>> = Once::new();
static HANDLERS: [AtomicPtr<()>; INTIDS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; INTIDS];
static UNEXPECTED: AtomicU64 = AtomicU64::new(0);

fn gic<T>(f: impl FnOnce(&mut GicV3<'static>) -> T) -> T {
    arch::without_interrupts(|| f(&mut GIC.get().expect("the runtime set it up").lock()))
}

fn id(intid: u32) -> IntId {
    IntId::try_from(intid).unwrap_or_else(|_| panic!("there is no INTID {intid}"))
}

/// Sets up the distributor. CPU 0 calls it once.
pub(crate) fn init(hardware: &Hardware) {
    let gicd = NonNull::new(hardware.gicd as *mut Gicd).expect("not at 0");
    let gicr = NonNull::new(hardware.gicr as *mut GicrSgi).expect("not at 0");
    // SAFETY: the device tree says that the distributor is at this address; it is mapped as a device, and this is its
    // only driver (probes that a program makes beside it are raw accesses).
    let gicd = unsafe { UniqueMmioPointer::new(gicd) };
    // SAFETY: the device tree says that the redistributors are at this address, one for each CPU; they are mapped as
    // devices, and this is their only driver (probes that a program makes beside it are raw accesses).
    let mut gic = unsafe { GicV3::new(gicd, gicr, hardware.vps()) }.expect("a GICv3");
    gic.distributor().configure_default_settings();
    GIC.call_once(|| Mutex::new(gic));
}

/// Sets up this CPU's redistributor and CPU interface, with every interrupt disabled.
pub fn init_cpu() {
    let cpu = cpu::index();
    gic(|gic| {
        gic.init_cpu(cpu);
        gic.redistributor(cpu).expect("one per CPU").configure_default_settings();
    });
    GicCpuInterface::set_priority_mask(0xff);
    GicCpuInterface::enable_group1(true);
    arch::isb();
}

/// Installs `handler` for the interrupt, on every CPU. Does not enable the interrupt.
///
/// # Panics
///
/// If `intid` is not below [`INTIDS`].
pub fn on(intid: u32, handler: fn(u32)) {
    HANDLERS[intid as usize].store(handler as *mut (), Ordering::Release);
}

/// Installs `handler` for the interrupt, and enables it: a private one on this CPU. The handler is passed the INTID.
///
/// # Panics
///
/// If `intid` is not below [`INTIDS`].
pub fn enable(intid: u32, handler: fn(u32)) {
    on(intid, handler);
    gic(|gic| {
        let cpu = Some(cpu::index());
        gic.set_interrupt_priority(id(intid), cpu, PRIORITY).expect("a known INTID");
        gic.enable_interrupt(id(intid), cpu, true).expect("a known INTID");
    });
}

/// Disables an interrupt: a private one on this CPU.
///
/// # Panics
///
/// If there is no such INTID.
pub fn disable(intid: u32) {
    gic(|gic| gic.enable_interrupt(id(intid), Some(cpu::index()), false)).expect("a known INTID");
}

/// Makes an interrupt edge-triggered: a private one on this CPU. It must be disabled.
///
/// # Panics
///
/// If there is no such INTID, or it is an SGI.
pub fn set_edge(intid: u32) {
    gic(|gic| gic.set_trigger(id(intid), Some(cpu::index()), Trigger::Edge)).expect("not an SGI");
}

/// Sends a software-generated interrupt, 0 to 15, to one CPU.
///
/// # Panics
///
/// If there is no such SGI or CPU.
pub fn send_sgi(cpu: usize, sgi: u32) {
    let mpidr = hardware::get().mpidr(cpu);
    let target = SgiTarget::List {
        affinity3: (mpidr >> 32) as u8,
        affinity2: (mpidr >> 16) as u8,
        affinity1: (mpidr >> 8) as u8,
        target_list: 1 << (mpidr & 0xf),
    };
    // The target must see earlier writes first.
    arch::dsb();
    GicCpuInterface::send_sgi(IntId::sgi(sgi), target, SgiTargetGroup::CurrentGroup1).expect("an SGI");
    arch::isb();
}

/// Returns the number of interrupts, on all CPUs, that had no handler.
pub fn unexpected() -> u64 {
    UNEXPECTED.load(Ordering::Relaxed)
}

/// Handles one interrupt, if it has not gone away.
pub(crate) fn handle() {
    GicCpuInterface::handle_interrupt(InterruptGroup::Group1, |intid| {
        let number = u32::from(intid);
        let handler =
            HANDLERS.get(number as usize).map_or(core::ptr::null_mut(), |h| h.load(Ordering::Acquire));
        if handler.is_null() {
            UNEXPECTED.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // SAFETY: every pointer that is not null was stored by `on`, which takes a function of this
        // type.
        let handler: fn(u32) = unsafe { core::mem::transmute(handler) };
        handler(number);
    });
}
