//! `hv trace`: a trace as text, filtered, or as statistics.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hv_trace::{Kind, NO_VP, Record};
use hv_wire::platform::MAX_VPS;
use serde_json::{Map, Value as Json, json};

use super::decode::{self, Decoded, Value};
use super::exits::{Exit as Ended, Exits};
use super::file::{Packets, Reader};
use super::lines::{self, Joined};
use super::perfetto::{PlanRule, Run};
use super::requests::{Answered, Requests};
use super::services::Messages;
use super::summary::Gathered;
use super::{html, judge};
use crate::exit::Exit;
use crate::input::Input;
use crate::output::{self, Pending};
use crate::report::{self, fired};
use crate::setup::value;
use crate::symbols::Symbols;
use crate::ui;

/// Print what `hv boot --trace` recorded
///
/// Prints a line for each exit with its subject, and for each other record: guest time in seconds, VP, kind, subject,
/// and values by name. --html creates a page for a browser; the file itself opens in Perfetto (ui.perfetto.dev) as
/// well.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub(crate) struct Args {
    /// The trace
    #[arg(value_name = "FILE|-")]
    file: Input,
    /// Only these VPs
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = value::whole::<u32>(0..=MAX_VPS as u64 - 1, ""))]
    vp: Vec<u32>,
    /// Only records of these kinds, or whose kinds begin with these words
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = parse_kind)]
    kind: Vec<String>,
    /// Only records with this text in their name or in one of their values, case-insensitively
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Only records from this guest time on: seconds, or a number with s, ms, us or ns
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<u64>,
    /// Only records up to this guest time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to: Option<u64>,
    /// Print each record on a line of its own: exit, subject, and return
    #[arg(long)]
    records: bool,
    /// Write a page for a browser, containing everything: a lane for each VP, arrows, search
    #[arg(long, value_name = "FILE", conflicts_with_all = ["records", "json", "summary"])]
    html: Option<PathBuf>,
    /// Symbols for guest addresses on the page: an ELF file or a System.map; the trace contains those known to `hv
    /// boot`
    #[arg(long, value_name = "FILE|-", requires = "html")]
    symbols: Option<Input>,
    /// Check the guest against the rules of `hv boot --strict`, using the records; list the rules
    /// that records cannot decide
    #[arg(long, conflicts_with_all = ["vp", "kind", "name", "from", "to", "summary", "records", "html"])]
    strict: bool,
    /// Print statistics only: records by kind, and durations of exits, by cause and by subject
    #[arg(long)]
    summary: bool,
    /// Print JSON, one object per line (a single one with --summary or --check)
    #[arg(long)]
    json: bool,
    /// Only check whether the file is a valid trace
    #[arg(long, conflicts_with_all = ["vp", "kind", "name", "from", "to", "summary"])]
    check: bool,
}

fn help() -> String {
    let mut kinds = String::from("Kinds:\n ");
    let mut width = 1;
    for label in decode::labels() {
        if width + label.len() > 100 {
            kinds.push_str("\n ");
            width = 1;
        }
        kinds.push(' ');
        kinds.push_str(label);
        width += label.len() + 1;
    }
    format!(
        "{kinds}\n
Examples:
  cargo hv boot --devices heartbeat --trace boot.pftrace
  cargo hv trace boot.pftrace --kind hypercall,register
  cargo hv trace boot.pftrace --vp 1 --from 350ms --to 0.4
  cargo hv trace boot.pftrace --name offerchannel
  cargo hv trace boot.pftrace --summary
  cargo hv trace boot.pftrace --html boot.html
  cargo hv trace boot.pftrace --strict

Exit codes: 0 success, 2 a bad option, or an invalid trace"
    )
}

fn parse_kind(text: &str) -> Result<String, String> {
    if decode::labels().any(|label| is_kind(label, text)) {
        return Ok(text.to_owned());
    }
    Err(format!("expected one of: {}", decode::labels().collect::<Vec<_>>().join(", ")))
}

/// Returns true if the label is this kind, or begins with it as a word.
fn is_kind(label: &str, kind: &str) -> bool {
    label.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Parses a time in nanoseconds.
fn parse_time(text: &str) -> Result<u64, String> {
    let expected = || "expected seconds, or a number with s, ms, us or ns, such as 350ms".to_owned();
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let digits = match &text[number.len()..] {
        "" | "s" => 9,
        "ms" => 6,
        "us" => 3,
        "ns" => 0,
        _ => return Err(expected()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(part) || (number.contains('.') && part.is_empty())
    {
        return Err(expected());
    }
    // Fractions of a nanosecond are dropped.
    let part: String = part.chars().chain("000000000".chars()).take(digits).collect();
    format!("{whole}{part}").parse().map_err(|_| "it is too large: expected less than 584 years".to_owned())
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.check {
        let found = super::check(&args.file)?;
        if args.json {
            ui::out(&(serde_json::to_string(&found.json())? + "\n"));
            return Ok(Exit::Success);
        }
        ui::out(&format!(
            "a valid trace: {} records, {} dropped, {} left out; {} slices, {} instants, {} flows\n",
            found.run.all_recorded().saturating_sub(found.run.all_left_out()),
            found.run.all_dropped(),
            found.run.all_left_out(),
            found.slices,
            found.instants,
            found.flows
        ));
        return Ok(Exit::Success);
    }
    let reader = Reader::new(Packets::open(&args.file)?)
        .with_context(|| format!("cannot read the trace {}", args.file))?;
    if args.strict {
        let verdict = judge::judge(reader).with_context(|| format!("cannot judge {}", args.file))?;
        ui::out(&if args.json { serde_json::to_string(&verdict)? + "\n" } else { verdict.to_string() });
        return Ok(Exit::Success);
    }
    let filter = Filter::new(args);
    if let Some(page) = &args.html {
        return write_page(args, reader, &filter, page);
    }
    let explain = || format!("cannot print {}", args.file);
    if args.summary {
        let summary = filter.summary(reader).with_context(explain)?;
        ui::out(&if args.json { serde_json::to_string(&summary)? + "\n" } else { summary.to_string() });
        return Ok(Exit::Success);
    }
    let form = match (args.json, args.records) {
        (true, _) => Form::Json,
        (false, true) => Form::Records,
        (false, false) => Form::Joined,
    };
    match filter.print(reader, BufWriter::new(ui::Output::default()), form) {
        // The reader has seen enough.
        Err(error)
            if error
                .downcast_ref()
                .is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            Ok(Exit::Success)
        }
        result => result.map(|()| Exit::Success).with_context(explain),
    }
}

/// Writes a page for a browser.
fn write_page(
    args: &Args,
    reader: Reader<impl io::Read>,
    filter: &Filter,
    page: &Path,
) -> anyhow::Result<Exit> {
    output::check("page", "--html", page)?;
    let symbols = args.symbols.as_ref().map(Symbols::read).transpose()?.unwrap_or_default();
    let names = |pc, vectors| report::place(&symbols, pc, vectors);
    let title = args.file.to_string();
    let title =
        Path::new(&title).file_name().map_or_else(|| title.clone(), |name| name.to_string_lossy().into());
    let explain = || format!("cannot write the page {}", page.display());
    let mut out = BufWriter::new(Pending::new(page).with_context(explain)?);
    let shown = html::write(reader, filter, &title, &names, &mut out).with_context(explain)?;
    let out = out.into_inner().map_err(|error| error.into_error());
    out.and_then(Pending::commit).with_context(explain)?;
    if shown.cut != 0 {
        ui::note(&format!(
            "the page has {} records, and no room for {} more: narrow it down with --from, --to, --vp or --kind",
            shown.records, shown.cut
        ));
    }
    Ok(Exit::Success)
}

/// Form in which records are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An exit and its subject on one line.
    Joined,
    /// Each record on its own line.
    Records,
    /// Each record as an object.
    Json,
}

/// Selection of records.
#[derive(Debug, Default)]
pub(super) struct Filter {
    vps: Vec<u32>,
    kinds: Vec<String>,
    name: Option<String>,
    from: Option<u64>,
    to: Option<u64>,
}

impl Filter {
    fn new(args: &Args) -> Self {
        Self {
            vps: args.vp.clone(),
            kinds: args.kind.clone(),
            name: args.name.as_ref().map(|name| name.to_lowercase()),
            from: args.from,
            to: args.to,
        }
    }

    /// Creates a filter for a name only.
    #[cfg(test)]
    pub(super) fn named(name: &str) -> Self {
        Self { name: Some(name.to_lowercase()), ..Self::default() }
    }

    fn has_time(&self, nanoseconds: u64) -> bool {
        self.from.is_none_or(|from| from <= nanoseconds) && self.to.is_none_or(|to| nanoseconds <= to)
    }

    fn has_vp(&self, vp: u32) -> bool {
        self.vps.is_empty() || self.vps.contains(&vp)
    }

    fn has_kind(&self, label: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|kind| is_kind(label, kind))
    }

    fn has_name(&self, decoded: &Decoded) -> bool {
        let Some(wanted) = &self.name else { return true };
        let has = |text: &str| text.to_lowercase().contains(wanted);
        has(&decoded.name) || decoded.fields.iter().any(|(_, value)| has(&value.to_string()))
    }

    /// Returns the record in words, if it is selected. `messages` has seen the records before it.
    pub(super) fn pass(&self, run: &Run, record: &Record, messages: &mut Messages) -> Option<(u64, Decoded)> {
        let message = messages.feed(record);
        let time = run.nanoseconds(record.time);
        if !self.has_time(time) || !self.has_vp(record.vp) {
            return None;
        }
        if !self.has_kind(decode::label(&record.what)) {
            return None;
        }
        let decoded = decode::decode_part(&record.what, message);
        self.has_name(&decoded).then_some((time, decoded))
    }

    /// Returns true if a record composed by the tool, of this time, is selected.
    pub(super) fn takes(&self, time: u64, vp: u32, decoded: &Decoded) -> bool {
        self.has_time(time) && self.has_vp(vp) && self.has_kind(decoded.kind) && self.has_name(decoded)
    }

    /// Returns true for an exit that is selected.
    fn has_exit(&self, run: &Run, exit: &Ended) -> bool {
        let named = self.name.as_ref().is_none_or(|wanted| exit.name.to_lowercase().contains(wanted));
        let wanted = self.has_time(run.nanoseconds(exit.began.time)) && self.has_vp(exit.began.vp);
        wanted && named && self.has_kind(Kind::Exit.label())
    }

    /// Returns true for a request that is selected; it was answered on this VP.
    fn has_request(&self, run: &Run, vp: u32, request: &Answered) -> bool {
        let has = |wanted: &String| {
            [&request.device, &request.command].iter().any(|text| text.to_lowercase().contains(wanted))
        };
        let wanted = self.has_time(run.nanoseconds(request.to)) && self.has_vp(vp);
        wanted && self.name.as_ref().is_none_or(has) && self.has_kind(Kind::Packet.label())
    }

    /// Prints the selected records.
    pub(super) fn print(
        &self,
        mut reader: Reader<impl io::Read>,
        out: impl Write,
        form: Form,
    ) -> anyhow::Result<()> {
        let mut out = Noticed { out, any: false };
        let mut read = 0_u64;
        let run = reader.run().clone();
        let as_json = form == Form::Json;
        let mut joined = Joined::new(&run, self);
        let mut messages = Messages::default();
        for record in reader.by_ref() {
            let record = record?;
            read += 1;
            if form == Form::Joined {
                joined.feed(&record, &mut out)?;
                continue;
            }
            let Some((time, decoded)) = self.pass(&run, &record, &mut messages) else { continue };
            if as_json {
                serde_json::to_writer(&mut out, &object(time, record.vp, decoded))
                    .map_err(io::Error::from)?;
                writeln!(out)?;
            } else {
                writeln!(out, "{}", lines::line(&run, time, record.vp, &decoded))?;
            }
        }
        joined.finish(&mut out)?;
        if !out.any && read != 0 {
            ui::note(&format!(
                "none of the {read} records is selected; change --kind, --name, --vp, --from or --to"
            ));
        }
        for PlanRule { rule, fired: count } in run.rules.iter().filter(|_| !as_json) {
            writeln!(out, "injected: {rule} {}", fired(*count))?;
        }
        let left_out = reader.run().all_left_out();
        if left_out != 0 && !as_json {
            writeln!(
                out,
                "{left_out} records at the end were dropped: the trace has reached its maximum size"
            )?;
        }
        if run.all_dropped() != 0 && !as_json {
            writeln!(out, "{} records were dropped: the trace is incomplete", run.all_dropped())?;
        }
        Ok(out.flush()?)
    }

    /// Summarizes the selected records.
    fn summary(&self, mut reader: Reader<impl io::Read>) -> anyhow::Result<super::summary::Summary> {
        let run = reader.run().clone();
        let mut gathered = Gathered::default();
        let mut exits = Exits::default();
        let mut requests = Requests::default();
        let mut messages = Messages::default();
        let mut last = 0;
        let count = |gathered: &mut Gathered, exit: &Ended| {
            if self.has_exit(&run, exit) {
                let took = run.nanoseconds(exit.end).saturating_sub(run.nanoseconds(exit.began.time));
                gathered.exit(exit, took)?;
            }
            Ok::<_, anyhow::Error>(())
        };
        for record in reader.by_ref() {
            let record = record?;
            last = record.time;
            if let Some(exit) = exits.feed(&record) {
                count(&mut gathered, &exit)?;
            }
            if let Some(request) = requests.feed(&record)
                && self.has_request(&run, record.vp, &request)
            {
                let took = run.nanoseconds(request.to).saturating_sub(run.nanoseconds(request.from));
                gathered.request(request, took)?;
            }
            if let Some((time, decoded)) = self.pass(&run, &record, &mut messages) {
                gathered.record(decoded.kind, time);
            }
        }
        exits.finish(last).try_for_each(|exit| count(&mut gathered, &exit))?;
        Ok(gathered.summary(reader.run()))
    }
}

/// Formats a record as JSON.
fn object(time: u64, vp: u32, decoded: Decoded) -> Map<String, Json> {
    let mut object = Map::new();
    object.insert("time_ns".into(), json!(time));
    object.insert("vp".into(), json!((vp != NO_VP).then_some(vp)));
    object.insert("kind".into(), json!(decoded.kind));
    object.insert("name".into(), json!(decoded.name));
    let mut fields = Map::new();
    for (name, value) in decoded.fields {
        let value = match value {
            Value::Number(number) => json!(number),
            // As a string: JSON numbers may not represent 64 bits.
            Value::Hex(number) => json!(format!("{number:#x}")),
            Value::Text(text) => json!(text),
        };
        fields.insert(name.into(), value);
    }
    object.insert("values".into(), Json::Object(fields));
    object
}

/// A writer that remembers whether anything was written.
struct Noticed<W> {
    out: W,
    any: bool,
}

impl<W: Write> Write for Noticed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.any |= !bytes.is_empty();
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("1"), Ok(1_000_000_000));
        assert_eq!(parse_time("0.35"), Ok(350_000_000));
        assert_eq!(parse_time("350ms"), Ok(350_000_000));
        assert_eq!(parse_time("1.5us"), Ok(1500));
        assert_eq!(parse_time("7ns"), Ok(7));
        assert_eq!(parse_time("1.23456789012s"), Ok(1_234_567_890));
        for bad in ["", "s", "-1", "1m", "1.", ".5", "1.2.3", "1e9", "99999999999999999999"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn kinds_are_taken_by_their_first_words() {
        assert!(parse_kind("register").is_ok());
        assert!(parse_kind("register-get").is_ok());
        assert!(parse_kind("regi").is_err());
        assert!(parse_kind("").is_err());
        assert!(is_kind("message-end", "message"));
        assert!(!is_kind("vmbus-message", "message"));
    }
}
