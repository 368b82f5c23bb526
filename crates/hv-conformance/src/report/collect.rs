//! Collects runs from a console: bounded in memory by the suite and the text's length, and linear in time, whatever the
//! text.

use std::collections::{BTreeMap, HashMap};

use super::{Report, Result, Run, Verdict};
use crate::case::Case;
use crate::protocol::{self, Event};
use crate::suite::{Totals, cases, matches};

/// Maximum number of runs read from one text: far more than there are machine shapes.
pub(super) const MOST_RUNS: usize = 256;
/// Maximum number of bytes kept of a run's description, and of a name in a problem.
const MOST_BYTES: usize = 1024;

/// Returns the cases of the suite by `chapter/name`.
fn suite() -> HashMap<String, &'static Case> {
    cases().map(|case| (format!("{case:?}"), case)).collect()
}

/// Returns the start of a text.
fn start(text: &str) -> &str {
    let end = (0..=text.len().min(MOST_BYTES)).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// A problem with several cases of a run: their number, and the first one.
#[derive(Default)]
struct Wrong {
    count: u64,
    first: String,
}

impl Wrong {
    fn add(&mut self, name: &str) {
        if self.count == 0 {
            start(name).clone_into(&mut self.first);
        }
        self.count += 1;
    }

    fn problem(self, one: &str, many: &str) -> Option<String> {
        match self.count {
            0 => None,
            1 => Some(format!("1 case {one}: {}", self.first)),
            count => Some(format!("{count} cases {many}, first {}", self.first)),
        }
    }
}

/// A run in progress.
struct Open<'s> {
    run: Run,
    suite: &'s HashMap<String, &'static Case>,
    /// Index of each case's result.
    places: HashMap<&'s str, usize>,
    invented: Wrong,
    repeated: Wrong,
    unannounced: Wrong,
}

impl<'s> Open<'s> {
    fn new(suite: &'s HashMap<String, &'static Case>, version: u32, words: &str) -> Self {
        let mut problems = Vec::new();
        if version != protocol::VERSION {
            let known = protocol::VERSION;
            problems.push(format!(
                "the guest speaks version {version} of the protocol, and this hv version {known}: build the guest \
                 from the same sources"
            ));
        }
        if words.len() > MOST_BYTES {
            problems.push(format!("the line with the run's plan has {} bytes", words.len()));
        }
        let pairs = start(words).split(' ').filter_map(|word| word.split_once('='));
        let setting: BTreeMap<_, _> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let run = Run { setting, results: Vec::new(), problems };
        let [invented, repeated, unannounced] = std::array::from_fn(|_| Wrong::default());
        Self { run, suite, places: HashMap::new(), invented, repeated, unannounced }
    }

    /// Records the start of a case.
    fn begin_case(&mut self, name: &str) {
        let Some((name, case)) = self.suite.get_key_value(name) else {
            self.invented.add(name);
            return;
        };
        if self.places.insert(name, self.run.results.len()).is_some() {
            self.repeated.add(name);
            return;
        }
        let source = format!("{}, \"{}\"", case.page, case.section);
        self.run.results.push(Result { name: name.clone(), verdict: Verdict::Stopped, source });
    }

    fn end_case(&mut self, name: &str, verdict: Verdict) {
        let result = self.places.get(name).and_then(|&place| self.run.results.get_mut(place));
        match result {
            Some(result) if result.verdict == Verdict::Stopped => result.verdict = verdict,
            _ => self.unannounced.add(name),
        }
    }

    /// Compares what ran with the plan.
    fn check_plan(&mut self) {
        let Some(filter) = self.run.setting.get("filter").cloned() else {
            self.run.problems.push("the run begins without a plan (filter=)".to_owned());
            return;
        };
        let mut missing = Wrong::default();
        let mut planned = 0usize;
        for case in cases().filter(|case| matches(case, &filter)) {
            planned += 1;
            let name = format!("{case:?}");
            if !self.places.contains_key(name.as_str()) {
                missing.add(&name);
            }
        }
        let beyond = (self.places.len() as u64 + missing.count).saturating_sub(planned as u64);
        if beyond != 0 {
            self.run.problems.push(format!("{beyond} cases ran that filter={filter:?} does not mean"));
        }
        let announced = self.run.setting.get("cases").and_then(|cases| cases.parse::<usize>().ok());
        if announced != Some(planned) {
            let announced = announced.map_or("no number of".to_owned(), |cases| cases.to_string());
            self.run.problems.push(format!(
                "the guest announced {announced} cases, and this suite has {planned} for filter={filter:?}: build \
                 the guest from the same sources"
            ));
        }
        self.run.problems.extend(missing.problem("of the plan did not run", "of the plan did not run"));
    }

    /// Returns the run, at its end or where it was cut off.
    fn close(mut self, end: Option<Totals>) -> Run {
        let [invented, repeated, unannounced] =
            [&mut self.invented, &mut self.repeated, &mut self.unannounced].map(std::mem::take);
        let problems = [
            invented.problem("is not of this suite", "are not of this suite"),
            repeated.problem("began again", "began again"),
            unannounced.problem("ended without having begun", "ended without having begun"),
        ];
        self.run.problems.extend(problems.into_iter().flatten());
        match end {
            Some(totals) => {
                self.check_plan();
                if totals != self.run.totals() {
                    let problem = "the guest counted other numbers of cases than its lines show";
                    self.run.problems.push(problem.to_owned());
                }
            }
            None => self.run.problems.push("the run has no end".to_owned()),
        }
        self.run
    }
}

impl Report {
    /// Collects the runs in console output. A run is complete only if it shows each case of its plan once, and no
    /// other.
    #[must_use]
    pub fn from_console(text: &str) -> Self {
        let suite = suite();
        let mut report = Self::default();
        let mut open: Option<Open<'_>> = None;
        for event in text.lines().filter_map(protocol::parse) {
            if let Event::Begin { version, setting } = event {
                report.runs.extend(open.take().map(|open| open.close(None)));
                if report.runs.len() == MOST_RUNS {
                    let problem =
                        format!("more than {MOST_RUNS} runs are in one text: give each file by itself");
                    report.runs.push(Run { problems: vec![problem], ..Run::default() });
                    return report;
                }
                open = Some(Open::new(&suite, version, setting));
                continue;
            }
            let Some(run) = &mut open else { continue };
            match event {
                Event::Run(name) => run.begin_case(name),
                Event::Pass(name) => run.end_case(name, Verdict::Passed),
                Event::Fail(name, what) => run.end_case(name, Verdict::Failed(what.to_owned())),
                Event::Skip(name, why) => run.end_case(name, Verdict::Skipped(why.to_owned())),
                Event::End(totals) => report.runs.extend(open.take().map(|open| open.close(Some(totals)))),
                Event::Begin { .. } => {}
            }
        }
        report.runs.extend(open.map(|open| open.close(None)));
        report
    }

    /// Adds a problem if a run was of other cases than those that `filter` selects.
    pub fn expect_filter(&mut self, filter: &str) {
        for run in &mut self.runs {
            let ran = run.setting.get("filter").map_or("", String::as_str);
            if ran != filter {
                run.problems.push(format!("the run was of filter={ran:?}, and {filter:?} was asked for"));
            }
        }
    }
}
