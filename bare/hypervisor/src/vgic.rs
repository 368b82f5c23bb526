//! The virtual GIC's hardware on this CPU: list registers, and the rest of the virtual CPU interface.

use hv_vgic::{Cpu, ListRegisters, hcr, lr};

use crate::arch::{isb, mrs, msr};
use crate::cpu::ThisCpu;
use crate::gic::MachineGic;

impl Cpu for ThisCpu {
    type Lists = Self;
    type Physical = MachineGic;

    #[inline(always)]
    fn vp(&self) -> usize {
        self.index()
    }

    #[inline(always)]
    fn lists(&self) -> &Self {
        self
    }

    #[inline(always)]
    fn physical(&self) -> &MachineGic {
        &MachineGic
    }
}

/// Resets the guest's CPU interface on this CPU.
pub(crate) fn reset(cpu: &ThisCpu) {
    /// ICH_VTR_EL2.TDS: a guest's writes to ICC_DIR_EL1 can be trapped on their own.
    const TDS: u64 = 1 << 19;
    let vtr = mrs!("ich_vtr_el2");
    for index in 0..cpu.count() {
        cpu.write(index, 0);
    }
    msr!("ich_vmcr_el2", 0);
    // Active priorities: one word for each 32 preemption levels, of which there are 2 to the power of PREbits.
    let words = 1 << ((vtr >> 26 & 0b111) + 1).saturating_sub(5).min(2);
    msr!("ich_ap0r0_el2", 0);
    msr!("ich_ap1r0_el2", 0);
    if words > 1 {
        msr!("ich_ap0r1_el2", 0);
        msr!("ich_ap1r1_el2", 0);
    }
    if words > 2 {
        msr!("ich_ap0r2_el2", 0);
        msr!("ich_ap1r2_el2", 0);
        msr!("ich_ap0r3_el2", 0);
        msr!("ich_ap1r3_el2", 0);
    }
    msr!("ich_hcr_el2", hcr::EN | if vtr & TDS != 0 { hcr::TDIR } else { 0 });
    isb();
}

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

impl ListRegisters for ThisCpu {
    #[inline]
    fn count(&self) -> usize {
        self.lists.count_ones() as usize
    }

    #[inline]
    fn read(&self, index: usize) -> u64 {
        with_list_register!(index, mrs)
    }

    #[inline]
    fn write(&self, index: usize, value: u64) {
        with_list_register!(index, msr, value);
        if let Some(ring) = self.ring()
            && value & lr::PENDING != 0
        {
            ring.injected(value);
        }
    }

    #[inline]
    fn empty(&self) -> u32 {
        // ICH_ELRSR_EL2 reflects what this exit wrote to the list registers only after a barrier.
        isb();
        mrs!("ich_elrsr_el2") as u32 & self.lists
    }

    #[inline]
    fn control(&self) -> u64 {
        mrs!("ich_hcr_el2")
    }

    #[inline]
    fn set_control(&self, value: u64) {
        msr!("ich_hcr_el2", value);
    }
}
