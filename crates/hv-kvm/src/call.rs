//! The registers of a call, which are read and written one by one, and its calling convention.

use std::cell::{Cell, RefCell};
use std::io;

use hv_partition::Registers;

use crate::kvm::Vcpu;
use crate::register::Register;

/// Number of general registers.
const COUNT: usize = 31;
/// Bit of function ids that makes a call fast, in SMCCC's sense: no control word has it (there is no nested
/// hypervisor).
const FAST_CALL: u32 = 1 << 31;
/// Owner field of a function id, and the owner of hypercalls: vendor-specific hypervisor service.
const OWNER_SHIFT: u32 = 24;
const OWNER_MASK: u32 = 0x3f;
const HYPERVISOR_OWNER: u32 = 6;

/// Returns the immediate of the `hvc` that has this low half of X0: KVM does not tell it.
///
/// Yielding functions of other owners by `hvc #0` count as `hvc #1`, and so do other immediates; a control word whose
/// variable header has 768 to 895 words, which no hypercall takes, counts as a function id.
#[must_use]
pub const fn immediate(function: u32) -> u16 {
    if function & FAST_CALL != 0 || function >> OWNER_SHIFT & OWNER_MASK == HYPERVISOR_OWNER { 0 } else { 1 }
}

/// The general registers of a VP during a call: each is read when the call asks for it, and written at the end if it
/// changed. One that cannot be read is zero for the call, whose VP does not run again.
pub(crate) struct LazyRegisters<'v, V> {
    vcpu: &'v V,
    values: RefCell<[u64; COUNT]>,
    /// Registers whose value is known.
    known: Cell<u32>,
    /// Registers whose value is known to be the VP's.
    held: Cell<u32>,
    written: u32,
    failed: Cell<Option<io::Error>>,
}

impl<'v, V: Vcpu> LazyRegisters<'v, V> {
    /// Creates the registers of a call; nothing is known.
    #[inline(always)]
    pub(crate) fn new(vcpu: &'v V) -> Self {
        Self {
            vcpu,
            values: RefCell::new([0; COUNT]),
            known: Cell::new(0),
            held: Cell::new(0),
            written: 0,
            failed: Cell::new(None),
        }
    }

    /// Makes known that only the low half of X0 matters in this call, and that it is this.
    pub(crate) fn know_function(&mut self, function: u32) {
        self.values.get_mut()[0] = u64::from(function);
        // Not held: X0's high half is unknown.
        self.known.set(1);
    }

    /// Writes what has changed.
    ///
    /// # Errors
    /// The first that an access had.
    #[inline(always)]
    pub(crate) fn finish(self) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let values = self.values.borrow();
        let mut written = self.written;
        while written != 0 {
            let n = written.trailing_zeros() as usize;
            self.vcpu.set(Register::x(n), values[n])?;
            written &= written - 1;
        }
        Ok(())
    }
}

impl<V: Vcpu> Registers for LazyRegisters<'_, V> {
    const READS_COST: bool = true;

    fn x(&self, n: usize) -> u64 {
        let mut values = self.values.borrow_mut();
        if self.known.get() >> n & 1 == 0 {
            match self.vcpu.get(Register::x(n)) {
                Ok(value) => values[n] = value,
                Err(error) => self.failed.set(Some(error)),
            }
            self.known.set(self.known.get() | 1 << n);
            self.held.set(self.held.get() | 1 << n);
        }
        values[n]
    }

    fn set_x(&mut self, n: usize, value: u64) {
        let bit = 1 << n;
        let held = self.held.get();
        if held & bit != 0 && self.written & bit == 0 && self.values.get_mut()[n] == value {
            return;
        }
        self.values.get_mut()[n] = value;
        self.known.set(self.known.get() | bit);
        self.written |= bit;
    }
}

#[cfg(test)]
mod tests {
    use super::{LazyRegisters, immediate};
    use crate::fake::FakeVcpu;
    use crate::register::Register;
    use hv_partition::Registers as _;

    #[test]
    fn the_convention_follows_from_the_function() {
        for function in
            [0x4600_0001, 0x8600_ff01, 0xc600_ff01, 0x8400_0008, 0xc400_0003, 0x8000_0001, 0x0600_0000]
        {
            assert_eq!(immediate(function), 0, "{function:#x}");
        }
        // Control words: Get and Set of one register, PostMessage, a fast SignalEvent, one with a variable header.
        for control in [0x0001_0050, 0x51, 0x5c, 0x0001_005d, 0x0002_0013, 0] {
            assert_eq!(immediate(control), 1, "{control:#x}");
        }
    }

    #[test]
    fn a_register_is_read_when_it_is_needed_and_once() {
        let vcpu = FakeVcpu::detached();
        vcpu.put(Register::x(3), 7);
        let mut x = LazyRegisters::new(&vcpu);
        x.know_function(0x4600_0001);
        assert_eq!((x.x(0), x.x(3), x.x(3)), (0x4600_0001, 7, 7));
        x.finish().unwrap();
        assert_eq!(vcpu.take_accesses(), [(false, Register::x(3))]);
    }

    #[test]
    fn only_what_has_changed_is_written() {
        let vcpu = FakeVcpu::detached();
        vcpu.put(Register::x(0), 5);
        vcpu.put(Register::x(5), 0xdead);
        let mut x = LazyRegisters::new(&vcpu);
        assert_eq!(x.x(0), 5);
        x.set_x(0, 5);
        x.set_x(6, 0);
        x.set_x(7, 1);
        x.set_x(7, 2);
        assert_eq!(x.x(7), 2);
        x.finish().unwrap();
        let writes = [(true, Register::x(6)), (true, Register::x(7))];
        assert_eq!(vcpu.take_accesses(), [&[(false, Register::x(0))][..], &writes].concat());
        assert_eq!((vcpu.peek(Register::x(7)), vcpu.peek(Register::x(5))), (2, 0xdead));
    }

    #[test]
    fn a_known_low_half_is_not_the_register() {
        let vcpu = FakeVcpu::detached();
        vcpu.put(Register::x(0), 0xdead_beef_4600_0001);
        let mut x = LazyRegisters::new(&vcpu);
        x.know_function(0x4600_0001);
        assert_eq!(x.x(0), 0x4600_0001);
        x.set_x(0, 0x4600_0001);
        x.finish().unwrap();
        assert_eq!(vcpu.peek(Register::x(0)), 0x4600_0001);
    }

    #[test]
    fn a_value_that_was_changed_and_changed_back_is_written() {
        let vcpu = FakeVcpu::detached();
        vcpu.put(Register::x(1), 1);
        let mut x = LazyRegisters::new(&vcpu);
        let _ = x.x(1);
        x.set_x(1, 2);
        x.set_x(1, 1);
        x.finish().unwrap();
        assert_eq!(vcpu.peek(Register::x(1)), 1);
    }

    #[test]
    fn an_error_of_an_access_comes_out_and_nothing_is_written() {
        let vcpu = FakeVcpu::detached();
        vcpu.refuse(Register::x(2));
        let mut x = LazyRegisters::new(&vcpu);
        assert_eq!(x.x(2), 0);
        x.set_x(0, 1);
        assert!(x.finish().is_err());
        assert_eq!(vcpu.peek(Register::x(0)), 0);
    }
}
