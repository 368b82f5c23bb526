//! What a case works with: the environment, what is known of the host, and hypercalls made by hand.
//!
//! The calls here are made of raw words deliberately. A case that checks bits must not go through routines that could
//! hide a wrong one; only the way out of the guest, the [`Conduit`](hv_guest::conduit::Conduit), is `hv-guest`'s.

mod channel;
mod synic;
mod time;
mod vmbus;

use core::sync::atomic::{AtomicUsize, Ordering};

use hv_guest::conduit::FAST_WORDS;
use hv_tlfs::hypercall::{HypercallCode, HypercallInput, HypercallOutput};
use hv_tlfs::page;
use hv_tlfs::register::{RegisterName, RegisterValue, SetVpRegistersElement};
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};
use spin::Mutex;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::env::{CASE_PAGES, Env, Exception};
use crate::facts::Facts;
use crate::outcome::{Outcome, Stop, fail};

pub(crate) use channel::{Channel, Opening, Packet, RINGS, Ring, Word};
pub(crate) use synic::Synic;
pub(crate) use vmbus::{Bus, Contact, SINT};

/// Returns the control word of a Get of this many registers.
pub(crate) const fn get(count: u16) -> HypercallInput {
    HypercallInput::from_code(HypercallCode::GET_VP_REGISTERS).with_rep_count(count)
}

/// Returns the control word of a Set of this many registers.
pub(crate) const fn set(count: u16) -> HypercallInput {
    HypercallInput::from_code(HypercallCode::SET_VP_REGISTERS).with_rep_count(count)
}

/// Returns the control word of a hypercall without reps.
pub(crate) const fn simple(code: HypercallCode) -> HypercallInput {
    HypercallInput::from_code(code)
}

/// Returns the control word of a hypercall with this many reps.
pub(crate) const fn rep(code: HypercallCode, count: u16) -> HypercallInput {
    HypercallInput::from_code(code).with_rep_count(count)
}

/// Header of a Get or Set of the caller's own registers.
pub(crate) const OWN: [u64; 2] = [PARTITION_ID_SELF, VP_INDEX_SELF as u64];

/// What a case works with.
pub(crate) struct Cx<'e> {
    pub(crate) env: &'e dyn Env,
    pub(crate) facts: &'e Facts,
    next_page: AtomicUsize,
}

/// Registers before and after an `hvc`.
pub(crate) struct Registers {
    pub(crate) before: [u64; 31],
    pub(crate) after: [u64; 31],
}

impl Registers {
    /// Checks that no register changed but X0, the rep start index in `control`'s register, and `outputs`. X30 may be
    /// the environment's own.
    #[track_caller]
    pub(crate) fn kept_but(&self, control: usize, outputs: &[usize]) -> Outcome {
        for (n, (&before, &after)) in self.before.iter().zip(&self.after).take(30).enumerate() {
            let free = n == 0 || outputs.contains(&n);
            let start = if n == control { hv_tlfs::hypercall::REP_START_MASK } else { 0 };
            if !free && (before ^ after) & !start != 0 {
                return Err(fail("the other registers are as they were"));
            }
        }
        Ok(())
    }
}

impl<'e> Cx<'e> {
    pub(crate) const fn new(env: &'e dyn Env, facts: &'e Facts) -> Self {
        Self { env, facts, next_page: AtomicUsize::new(0) }
    }

    /// Makes a hypercall through the conduit, with a whole block of registers.
    pub(crate) fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        self.env.conduit().call(control, block)
    }

    /// Makes a fast hypercall; returns its result, and the block afterwards.
    pub(crate) fn fast(
        &self,
        control: HypercallInput,
        input: &[u64],
    ) -> (HypercallOutput, [u64; FAST_WORDS]) {
        let mut block = [0; FAST_WORDS];
        for (to, from) in block.iter_mut().zip(input) {
            *to = *from;
        }
        let result = self.call(control.with_fast(true), &mut block);
        (result, block)
    }

    /// Makes a hypercall with its parameters in memory.
    pub(crate) fn memory(&self, control: HypercallInput, input: u64, output: u64) -> HypercallOutput {
        self.env.conduit().call_2(control, [input, output])
    }

    /// Makes a hypercall by hand, in the run's convention: every register is known before and after.
    ///
    /// Registers that are not parameters hold a pattern.
    pub(crate) fn raw(&self, control: HypercallInput, parameters: &[u64]) -> Result<Registers, Exception> {
        let convention = self.env.convention();
        let mut before: [u64; 31] = core::array::from_fn(|n| 0x5ca1_ab1e_0000_0000 + n as u64 * 0x0101_0101);
        before[0] = HYPERCALL.into();
        before[convention.control()] = control.0;
        for (to, from) in before[convention.control() + 1..].iter_mut().zip(parameters) {
            *to = *from;
        }
        let mut after = before;
        self.env.hvc(convention.immediate(), &mut after)?;
        Ok(Registers { before, after })
    }

    /// Reads all 128 bits of a register of the VP's own.
    pub(crate) fn get_wide(&self, name: RegisterName) -> Result<RegisterValue, HvStatus> {
        let input = [OWN[0], OWN[1], name.0.into()];
        let (result, [low, high]) = self.env.conduit().call_3_2(get(1).with_fast(true), input);
        match result.status() {
            HvStatus::SUCCESS => Ok(RegisterValue { low, high }),
            status => Err(status),
        }
    }

    /// Reads a register of the VP's own.
    pub(crate) fn get(&self, name: RegisterName) -> Result<u64, HvStatus> {
        self.get_wide(name).map(|value| value.low)
    }

    /// Reads a register that must be readable.
    #[track_caller]
    pub(crate) fn read_register(&self, name: RegisterName) -> Result<u64, Stop> {
        self.get(name).map_err(|_| fail("the register can be read"))
    }

    /// Writes a register of the VP's own.
    pub(crate) fn set(&self, name: RegisterName, value: u64) -> HvStatus {
        let input = [OWN[0], OWN[1], name.0.into(), 0, value, 0];
        self.env.conduit().call_6(set(1).with_fast(true), input).status()
    }

    /// Writes a register that must be writable with this value.
    #[track_caller]
    pub(crate) fn write_register(&self, name: RegisterName, value: u64) -> Outcome {
        if self.set(name, value) == HvStatus::SUCCESS {
            Ok(())
        } else {
            Err(fail("the register can be written"))
        }
    }

    /// Writes a register, and checks that it reads as written.
    #[track_caller]
    pub(crate) fn write_and_read(&self, name: RegisterName, value: u64) -> Outcome {
        self.write_register(name, value)?;
        crate::outcome::equal(self.get(name), Ok(value), "the register reads as written")
    }

    /// Returns a scratch page of zeros for exclusive use until the case ends.
    #[track_caller]
    pub(crate) fn page(&self) -> Result<u64, Stop> {
        let n = self.next_page.fetch_add(1, Ordering::Relaxed);
        if n >= CASE_PAGES {
            return Err(Stop::Skip("the environment has too few pages for this number of VPs"));
        }
        let gpa = self.env.page(n);
        self.fill(gpa, 0);
        Ok(gpa)
    }

    /// Returns what a part of a case works with that may have all pages: the parts before it have ended.
    pub(crate) const fn fresh_pages(&self) -> Self {
        Self::new(self.env, self.facts)
    }

    /// Returns the calling VP's page for the parameters of one hypercall.
    pub(crate) fn parameters(&self) -> u64 {
        self.env.page(CASE_PAGES + self.env.vp())
    }

    /// Fills a page.
    pub(crate) fn fill(&self, gpa: u64, byte: u8) {
        let part = [byte; 256];
        for offset in (0..page::SIZE as u64).step_by(part.len()) {
            self.env.write(gpa + offset, &part);
        }
    }

    /// Writes a value to memory.
    pub(crate) fn write<T: IntoBytes + Immutable + ?Sized>(&self, gpa: u64, value: &T) {
        self.env.write(gpa, value.as_bytes());
    }

    /// Reads a value from memory.
    pub(crate) fn read<T: FromBytes + IntoBytes>(&self, gpa: u64) -> T {
        let mut value = T::new_zeroed();
        self.env.read(gpa, value.as_mut_bytes());
        value
    }

    /// Writes the input of a Get of the VP's own registers.
    pub(crate) fn write_names(&self, gpa: u64, names: &[RegisterName]) {
        self.write(gpa, &OWN);
        self.write(gpa + 16, names);
    }

    /// Writes the input of a Set of the VP's own registers.
    pub(crate) fn write_values(&self, gpa: u64, values: &[(RegisterName, u64)]) {
        self.write(gpa, &OWN);
        for (n, &(name, value)) in (0..).zip(values) {
            let element = SetVpRegistersElement::new(name, RegisterValue::from_u64(value));
            self.write(gpa + 16 + n * 32, &element);
        }
    }

    /// Runs something on another VP.
    pub(crate) fn on<R: Default + Send>(&self, vp: usize, work: impl Fn(&Self) -> R + Sync) -> R {
        let result = Mutex::new(R::default());
        self.env.run_on(vp, &|| {
            let value = work(self);
            *result.lock() = value;
        });
        result.into_inner()
    }

    /// Runs a part of the case on another VP.
    pub(crate) fn check_on(&self, vp: usize, work: impl Fn(&Self) -> Outcome + Sync) -> Outcome {
        self.on(vp, |cx| Some(work(cx))).unwrap_or_else(|| Err(fail("the other VP ran its part")))
    }

    /// Returns a VP other than the boot processor.
    pub(crate) fn other(&self) -> Result<usize, Stop> {
        skip_if!(self.env.vp_count() < 2, "one VP only");
        Ok(1)
    }

    /// Returns the VP index of a VP.
    pub(crate) fn index(&self, vp: usize) -> u32 {
        self.facts.vps[vp].index
    }

    /// Skips unless the partition is as the host made it.
    pub(crate) fn fresh(&self) -> Outcome {
        skip_if!(!self.env.fresh(), "the partition was used before the suite");
        Ok(())
    }

    /// Skips unless the partition has all of these privileges.
    pub(crate) fn need(
        &self,
        privileges: hv_tlfs::features::PartitionPrivileges,
        reason: &'static str,
    ) -> Outcome {
        skip_if!(self.facts.features.privileges.0 & privileges.0 != privileges.0, reason);
        Ok(())
    }

    /// Runs something while the guest OS id is zero.
    pub(crate) fn unidentified(&self, work: impl FnOnce() -> Outcome) -> Outcome {
        self.write_register(RegisterName::GUEST_OS_ID, 0)?;
        let outcome = work();
        let restored = self.write_register(RegisterName::GUEST_OS_ID, crate::facts::GUEST_ID);
        outcome.and(restored)
    }
}
