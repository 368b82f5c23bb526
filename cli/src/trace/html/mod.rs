//! A trace as a single page for a browser, with no external parts.
//!
//! Everything shown on the page is data in base64, including names and guest text, so nothing in a trace can be markup
//! or a script; the page's scripts (`data.js`, `draw.js`, `page.js`) draw it on a canvas or set it as text. All
//! sections are sequences of LEB128 numbers; `data.rs` documents them.

mod data;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use hv_trace::{NO_VP, Record, What};

use super::args::Filter;
use super::decode::{Decoded, Value};
use super::exits::Exits;
use super::file::Reader;
use super::flows::Flows;
use super::lines::Console;
use super::perfetto::Run;
use super::services::Messages;
use data::Data;

/// Maximum number of records on a page: a browser opens them in seconds.
pub(super) const MOST: usize = 1 << 20;

/// Statistics of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Number of records in it.
    pub(super) records: usize,
    /// Number of records for which it had no room.
    pub(super) cut: u64,
}

/// Writes a page with the records that pass the filter.
pub(super) fn write(
    mut reader: Reader<impl io::Read>,
    filter: &Filter,
    title: &str,
    names: &dyn Fn(u64, u64) -> Option<String>,
    mut out: impl Write,
) -> anyhow::Result<Shown> {
    let run = reader.run().clone();
    let mut page = Page::new(&run, filter);
    for record in reader.by_ref() {
        page.record(&record?);
    }
    page.finish();
    let shown = Shown { records: page.data.records(), cut: page.cut };
    let meta = page.data.meta(reader.run(), title, page.cut, names);
    out.write_all(HEAD.as_bytes())?;
    for (id, bytes) in [
        ("meta", serde_json::to_vec(&meta)?),
        ("records", page.data.record_bytes),
        ("exits", page.data.exit_bytes),
        ("arrows", page.data.arrow_bytes),
    ] {
        let bytes = Base64Display::new(&bytes, &STANDARD);
        writeln!(out, "<script type=\"text/plain\" id=\"{id}\">{bytes}</script>")?;
    }
    out.write_all(TAIL.as_bytes())?;
    out.flush()?;
    Ok(shown)
}

const HEAD: &str = concat!(include_str!("page.html"), "<style>\n", include_str!("page.css"), "</style>\n");
const TAIL: &str = concat!(
    "<script>\n",
    include_str!("data.js"),
    include_str!("draw.js"),
    include_str!("page.js"),
    "</script>\n</body>\n</html>\n"
);

/// A page being built.
struct Page<'r> {
    run: &'r Run,
    filter: &'r Filter,
    data: Data,
    exits: Exits,
    flows: Flows,
    /// By VP: the record of the exit in progress, if it is shown.
    open: Vec<Option<usize>>,
    console: Console,
    messages: Messages,
    last: u64,
    cut: u64,
}

impl<'r> Page<'r> {
    fn new(run: &'r Run, filter: &'r Filter) -> Self {
        Self {
            run,
            filter,
            data: Data::default(),
            exits: Exits::default(),
            flows: Flows::default(),
            open: vec![None; run.vps as usize],
            console: Console::default(),
            messages: Messages::default(),
            last: run.origin,
            cut: 0,
        }
    }

    fn record(&mut self, record: &Record) {
        self.last = record.time;
        if matches!(record.what, What::Console { .. }) {
            let line = self.console.feed(record);
            return self.said(line);
        }
        let flows = self.flows.feed(record);
        if let Some(exit) = self.exits.feed(record) {
            self.end_exit(exit.began.vp, exit.end, &exit.name);
        }
        if let What::Exit { vectors, .. } = record.what {
            self.data.vectors = vectors;
        }
        // The end of an exit is shown as its duration.
        if matches!(record.what, What::Enter {}) {
            return;
        }
        let passed = self.filter.pass(self.run, record, &mut self.messages);
        let shown = passed.and_then(|(time, decoded)| self.show(time, record.vp, decoded));
        if let (What::Exit { .. }, Some(open)) = (record.what, self.open.get_mut(record.vp as usize)) {
            *open = shown;
        }
        let exit = self.open.get(record.vp as usize).copied().flatten();
        for flow in flows.new {
            self.data.flow(flow, exit);
        }
        for flow in flows.through {
            self.data.flow(flow, shown);
        }
        for flow in flows.end {
            self.data.flow(flow, shown);
            self.data.end_flow(flow);
        }
    }

    /// Puts a record on the page, if there is room; returns `None` if there is not.
    fn show(&mut self, time: u64, vp: u32, decoded: Decoded) -> Option<usize> {
        if self.data.records() == MOST {
            self.cut += 1;
            return None;
        }
        Some(self.data.record(time, vp, decoded))
    }

    fn end_exit(&mut self, vp: u32, end: u64, name: &str) {
        if let Some(index) = self.open.get_mut(vp as usize).and_then(Option::take) {
            self.data.exit(index, self.run.nanoseconds(end), name);
        }
    }

    /// Puts a line of the console on the page.
    fn said(&mut self, line: Option<(u64, Decoded)>) {
        let Some((time, Decoded { kind, name, .. })) = line else { return };
        // An inline text: interned names are kept and counted.
        let decoded = Decoded { kind, name: String::new(), fields: vec![("text", Value::Text(name))] };
        let time = self.run.nanoseconds(time);
        if self.filter.takes(time, NO_VP, &decoded) {
            self.show(time, NO_VP, decoded);
        }
    }

    fn finish(&mut self) {
        let line = self.console.end();
        self.said(line);
        let open: Vec<_> = std::mem::take(&mut self.exits).finish(self.last).collect();
        for exit in open {
            self.end_exit(exit.began.vp, exit.end, &exit.name);
        }
        self.data.close();
    }
}
