//! Warnings for developers of guests.

use std::collections::BTreeMap;

use hv_tlfs::synic::Sint;
use hv_wire::{Fault, Place, Report, VpReport};

use super::places::{IN_MODULE, Places};
use super::{PlanRule, names};

/// Returns all warnings, in a fixed order.
pub(super) fn all(report: &Report, vps: &[Box<VpReport>], places: &Places<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    failed_calls(vps, &mut warnings);
    failed_registers(vps, &mut warnings);
    unknown_functions(vps, &mut warnings);
    faults(vps, places, &mut warnings);
    let lost: u64 = vps.iter().map(|vp| u64::from(vp.counts_lost) + u64::from(vp.faults_lost)).sum();
    if lost > 0 {
        warnings.push(format!("{lost} more events were not counted: the tables were full"));
    }
    if report.crash.count > 1 {
        warnings.push(format!("{} crashes were reported; the last one is shown", report.crash.count));
    }
    warnings
}

/// Returns the warnings about a fault plan: rules that tested nothing, and interrupts that no SINT of the guest has.
pub(super) fn plan(faults: &[PlanRule], vps: &[Box<VpReport>]) -> Vec<String> {
    let mut sints: Vec<(u8, usize)> = vps
        .iter()
        .flat_map(|vp| vp.synic.sints.iter().enumerate())
        .map(|(sint, &value)| (Sint(value).vector(), sint))
        .filter(|(intid, _)| *intid != 0)
        .collect();
    sints.sort_unstable();
    sints.dedup();
    let known = match &*sints {
        [] => "no SINT of the guest has an INTID at the end".to_owned(),
        sints => {
            let names = sints.iter().map(|(intid, sint)| format!("{intid} (SINT{sint})"));
            format!("the INTIDs of the guest's SINTs are {}", names.collect::<Vec<_>>().join(", "))
        }
    };
    let mut warnings = Vec::new();
    for PlanRule { rule, fired } in faults {
        let stray =
            interrupt(rule).filter(|intid| !sints.iter().any(|(known, _)| u32::from(*known) == *intid));
        let hint = stray.map_or_else(String::new, |intid| format!("; no SINT has INTID {intid}: {known}"));
        match fired {
            0 => warnings.push(format!("the fault {rule} NEVER FIRED: nothing was tried{hint}")),
            _ if stray.is_some() => warnings.push(format!("the fault {rule} fired{hint}")),
            _ => {}
        }
    }
    warnings
}

/// Returns the INTID that a rule of a fault plan names.
pub(crate) fn interrupt(rule: &str) -> Option<u32> {
    let rest = ["lost=", "twice=", "spurious="].iter().find_map(|clause| rule.strip_prefix(clause))?;
    let number = rest.split('@').next()?.trim();
    match number.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => number.parse().ok(),
    }
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn failed_calls(vps: &[Box<VpReport>], warnings: &mut Vec<String>) {
    let mut failed = BTreeMap::<u32, (u64, u32)>::new();
    for call in vps.iter().flat_map(|vp| &vp.calls).filter(|call| call.failed != 0) {
        let Some(code) = call.number() else { continue };
        let sum = failed.entry(code).or_default();
        *sum = (sum.0 + u64::from(call.failed), call.last_failure);
    }
    warnings.extend(failed.into_iter().map(|(code, (count, status))| {
        format!("{} failed {}, last with {}", names::hypercall(code), times(count), names::status(status))
    }));
}

fn failed_registers(vps: &[Box<VpReport>], warnings: &mut Vec<String>) {
    let mut failed = BTreeMap::<u32, u64>::new();
    for register in vps.iter().flat_map(|vp| &vp.registers).filter(|slot| slot.failed != 0) {
        let Some(name) = register.number() else { continue };
        *failed.entry(name).or_default() += u64::from(register.failed);
    }
    warnings.extend(
        failed.into_iter().map(|(register, count)| {
            format!("access to {} failed {}", names::register(register), times(count))
        }),
    );
}

fn unknown_functions(vps: &[Box<VpReport>], warnings: &mut Vec<String>) {
    let mut unknown = BTreeMap::<u32, u64>::new();
    for call in vps.iter().flat_map(|vp| &vp.smccc).filter(|call| call.unknown != 0) {
        let Some(function) = call.number() else { continue };
        *unknown.entry(function).or_default() += u64::from(call.unknown);
    }
    warnings.extend(unknown.into_iter().map(|(function, count)| {
        format!("SMCCC function {} answered NOT_SUPPORTED {}", names::smccc(function), times(count))
    }));
}

fn faults(vps: &[Box<VpReport>], places: &Places<'_>, warnings: &mut Vec<String>) {
    let mut sums = BTreeMap::<(u32, u64), (u64, Place)>::new();
    for fault in vps.iter().flat_map(|vp| &vp.faults).filter(|fault| fault.kind != 0) {
        sums.entry((fault.kind, fault.value)).or_insert((0, fault.place)).0 += u64::from(fault.count);
    }
    warnings.extend(sums.into_iter().map(|((kind, value), (count, place))| {
        let symbol = match places.name(&place, place.pc) {
            Some(name) => format!(" ({name})"),
            None if places.in_module(&place, place.pc) => format!(" {IN_MODULE}"),
            None => String::new(),
        };
        let callers: Vec<String> = places.callers(&place).iter().map(ToString::to_string).collect();
        let callers =
            if callers.is_empty() { String::new() } else { format!(", called from {}", callers.join(", ")) };
        format!("{} {}, first at PC {:#x}{symbol}{callers}", describe(kind, value), times(count), place.pc)
    }));
}

fn describe(kind: u32, value: u64) -> String {
    match Fault::from_raw(kind) {
        Some(Fault::HvcImmediate) => format!("hvc #{value}, which is undefined,"),
        Some(Fault::SmcImmediate) => format!("smc #{value}, which is undefined,"),
        Some(Fault::SystemRegister) => format!("{}, which is not emulated,", names::system_register(value)),
        Some(Fault::Address) => format!("access to address {value:#x}, where nothing exists,"),
        Some(Fault::Fetch) => format!("instruction fetch from address {value:#x}, where nothing exists,"),
        Some(Fault::GicAccess) => format!("invalid access to the interrupt controller at {value:#x}"),
        Some(Fault::Exception) => format!("unexpected exception with ESR_EL2 {value:#x}"),
        Some(Fault::SError) => format!("SError with ESR_EL2 {value:#x}"),
        None => format!("fault of unknown kind {kind} with value {value:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    #[test]
    fn a_plan_for_an_interrupt_that_the_guest_does_not_use_names_those_that_it_does() {
        let vps = |sints: &[(usize, u64)]| {
            let mut vp = VpReport::new_box_zeroed().unwrap();
            vp.synic.sints = [1 << 16; 16];
            sints.iter().for_each(|(sint, value)| vp.synic.sints[*sint] = *value);
            vec![vp.clone(), vp]
        };
        let said = |rule: &str, fired, sints: &[(usize, u64)]| {
            plan(&[PlanRule { rule: rule.to_owned(), fired }], &vps(sints)).join("\n")
        };
        let two: &[_] = &[(2, 0x12), (5, 0x1_0014)];
        assert_eq!(said("lost=18@10%", 3, two), "");
        assert_eq!(said("lost=18", 0, two), "the fault lost=18 NEVER FIRED: nothing was tried");
        let known = "the INTIDs of the guest's SINTs are 18 (SINT2), 20 (SINT5)";
        assert_eq!(
            said("lost=19", 0, two),
            format!("the fault lost=19 NEVER FIRED: nothing was tried; no SINT has INTID 19: {known}")
        );
        assert_eq!(
            said("spurious=0x13@50ms", 7, two),
            format!("the fault spurious=0x13@50ms fired; no SINT has INTID 19: {known}")
        );
        assert!(said("twice=19", 0, &[]).ends_with("no SINT of the guest has an INTID at the end"));
        assert_eq!(said("migrate@50ms", 7, &[]), "");
        assert_eq!(said("lost", 7, &[]), "");
    }
}
