//! The suite over `hv-host`: every case, on several numbers of VPs, in both conventions, with each profile.

mod support;

use std::fmt::Write as _;

use hv_conformance::{Case, Convention, Outcome, Setting, Sink, Stop, Totals, cases, run};
use hv_partition::{Config, Profile};

/// Ticks per second: one that no reference time unit divides.
const FREQUENCY: u64 = 62_500_003;

/// Sink that keeps what failed and what was skipped.
#[derive(Default)]
struct Log {
    text: String,
    skipped: Vec<(String, &'static str)>,
}

impl Sink for Log {
    fn begin(&mut self, _: &Setting<'_>) {}

    fn case(&mut self, _: &Case) {}

    fn outcome(&mut self, case: &Case, outcome: &Outcome) {
        match outcome {
            Err(Stop::Fail(failure)) => {
                let _ = writeln!(self.text, "  {case:?}: {failure}");
            }
            Err(Stop::Skip(reason)) => self.skipped.push((format!("{case:?}"), reason)),
            Ok(()) => {}
        }
    }

    fn end(&mut self, _: &Totals) {}
}

fn profile(name: &str) -> Profile {
    match name {
        "azure" => Profile::AZURE,
        "2018" => Profile::PATCH_2018,
        _ => Profile::MINIMAL,
    }
}

fn run_all(config: Config, vps: usize, convention: Convention, name: &str) -> (Totals, Log) {
    let mut log = Log::default();
    let totals = support::with(config, vps, convention, |env| run(env, "", &mut log));
    println!(
        "{name}, {vps} VPs, {}: {} passed, {} failed, {} skipped",
        convention.name(),
        totals.passed,
        totals.failed,
        totals.skipped
    );
    (totals, log)
}

#[test]
fn the_host_model_conforms() {
    let mut failures = String::new();
    for name in ["azure", "2018", "minimal"] {
        for vps in [1, 2, 4] {
            for convention in [Convention::Smccc, Convention::Hvc1] {
                let config = Config::new(FREQUENCY).with_profile(profile(name));
                let (totals, log) = run_all(config, vps, convention, name);
                if totals.failed != 0 {
                    let _ = writeln!(failures, "{name}, {vps} VPs, {}:\n{}", convention.name(), log.text);
                }
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn the_host_model_conforms_in_threads_by_the_wall_clock() {
    for (vps, convention) in [(2, Convention::Smccc), (4, Convention::Hvc1)] {
        let mut log = Log::default();
        let totals = support::with_threads(Config::new(FREQUENCY), vps, convention, |env| {
            let totals = run(env, "", &mut log);
            for vp in 1..vps {
                println!("VP {vp} made {} rounds of calls alongside the suite", env.rounds(vp));
                assert!(env.rounds(vp) > 100, "VP {vp} ran alongside the suite");
            }
            totals
        });
        println!(
            "{vps} threads, {}: {} passed, {} skipped",
            convention.name(),
            totals.passed,
            totals.skipped
        );
        assert_eq!(totals.failed, 0, "{}:\n{}", convention.name(), log.text);
    }
}

#[test]
fn vps_in_threads_are_inside_the_partition_at_the_same_time() {
    support::with_threads(Config::new(FREQUENCY), 4, Convention::Smccc, |env| {
        assert!(env.meet_inside(4), "four VPs met in calls of the partition");
        assert!(env.meet_inside(2), "two of them did once more");
    });
}

#[test]
fn the_host_model_conforms_with_the_shortest_time_budget() {
    let mut config = Config::new(FREQUENCY);
    config.hypervisor.rep_budget = 0;
    let (totals, log) = run_all(config, 2, Convention::Smccc, "azure, no budget");
    assert_eq!(totals.failed, 0, "\n{}", log.text);
}

#[test]
fn no_case_is_skipped_everywhere() {
    let mut all = Config::new(FREQUENCY);
    let features = &mut all.hypervisor.profile.features;
    features.privileges = features.privileges.with_access_partition_id(true);
    let mut indirect = all;
    let c = &mut indirect.hypervisor.profile.features.c;
    *c = c.with_direct_synthetic_timers(false);
    let (_, all) = run_all(all, 2, Convention::Smccc, "azure with partition id");
    let (_, indirect) = run_all(indirect, 2, Convention::Smccc, "azure without direct timers");
    let twice = all.skipped.iter().filter(|one| indirect.skipped.iter().any(|other| other.0 == one.0));
    assert!(twice.clone().count() == 0, "{:#?}", twice.collect::<Vec<_>>());
}

#[test]
fn names_are_unique() {
    let mut names: Vec<String> = cases().map(|case| format!("{case:?}")).collect();
    let count = names.len();
    println!("{count} cases");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}
