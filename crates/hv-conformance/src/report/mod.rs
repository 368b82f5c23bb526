//! What a run found, collected from a guest's console, for people and for machines.
//!
//! ```
//! use hv_conformance::report::Report;
//!
//! let console = "@hv begin 1 cases=1 vps=2 conduit=smccc granule=4096\n\
//!     @hv run clock/the_counter_advances\n\
//!     @hv pass clock/the_counter_advances\n\
//!     @hv end passed=1 failed=0 skipped=0\n";
//! let report = Report::from_console(console);
//! assert!(report.conforms());
//! assert!(report.tap().contains("ok 1 - "));
//! ```

mod formats;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::protocol::{self, Event};
use crate::suite::{Totals, cases};

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
    /// Page and section where the rule stands, for a case that this version of the suite has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A run of the suite in one guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Run {
    /// What the guest said of it: `vps`, `conduit`, `granule`, `version`, `features`, `cases`.
    pub setting: BTreeMap<String, String>,
    /// The cases, in the order in which they ran.
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

/// Where a rule stands.
fn source(name: &str) -> Option<String> {
    let case = cases().find(|case| format!("{case:?}") == name)?;
    Some(format!("{}, \"{}\"", case.page, case.section))
}

impl Run {
    fn begin(version: u32, words: &str) -> Self {
        let pairs = words.split(' ').filter_map(|word| word.split_once('='));
        let mut run = Self {
            setting: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            ..Self::default()
        };
        if version != protocol::VERSION {
            let known = protocol::VERSION;
            run.problems.push(format!("the guest speaks protocol {version}, this is {known}"));
        }
        run
    }

    fn end_case(&mut self, name: &str, verdict: Verdict) {
        match self.results.iter_mut().rev().find(|result| result.name == name) {
            Some(result) if result.verdict == Verdict::Stopped => result.verdict = verdict,
            _ => self.problems.push(format!("{name} ended without having begun")),
        }
    }

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

    fn end(&mut self, totals: Totals) {
        if totals != self.totals() {
            self.problems.push("the guest counted other numbers of cases than the console shows".to_owned());
        }
        let announced = self.setting.get("cases").and_then(|cases| cases.parse::<usize>().ok());
        if announced.is_some_and(|cases| self.results.len() != cases) {
            self.problems.push(format!("{} cases ran of the announced", self.results.len()));
        }
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
        format!("{vps} {}, {conduit}, {granule} pages", if vps == "1" { "VP" } else { "VPs" })
    }

    /// Whether the run is whole, something ran, and nothing failed.
    #[must_use]
    pub fn conforms(&self) -> bool {
        let totals = self.totals();
        self.problems.is_empty() && totals.failed == 0 && totals.passed != 0
    }
}

impl Report {
    /// Collects the runs that a console shows.
    #[must_use]
    pub fn from_console(text: &str) -> Self {
        let mut report = Self::default();
        let mut open: Option<Run> = None;
        for event in text.lines().filter_map(protocol::parse) {
            if let Event::Begin { version, setting } = event {
                report.cut_off(open.replace(Run::begin(version, setting)));
                continue;
            }
            let Some(run) = &mut open else { continue };
            match event {
                Event::Run(name) => run.results.push(Result {
                    name: name.to_owned(),
                    verdict: Verdict::Stopped,
                    source: source(name),
                }),
                Event::Pass(name) => run.end_case(name, Verdict::Passed),
                Event::Fail(name, what) => run.end_case(name, Verdict::Failed(what.to_owned())),
                Event::Skip(name, why) => run.end_case(name, Verdict::Skipped(why.to_owned())),
                Event::End(totals) => {
                    run.end(totals);
                    report.runs.extend(open.take());
                }
                Event::Begin { .. } => {}
            }
        }
        report.cut_off(open);
        report
    }

    fn cut_off(&mut self, run: Option<Run>) {
        if let Some(mut run) = run {
            run.problems.push("the run has no end".to_owned());
            self.runs.push(run);
        }
    }

    /// Whether there are runs, and all conform.
    #[must_use]
    pub fn conforms(&self) -> bool {
        !self.runs.is_empty() && self.runs.iter().all(Run::conforms)
    }

    /// The numbers of all runs.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.runs.iter().map(Run::totals).fold(Totals::default(), |sum, run| Totals {
            passed: sum.passed + run.passed,
            failed: sum.failed + run.failed,
            skipped: sum.skipped + run.skipped,
        })
    }
}
