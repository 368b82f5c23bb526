//! The syntax of fault plans: parses text into a [`Plan`], or returns the position and the reason of an error.
//!
//! A plan is checked as a whole: a rule that can never fire is a mistake, and rejected like a typing error.

use core::fmt;

use hv_tlfs::time::ReferenceTime;

use super::{
    Disturbance, Failing, FrameFault, Injection, MAX_RULES, Plan, RescindPoint, Rule, StartFault, What, When,
};

/// Ticks of the reference time per millisecond.
const MILLISECOND: u64 = 10_000;

/// All forms of a rule and its time, with their effect. The first ones take a number of times, those from `spurious` on
/// a period.
pub const FORMS: &[(&str, &str)] = &[
    ("call=CODE:STATUS", "the hypercall ends with this status at once; CODE may be any"),
    ("buffers", "a message that has to be queued finds no buffer"),
    ("delay", "a message stays in the queue although its slot is free"),
    ("again", "a rep hypercall returns after one element, to be continued"),
    ("lost, lost=INTID", "an interrupt (with this INTID) is not raised"),
    ("twice, twice=INTID", "an interrupt is raised twice"),
    ("spurious=INTID", "a spurious interrupt is raised"),
    ("migrate", "the clock changes as after a migration"),
    ("silent=200ms", "the host half of VMBus does not answer for this time"),
    ("late=20ms", "a device's request is started later, and may be overtaken"),
    ("reorder", "a device's request is completed after a later one"),
    ("stuck", "a device's request is never completed"),
    ("srb=STATUS, srb=STATUS:SCSI", "a disk's request ends with this SRB status, and SCSI status 0"),
    ("sense=KEY/CODE/QUALIFIER", "a disk's request ends with CHECK CONDITION and this sense"),
    ("busy", "a disk's request ends with BUSY"),
    ("media=FIRST-LAST", "requests that touch these sectors of 512 bytes end with a medium error"),
    ("rescind=DEVICE, rescind=any", "a device is taken away when it has taken a packet"),
    ("rescind-open=DEVICE, rescind-open=any", "the same while the guest opens it"),
    ("newest=DEVICE:5.1, newest=vmbus:4.1", "newer versions of the device's protocol are refused"),
    ("mute=200ms", "devices take no packets for this time"),
    ("sent=lost|twice|corrupt|reorder", "this happens to a frame that the guest sends"),
    ("received=lost|twice|corrupt|reorder", "this happens to a frame for the guest"),
    ("link=200ms", "the link of the network card is down for this time"),
    ("disturb=messages|events|time", "a hostile host writes garbage into the guest's pages"),
    ("seed=7", "seed of the percentages and the garbage; not a rule"),
    ("...@3, ...@/5, ...@10%", "the third time; every fifth; one in ten at random; without it, every time"),
    (
        "...@50ms",
        "every 50 ms of reference time: for spurious, migrate, silent, mute, link and disturb, which need it",
    ),
];

/// The meaning of a name in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// A hypercall's code.
    Hypercall,
    /// A status.
    Status,
    /// A device.
    Device,
}

/// Reason why a text is not a valid plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadPlan {
    /// Number of the clause, counted from 1.
    pub clause: usize,
    /// Byte of the text at which the wrong part starts.
    pub start: usize,
    /// Byte after the wrong part.
    pub end: usize,
    /// The reason.
    pub reason: &'static str,
}

impl fmt::Display for BadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clause {}: {}", self.clause, self.reason)
    }
}

impl core::error::Error for BadPlan {}

/// A part of the text and the reason why it is wrong.
type Wrong<'t> = (&'t str, &'static str);

fn number(text: &str) -> Option<u64> {
    // from_str_radix and parse would accept a sign.
    match text.strip_prefix("0x") {
        Some(hex) if hex.starts_with('+') => None,
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?,
    }
}

fn milliseconds(text: &str) -> Option<ReferenceTime> {
    let ticks = number(text.strip_suffix("ms")?)?.checked_mul(MILLISECOND)?;
    (ticks != 0).then_some(ReferenceTime(ticks))
}

fn when(text: Option<&str>) -> Result<When, Wrong<'_>> {
    let Some(text) = text else { return Ok(When::Every(1)) };
    let positive = |text| number(text).filter(|&n| n != 0);
    let parsed = if let Some(n) = text.strip_prefix('/') {
        positive(n).map(When::Every)
    } else if let Some(percent) = text.strip_suffix('%') {
        positive(percent).filter(|&n| n <= 100).map(When::Percent)
    } else if text.ends_with("ms") {
        milliseconds(text).map(When::Period)
    } else {
        positive(text).map(When::Nth)
    };
    parsed.ok_or((
        text,
        "expected after @ a number from 1, / and a number, a percentage from 1% to 100%, or a time in ms",
    ))
}

fn intid(text: &str) -> Result<u32, Wrong<'_>> {
    let intid = number(text).and_then(|n| u32::try_from(n).ok()).filter(|n| (16..1020).contains(n));
    intid.ok_or((text, "an INTID is a number from 16 to 1019"))
}

/// Parses the part before `@`. `clause` is the whole clause.
fn what<'t>(
    clause: &'t str,
    name: &'t str,
    argument: Option<&'t str>,
    names: &dyn Fn(Name, &str) -> Option<u64>,
) -> Result<What, Wrong<'t>> {
    if let Some(plain) = plain(name) {
        return argument.map_or(Ok(plain), |argument| Err((argument, "this fault takes no argument")));
    }
    let needed = |usage| argument.ok_or((clause, usage));
    let time = |usage| {
        let text = needed(usage)?;
        milliseconds(text).ok_or((text, "expected a time in ms, such as 20ms"))
    };
    Ok(match name {
        "call" => return call(clause, argument, names),
        "newest" => return newest(clause, argument, names),
        "lost" => What::Lost(argument.map(intid).transpose()?),
        "twice" => What::Twice(argument.map(intid).transpose()?),
        "spurious" => What::Spurious(intid(needed("write spurious=INTID")?)?),
        "silent" => What::Silent(time("write silent=NUMBERms")?),
        "mute" => What::Mute(time("write mute=NUMBERms")?),
        "link" => What::Link(time("write link=NUMBERms")?),
        "late" => What::Start(StartFault::Late(time("write late=NUMBERms")?)),
        "sent" | "received" => {
            let wrong = (argument.unwrap_or(clause), "a frame is lost, twice, corrupt or reorder");
            What::Frame(name == "sent", argument.and_then(frame).ok_or(wrong)?)
        }
        "srb" => return srb(needed("write srb=STATUS or srb=STATUS:SCSI")?),
        "sense" => return sense(needed("write sense=KEY/CODE/QUALIFIER")?),
        "media" => return media(needed("write media=FIRST-LAST")?),
        "rescind" | "rescind-open" => {
            let point = if name == "rescind" { RescindPoint::Packet } else { RescindPoint::Open };
            match needed("name a device, or any")? {
                "any" => What::Rescind(None, point),
                text => What::Rescind(Some(device(text, names)?), point),
            }
        }
        "disturb" => {
            let usage = "write disturb=messages, disturb=events or disturb=time";
            let wrong = (argument.unwrap_or(clause), usage);
            What::Disturb(argument.and_then(disturbance).ok_or(wrong)?)
        }
        "" => return Err((clause, "an empty clause")),
        _ => return Err((name, "no such fault")),
    })
}

/// Returns a fault that takes no argument.
fn plain(name: &str) -> Option<What> {
    Some(match name {
        "buffers" => What::Inject(Injection::Buffers),
        "delay" => What::Inject(Injection::Delay),
        "again" => What::Inject(Injection::Again),
        "migrate" => What::Migrate,
        "reorder" => What::Start(StartFault::After),
        "stuck" => What::Start(StartFault::Never),
        "busy" => What::Fail(Failing::Scsi { srb: SRB_BUSY, scsi: SCSI_BUSY, sense: None }),
        _ => return None,
    })
}

/// Returns the fate of a frame by its name.
fn frame(name: &str) -> Option<FrameFault> {
    Some(match name {
        "lost" => FrameFault::Lost,
        "twice" => FrameFault::Twice,
        "corrupt" => FrameFault::Corrupt(0),
        "reorder" => FrameFault::Reorder,
        _ => return None,
    })
}

/// Returns what a hostile host writes to, by its name.
fn disturbance(name: &str) -> Option<Disturbance> {
    Some(match name {
        "messages" => Disturbance::Messages,
        "events" => Disturbance::Events,
        "time" => Disturbance::Time,
        _ => return None,
    })
}

/// Statuses of a disk that is busy: Linux judges the second one (drivers/scsi/storvsc_drv.c).
const SRB_BUSY: u8 = 5;
const SCSI_BUSY: u8 = 8;
/// Bytes of a sector in `media`.
const SECTOR: u64 = 512;

fn byte(text: &str) -> Option<u8> {
    number(text).and_then(|number| u8::try_from(number).ok())
}

/// Parses `STATUS` or `STATUS:SCSI`.
fn srb(argument: &str) -> Result<What, Wrong<'_>> {
    const BAD: &str = "an SRB status is a number from 0 to 0x3f, a SCSI status one from 0 to 0xff";
    let (srb, scsi) = argument.split_once(':').map_or((argument, None), |(srb, scsi)| (srb, Some(scsi)));
    let srb = byte(srb).filter(|srb| *srb < 0x40).ok_or((srb, BAD))?;
    let scsi = scsi.map_or(Ok(0), |scsi| byte(scsi).ok_or((scsi, BAD)))?;
    if (srb, scsi) == (1, 0) {
        return Err((argument, "expected the status of a failure"));
    }
    Ok(What::Fail(Failing::Scsi { srb, scsi, sense: None }))
}

/// Parses `KEY/CODE/QUALIFIER`, in hexadecimal as tools print them.
fn sense(argument: &str) -> Result<What, Wrong<'_>> {
    const BAD: &str = "write key, code and qualifier in hexadecimal: 3/11/00 is a read error";
    let mut parts = argument.split('/').map(|part| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        u8::from_str_radix(part, 16).ok().filter(|_| digits)
    });
    let mut next = || parts.next().flatten().ok_or((argument, BAD));
    let sense = [next()?, next()?, next()?];
    if parts.next().is_some() || sense[0] > 0xf {
        return Err((argument, BAD));
    }
    Ok(What::Fail(Failing::Scsi { srb: 4, scsi: 2, sense: Some(sense) }))
}

/// Parses `FIRST-LAST`.
fn media(argument: &str) -> Result<What, Wrong<'_>> {
    const BAD: &str = "write the first and the last sector of 512 bytes, such as 2048-2055";
    let (first, last) = argument.split_once('-').ok_or((argument, BAD))?;
    let bytes = |text: &str, more: u64| number(text)?.checked_add(more)?.checked_mul(SECTOR);
    let (from, to) = (bytes(first, 0).ok_or((first, BAD))?, bytes(last, 1).ok_or((last, BAD))?);
    if from < to { Ok(What::Medium(from, to)) } else { Err((argument, BAD)) }
}

fn device<'t>(text: &'t str, names: &dyn Fn(Name, &str) -> Option<u64>) -> Result<u32, Wrong<'t>> {
    let device = number(text).or_else(|| names(Name::Device, text)).and_then(|n| u32::try_from(n).ok());
    device.ok_or((text, "no such device"))
}

/// Parses `newest=DEVICE:MAJOR.MINOR`.
fn newest<'t>(
    clause: &'t str,
    argument: Option<&'t str>,
    names: &dyn Fn(Name, &str) -> Option<u64>,
) -> Result<What, Wrong<'t>> {
    let (name, version) =
        argument.and_then(|text| text.split_once(':')).ok_or((clause, "write newest=DEVICE:5.1"))?;
    let half = |text| number(text).and_then(|number| u16::try_from(number).ok()).map(u32::from);
    let newest = version.split_once('.').and_then(|(major, minor)| Some(half(major)? << 16 | half(minor)?));
    Ok(What::Newest(device(name, names)?, newest.ok_or((version, "a version is written 5.1"))?))
}

/// Parses `call=CODE:STATUS`.
fn call<'t>(
    clause: &'t str,
    argument: Option<&'t str>,
    names: &dyn Fn(Name, &str) -> Option<u64>,
) -> Result<What, Wrong<'t>> {
    let (code, status) =
        argument.and_then(|a| a.split_once(':')).ok_or((clause, "write call=CODE:STATUS"))?;
    let value = |kind, text| number(text).or_else(|| names(kind, text)).and_then(|n| u16::try_from(n).ok());
    let code = match code {
        "any" => None,
        _ => Some(
            value(Name::Hypercall, code)
                .ok_or((code, "no such hypercall: expected a number up to 0xffff, a C name, or any"))?,
        ),
    };
    let status = value(Name::Status, status)
        .ok_or((status, "no such status: expected a number up to 0xffff, or a C name"))
        .and_then(
            |number| if number == 0 { Err((status, "expected the status of a failure")) } else { Ok(number) },
        )?;
    Ok(What::Call { code, status })
}

/// Parses a rule.
fn rule<'t>(clause: &'t str, names: &dyn Fn(Name, &str) -> Option<u64>) -> Result<Rule, Wrong<'t>> {
    let (before, at) = match clause.split_once('@') {
        Some((before, at)) => (before, Some(at)),
        None => (clause, None),
    };
    let (name, argument) = match before.split_once('=') {
        Some((name, argument)) => (name, Some(argument)),
        None => (before, None),
    };
    let rule = Rule { what: what(before, name, argument, names)?, when: when(at)? };
    match (rule.is_timed(), rule.when) {
        (true, When::Period(period)) => match rule.what {
            What::Silent(time) | What::Mute(time) if time > period => {
                Err((clause, "silent for longer than its period"))
            }
            What::Link(time) if time > period => Err((clause, "down for longer than its period")),
            _ => Ok(rule),
        },
        (true, _) => Err((at.unwrap_or(clause), "this fault needs a period, such as @50ms")),
        (false, When::Period(_)) => {
            Err((at.unwrap_or(clause), "this fault takes no period: write @3, @/5 or @10%"))
        }
        (false, _) => Ok(rule),
    }
}

impl Rule {
    pub(super) const fn is_timed(&self) -> bool {
        matches!(
            self.what,
            What::Spurious(_)
                | What::Migrate
                | What::Silent(_)
                | What::Mute(_)
                | What::Link(_)
                | What::Disturb(_)
        )
    }

    /// Returns true if this rule is evaluated whenever `later` is.
    fn covers(&self, later: &Self) -> bool {
        match (self.what, later.what) {
            (What::Call { code: mine, .. }, What::Call { code: other, .. }) => {
                mine.is_none() || mine == other
            }
            (What::Lost(mine) | What::Twice(mine), What::Lost(other) | What::Twice(other)) => {
                mine.is_none() || mine == other
            }
            (What::Silent(mine), What::Silent(other)) | (What::Mute(mine), What::Mute(other)) => {
                mine >= other
            }
            (What::Start(_), What::Start(_)) | (What::Fail(_), What::Fail(_) | What::Medium(..)) => true,
            (What::Medium(from, to), What::Medium(first, end)) => from <= first && end <= to,
            (What::Rescind(mine, when), What::Rescind(other, then)) => {
                when == then && (mine.is_none() || mine == other)
            }
            (What::Newest(mine, least), What::Newest(other, newest)) => mine == other && least <= newest,
            (What::Frame(mine, _), What::Frame(other, _)) => mine == other,
            (What::Link(mine), What::Link(other)) => mine >= other,
            (mine, other) => mine == other,
        }
    }

    /// Returns true if `later` can never fire, because this earlier rule fires each time.
    fn shadows(&self, later: &Self) -> bool {
        let strikes_then = match (self.when, later.when) {
            (When::Every(1) | When::Percent(100), _) => true,
            // Both count the same occurrences.
            (When::Nth(mine), When::Nth(other)) => later.covers(self) && mine == other,
            (When::Every(mine), When::Nth(other) | When::Every(other)) => {
                later.covers(self) && other % mine == 0
            }
            (When::Period(mine), When::Period(other)) => mine == other,
            _ => self == later,
        };
        self.covers(later) && strikes_then
    }
}

impl Plan {
    /// Parses a plan. `names` turns a C name into its number; a program that has only numbers passes `&|_, _| None`.
    ///
    /// # Errors
    /// The clause that is wrong, and the reason.
    pub fn parse(text: &str, names: &dyn Fn(Name, &str) -> Option<u64>) -> Result<Self, BadPlan> {
        let mut plan = Self::NONE;
        let (mut count, mut clauses) = (0, 0);
        let mut seed = None;
        for clause in text.split(',') {
            clauses += 1;
            let bad = |(part, reason): Wrong<'_>| {
                // A part is a slice of the text.
                let start = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize).min(text.len());
                BadPlan { clause: clauses, start, end: (start + part.len()).min(text.len()), reason }
            };
            let clause = clause.trim();
            if let Some(value) = clause.strip_prefix("seed=") {
                let value = number(value).ok_or(bad((value, "a seed is a number")))?;
                if seed.replace(value).is_some() {
                    return Err(bad((clause, "a seed was given before")));
                }
                continue;
            }
            let rule = rule(clause, names).map_err(bad)?;
            let earlier = plan.rules.iter().flatten();
            if let Some(earlier) = earlier.clone().find(|earlier| earlier.shadows(&rule)) {
                let reason = if *earlier == rule {
                    "an earlier rule is the same"
                } else {
                    "this rule never strikes: an earlier one strikes each time"
                };
                return Err(bad((clause, reason)));
            }
            let slot = plan.rules.get_mut(count).ok_or(bad((clause, TOO_MANY)))?;
            *slot = Some(rule);
            count += 1;
        }
        if count == 0 {
            return Err(BadPlan {
                clause: clauses,
                start: 0,
                end: text.len(),
                reason: "a seed alone injects nothing",
            });
        }
        plan.seed = seed.unwrap_or(0);
        Ok(plan)
    }
}

const TOO_MANY: &str = "too many rules: 16 is the most";
const _: () = assert!(MAX_RULES == 16);

#[cfg(test)]
mod tests;
