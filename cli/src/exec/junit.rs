//! `--junit`: the command as a test case, in the XML that systems for continuous integration read. There is no
//! standard; the elements and attributes here are those that JUnit's Ant task writes and that GitLab and Jenkins
//! document.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hv_conformance::report::Xml;

use crate::{output, ui};

/// Bytes of each output that are kept, from its end.
const KEPT: usize = 64 << 10;

/// Outcome of the case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The command succeeded.
    Passed,
    /// The command failed, by its status or by a rule that its kernel broke.
    Failed(String),
    /// The command has no result.
    Error(String),
}

/// A command that was run.
#[derive(Debug)]
pub(super) struct Case<'c> {
    /// The command.
    pub(super) name: &'c str,
    /// The group of cases: what the file is called.
    pub(super) class: &'c str,
    /// The kernel that it ran in.
    pub(super) kernel: &'c str,
    pub(super) verdict: Verdict,
    pub(super) took: Duration,
    /// The ends of stdout and stderr.
    pub(super) outputs: [&'c str; 2],
}

/// The ends of a command's outputs.
#[derive(Clone, Debug, Default)]
pub(super) struct Transcript(Arc<Mutex<[Vec<u8>; 2]>>);

impl Transcript {
    /// Adds to an output: 0 is stdout, 1 stderr.
    pub(super) fn add(&self, which: usize, bytes: &[u8]) {
        let mut outputs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(output) = outputs.get_mut(which) else { return };
        output.extend_from_slice(bytes);
        if output.len() > 2 * KEPT {
            output.drain(..output.len() - KEPT);
        }
    }

    /// Returns the outputs as text; what was left out is said.
    pub(super) fn texts(&self) -> [String; 2] {
        let outputs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        [0, 1].map(|which| {
            let all = &outputs[which];
            let end = &all[all.len().saturating_sub(KEPT)..];
            let hint = if end.len() < KEPT { "" } else { "[the beginning is left out]\n" };
            format!("{hint}{}", String::from_utf8_lossy(end))
        })
    }
}

impl Case<'_> {
    /// Writes the file, with the case as its only one.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&self, file: &Path) -> anyhow::Result<()> {
        output::write("JUnit report", file, self.xml().as_bytes())
    }

    fn xml(&self) -> String {
        let (failures, errors) =
            (matches!(self.verdict, Verdict::Failed(_)), matches!(self.verdict, Verdict::Error(_)));
        let time = format!("{:.3}", self.took.as_secs_f64());
        let counts = format!(
            "tests=\"1\" failures=\"{}\" errors=\"{}\" time=\"{time}\"",
            u8::from(failures),
            u8::from(errors)
        );
        let [name, class, kernel] = [self.name, self.class, self.kernel].map(ui::one_line);
        let [name, class, kernel] = [&name, &class, &kernel].map(|text| Xml(text));
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  \
             <testsuite name=\"{kernel}\" {counts}>\n    \
             <testcase classname=\"{class}\" name=\"{name}\" time=\"{time}\">\n{}    \
             </testcase>\n  </testsuite>\n</testsuites>\n",
            self.result()
        )
    }

    /// Returns the elements in the case.
    fn result(&self) -> String {
        let mut elements = String::new();
        let verdict = match &self.verdict {
            Verdict::Passed => None,
            Verdict::Failed(reason) => Some(("failure", reason)),
            Verdict::Error(reason) => Some(("error", reason)),
        };
        if let Some((kind, reason)) = verdict {
            // The first line is what a table shows.
            let message = ui::one_line(reason.lines().next().unwrap_or_default());
            let message = Xml(&message);
            let _ = writeln!(elements, "      <{kind} message=\"{message}\">{}</{kind}>", text(reason));
        }
        for (name, output) in ["system-out", "system-err"].into_iter().zip(self.outputs) {
            if !output.is_empty() {
                let _ = writeln!(elements, "      <{name}>{}</{name}>", text(output));
            }
        }
        elements
    }
}

/// Makes a text one that XML can have and that no terminal obeys where it is shown. Its lines stay lines.
fn text(text: &str) -> String {
    let lines: Vec<String> = ui::printable(text).split('\n').map(|line| Xml(line).to_string()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xml(verdict: Verdict, outputs: [&str; 2]) -> String {
        let case = Case {
            name: "test \"a\" <b>\n",
            class: "clock",
            kernel: "linux & co",
            verdict,
            took: Duration::from_millis(1250),
            outputs,
        };
        case.xml()
    }

    #[test]
    fn a_command_that_succeeds_is_a_case_that_passes() {
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
            <testsuites tests=\"1\" failures=\"0\" errors=\"0\" time=\"1.250\">\n  \
            <testsuite name=\"linux &amp; co\" tests=\"1\" failures=\"0\" errors=\"0\" time=\"1.250\">\n    \
            <testcase classname=\"clock\" name=\"test &quot;a&quot; &lt;b&gt;\\u000a\" time=\"1.250\">\n      \
            <system-out>out</system-out>\n    </testcase>\n  </testsuite>\n</testsuites>\n";
        assert_eq!(xml(Verdict::Passed, ["out", ""]), expected);
    }

    #[test]
    fn what_a_command_prints_stays_in_its_place() {
        let hostile = "</system-out><error/>]]>&\u{1b}[2J\0\u{ffff}\r\nlast";
        let failed = xml(Verdict::Failed("exit status 3\nmore <x>".to_owned()), ["", hostile]);
        assert!(failed.contains("failures=\"1\" errors=\"0\""), "{failed}");
        assert!(
            failed.contains("<failure message=\"exit status 3\">exit status 3\nmore &lt;x&gt;</failure>"),
            "{failed}"
        );
        assert!(
            failed.contains(
                "&lt;/system-out&gt;&lt;error/&gt;]]&gt;&amp;\\u001b[2J\\u0000\u{fffd}\nlast</system-err>"
            ),
            "{failed}"
        );
        let error = xml(Verdict::Error("crash".to_owned()), ["", ""]);
        assert!(
            error.contains("failures=\"0\" errors=\"1\"") && error.contains("<error message=\"crash\">"),
            "{error}"
        );
    }

    #[test]
    fn of_a_long_output_the_end_is_kept() {
        let transcript = Transcript::default();
        for _ in 0..10 {
            transcript.add(0, &[b'x'; KEPT / 2]);
        }
        transcript.add(0, b"last");
        transcript.add(1, b"\xff");
        transcript.add(2, b"nowhere");
        let [out, err] = transcript.texts();
        assert!(out.starts_with("[the beginning is left out]\nx") && out.ends_with("xlast"));
        assert!(out.len() < KEPT + 100 && err == "\u{fffd}");
    }
}
