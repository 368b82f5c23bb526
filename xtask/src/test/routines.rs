//! Every routine of hv-guest on the machine: `bare/routines`, over both conventions, on 1, 2 and 4 VPs, with each page
//! size; and `bare/hello`, which shows how a kernel uses them.

use super::context::{Booted, Context};
use super::programs::program;
use super::runner::Step;
use hv_setup::exit::Exit;

/// The rows that the program runs.
const ROWS: [&str; 9] = [
    "discovery",
    "hypercalls",
    "registers",
    "clock",
    "synic",
    "messages",
    "timers",
    "processors",
    "teardown",
];

/// A run of the program.
struct Run {
    /// The convention's name on the command line, and in the program's output.
    convention: (&'static str, &'static str),
    vps: &'static str,
    granule: &'static str,
    cpu: &'static str,
    /// The content of the crash report.
    crash: &'static str,
}

const SMCCC: (&str, &str) = ("smccc", "Smccc");
const HVC1: (&str, &str) = ("hvc1", "Hvc1");
/// The convention that the host answers.
const PROBED: (&str, &str) = ("probe", "Smccc");

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for (convention, crashes) in [(SMCCC, ["numbers", "empty", "long"]), (HVC1, ["empty", "long", "numbers"])]
    {
        for (vps, crash) in ["1", "2", "4"].into_iter().zip(crashes) {
            let run = Run { convention, vps, granule: "4k", cpu: "cortex-a72", crash };
            let name = format!("routines/{}/{vps}-vps", convention.0);
            steps.push(Step::new(name, move |context| run.go(context, "", &[])));
        }
    }
    for (granule, cpu) in [("16k", "cortex-a76"), ("64k", "cortex-a72")] {
        let run = Run { convention: PROBED, vps: "2", granule, cpu, crash: "long" };
        steps.push(Step::new(format!("routines/{granule}"), move |context| run.go(context, "", &[])));
    }
    let run = Run { convention: PROBED, vps: "2", granule: "4k", cpu: "cortex-a72", crash: "long" };
    steps.push(Step::new("routines/migrated", move |context| {
        run.go(context, " routines.migrations=10", &["--inject", "migrate@5ms"])
    }));
    let run = Run { convention: HVC1, vps: "2", granule: "4k", cpu: "cortex-a72", crash: "long" };
    steps
        .push(Step::new("routines/continued", move |context| run.go(context, "", &["--inject", "again@/2"])));
    let run = Run { convention: PROBED, vps: "4", granule: "4k", cpu: "cortex-a72", crash: "long" };
    steps.push(Step::new("routines/deterministic", move |context| run.go(context, "", &["--deterministic"])));
    for (append, granule, cpu) in [
        ("", "4k", "cortex-a72"),
        ("hello.hvc=1", "4k", "cortex-a72"),
        ("", "16k", "cortex-a76"),
        ("hello.hvc=1", "64k", "cortex-a72"),
    ] {
        let convention = if append.is_empty() { "hvc0" } else { "hvc1" };
        steps.push(Step::new(format!("program/hello/{convention}/{granule}"), move |context| {
            hello(context, &format!("{append} rt.granule={granule}"), cpu)
        }));
    }
    steps
}

impl Run {
    /// Runs two kernels, one after the other, which run every row; the second one crashes on the last VP.
    fn go(&self, context: &Context, more_words: &str, more: &[&str]) -> anyhow::Result<()> {
        let (argument, says) = self.convention;
        let append = format!(
            "routines.conduit={argument} routines.crash={} rt.granule={}{more_words}",
            self.crash, self.granule
        );
        let mut options = vec!["--loopback", "--vps", self.vps, "--cpu", self.cpu, "--append", &append];
        options.extend(more);
        let booted = program(context, "routines", &options)?;
        booted.ended(Exit::Crash, "crash")?;
        for row in ROWS {
            let count = booted.console.matches(&format!("routines: {row}: good")).count();
            booted.check(count == 2, &format!("row {row} is run by both kernels, not {count} times"))?;
        }
        for kernel in ["0", "1"] {
            let pages = self.granule.trim_end_matches('k');
            booted.says(&format!("kernel {kernel} done: {} VPs, {says}, {pages}K pages", self.vps))?;
        }
        booted.says("routines: reported once")?;
        self.crashed(&booted)
    }

    fn crashed(&self, booted: &Booted) -> anyhow::Result<()> {
        let last: u64 = self.vps.parse::<u64>()? - 1;
        booted.is("/crash/vp", last)?;
        let parameters = booted.strings("/crash/parameters");
        let text = booted.json["crash"]["text"].as_str().unwrap_or_default();
        let (control, length, p4) = match self.crash {
            "numbers" => ("0x8000000000000000", 0, "0xf"),
            "empty" => ("0x8000000000000000", 0, "0x0"),
            _ => ("0xc000000000000000", 4096, "0x1000"),
        };
        booted.is("/crash/control", control)?;
        booted.check(text.len() == length, &format!("a text of {length} bytes, not {}", text.len()))?;
        let first: Vec<&str> = parameters.iter().map(String::as_str).take(3).collect();
        booted.check(first == ["0xb", "0xc", "0xd"], &format!("the numbers arrive: {parameters:?}"))?;
        booted.check(parameters.last().is_some_and(|last| last == p4), &format!("P4 is {p4}: {parameters:?}"))
    }
}

/// Checks that a guest written in Rust detects Hyper-V by its UID, uses clock, timer and VMBus, and crashes
/// deliberately.
fn hello(context: &Context, append: &str, cpu: &str) -> anyhow::Result<()> {
    // By instructions: on a machine that is busy, the time for which the kernel sets its timer may have passed before
    // the timer starts, which a rule names.
    let options = ["--strict", "--deterministic", "--cpu", cpu, "--append", append];
    let booted = program(context, "hello", &options)?;
    booted.ended(Exit::Crash, "crash")?;
    booted.says("hello: a message came: VMBus 5.3 supported: 1")?;
    booted.is("/detection", "SMCCC vendor hypervisor UID")?;
    // Over `hvc #1` one rule is broken: that new code uses the other.
    let findings = booted.json["findings"].as_array().map_or(&[][..], Vec::as_slice);
    let rules: Vec<_> = findings.iter().filter_map(|finding| finding["rule"].as_str()).collect();
    let expected: &[&str] = if append.contains("hello.hvc=1") { &["call-hvc-1"] } else { &[] };
    booted.check(booted.json["findings"].is_array() && rules == expected, &format!("it breaks {rules:?}"))?;
    booted.is("/crash/text", "deliberate")
}
