//! Statistics of a trace: counts and durations.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use anyhow::ensure;
use serde::Serialize;

use super::exits::Exit;
use super::perfetto::Run;
use super::requests::Answered;
use crate::report::fired;

/// Statistics of a trace, or of the selected part of it.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Version of the JSON.
    schema: u32,
    vps: u32,
    records: u64,
    /// Records lost because a ring was full.
    dropped: u64,
    /// Records at the end for which the file has no room.
    left_out: u64,
    /// Times of the first and the last record.
    from_ns: u64,
    to_ns: u64,
    /// Records by kind.
    kinds: BTreeMap<&'static str, u64>,
    /// The rules of the fault plan, and how often each fired.
    faults: Vec<Struck>,
    /// Durations of exits by cause.
    exits: Vec<Cause>,
    /// Times from requests to their answers, by device.
    requests: Vec<DeviceTimes>,
}

#[derive(Debug, Serialize)]
struct DeviceTimes {
    device: String,
    #[serde(flatten)]
    all: Durations,
    /// By command.
    commands: Vec<Named>,
}

#[derive(Debug, Serialize)]
struct Struck {
    rule: String,
    fired: u64,
}

#[derive(Debug, Serialize)]
struct Cause {
    cause: &'static str,
    #[serde(flatten)]
    all: Durations,
    /// Subjects of the exits; empty if only the cause is known.
    names: Vec<Named>,
}

#[derive(Debug, Serialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    all: Durations,
}

/// Durations in nanoseconds. A percentile is the smallest duration that this percentage of all durations does not
/// exceed.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Durations {
    count: u64,
    total_ns: u64,
    min_ns: u64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    max_ns: u64,
}

/// Collector of the statistics.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    records: u64,
    from: Option<u64>,
    to: u64,
    kinds: BTreeMap<&'static str, u64>,
    exits: BTreeMap<(&'static str, String), Vec<u64>>,
    /// Times of requests, by device and command.
    requests: BTreeMap<(String, String), Vec<u64>>,
    /// Number of exits and requests collected.
    counted: usize,
}

/// Maximum number of exits whose durations are kept, 8 bytes each, whatever the file.
const MOST_EXITS: usize = 1 << 24;
/// Maximum number of exit names, and the name for the rest.
const MOST_NAMES: usize = 1 << 13;
const OTHERS: &str = "(others)";

impl Gathered {
    /// Counts a record.
    pub(super) fn record(&mut self, kind: &'static str, nanoseconds: u64) {
        self.records += 1;
        self.from.get_or_insert(nanoseconds);
        self.to = nanoseconds;
        *self.kinds.entry(kind).or_default() += 1;
    }

    /// Counts an exit; exits with names beyond the first [`MOST_NAMES`] are counted together.
    ///
    /// # Errors
    /// There are more than [`MOST_EXITS`] exits.
    pub(super) fn exit(&mut self, exit: &Exit, nanoseconds: u64) -> anyhow::Result<()> {
        ensure!(
            self.counted < MOST_EXITS,
            "there are more than {MOST_EXITS} exits: narrow them down with --from, --to, --vp or --name"
        );
        self.counted += 1;
        let key = (exit.cause, exit.name.clone());
        if self.exits.len() < MOST_NAMES || self.exits.contains_key(&key) {
            self.exits.entry(key).or_default().push(nanoseconds);
        } else {
            self.exits.entry((exit.cause, OTHERS.to_owned())).or_default().push(nanoseconds);
        }
        Ok(())
    }

    /// Counts a request that was answered after this time; commands beyond the first [`MOST_NAMES`] are counted
    /// together.
    ///
    /// # Errors
    /// There are more than [`MOST_EXITS`] requests and exits.
    pub(super) fn request(&mut self, request: Answered, nanoseconds: u64) -> anyhow::Result<()> {
        ensure!(
            self.counted < MOST_EXITS,
            "there are more than {MOST_EXITS} exits and requests: narrow them down with --from, --to, --vp or --name"
        );
        self.counted += 1;
        let key = (request.device, request.command);
        if self.requests.len() < MOST_NAMES || self.requests.contains_key(&key) {
            self.requests.entry(key).or_default().push(nanoseconds);
        } else {
            self.requests.entry((key.0, OTHERS.to_owned())).or_default().push(nanoseconds);
        }
        Ok(())
    }

    /// Computes the statistics.
    pub(super) fn summary(self, run: &Run) -> Summary {
        let mut causes = BTreeMap::<&'static str, (Vec<u64>, Vec<Named>)>::new();
        for ((cause, name), mut durations) in self.exits {
            let (all, names) = causes.entry(cause).or_default();
            all.extend(&durations);
            if name != cause {
                names.push(Named { name, all: Durations::of(&mut durations) });
            }
        }
        let mut exits: Vec<Cause> = causes
            .into_iter()
            .map(|(cause, (mut all, mut names))| {
                names.sort_by_key(|named| Reverse(named.all.total_ns));
                Cause { cause, all: Durations::of(&mut all), names }
            })
            .collect();
        exits.sort_by_key(|cause| Reverse(cause.all.total_ns));
        let mut devices = BTreeMap::<String, (Vec<u64>, Vec<Named>)>::new();
        for ((device, name), mut durations) in self.requests {
            let (all, commands) = devices.entry(device).or_default();
            all.extend(&durations);
            commands.push(Named { name, all: Durations::of(&mut durations) });
        }
        let requests = devices.into_iter().map(|(device, (mut all, mut commands))| {
            commands.sort_by_key(|named| Reverse(named.all.total_ns));
            DeviceTimes { device, all: Durations::of(&mut all), commands }
        });
        Summary {
            requests: requests.collect(),
            schema: 1,
            vps: run.vps,
            records: self.records,
            dropped: run.all_dropped(),
            left_out: run.all_left_out(),
            from_ns: self.from.unwrap_or_default(),
            to_ns: self.to,
            kinds: self.kinds,
            faults: run
                .rules
                .iter()
                .map(|rule| Struck { rule: rule.rule.clone(), fired: rule.fired })
                .collect(),
            exits,
        }
    }
}

impl Durations {
    fn of(durations: &mut [u64]) -> Self {
        durations.sort_unstable();
        let at = |percent: usize| {
            let rank = (durations.len() * percent).div_ceil(100).max(1);
            durations.get(rank - 1).copied().unwrap_or_default()
        };
        Self {
            count: durations.len() as u64,
            total_ns: durations.iter().fold(0, |sum, &duration| sum.saturating_add(duration)),
            min_ns: durations.first().copied().unwrap_or_default(),
            p50_ns: at(50),
            p90_ns: at(90),
            p99_ns: at(99),
            max_ns: durations.last().copied().unwrap_or_default(),
        }
    }

    fn line(&self, f: &mut Formatter<'_>, name: &str, wide: usize) -> fmt::Result {
        // Microseconds, rounded to tenths.
        let micros = |ns: u64| format!("{}.{}", ns / 1000, ns % 1000 / 100);
        let millis = format!("{}.{:03}", self.total_ns / 1_000_000, self.total_ns / 1000 % 1000);
        write!(f, "{name:wide$} {:>9} {millis:>11}", self.count)?;
        for ns in [self.min_ns, self.p50_ns, self.p90_ns, self.p99_ns, self.max_ns] {
            write!(f, " {:>9}", micros(ns))?;
        }
        writeln!(f)
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = |ns: u64| format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
        writeln!(
            f,
            "{} records of {} VPs from {} s to {} s, {} dropped",
            self.records,
            self.vps,
            seconds(self.from_ns),
            seconds(self.to_ns),
            self.dropped
        )?;
        if self.left_out != 0 {
            writeln!(
                f,
                "{} records at the end were dropped: the trace has reached its maximum size",
                self.left_out
            )?;
        }
        writeln!(f, "\n{:24} {:>9}", "kind", "count")?;
        for (kind, count) in &self.kinds {
            writeln!(f, "{kind:24} {count:>9}")?;
        }
        for Struck { rule, fired: count } in &self.faults {
            writeln!(f, "injected: {rule} {}", fired(*count))?;
        }
        let exits = self.exits.iter().map(|cause| (cause.cause, &cause.all, &cause.names));
        table(f, "exits, us", &exits.collect::<Vec<_>>())?;
        let devices = self.requests.iter().map(|device| (&*device.device, &device.all, &device.commands));
        table(f, "requests, us", &devices.collect::<Vec<_>>())
    }
}

/// A row with its parts below it.
type Row<'r> = (&'r str, &'r Durations, &'r Vec<Named>);

/// Prints durations, if there are any.
fn table(f: &mut Formatter<'_>, title: &str, rows: &[Row<'_>]) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    let names = rows.iter().flat_map(|(.., parts)| parts.iter().map(|named| named.name.len() + 2));
    let wide = names.max().unwrap_or(0).max(24);
    write!(f, "\n{title:wide$} {:>9} {:>11}", "count", "total ms")?;
    for column in ["min", "p50", "p90", "p99", "max"] {
        write!(f, " {column:>9}")?;
    }
    writeln!(f)?;
    for (name, all, parts) in rows {
        all.line(f, name, wide)?;
        for named in *parts {
            named.all.line(f, &format!("  {}", named.name), wide)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hv_trace::Trap;

    use super::*;
    use crate::trace::exits::Exits;
    use crate::trace::samples::*;

    #[test]
    fn percentiles_are_durations_that_occurred() {
        let durations = Durations::of(&mut (1..=200).rev().collect::<Vec<_>>());
        assert_eq!((durations.p50_ns, durations.p90_ns, durations.p99_ns), (100, 180, 198));
        assert_eq!((durations.min_ns, durations.max_ns, durations.total_ns), (1, 200, 20_100));
        let one = Durations::of(&mut [7]);
        assert_eq!((one.p50_ns, one.p99_ns, one.max_ns), (7, 7, 7));
        assert_eq!(Durations::of(&mut []).p50_ns, 0);
    }

    fn summary() -> Summary {
        let mut gathered = Gathered::default();
        let mut exits = Exits::default();
        let run = run();
        let mut records = Vec::new();
        for (time, code, took) in [(2000, 0x5c, 30_000), (50_000, 0x5c, 10_000), (90_000, 0x50, 2_000)] {
            records.push(exit(0, time, Trap::Hvc));
            records.push(hypercall(0, time + 1, code));
            records.push(enter(0, time + took));
        }
        records.extend([exit(1, 95_000, Trap::Abort), enter(1, 95_500)]);
        for record in &records {
            gathered.record(crate::trace::decode::label(&record.what), run.nanoseconds(record.time));
            if let Some(exit) = exits.feed(record) {
                let took = run.nanoseconds(exit.end) - run.nanoseconds(exit.began.time);
                gathered.exit(&exit, took).unwrap();
            }
        }
        gathered.summary(&Run { dropped: vec![3, 4], ..run })
    }

    #[test]
    fn the_text_has_every_kind_cause_and_name() {
        assert_eq!(
            summary().to_string(),
            "\
11 records of 2 VPs from 0.000001000 s to 0.000094500 s, 7 dropped

kind                         count
enter                            4
exit                             4
hypercall                        3

exits, us                     count    total ms       min       p50       p90       p99       max
hvc #1                            3       0.042       2.0      10.0      30.0      30.0      30.0
  HVCALL_POST_MESSAGE             2       0.040      10.0      10.0      30.0      30.0      30.0
  HVCALL_GET_VP_REGISTERS         1       0.002       2.0       2.0       2.0       2.0       2.0
abort                             1       0.000       0.5       0.5       0.5       0.5       0.5
"
        );
    }

    #[test]
    fn more_names_than_are_told_apart_go_together() {
        let mut gathered = Gathered::default();
        for n in 0..3 * MOST_NAMES {
            let began = exits_began();
            let exit = Exit { began, end: 2, cause: "hvc #0", name: format!("function {n:#x}") };
            gathered.exit(&exit, u64::MAX).unwrap();
        }
        let summary = gathered.summary(&run());
        assert_eq!(summary.exits[0].names.len(), MOST_NAMES + 1);
        assert_eq!(
            (summary.exits[0].all.count, summary.exits[0].all.total_ns),
            (3 * MOST_NAMES as u64, u64::MAX)
        );
        let others = summary.exits[0].names.iter().find(|named| named.name == OTHERS).unwrap();
        assert_eq!(others.all.count, 2 * MOST_NAMES as u64);
        let mut full = Gathered { counted: MOST_EXITS, ..Gathered::default() };
        let exit = Exit { began: exits_began(), end: 2, cause: "hvc #0", name: String::new() };
        assert!(full.exit(&exit, 1).unwrap_err().to_string().contains("--from"));
    }

    fn exits_began() -> crate::trace::exits::Began {
        crate::trace::exits::Began { vp: 0, time: 1, syndrome: 0, pc: 0, address: 0 }
    }

    #[test]
    fn the_json_says_the_same() {
        let json = serde_json::to_value(summary()).unwrap();
        assert_eq!(json["dropped"], 7);
        assert_eq!(json["kinds"]["hypercall"], 3);
        assert_eq!(json["exits"][0]["cause"], "hvc #1");
        assert_eq!(json["exits"][0]["names"][0]["name"], "HVCALL_POST_MESSAGE");
        assert_eq!(json["exits"][0]["names"][0]["p90_ns"], 30_000);
        assert_eq!(json["exits"][1]["names"], serde_json::json!([]));
    }
}
