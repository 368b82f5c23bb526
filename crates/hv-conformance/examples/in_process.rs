//! The suite over `hv-partition` in this process: prints what a guest would, for one host after the other.
//!
//! `hv conformance --mutants` runs it against wrong hosts.

#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use hv_conformance::Convention;
use hv_conformance::protocol::Lines;
use hv_partition::{Config, Profile};
use hv_tlfs::features::PartitionPrivileges;

/// Ticks per second: one that no reference time unit divides.
const FREQUENCY: u64 = 62_500_003;

/// A host that loops without looking at its embedder is ended by the clock on the wall. All else ends by itself.
const LIMIT: Duration = Duration::from_secs(60);

struct Stdout;

impl fmt::Write for Stdout {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        std::io::stdout().write_all(text.as_bytes()).map_err(|_| fmt::Error)
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
        std::thread::sleep(LIMIT);
        eprintln!("the suite does not end");
        std::process::exit(2);
    });
    let mut failed = 0;
    for (config, convention) in hosts() {
        let run = |env: &support::InProcess<'_>| hv_conformance::run(env, "", &mut Lines(Stdout));
        failed += support::with(config, 2, convention, run).failed;
    }
    std::process::ExitCode::from(u8::from(failed != 0))
}
