//! The formats: text, TAP, JUnit XML, JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Write as _};

use super::{Report, Result, Run, Verdict};
use crate::suite::Totals;

/// Text in an XML element or attribute: special characters are written as references, and U+FFFD replaces characters
/// that no document may contain (XML 1.0, "Characters": the production Char).
#[derive(Clone, Copy, Debug)]
pub struct Xml<'a>(pub &'a str);

impl Display for Xml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&apos;")?,
                // An attribute with one of these would be read back as spaces; characters that control a terminal or
                // the text direction are shown as numbers.
                '\t'
                | '\n'
                | '\r'
                | '\u{7f}'..='\u{9f}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}' => write!(f, "&#x{:x};", u32::from(c))?,
                '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{1_0000}'.. => f.write_char(c)?,
                _ => f.write_char('\u{fffd}')?,
            }
        }
        Ok(())
    }
}

/// Text on one line of TAP, where `#` begins a directive.
struct Tap<'a>(&'a str);

impl Display for Tap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '#' => f.write_str("\\#"),
            '\\' => f.write_str("\\\\"),
            '\n' | '\r' => f.write_char(' '),
            _ => f.write_char(c),
        })
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

impl Run {
    /// Formats the results chapter by chapter.
    fn chapters(&self, out: &mut String) -> fmt::Result {
        let mut chapters: Vec<(&str, [usize; 3])> = Vec::new();
        for Result { name, verdict, .. } in &self.results {
            let chapter = name.split('/').next().unwrap_or(name);
            if chapters.last().is_none_or(|(last, _)| *last != chapter) {
                chapters.push((chapter, [0; 3]));
            }
            let column = match verdict {
                Verdict::Passed => 0,
                Verdict::Failed(_) | Verdict::Stopped => 1,
                Verdict::Skipped(_) => 2,
            };
            if let Some((_, counts)) = chapters.last_mut() {
                counts[column] += 1;
            }
        }
        for (chapter, [passed, failed, skipped]) in chapters {
            write!(out, "  {chapter:<20} {passed:>3} passed")?;
            if failed != 0 {
                write!(out, ", {failed} FAILED")?;
            }
            if skipped != 0 {
                write!(out, ", {skipped} skipped")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// Formats the failures.
    fn failures(&self, out: &mut String) -> fmt::Result {
        for Result { name, verdict, source } in &self.results {
            match verdict {
                Verdict::Failed(what) => writeln!(out, "FAILED {name}\n    {what}")?,
                Verdict::Stopped => writeln!(out, "FAILED {name}\n    the guest stopped here")?,
                Verdict::Passed | Verdict::Skipped(_) => continue,
            }
            writeln!(out, "    see {source}")?;
        }
        self.problems.iter().try_for_each(|problem| writeln!(out, "FAILED: {problem}"))
    }

    fn junit(&self, out: &mut String) -> fmt::Result {
        let totals = self.totals();
        let title = self.title();
        writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">",
            Xml(&title),
            self.results.len(),
            totals.failed,
            self.problems.len(),
            totals.skipped
        )?;
        writeln!(out, "    <properties>")?;
        for (key, value) in &self.setting {
            writeln!(out, "      <property name=\"{}\" value=\"{}\"/>", Xml(key), Xml(value))?;
        }
        writeln!(out, "    </properties>")?;
        for Result { name, verdict, source } in &self.results {
            let (chapter, case) = name.split_once('/').unwrap_or(("", name));
            write!(out, "    <testcase classname=\"{}\" name=\"{}\"", Xml(chapter), Xml(case))?;
            match verdict {
                Verdict::Passed => writeln!(out, "/>")?,
                Verdict::Skipped(why) => {
                    writeln!(out, "><skipped message=\"{}\"/></testcase>", Xml(why))?;
                }
                Verdict::Failed(what) => {
                    writeln!(
                        out,
                        "><failure message=\"{}\">{}</failure></testcase>",
                        Xml(what),
                        Xml(source)
                    )?;
                }
                Verdict::Stopped => writeln!(
                    out,
                    "><failure message=\"the guest stopped here\">{}</failure></testcase>",
                    Xml(source)
                )?,
            }
        }
        for problem in &self.problems {
            writeln!(
                out,
                "    <testcase classname=\"run\" name=\"whole\"><error message=\"{}\"/></testcase>",
                Xml(problem)
            )?;
        }
        writeln!(out, "  </testsuite>")
    }
}

impl Report {
    /// Formats the report for people: chapter by chapter if there is one run, else a line per run; then failures, and
    /// skipped cases by reason.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let done = self.text_lines(&mut out);
        debug_assert!(done.is_ok(), "a String takes all text");
        out
    }

    fn text_lines(&self, out: &mut String) -> fmt::Result {
        let numbers = |totals: Totals| {
            format!("{} passed, {} failed, {} skipped", totals.passed, totals.failed, totals.skipped)
        };
        for run in &self.runs {
            writeln!(out, "{}: {}", run.title(), numbers(run.totals()))?;
            if self.runs.len() == 1 {
                run.chapters(out)?;
            }
            run.failures(out)?;
        }
        let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for Result { name, verdict, .. } in self.runs.iter().flat_map(|run| &run.results) {
            if let Verdict::Skipped(reason) = verdict {
                reasons.entry(reason).or_default().insert(name);
            }
        }
        for (reason, cases) in reasons {
            writeln!(out, "skipped: {reason} ({} case{})", cases.len(), plural(cases.len()))?;
        }
        let verdict = if self.conforms() { "conforms" } else { "does NOT conform" };
        let runs = self.runs.len();
        writeln!(out, "{runs} run{}: {}; the host {verdict}", plural(runs), numbers(self.totals()))
    }

    /// Formats TAP version 13: one test per case, and one per problem of a run.
    #[must_use]
    pub fn tap(&self) -> String {
        let mut out = String::from("TAP version 13\n");
        let count: usize = self.runs.iter().map(|run| run.results.len() + run.problems.len()).sum();
        let done = writeln!(out, "1..{count}").and_then(|()| self.tap_lines(&mut out));
        debug_assert!(done.is_ok(), "a String takes all text");
        out
    }

    fn tap_lines(&self, out: &mut String) -> fmt::Result {
        let mut number = 0;
        for run in &self.runs {
            writeln!(out, "# {}", Tap(&run.title()))?;
            for Result { name, verdict, source } in &run.results {
                number += 1;
                let name = Tap(name);
                match verdict {
                    Verdict::Passed => writeln!(out, "ok {number} - {name}")?,
                    Verdict::Skipped(why) => writeln!(out, "ok {number} - {name} # SKIP {}", Tap(why))?,
                    Verdict::Failed(what) => writeln!(out, "not ok {number} - {name}\n# {}", Tap(what))?,
                    Verdict::Stopped => writeln!(out, "not ok {number} - {name}\n# the guest stopped here")?,
                }
                if let Verdict::Failed(_) | Verdict::Stopped = verdict {
                    writeln!(out, "# see {source}")?;
                }
            }
            for problem in &run.problems {
                number += 1;
                writeln!(out, "not ok {number} - {}", Tap(problem))?;
            }
        }
        Ok(())
    }

    /// Formats JUnit XML, as CI systems read it: a test suite per run.
    #[must_use]
    pub fn junit(&self) -> String {
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let done = writeln!(out, "<testsuites name=\"hv conformance\">")
            .and_then(|()| self.runs.iter().try_for_each(|run| run.junit(&mut out)))
            .and_then(|()| writeln!(out, "</testsuites>"));
        debug_assert!(done.is_ok(), "a String takes all text");
        out
    }

    /// Formats the whole report as JSON.
    #[must_use]
    pub fn json(&self) -> String {
        #[derive(serde::Serialize)]
        struct Json<'r> {
            /// Version of this format.
            schema: u32,
            #[serde(flatten)]
            report: &'r Report,
        }
        // Strings, numbers and lists only, so JSON can represent everything.
        let mut out = serde_json::to_string_pretty(&Json { schema: 1, report: self }).unwrap_or_default();
        out.push('\n');
        out
    }
}
