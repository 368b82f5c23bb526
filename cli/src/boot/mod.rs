//! `hv boot`: one guest, from the kernel file to the report. [`run`] resolves the options ([`plan`]), runs the guest,
//! and reports. `hv exec` does the same with an agent in the guest ([`agent`]).

mod agent;
mod args;
mod faults;
pub(crate) mod image;
mod keep;
pub(crate) mod modules;
mod plan;
mod resume;
mod sources;
mod start;

use std::sync::Arc;

use anyhow::bail;
use hv_wire::Report;

pub(crate) use agent::{Agent, Ended, run_agent};
pub(crate) use args::Args;
use keep::Keep;
use plan::{Origin, Plan, Recording};
pub(crate) use resume::Options;
pub(crate) use sources::random;
use start::Begun;

use crate::control::{Controlled, Memory};
use crate::exit::Exit;
use crate::machine::{Outcome, Running, Sink};
use crate::net::Capture;
use crate::report::{Known, Start, Summary};
use crate::snapshot::{Folder, Saver};
use crate::trace::{self, About, Collector, Kept};
use crate::{interrupt, output, ui};

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut kept = open(args)?;
    let plan = match &args.from {
        Some(folder) => Plan::resume(args, Folder::open(folder)?, &mut kept)?,
        None => Plan::resolve(args, &mut kept)?,
    };
    let ran = start(plan, &mut kept)?;
    finish(ran, kept)
}

/// Checks that the files can be written, and opens the folder of `--keep`.
fn open(args: &Args) -> anyhow::Result<Keep> {
    if let Some(json) = &args.json {
        output::check_unless_stdout("report", "--json", json)?;
    }
    if let Some(trace) = &args.trace {
        output::check("trace", "--trace", trace)?;
    }
    if let Some(address) = &args.gdb {
        address.check()?;
    }
    Keep::open(args.keep.as_deref(), args.json.clone())
}

/// A finished run.
struct Ran {
    outcome: Outcome,
    trace: Option<anyhow::Result<Kept>>,
    known: Known,
    tag: Option<String>,
    sink: Sink,
    /// What went wrong when the files of disks and of the network were written.
    files: Vec<anyhow::Error>,
    /// Frames of the network that the capture has no room for.
    frames_left_out: u64,
    /// Where the machine came from.
    started: Start,
    /// Delays signals until everything has been reported.
    _orderly: interrupt::Orderly,
}

/// Runs the guest to its end.
fn start(plan: Plan, kept: &mut Keep) -> anyhow::Result<Ran> {
    let log = kept.create("console.txt");
    // From here on neither a signal nor a slow reader of the output prevents the report from being written.
    let orderly = interrupt::orderly();
    ui::never_wait();
    if plan.agent.is_none() {
        ui::note(&plan.announcement());
    }
    let shared = plan.ram.share()?;
    let collect = |trace: &Recording| Collector::start(shared.share()?, trace.region, trace.limit);
    let collector = plan.trace.as_ref().map(collect).transpose()?;
    let heard = collector.as_ref().map(Collector::console);
    let is_saved = matches!(plan.origin, Origin::Saved(..));
    let next_request = if let Origin::Saved(_, next) = plan.origin { next } else { 1 };
    let Begun { mut running, beginning, started } = match plan.origin {
        Origin::Cached(snapshot) => start::warm(&plan.settings, plan.ram, snapshot)?,
        Origin::Saved(saved, _) => start::saved(&plan.settings, *saved, plan.sink, log)?,
        Origin::Boot => Running::start(&plan.settings, plan.ram, plan.sink, log, heard)?.into(),
    };
    let stream = running.control();
    let live = plan.disks.live();
    running.once_mapped({
        let live = Arc::clone(&live);
        move || live.trim()
    })?;
    let memory = Arc::new(Memory::new(shared.share()?, plan.known.about.memory_bytes, plan.video));
    let backings = &plan.settings.backings;
    let saver = start::saver(&mut running, backings, &plan.known.about, plan.saved_with);
    let saver = Arc::new(Saver::new(saver));
    let controlled = Controlled { disks: live, memory, saver: Arc::clone(&saver), next_request };
    let serving =
        plan.control.zip(stream).map(|(server, stream)| server.start(stream, controlled)).transpose()?;
    if let Some(serving) = serving.as_ref().filter(|_| is_saved) {
        let started = started.clone();
        serving.set_time(move |why| {
            started.warn(format!("the guest has the time at which it was saved: {why}"));
        });
    }
    let stream = running.sockets();
    let sockets = plan.sockets.zip(stream);
    let sockets = sockets.map(|(server, stream)| server.start(stream, beginning)).transpose()?;
    let outcome = running.wait()?;
    saver.end();
    drop((serving, sockets, plan.entry));
    let mut files = plan.disks.sync();
    let mut frames_left_out = 0;
    match plan.capture.map(Capture::finish) {
        Some(Ok(left_out)) => frames_left_out = left_out,
        Some(Err(error)) => files.push(error),
        None => {}
    }
    let Known { rules, symbols, about, .. } = &plan.known;
    let about = About { rules, memory: about.memory_bytes, symbols };
    let trace = match (collector, &plan.trace) {
        (Some(collector), Some(Recording { file, limit, .. })) if outcome.report.magic == Report::MAGIC => {
            Some(trace::keep(collector, &shared, &outcome, &about, (file, *limit)))
        }
        _ => None,
    };
    let (known, tag, sink) = (plan.known, plan.tag, plan.sink);
    let started = started.get();
    Ok(Ran { outcome, trace, known, tag, sink, files, frames_left_out, started, _orderly: orderly })
}

/// Makes the report of a finished run, and writes its other files.
fn summarize(ran: &mut Ran, kept: &mut Keep) -> Summary {
    let mut summary = Summary::new(&ran.outcome, &ran.known);
    summary.set_tag(ran.tag.take());
    match ran.trace.take() {
        Some(Ok(trace)) => summary.set_trace(trace),
        Some(Err(error)) => kept.failed.push(error),
        None => {}
    }
    summary.set_frames_left_out(ran.frames_left_out);
    summary.set_start(std::mem::take(&mut ran.started));
    kept.failed.append(&mut ran.files);
    kept.outcome(&ran.outcome);
    summary
}

/// Reports, and turns the outcome into an exit code. A write error does not affect the other files.
fn finish(mut ran: Ran, mut kept: Keep) -> anyhow::Result<Exit> {
    let mut summary = summarize(&mut ran, &mut kept);
    let exit = summary.outcome();
    // Files first, because the reader of stdout may be slow.
    kept.report(&summary)?;
    if exit == Exit::Usage {
        kept.complain();
        bail!("{}", summary.explanation());
    }
    if kept.is_json_printed() {
        ui::out(&(serde_json::to_string_pretty(&summary)? + "\n"));
    } else {
        ui::out(&summary.to_string());
    }
    if exit != Exit::Success {
        ui::note(&format!("hv boot: {}", ui::one_line(summary.explanation())));
    }
    if ran.sink.is_some_and(|stream| summary.set_console_dropped(ui::drain(stream))) {
        kept.report_again(&summary)?;
    }
    Ok(if kept.complain() { Exit::Usage } else { exit })
}
