//! What operations cost a guest over KVM, in instructions: those of the guest, of the host's kernel and of the tool.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use anyhow::{Context as _, ensure};
use hv_setup::exit::Exit;
use hv_setup::{programs, target, ui};

use super::{Computer, Program, USUAL, built, host_on};
use crate::test::context::{Context, HUNG_SECONDS, read};

/// The two ways in which KVM runs: its host kernel at EL1, and at EL2.
const SIDES: [(&str, &str); 2] = [("nVHE", "cortex-a72"), ("VHE", "max,pauth-impdef=on")];

/// A figure of the table.
struct Row {
    name: &'static str,
    title: &'static str,
    /// The maximum wanted, on either side.
    wanted: Option<u64>,
    /// What it was when this was written, on each side; more than a tenth above it is a failure.
    kept: [u64; 2],
}

const fn row(name: &'static str, title: &'static str, wanted: Option<u64>, kept: [u64; 2]) -> Row {
    Row { name, title, wanted, kept }
}

/// The difference of two of the program's figures.
const EDGE: &str = "edge-interrupt";
/// What KVM answers itself.
const PEER: &str = "smccc-version";

const ROWS: &[Row] = &[
    row(PEER, "SMCCC_VERSION, which KVM answers itself", None, [1826, 1370]),
    row("psci-version", "PSCI_VERSION, answered by the tool", None, [14_532, 14_587]),
    row("fast-get-smccc", "fast get of the VP index, hvc #0", Some(16_700), [20_407, 20_288]),
    row("fast-get-hvc1", "fast get of the VP index, hvc #1", Some(16_700), [20_332, 20_213]),
    row("fast-set-smccc", "fast set of a crash parameter, hvc #0", None, [22_734, 22_556]),
    row("signal-nothing", "signal event to no connection", Some(12_400), [14_739, 14_794]),
    row("memory-call", "hypercall with its input in memory", None, [14_731, 14_785]),
    row(EDGE, "interrupt: made pending, acknowledged, ended", Some(11_000), [11_541, 10_737]),
    row("ipi-self-hypercall", "IPI to itself by hypercall", None, [26_229, 25_488]),
    row("eom", "EOM alone", None, [22_944, 22_756]),
    row("signal-event", "signal event to itself, ack, EOI, flag", None, [26_575, 25_865]),
    row("post-message", "post message to itself, ack, EOI, EOM", None, [28_311, 27_498]),
    row("timer-interrupt", "virtual timer interrupt, KVM's own", None, [3103, 2621]),
    row("stimer-direct", "direct synthetic timer: set, ack, EOI", None, [34_966, 33_827]),
];

/// The figures of both sides.
struct Table([BTreeMap<String, u64>; 2]);

impl Table {
    /// Counts them.
    fn count(context: &Context, limit: &str) -> anyhow::Result<Self> {
        let programs = [
            Program { name: "hv", content: built("hv-cli", &["--no-default-features", "--bin", "hv"])? },
            Program { name: "bench", content: read(&programs::build(&target::prepare()?, "bench")?)? },
        ];
        // The tool's own work at the start of a run would be counted.
        let script = "run /hv boot --accel kvm --kernel /bench --firmware dt --vps 1 --memory 64M --loopback \
                      --append bench.after=1500 --timeout 0\n";
        let mut sides = SIDES.iter().map(|(side, cpu)| {
            let computer = Computer { cpu, processors: "1", counted: true, limit, ..USUAL };
            let console = host_on(context, &computer, script, (&programs, &[]))?;
            figures(&console).with_context(|| format!("{side}: the guest ended early:\n{console}"))
        });
        let mut next = || sides.next().context("two sides")?;
        Ok(Self([next()?, next()?]))
    }

    /// Returns a row's figures.
    ///
    /// # Errors
    /// It was not measured.
    fn of(&self, row: &Row) -> anyhow::Result<[u64; 2]> {
        let [first, second] = &self.0;
        let of = |side: &BTreeMap<String, u64>| side.get(row.name).copied();
        let figures = of(first).zip(of(second)).with_context(|| format!("no figure of {}", row.name))?;
        Ok(figures.into())
    }
}

/// Reads the figures from a host's console, if the program came to its end.
fn figures(console: &str) -> Option<BTreeMap<String, u64>> {
    let mut figures: BTreeMap<String, u64> = BTreeMap::new();
    let mut done = false;
    for line in console.lines() {
        let Some((_, rest)) = line.split_once("bench: ") else { continue };
        match rest.split_whitespace().collect::<Vec<_>>()[..] {
            [name, value, _] => _ = figures.insert(name.to_owned(), value.parse().ok()?),
            ["done"] => done = true,
            _ => {}
        }
    }
    let edge = figures.get("ipi-self-hypercall")?.saturating_sub(*figures.get("ipi-to-none")?);
    figures.insert(EDGE.to_owned(), edge);
    done.then_some(figures)
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [nvhe, vhe] = SIDES.map(|(side, _)| side);
        writeln!(f, "instructions of guest, host and tool; KVM's own call is {PEER}\n")?;
        writeln!(f, "{:20}  {:46}  {nvhe:>6}  {vhe:>6}  {:>6}", "name", "", "wanted")?;
        for row in ROWS {
            let Ok([nvhe, vhe]) = self.of(row) else { continue };
            let wanted = row.wanted.map_or_else(|| "-".to_owned(), |wanted| wanted.to_string());
            write!(f, "{:20}  {:46}  {nvhe:>6}  {vhe:>6}  {wanted:>6}", row.name, row.title)?;
            let mut end = String::new();
            if let Some(wanted) = row.wanted {
                let worst = nvhe.max(vhe);
                match worst.checked_sub(wanted).filter(|more| *more > 0) {
                    Some(more) => write!(end, "  missed by {more} ({} %)", more * 100 / wanted)?,
                    None => end += "  met",
                }
            }
            writeln!(f, "{end}")?;
        }
        Ok(())
    }
}

/// Runs `hv bench kvm`.
pub(in crate::test) fn bench(timeout: u32) -> anyhow::Result<Exit> {
    let context = Context::new()?;
    let task = ui::Task::quiet("Counting instructions over KVM");
    let table = Table::count(&context, &timeout.to_string())?;
    drop(task);
    ui::out(&table.to_string());
    Ok(Exit::Success)
}

/// Counts them, and checks that none is worse than it was.
pub(super) fn figures_kept(context: &Context) -> anyhow::Result<()> {
    let table = Table::count(context, HUNG_SECONDS)?;
    eprintln!("{table}");
    for row in ROWS {
        for ((figure, kept), (side, _)) in table.of(row)?.into_iter().zip(row.kept).zip(SIDES) {
            ensure!(figure <= kept * 11 / 10, "{} on {side}: {figure} instructions, {kept} before", row.name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{EDGE, Table, figures};

    const CONSOLE: &str =
        "host: runs\r\nbench: ipi-self-hypercall 27196 2000\r\nbench: ipi-to-none 15587 2000\r
bench: smccc-version 1826 10000\r\nbench: signal-nothing 15605 10000\r\n";

    #[test]
    fn the_interrupt_is_the_difference_of_two_calls() {
        assert_eq!(figures(&format!("{CONSOLE}bench: done\r\n")).unwrap()[EDGE], 11_609);
    }

    #[test]
    fn a_program_that_is_not_done_has_no_figures() {
        assert!(figures(CONSOLE).is_none());
        assert!(figures("bench: done\r\n").is_none());
    }

    #[test]
    fn a_row_says_by_how_much_it_misses() {
        let side = figures(&format!("{CONSOLE}bench: done\r\n")).unwrap();
        let table = Table([side.clone(), side]).to_string();
        assert!(table.contains("15605   15605   12400  missed by 3205 (25 %)"), "{table}");
        assert!(table.contains("1826    1826       -\n"), "{table}");
        assert!(table.contains("11609   11609   11000  missed by 609 (5 %)"), "{table}");
    }
}
