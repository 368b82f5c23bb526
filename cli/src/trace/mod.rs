//! `hv boot --trace` stores the hypervisor's records, and `hv trace` reads them.

mod args;
mod check;
mod collect;
mod console;
mod convert;
mod decode;
mod exchanges;
mod exits;
mod file;
mod flows;
mod html;
mod judge;
mod lines;
mod network;
mod packets;
mod perfetto;
mod requests;
#[cfg(test)]
mod samples;
mod screen;
mod services;
mod summary;
mod words;

use std::io::BufWriter;
use std::path::Path;

use anyhow::Context as _;
use check::Checked;
use convert::Written;

pub(crate) use args::{Args, run};
pub(crate) use collect::{Collector, Region};

use crate::input::Input;
use crate::machine::{Outcome, Ram};
use crate::output::Pending;
use crate::report::KeptTrace;
use crate::symbols::Symbols;
use perfetto::{NamedPlace, PlanRule, Run};

/// Least maximum size of a trace in bytes: what is not records has a place in it.
pub(crate) const LEAST: u64 = 1 << 20;

/// What is known about a run besides its outcome.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    /// The rules of the fault plan.
    pub(crate) rules: &'a [String],
    /// Size of the guest's memory in bytes.
    pub(crate) memory: u64,
    /// The guest's symbols.
    pub(crate) symbols: &'a Symbols,
}

/// Writes the trace of a finished run.
pub(crate) fn keep(
    collector: Collector,
    ram: &Ram,
    outcome: &Outcome,
    about: &About<'_>,
    (file, limit): (&Path, u64),
) -> anyhow::Result<KeptTrace> {
    let recording = collector.finish()?;
    let run = Run {
        version: hv_trace::VERSION,
        vps: u32::try_from(outcome.vps.len())?,
        frequency: outcome.report.counter_frequency,
        origin: outcome.report.counter_offset,
        recorded: recording.recorded(),
        dropped: recording.dropped(ram)?,
        left_out: recording.left_out(),
        rules: about
            .rules
            .iter()
            .zip(outcome.report.rules_fired)
            .map(|(rule, fired)| PlanRule { rule: rule.clone(), fired })
            .collect(),
        ram_base: hv_wire::platform::GUEST_RAM_BASE,
        ram_size: about.memory,
        console: recording.console(),
        places: recording.places().filter_map(|(pc, vectors)| named(about.symbols, pc, vectors)).collect(),
    };
    let dropped = run.all_dropped();
    let explain = || format!("cannot write the trace to {}", file.display());
    let mut out = BufWriter::new(Pending::new(file).with_context(explain)?);
    let Written { records, left_out } =
        convert::write(&mut out, run, limit, recording.merged()?).with_context(explain)?;
    let out = out.into_inner().map_err(|error| error.into_error());
    out.and_then(Pending::commit).with_context(explain)?;
    Ok(KeptTrace { file: file.display().to_string(), records, dropped, left_out })
}

/// Returns the name of an address in a guest with this VBAR_EL1.
fn named(symbols: &Symbols, pc: u64, vectors: u64) -> Option<NamedPlace> {
    let name = crate::report::place(symbols, pc, vectors)?;
    Some(NamedPlace { pc, name })
}

/// Checks whether a file is a valid trace.
///
/// # Errors
/// The first problem found.
fn check(file: &Input) -> anyhow::Result<Checked> {
    check::check(file::Packets::open(file)?).with_context(|| format!("cannot read the trace {file}"))
}

#[cfg(test)]
mod tests;
