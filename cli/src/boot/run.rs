//! A run, from the options to the report: [`run`] resolves the options, runs the guest, and reports.

use std::sync::Arc;

use anyhow::bail;
use hv_wire::Report;

use super::args::Args;
use super::keep::Keep;
use super::plan::{Origin, Plan, Recording};
use super::start::{self, Begun, Started};
use crate::control::{Controlled, Memory, Server, Serving};
use crate::disks::Disks;
use crate::exit::Exit;
use crate::machine::{Outcome, Running, Sink};
use crate::net::Capture;
use crate::report::{KeptTrace, Known, Start, Summary};
use crate::snapshot::{Folder, Saver};
use crate::timings::{self, Counter, Timings};
use crate::trace::{self, About, Collector};
use crate::{interrupt, output, ui};

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut kept = open(args)?;
    let mut plan = match &args.from {
        Some(folder) => Plan::resume(args, Folder::open(folder)?)?,
        None => Plan::resolve(args)?,
    };
    plan.record(&mut kept);
    let ran = start(plan, &mut kept)?;
    finish(ran, kept)
}

/// Begins a run: checks that the files can be written, and opens the folder of `--keep`.
pub(super) fn open(args: &Args) -> anyhow::Result<Keep> {
    timings::begin();
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
pub(super) struct Ran {
    pub(super) outcome: Outcome,
    trace: Option<anyhow::Result<KeptTrace>>,
    pub(super) known: Known,
    tag: Option<String>,
    sink: Sink,
    /// What went wrong when the files of disks and of the network were written.
    files: Vec<anyhow::Error>,
    /// Frames of the network that the capture has no room for.
    frames_left_out: u64,
    /// Where the machine came from.
    started: Start,
    timings: Option<Counter>,
    /// Delays signals until everything has been reported.
    _orderly: interrupt::Orderly,
}

/// Runs the guest to its end.
pub(super) fn start(plan: Plan, kept: &mut Keep) -> anyhow::Result<Ran> {
    let log = kept.create("console.txt");
    // From here on neither a signal nor a slow reader of the output prevents the report from being written.
    let orderly = interrupt::orderly();
    ui::never_wait();
    if plan.agent.is_none() {
        ui::note(&plan.announcement());
    }
    let shared = plan.ram.clone();
    let collect = |trace: &Recording| Collector::start(shared.clone(), trace.region, trace.limit);
    let collector = plan.trace.as_ref().map(collect).transpose()?;
    // A line is recorded when this program reads it, which no two runs do at the same time of the guest's.
    let console = collector.as_ref().filter(|_| !plan.settings.deterministic);
    let heard = console.map(Collector::console);
    let resumed = if let Origin::Saved(_, next) = plan.origin { Some(next) } else { None };
    let Begun { mut running, beginning, started } = match plan.origin {
        Origin::Cached(snapshot) => start::warm(&plan.settings, plan.ram, snapshot)?,
        Origin::Saved(saved, _) => start::saved(&plan.settings, *saved, plan.sink, log)?,
        Origin::Boot => Running::start(&plan.settings, plan.ram, plan.sink, log, heard)?.into(),
    };
    let live = plan.disks.live();
    running.once_mapped({
        let live = Arc::clone(&live);
        move || live.trim()
    })?;
    let memory = Arc::new(Memory::new(shared.clone(), plan.known.about.memory_bytes, plan.video));
    let backings = &plan.settings.backings;
    let saver = start::saver(&mut running, backings, &plan.known.about, plan.saved_with);
    let saver = Arc::new(Saver::new(saver));
    let next_request = resumed.unwrap_or(1);
    let controlled = Controlled { disks: live, memory, saver: Arc::clone(&saver), next_request };
    let late = resumed.map(|_| started.clone());
    let serving = serve(plan.control, &mut running, controlled, late)?;
    let sockets = plan.sockets.zip(running.sockets());
    let sockets = sockets.map(|(server, stream)| server.start(stream, beginning)).transpose()?;
    let outcome = running.wait()?;
    saver.end();
    drop((serving, sockets, plan.entry));
    let (files, frames_left_out) = finish_files(&plan.disks, plan.capture);
    let trace = collector.zip(plan.trace).filter(|_| outcome.report.magic == Report::MAGIC);
    let trace = trace.map(|(collector, Recording { file, limit, .. })| {
        let Known { rules, symbols, about, .. } = &plan.known;
        let about = About { rules, memory: about.memory_bytes, symbols };
        trace::keep(collector, &shared, &outcome, &about, (&file, limit))
    });
    let (known, tag, sink) = (plan.known, plan.tag, plan.sink);
    let started = started.get();
    let timings = plan.timings;
    Ok(Ran { outcome, trace, known, tag, sink, files, frames_left_out, started, timings, _orderly: orderly })
}

/// Serves a running machine's control port, if it has one. If the machine was resumed, it gets the time, and `late`
/// hears of it if that fails.
fn serve(
    control: Option<Server>,
    running: &mut Running,
    controlled: Controlled,
    late: Option<Started>,
) -> anyhow::Result<Option<Serving>> {
    let control = control.zip(running.control());
    let serving = control.map(|(server, stream)| server.start(stream, controlled)).transpose()?;
    if let Some((serving, started)) = serving.as_ref().zip(late) {
        serving.set_time(move |why| {
            started.warn(format!("the guest has the time at which it was saved: {why}"));
        });
    }
    Ok(serving)
}

/// Brings the files of disks and of the network to storage. Returns what went wrong, and the number of frames that the
/// capture has no room for.
fn finish_files(disks: &Disks, capture: Option<Capture>) -> (Vec<anyhow::Error>, u64) {
    let mut files = disks.sync();
    let frames_left_out = match capture.map(Capture::finish) {
        Some(Ok(left_out)) => left_out,
        Some(Err(error)) => {
            files.push(error);
            0
        }
        None => 0,
    };
    (files, frames_left_out)
}

/// Makes the report of a finished run, and writes its other files.
pub(super) fn summarize(ran: &mut Ran, kept: &mut Keep) -> Summary {
    let mut summary = Summary::new(&ran.outcome, &ran.known);
    summary.set_tag(ran.tag.take());
    match ran.trace.take() {
        Some(Ok(trace)) => summary.set_trace(trace),
        Some(Err(error)) => kept.failed.push(error),
        None => {}
    }
    summary.set_frames_left_out(ran.frames_left_out);
    summary.set_start(std::mem::take(&mut ran.started));
    if let Some(counter) = ran.timings {
        summary.set_timings(Timings::new(&ran.outcome, counter));
    }
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
