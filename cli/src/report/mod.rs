//! The report: the hypervisor's counts, as JSON and as text.

mod devices;
mod ending;
mod findings;
pub(crate) mod names;
mod places;
mod text;
mod warnings;

use std::borrow::Cow;

use hv_machine::Firmware;
use hv_tlfs::rules::{RULES, Severity};
use hv_wire::{Report, VpReport};
use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::machine::{Accel, Outcome};
use crate::symbols::Later;
use crate::timings::Timings;
pub(crate) use ending::trouble;
use ending::{broken, judge};
use findings::Finding;
use places::Places;
pub(crate) use places::place;
pub(crate) use warnings::interrupt as interrupt_of;

/// What the tool knows about a run and the hypervisor does not.
#[derive(Debug)]
pub(crate) struct Known {
    /// The description of the machine for the guest.
    pub(crate) firmware: Firmware,
    /// Names for guest addresses.
    pub(crate) symbols: Later,
    /// The rules of the fault plan, as the user wrote them.
    pub(crate) rules: Vec<String>,
    /// The guest was checked against the rules of the interface.
    pub(crate) strict: bool,
    /// Lowest severity of a broken rule that counts as a failure.
    pub(crate) fails_from: Option<Severity>,
    /// What ran.
    pub(crate) about: About,
}

/// Origin of the machine of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// It had booted before, and went on from a snapshot.
    pub(crate) from_snapshot: bool,
    /// Why it could not, or why it was not saved for other runs.
    pub(crate) warnings: Vec<String>,
}

/// Version of the JSON: it increases when a field changes or is removed, not when one is added.
pub(crate) const SCHEMA: u32 = 1;

/// What ran, and with which programs.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct About {
    pub(crate) kernel: Kernel,
    /// The guest's command line, including the tool's additions.
    pub(crate) command_line: String,
    /// What ran the guest's instructions.
    pub(crate) accel: Accel,
    /// `None` if KVM ran them.
    pub(crate) qemu: Option<Qemu>,
    /// Size of the guest's RAM in bytes.
    pub(crate) memory_bytes: u64,
}

/// The trace that a run has written.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct KeptTrace {
    /// The file.
    pub(crate) file: String,
    /// Records in it.
    pub(crate) records: u64,
    /// Records lost because a ring was full.
    pub(crate) dropped: u64,
    /// Records for which the file had no room.
    pub(crate) left_out: u64,
}

/// A kernel file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kernel {
    /// The file.
    pub(crate) path: String,
    /// Package of a stock kernel.
    pub(crate) package: Option<String>,
    /// `Image` or `ELF64`.
    pub(crate) format: Cow<'static, str>,
    /// The packing of the file: a compression, or `zboot`.
    pub(crate) container: Option<Cow<'static, str>>,
    /// The version in Linux's banner.
    pub(crate) version: Option<String>,
    /// The page size in the kernel's header.
    pub(crate) page_size_bytes: Option<u32>,
}

impl Kernel {
    /// Returns its name for users.
    pub(crate) fn title(&self) -> &str {
        self.package.as_ref().unwrap_or(&self.path)
    }
}

/// QEMU.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Qemu {
    /// Its version.
    pub(crate) version: String,
    /// Its command line.
    pub(crate) command: String,
}

/// The activity of a guest. The book's chapter "JSON" is the contract.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    schema: u32,
    /// Version of the tool.
    hv_version: &'static str,
    /// `power-off`, `reset`, `crash`, `timeout`, `vps-off`, `interrupted` or `error`.
    exit: &'static str,
    /// The exit code of the process, unless an output cannot be written.
    exit_code: u8,
    /// Why it ended.
    #[serde(rename = "reason")]
    explanation: String,
    /// Milliseconds from the guest's first instruction to its end, by its own counter; `None` if the tool ended it.
    run_ms: Option<u64>,
    #[serde(flatten)]
    about: About,
    /// `boot`, or `snapshot` if it had booted before.
    start: &'static str,
    /// `acpi`, `dt` or `both`.
    firmware: &'static str,
    /// Number of VPs.
    vps: u32,
    /// `None` if the guest never set it.
    guest_os_id: Option<GuestOs>,
    detection: &'static str,
    hypercalls: Vec<Hypercall>,
    registers: Vec<Register>,
    synic: Vec<Synic>,
    vmbus: Vmbus,
    /// Devices on VMBus, by their places on it.
    devices: Vec<devices::ReportedDevice>,
    crash: Option<Crash>,
    warnings: Vec<String>,
    /// The check against the rules; `None` without `--strict`.
    rules: Option<Checked>,
    /// Rules that the guest broke; empty without `--strict`.
    findings: Vec<Finding>,
    /// The rules of the fault plan; empty without `--inject`.
    faults: Vec<PlanRule>,
    /// `None` without a trace.
    trace: Option<KeptTrace>,
    /// Console bytes that were not shown, because the reader did not take them in time.
    console_dropped_bytes: u64,
    /// Maximum number of VPs served at a lock of the hypervisor ahead of a later one.
    longest_queue: u32,
    /// Where the wall time went; `None` without `--timings`.
    timings: Option<Timings>,
    /// The tag after the header of the text.
    #[serde(skip)]
    tag: Option<String>,
    #[serde(skip)]
    outcome: Exit,
    /// The run's end, whatever rules were broken.
    #[serde(skip)]
    end: Exit,
}

/// The extent of the check against the rules, and its result.
#[derive(Debug, Serialize)]
struct Checked {
    /// Number of rules that were checked.
    checked: usize,
    /// Number of rules that were broken.
    broken: usize,
}

/// A rule of a fault plan.
#[derive(Debug, Serialize)]
struct PlanRule {
    /// The rule as the user wrote it.
    rule: String,
    /// How often it fired.
    fired: u64,
}

#[derive(Debug, Serialize)]
struct GuestOs {
    value: String,
    vendor: String,
    os: String,
    version: String,
}

#[derive(Debug, Serialize)]
struct Hypercall {
    code: u32,
    name: Option<&'static str>,
    count: u64,
    failed: u64,
    /// The status of the last failed call of a VP.
    last_failure: Option<Status>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Status {
    code: u32,
    name: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Register {
    number: u32,
    name: Option<&'static str>,
    gets: u64,
    sets: u64,
    failed: u64,
}

#[derive(Debug, Serialize)]
struct Synic {
    vp: u32,
    started: bool,
    online: bool,
    control: String,
    message_page: String,
    event_flags_page: String,
    /// Only sources that differ from the start, when they are masked and empty.
    sints: Vec<Sint>,
}

#[derive(Debug, Serialize)]
struct Sint {
    sint: usize,
    value: String,
    intid: u8,
    masked: bool,
}

#[derive(Debug, Serialize)]
struct Vmbus {
    /// `None` if no version was negotiated.
    version: Option<String>,
}

#[derive(Debug, Serialize)]
struct Crash {
    vp: u32,
    count: u32,
    control: String,
    parameters: [String; 5],
    text: String,
}

/// Returns how often a rule of a fault plan fired, in words.
pub(crate) fn fired(count: u64) -> String {
    match count {
        0 => "never fired".to_owned(),
        1 => "fired once".to_owned(),
        count => format!("fired {count} times"),
    }
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

impl Summary {
    /// Summarizes a run.
    pub(crate) fn new(outcome: &Outcome, known: &Known) -> Self {
        let report = &*outcome.report;
        let vps = &outcome.vps;
        let (end, explanation) = judge(outcome);
        let exit = match end {
            Exit::Success => "power-off",
            Exit::Reset => "reset",
            Exit::Crash => "crash",
            Exit::Timeout => "timeout",
            Exit::VpsOff => "vps-off",
            Exit::Interrupted => "interrupted",
            _ => "error",
        };
        let places = Places::new(&known.symbols);
        let findings = findings::all(vps, &places);
        let faults: Vec<PlanRule> = known
            .rules
            .iter()
            .zip(report.rules_fired)
            .map(|(rule, fired)| PlanRule { rule: rule.clone(), fired })
            .collect();
        let mut warnings = warnings::all(report, vps, &places);
        warnings.extend(warnings::plan(&faults, vps));
        warnings.extend(places.misfit());
        let (outcome_exit, explanation) = match broken(end, &findings, known.fails_from) {
            Some(broken) => (Exit::Strict, format!("{explanation}; {broken}")),
            None => (end, explanation),
        };
        Self {
            schema: SCHEMA,
            hv_version: env!("CARGO_PKG_VERSION"),
            exit,
            exit_code: outcome_exit as u8,
            explanation,
            run_ms: run_ms(report),
            about: known.about.clone(),
            start: "boot",
            firmware: match known.firmware {
                Firmware::Acpi => "acpi",
                Firmware::DeviceTree => "dt",
                Firmware::Both => "both",
            },
            vps: u32::try_from(vps.len()).unwrap_or(u32::MAX),
            guest_os_id: (report.guest_os_id != 0).then(|| {
                let (vendor, os, version) = names::guest_os(report.guest_os_id);
                GuestOs { value: hex(report.guest_os_id), vendor, os, version }
            }),
            detection: detection(report, known.firmware),
            hypercalls: hypercalls(vps),
            registers: registers(vps),
            synic: (0..).zip(vps).map(|(vp, state)| synic(vp, state)).collect(),
            vmbus: Vmbus { version: version(report.vmbus_version) },
            devices: devices::all(&report.devices),
            crash: crash(report),
            warnings,
            rules: known.strict.then_some(Checked { checked: RULES.len(), broken: findings.len() }),
            findings,
            faults,
            trace: None,
            console_dropped_bytes: outcome.console_dropped,
            longest_queue: report.longest_queue,
            timings: None,
            tag: None,
            outcome: outcome_exit,
            end,
        }
    }

    /// Adds the warnings about the trace.
    pub(crate) fn set_trace(&mut self, trace: KeptTrace) {
        if trace.dropped != 0 {
            self.warnings.push(format!(
                "the trace lacks {} records: raise --trace-buffer, or use a faster host",
                trace.dropped
            ));
        }
        if trace.left_out != 0 {
            self.warnings.push(format!(
                "the trace ends {} records before the guest; raise --trace-limit",
                trace.left_out
            ));
        }
        self.trace = Some(trace);
    }

    /// Adds where the wall time went.
    pub(crate) fn set_timings(&mut self, timings: Timings) {
        self.timings = Some(timings);
    }

    /// Says where the machine came from.
    pub(crate) fn set_start(&mut self, start: Start) {
        self.start = if start.from_snapshot { "snapshot" } else { "boot" };
        self.warnings.extend(start.warnings);
    }

    /// Adds the warning about the capture of the network's frames.
    pub(crate) fn set_frames_left_out(&mut self, frames: u64) {
        if frames != 0 {
            self.warnings
                .push(format!("the capture lacks the last {frames} frames: it has reached its maximum size"));
        }
    }

    /// Updates the number of console bytes that were not shown; returns true if it has changed.
    pub(crate) fn set_console_dropped(&mut self, bytes: u64) -> bool {
        std::mem::replace(&mut self.console_dropped_bytes, bytes) != bytes
    }

    /// Adds a word that distinguishes the text from guest output.
    pub(crate) fn set_tag(&mut self, tag: Option<String>) {
        self.tag = tag;
    }

    /// Returns the exit code for the run.
    pub(crate) const fn outcome(&self) -> Exit {
        self.outcome
    }

    /// Returns the exit code for the run's end, whatever rules were broken.
    pub(crate) const fn end(&self) -> Exit {
        self.end
    }

    /// Returns a short explanation of why the run ended.
    pub(crate) fn explanation(&self) -> &str {
        &self.explanation
    }
}

/// Returns how the guest detected Hyper-V. Linux checks the ACPI identity first and queries the UID only without one;
/// with ACPI its generic SMCCC code also queries the UID, without effect on the detection.
const fn detection(report: &Report, firmware: Firmware) -> &'static str {
    match firmware {
        _ if report.guest_os_id == 0 => "none",
        Firmware::Acpi | Firmware::Both => "ACPI FADT hypervisor identity",
        Firmware::DeviceTree if report.uid_calls > 0 => "SMCCC vendor hypervisor UID",
        Firmware::DeviceTree => "unknown",
    }
}

fn version(raw: u32) -> Option<String> {
    (raw != 0).then(|| format!("{}.{}", raw >> 16, raw & 0xffff))
}

fn run_ms(report: &Report) -> Option<u64> {
    let ran = report.start_counter != 0 && report.end_counter != 0;
    let ticks = report.end_counter.checked_sub(report.start_counter).filter(|_| ran)?;
    u64::try_from(u128::from(ticks) * 1000 / u128::from(report.counter_frequency.max(1))).ok()
}

fn hypercalls(vps: &[Box<VpReport>]) -> Vec<Hypercall> {
    let mut sums: Vec<Hypercall> = Vec::new();
    for call in vps.iter().flat_map(|vp| &vp.calls) {
        let Some(code) = call.number() else { continue };
        let (count, failed) = (call.count, u64::from(call.failed));
        let last_failure = (failed != 0).then(|| {
            let code = call.last_failure;
            Status { code, name: names::known("status", code.into()) }
        });
        match sums.iter_mut().find(|sum| sum.code == code) {
            Some(sum) => {
                sum.count = sum.count.saturating_add(count);
                sum.failed = sum.failed.saturating_add(failed);
                sum.last_failure = last_failure.or(sum.last_failure);
            }
            None => {
                let name = names::known("hypercall", code.into());
                sums.push(Hypercall { code, name, count, failed, last_failure });
            }
        }
    }
    sums.sort_by_key(|sum| sum.code);
    sums
}

/// Returns the registers in order of their first use on the first VP that used each.
fn registers(vps: &[Box<VpReport>]) -> Vec<Register> {
    let mut sums: Vec<Register> = Vec::new();
    for vp in vps {
        let used = vp.registers.iter();
        let mut used: Vec<_> = used.filter_map(|slot| slot.number().map(|number| (number, slot))).collect();
        used.sort_by_key(|(_, slot)| slot.order);
        for (number, slot) in used {
            if !sums.iter().any(|sum| sum.number == number) {
                let name = names::known("register", number.into());
                sums.push(Register { number, name, gets: 0, sets: 0, failed: 0 });
            }
            for sum in sums.iter_mut().filter(|sum| sum.number == number) {
                sum.gets = sum.gets.saturating_add(slot.gets);
                sum.sets = sum.sets.saturating_add(slot.sets);
                sum.failed = sum.failed.saturating_add(slot.failed.into());
            }
        }
    }
    sums
}

fn synic(vp: u32, state: &VpReport) -> Synic {
    // A SINT that was never used is masked, with vector 0.
    let touched = |value: u64| {
        let sint = hv_tlfs::synic::Sint(value);
        value != 0 && !(sint.masked() && sint.vector() == 0)
    };
    let sints = state.synic.sints.iter().enumerate().filter(|&(_, &value)| touched(value));
    Synic {
        vp,
        started: state.started != 0,
        online: state.online != 0,
        control: hex(state.synic.control),
        message_page: hex(state.synic.message_page),
        event_flags_page: hex(state.synic.event_flags_page),
        sints: sints
            .map(|(sint, &value)| {
                let word = hv_tlfs::synic::Sint(value);
                Sint { sint, value: hex(value), intid: word.vector(), masked: word.masked() }
            })
            .collect(),
    }
}

fn crash(report: &Report) -> Option<Crash> {
    let crash = &report.crash;
    let length = usize::try_from(crash.text_len).unwrap_or(usize::MAX).min(crash.text.len());
    (crash.count > 0).then(|| Crash {
        vp: crash.vp,
        count: crash.count,
        control: hex(crash.control),
        parameters: crash.parameters.map(hex),
        text: String::from_utf8_lossy(&crash.text[..length]).trim_end_matches('\0').to_owned(),
    })
}

#[cfg(test)]
mod tests;
