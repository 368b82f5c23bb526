//! What somebody who develops a guest should look at.

use std::collections::BTreeMap;

use hv_wire::{Fault, Report, VpReport};

use super::names;

/// Arm SMCCC (DEN0028), SMCCC_ARCH_FEATURES.
const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;
/// Arm PSCI (DEN0022), PSCI_FEATURES.
const PSCI_FEATURES: u32 = 0x8400_000a;

/// All warnings, in a fixed order.
pub(super) fn all(report: &Report, vps: &[Box<VpReport>]) -> Vec<String> {
    let mut warnings = Vec::new();
    failed_calls(vps, &mut warnings);
    failed_registers(vps, &mut warnings);
    unknown_functions(vps, &mut warnings);
    faults(vps, &mut warnings);
    let lost: u64 = vps.iter().map(|vp| u64::from(vp.counts_lost) + u64::from(vp.faults_lost)).sum();
    if lost > 0 {
        warnings.push(format!("{lost} more events were not counted: the tables were full"));
    }
    if report.crash.count > 1 {
        warnings.push(format!("{} crashes were reported; the last one is shown", report.crash.count));
    }
    warnings
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn failed_calls(vps: &[Box<VpReport>], warnings: &mut Vec<String>) {
    let mut failed = BTreeMap::<u32, (u64, u32)>::new();
    for call in vps.iter().flat_map(|vp| &vp.calls).filter(|call| call.used != 0 && call.failed != 0) {
        let sum = failed.entry(call.code).or_default();
        *sum = (sum.0 + u64::from(call.failed), call.last_failure);
    }
    warnings.extend(failed.into_iter().map(|(code, (count, status))| {
        format!("{} failed {}, last with {}", names::hypercall(code), times(count), names::status(status))
    }));
}

fn failed_registers(vps: &[Box<VpReport>], warnings: &mut Vec<String>) {
    let mut failed = BTreeMap::<u32, u64>::new();
    for register in vps.iter().flat_map(|vp| &vp.registers).filter(|slot| slot.used != 0 && slot.failed != 0)
    {
        *failed.entry(register.name).or_default() += u64::from(register.failed);
    }
    warnings.extend(
        failed.into_iter().map(|(register, count)| {
            format!("access to {} failed {}", names::register(register), times(count))
        }),
    );
}

fn unknown_functions(vps: &[Box<VpReport>], warnings: &mut Vec<String>) {
    // To ask whether a function exists, and to hear that it does not, is what these two are for.
    let asks = |function| matches!(function, SMCCC_ARCH_FEATURES | PSCI_FEATURES);
    let mut unknown = BTreeMap::<u32, u64>::new();
    let calls = vps.iter().flat_map(|vp| &vp.smccc).filter(|call| call.used != 0 && !asks(call.function));
    for call in calls.filter(|call| call.unknown != 0) {
        *unknown.entry(call.function).or_default() += u64::from(call.unknown);
    }
    warnings.extend(unknown.into_iter().map(|(function, count)| {
        format!("SMCCC function {} answered NOT_SUPPORTED {}", names::smccc(function), times(count))
    }));
}

fn faults(vps: &[Box<VpReport>], warnings: &mut Vec<String>) {
    let mut sums = BTreeMap::<(u32, u64), (u64, u64)>::new();
    for fault in vps.iter().flat_map(|vp| &vp.faults).filter(|fault| fault.kind != 0) {
        sums.entry((fault.kind, fault.value)).or_insert((0, fault.pc)).0 += u64::from(fault.count);
    }
    warnings.extend(sums.into_iter().map(|((kind, value), (count, pc))| {
        format!("{} {}, first at PC {pc:#x}", describe(kind, value), times(count))
    }));
}

fn describe(kind: u32, value: u64) -> String {
    match Fault::from_raw(kind) {
        Some(Fault::HvcImmediate) => format!("hvc #{value}, which means nothing,"),
        Some(Fault::SmcImmediate) => format!("smc #{value}, which means nothing,"),
        Some(Fault::SystemRegister) => format!("{}, which is not emulated,", names::system_register(value)),
        Some(Fault::Address) => format!("access to address {value:#x}, where nothing is,"),
        Some(Fault::Fetch) => format!("instruction fetch from address {value:#x}, where nothing is,"),
        Some(Fault::GicAccess) => format!("bad access to the interrupt controller at {value:#x}"),
        Some(Fault::Exception) => format!("unexpected exception with ESR_EL2 {value:#x}"),
        Some(Fault::SError) => format!("SError with ESR_EL2 {value:#x}"),
        None => format!("fault of unknown kind {kind} with value {value:#x}"),
    }
}
