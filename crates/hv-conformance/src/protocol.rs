//! The guest's console lines, one per event, and their parser.
//!
//! ```text
//! @hv begin 2 cases=231 vps=4 conduit=smccc granule=4096 version=10.0.26100 features=0x3a803000002e7f,0x31e1 filter=
//! @hv run timers/a_one_shot_timer_is_never_early
//! @hv pass timers/a_one_shot_timer_is_never_early
//! @hv run timers/a_periodic_timer_goes_on
//! @hv fail timers/a_periodic_timer_goes_on timers.rs:93: the number of expirations: 0x3, not 0x4
//! @hv run clock/the_clock_survives_a_migration
//! @hv skip clock/the_clock_survives_a_migration the environment cannot migrate the guest
//! @hv end passed=1 failed=1 skipped=1
//! ```
//!
//! A line counts from the first `@hv ` in it, so other output before it on the same line is harmless; all other lines
//! are ignored. The number after `begin` is the version of the protocol, [`VERSION`]. `cases` and `filter` are the plan
//! of the run: the cases that [`matches`](crate::matches) the filter, each once. `run` precedes a case and one of the
//! three others follows it: a `run` without one is a case in which the guest stopped.

use core::fmt;

use crate::case::Case;
use crate::outcome::{Outcome, Stop};
use crate::suite::{Setting, Sink, Totals};

/// Version of the protocol.
pub const VERSION: u32 = 2;
/// Prefix of an event's line.
pub const PREFIX: &str = "@hv ";

/// Sink that writes a run's events as lines.
#[derive(Debug)]
pub struct Lines<W>(pub W);

impl<W: fmt::Write> Lines<W> {
    fn line(&mut self, text: fmt::Arguments<'_>) {
        // If the console does not accept the line, it cannot be reported; the reader finds that the outcome is missing.
        let _ = self.0.write_fmt(format_args!("{PREFIX}{text}\n"));
    }
}

impl<W: fmt::Write> Sink for Lines<W> {
    fn begin(&mut self, setting: &Setting<'_>) {
        let Setting { cases, vps, convention, granule, version, filter, features: (privileges, c) } =
            *setting;
        let (major, minor, build) = (version.major_version, version.minor_version, version.build_number);
        self.line(format_args!(
            "begin {VERSION} cases={cases} vps={vps} conduit={} granule={granule} \
             version={major}.{minor}.{build} features={privileges:#x},{c:#x} filter={filter}",
            convention.name()
        ));
    }

    fn case(&mut self, case: &Case) {
        self.line(format_args!("run {case:?}"));
    }

    fn outcome(&mut self, case: &Case, outcome: &Outcome) {
        match outcome {
            Ok(()) => self.line(format_args!("pass {case:?}")),
            Err(Stop::Fail(failure)) => self.line(format_args!("fail {case:?} {failure}")),
            Err(Stop::Skip(reason)) => self.line(format_args!("skip {case:?} {reason}")),
        }
    }

    fn end(&mut self, totals: &Totals) {
        let Totals { passed, failed, skipped } = *totals;
        self.line(format_args!("end passed={passed} failed={failed} skipped={skipped}"));
    }
}

/// An event parsed from a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The run begins: the protocol's version and the words that describe the run.
    Begin {
        /// Version of the protocol.
        version: u32,
        /// `key=value`, separated by spaces.
        setting: &'a str,
    },
    /// A case begins.
    Run(&'a str),
    /// It passed.
    Pass(&'a str),
    /// It failed, with a description.
    Fail(&'a str, &'a str),
    /// It was skipped, with a reason.
    Skip(&'a str, &'a str),
    /// The run has ended.
    End(Totals),
}

/// Parses a line; returns `None` for other output.
#[must_use]
pub fn parse(line: &str) -> Option<Event<'_>> {
    let (_, text) = line.trim_end().split_once(PREFIX)?;
    let (word, rest) = text.split_once(' ')?;
    let named = || rest.split_once(' ').unwrap_or((rest, ""));
    Some(match word {
        "begin" => {
            let (version, setting) = named();
            Event::Begin { version: version.parse().ok()?, setting }
        }
        "run" => Event::Run(rest),
        "pass" => Event::Pass(rest),
        "fail" => Event::Fail(named().0, named().1),
        "skip" => Event::Skip(named().0, named().1),
        "end" => {
            let number = |key: &str| value(rest, key)?.parse().ok();
            Event::End(Totals {
                passed: number("passed")?,
                failed: number("failed")?,
                skipped: number("skipped")?,
            })
        }
        _ => return None,
    })
}

/// Returns the value of `key=value` among words.
#[must_use]
pub fn value<'a>(words: &'a str, key: &str) -> Option<&'a str> {
    words.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}
