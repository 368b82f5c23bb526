//! The report of the checks.

use core::fmt::Debug;

use rt::exception::Exception;
use rt::println;

/// Failures of one check that are printed; further ones are only counted.
const SHOWN: u32 = 5;

/// Counter of checks, with a line printed for each.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    group: &'static str,
    passed: u32,
    failed: u32,
}

/// One check, which may examine many subjects; it passes if none of them was wrong.
#[derive(Debug, Default)]
pub(crate) struct Check {
    wrong: u32,
}

impl Checks {
    /// Starts a group: the checks that follow belong to it.
    pub(crate) fn enter(&mut self, group: &'static str) {
        self.group = group;
    }

    /// Runs one check, named after the rule.
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

    /// Prints that a check is skipped.
    pub(crate) fn skip(&self, rule: &str, why: &str) {
        println!("test {}: {rule} ... skipped: {why}", self.group);
    }

    /// Prints the closing line.
    pub(crate) fn close(&self) {
        println!("{} passed, {} failed", self.passed, self.failed);
    }
}

impl Check {
    /// Records that `subject` was wrong: it gave `got`.
    pub(crate) fn wrong(&mut self, subject: impl Debug, got: impl Debug) {
        self.wrong += 1;
        if self.wrong <= SHOWN {
            println!("  {subject:x?}: {got:x?}");
        }
    }

    /// Checks that `subject` gave `wanted`.
    pub(crate) fn equal<T: PartialEq + Debug>(&mut self, subject: impl Debug, got: T, wanted: T) {
        if got != wanted {
            self.wrong(subject, (got, "instead of", wanted));
        }
    }

    /// Checks that `subject` holds.
    pub(crate) fn holds(&mut self, subject: impl Debug, condition: bool) {
        if !condition {
            self.wrong(subject, "does not hold");
        }
    }

    /// Checks that `subject` took an exception that is `kind`.
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
