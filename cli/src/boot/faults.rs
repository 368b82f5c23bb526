//! `--inject`: the user's plan, checked before anything starts, and as words for the hypervisor.

use std::fmt::Write as _;

use anyhow::{anyhow, bail, ensure};
use hv_host::faults::{self, BadPlan, FORMS, Name, Plan};
use hv_tlfs::vmbus::{Guid, guid};
use hv_wire::control::Service;

use super::args::Args;
use crate::control::service_name;
use crate::net::NetOption;
use crate::report;

/// The machine's last interrupt: 16 SGIs, 16 PPIs and 32 SPIs.
const LAST_INTID: u32 = 63;

/// A checked plan.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    /// Each rule as the user wrote it.
    pub(super) rules: Vec<String>,
    /// The plan as the hypervisor gets it.
    pub(super) words: [u64; Plan::WORDS],
}

impl Default for Orders {
    fn default() -> Self {
        Self { rules: Vec::new(), words: Plan::NONE.to_words() }
    }
}

/// Checks a plan.
///
/// # Errors
/// Where it is wrong and why, with the available clauses.
pub(super) fn judge(plan: &str) -> anyhow::Result<Orders> {
    let parsed = Plan::parse(plan, &number).map_err(|bad| anyhow!("{}", explain(plan, &bad)))?;
    let rules = plan.split(',').map(str::trim).filter(|clause| !clause.starts_with("seed="));
    for (rule, intid) in rules.clone().filter_map(|rule| Some((rule, report::interrupt_of(rule)?))) {
        ensure!(
            intid <= LAST_INTID,
            "--inject: {rule} never strikes: the machine has no INTID {intid}, expected 16 to {LAST_INTID}"
        );
    }
    Ok(Orders { rules: rules.map(str::to_owned).collect(), words: parsed.to_words() })
}

/// Number of characters of a plan that are shown before and after the wrong part, and of that part.
const SHOWN: usize = 40;

/// Formats the plan, or what is around the wrong part of a long one, with a mark below that part, and a description of
/// all clauses.
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
    let names = DEVICES.map(|(name, ..)| name);
    let (first, last) = names.split_at(names.len() / 2);
    let _ = write!(text, "\nDEVICE is one of {},\n  {}.", first.join(", "), last.join(", "));
    text.push_str("\nA plan is a list of clauses with commas between them:");
    for (form, meaning) in FORMS {
        // Writing to a String does not fail.
        let _ = write!(text, "\n  {form:30} {meaning}");
    }
    text
}

/// What a rule needs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    Disk,
    Card,
    Sockets,
    Of(Service),
}

/// Devices by their names in a plan, with the first words of their GUIDs. None is the name or an argument of another
/// clause.
const DEVICES: [(&str, u32, Need); 14] = [
    ("vmbus", first(Guid::ZERO), Need::Nothing),
    ("storage", first(guid::SCSI), Need::Disk),
    ("heartbeat", first(guid::HEARTBEAT), Need::Of(Service::Heartbeat)),
    ("shutdown", first(guid::SHUTDOWN), Need::Of(Service::Shutdown)),
    ("timesync", first(guid::TIME_SYNC), Need::Of(Service::TimeSync)),
    ("kvp", first(guid::KVP), Need::Of(Service::Kvp)),
    ("vss", first(guid::VSS), Need::Of(Service::Vss)),
    ("keyboard", first(guid::KEYBOARD), Need::Of(Service::Keyboard)),
    ("mouse", first(guid::MOUSE), Need::Of(Service::Mouse)),
    ("video", first(guid::VIDEO), Need::Of(Service::Video)),
    ("fcopy", first(guid::FILE_COPY), Need::Of(Service::Fcopy)),
    ("balloon", first(guid::DYNAMIC_MEMORY), Need::Of(Service::Balloon)),
    ("network", first(guid::NETWORK), Need::Card),
    ("sockets", faults::SOCKETS, Need::Sockets),
];

impl Need {
    /// Returns what a rule needs.
    fn of(rule: &str) -> Self {
        let clause = rule.split('@').next().unwrap_or_default();
        let (name, argument) = clause.split_once('=').unwrap_or((clause, ""));
        match name {
            "srb" | "sense" | "busy" | "media" => Self::Disk,
            "sent" | "received" | "link" => Self::Card,
            "rescind" | "rescind-open" | "newest" => {
                let word = argument.split(':').next().unwrap_or_default();
                let number = match word.strip_prefix("0x") {
                    Some(hex) => u32::from_str_radix(hex, 16).ok(),
                    None => word.parse().ok(),
                };
                let device = DEVICES.iter().find(|(name, guid, _)| *name == word || Some(*guid) == number);
                device.map_or(Self::Nothing, |(_, _, need)| *need)
            }
            _ => Self::Nothing,
        }
    }

    /// Returns what a machine lacks for it, and the option that gives it.
    fn lacking(self, args: &Args) -> Option<(&'static str, String)> {
        let (has, what, option) = match self {
            Self::Nothing => return None,
            Self::Disk => {
                let later = args.has_control() && args.hotplug_room != 0;
                (later || !args.disk.is_empty() || !args.dvd.is_empty(), "disk", "--disk".to_owned())
            }
            Self::Card => (args.net != NetOption::None, "network card", "--net user".to_owned()),
            Self::Sockets => (args.vsock.is_some() || args.agent.is_some(), "sockets", "--vsock".to_owned()),
            Self::Of(service) => {
                let option = format!("--devices {}", service_name(service));
                (args.services().has(service), "such device", option)
            }
        };
        (!has).then_some((what, option))
    }
}

/// Checks that the machine has what each rule strikes.
///
/// # Errors
/// The first rule that never strikes.
pub(super) fn fit(orders: &Orders, args: &Args) -> anyhow::Result<()> {
    for rule in &orders.rules {
        if let Some((what, option)) = Need::of(rule).lacking(args) {
            bail!("--inject: {rule} never strikes: the machine has no {what}; give {option}");
        }
    }
    Ok(())
}

/// Returns the first word of a GUID.
const fn first(guid: Guid) -> u32 {
    let [a, b, c, d, ..] = guid.bytes;
    u32::from_le_bytes([a, b, c, d])
}

/// Returns the number of a device in a plan.
fn device(word: &str) -> Option<u64> {
    let (_, number, _) = DEVICES.iter().find(|(name, ..)| *name == word)?;
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
    fn a_rule_for_what_the_machine_lacks_is_refused_with_the_option_that_gives_it() {
        let lacks = |plan: &str, words: &str| {
            let fits = fit(&judge(plan).unwrap(), &Args::of_words(words));
            fits.err().map(|error| error.to_string())
        };
        for (plan, words, option) in [
            ("srb=4@1", "--disk x", "--disk"),
            ("busy@/2", "--dvd x", "--disk"),
            ("newest=storage:6.0", "--control --hotplug-room 64M", "--disk"),
            ("received=twice@/2", "--net user", "--net user"),
            ("link=20ms@30ms", "--net passt", "--net user"),
            ("rescind=network@4", "--net user", "--net user"),
            ("rescind=0xa9a0f4e7@4", "--devices kvp", "--devices kvp"),
            ("newest=2845897959:5.0", "--devices kvp", "--devices kvp"),
            ("rescind=sockets@5", "--vsock x", "--vsock"),
            ("rescind-open=heartbeat@1", "--devices heartbeat", "--devices heartbeat"),
            ("rescind=video@1", "--control", "--devices video"),
        ] {
            assert_eq!(lacks(plan, words), None, "{plan}, {words}");
            let why = lacks(&format!("lost@3,{plan}"), "").unwrap();
            assert!(why.starts_with(&format!("--inject: {plan} never strikes")), "{why}");
            assert!(why.ends_with(&format!("; give {option}")), "{why}");
        }
        assert_eq!(lacks("rescind=any@1,newest=vmbus:4.0,late=5ms@1,mute=1ms@5ms,seed=3", ""), None);
    }

    #[test]
    fn names_become_numbers() {
        for (plan, numbers) in [
            (
                "call=HVCALL_SIGNAL_EVENT:HV_STATUS_INSUFFICIENT_BUFFERS@3, lost=18@10%,silent=200ms@1000ms,seed=7",
                "call=0x5d:0x13@3,lost=18@10%,silent=200ms@1000ms,seed=7",
            ),
            (
                "rescind=kvp@3,rescind=sockets@9,newest=storage:5.1,newest=vmbus:4.0,disturb=time@5ms",
                "rescind=0xa9a0f4e7@3,rescind=0x11e6facb@9,newest=0xba6163d9:5.1,newest=0x0:4.0,disturb=time@5ms",
            ),
        ] {
            let orders = judge(plan).unwrap();
            // The hypervisor gets the plan that the user wrote.
            assert_eq!(Plan::from_words(&orders.words), Plan::parse(numbers, &|_, _| None).ok(), "{plan}");
            let rules: Vec<&str> = plan.split(',').map(str::trim).filter(|rule| *rule != "seed=7").collect();
            assert_eq!(orders.rules, rules);
        }
    }

    #[test]
    fn devices_have_names_that_mean_nothing_else_in_a_plan() {
        for (name, ..) in DEVICES {
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
                        DEVICE is one of vmbus, storage, heartbeat, shutdown, timesync, kvp, vss,\n  \
                        keyboard, mouse, video, fcopy, balloon, network, sockets.\n\
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
        // Only the rules are carried to the hypervisor: their number is bounded, and not the length of the text.
        let long = format!("again{}", " ".repeat(2000));
        assert_eq!(judge(&long).unwrap().rules, ["again"]);
    }
}
