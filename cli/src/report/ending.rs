//! How a run ended, and why.

use std::process::ExitStatus;

use hv_tlfs::rules::Severity;
use hv_wire::{ExitKind, Report};

use super::findings::Finding;
use crate::exit::Exit;
use crate::machine::{Accel, End, Outcome};
use crate::process;

/// Determines how the run ended, worst first: if the hypervisor failed, everything else is doubtful, and a guest that
/// crashed did so however it was powered off afterwards.
pub(super) fn judge(outcome: &Outcome) -> (Exit, String) {
    let report = &*outcome.report;
    if report.magic != Report::MAGIC {
        return not_started(outcome);
    }
    let kind = ExitKind::from_raw(report.exit);
    let log = log(report);
    match (kind, outcome.end) {
        (Some(ExitKind::Panic), _) => (Exit::Machine, format!("the hypervisor panicked: {log}")),
        (Some(ExitKind::BadBootInfo), _) => {
            (Exit::Machine, format!("the hypervisor refused to start: {log}"))
        }
        (None, _) => (Exit::Machine, format!("the hypervisor reports an unknown exit, {:#x}", report.exit)),
        (_, End::Interrupted) => (Exit::Interrupted, "interrupted".to_owned()),
        _ if report.crash.count > 0 => (Exit::Crash, "the guest reported a crash".to_owned()),
        (Some(ExitKind::PowerOff), _) => (Exit::Success, "the guest powered off".to_owned()),
        (Some(ExitKind::Reset), _) => (Exit::Reset, "the guest asked for a reset".to_owned()),
        (Some(ExitKind::AllVpsOff), _) => {
            (Exit::VpsOff, "the guest switched all of its VPs off without a power-off".to_owned())
        }
        (Some(ExitKind::Running), End::Timeout) => {
            (Exit::Timeout, format!("the time limit was reached after {} s", outcome.wall.as_secs()))
        }
        (Some(ExitKind::Running), End::Exited(status)) => {
            let reason = last_line(&outcome.complaints)
                .map_or_else(|| unexplained(outcome.accel, status), str::to_owned);
            let program = outcome.accel.program();
            (Exit::Machine, format!("{program} ended ({status}) while the guest was running: {reason}"))
        }
    }
}

/// Returns the reason why broken rules fail the run, if its end allows that: the guest's own end does, as does a
/// timeout; a machine that failed or was interrupted has incomplete findings.
pub(super) fn broken(exit: Exit, findings: &[Finding], from: Option<Severity>) -> Option<String> {
    let from = from.filter(|_| !matches!(exit, Exit::Usage | Exit::Machine | Exit::Interrupted))?;
    let count = findings.iter().filter(|finding| finding.severity >= from).count();
    let rules = if count == 1 { "rule" } else { "rules" };
    (count != 0).then(|| format!("it broke {count} {rules} of level {from} or more severe"))
}

/// Returns what kept the hypervisor from running the guest, if anything did: QEMU, or its own failure.
pub(crate) fn trouble(outcome: &Outcome) -> Option<String> {
    let (exit, explanation) = judge(outcome);
    matches!(exit, Exit::Usage | Exit::Machine).then_some(explanation)
}

/// Determines why the hypervisor has left no report.
fn not_started(outcome: &Outcome) -> (Exit, String) {
    let complaint = last_line(&outcome.complaints);
    let program = outcome.accel.program();
    match (outcome.end, complaint) {
        (End::Interrupted, _) => (Exit::Interrupted, "interrupted".to_owned()),
        // QEMU rejects invalid options before anything runs: an unknown CPU model, too much memory.
        (End::Exited(status), Some(complaint)) => {
            let exit = if outcome.accel == Accel::Kvm { Exit::Machine } else { Exit::Usage };
            (exit, format!("{program} did not start the machine ({status}): {complaint}"))
        }
        // It always says why. This is an end that it did not choose, or another program.
        (End::Exited(status), None) => (
            Exit::Machine,
            format!("{program} did not start the machine: {}", unexplained(outcome.accel, status)),
        ),
        (End::Timeout, complaint) => {
            let complaint = complaint.map_or_else(String::new, |line| format!(": {line}"));
            let seconds = outcome.wall.as_secs();
            (Exit::Timeout, format!("the hypervisor had not started after {seconds} s{complaint}"))
        }
    }
}

/// Describes the end of a machine's process that has printed nothing, and what to do.
fn unexplained(accel: Accel, status: ExitStatus) -> String {
    let end = process::silent(status);
    if accel == Accel::Kvm {
        return end;
    }
    format!("{end}; `--keep DIR` writes its command line to DIR/qemu.txt, to run it by hand")
}

/// Returns the last line with text.
fn last_line(text: &str) -> Option<&str> {
    text.lines().rev().find(|line| !line.trim().is_empty()).map(str::trim)
}

/// Returns the hypervisor's log.
fn log(report: &Report) -> String {
    let length = usize::try_from(report.log_len).unwrap_or(usize::MAX).min(report.log.len());
    String::from_utf8_lossy(&report.log[..length]).trim().to_owned()
}
