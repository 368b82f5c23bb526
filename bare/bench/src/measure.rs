//! From ticks of the counter to instructions.
#![expect(unsafe_code, reason = "a row of NOPs")]

use core::arch::asm;
use core::cell::Cell;

use rt::{arch, mrs};

/// Nanoseconds, and so instructions, in a second.
const NANOSECONDS: u64 = 1_000_000_000;

/// The operations to measure, and how.
pub(crate) struct Bench {
    only: &'static str,
    /// Only the operation with exactly that name.
    exact: bool,
    /// Times that the usual number of repetitions is made.
    rounds: u64,
    /// What the usual time to wait for a device is divided by.
    slower: u64,
    /// Instructions in a tick of the counter: 16 on QEMU.
    per_tick: u64,
    /// The value of [`Bench::delay`].
    delay: Cell<u64>,
}

impl Bench {
    pub(crate) fn new(only: &'static str, exact: bool, rounds: u64, slower: u64) -> Self {
        let per_tick = NANOSECONDS / rt::time::frequency();
        Self { only, exact, rounds, slower: slower.max(1), per_tick, delay: Cell::new(0) }
    }

    /// Returns whether to measure an operation.
    pub(crate) fn wants(&self, name: &str) -> bool {
        if self.exact { name == self.only } else { name.contains(self.only) }
    }

    /// Measures an operation, with the loop around it: the mean of `count` rounds.
    pub(crate) fn each(&self, name: &str, repetitions: u64, mut operation: impl FnMut()) {
        if !self.wants(name) {
            return;
        }
        // The first one has tables to fill and code to load, which the others have not.
        operation();
        let repetitions = repetitions * self.rounds;
        let start = counter();
        for _ in 0..repetitions {
            operation();
        }
        let ticks = counter() - start;
        self.print(name, ticks, repetitions);
    }

    /// Measures the time between two moments that `round` gives in ticks, in order: right before it reads the
    /// counter at one of them, it waits for [`Bench::delay`] instructions.
    ///
    /// A tick is many instructions. So the moment is moved by one instruction from round to round, over a whole tick;
    /// the sum of the counter's values is then the distance in instructions, since the sum of `floor((d + k) / n)` over
    /// `k = 0..n` is `d`.
    pub(crate) fn latency(&self, name: &str, repetitions: u64, mut round: impl FnMut() -> u64) {
        if !self.wants(name) {
            return;
        }
        self.delay.set(0);
        round();
        let mut ticks = 0;
        let repetitions = repetitions * self.rounds;
        for number in 0..repetitions * self.per_tick {
            self.delay.set(number % self.per_tick);
            ticks += round();
        }
        self.print(name, ticks, repetitions * self.per_tick);
    }

    /// Returns the number of instructions to wait before the counter is read.
    pub(crate) fn delay(&self) -> u64 {
        self.delay.get()
    }

    /// Returns how often an operation is to be repeated whose usual number of repetitions is this.
    pub(crate) fn repetitions(&self, usual: u64) -> u64 {
        usual * self.rounds
    }

    /// Returns how many ticks to wait where the usual number is this: QEMU's devices work by the host's clock.
    pub(crate) fn pause(&self, usual: u64) -> u64 {
        usual / self.slower
    }

    /// Prints the mean of some operations, and their number.
    pub(crate) fn print(&self, name: &str, ticks: u64, operations: u64) {
        let mean = (ticks * self.per_tick + operations / 2) / operations;
        rt::println!("bench: {name} {mean} {operations}");
    }
}

/// Returns the counter, ordered between the code before and after.
pub(crate) fn counter() -> u64 {
    arch::isb();
    mrs!("cntvct_el0")
}

/// Executes this number of instructions, below 16, and three more.
#[inline(always)]
pub(crate) fn nops(count: u64) {
    // SAFETY: the branch goes into the row of NOPs, or to its end.
    unsafe {
        asm!(
            "adr {target}, 2f", "sub {target}, {target}, {count}, lsl #2", "br {target}",
            ".rept 15", "nop", ".endr", "2:",
            target = out(reg) _, count = in(reg) count & 15, options(nostack, preserves_flags),
        );
    }
}
