//! The suite's environment: the firmware's processor, while the firmware stands still.
#![expect(unsafe_code, reason = "system registers")]

use core::sync::atomic::Ordering;

use hv_conformance::{Convention, Env, Exception};
use hv_guest::arch::Either;
use hv_guest::conduit::{Conduit, Raw};

use crate::machine::{isb, mrs};
use crate::{gic, machine, scratch};

/// One VP. Features that a firmware cannot lend are left out, and the suite skips their cases: other VPs, VMBus if the
/// firmware has used the partition (its connection would break), crashes (they end the machine), pages that move.
pub(crate) struct Application {
    convention: Convention,
    conduit: Raw<Either>,
    intids: [u32; 2],
    fresh: bool,
}

impl Application {
    /// Creates the environment; `fresh` means that the firmware has not used the partition.
    ///
    /// # Safety
    ///
    /// Only the suite uses it: its hypercalls and `hvc` name only the scratch pages as memory to write to.
    pub(crate) unsafe fn new(conduit: Either, intids: [u32; 2], fresh: bool) -> Self {
        let convention = convention(conduit);
        // SAFETY: the caller promises that only the suite uses it, whose calls write to scratch pages only, and those
        // are atomics.
        let conduit = unsafe { Raw::new(conduit) };
        Self { convention, conduit, intids, fresh }
    }
}

/// Returns the convention of a conduit.
pub(crate) fn convention(conduit: Either) -> Convention {
    match conduit {
        Either::Smccc => Convention::Smccc,
        Either::Hvc1 => Convention::Hvc1,
    }
}

impl Env for Application {
    fn conduit(&self) -> &Raw<dyn Conduit + '_> {
        &self.conduit
    }

    fn convention(&self) -> Convention {
        self.convention
    }

    fn hvc(&self, immediate: u16, x: &mut [u64; 31]) -> Result<(), Exception> {
        // SAFETY: `new` requires that only the suite uses the environment, whose calls write to scratch pages only, and
        // those are atomics.
        unsafe { machine::hvc(immediate, x) }
    }

    fn vp_count(&self) -> usize {
        1
    }

    fn vp(&self) -> usize {
        0
    }

    fn mpidr(&self, _vp: usize) -> u64 {
        mrs!("mpidr_el1")
    }

    fn run_on(&self, _vp: usize, work: &(dyn Fn() + Sync)) {
        work();
    }

    fn page(&self, n: usize) -> u64 {
        scratch::page(n)
    }

    fn read(&self, gpa: u64, into: &mut [u8]) {
        scratch::read(gpa, into);
    }

    fn write(&self, gpa: u64, from: &[u8]) {
        scratch::write(gpa, from);
    }

    fn load(&self, gpa: u64) -> u32 {
        scratch::word(gpa).load(Ordering::Acquire)
    }

    fn store(&self, gpa: u64, value: u32) {
        scratch::word(gpa).store(value, Ordering::Release);
    }

    fn granule(&self) -> u64 {
        // TCR_EL1.TG0.
        match mrs!("tcr_el1") >> 14 & 3 {
            1 => 64 << 10,
            2 => 16 << 10,
            _ => 4 << 10,
        }
    }

    fn counter(&self) -> u64 {
        isb();
        mrs!("cntvct_el0")
    }

    fn frequency(&self) -> u64 {
        mrs!("cntfrq_el0")
    }

    fn idle(&self, ticks: u64) {
        // The firmware uses the timer, so nothing would end a WFI in time.
        let (begin, before) = (self.counter(), gic::taken_in_all());
        loop {
            machine::take_interrupts();
            if gic::taken_in_all() != before || self.counter().wrapping_sub(begin) >= ticks {
                return;
            }
            core::hint::spin_loop();
        }
    }

    fn fresh(&self) -> bool {
        self.fresh
    }

    fn vmbus(&self) -> bool {
        self.fresh
    }

    fn intids(&self) -> &[u32] {
        &self.intids
    }

    fn listen(&self, intid: u32) {
        gic::listen(intid);
    }

    fn taken(&self, intid: u32) -> u64 {
        gic::taken(intid)
    }
}
