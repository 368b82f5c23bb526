//! A plan as numbers, for a hypervisor that has no use for its syntax: whoever starts it has read the text.

use hv_tlfs::time::ReferenceTime;

use super::{
    Disturbance, Failing, FrameFault, Injection, MAX_RULES, Plan, RescindPoint, Rule, StartFault, What, When,
};

/// Words of a rule: what and when as a byte each, two arguments of the first, and that of the second. All zeros is no
/// rule.
const RULE: usize = 4;

/// An optional argument that is absent.
const NONE: u64 = u64::MAX;

impl Plan {
    /// Number of words of a plan.
    pub const WORDS: usize = 1 + RULE * MAX_RULES;

    /// Returns the plan as words, for [`from_words`](Self::from_words) of the same version of this crate.
    #[must_use]
    pub fn to_words(&self) -> [u64; Self::WORDS] {
        let mut words = [0; Self::WORDS];
        let (seed, rules) = words.split_at_mut(1);
        seed[0] = self.seed;
        for (words, rule) in rules.as_chunks_mut::<RULE>().0.iter_mut().zip(self.rules.iter().flatten()) {
            let (what, first, second) = rule.what.to_words();
            let (when, third) = rule.when.to_words();
            *words = [u64::from(what) | u64::from(when) << 8, first, second, third];
        }
        words
    }

    /// Returns the plan with these words; `None` if no plan has them.
    #[must_use]
    pub fn from_words(words: &[u64; Self::WORDS]) -> Option<Self> {
        let (seed, rules) = words.split_at(1);
        let mut plan = Self { seed: seed[0], ..Self::NONE };
        for (rule, words) in plan.rules.iter_mut().zip(rules.as_chunks::<RULE>().0) {
            *rule = match words {
                [0, 0, 0, 0] => None,
                words => Some(Rule::from_words(words)?),
            };
        }
        Some(plan)
    }
}

impl Rule {
    fn from_words(words: &[u64; RULE]) -> Option<Self> {
        let [kinds, first, second, third] = *words;
        let (what, when) = (u8::try_from(kinds & 0xff).ok()?, u8::try_from(kinds >> 8).ok()?);
        let rule =
            Self { what: What::from_words(what, first, second)?, when: When::from_words(when, third)? };
        // What is due at a time has a period, and nothing else has one.
        (rule.is_timed() == matches!(rule.when, When::Period(_))).then_some(rule)
    }
}

impl When {
    const fn to_words(self) -> (u8, u64) {
        match self {
            Self::Nth(n) => (1, n),
            Self::Every(n) => (2, n),
            Self::Percent(n) => (3, n),
            Self::Period(time) => (4, time.ticks()),
        }
    }

    fn from_words(kind: u8, argument: u64) -> Option<Self> {
        // None of them can be zero, and some are divisors.
        let when = match kind {
            1 => Self::Nth(argument),
            2 => Self::Every(argument),
            3 => Self::Percent(argument),
            4 => Self::Period(ReferenceTime(argument)),
            _ => return None,
        };
        (argument != 0).then_some(when)
    }
}

impl What {
    fn to_words(self) -> (u8, u64, u64) {
        let or_none = |argument: Option<u32>| argument.map_or(NONE, u64::from);
        match self {
            Self::Call { code, status } => (1, code.map_or(NONE, u64::from), status.into()),
            Self::Inject(Injection::Buffers) => (2, 0, 0),
            Self::Inject(Injection::Delay) => (2, 1, 0),
            Self::Inject(Injection::Again) => (2, 2, 0),
            Self::Inject(Injection::Silent) => (2, 3, 0),
            Self::Lost(intid) => (3, or_none(intid), 0),
            Self::Twice(intid) => (4, or_none(intid), 0),
            Self::Spurious(intid) => (5, intid.into(), 0),
            Self::Migrate => (6, 0, 0),
            Self::Silent(time) => (7, time.ticks(), 0),
            Self::Disturb(Disturbance::Messages) => (8, 0, 0),
            Self::Disturb(Disturbance::Events) => (8, 1, 0),
            Self::Disturb(Disturbance::Time) => (8, 2, 0),
            Self::Start(StartFault::Now) => (9, 0, 0),
            Self::Start(StartFault::Late(time)) => (9, 1, time.ticks()),
            Self::Start(StartFault::After) => (9, 2, 0),
            Self::Start(StartFault::Never) => (9, 3, 0),
            Self::Fail(Failing::Medium) => (10, NONE, 0),
            Self::Fail(Failing::Scsi { srb, scsi, sense }) => {
                let sense = sense.map_or(NONE, |[key, code, qualifier]| {
                    u64::from(u32::from_le_bytes([key, code, qualifier, 0]))
                });
                (10, u16::from_le_bytes([srb, scsi]).into(), sense)
            }
            Self::Medium(from, to) => (11, from, to),
            Self::Rescind(device, RescindPoint::Open) => (12, or_none(device), 0),
            Self::Rescind(device, RescindPoint::Packet) => (12, or_none(device), 1),
            Self::Mute(time) => (13, time.ticks(), 0),
            Self::Newest(device, version) => (14, device.into(), version.into()),
            Self::Frame(from_guest, FrameFault::Lost) => (15, from_guest.into(), 0),
            Self::Frame(from_guest, FrameFault::Twice) => (15, from_guest.into(), 1),
            Self::Frame(from_guest, FrameFault::Corrupt(number)) => (16, from_guest.into(), number),
            Self::Frame(from_guest, FrameFault::Reorder) => (15, from_guest.into(), 2),
            Self::Link(time) => (17, time.ticks(), 0),
        }
    }

    fn from_words(kind: u8, first: u64, second: u64) -> Option<Self> {
        let word = |argument: u64| u32::try_from(argument).ok();
        let optional = |argument: u64| if argument == NONE { Some(None) } else { word(argument).map(Some) };
        Some(match (kind, first, second) {
            (1, code, status) => {
                let code = if code == NONE { None } else { Some(u16::try_from(code).ok()?) };
                Self::Call { code, status: u16::try_from(status).ok()? }
            }
            (2, 0, _) => Self::Inject(Injection::Buffers),
            (2, 1, _) => Self::Inject(Injection::Delay),
            (2, 2, _) => Self::Inject(Injection::Again),
            (2, 3, _) => Self::Inject(Injection::Silent),
            (3, intid, _) => Self::Lost(optional(intid)?),
            (4, intid, _) => Self::Twice(optional(intid)?),
            (5, intid, _) => Self::Spurious(word(intid)?),
            (6, _, _) => Self::Migrate,
            (7, time, _) => Self::Silent(ReferenceTime(time)),
            (8, 0, _) => Self::Disturb(Disturbance::Messages),
            (8, 1, _) => Self::Disturb(Disturbance::Events),
            (8, 2, _) => Self::Disturb(Disturbance::Time),
            (9, 0, _) => Self::Start(StartFault::Now),
            (9, 1, time) => Self::Start(StartFault::Late(ReferenceTime(time))),
            (9, 2, _) => Self::Start(StartFault::After),
            (9, 3, _) => Self::Start(StartFault::Never),
            (10, NONE, _) => Self::Fail(Failing::Medium),
            (10, statuses, sense) => {
                let [srb, scsi] = u16::try_from(statuses).ok()?.to_le_bytes();
                let sense = optional(sense)?.map(|sense| {
                    let [key, code, qualifier, _] = sense.to_le_bytes();
                    [key, code, qualifier]
                });
                Self::Fail(Failing::Scsi { srb, scsi, sense })
            }
            (11, from, to) => Self::Medium(from, to),
            (12, device, 0) => Self::Rescind(optional(device)?, RescindPoint::Open),
            (12, device, 1) => Self::Rescind(optional(device)?, RescindPoint::Packet),
            (13, time, _) => Self::Mute(ReferenceTime(time)),
            (14, device, version) => Self::Newest(word(device)?, word(version)?),
            (15, from_guest @ 0..=1, 0) => Self::Frame(from_guest == 1, FrameFault::Lost),
            (15, from_guest @ 0..=1, 1) => Self::Frame(from_guest == 1, FrameFault::Twice),
            (15, from_guest @ 0..=1, 2) => Self::Frame(from_guest == 1, FrameFault::Reorder),
            (16, from_guest @ 0..=1, number) => Self::Frame(from_guest == 1, FrameFault::Corrupt(number)),
            (17, time, _) => Self::Link(ReferenceTime(time)),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use hv_tlfs::hypercall::HypercallCode;

    use super::*;
    use crate::faults::{Faults as _, Injector};

    /// A clause of each form, and of each that an argument has.
    const CLAUSES: [&str; 37] = [
        "call=0x5c:5",
        "call=any:0x13@3",
        "buffers",
        "delay@/5",
        "again@10%",
        "lost",
        "lost=18@3",
        "twice",
        "twice=20",
        "spurious=21@5ms",
        "migrate@7ms",
        "silent=2ms@3ms",
        "late=20ms",
        "reorder",
        "stuck",
        "srb=4",
        "srb=4:2@2",
        "sense=3/11/00",
        "busy",
        "media=2048-2055",
        "media=0-0x7fffffffffff",
        "rescind=1",
        "rescind=any",
        "rescind-open=2",
        "rescind-open=any",
        "newest=3:5.1",
        "newest=0:65535.65535",
        "mute=1ms@2ms",
        "disturb=messages@1ms",
        "disturb=events@1ms",
        "disturb=time@1ms",
        "sent=lost@2",
        "sent=corrupt",
        "received=twice@/3",
        "received=reorder",
        "received=corrupt",
        "link=20ms@100ms",
    ];

    fn parsed(text: &str) -> Plan {
        Plan::parse(text, &|_, _| None).expect(text)
    }

    #[test]
    fn every_clause_is_the_same_after_its_words() {
        for (form, _) in super::super::FORMS
            .iter()
            .filter(|(form, _)| !form.starts_with(['.']) && !form.starts_with("seed"))
        {
            let name = form.split(['=', ',']).next().expect("a name");
            assert!(CLAUSES.iter().any(|clause| clause.split(['=', '@']).next() == Some(name)), "{form}");
        }
        for clause in CLAUSES {
            let plan = parsed(clause);
            assert_eq!(Plan::from_words(&plan.to_words()), Some(plan), "{clause}");
        }
        let all = "call=1:9,call=2:9,call=3:9,call=4:9,call=5:9,call=6:9,call=7:9,call=8:9,call=9:9,call=10:9,call=11:9,\
                   call=12:9,call=13:9,call=14:9,call=15:9,call=16:9,seed=0xffffffffffffffff";
        let sixteen = parsed(all);
        assert_eq!(sixteen.rules(), MAX_RULES);
        assert_eq!(Plan::from_words(&sixteen.to_words()), Some(sixteen));
        assert_eq!(Plan::from_words(&[0; Plan::WORDS]), Some(Plan::NONE));
    }

    #[test]
    fn words_that_no_plan_has_are_refused_and_all_others_can_be_followed() {
        let interesting = [0, 1, 2, 3, 4, 5, 0x100, u64::from(u32::MAX), 1 << 32, NONE - 1, NONE];
        let mut accepted = 0;
        for clause in CLAUSES {
            let words = parsed(clause).to_words();
            for at in 1..1 + RULE {
                for value in (0..0x600).filter(|_| at == 1).chain(interesting) {
                    let mut words = words;
                    words[at] = value;
                    let Some(plan) = Plan::from_words(&words) else { continue };
                    accepted += 1;
                    let injector = Injector::new(plan);
                    let _ = injector.status(HypercallCode::POST_MESSAGE);
                    let _ = (injector.interrupt(18), injector.starts(), injector.mutes());
                    let _ =
                        (injector.fails(true, Some((0, 512))), injector.refuses(3, 1), injector.frame(true));
                    for now in [0, 1, 10_000, u64::MAX] {
                        injector.tick(ReferenceTime(now), &mut |_| {});
                    }
                }
            }
        }
        assert!(accepted > 1000);
        for (clause, at, value) in [
            ("buffers@3", 1, 0x0002),
            ("buffers@3", 1, 0x0502),
            ("buffers@3", 1, 0x1_0102),
            ("buffers@3", 1, 0x0112),
            ("buffers@3", 2, 4),
            ("buffers@3", 4, 0),
            // A period for what happens at occasions, and an occasion for what has a period.
            ("buffers@3", 1, 0x0402),
            ("migrate@5ms", 1, 0x0206),
            ("migrate@5ms", 4, 0),
        ] {
            let mut words = parsed(clause).to_words();
            words[at] = value;
            assert_eq!(Plan::from_words(&words), None, "{clause}, word {at}: {value:#x}");
        }
    }
}
