//! The wall time of a run by its parts, for `hv boot --timings`.

mod kernel;

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hv_wire::Report;
use serde::Serialize;

use crate::machine::Outcome;
use crate::ui::one_line;
use kernel::{Gap, Initcall};

/// A part of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Part {
    part: Cow<'static, str>,
    /// The part that this one lies in, together with others that run at the same time.
    within: Option<&'static str>,
    ms: u64,
}

impl Part {
    const fn new(part: &'static str, time: Duration) -> Self {
        Self { part: Cow::Borrowed(part), within: None, ms: millis(time) }
    }
}

/// The tool's own parts of this process, in the order in which they began.
static PARTS: Mutex<Vec<Part>> = Mutex::new(Vec::new());

/// Does a part of the tool's work, and records its time.
pub(crate) fn part<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    record(name, None, work)
}

/// Does what is one of several parts of the part `within`, and records its time.
pub(crate) fn part_of<T>(within: &'static str, name: &'static str, work: impl FnOnce() -> T) -> T {
    record(name, Some(within), work)
}

fn record<T>(name: &'static str, within: Option<&'static str>, work: impl FnOnce() -> T) -> T {
    let parts = || PARTS.lock().unwrap_or_else(PoisonError::into_inner);
    let began = Instant::now();
    let place = {
        let mut parts = parts();
        parts.push(Part { within, ..Part::new(name, Duration::ZERO) });
        parts.len() - 1
    };
    let result = work();
    parts()[place].ms = millis(began.elapsed());
    result
}

/// When the run began.
#[derive(Clone, Copy, Debug)]
struct Began {
    at: Instant,
    age: Duration,
}

impl Began {
    /// Reads the age of this process. Without procfs it is taken to be new.
    fn now() -> Self {
        let read = |file| std::fs::read_to_string(file).unwrap_or_default();
        let age = age(&read("/proc/self/stat"), &read("/proc/uptime")).unwrap_or_default();
        Self { at: Instant::now(), age }
    }
}

static BEGAN: OnceLock<Began> = OnceLock::new();

/// Begins the time of the run. `cargo run` becomes the tool, so what this process has behind it is cargo's.
pub(crate) fn begin() {
    BEGAN.get_or_init(Began::now);
}

/// Returns the age of a process with a resolution of 10 ms, from `/proc/PID/stat` and `/proc/uptime`.
///
/// Source: proc_pid_stat(5), field 22, in clock ticks, of which Linux shows 100 a second.
fn age(stat: &str, uptime: &str) -> Option<Duration> {
    // The program's name, field 2, may have spaces.
    let began: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let up: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(up).ok()?.checked_sub(Duration::from_millis(began.checked_mul(10)?))
}

/// What part of a run the counter measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    /// All, from QEMU's start on.
    Wall,
    /// Other things than the wall's time since QEMU's start: it counts instructions, or the machine is a saved one, or
    /// one over KVM.
    Other,
}

/// Where the wall time of a run went.
#[derive(Debug, Serialize)]
pub(crate) struct Timings {
    total_ms: u64,
    parts: Vec<Part>,
    /// The longest times between two lines that the kernel has printed in this run, the longest first.
    gaps: Vec<Gap>,
    /// The kernel's longest initcalls, if it was told to print them.
    initcalls: Vec<Initcall>,
    /// Bytes of the console before those in which these two were looked for.
    console_left_out: u64,
}

/// What is before the tool's own first step.
const START: &str = if cfg!(feature = "packed") { "start" } else { "cargo" };

impl Timings {
    /// Divides the wall time of a run that has ended.
    pub(crate) fn new(outcome: &Outcome, counter: Counter) -> Self {
        Self::since(*BEGAN.get_or_init(Began::now), outcome, counter)
    }

    fn since(began: Began, outcome: &Outcome, counter: Counter) -> Self {
        let total = began.at.elapsed() + began.age;
        let mut parts = vec![Part::new(START, began.age)];
        parts.extend(PARTS.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        parts.extend(machine(outcome, counter));
        let known: u64 = parts.iter().filter(|part| part.within.is_none()).map(|part| part.ms).sum();
        let rest = millis(total).saturating_sub(known);
        parts.push(Part::new("rest", Duration::from_millis(rest)));
        // What a resumed machine had printed before it was saved took none of this run's time.
        let console = outcome.console.get(outcome.console_earlier..).unwrap_or_default();
        Self {
            total_ms: millis(total),
            parts,
            gaps: kernel::Log::new(console).gaps(),
            initcalls: kernel::initcalls(console),
            console_left_out: outcome.console_left_out,
        }
    }
}

/// Divides the time of the machine. The hypervisor's counter begins with QEMU's machine and ends with the guest, whose
/// end the tool has seen: what is before and after it is QEMU's own.
fn machine(outcome: &Outcome, counter: Counter) -> Vec<Part> {
    let report = &*outcome.report;
    let whole = || vec![Part::new("machine", outcome.wall)];
    let Some(over) = outcome.over.filter(|_| counter == Counter::Wall && report.start_counter != 0) else {
        return whole();
    };
    let (start, end) = (time(report, report.start_counter), time(report, report.end_counter));
    let (Some(before), Some(guest)) = (over.checked_sub(end), end.checked_sub(start)) else { return whole() };
    let mut parts = vec![Part::new("QEMU's start", before), Part::new("hypervisor's start", start)];
    match kernel::Log::new(&outcome.console).init().filter(|init| *init < guest) {
        Some(init) => parts.extend([Part::new("kernel", guest - init), Part::new("init", init)]),
        None => parts.push(Part::new("guest", guest)),
    }
    parts.push(Part::new("QEMU's end", outcome.wall.saturating_sub(over)));
    parts
}

/// Returns the time of a counter's value.
fn time(report: &Report, counter: u64) -> Duration {
    let nanos = u128::from(counter) * 1_000_000_000 / u128::from(report.counter_frequency.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

const fn millis(time: Duration) -> u64 {
    let millis = (time.as_nanos() + 500_000) / 1_000_000;
    if millis > u32::MAX as u128 { u32::MAX as u64 } else { millis as u64 }
}

impl Display for Timings {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n  {:<24} {:>6}", "wall time", "ms")?;
        let outer = self.parts.iter().filter(|part| part.within.is_none());
        for part in outer {
            writeln!(f, "  {:<24} {:>6}", part.part, part.ms)?;
            for inner in self.parts.iter().filter(|inner| inner.within == Some(&*part.part)) {
                writeln!(f, "    {:<22} {:>6}", inner.part, inner.ms)?;
            }
        }
        writeln!(f, "  {:<24} {:>6}", "in all", self.total_ms)?;
        if self.console_left_out > 0 {
            writeln!(f, "\n  the console's first {} bytes are not looked at", self.console_left_out)?;
        }
        if !self.gaps.is_empty() {
            writeln!(f, "\n  the kernel's longest times before a line")?;
        }
        for gap in &self.gaps {
            writeln!(f, "    {:>6} ms  {}", gap.ms, one_line(&gap.line))?;
        }
        if !self.initcalls.is_empty() {
            writeln!(f, "\n  the kernel's longest initcalls")?;
        }
        for call in &self.initcalls {
            writeln!(f, "    {:>6} ms  {}", call.ms, one_line(&call.name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
