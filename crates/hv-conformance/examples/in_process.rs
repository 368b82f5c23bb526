//! The suite over `hv-partition` in this process: prints what a guest would, for one host after the other.
//!
//! `hv conformance --mutants` runs it against wrong hosts. Once a case has failed, the hosts that follow run only the
//! cases that all hosts before have skipped: they too may find the mutant.

#[expect(dead_code, reason = "this program runs no threads")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hv_conformance::protocol::Lines;
use hv_conformance::{Case, Convention, Outcome, Setting, Sink, Stop, Totals};
use hv_partition::{Config, Profile};
use hv_tlfs::features::PartitionPrivileges;

/// Ticks per second: one that no reference time unit divides.
const FREQUENCY: u64 = 62_500_003;

/// How long a case may take; each takes some milliseconds. It ends a host that loops without mutants and without
/// looking at its embedder: all else is counted, and ends after the same steps on each machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Number of writes to stdout.
static WRITES: AtomicU64 = AtomicU64::new(0);

struct Stdout;

impl fmt::Write for Stdout {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        WRITES.fetch_add(1, Ordering::Relaxed);
        std::io::stdout().write_all(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

/// Sink that prints the events, and keeps what is left to run.
struct Run {
    lines: Lines<Stdout>,
    skipped: Vec<String>,
}

impl Sink for Run {
    fn begin(&mut self, setting: &Setting<'_>) {
        self.lines.begin(setting);
    }

    fn case(&mut self, case: &Case) {
        self.lines.case(case);
    }

    fn outcome(&mut self, case: &Case, outcome: &Outcome) {
        self.lines.outcome(case, outcome);
        if matches!(outcome, Err(Stop::Skip(_))) {
            self.skipped.push(format!("{case:?}"));
        }
    }

    fn end(&mut self, totals: &Totals) {
        self.lines.end(totals);
    }
}

/// Hosts that differ in what they offer, the most telling first.
fn hosts() -> [(Config, Convention); 6] {
    let mut all = Config::new(FREQUENCY);
    let features = &mut all.hypervisor.profile.features;
    features.privileges = features.privileges.with_access_partition_id(true);
    let mut indirect = all;
    let c = &mut indirect.hypervisor.profile.features.c;
    *c = c.with_direct_synthetic_timers(false);
    let minimal = Config::new(FREQUENCY).with_profile(Profile::MINIMAL);
    let mut impatient = all;
    impatient.hypervisor.rep_budget = 0;
    let mut bare = minimal;
    let features = &mut bare.hypervisor.profile.features;
    features.privileges = PartitionPrivileges(0).with_access_vp_registers(true);
    [
        (all, Convention::Smccc),
        (all, Convention::Hvc1),
        (minimal, Convention::Smccc),
        (indirect, Convention::Smccc),
        (impatient, Convention::Smccc),
        (bare, Convention::Smccc),
    ]
}

fn main() -> std::process::ExitCode {
    std::thread::spawn(|| {
        let mut writes = None;
        while writes != Some(WRITES.load(Ordering::Relaxed)) {
            writes = Some(WRITES.load(Ordering::Relaxed));
            std::thread::sleep(LIMIT);
        }
        eprintln!("the case does not end");
        std::process::exit(2);
    });
    let (mut failed, mut filter) = (0, String::new());
    for (config, convention) in hosts() {
        let mut sink = Run { lines: Lines(Stdout), skipped: Vec::new() };
        let run = |env: &support::InProcess<'_>| hv_conformance::run(env, &filter, &mut sink);
        failed += support::with(config, 2, convention, run).failed;
        if failed != 0 {
            filter = sink.skipped.join(",");
            if filter.is_empty() {
                break;
            }
        }
    }
    std::process::ExitCode::from(u8::from(failed != 0))
}
