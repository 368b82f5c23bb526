//! Time and interrupts.

use hv_tlfs::features::PartitionPrivileges;
use hv_tlfs::register::RegisterName;
use hv_tlfs::time::{CLOCK_HZ, ReferenceTime};

use super::Cx;
use crate::outcome::{Outcome, Stop, fail};

/// How long something may take that has no reason to take long: 30 s. Emulated machines are slow and may be
/// busy, and a limit that a right host can miss is worth nothing.
const LIMIT: ReferenceTime = ReferenceTime(30 * CLOCK_HZ);
/// How long to wait before something is said not to come: 200 microseconds.
const GRACE: ReferenceTime = ReferenceTime(2_000);

impl Cx<'_> {
    /// Returns the counter ticks of a span, rounded up.
    pub(crate) fn ticks(&self, span: ReferenceTime) -> u64 {
        (u128::from(span.ticks()) * u128::from(self.env.frequency())).div_ceil(u128::from(CLOCK_HZ)) as u64
    }

    /// Skips without the privilege to read the reference counter.
    pub(crate) fn need_counter(&self) -> Outcome {
        let privilege = PartitionPrivileges(0).with_access_reference_counter(true);
        self.need(privilege, "the partition has no reference counter")
    }

    /// Returns the reference time as its register has it, for comparison with other registers' values.
    #[track_caller]
    pub(crate) fn now(&self) -> Result<u64, Stop> {
        self.read_register(RegisterName::TIME_REF_COUNT)
    }

    /// Waits until a condition holds, at most for a span. Whether it came to hold.
    pub(crate) fn wait_for(&self, span: ReferenceTime, mut condition: impl FnMut() -> bool) -> bool {
        let begin = self.env.counter();
        let span = self.ticks(span);
        loop {
            if condition() {
                return true;
            }
            let passed = self.env.counter().wrapping_sub(begin);
            if passed >= span {
                return false;
            }
            self.env.idle(span - passed);
        }
    }

    /// Waits until a condition holds that should hold soon. Fails if it does not.
    #[track_caller]
    pub(crate) fn soon(&self, what: &'static str, condition: impl FnMut() -> bool) -> Outcome {
        if self.wait_for(LIMIT, condition) { Ok(()) } else { Err(fail(what)) }
    }

    /// Lets a span pass, whatever happens meanwhile.
    pub(crate) fn pause(&self, span: ReferenceTime) {
        self.wait_for(span, || false);
    }

    /// Makes an attempt that counts only if this VP was not kept from running meanwhile, with spans twice as long each
    /// time: whether one succeeded. `attempt` gets the span.
    pub(crate) fn attempts(
        &self,
        first: ReferenceTime,
        mut attempt: impl FnMut(ReferenceTime) -> Result<bool, Stop>,
    ) -> Result<bool, Stop> {
        for n in 0..7 {
            if attempt(ReferenceTime(first.ticks() << n))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns how often the interrupt was taken within `work` and shortly after. With `expected` not zero it waits for
    /// that many first.
    pub(crate) fn interrupts_of(
        &self,
        intid: u32,
        expected: u64,
        work: impl FnOnce() -> Outcome,
    ) -> Result<u64, Stop> {
        self.pause(ReferenceTime::ZERO);
        let before = self.env.taken(intid);
        work()?;
        if expected != 0 {
            self.wait_for(LIMIT, || self.env.taken(intid) - before >= expected);
        }
        self.pause(GRACE);
        Ok(self.env.taken(intid) - before)
    }

    /// Checks that `work` leads to one interrupt, and to no second one.
    #[track_caller]
    pub(crate) fn one_interrupt(&self, intid: u32, work: impl FnOnce() -> Outcome) -> Outcome {
        let taken = self.interrupts_of(intid, 1, work)?;
        crate::outcome::equal(taken, 1, "the number of interrupts")
    }

    /// Checks that `work` leads to no interrupt.
    #[track_caller]
    pub(crate) fn no_interrupt(&self, intid: u32, work: impl FnOnce() -> Outcome) -> Outcome {
        let taken = self.interrupts_of(intid, 0, work)?;
        crate::outcome::equal(taken, 0, "the number of interrupts")
    }
}
