//! The rows, and what was measured.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::ensure;
use hv_setup::developer::BenchDevicesArgs;
use serde_json::Value;

/// Which figures are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Better {
    More,
    Less,
}

/// A figure that is measured on both sides, if the peer has it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    title: &'static str,
    unit: &'static str,
    better: Better,
    /// How many times as good as the peer's it is to be at least.
    wanted: Option<f64>,
}

impl Row {
    /// Returns whether a ratio is as wanted, if something is wanted.
    fn met(&self, ratio: Option<f64>) -> Option<bool> {
        self.wanted.zip(ratio).map(|(wanted, ratio)| ratio >= wanted)
    }
}

const fn more(name: &'static str, title: &'static str, unit: &'static str, wanted: f64) -> Row {
    Row { name, title, unit, better: Better::More, wanted: Some(wanted) }
}

const fn less(name: &'static str, title: &'static str) -> Row {
    Row { name, title, unit: "us", better: Better::Less, wanted: None }
}

/// All rows, in the order of the table.
pub(super) const ROWS: &[Row] = &[
    more("disk-randread-1", "random reads of 4 KiB, depth 1", "IOPS", 1.5),
    more("disk-randwrite-1", "random writes of 4 KiB, depth 1", "IOPS", 1.5),
    more("disk-randread-32", "random reads of 4 KiB, depth 32", "IOPS", 1.0),
    more("disk-randwrite-32", "random writes of 4 KiB, depth 32", "IOPS", 1.0),
    more("disk-read", "reads of 1 MiB in order, depth 1", "KiB/s", 0.6),
    more("disk-write", "writes of 1 MiB in order, depth 1", "KiB/s", 0.6),
    more("net-send", "TCP from the guest", "kbit/s", 0.7),
    more("net-receive", "TCP to the guest", "kbit/s", 0.7),
    less("socket-byte", "a byte to the guest and back"),
    less("socket-connect", "the same with a connection of its own"),
];

/// Which machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// This one.
    Here,
    /// QEMU alone.
    Peer,
}

/// What one side gave in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    /// Bytes that the device has moved meanwhile, as the other end of it counts them.
    pub(crate) bytes: f64,
}

/// The figures of a run, by their rows' names.
pub(crate) type Figures = BTreeMap<String, Figure>;

/// Returns the part of a guest's script that reads this odd number of figures, a line each, and prints their median.
/// It prints nothing if one is missing: then [`said`] fails.
pub(super) fn median_command(of: usize) -> String {
    let middle = of.div_ceil(2);
    format!("sort -n | awk '/^[0-9.]+$/ {{ v[++n] = $1 }} END {{ if (n == {of}) print v[{middle}] }}'")
}

/// Reads the figures that a guest printed, which must have all of these, each with the bytes that were moved.
pub(crate) fn said(console: &str, names: &[&str]) -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    for line in console.lines() {
        let Some((_, rest)) = line.split_once("bench: ") else { continue };
        let words: Vec<&str> = rest.split_whitespace().collect();
        if let [name, value, bytes] = words[..]
            && let (Ok(value), Ok(bytes)) = (value.parse::<f64>(), bytes.parse::<f64>())
            && value > 0.0
            && bytes > 0.0
        {
            figures.insert(name.to_owned(), Figure { value, bytes });
        }
    }
    let missing: Vec<&str> = names.iter().copied().filter(|name| !figures.contains_key(*name)).collect();
    ensure!(missing.is_empty(), "the guest gave no figure of {}:\n{console}", missing.join(", "));
    Ok(figures)
}

/// The figures of all runs.
#[derive(Debug)]
pub(super) struct Table {
    qemu_version: String,
    runs: u32,
    seconds: u32,
    vps: u32,
    here: Vec<Figures>,
    peer: Vec<Figures>,
    /// Rows of `hv bench`.
    counts: Vec<Value>,
}

/// A row's medians.
struct Medians {
    here: f64,
    peer: Option<f64>,
    /// How many times as good as the peer's it is.
    ratio: Option<f64>,
}

impl Table {
    pub(super) fn new(qemu_version: &str, args: &BenchDevicesArgs) -> Self {
        let (runs, seconds, vps) = (args.runs, args.seconds, args.vps);
        let (here, peer, counts) = (Vec::new(), Vec::new(), Vec::new());
        Self { qemu_version: qemu_version.to_owned(), runs, seconds, vps, here, peer, counts }
    }

    pub(super) fn add(&mut self, side: Side, figures: Figures) {
        match side {
            Side::Here => self.here.push(figures),
            Side::Peer => self.peer.push(figures),
        }
    }

    pub(super) fn count(&mut self, counts: Vec<Value>) {
        self.counts = counts;
    }

    /// Returns the medians of a row; `None` if it was not measured.
    fn of(&self, row: &Row) -> Option<Medians> {
        let all = |runs: &[Figures]| median(values(runs, row).map(|figure| figure.value).collect());
        let (here, peer) = (all(&self.here)?, all(&self.peer));
        let ratio = peer.map(|peer| match row.better {
            Better::More => here / peer,
            Better::Less => peer / here,
        });
        Some(Medians { here, peer, ratio })
    }

    /// Formats the table for programs.
    pub(super) fn json(&self) -> Value {
        let rows = ROWS.iter().filter_map(|row| {
            let Medians { here, peer, ratio } = self.of(row)?;
            let runs = |all: &[Figures]| values(all, row).map(|figure| figure.value).collect::<Vec<_>>();
            let bytes = |all: &[Figures]| values(all, row).map(|figure| figure.bytes).sum::<f64>();
            Some(serde_json::json!({
                "name": row.name,
                "title": row.title,
                "unit": row.unit,
                "here": here,
                "peer": peer,
                "ratio": ratio,
                "wanted": row.wanted,
                "met": row.met(ratio),
                "here_runs": runs(&self.here),
                "peer_runs": runs(&self.peer),
                "here_bytes": bytes(&self.here),
                "peer_bytes": bytes(&self.peer),
            }))
        });
        serde_json::json!({
            "schema": 1,
            "qemu_version": self.qemu_version,
            "vps": self.vps,
            "runs": self.runs,
            "seconds": self.seconds,
            "figures": rows.collect::<Vec<_>>(),
            "counts": self.counts,
        })
    }

    /// Writes the rows of `hv bench`, with what is wanted of them beside them.
    fn write_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.counts.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n{:18}  {:48}  {:>6}  {:>6}", "instructions", "", "here", "wanted")?;
        for count in &self.counts {
            let text = |field: &str| count[field].as_str().unwrap_or_default().to_owned();
            let (here, wanted) = (count["value"].as_f64().unwrap_or(0.0), count["target"].as_f64());
            let verdict = verdict(wanted.map(|wanted| here <= wanted));
            let wanted = wanted.map_or_else(|| "-".to_owned(), |wanted| wanted.to_string());
            writeln!(f, "{:18}  {:48}  {here:>6.0}  {wanted:>6}{verdict}", text("name"), text("title"))?;
        }
        Ok(())
    }
}

/// Returns a row's figures of all runs of a side.
fn values<'a>(runs: &'a [Figures], row: &Row) -> impl Iterator<Item = Figure> + 'a {
    let name = row.name;
    runs.iter().filter_map(move |run| run.get(name).copied())
}

/// Returns the word behind a figure of which something is wanted.
fn verdict(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "  met",
        Some(false) => "  missed",
        None => "",
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "QEMU {}, {} VPs, {} s each, medians of {} runs; peer: virtio-blk, virtio-net and virtio-serial without the hypervisor; \
             ratio: how many times as good\n",
            self.qemu_version, self.vps, self.seconds, self.runs
        )?;
        writeln!(
            f,
            "{:18}  {:37}  {:>9}  {:>9}  {:6}  {:>6}  {:>6}",
            "name", "", "here", "peer", "unit", "ratio", "wanted"
        )?;
        let or_none = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        for row in ROWS {
            let Some(Medians { here, peer, ratio }) = self.of(row) else { continue };
            let (verdict, peer) = (verdict(row.met(ratio)), or_none(peer, 0));
            let wanted = row.wanted.map_or_else(|| "-".to_owned(), |wanted| wanted.to_string());
            let ratio = or_none(ratio, 2);
            writeln!(
                f,
                "{:18}  {:37}  {here:>9.0}  {peer:>9}  {:6}  {ratio:>6}  {wanted:>6}{verdict}",
                row.name, row.title, row.unit
            )?;
        }
        self.write_counts(f)
    }
}

/// Returns the median; of an even number the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let high = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(*values.get(middle - 1)?, high) } else { high })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["disk-read", "disk-write"];

    #[test]
    fn a_median_is_the_middle_whatever_the_order() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn a_guest_tells_no_median_of_fewer_figures() {
        let told = |figures: &str| {
            let script = format!("printf '{figures}' | {}", median_command(3));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(told("30\\n9.5\\n100\\n"), "30\n");
        for fewer in ["30\\n100\\n", "30\\n100\\nfio: no such file\\n", "", "30\\n\\n100\\n"] {
            assert_eq!(told(fewer), "", "{fewer}");
        }
    }

    #[test]
    fn a_guest_says_each_figure() {
        let figures =
            said("[ 1.0] x\r\nbench: disk-read 12 4096\r\nbench: disk-write 3.5 512\r\n", &NAMES).unwrap();
        assert_eq!((figures["disk-write"].value, figures["disk-write"].bytes), (3.5, 512.0));
        let error = said("bench: disk-read 12 0\nbench: disk-write  512\n", &NAMES).unwrap_err().to_string();
        assert!(error.contains("disk-read, disk-write"), "{error}");
    }

    fn table(here: &[(&str, f64)], peer: &[(&str, f64)]) -> Table {
        let args =
            BenchDevicesArgs { filter: String::new(), list: false, runs: 1, seconds: 1, vps: 1, json: None };
        let mut table = Table::new("7.2", &args);
        let figures = |all: &[(&str, f64)]| {
            let figure = |value| Figure { value, bytes: 8.0 };
            all.iter().map(|(name, value)| ((*name).to_owned(), figure(*value))).collect()
        };
        table.add(Side::Here, figures(here));
        table.add(Side::Peer, figures(peer));
        table
    }

    #[test]
    fn a_ratio_below_what_is_wanted_is_missed() {
        let table = table(
            &[("disk-randread-1", 140.0), ("disk-write", 60.0)],
            &[("disk-randread-1", 100.0), ("disk-write", 100.0)],
        );
        let text = table.to_string();
        let ends: Vec<&str> = text.lines().filter(|line| line.starts_with("disk-")).collect();
        assert!(ends[0].ends_with("1.40     1.5  missed"), "{text}");
        assert!(ends[1].ends_with("0.60     0.6  met"), "{text}");
        let json = &table.json()["figures"];
        assert_eq!((&json[0]["ratio"], &json[0]["met"]), (&1.4.into(), &false.into()));
        assert_eq!((&json[1]["met"], &json[1]["here_bytes"]), (&true.into(), &8.0.into()));
    }

    #[test]
    fn less_time_is_better_and_a_peer_may_have_no_such_figure() {
        let table = table(&[("socket-byte", 50.0), ("socket-connect", 900.0)], &[("socket-byte", 100.0)]);
        let text = table.to_string();
        let ends: Vec<&str> = text.lines().filter(|line| line.starts_with("socket-")).collect();
        assert!(ends[0].ends_with("us        2.00       -"), "{text}");
        assert!(ends[1].ends_with("900          -  us           -       -"), "{text}");
    }

    #[test]
    fn counts_have_what_is_wanted_beside_them() {
        let mut table = table(&[], &[]);
        table.count(vec![
            serde_json::json!({"name": "disk-read-bare", "title": "a read", "value": 2600.0, "target": 2500.0}),
            serde_json::json!({"name": "disk-read", "title": "a read", "value": 3000.0, "target": null}),
        ]);
        let text = table.to_string();
        let ends: Vec<&str> = text.lines().filter(|line| line.starts_with("disk-")).collect();
        assert!(ends[0].ends_with("2600    2500  missed") && ends[1].ends_with("3000       -"), "{text}");
    }
}
