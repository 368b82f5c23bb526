//! The findings of the strict mode: rules that the guest broke.

use std::collections::BTreeMap;

use hv_tlfs::rules::{RULES, Severity};
use hv_wire::VpReport;
use serde::{Serialize, Serializer};

use super::hex;
use super::places::{Caller, Places};

/// A rule that the guest broke on a VP.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// Name of the rule.
    pub(super) rule: &'static str,
    /// `error`, `warning` or `note`.
    #[serde(serialize_with = "by_name")]
    pub(super) severity: Severity,
    /// VP that broke it first.
    pub(super) vp: u32,
    /// Number of times, on all VPs.
    pub(super) count: u64,
    /// Guest PC at the first time on that VP.
    pub(super) pc: String,
    /// Symbol and offset of the PC, if symbols are known.
    pub(super) symbol: Option<String>,
    /// True if the PC is in a Linux module.
    pub(super) in_module: bool,
    /// Callers, the innermost first.
    pub(super) callers: Vec<Caller>,
    /// Value at the first time on that VP.
    pub(super) value: String,
    /// Meaning of the value.
    pub(super) value_is: &'static str,
    /// The requirement.
    pub(super) asks: &'static str,
    /// Source of the rule.
    pub(super) source: &'static str,
}

fn by_name<S: Serializer>(severity: &Severity, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(severity)
}

/// Returns all findings, in the order of the rules.
pub(super) fn all(vps: &[Box<VpReport>], places: &Places<'_>) -> Vec<Finding> {
    let mut findings = BTreeMap::<usize, Finding>::new();
    for (vp, slot) in (0..).zip(vps).flat_map(|(vp, state)| state.findings.iter().map(move |slot| (vp, slot)))
    {
        let Some(number) = (slot.rule as usize).checked_sub(1).filter(|_| slot.count != 0) else { continue };
        let Some(rule) = RULES.get(number) else { continue };
        let finding = findings.entry(number).or_insert_with(|| Finding {
            rule: rule.id,
            severity: rule.severity,
            vp,
            count: 0,
            pc: hex(slot.place.pc),
            symbol: places.name(&slot.place, slot.place.pc),
            in_module: places.in_module(&slot.place, slot.place.pc),
            callers: places.callers(&slot.place),
            value: hex(slot.value),
            value_is: rule.value,
            asks: rule.asks,
            source: rule.source,
        });
        finding.count += u64::from(slot.count);
    }
    findings.into_values().collect()
}
