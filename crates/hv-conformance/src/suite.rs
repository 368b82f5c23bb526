//! The cases as a whole: their list, the choice among them, and what a run reports.

use hv_tlfs::features::HypervisorVersion;

use crate::case::Case;
use crate::cases::ALL;
use crate::env::Convention;
use crate::outcome::Outcome;

/// Statistics of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Cases that passed.
    pub passed: u32,
    /// Cases that failed.
    pub failed: u32,
    /// Cases whose subject is missing.
    pub skipped: u32,
}

/// Description of a run, reported before the first case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting<'a> {
    /// Number of cases that will run.
    pub cases: u32,
    /// The filter; empty for all cases.
    pub filter: &'a str,
    /// Number of VPs.
    pub vps: u32,
    /// Calling convention.
    pub convention: Convention,
    /// Page size of the guest in bytes.
    pub granule: u64,
    /// Version of the hypervisor.
    pub version: HypervisorVersion,
    /// Its features: the privileges, and dword C.
    pub features: (u64, u32),
}

/// Receiver of a run's events.
pub trait Sink {
    /// Reports that the run begins.
    fn begin(&mut self, setting: &Setting<'_>);
    /// Reports that a case begins, before anything else of it: a case that never ends has a name.
    fn case(&mut self, case: &Case);
    /// Reports that a case has ended.
    fn outcome(&mut self, case: &Case, outcome: &Outcome);
    /// Reports that the run has ended.
    fn end(&mut self, totals: &Totals);
}

/// Returns all cases, chapter by chapter.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    ALL.iter().copied().flatten()
}

/// Returns true if a case matches a filter: words separated by commas, one of which occurs in `chapter/name`. An empty
/// filter matches all.
#[must_use]
pub fn matches(case: &Case, filter: &str) -> bool {
    let mut words = filter.split(',').filter(|word| !word.is_empty()).peekable();
    let contains = |word: &str| {
        // The full name is not a single string; a word without a slash may match either part.
        match word.split_once('/') {
            Some((chapter, name)) => case.chapter.ends_with(chapter) && case.name.starts_with(name),
            None => case.chapter.contains(word) || case.name.contains(word),
        }
    };
    words.peek().is_none() || words.any(contains)
}
