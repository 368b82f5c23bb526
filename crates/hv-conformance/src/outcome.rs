//! Outcome of a case.

use core::fmt;

use hv_tlfs::hypercall::{HypercallCode, HypercallOutput};
use hv_tlfs::status::HvStatus;

/// A value that a failure can show.
pub(crate) trait Word: Copy + PartialEq {
    /// Returns it as a number.
    fn word(self) -> u64;
}

macro_rules! words {
    ($($ty:ty: $value:ident => $word:expr;)*) => {
        $(impl Word for $ty {
            fn word(self) -> u64 {
                let $value = self;
                $word
            }
        })*
    };
}

words! {
    u8: value => value.into();
    u16: value => value.into();
    u32: value => value.into();
    u64: value => value;
    i64: value => value as u64;
    usize: value => value as u64;
    bool: value => value.into();
    HvStatus: value => value.0.into();
    HypercallCode: value => value.0.into();
    HypercallOutput: value => value.0;
}

/// A register read; no register that the suite compares has a value that looks like an error.
impl Word for Result<u64, HvStatus> {
    fn word(self) -> u64 {
        self.unwrap_or_else(|status| 0xeeee_0000_0000_0000 | u64::from(status.0))
    }
}

/// A failed check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The check, as in the source.
    pub what: &'static str,
    /// Source file and line of the check.
    pub file: &'static str,
    /// See [`file`](Self::file).
    pub line: u32,
    /// Actual and expected value, if the check compares numbers.
    pub values: Option<(u64, u64)>,
}

impl Failure {
    #[track_caller]
    fn here(what: &'static str, values: Option<(u64, u64)>) -> Self {
        let caller = core::panic::Location::caller();
        Self { what, file: caller.file(), line: caller.line(), values }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The file's path depends on the location of the source tree; its name is enough.
        let file = self.file.rsplit(['/', '\\']).next().unwrap_or(self.file);
        write!(f, "{file}:{}: ", self.line)?;
        // A check that the formatter split over several lines is joined.
        for (n, word) in self.what.split_ascii_whitespace().enumerate() {
            write!(f, "{}{word}", if n == 0 { "" } else { " " })?;
        }
        match self.values {
            Some((got, want)) => write!(f, ": {got:#x}, not {want:#x}"),
            None => Ok(()),
        }
    }
}

/// Reason why a case ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The host is wrong.
    Fail(Failure),
    /// The host or the environment lacks the subject of the case.
    Skip(&'static str),
}

/// Result of a case: no failure, or why it stopped.
pub type Outcome = Result<(), Stop>;

/// Creates the failure of a check at the caller's line.
#[track_caller]
pub(crate) fn fail(what: &'static str) -> Stop {
    Stop::Fail(Failure::here(what, None))
}

#[track_caller]
pub(crate) fn equal<T: Word>(got: T, want: T, what: &'static str) -> Outcome {
    if got == want {
        return Ok(());
    }
    Err(Stop::Fail(Failure::here(what, Some((got.word(), want.word())))))
}

/// Ends the case as failed unless the condition holds.
macro_rules! check {
    ($condition:expr $(,)?) => {
        if !$condition {
            return Err($crate::outcome::fail(stringify!($condition)));
        }
    };
}

/// Ends the case as failed unless both are equal: the actual and the expected value.
macro_rules! check_eq {
    ($got:expr, $want:expr $(,)?) => {
        $crate::outcome::equal($got, $want, stringify!($got == $want))?
    };
}

/// Ends the case as skipped if the condition holds.
macro_rules! skip_if {
    ($condition:expr, $reason:expr) => {
        if $condition {
            return Err($crate::outcome::Stop::Skip($reason));
        }
    };
}
