//! What Linux's own log tells of its time: the time of each line (CONFIG_PRINTK_TIME), and initcalls.

use std::time::Duration;

use serde::Serialize;

/// Number of gaps and of initcalls that are listed.
const LISTED: usize = 8;
/// Shorter ones are of no interest.
const SHORTEST: Duration = Duration::from_millis(10);

/// Letters of a line that are shown, at most.
const LINE: usize = 160;

/// The line with which Linux starts the first program.
///
/// Source: Linux, init/main.c, `run_init_process`.
const INIT: [&str; 2] = ["Run /", " as init process"];

/// A time without a line of the kernel's.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Gap {
    pub(super) ms: u64,
    /// The line after it, with its time.
    pub(super) line: String,
}

/// An initcall of the kernel's.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Initcall {
    pub(super) ms: u64,
    pub(super) name: String,
}

/// The lines of a kernel that have a time.
#[derive(Debug)]
pub(super) struct Log<'a>(Vec<(Duration, &'a str)>);

impl<'a> Log<'a> {
    /// Finds them on a console. A program of the guest can print such lines, too: they are text for users alone.
    pub(super) fn new(console: &'a str) -> Self {
        Self(console.lines().filter_map(|line| Some((stamp(line)?, line.trim_end()))).collect())
    }

    /// Returns the time from the start of init to the last line, if both are there.
    pub(super) fn init(&self) -> Option<Duration> {
        let is_init = |line: &str| INIT.iter().all(|part| line.contains(part));
        let init = self.0.iter().find(|(_, line)| is_init(line))?.0;
        self.0.last()?.0.checked_sub(init)
    }

    /// Returns the longest times between two lines.
    pub(super) fn gaps(&self) -> Vec<Gap> {
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        let gaps = pairs.filter_map(|((before, _), (at, line))| Some((at.checked_sub(*before)?, *line)));
        longest(gaps).map(|(ms, line)| Gap { ms, line: line.chars().take(LINE).collect() }).collect()
    }
}

/// Returns the longest initcalls, which Linux prints with `initcall_debug ignore_loglevel`.
///
/// Source: Linux, init/main.c, `trace_initcall_finish_cb`.
pub(super) fn initcalls(console: &str) -> Vec<Initcall> {
    let call = |line: &str| {
        let (_, rest) = line.split_once("initcall ")?;
        let (name, rest) = rest.split_once(" returned ")?;
        let micros = rest.trim_end().strip_suffix(" usecs")?.rsplit_once(" after ")?.1.parse().ok()?;
        Some((Duration::from_micros(micros), name.split('+').next()?.to_owned()))
    };
    longest(console.lines().filter_map(call)).map(|(ms, name)| Initcall { ms, name }).collect()
}

/// Returns the longest of these times in milliseconds, the longest first.
fn longest<T>(times: impl Iterator<Item = (Duration, T)>) -> impl Iterator<Item = (u64, T)> {
    let mut times: Vec<_> = times.filter(|(time, _)| *time >= SHORTEST).collect();
    times.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    times.into_iter().take(LISTED).map(|(time, what)| (super::millis(time), what))
}

/// Returns the time at the start of a line: seconds and microseconds in brackets.
fn stamp(line: &str) -> Option<Duration> {
    let (stamp, _) = line.strip_prefix('[')?.split_once(']')?;
    let (seconds, micros) = stamp.trim_start().split_once('.')?;
    let micros: u64 = micros.parse().ok().filter(|_| micros.len() == 6)?;
    Some(Duration::from_secs(u64::from(seconds.parse::<u32>().ok()?)) + Duration::from_micros(micros))
}
