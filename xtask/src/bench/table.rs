//! The rows, and what was measured.

use std::collections::BTreeMap;
use std::fmt;

use hv_setup::developer::BenchDevicesArgs;

/// A figure that is measured on both sides; more is better.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    title: &'static str,
    unit: &'static str,
    /// The ratio to the peer that is wanted at least.
    wanted: f64,
}

const fn row(name: &'static str, title: &'static str, unit: &'static str, wanted: f64) -> Row {
    Row { name, title, unit, wanted }
}

/// All rows, in the order of the table.
pub(super) const ROWS: &[Row] = &[
    row("disk-randread-1", "random reads of 4 KiB, depth 1", "IOPS", 1.5),
    row("disk-randwrite-1", "random writes of 4 KiB, depth 1", "IOPS", 1.5),
    row("disk-randread-32", "random reads of 4 KiB, depth 32", "IOPS", 1.0),
    row("disk-randwrite-32", "random writes of 4 KiB, depth 32", "IOPS", 1.0),
    row("disk-read", "reads of 1 MiB in order, depth 1", "KiB/s", 0.6),
    row("disk-write", "writes of 1 MiB in order, depth 1", "KiB/s", 0.6),
];

/// Which machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// This one.
    Here,
    /// QEMU alone.
    Peer,
}

/// The figures of a run, by their rows' names.
pub(super) type Figures = BTreeMap<String, f64>;

/// The figures of all runs.
#[derive(Debug)]
pub(super) struct Table {
    qemu_version: String,
    runs: u32,
    seconds: u32,
    vps: u32,
    here: Vec<Figures>,
    peer: Vec<Figures>,
}

impl Table {
    pub(super) fn new(qemu_version: &str, args: &BenchDevicesArgs) -> Self {
        let (runs, seconds, vps) = (args.runs, args.seconds, args.vps);
        let (here, peer) = (Vec::new(), Vec::new());
        Self { qemu_version: qemu_version.to_owned(), runs, seconds, vps, here, peer }
    }

    pub(super) fn add(&mut self, side: Side, figures: Figures) {
        match side {
            Side::Here => self.here.push(figures),
            Side::Peer => self.peer.push(figures),
        }
    }

    /// Returns the medians of both sides, and their ratio.
    fn of(&self, row: &Row) -> Option<(f64, f64, f64)> {
        let all =
            |runs: &[Figures]| median(runs.iter().filter_map(|run| run.get(row.name).copied()).collect());
        let (here, peer) = (all(&self.here)?, all(&self.peer)?);
        Some((here, peer, here / peer))
    }

    /// The table for programs.
    pub(super) fn json(&self) -> serde_json::Value {
        let rows = ROWS.iter().filter_map(|row| {
            let (here, peer, ratio) = self.of(row)?;
            let runs = |all: &[Figures]| all.iter().map(|run| run.get(row.name).copied()).collect::<Vec<_>>();
            Some(serde_json::json!({
                "name": row.name,
                "title": row.title,
                "unit": row.unit,
                "here": here,
                "peer": peer,
                "ratio": ratio,
                "wanted": row.wanted,
                "here_runs": runs(&self.here),
                "peer_runs": runs(&self.peer),
            }))
        });
        serde_json::json!({
            "schema": 1,
            "qemu_version": self.qemu_version,
            "vps": self.vps,
            "runs": self.runs,
            "seconds": self.seconds,
            "figures": rows.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "QEMU {}, {} VPs, {} s each, medians of {} runs; peer: virtio-blk without the hypervisor\n",
            self.qemu_version, self.vps, self.seconds, self.runs
        )?;
        writeln!(
            f,
            "{:18}  {:34}  {:>9}  {:>9}  {:5}  {:>6}  {:>6}",
            "name", "", "here", "peer", "unit", "ratio", "wanted"
        )?;
        for row in ROWS {
            let Some((here, peer, ratio)) = self.of(row) else { continue };
            let verdict = if ratio >= row.wanted { "met" } else { "missed" };
            writeln!(
                f,
                "{:18}  {:34}  {here:>9.0}  {peer:>9.0}  {:5}  {ratio:>6.2}  {:>6}  {verdict}",
                row.name, row.title, row.unit, row.wanted
            )?;
        }
        Ok(())
    }
}

/// Returns the median; of an even number the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let high = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(*values.get(middle - 1)?, high) } else { high })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_whatever_the_order() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn a_ratio_below_what_is_wanted_is_missed() {
        let args = BenchDevicesArgs { runs: 1, seconds: 1, vps: 1, json: None };
        let mut table = Table::new("7.2", &args);
        let figures = |read: f64, write: f64| {
            [("disk-randread-1", read), ("disk-write", write)]
                .map(|(name, value)| (name.to_owned(), value))
                .into()
        };
        table.add(Side::Here, figures(140.0, 60.0));
        table.add(Side::Peer, figures(100.0, 100.0));
        let text = table.to_string();
        let ends: Vec<&str> = text.lines().filter(|line| line.starts_with("disk-")).collect();
        assert!(ends[0].ends_with("1.40     1.5  missed"), "{text}");
        assert!(ends[1].ends_with("0.60     0.6  met"), "{text}");
        assert_eq!(table.json()["figures"][0]["ratio"], 1.4);
    }
}
