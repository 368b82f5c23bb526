//! `hv bench --profile`: the functions of the hypervisor that an operation's instructions go to.
//!
//! QEMU logs the address of each instruction of the hypervisor that it executes. The operation is measured twice, the
//! second time with twice the repetitions: all that the second log has more is the operation's.

mod functions;
mod log;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use hv_setup::exit::Exit;
use hv_setup::{output, process, programs, qemu, target, ui};
use serde_json::Value;

use crate::test::context::{Context, HUNG_SECONDS};
use functions::Functions;
use log::{Counts, Tap};
use table::Table;

/// About how many times slower a machine is that logs each instruction.
const SLOWER: &str = "32";

/// A figure that was measured.
#[derive(Debug)]
struct Figure {
    value: f64,
    /// How often the operation was repeated for it.
    repetitions: u64,
}

/// Show the functions of the hypervisor that an operation's instructions go to
///
/// `cargo hv bench --profile` starts this.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The figure
    #[arg(value_name = "NAME")]
    name: String,
    /// Write the profile as JSON to a file, or with - to stdout in place of the table
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
    /// QEMU program to use instead of the one in $PATH
    #[arg(long, value_name = "FILE")]
    qemu: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    if let Some(file) = &args.json {
        output::check_unless_stdout("profile", "--json", file)?;
    }
    let context = Context::new()?;
    let hypervisor = programs::build(&target::prepare()?, "hypervisor")?;
    let functions = Functions::of(&hypervisor)?;
    let tap = Tap::new(&context.folder()?, &qemu::prepare(args.qemu.as_deref())?, functions.code())?;
    let _task = ui::Task::quiet(format!("Profiling {}", args.name));
    let (once, figure) = measure(&context, &tap, &hypervisor, args, 1)?;
    let (twice, _) = measure(&context, &tap, &hypervisor, args, 2)?;
    let table = Table::new(&args.name, &figure, &twice.without(&once), &functions)?;
    let json = || Ok::<_, anyhow::Error>(serde_json::to_string_pretty(&table)? + "\n");
    match &args.json {
        Some(file) if file.as_os_str() == "-" => ui::out(&json()?),
        Some(file) => {
            let written = output::write("profile", file, json()?.as_bytes());
            ui::out(&table.to_string());
            written?;
        }
        None => ui::out(&table.to_string()),
    }
    Ok(Exit::Success)
}

/// Measures the operation, with its repetitions this many times; returns what was executed, and the figure.
fn measure(
    context: &Context,
    tap: &Tap,
    hypervisor: &Path,
    args: &Args,
    rounds: u32,
) -> anyhow::Result<(Counts, Figure)> {
    let rounds = rounds.to_string();
    let mut command = context.command(&["bench", "--exact", "--filter", &args.name, "--rounds", &rounds])?;
    command.args(["--slower", SLOWER, "--timeout", HUNG_SECONDS]);
    command.arg("--hypervisor").arg(hypervisor).arg("--qemu").arg(tap.program()).args(["--json", "-"]);
    let (done, counts) = tap.count(|| process::run(&mut command, || {}))?;
    let done = done?;
    if !done.status.success() {
        bail!("hv bench --filter {} ended with {}: {}", args.name, done.status, done.stderr.trim_end());
    }
    let table: Value = serde_json::from_str(&done.stdout)?;
    let row = &table["figures"][0];
    let value = row["value"].as_f64().with_context(|| format!("hv bench has no figure {}", args.name))?;
    ensure!(row["unit"] == "insn", "{} is in {}, not in instructions", args.name, row["unit"]);
    let repetitions = row["repetitions"].as_u64().filter(|number| *number > 0);
    let repetitions = repetitions.with_context(|| format!("{} is not measured by repetition", args.name))?;
    Ok((counts, Figure { value, repetitions }))
}
