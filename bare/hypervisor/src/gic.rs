//! The machine's GICv3: set-up, acknowledgement, and the virtual GIC's accesses to it.
//!
//! The guest never reaches it. Accesses to the distributor and the redistributors trap and are emulated by hv-vgic,
//! which reaches the hardware through [`MachineGic`].
#![expect(unsafe_code, reason = "the distributor and the redistributors are fixed addresses")]

use core::ptr::NonNull;

use arm_gic::IntId;
use arm_gic::gicv3::GicV3;
use arm_gic::gicv3::registers::{Gicd, GicrSgi, Sgi};
use arm_sysregs::el1::registers::IccCtlrEl1;
use arm_sysregs::el2::registers::IccSreEl2;
use hv_vgic::Physical;
use hv_wire::platform::{
    GICD_BASE, GICR_BASE, GICR_STRIDE, HYPERVISOR_TIMER_INTID, MAINTENANCE_INTID, MAX_VPS,
    PHYSICAL_TIMER_INTID, PMU_INTID, UART_INTID, VIRTUAL_TIMER_INTID,
};
use safe_mmio::UniqueMmioPointer;
use spin::Once;

use crate::arch::{dsb_sy, isb, mrs, msr};
use crate::lock::Mutex;

/// The interrupts that the machine raises and the guest handles.
pub(crate) const FORWARDED: [u32; 4] = [PMU_INTID, VIRTUAL_TIMER_INTID, PHYSICAL_TIMER_INTID, UART_INTID];

/// The physical SGI with which one CPU makes another come to EL2.
const KICK: u32 = 0;

/// Interrupt IDs from here on are special (1020 to 1023): no interrupt.
pub(crate) const SPECIAL: u32 = 1020;

static GIC: Once<Mutex<GicV3<'static>>> = Once::new();

fn private(number: u32) -> IntId {
    if number < 16 { IntId::sgi(number) } else { IntId::ppi(number - 16) }
}

/// Sets up the distributor. CPU 0 calls it once, before the other CPUs start.
pub(crate) fn init(cpus: usize) {
    let gicd = NonNull::new(GICD_BASE as *mut Gicd).expect("not zero");
    let gicr = NonNull::new(GICR_BASE as *mut GicrSgi).expect("not zero");
    // SAFETY: the distributor is at this address (hv_wire::platform), mapped as device memory, and this is its only
    // driver.
    let gicd = unsafe { UniqueMmioPointer::new(gicd) };
    // SAFETY: the redistributors are at this address (hv_wire::platform), one for each CPU, mapped as device memory,
    // and this is their only driver.
    let gic = unsafe { GicV3::new(gicd, gicr, cpus) };
    // No `expect`, here and below: its texts of every error would be a kilobyte of code.
    let Ok(mut gic) = gic else { panic!("QEMU's virt machine has a GICv3") };
    gic.distributor().configure_default_settings();
    gic.distributor().enable_all_interrupts(false);
    GIC.call_once(|| Mutex::new(gic));
}

/// Sets up this CPU's redistributor, physical CPU interface and virtual CPU interface.
pub(crate) fn init_cpu(cpu: usize) {
    /// ICC_SRE_EL2: system registers, bypass off, EL1 may use its own, too.
    const SRE: u64 =
        IccSreEl2::SRE.union(IccSreEl2::DFB).union(IccSreEl2::DIB).union(IccSreEl2::ENABLE).bits();
    msr!("icc_sre_el2", SRE);
    isb();
    {
        let mut gic = machine().lock();
        // An error would mean that the redistributor is awake already.
        let _ = gic.redistributor_mark_core_awake(cpu);
        let Ok(mut own) = gic.redistributor(cpu) else { panic!("one redistributor per CPU") };
        own.configure_default_settings();
        for (number, priority) in [(KICK, 0x80), (HYPERVISOR_TIMER_INTID, 0x80), (MAINTENANCE_INTID, 0x80)] {
            let set = own.set_interrupt_priority(private(number), priority);
            let set = set.and_then(|()| own.enable_interrupt(private(number), true));
            assert!(set.is_ok(), "a private interrupt");
        }
    }
    /// ICC_CTLR_EL1.EOImode: EOIR drops the priority, DIR (or the guest's EOI, through a list register) deactivates.
    const EOI_MODE: u64 = IccCtlrEl1::EOIMODE.bits();
    msr!("icc_ctlr_el1", EOI_MODE);
    msr!("icc_pmr_el1", 0xff);
    msr!("icc_bpr1_el1", 0);
    msr!("icc_igrpen1_el1", 1);
    isb();
}

/// Routes an edge-triggered SPI to this CPU, and makes it pending once: a device that had something before has raised
/// its line already, and that edge is lost (IHI 0069, GICD_ICFGR: such a line is not pending by its level). The device
/// raises no other until this one is acknowledged.
pub(crate) fn take(intid: u32, cpu: usize) {
    MachineGic.set_edge(cpu, intid, true);
    MachineGic.route(intid, cpu);
    MachineGic.set_enabled(cpu, intid, true);
    MachineGic.set_pending(cpu, intid, true);
}

fn machine() -> &'static Mutex<GicV3<'static>> {
    GIC.get().expect("init ran before")
}

/// Acknowledges the highest-priority pending interrupt and drops the running priority; [`SPECIAL`] and above mean that
/// none is pending.
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

/// The machine's GIC, as far as the virtual GIC may reach it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MachineGic;

/// Registers with one or two bits for each interrupt; the distributor has them for SPIs, and a redistributor's SGI
/// frame, at the same offsets, for SGIs and PPIs (IHI 0069, "The GIC Distributor register map").
mod register {
    use core::mem::offset_of;

    use super::{Gicd, GicrSgi, Sgi};

    macro_rules! of_both {
        ($($name:ident $field:ident),*) => {
            $(pub(super) const $name: u64 = {
                assert!(offset_of!(Gicd, $field) == offset_of!(Sgi, $field));
                offset_of!(Gicd, $field) as u64
            };)*
        };
    }
    of_both!(
        ISENABLER isenabler, ICENABLER icenabler, ISPENDR ispendr, ICPENDR icpendr, ISACTIVER isactiver, ICFGR icfgr
    );
    /// That of SPI n is n * 8 bytes after it.
    pub(super) const GICD_IROUTER: u64 = offset_of!(Gicd, irouter) as u64 - 32 * 8;
    pub(super) const GICR_SGI: u64 = offset_of!(GicrSgi, sgi) as u64;
}

/// Returns the word of a register with `bits` bits for each interrupt, and the shift of `number` in it. It is a
/// register of the machine's GIC.
fn word(vp: usize, number: u32, offset: u64, bits: u32) -> (*mut u32, u32) {
    assert!(vp < MAX_VPS && number < SPECIAL, "no interrupt of the machine");
    let base = if number < 32 { GICR_BASE + vp as u64 * GICR_STRIDE + register::GICR_SGI } else { GICD_BASE };
    let place = number * bits;
    ((base + offset + u64::from(place / 32) * 4) as *mut u32, place % 32)
}

impl MachineGic {
    /// Writes a one to the interrupt's bit of a set or clear register.
    fn poke(self, vp: usize, number: u32, offset: u64) {
        let (word, bit) = word(vp, number, offset, 1);
        // SAFETY: `word` is a register of the GIC, mapped as device memory. Zeros written to a set or clear register
        // have no effect, so no lock is needed.
        unsafe { word.write_volatile(1 << bit) };
    }
}

impl Physical for MachineGic {
    fn set_enabled(&self, vp: usize, intid: u32, on: bool) {
        self.poke(vp, intid, if on { register::ISENABLER } else { register::ICENABLER });
    }

    fn set_edge(&self, vp: usize, intid: u32, edge: bool) {
        let (word, low) = word(vp, intid, register::ICFGR, 2);
        let _lock = machine().lock();
        // SAFETY: `word` is a register of the GIC, mapped as device memory.
        let old = unsafe { word.read_volatile() };
        let bit = 0b10 << low;
        // SAFETY: `word` is a register of the GIC, mapped as device memory; the lock excludes other writers of the
        // word.
        unsafe { word.write_volatile(if edge { old | bit } else { old & !bit }) };
    }

    fn set_pending(&self, vp: usize, intid: u32, on: bool) {
        self.poke(vp, intid, if on { register::ISPENDR } else { register::ICPENDR });
    }

    fn is_pending(&self, vp: usize, intid: u32) -> bool {
        let (word, bit) = word(vp, intid, register::ISPENDR, 1);
        // SAFETY: `word` is a register of the GIC, mapped as device memory.
        let bits = unsafe { word.read_volatile() };
        bits >> bit & 1 != 0
    }

    fn set_active(&self, vp: usize, intid: u32) {
        self.poke(vp, intid, register::ISACTIVER);
    }

    fn route(&self, intid: u32, vp: usize) {
        assert!((32..SPECIAL).contains(&intid), "no SPI");
        let router = (GICD_BASE + register::GICD_IROUTER + u64::from(intid) * 8) as *mut u64;
        // SAFETY: every SPI has a router, a register of the GIC, mapped as device memory.
        unsafe { router.write_volatile(((vp as u64 / 16) << 8) | (vp as u64 % 16)) };
    }

    fn deactivate(&self, intid: u32) {
        deactivate(intid);
    }

    fn relax(&self) {
        crate::arch::yield_cpu();
    }

    fn kick(&self, vp: usize) {
        // What the other CPU must see has to be visible before the interrupt is.
        dsb_sy();
        let affinity = (vp as u64 / 16) << 16;
        msr!("icc_sgi1r_el1", affinity | u64::from(KICK) << 24 | 1 << (vp % 16));
        isb();
    }
}
