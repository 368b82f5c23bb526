//! `hv conformance --mutants`: the suite itself under test.

mod copy;
mod hunt;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use hv_conformance::mutants::{Mutant, mutants};
use serde::Serialize;

use hunt::Findings;
use hv_setup::exit::Exit;
use hv_setup::{output, ui};

/// Run the conformance suite in process against hosts of which each does one thing wrong
///
/// Names the mutants that no case catches. `cargo hv conformance --mutants` starts this.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only mutants with one of these words in their name or source file
    #[arg(value_name = "WORDS", default_value = "", hide_default_value = true)]
    words: String,
    /// Form of the report
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// File for the report in place of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// List the mutants and run nothing
    #[arg(long)]
    list: bool,
}

/// Form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Text,
    /// JSON
    Json,
}

/// How many of 100 mutants may survive.
const TOLERATED: usize = 5;

/// The facts about a mutant.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    what: &'static str,
    file: &'static str,
    /// The first case that failed, and the failed check.
    caught_by: Option<String>,
    detail: Option<String>,
    /// Number of cases that failed.
    cases: usize,
    /// Why no case can catch it, from the table.
    survives: Option<&'static str>,
}

/// The hunt's result.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Version of the JSON.
    schema: u32,
    total: usize,
    caught: usize,
    survived: usize,
    seconds: f64,
    mutants: Vec<Row>,
    /// Cases that failed on no mutant. Only of a hunt for all of them.
    idle_cases: Option<Vec<String>>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let words = &*args.words;
    let chosen: Vec<(usize, &'static Mutant)> =
        mutants().enumerate().filter(|(_, mutant)| matches(mutant, words)).collect();
    if chosen.is_empty() {
        bail!("no mutant has {words} in its name or file; --mutants --list lists them all");
    }
    if args.list {
        let lines: String =
            chosen.iter().map(|(_, mutant)| format!("{}\n    {}\n", mutant.name, mutant.what)).collect();
        ui::out(&format!("{lines}{} mutants\n", chosen.len()));
        return Ok(Exit::Success);
    }
    if let Some(file) = &args.output {
        output::check_unless_stdout("report", "--output", file)?;
    }
    let program = copy::build()?;
    let begin = Instant::now();
    let found = hunt::hunt(&program, &chosen)?;
    let outcome = Outcome::new(&chosen, &found, begin.elapsed());
    let text = match args.format {
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&outcome)?),
        Format::Text => outcome.text(),
    };
    output::publish("report", args.output.as_deref(), &text)?;
    Ok(if outcome.wrong().is_empty() { Exit::Success } else { Exit::Failed })
}

fn matches(mutant: &Mutant, words: &str) -> bool {
    let mut words = words.split(',').filter(|word| !word.is_empty()).peekable();
    words.peek().is_none() || words.any(|word| mutant.name.contains(word) || mutant.file.contains(word))
}

impl Outcome {
    fn new(
        chosen: &[(usize, &'static Mutant)],
        found: &BTreeMap<usize, Findings>,
        elapsed: Duration,
    ) -> Self {
        let row = |&(number, mutant): &(usize, &'static Mutant)| {
            let findings = found.get(&number);
            let first = findings.and_then(Findings::first);
            Row {
                name: mutant.name,
                what: mutant.what,
                file: mutant.file,
                caught_by: first.map(|(case, _)| case.clone()),
                detail: first.map(|(_, what)| what.clone()),
                cases: findings.map_or(0, |findings| findings.0.len()),
                survives: mutant.survives,
            }
        };
        let rows: Vec<Row> = chosen.iter().map(row).collect();
        let caught = rows.iter().filter(|row| row.caught_by.is_some()).count();
        let busy: BTreeSet<&str> =
            found.values().flat_map(|findings| &findings.0).map(|(case, _)| case.as_str()).collect();
        let idle = || {
            let cases = hv_conformance::cases().map(|case| format!("{case:?}"));
            cases.filter(|case| !busy.contains(case.as_str())).collect()
        };
        Self {
            schema: 1,
            total: rows.len(),
            caught,
            survived: rows.len() - caught,
            seconds: elapsed.as_secs_f64(),
            idle_cases: (rows.len() == mutants().count()).then(idle),
            mutants: rows,
        }
    }

    /// Returns the reasons for failure.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for row in &self.mutants {
            match (&row.caught_by, row.survives) {
                (None, None) => wrong.push(format!("{} survives, and the table does not say why", row.name)),
                (Some(case), Some(_)) => {
                    wrong.push(format!("{case} catches {}, which the table says survives", row.name));
                }
                _ => {}
            }
        }
        // A selection of mutants says nothing of the rest.
        let Some(idle) = &self.idle_cases else { return wrong };
        wrong.extend(idle.iter().map(|case| format!("no mutant makes {case} fail")));
        if self.survived * 100 > self.total * TOLERATED {
            wrong.push(format!("more than {TOLERATED} of 100 survive"));
        }
        wrong
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for row in &self.mutants {
            if let (Some(case), Some(detail)) = (&row.caught_by, &row.detail) {
                let s = if row.cases == 1 { "" } else { "s" };
                let _ = writeln!(text, "{}: {}", row.name, row.what);
                let _ = writeln!(text, "    caught by {} case{s}, first {case}\n    {detail}", row.cases);
            }
        }
        if self.survived != 0 {
            let _ = writeln!(text, "\nMutants that no case catches:");
        }
        for row in self.mutants.iter().filter(|row| row.caught_by.is_none()) {
            let _ = writeln!(text, "{}: {}", row.name, row.what);
            let _ = writeln!(text, "    {}", row.survives.unwrap_or("unexplained"));
        }
        for line in self.wrong() {
            let _ = writeln!(text, "error: {line}");
        }
        let Self { total, caught, survived, seconds, .. } = self;
        let _ = writeln!(text, "\n{total} mutants: {caught} caught, {survived} survived, {seconds:.1} s");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAUGHT: Mutant = Mutant {
        name: "eom_ignored",
        what: "EOM is ignored.",
        file: "hv-host/src/delivery.rs",
        right: "a",
        context: None,
        wrong: "b",
        survives: None,
    };
    const EXPLAINED: Mutant = Mutant { name: "quiet", survives: Some("no case can see it"), ..CAUGHT };

    fn outcome(mutants: &[(usize, &'static Mutant)], caught: &[usize]) -> Outcome {
        let findings = || Findings(vec![("messages/x".to_owned(), "x.rs:1: wrong".to_owned())]);
        let found = mutants.iter().map(|&(number, _)| {
            (number, if caught.contains(&number) { findings() } else { Findings::default() })
        });
        Outcome::new(mutants, &found.collect(), Duration::from_secs(1))
    }

    #[test]
    fn a_survivor_needs_a_reason_and_a_reason_a_survivor() {
        assert_eq!(outcome(&[(0, &CAUGHT), (1, &EXPLAINED)], &[0]).wrong(), [""; 0]);
        assert_eq!(outcome(&[(0, &CAUGHT)], &[]).wrong().len(), 1);
        assert_eq!(outcome(&[(1, &EXPLAINED)], &[1]).wrong().len(), 1);
    }

    #[test]
    fn too_many_survivors_are_wrong_even_with_reasons() {
        let mut outcome = outcome(&[(0, &CAUGHT), (1, &EXPLAINED)], &[0]);
        outcome.idle_cases = Some(Vec::new());
        assert_eq!(outcome.wrong(), ["more than 5 of 100 survive"]);
    }

    #[test]
    fn a_case_that_never_fails_is_wrong() {
        let mut outcome = outcome(&[(0, &CAUGHT)], &[0]);
        outcome.idle_cases = Some(vec!["messages/y".to_owned()]);
        assert_eq!(outcome.wrong(), ["no mutant makes messages/y fail"]);
        assert!(outcome.text().contains("error: no mutant makes messages/y fail\n"));
    }

    #[test]
    fn the_text_names_who_caught_and_who_survived() {
        let text = outcome(&[(0, &CAUGHT), (1, &EXPLAINED)], &[0]).text();
        assert!(text.contains("caught by 1 case, first messages/x\n    x.rs:1: wrong\n"), "{text}");
        assert!(
            text.contains("Mutants that no case catches:\nquiet: EOM is ignored.\n    no case can see it\n")
        );
        assert!(text.ends_with("\n2 mutants: 1 caught, 1 survived, 1.0 s\n"), "{text}");
    }

    #[test]
    fn words_choose_by_name_or_file() {
        assert!(matches(&CAUGHT, "") && matches(&CAUGHT, "x,eom") && matches(&CAUGHT, "delivery.rs"));
        assert!(!matches(&CAUGHT, "timers"));
    }
}
