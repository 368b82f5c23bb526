//! A VP of a machine in this process, as the guest's code on it sees it.

use std::fmt;
use std::sync::MutexGuard;

use hv_guest::conduit::{Conduit, Counter, FAST_WORDS, FastOutput, Raw};
use hv_guest::interrupts::{Interrupts, Intid};
use hv_partition::testing::Effect;
use hv_partition::{Action, Convention};
use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::smccc::{HVC_HYPERCALL, HVC_SMCCC, HYPERCALL};

use crate::Testbed;

/// A machine that a [`Wire`] leads to: a [`Testbed`] or a [`ForeignBed`](crate::foreign::ForeignBed).
#[expect(private_bounds, reason = "this crate has the machines")]
pub trait Bed: Behind {}

impl<M: Behind> Bed for M {}

/// What a machine does for its VPs.
pub(crate) trait Behind: fmt::Debug + Sync + 'static {
    /// Executes an `hvc` once.
    fn hvc(&self, vp: usize, immediate: u16, x: &mut [u64; 31]) -> Action;

    /// Counts a hypercall.
    fn called(&self);

    /// Keeps an effect for the test.
    fn effect(&self, effect: Effect);

    /// Returns the guest's counter.
    fn counter(&self) -> u64;

    /// Returns the interrupt controller of a VP.
    fn gic(&self, vp: usize) -> MutexGuard<'_, Gic>;
}

/// Pending and enabled interrupts of a VP, one bit each.
#[derive(Debug, Default)]
pub(crate) struct Gic {
    pub(crate) pending: [u64; 4],
    pub(crate) enabled: [u64; 4],
}

impl Gic {
    pub(crate) fn raise(&mut self, intid: u32) {
        self.pending[intid as usize / 64] |= 1 << (intid % 64);
    }

    /// Takes the lowest interrupt that is pending and enabled.
    pub(crate) fn take(&mut self) -> Option<u8> {
        let word = (0..4).find(|word| self.pending[*word] & self.enabled[*word] != 0)?;
        let bit = (self.pending[word] & self.enabled[word]).trailing_zeros();
        self.pending[word] &= !(1 << bit);
        Some((word as u32 * 64 + bit) as u8)
    }
}

/// A VP seen from the guest.
pub struct Wire<M: 'static = Testbed> {
    pub(crate) bed: &'static M,
    pub(crate) vp: usize,
    pub(crate) convention: Convention,
}

impl<M> Clone for Wire<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Wire<M> {}

impl<M> fmt::Debug for Wire<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("vp", &self.vp)
            .field("convention", &self.convention)
            .finish_non_exhaustive()
    }
}

impl<M: Bed> Wire<M> {
    /// Returns the machine.
    #[must_use]
    pub fn bed(&self) -> &'static M {
        self.bed
    }

    /// Returns the same VP for hypercalls made by hand.
    #[must_use]
    pub const fn raw(self) -> Raw<Self> {
        // SAFETY: whatever the call, what it names is resolved in the machine's own memory, pages of atomics that live
        // as long as the process. A server of the test's is safe code, and reaches guest memory through `Ram` alone.
        #[expect(unsafe_code, reason = "vouches for calls to a model")]
        unsafe {
            Raw::new(self)
        }
    }

    fn carry_out(&self, immediate: u16, x: &mut [u64; 31]) {
        match self.hvc(immediate, x) {
            Action::Resume => {}
            action => self.bed.effect(Effect::Power { vp: self.vp, action }),
        }
    }

    /// Executes an `hvc`, as often as the hypervisor asks for it.
    ///
    /// # Panics
    ///
    /// If the hypervisor gives the guest an exception.
    pub fn hvc(&self, immediate: u16, x: &mut [u64; 31]) -> Action {
        loop {
            match self.bed.hvc(self.vp, immediate, x) {
                Action::Retry => {}
                Action::Undefined => panic!("hvc #{immediate} is an undefined instruction"),
                action => return action,
            }
        }
    }
}

#[expect(unsafe_code, reason = "as the trait has it; no call can do harm here")]
impl<M: Bed> Conduit for Wire<M> {
    unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        self.bed.called();
        let mut x = [0; 31];
        let (immediate, first) = match self.convention {
            Convention::Smccc => {
                (x[0], x[1]) = (u64::from(HYPERCALL), control.bits());
                (HVC_SMCCC, 2)
            }
            Convention::Hvc1 => {
                x[0] = control.bits();
                (HVC_HYPERCALL, 1)
            }
        };
        x[first..first + FAST_WORDS].copy_from_slice(block);
        self.carry_out(immediate, &mut x);
        block.copy_from_slice(&x[first..first + FAST_WORDS]);
        HypercallOutput::from_bits(x[0])
    }

    fn fast_output(&self) -> FastOutput {
        match self.convention {
            Convention::Smccc => FastOutput::AfterInput,
            Convention::Hvc1 => FastOutput::Last,
        }
    }

    unsafe fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
        let mut x = [0; 31];
        x[0] = u64::from(function);
        x[1..4].copy_from_slice(&arguments);
        self.carry_out(HVC_SMCCC, &mut x);
        [x[0], x[1], x[2], x[3]]
    }
}

impl<M: Bed> Counter for Wire<M> {
    fn counter(&self) -> u64 {
        self.bed.counter()
    }
}

/// The interrupt controller of a VP: it remembers what is enabled and what is pending.
#[derive(Debug)]
pub struct VpInterrupts<M: 'static = Testbed> {
    pub(crate) bed: &'static M,
    pub(crate) vp: usize,
}

impl<M> Clone for VpInterrupts<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for VpInterrupts<M> {}

impl<M: Bed> Interrupts for VpInterrupts<M> {
    fn enable(&self, intid: Intid) {
        let n = intid.number();
        self.bed.gic(self.vp).enabled[usize::from(n) / 64] |= 1 << (n % 64);
    }

    fn disable(&self, intid: Intid) {
        let n = intid.number();
        self.bed.gic(self.vp).enabled[usize::from(n) / 64] &= !(1 << (n % 64));
    }
}
