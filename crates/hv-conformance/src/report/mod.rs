//! What a run found, collected from a guest's console, for people and for machines.
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

use serde::Serialize;

use crate::suite::Totals;

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome", content = "detail")]
pub enum Verdict {
    /// It found nothing wrong.
    Passed,
    /// It found this.
    Failed(String),
    /// It had not what it is about, for this reason.
    Skipped(String),
    /// It began and never ended: the guest stopped in it.
    Stopped,
}

/// A case of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Result {
    /// `chapter/name`.
    pub name: String,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Page and section where the rule stands.
    pub source: String,
}

/// A run of the suite in one guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Run {
    /// What the guest said of it: `vps`, `conduit`, `granule`, `version`, `features`, `cases`, `filter`.
    pub setting: BTreeMap<String, String>,
    /// The cases of the suite that ran, each once, in the order in which they began.
    pub results: Vec<Result>,
    /// What is wrong with the run itself.
    pub problems: Vec<String>,
}

/// The runs of one console or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The runs.
    pub runs: Vec<Run>,
}

impl Run {
    /// The numbers, counted from the results. A case that stopped has failed.
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

    /// What the run was, in few words.
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

    /// Whether the run is whole, something ran, and nothing failed.
    #[must_use]
    pub fn conforms(&self) -> bool {
        let totals = self.totals();
        self.problems.is_empty() && totals.failed == 0 && totals.passed != 0
    }
}

impl Report {
    /// Whether there are runs, and all conform.
    #[must_use]
    pub fn conforms(&self) -> bool {
        !self.runs.is_empty() && self.runs.iter().all(Run::conforms)
    }

    /// The numbers of all runs.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.runs.iter().map(Run::totals).fold(Totals::default(), |sum, run| Totals {
            passed: sum.passed.saturating_add(run.passed),
            failed: sum.failed.saturating_add(run.failed),
            skipped: sum.skipped.saturating_add(run.skipped),
        })
    }
}
