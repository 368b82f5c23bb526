//! The results of a run, collected from a guest's console, for people and programs.
//!
//! ```
//! use hv_conformance::report::Report;
//!
//! let case = hv_conformance::cases().next().unwrap();
//! let console = format!(
//!     "@hv begin 2 cases=1 vps=2 conduit=smccc granule=4096 filter={case:?}\n\
//!     @hv run {case:?}\n\
//!     @hv pass {case:?}\n\
//!     @hv end passed=1 failed=0 skipped=0\n"
//! );
//! let report = Report::from_console(&console);
//! assert!(report.conforms());
//! assert!(report.tap().contains("ok 1 - "));
//! ```

mod collect;
mod formats;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use formats::Xml;
use serde::Serialize;

use crate::suite::Totals;

/// Outcome of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome", content = "detail")]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It failed, with this description.
    Failed(String),
    /// Its subject is missing, for this reason.
    Skipped(String),
    /// It began and never ended: the guest stopped in it.
    Stopped,
}

/// A case of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Result {
    /// `chapter/name`.
    pub name: String,
    /// Its outcome.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Page and section of the rule.
    pub source: String,
}

/// A run of the suite in one guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Run {
    /// The guest's description: `vps`, `conduit`, `granule`, `version`, `features`, `cases`, `filter`.
    pub setting: BTreeMap<String, String>,
    /// The cases of the suite that ran, each once, in order of their start.
    pub results: Vec<Result>,
    /// Problems with the run itself.
    pub problems: Vec<String>,
}

/// The runs of one console or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The runs.
    pub runs: Vec<Run>,
}

impl Run {
    /// Counts the results. A case that stopped counts as failed.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for result in &self.results {
            match result.verdict {
                Verdict::Passed => totals.passed += 1,
                Verdict::Skipped(_) => totals.skipped += 1,
                Verdict::Failed(_) | Verdict::Stopped => totals.failed += 1,
            }
        }
        totals
    }

    /// Describes the run in a few words.
    #[must_use]
    pub fn title(&self) -> String {
        let of = |key: &str| self.setting.get(key).map_or("?", String::as_str);
        let conduit = match of("conduit") {
            "smccc" => "hvc #0",
            "hvc1" => "hvc #1",
            other => other,
        };
        let granule =
            of("granule").parse::<u32>().map_or("?".to_owned(), |bytes| format!("{}K", bytes >> 10));
        let vps = of("vps");
        let only = match of("filter") {
            "" | "?" => String::new(),
            filter => format!(", only {filter}"),
        };
        format!("{vps} {}, {conduit}, {granule} pages{only}", if vps == "1" { "VP" } else { "VPs" })
    }

    /// Returns true if the run is complete, something ran, and nothing failed.
    #[must_use]
    pub fn conforms(&self) -> bool {
        let totals = self.totals();
        self.problems.is_empty() && totals.failed == 0 && totals.passed != 0
    }
}

impl Report {
    /// Returns true if there are runs, and all conform.
    #[must_use]
    pub fn conforms(&self) -> bool {
        !self.runs.is_empty() && self.runs.iter().all(Run::conforms)
    }

    /// Adds up the numbers of all runs.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.runs.iter().map(Run::totals).fold(Totals::default(), |sum, run| Totals {
            passed: sum.passed.saturating_add(run.passed),
            failed: sum.failed.saturating_add(run.failed),
            skipped: sum.skipped.saturating_add(run.skipped),
        })
    }
}
