//! `hv bench`: the hypervisor's cost to its guest, counted.

mod compare;
mod lines;
mod linux;
mod machine;
mod programs;
mod table;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;

use crate::exit::Exit;
use crate::input::Input;
use crate::setup::target::{self, Toolchain};
use crate::setup::{developer, programs as bare, qemu, value};
use crate::{TOOL, build, output, ui};

use compare::Compared;
use lines::{Group, LINES, Line};
use machine::Setup;
use table::Table;

/// Count what operations cost a guest
///
/// A guest program repeats each operation on a machine where one instruction takes one nanosecond, so the counts are
/// instructions of guest and hypervisor, and reproducible. Debian's 6.12 kernel then boots with and without the
/// hypervisor. Only wall-clock times and the figures of Linux's drivers vary from run to run; those of frames are the
/// least of three runs.
///
/// To measure hv-host in process, in nanoseconds: cargo bench -p hv-host
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    choice: Choice,
    /// Only list the names
    #[arg(long)]
    list: bool,
    /// Show the functions of the hypervisor that an operation's instructions go to
    #[arg(long, value_name = "NAME", conflicts_with_all = NOT_OF_PROFILE)]
    profile: Option<String>,
    /// Write the figures as JSON to a file, or with - to stdout in place of the table
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
    /// Compare with the figures of an earlier run, a file written by --json; exit with 1 if one is worse
    ///
    /// Those of other versions of QEMU or rustc are only shown. bare/bench/figures.json has the project's.
    #[arg(long, value_name = "FILE|-")]
    compare: Option<Input>,
    /// Tolerance of the comparison, in percent; wall-clock times and Linux's drivers are not compared
    #[arg(long, value_name = "PERCENT", default_value_t = 2, value_parser = value::whole::<u32>(0..=100, "percent"))]
    tolerance: u32,
    /// Number of boots for wall-clock times; the fastest counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value::whole::<u32>(1..=100, ""))]
    runs: u32,
    /// Time limit of each boot in seconds, 0 for none
    #[arg(long, value_name = "SECS", default_value_t = 240, value_parser = value::seconds)]
    timeout: u32,
    /// QEMU program to use instead of the one in $PATH
    #[arg(long, value_name = "FILE")]
    qemu: Option<PathBuf>,
    /// EL2 program to use instead of building the one in bare/hypervisor
    #[arg(long, value_name = "FILE|-")]
    hypervisor: Option<Input>,
}

/// The figures to measure.
#[derive(Debug, clap::Args)]
struct Choice {
    /// Measure only figures with this in their name
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    filter: String,
    /// Measure only the figure with just the name of --filter
    #[arg(long, requires = "filter")]
    exact: bool,
    /// Repeat each operation N times as often as usual
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value::whole::<u32>(1..=100, ""))]
    rounds: u32,
    /// Have the guest wait an N-th of the usual time for devices: for a machine that is N times slower
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value::whole::<u32>(1..=100, ""))]
    slower: u32,
}

impl Choice {
    /// All figures, as often as usual.
    const ALL: Self = Self { filter: String::new(), exact: false, rounds: 1, slower: 1 };

    /// Returns true if operations are repeated as often as usual. Otherwise the caller counts what one run does.
    const fn is_usual(&self) -> bool {
        self.rounds == 1 && self.slower == 1
    }

    /// Returns true if the figure of this name is to be measured.
    fn wants(&self, name: &str) -> bool {
        if self.exact { name == self.filter } else { name.contains(&self.filter) }
    }

    /// Returns the figures to measure.
    ///
    /// # Errors
    /// There is none, or one that is not of repetitions.
    fn lines(&self) -> anyhow::Result<Vec<&'static Line>> {
        let wanted: Vec<_> = LINES.iter().filter(|line| self.wants(line.name)).collect();
        if wanted.is_empty() {
            let name = &self.filter;
            let why =
                if self.exact { format!("is called {name}") } else { format!("has {name} in its name") };
            bail!("no figure {why}; see `{TOOL} bench --list`");
        }
        if let Some(line) = wanted.iter().find(|line| self.rounds != 1 && !line.group.repeats()) {
            bail!(
                "--rounds {}: {} is not measured by repetition; choose others with --filter",
                self.rounds,
                line.name
            );
        }
        Ok(wanted)
    }
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Devices(developer::BenchDevicesArgs),
    Kvm(developer::BenchKvmArgs),
}

/// Options that --profile excludes: it needs the debug information of the hypervisor that it builds.
const NOT_OF_PROFILE: [&str; 10] =
    ["filter", "exact", "rounds", "slower", "list", "compare", "tolerance", "runs", "timeout", "hypervisor"];

const EXAMPLES: &str = "\
Examples:
  cargo hv bench
  cargo hv bench --filter fast-get
  cargo hv bench --json before.json
  cargo hv bench --compare before.json
  cargo hv bench --profile post-message
  cargo hv bench devices --runs 5
  cargo hv bench kvm

Exit codes: 0 measured, 1 worse than the run compared with, 2 a bad option or something that is missing, 130 interrupted";

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Figure {
    /// Name of its row.
    name: &'static str,
    /// Value in the row's unit.
    value: f64,
    /// How often the operation was repeated for it, if it was.
    repetitions: Option<u64>,
}

impl Figure {
    const fn new(name: &'static str, value: f64) -> Self {
        Self { name, value, repetitions: None }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.what {
        Some(What::Devices(_)) => return developer::bench_devices(),
        Some(What::Kvm(_)) => return developer::bench_kvm(),
        None => {}
    }
    if let Some(name) = &args.profile {
        return profile(args, name);
    }
    let wanted = args.choice.lines()?;
    if args.list {
        ui::out(&wanted.iter().map(|line| format!("{}\n", line.name)).collect::<String>());
        return Ok(Exit::Success);
    }
    // Errors in a file are reported before any work.
    if let Some(file) = &args.json {
        output::check_unless_stdout("figures", "--json", file)?;
    }
    let earlier = args.compare.as_ref().map(compare::read).transpose()?;
    let qemu = qemu::prepare(args.qemu.as_deref())?;
    let hypervisor = build::hypervisor(args.hypervisor.as_ref())?;
    let limit = (args.timeout != 0).then(|| Duration::from_secs(args.timeout.into()));
    let setup = Setup { qemu: qemu.clone(), hypervisor: hypervisor.path().to_owned(), limit };
    let toolchain = target::prepare()?;
    let figures = measure(args, &toolchain, &setup, |group| wanted.iter().any(|line| line.group == group))?;
    let missing =
        wanted.iter().map(|line| line.name).filter(|name| figures.iter().all(|had| had.name != *name));
    let missing = missing.collect();
    let table = Table::new([&qemu.version, &toolchain.version], figures, missing)?;
    let written = write(args, &table);
    let Some(earlier) = earlier else { return written.map(|()| Exit::Success) };
    let compared = Compared::new(&earlier, &table, args.tolerance);
    ui::lines(&compared.to_string());
    written?;
    Ok(if compared.is_worse() { Exit::Failed } else { Exit::Success })
}

/// Returns the smallest of each figure. What a frame costs depends on when QEMU's network answers, which is another
/// thread of the host's, and a busy host has made it 3 in 100 more.
fn least([mut figures, second, third]: [Vec<Figure>; 3]) -> Vec<Figure> {
    for again in second.into_iter().chain(third) {
        if let Some(figure) = figures.iter_mut().find(|figure| figure.name == again.name) {
            figure.value = figure.value.min(again.value);
        }
    }
    figures
}

/// Builds the programs of the groups that are needed, and returns the figures that they give.
fn measure(
    args: &Args,
    toolchain: &Toolchain,
    setup: &Setup,
    needs: impl Fn(Group) -> bool,
) -> anyhow::Result<Vec<Figure>> {
    let mut figures: Vec<Figure> = Vec::new();
    if [Group::OneVp, Group::Network, Group::ManyVps, Group::Memory].into_iter().any(&needs) {
        let program = bare::build(toolchain, "bench")?;
        let _task = ui::Task::quiet("Counting instructions");
        for group in [Group::OneVp, Group::Network, Group::ManyVps].into_iter().filter(|group| needs(*group))
        {
            let run = || programs::run(setup, &program, group, &args.choice);
            figures.extend(match group {
                Group::Network if args.choice.is_usual() => least([run()?, run()?, run()?]),
                _ => run()?,
            });
        }
        if needs(Group::Memory) {
            figures.extend(programs::sizes(setup, &program, &args.choice)?);
        }
    }
    if needs(Group::Drivers) {
        let program = bare::build(toolchain, "bench-drivers")?;
        figures.extend(programs::run(setup, &program, Group::Drivers, &Choice::ALL)?);
    }
    if needs(Group::LinuxDrivers) {
        figures.extend(linux::drivers(setup, &bare::build(toolchain, "cost-init")?)?);
    }
    if needs(Group::VirtualBoot) || needs(Group::WallBoot) {
        let init = bare::build(toolchain, "bench-init")?;
        let wall = if needs(Group::WallBoot) { args.runs } else { 0 };
        figures.extend(linux::run(setup, &init, needs(Group::VirtualBoot), wall)?);
    }
    if needs(Group::LargeBoot) {
        figures.extend(linux::large(setup, &bare::build(toolchain, "bench-init")?, args.runs)?);
    }
    figures.retain(|figure| args.choice.wants(figure.name));
    Ok(figures)
}

/// Hands `hv bench --profile` over to the developers' commands.
fn profile(args: &Args, name: &str) -> anyhow::Result<Exit> {
    let chosen = Choice { filter: name.to_owned(), exact: true, ..Choice::ALL };
    let lines = chosen.lines()?;
    if lines.iter().any(|line| !line.group.repeats()) {
        bail!("--profile {name}: it is not measured by repetition; choose another of `{TOOL} bench --list`");
    }
    let mut line = vec![OsString::from(name)];
    for (option, file) in [("--json", &args.json), ("--qemu", &args.qemu)] {
        line.extend(file.iter().flat_map(|file| [option.into(), file.into()]));
    }
    developer::hand_over("bench-profile", line)
}

/// Writes the table to the file that was asked for, and shows it unless that is stdout.
fn write(args: &Args, table: &Table) -> anyhow::Result<()> {
    let json = || Ok::<_, anyhow::Error>(serde_json::to_string_pretty(table)? + "\n");
    match &args.json {
        Some(file) if file.as_os_str() == "-" => {
            ui::out(&json()?);
            Ok(())
        }
        Some(file) => {
            let written = output::write("figures", file, json()?.as_bytes());
            ui::out(&table.to_string());
            written
        }
        None => {
            ui::out(&table.to_string());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_each_figure_counts() {
        let run =
            |first, second| vec![Figure::new("net-frame", first), Figure::new("net-frame-1514", second)];
        let values: Vec<f64> =
            least([run(3.0, 5.0), run(2.0, 6.0), run(4.0, 4.0)]).iter().map(|figure| figure.value).collect();
        assert_eq!(values, [2.0, 4.0]);
    }
}
