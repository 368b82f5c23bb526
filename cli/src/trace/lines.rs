//! Records as lines, with an exit, its subject and the return on one line.

use std::collections::VecDeque;
use std::io::{self, Write};

use hv_trace::{Kind, NO_VP, Record, What};

use super::args::Filter;
use super::decode::{self, Decoded, Value};
use super::perfetto::Run;
use super::services::Messages;
use super::words;

/// Maximum number of lines that wait for the end of an exit before them; a longer exit is shown without its end.
const MOST: usize = 1 << 14;

/// Composer of lines. They are printed in the order in which their subjects began.
pub(super) struct Joined<'a> {
    run: &'a Run,
    filter: &'a Filter,
    waiting: VecDeque<Line>,
    /// Number of the first pending line.
    first: usize,
    /// By VP: number of the line of the exit in progress.
    open: Vec<Option<usize>>,
    /// An incomplete console line.
    console: Console,
    messages: Messages,
}

/// A console line composed of its records.
#[derive(Debug, Default)]
pub(super) struct Console(Option<(u64, String)>);

impl Console {
    /// Maximum length of a composed line.
    const MOST: usize = 4096;

    /// Takes a console record; returns the line that it ends, with the time of its first record.
    pub(super) fn feed(&mut self, record: &Record) -> Option<(u64, Decoded)> {
        let What::Console { more, ref text } = record.what else { return None };
        let (_, line) = self.0.get_or_insert_with(|| (record.time, String::new()));
        if line.len() < Self::MOST {
            line.push_str(&words::text(text));
        }
        if more { None } else { self.end() }
    }

    /// Ends the incomplete line, if there is one.
    pub(super) fn end(&mut self) -> Option<(u64, Decoded)> {
        let (time, name) = self.0.take()?;
        Some((time, Decoded { kind: Kind::Console.label(), name, fields: Vec::new() }))
    }
}

enum Line {
    /// A line that is not selected, or is complete.
    Text(Option<String>),
    Exit(Exit),
}

/// An exit in progress.
struct Exit {
    began: Record,
    /// The record with its subject.
    subject: Option<Record>,
    /// One of its records is selected.
    wanted: bool,
}

impl<'a> Joined<'a> {
    pub(super) fn new(run: &'a Run, filter: &'a Filter) -> Self {
        let open = vec![None; run.vps as usize];
        Self {
            run,
            filter,
            waiting: VecDeque::new(),
            first: 0,
            open,
            console: Console::default(),
            messages: Messages::default(),
        }
    }

    /// Takes the next record, and writes the lines that are complete.
    pub(super) fn feed(&mut self, record: &Record, out: &mut impl Write) -> io::Result<()> {
        if matches!(record.what, What::Console { .. }) {
            let line = self.console.feed(record);
            self.said(line);
            return self.flush(MOST, out);
        }
        let vp = record.vp as usize;
        let open = self.open.get(vp).copied().flatten();
        let passed = self.filter.pass(self.run, record, &mut self.messages);
        match (record.what, open) {
            (What::Exit { .. }, _) => {
                self.end(vp, None);
                if let Some(place) = self.open.get_mut(vp) {
                    *place = Some(self.first + self.waiting.len());
                }
                let exit = Exit { began: *record, subject: None, wanted: passed.is_some() };
                self.waiting.push_back(Line::Exit(exit));
            }
            (What::Enter {}, Some(number)) => {
                if let Some(Line::Exit(exit)) = self.waiting.get_mut(number - self.first) {
                    exit.wanted |= passed.is_some();
                }
                self.end(vp, Some(record.time));
            }
            (ref what, open) => {
                let line = open.and_then(|number| self.waiting.get_mut(number - self.first));
                match line {
                    Some(Line::Exit(exit))
                        if exit.subject.is_none() && decode::names_exit(what).is_some() =>
                    {
                        exit.subject = Some(*record);
                        exit.wanted |= passed.is_some();
                    }
                    _ => {
                        let line = passed.map(|(time, decoded)| self.line(time, record.vp, &decoded));
                        self.waiting.push_back(Line::Text(line));
                    }
                }
                if matches!(what, What::VpOffline { .. } | What::VpOnline { .. }) {
                    self.end(vp, Some(record.time));
                }
            }
        }
        self.flush(MOST, out)
    }

    /// Writes all remaining lines.
    pub(super) fn finish(mut self, out: &mut impl Write) -> io::Result<()> {
        let line = self.console.end();
        self.said(line);
        for vp in 0..self.open.len() {
            self.end(vp, None);
        }
        self.flush(0, out)
    }

    /// Adds a console line.
    fn said(&mut self, line: Option<(u64, Decoded)>) {
        let Some((time, decoded)) = line else { return };
        let time = self.run.nanoseconds(time);
        let wanted = self.filter.takes(time, NO_VP, &decoded);
        self.waiting.push_back(Line::Text(wanted.then(|| self.line(time, NO_VP, &decoded))));
    }

    /// Ends the exit of a VP.
    fn end(&mut self, vp: usize, end: Option<u64>) {
        let Some(number) = self.open.get_mut(vp).and_then(Option::take) else { return };
        let Some(Line::Exit(exit)) = self.waiting.get(number - self.first) else { return };
        let text = exit.wanted.then(|| self.exit(exit, end));
        self.waiting[number - self.first] = Line::Text(text);
    }

    /// Writes the complete lines, and keeps at most `most` of the rest.
    fn flush(&mut self, most: usize, out: &mut impl Write) -> io::Result<()> {
        while let Some(line) = self.waiting.front() {
            if let Line::Exit(exit) = line {
                if self.waiting.len() <= most {
                    break;
                }
                let vp = exit.began.vp as usize;
                self.end(vp, None);
            }
            if let Some(Line::Text(Some(text))) = self.waiting.pop_front() {
                writeln!(out, "{text}")?;
            }
            self.first += 1;
        }
        Ok(())
    }

    fn exit(&self, exit: &Exit, end: Option<u64>) -> String {
        let time = self.run.nanoseconds(exit.began.time);
        let Decoded { kind, name, fields } = decode::decode(&exit.began.what);
        let mut decoded = match &exit.subject {
            Some(subject) => {
                let mut decoded = decode::decode(&subject.what);
                decoded.fields.push(("exit", Value::Text(name)));
                let known = |field: &str| decoded.fields.iter().any(|(name, _)| *name == field);
                let rest: Vec<_> =
                    fields.into_iter().filter(|(name, _)| *name == "pc" && !known(name)).collect();
                decoded.fields.extend(rest);
                decoded
            }
            None => Decoded { kind, name, fields },
        };
        if let Some(end) = end {
            let took = self.run.nanoseconds(end).saturating_sub(time);
            decoded.fields.push(("took", Value::Text(format!("{}.{}us", took / 1000, took % 1000 / 100))));
        }
        self.line(time, exit.began.vp, &decoded)
    }

    fn line(&self, time: u64, vp: u32, decoded: &Decoded) -> String {
        line(self.run, time, vp, decoded)
    }
}

/// Formats a record as a line.
pub(super) fn line(run: &Run, time: u64, vp: u32, decoded: &Decoded) -> String {
    let Decoded { kind, name, fields } = decoded;
    let vp = if vp == NO_VP { "-".to_owned() } else { vp.to_string() };
    let mut line = format!("{:>3}.{:09} {vp} {kind:<19} {name}", time / 1_000_000_000, time % 1_000_000_000);
    for (name, value) in fields {
        line.push_str(&format!(" {name}={value}"));
        let place = match value {
            Value::Hex(pc) if matches!(*name, "pc" | "caller" | "caller-2" | "caller-3") => run.place(*pc),
            _ => None,
        };
        if let Some(place) = place {
            line.push_str(&format!(" ({place})"));
        }
    }
    line.truncate(line.trim_end().len());
    line
}
