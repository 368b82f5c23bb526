//! Comparison of a run with an earlier one.

use std::fmt;

use anyhow::Context as _;

use super::lines::{self, Group};
use super::table::Table;
use crate::input::Input;

/// Maximum size of such a file; it has a few thousand bytes.
const LONGEST: u64 = 1 << 20;

/// Reads what `--json` wrote.
pub(super) fn read(file: &Input) -> anyhow::Result<Table> {
    let bytes = file.read("figures", LONGEST)?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{file} does not contain figures written by --json"))
}

/// The differences between two runs.
#[derive(Debug)]
pub(super) struct Compared {
    /// Name, earlier and current value of each figure that changed.
    changed: Vec<(String, f64, f64)>,
    compared: usize,
    tolerance: u32,
    /// The earlier run's versions of QEMU and rustc, and this one's, if they differ.
    others: Option<[String; 2]>,
}

impl Compared {
    /// Compares the figures that both runs have, except wall-clock times and Linux's drivers, which vary.
    pub(super) fn new(earlier: &Table, now: &Table, tolerance: u32) -> Self {
        let named = |[qemu, rustc]: [&str; 2]| format!("QEMU {qemu} and rustc {rustc}");
        let differ = earlier.versions() != now.versions();
        let others = differ.then(|| [named(earlier.versions()), named(now.versions())]);
        let mut result = Self { changed: Vec::new(), compared: 0, tolerance, others };
        for row in &now.figures {
            let varies = |group| matches!(group, Group::WallBoot | Group::LargeBoot | Group::LinuxDrivers);
            if lines::find(&row.name).is_some_and(|line| varies(line.group)) {
                continue;
            }
            let Some(old) = earlier.figures.iter().find(|old| old.name == row.name) else { continue };
            result.compared += 1;
            if old.value != row.value {
                result.changed.push((row.name.clone(), old.value, row.value));
            }
        }
        result
    }

    fn too_much(&self, old: f64, now: f64) -> bool {
        now > old * (1.0 + f64::from(self.tolerance) / 100.0)
    }

    /// Returns true if a figure is worse by more than the tolerance, with the same QEMU and rustc. Smaller is better
    /// for all figures.
    pub(super) fn is_worse(&self) -> bool {
        self.others.is_none() && self.changed.iter().any(|(_, old, now)| self.too_much(*old, *now))
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, old, now) in &self.changed {
            let verdict = match () {
                () if self.too_much(*old, *now) => "WORSE",
                () if now > old => "worse, within tolerance",
                () => "better",
            };
            writeln!(f, "{name}: {old} before, {now} now: {verdict}")?;
        }
        writeln!(f, "{} figures compared, {} changed", self.compared, self.changed.len())?;
        match &self.others {
            Some([then, now]) => {
                writeln!(f, "not judged: the earlier ones are of {then}, and these of {now}")
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Figure;
    use super::*;

    fn table(figures: &[Figure]) -> Table {
        of("1.95.0", figures)
    }

    fn of(rustc: &str, figures: &[Figure]) -> Table {
        Table::new(["7.2", rustc], figures.to_vec(), Vec::new()).unwrap()
    }

    #[test]
    fn only_what_is_worse_beyond_the_tolerance_counts() {
        let old = table(&[Figure::new("fast-get-smccc", 100.0), Figure::new("eom", 50.0)]);
        let with = |value: f64| {
            Compared::new(&old, &table(&[Figure::new("fast-get-smccc", value), Figure::new("image", 1.0)]), 2)
                .is_worse()
        };
        assert!(!with(1.0) && !with(100.0) && !with(102.0));
        assert!(with(103.0));
    }

    #[test]
    fn figures_of_another_compiler_are_shown_and_not_judged() {
        let old = of("1.94.0", &[Figure::new("eom", 50.0)]);
        let compared = Compared::new(&old, &table(&[Figure::new("eom", 60.0)]), 2);
        assert!(!compared.is_worse());
        let text = compared.to_string();
        assert!(text.starts_with("eom: 50 before, 60 now: WORSE\n"), "{text}");
        let end =
            "the earlier ones are of QEMU 7.2 and rustc 1.94.0, and these of QEMU 7.2 and rustc 1.95.0\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn the_hosts_clock_is_not_compared() {
        let old = table(&[Figure::new("boot-wall", 1.0), Figure::new("boot-virtual", 1.0)]);
        let compared = Compared::new(
            &old,
            &table(&[Figure::new("boot-wall", 9.0), Figure::new("boot-virtual", 1.0)]),
            0,
        );
        assert!(!compared.is_worse());
        assert_eq!(compared.to_string(), "1 figures compared, 0 changed\n");
    }

    #[test]
    fn what_was_written_can_be_read() {
        let old = table(&[Figure::new("fast-get-smccc", 100.0)]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), serde_json::to_vec(&old).unwrap()).unwrap();
        assert_eq!(read(&file.path().into()).unwrap().figures[0].value, 100.0);
        assert!(read(&std::path::Path::new("/nonexistent").into()).is_err());
    }
}
