//! The report of the checks.

use core::fmt::Debug;

use rt::exception::Exception;
use rt::println;

/// Failures of one check that are printed; the rest is counted.
const SHOWN: u32 = 5;

/// Counts checks and prints a line for each.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    group: &'static str,
    passed: u32,
    failed: u32,
}

/// One check, which may look at many things; it passes when none of them was wrong.
#[derive(Debug, Default)]
pub(crate) struct Check {
    wrong: u32,
}

impl Checks {
    /// The checks that follow belong to `group`.
    pub(crate) fn enter(&mut self, group: &'static str) {
        self.group = group;
    }

    /// Makes one check, named after the rule.
    pub(crate) fn check(&mut self, rule: &str, look: impl FnOnce(&mut Check)) {
        let mut check = Check::default();
        look(&mut check);
        let group = self.group;
        if check.wrong == 0 {
            self.passed += 1;
            println!("test {group}: {rule} ... ok");
        } else {
            self.failed += 1;
            println!("test {group}: {rule} ... FAILED ({} times)", check.wrong);
        }
    }

    /// Prints that a check is not made.
    pub(crate) fn skip(&self, rule: &str, why: &str) {
        println!("test {}: {rule} ... skipped: {why}", self.group);
    }

    /// Prints the closing line.
    pub(crate) fn close(&self) {
        println!("{} passed, {} failed", self.passed, self.failed);
    }
}

impl Check {
    /// Something was wrong with `subject`: it gave `got`.
    pub(crate) fn wrong(&mut self, subject: impl Debug, got: impl Debug) {
        self.wrong += 1;
        if self.wrong <= SHOWN {
            println!("  {subject:x?}: {got:x?}");
        }
    }

    /// `subject` shall have given `wanted`.
    pub(crate) fn equal<T: PartialEq + Debug>(&mut self, subject: impl Debug, got: T, wanted: T) {
        if got != wanted {
            self.wrong(subject, (got, "instead of", wanted));
        }
    }

    /// `subject` shall have been so.
    pub(crate) fn holds(&mut self, subject: impl Debug, condition: bool) {
        if !condition {
            self.wrong(subject, "does not hold");
        }
    }

    /// `subject` shall have met an exception that is `kind`.
    pub(crate) fn meets(
        &mut self,
        subject: impl Debug,
        got: Option<Exception>,
        kind: fn(&Exception) -> bool,
    ) {
        if !got.as_ref().is_some_and(kind) {
            self.wrong(subject, got);
        }
    }
}
