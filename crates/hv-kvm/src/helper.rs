//! A virtual CPU that no VP is: it makes interrupts pending, and flushes the guest's TLBs.
//!
//! It executes a few instructions with the MMU off and interrupts masked, from a page that the guest can read and not
//! write. A store to GICR_ISPENDR0 or GICD_ISPENDR is emulated by KVM, which latches the interrupt: an edge, once,
//! whether the target runs or not. A TLB invalidation for all of EL1 reaches every virtual CPU of the machine, since
//! they share a VMID.

use std::io;

use crate::kvm::{Exit, Vcpu};
use crate::register::Register;

/// PSTATE of EL1h with D, A, I and F masked.
pub(crate) const EL1H_MASKED: u64 = 0x3c5;

/// The program: with X1 zero a flush, else the store of W1 to the address in X2; then a call, with which the virtual
/// CPU exits, and back to the start.
pub(crate) const PROGRAM: [u32; 8] = [
    0x3400_0061, // cbz w1, 1f
    0xb900_0041, // str w1, [x2]
    0x1400_0004, // b 2f
    0xd503_3a9f, // 1: dsb ishst
    0xd508_831f, // tlbi vmalle1is
    0xd503_3b9f, // dsb ish
    0xd400_0002, // 2: hvc #0
    0x17ff_fff9, // b 0
];

/// A virtual CPU that runs this program.
#[derive(Debug)]
pub(crate) struct Helper<V> {
    vcpu: V,
    /// X1 and X2, which the program does not change.
    x: [u64; 2],
}

impl<V: Vcpu> Helper<V> {
    /// Sets up a virtual CPU that has been reset. `page` is the address of the program.
    pub(crate) fn new(vcpu: V, page: u64) -> io::Result<Self> {
        vcpu.set(Register::PC, page)?;
        vcpu.set(Register::PSTATE, EL1H_MASKED)?;
        // The id of its call: KVM forwards it.
        vcpu.set(Register::x(0), 0)?;
        vcpu.set(Register::x(1), 0)?;
        vcpu.set(Register::x(2), 0)?;
        Ok(Self { vcpu, x: [0; 2] })
    }

    /// Stores `bits`, which are not zero, to the register of the interrupt controller at `address`.
    pub(crate) fn store(&mut self, address: u64, bits: u32) -> io::Result<()> {
        debug_assert!(bits != 0, "a flush");
        self.run([u64::from(bits), address])
    }

    /// Flushes all TLBs of the guest.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let [_, address] = self.x;
        self.run([0, address])
    }

    fn run(&mut self, x: [u64; 2]) -> io::Result<()> {
        for (n, (new, old)) in x.into_iter().zip(&mut self.x).enumerate() {
            if new != *old {
                self.vcpu.set(Register::x(1 + n), new)?;
                *old = new;
            }
        }
        loop {
            match self.vcpu.run()? {
                Exit::Call { .. } => return Ok(()),
                // A signal for the VP of this thread: its own run will return at once.
                Exit::Interrupted => {}
                exit => {
                    return Err(io::Error::other(format!(
                        "the helper's virtual CPU stopped with {exit:x?}, expected a call"
                    )));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Helper;
    use crate::fake::{Access, FakeVm};
    use crate::kvm::Parts;
    use crate::layout::Layout;
    use crate::register::Register;

    #[test]
    fn a_store_pends_and_a_flush_flushes() {
        let Parts { vm, mut helpers, .. } = FakeVm::create(1);
        let mut helper = Helper::new(helpers.pop().unwrap(), Layout::VIRT.helper_page).unwrap();
        helper.store(0x080b_0200, 1 << 18).unwrap();
        helper.store(0x080b_0200, 1 << 18).unwrap();
        helper.flush().unwrap();
        helper.store(0x0800_0204, 2).unwrap();
        let store = Access::Store { address: 0x080b_0200, value: 1 << 18 };
        let other = Access::Store { address: 0x0800_0204, value: 2 };
        assert_eq!(vm.take_helper_accesses(), [store, store, Access::Flush, other]);
    }

    #[test]
    fn registers_that_have_their_value_are_not_set_again() {
        let Parts { mut helpers, .. } = FakeVm::create(1);
        let vcpu = helpers.pop().unwrap();
        let mut helper = Helper::new(vcpu, Layout::VIRT.helper_page).unwrap();
        helper.store(0x080b_0200, 1 << 18).unwrap();
        let _ = helper.vcpu.take_accesses();
        helper.store(0x080b_0200, 1 << 18).unwrap();
        assert_eq!(helper.vcpu.take_accesses(), []);
        helper.store(0x080b_0200, 1 << 17).unwrap();
        assert_eq!(helper.vcpu.take_accesses(), [(true, Register::x(1))]);
        helper.flush().unwrap();
        assert_eq!(helper.vcpu.take_accesses(), [(true, Register::x(1))]);
    }

    #[test]
    fn an_interruption_is_passed_over_and_another_exit_is_an_error() {
        let Parts { mut helpers, .. } = FakeVm::create(1);
        let vcpu = helpers.pop().unwrap();
        vcpu.interrupt_times(3);
        let mut helper = Helper::new(vcpu, Layout::VIRT.helper_page).unwrap();
        helper.store(0x080b_0200, 2).unwrap();
        // Not where an interrupt controller is.
        let error = helper.store(0x1000_0000, 2).unwrap_err();
        assert!(error.to_string().contains("10000000"), "{error}");
    }
}
