//! What the strict mode found: rules that the guest broke.

use std::collections::BTreeMap;

use hv_tlfs::rules::RULES;
use hv_wire::VpReport;
use serde::Serialize;

use super::hex;
use crate::symbols::Symbols;

/// A rule that the guest broke on a VP.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// Name of the rule.
    pub(super) rule: &'static str,
    /// `error`, `warning` or `note`.
    pub(super) severity: String,
    /// VP on which it was broken first.
    pub(super) vp: u32,
    /// How often, on all VPs.
    pub(super) count: u64,
    /// Guest PC of the first time on that VP.
    pub(super) pc: String,
    /// Symbol and offset of the PC, where symbols were given.
    pub(super) symbol: Option<String>,
    /// The value of the first time on that VP.
    pub(super) value: String,
    /// What the value is.
    pub(super) value_is: &'static str,
    /// What is asked.
    pub(super) asks: &'static str,
    /// Where it says so.
    pub(super) source: &'static str,
}

/// All findings, in the order of the rules.
pub(super) fn all(vps: &[Box<VpReport>], symbols: &Symbols) -> Vec<Finding> {
    let mut findings = BTreeMap::<usize, Finding>::new();
    for (vp, slot) in (0..).zip(vps).flat_map(|(vp, state)| state.findings.iter().map(move |slot| (vp, slot)))
    {
        let Some(number) = (slot.rule as usize).checked_sub(1).filter(|_| slot.count != 0) else { continue };
        let Some(rule) = RULES.get(number) else { continue };
        let finding = findings.entry(number).or_insert_with(|| Finding {
            rule: rule.id,
            severity: rule.severity.to_string(),
            vp,
            count: 0,
            pc: hex(slot.pc),
            symbol: symbols.name(slot.pc),
            value: hex(slot.value),
            value_is: rule.value,
            asks: rule.asks,
            source: rule.source,
        });
        finding.count += u64::from(slot.count);
    }
    findings.into_values().collect()
}
