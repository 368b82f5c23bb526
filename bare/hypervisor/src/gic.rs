//! The machine's GICv3: set-up, acknowledgement, and the list registers of this CPU.
//!
//! The guest never reaches it. Distributor and redistributors are trapped and emulated by hv-vgic; what that asks of the
//! hardware goes through [`Machine`], and the list registers through [`Lists`].
#![expect(unsafe_code, reason = "the distributor and the redistributors are fixed addresses")]

use core::ptr::NonNull;

use arm_gic::gicv3::GicV3;
use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::{IntId, Trigger};
use hv_vgic::{ListRegisters, Physical};
use hv_wire::platform::{
    GICD_BASE, GICR_BASE, HYPERVISOR_TIMER_INTID, MAINTENANCE_INTID, PHYSICAL_TIMER_INTID, UART_INTID,
    VIRTUAL_TIMER_INTID,
};
use safe_mmio::UniqueMmioPointer;
use spin::{Mutex, Once};

use crate::arch::{dsb_sy, isb, mrs, msr};

/// The interrupts that the machine raises and the guest handles.
pub(crate) const FORWARDED: [u32; 3] = [VIRTUAL_TIMER_INTID, PHYSICAL_TIMER_INTID, UART_INTID];

/// The physical SGI with which one CPU makes another come to EL2.
const KICK: u32 = 0;

/// Interrupt ids from here on are not interrupts (1020 to 1023).
pub(crate) const SPECIAL: u32 = 1020;

static GIC: Once<Mutex<GicV3<'static>>> = Once::new();

fn intid(number: u32) -> IntId {
    match number {
        0..16 => IntId::sgi(number),
        16..32 => IntId::ppi(number - 16),
        _ => IntId::spi(number - 32),
    }
}

/// Sets up the distributor. CPU 0 calls it once, before the other CPUs start.
pub(crate) fn init(cpus: usize) {
    let gicd = NonNull::new(GICD_BASE as *mut Gicd).expect("not zero");
    let gicr = NonNull::new(GICR_BASE as *mut GicrSgi).expect("not zero");
    // SAFETY: the distributor is there (hv_wire::platform), mapped as device memory, and this is the only driver.
    let gicd = unsafe { UniqueMmioPointer::new(gicd) };
    // SAFETY: as above, for the redistributors.
    let mut gic = unsafe { GicV3::new(gicd, gicr, cpus) }.expect("QEMU's virt machine has a GICv3");
    gic.distributor().configure_default_settings();
    gic.distributor().enable_all_interrupts(false);
    GIC.call_once(|| Mutex::new(gic));
}

/// Sets up this CPU's redistributor, physical CPU interface and virtual CPU interface.
pub(crate) fn init_cpu(cpu: usize) {
    /// ICC_SRE_EL2: system registers, bypass off, EL1 may use its own too.
    const SRE: u64 = 0b1111;
    msr!("icc_sre_el2", SRE);
    isb();
    {
        let mut gic = machine().lock();
        // An error would mean that the core is awake already.
        let _ = gic.redistributor_mark_core_awake(cpu);
        let mut own = gic.redistributor(cpu).expect("one redistributor per CPU");
        own.configure_default_settings();
        for (number, priority) in [(KICK, 0x80), (HYPERVISOR_TIMER_INTID, 0x80), (MAINTENANCE_INTID, 0x80)] {
            own.set_interrupt_priority(intid(number), priority).expect("a private interrupt");
            own.enable_interrupt(intid(number), true).expect("a private interrupt");
        }
    }
    /// ICC_CTLR_EL1.EOImode: EOIR drops the priority, DIR (or the guest's EOI, through a list register) deactivates.
    const EOI_MODE: u64 = 1 << 1;
    msr!("icc_ctlr_el1", EOI_MODE);
    msr!("icc_pmr_el1", 0xff);
    msr!("icc_bpr1_el1", 0);
    msr!("icc_igrpen1_el1", 1);
    for index in 0..Lists.count() {
        Lists.write(index, 0);
    }
    /// ICH_VMCR_EL2 at reset: nothing enabled, mask at its lowest; the guest's CPU interface sets the rest.
    const VMCR: u64 = 0;
    msr!("ich_vmcr_el2", VMCR);
    msr!("ich_hcr_el2", ICH_HCR_EN);
    isb();
}

fn machine() -> &'static Mutex<GicV3<'static>> {
    GIC.get().expect("init ran before")
}

/// ICH_HCR_EL2.En: the virtual CPU interface is on.
const ICH_HCR_EN: u64 = 1 << 0;
/// ICH_HCR_EL2.UIE: maintenance interrupt when no more than one list register holds an interrupt.
const ICH_HCR_UIE: u64 = 1 << 1;

/// Acknowledges the highest pending interrupt and drops its priority; [`SPECIAL`] and above mean that there is none.
#[inline]
pub(crate) fn acknowledge() -> u32 {
    let number = mrs!("icc_iar1_el1") as u32 & 0xff_ffff;
    if number < SPECIAL {
        msr!("icc_eoir1_el1", u64::from(number));
    }
    number
}

/// Deactivates an interrupt that the hypervisor handled itself.
#[inline]
pub(crate) fn deactivate(number: u32) {
    msr!("icc_dir_el1", u64::from(number));
}

/// The list registers of the CPU that this runs on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lists;

macro_rules! with_list_register {
    ($index:expr, $access:ident $(, $value:expr)?) => {
        match $index {
            0 => $access!("ich_lr0_el2" $(, $value)?),
            1 => $access!("ich_lr1_el2" $(, $value)?),
            2 => $access!("ich_lr2_el2" $(, $value)?),
            3 => $access!("ich_lr3_el2" $(, $value)?),
            4 => $access!("ich_lr4_el2" $(, $value)?),
            5 => $access!("ich_lr5_el2" $(, $value)?),
            6 => $access!("ich_lr6_el2" $(, $value)?),
            7 => $access!("ich_lr7_el2" $(, $value)?),
            8 => $access!("ich_lr8_el2" $(, $value)?),
            9 => $access!("ich_lr9_el2" $(, $value)?),
            10 => $access!("ich_lr10_el2" $(, $value)?),
            11 => $access!("ich_lr11_el2" $(, $value)?),
            12 => $access!("ich_lr12_el2" $(, $value)?),
            13 => $access!("ich_lr13_el2" $(, $value)?),
            14 => $access!("ich_lr14_el2" $(, $value)?),
            _ => $access!("ich_lr15_el2" $(, $value)?),
        }
    };
}

impl ListRegisters for Lists {
    #[inline]
    fn count(&self) -> usize {
        (mrs!("ich_vtr_el2") & 0x1f) as usize + 1
    }

    #[inline]
    fn read(&self, index: usize) -> u64 {
        with_list_register!(index, mrs)
    }

    #[inline]
    fn write(&self, index: usize, value: u64) {
        with_list_register!(index, msr, value);
    }

    #[inline]
    fn empty(&self) -> u32 {
        mrs!("ich_elrsr_el2") as u32
    }

    #[inline]
    fn set_underflow(&self, on: bool) {
        msr!("ich_hcr_el2", if on { ICH_HCR_EN | ICH_HCR_UIE } else { ICH_HCR_EN });
    }
}

/// What the virtual GIC may ask of the machine's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine;

impl Physical for Machine {
    fn set_enabled(&self, vp: usize, number: u32, on: bool) {
        let done = machine().lock().enable_interrupt(intid(number), Some(vp), on);
        debug_assert!(done.is_ok());
    }

    fn set_edge(&self, vp: usize, number: u32, edge: bool) {
        let trigger = if edge { Trigger::Edge } else { Trigger::Level };
        let done = machine().lock().set_trigger(intid(number), Some(vp), trigger);
        debug_assert!(done.is_ok());
    }

    fn deactivate(&self, number: u32) {
        deactivate(number);
    }

    fn kick(&self, vp: usize) {
        // What the other CPU shall see must be visible before the interrupt is.
        dsb_sy();
        let affinity = (vp as u64 / 16) << 16;
        msr!("icc_sgi1r_el1", affinity | u64::from(KICK) << 24 | 1 << (vp % 16));
        isb();
    }
}
