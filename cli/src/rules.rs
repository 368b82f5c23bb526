//! `hv rules`: the requirements of the strict mode.

use hv_tlfs::rules::{RULES, Rule};

use crate::exit::Exit;
use crate::{TOOL, ui};

/// List the rules that `hv boot --strict` checks
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Show only rules with this text in their name or requirement
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  cargo hv rules
  cargo hv rules eom
  cargo hv rules --json

Exit codes: 0 found, 1 nothing found, 2 a bad option";

#[derive(serde::Serialize)]
struct List {
    /// Version of this format.
    schema: u32,
    rules: Vec<Row>,
}

#[derive(serde::Serialize)]
struct Row {
    rule: &'static str,
    severity: String,
    asks: &'static str,
    value_is: &'static str,
    source: &'static str,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let rules: Vec<&Rule> =
        RULES.iter().copied().filter(|rule| matches(rule, args.text.as_deref())).collect();
    let exit = if rules.is_empty() { Exit::Failed } else { Exit::Success };
    if args.json {
        let row = |rule: &&Rule| Row {
            rule: rule.id,
            severity: rule.severity.to_string(),
            asks: rule.asks,
            value_is: rule.value,
            source: rule.source,
        };
        let list = List { schema: 1, rules: rules.iter().map(row).collect() };
        ui::out(&format!("{}\n", serde_json::to_string_pretty(&list)?));
        return Ok(exit);
    }
    for rule in &rules {
        ui::out(&format!("{:<28} {:<8} {}\n", rule.id, rule.severity.to_string(), rule.asks));
        ui::out(&format!("{:<37} {}\n", "", rule.source));
    }
    if rules.is_empty() {
        let text = args.text.as_deref().unwrap_or_default();
        ui::note(&format!(
            "no rule has {text:?} in its name or text; `{TOOL} rules` lists all {}",
            RULES.len()
        ));
    }
    Ok(exit)
}

fn matches(rule: &Rule, text: Option<&str>) -> bool {
    let Some(text) = text.map(str::to_lowercase) else { return true };
    rule.id.contains(&text) || rule.asks.to_lowercase().contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rules_are_unique_and_each_rule_has_a_slot_in_the_report() {
        let mut ids: Vec<_> = RULES.iter().map(|rule| rule.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), RULES.len());
        assert!(RULES.len() <= hv_wire::FINDING_SLOTS);
        assert!(RULES.len() >= 40);
    }

    #[test]
    fn text_is_found_in_names_and_in_what_is_asked() {
        let rule = RULES[0];
        assert!(matches(rule, None) && matches(rule, Some(&rule.id.to_uppercase())));
        assert!(!matches(rule, Some("no such text")));
    }
}
