//! The figures, for users and as JSON.

use std::fmt;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::Figure;
use super::lines;
use crate::machine::platform::CPU;

/// All figures of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Table {
    /// Version of this format.
    #[serde(alias = "version")]
    schema: u32,
    #[serde(alias = "qemu")]
    qemu_version: String,
    /// Version of the rustc that compiles the hypervisor.
    #[serde(default)]
    rustc_version: String,
    cpu: String,
    pub(super) figures: Vec<Row>,
    /// Names of the figures that were not measured.
    not_measured: Vec<String>,
}

/// A figure and its reference values.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) name: String,
    title: String,
    pub(super) value: f64,
    unit: String,
    limit: Option<f64>,
    kvm: Option<[f64; 2]>,
    target: Option<f64>,
    /// Whether the target is met, if there is one.
    met: Option<bool>,
    /// Number of repetitions that the guest reports; `None` for a figure that is computed or counted in another way.
    #[serde(default)]
    repetitions: Option<u64>,
}

impl Table {
    /// Creates a table of these figures, in the order of the rows.
    pub(super) fn new(
        [qemu, rustc]: [&str; 2],
        figures: Vec<Figure>,
        missing: Vec<&str>,
    ) -> anyhow::Result<Self> {
        let row = |Figure { name, value, repetitions }: Figure| {
            let line = lines::find(name).with_context(|| format!("no row is called {name}"))?;
            // A ratio is rounded to a thousandth; all other figures are integers.
            let scale = if line.unit == "times" { 1000.0 } else { 1.0 };
            let value = (value * scale).round() / scale;
            Ok(Row {
                name: name.to_owned(),
                title: line.title.to_owned(),
                value,
                unit: line.unit.to_owned(),
                limit: line.limit,
                kvm: line.kvm,
                target: line.target,
                met: line.target.map(|target| value <= target),
                repetitions,
            })
        };
        let mut figures = figures.into_iter().map(row).collect::<anyhow::Result<Vec<_>>>()?;
        figures.sort_by_key(|row| lines::LINES.iter().position(|line| line.name == row.name));
        let not_measured = missing.into_iter().map(str::to_owned).collect();
        let (qemu_version, rustc_version) = (qemu.to_owned(), rustc.to_owned());
        Ok(Self { schema: 1, qemu_version, rustc_version, cpu: CPU.to_owned(), figures, not_measured })
    }

    /// Returns the versions that figures depend on: QEMU's and rustc's.
    pub(super) fn versions(&self) -> [&str; 2] {
        [&self.qemu_version, &self.rustc_version]
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} on QEMU {}; insn = instructions of guest and hypervisor, or of the guest's side alone\n",
            self.cpu, self.qemu_version
        )?;
        writeln!(
            f,
            "{:22}  {:53}  {:>8}  {:5}  {:>5}  {:>11}  {:>6}",
            "name", "", "figure", "unit", "limit", "KVM", "target"
        )?;
        let number =
            |value: f64| if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.3}") };
        let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
        for row in &self.figures {
            let kvm = row
                .kvm
                .map_or_else(|| "-".to_owned(), |[low, high]| format!("{}-{}", number(low), number(high)));
            write!(
                f,
                "{:22}  {:53}  {:>8}  {:5}  {:>5}  {kvm:>11}  {:>6}",
                row.name,
                row.title,
                number(row.value),
                row.unit,
                optional(row.limit),
                optional(row.target),
            )?;
            match row.target {
                Some(target) if row.value > target => {
                    let percent = (row.value / target - 1.0) * 100.0;
                    writeln!(f, "  missed by {} ({percent:.1} %)", number(row.value - target))?;
                }
                Some(_) => writeln!(f, "  met")?,
                None => writeln!(f)?,
            }
        }
        if !self.not_measured.is_empty() {
            writeln!(f, "\nnot measured: {}", self.not_measured.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_says_by_how_much() {
        let table = Table::new(
            ["7.2", "1.95.0"],
            vec![Figure::new("fast-set-smccc", 153.0), Figure::new("fast-get-smccc", 110.0)],
            Vec::new(),
        )
        .unwrap();
        let text = table.to_string();
        let ends: Vec<&str> = text.lines().filter(|line| line.starts_with("fast-")).collect();
        assert!(ends[0].starts_with("fast-get-smccc") && ends[0].ends_with("  met"), "{text}");
        assert!(ends[1].ends_with("  missed by 3 (2.0 %)"), "{text}");
    }

    #[test]
    fn a_ratio_is_judged_as_it_is_shown() {
        let table = Table::new(
            ["7.2", "1.95.0"],
            vec![Figure::new("boot-virtual", 1.020_4), Figure::new("boot-wall", 1.100_6)],
            Vec::new(),
        )
        .unwrap();
        assert_eq!(table.figures[0].met, Some(true));
        assert_eq!((table.figures[1].value, table.figures[1].met), (1.101, Some(false)));
    }

    #[test]
    fn every_line_fits_its_column() {
        for line in lines::LINES {
            assert!(line.name.len() <= 22 && line.title.len() <= 53, "{}", line.name);
        }
    }
}
