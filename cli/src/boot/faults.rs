//! `--inject`: the user's plan, checked before anything starts, and with names replaced by numbers for the hypervisor.

use std::fmt::Write as _;

use anyhow::{anyhow, bail, ensure};
use hv_host::faults::{self, BadPlan, FORMS, Name, Plan};
use hv_tlfs::vmbus::{Guid, guid};

use crate::report;

/// The machine's last interrupt: 16 SGIs, 16 PPIs and 32 SPIs.
const LAST_INTID: u32 = 63;

/// A checked plan.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    /// Each rule as the user wrote it.
    pub(super) rules: Vec<String>,
    /// The plan in the hypervisor's notation.
    pub(super) numbers: String,
}

/// Checks a plan.
///
/// # Errors
/// Where it is wrong and why, with the available clauses.
pub(super) fn judge(plan: &str) -> anyhow::Result<Orders> {
    Plan::parse(plan, &number).map_err(|bad| anyhow!("{}", explain(plan, &bad)))?;
    let numbers = numbers(plan);
    if numbers.len() > hv_wire::PLAN_BYTES {
        bail!(
            "--inject: the plan has {} bytes with numbers for names, expected at most {}: shorten it",
            numbers.len(),
            hv_wire::PLAN_BYTES
        );
    }
    let rules = plan.split(',').map(str::trim).filter(|clause| !clause.starts_with("seed="));
    for (rule, intid) in rules.clone().filter_map(|rule| Some((rule, report::interrupt_of(rule)?))) {
        ensure!(
            intid <= LAST_INTID,
            "--inject: {rule} never strikes: the machine has no INTID {intid}, expected 16 to {LAST_INTID}"
        );
    }
    Ok(Orders { rules: rules.map(str::to_owned).collect(), numbers })
}

/// Number of characters of a plan that are shown before and after the wrong part, and of that part.
const SHOWN: usize = 40;

/// Formats the plan, or what is around the wrong part of a long one, with a mark below that part, and a description of all
/// clauses.
fn explain(plan: &str, bad: &BadPlan) -> String {
    let plain = |text: &str| -> Vec<char> {
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
    };
    let before = plain(plan.get(..bad.start).unwrap_or_default());
    let wrong = plain(plan.get(bad.start..bad.end).unwrap_or_default());
    let after = plain(plan.get(bad.end..).unwrap_or_default());
    let mut shown = String::new();
    let skipped = before.len().saturating_sub(SHOWN);
    shown.extend((skipped != 0).then_some('…'));
    shown.extend(&before[skipped..]);
    let indent = shown.chars().count();
    shown.extend(wrong.iter().take(SHOWN));
    if wrong.len() > SHOWN {
        shown.push('…');
    } else {
        shown.extend(after.iter().take(SHOWN));
        shown.extend((after.len() > SHOWN).then_some('…'));
    }
    let mut text = format!("--inject: {bad}\n  {shown}\n  ");
    text.extend(std::iter::repeat_n(' ', indent));
    text.push_str(&"^".repeat(wrong.len().clamp(1, SHOWN)));
    text.push_str("\nA plan is a list of clauses with commas between them:");
    for (form, meaning) in FORMS {
        // Writing to a String does not fail.
        let _ = write!(text, "\n  {form:30} {meaning}");
    }
    text
}

/// Replaces each C name of a hypercall or a status in a valid plan by its number.
fn numbers(plan: &str) -> String {
    let mut numbers = String::with_capacity(plan.len());
    let mut rest = plan;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        match number(Name::Hypercall, word).or_else(|| number(Name::Status, word)).or_else(|| device(word)) {
            Some(number) => numbers.push_str(&format!("{number:#x}")),
            None => numbers.push_str(word),
        }
        let separator = tail.chars().next().map_or(0, char::len_utf8);
        numbers.push_str(&tail[..separator]);
        rest = &tail[separator..];
    }
    numbers
}

/// Devices by their names in a plan. None is the name or an argument of another clause.
const DEVICES: [(&str, u32); 10] = [
    ("vmbus", first(Guid::ZERO)),
    ("storage", first(guid::SCSI)),
    ("heartbeat", first(guid::HEARTBEAT)),
    ("shutdown", first(guid::SHUTDOWN)),
    ("timesync", first(guid::TIME_SYNC)),
    ("kvp", first(guid::KVP)),
    ("vss", first(guid::VSS)),
    ("keyboard", first(guid::KEYBOARD)),
    ("network", first(guid::NETWORK)),
    ("sockets", faults::SOCKETS),
];

/// Returns the first word of a GUID.
const fn first(guid: Guid) -> u32 {
    let [a, b, c, d, ..] = guid.bytes;
    u32::from_le_bytes([a, b, c, d])
}

/// Returns the number of a device in a plan.
fn device(word: &str) -> Option<u64> {
    let (_, number) = DEVICES.iter().find(|(name, _)| *name == word)?;
    Some((*number).into())
}

fn number(kind: Name, word: &str) -> Option<u64> {
    let kind = match kind {
        Name::Device => return device(word),
        Name::Hypercall => "hypercall",
        Name::Status => "status",
    };
    let wanted = |constant: &&hv_tlfs::abi::Constant| {
        constant.kind == kind && (constant.name == word || constant.aliases.contains(&word))
    };
    hv_tlfs::abi::constants().find(wanted).map(|constant| constant.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_numbers_and_the_rest_stays() {
        let plan = "call=HVCALL_SIGNAL_EVENT:HV_STATUS_INSUFFICIENT_BUFFERS@3, lost=18@10%,silent=200ms@1000ms,seed=7";
        let orders = judge(plan).unwrap();
        assert_eq!(orders.numbers, "call=0x5d:0x13@3, lost=18@10%,silent=200ms@1000ms,seed=7");
        // The hypervisor reads the same plan that the user wrote.
        assert_eq!(Plan::parse(&orders.numbers, &|_, _| None), Plan::parse(plan, &number));
        let rules = [
            "call=HVCALL_SIGNAL_EVENT:HV_STATUS_INSUFFICIENT_BUFFERS@3",
            "lost=18@10%",
            "silent=200ms@1000ms",
        ];
        assert_eq!(orders.rules, rules);
    }

    #[test]
    fn devices_have_names_that_mean_nothing_else_in_a_plan() {
        let orders =
            judge("rescind=kvp@3,rescind=sockets@9,newest=storage:5.1,newest=vmbus:4.0,disturb=time@5ms")
                .unwrap();
        assert_eq!(
            orders.numbers,
            "rescind=0xa9a0f4e7@3,rescind=0x11e6facb@9,newest=0xba6163d9:5.1,newest=0x0:4.0,disturb=time@5ms"
        );
        for (name, _) in DEVICES {
            let refused = Plan::parse(&format!("{name}=?"), &number).unwrap_err();
            assert_eq!(refused.reason, "no such fault", "{name}");
        }
    }

    #[test]
    fn a_refusal_shows_the_place_the_reason_and_the_list() {
        let refused = judge("lost=18, call=HVCALL_NO_SUCH:0x13").unwrap_err().to_string();
        let expected = "--inject: clause 2: no such hypercall: expected a number up to 0xffff, a C name, or any\n  \
                        lost=18, call=HVCALL_NO_SUCH:0x13\n  \
                        \u{20}             ^^^^^^^^^^^^^^\n\
                        A plan is a list of clauses with commas between them:\n  \
                        call=CODE:STATUS               the hypercall ends";
        assert!(refused.starts_with(expected), "{refused}");
        assert!(refused.contains("...@50ms"), "{refused}");
    }

    #[test]
    fn of_a_long_plan_only_what_is_around_the_error_is_shown() {
        let before = format!("lost=18@3,{}", " ".repeat(4000));
        let after = ",lost=18@3".repeat(500);
        for plan in [format!("{before}lost=x{after}"), before + &"x".repeat(5000), format!("lost=x{after}")] {
            let refused = judge(&plan).unwrap_err().to_string();
            let lines: Vec<Vec<char>> = refused.lines().map(|line| line.chars().collect()).collect();
            assert!(lines.iter().all(|line| line.len() < 140), "{refused}");
            // The mark is below the wrong part.
            let mark = lines[2].iter().position(|c| *c == '^').unwrap();
            assert_eq!(lines[1][mark], 'x', "{refused}");
        }
    }

    #[test]
    fn what_is_no_plan_is_refused_whatever_it_has() {
        for text in ["", ",", "seed=7", "\u{1b}[2J", "löst=18", "call=HV_STATUS_TIMEOUT:HVCALL_POST_MESSAGE"]
        {
            let refused = judge(text).unwrap_err().to_string();
            assert!(
                refused.contains("\n  ") && refused.contains('^') && !refused.contains('\u{1b}'),
                "{refused}"
            );
        }
        for rule in ["lost=64", "twice=0x40@3", "spurious=1019@5ms"] {
            let refused = judge(&format!("lost=18@3,{rule}")).unwrap_err().to_string();
            assert!(refused.contains(&format!("{rule} never strikes")), "{refused}");
        }
        assert!(judge("lost=63").is_ok());
        let long = format!("again{}", " ".repeat(2000));
        assert!(judge(&long).unwrap_err().to_string().contains("2005 bytes"));
    }
}
