//! The profile, for users and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::ensure;
use serde::Serialize;

use super::Figure;
use super::functions::{Function, Functions};
use super::log::Counts;

/// Functions that take fewer instructions of an operation than this share a row.
const LEAST: f64 = 0.5;

/// The profile of an operation.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    /// Version of this format.
    schema: u32,
    name: String,
    /// Instructions of the operation, guest and hypervisor together, as `hv bench` counts them.
    instructions: f64,
    /// Those of the guest's side, unless the repetitions do more in the hypervisor than the figure counts.
    guest: Option<f64>,
    functions: Vec<Row>,
}

/// A function, without those that it calls, inlined or not.
#[derive(Debug, Serialize)]
struct Row {
    instructions: f64,
    function: String,
    file: String,
}

impl Table {
    /// Creates the table of an operation from what was executed for its repetitions, and from the figure.
    ///
    /// # Errors
    /// Nothing was executed.
    pub(super) fn new(
        name: &str,
        figure: &Figure,
        counts: &Counts,
        functions: &Functions,
    ) -> anyhow::Result<Self> {
        let at = |address| functions.at(address);
        Self::with(name, figure, counts, at)
    }

    fn with(
        name: &str,
        figure: &Figure,
        counts: &Counts,
        at: impl Fn(u64) -> Option<Function>,
    ) -> anyhow::Result<Self> {
        let mut functions = BTreeMap::<Function, u64>::new();
        for (address, count) in &counts.0 {
            if let Some(function) = at(*address) {
                *functions.entry(function).or_default() += count;
            }
        }
        ensure!(!functions.is_empty(), "QEMU logged no instruction for {name}");
        // The counts are those of all repetitions, of which the figure is one.
        let each = |count: u64| count as f64 / figure.repetitions as f64;
        let guest = figure.value - each(functions.values().sum());
        let mut rows: Vec<Row> = functions
            .into_iter()
            .map(|(Function { name, file }, count)| Row { instructions: each(count), function: name, file })
            .collect();
        rows.sort_by(|a, b| b.instructions.total_cmp(&a.instructions));
        Ok(Self {
            schema: 1,
            name: name.to_owned(),
            instructions: figure.value,
            guest: Some(guest).filter(|guest| *guest >= 0.0),
            functions: rows,
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, instructions, guest, functions, .. } = self;
        match guest {
            Some(guest) => {
                writeln!(f, "{name}: {instructions} instructions, {guest:.1} of them in the guest\n")?;
            }
            None => {
                let all: f64 = functions.iter().map(|row| row.instructions).sum();
                writeln!(
                    f,
                    "{name}: {instructions} instructions, {all:.1} with all that a repetition does\n"
                )?;
            }
        }
        writeln!(f, "{:>7}  {:>6}  function, without those that it calls, inlined or not", "insn", "share")?;
        let row = |f: &mut fmt::Formatter<'_>, count: f64, what: &str| {
            writeln!(f, "{count:>7.1}  {:>4.1} %  {what}", count / instructions * 100.0)
        };
        for each in functions.iter().filter(|row| row.instructions >= LEAST) {
            let file = if each.file.is_empty() { String::new() } else { format!("  ({})", each.file) };
            row(f, each.instructions, &format!("{}{file}", each.function))?;
        }
        let small: Vec<f64> =
            functions.iter().map(|row| row.instructions).filter(|insn| *insn < LEAST).collect();
        if !small.is_empty() {
            row(f, small.iter().sum(), &format!("{} more functions", small.len()))?;
        }
        guest.map_or(Ok(()), |guest| row(f, guest, "the guest"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Returns the table of five repetitions of which each executes 160 instructions of the hypervisor, and some more.
    fn table(value: f64) -> anyhow::Result<Table> {
        let counts = Counts(HashMap::from([(0x10, 600), (0x14, 200), (0x18, 1), (0x80, 199)]));
        let at = |address| {
            let name = match address {
                0x10 | 0x14 => "a::often",
                0x18 => "a::seldom",
                _ => return None,
            };
            Some(Function { name: name.to_owned(), file: "crates/a/src/lib.rs".to_owned() })
        };
        Table::with("eom", &Figure { value, repetitions: 5 }, &counts, at)
    }

    #[test]
    fn the_rows_add_up_to_the_figure() {
        let table = table(200.0).unwrap();
        let sum: f64 = table.functions.iter().map(|row| row.instructions).sum();
        assert!((sum + table.guest.unwrap() - 200.0).abs() < 1e-9);
        let text = table.to_string();
        assert!(text.starts_with("eom: 200 instructions, 39.8 of them in the guest\n"), "{text}");
        assert!(text.contains("  160.0  80.0 %  a::often  (crates/a/src/lib.rs)\n"), "{text}");
        assert!(text.contains("    0.2   0.1 %  1 more functions\n"), "{text}");
        assert!(text.ends_with("   39.8  19.9 %  the guest\n"), "{text}");
        let none = Counts::default();
        assert!(Table::with("eom", &Figure { value: 1.0, repetitions: 1 }, &none, |_| None).is_err());
    }

    #[test]
    fn a_repetition_may_do_more_than_the_figure_counts() {
        let table = table(100.0).unwrap();
        assert_eq!(table.guest, None);
        let text = table.to_string();
        assert!(text.starts_with("eom: 100 instructions, 160.2 with all that a repetition does\n"), "{text}");
        assert!(text.ends_with("    0.2   0.2 %  1 more functions\n"), "{text}");
    }
}
