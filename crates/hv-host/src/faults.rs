//! Faults on purpose: how a guest's error paths are tested.
//!
//! A [`Plan`] is read from text, an [`Injector`] follows it, and the embedder asks the injector where it implements
//! [`Host`](crate::Host). The same plan with the same seed and the same guest gives the same faults. Nothing of this
//! harms the host: an injected fault is something that the interface allows, or that a hostile host could do.
//!
//! A plan is a list of clauses, separated by commas: `what`, `what=argument`, each with an optional `@when`.
//!
//! | clause | what happens |
//! |---|---|
//! | `call=0x5d:0x13` | the hypercall ends with this status at once; `call=any:...` means every hypercall |
//! | `buffers` | a message that has to be queued finds no buffer |
//! | `delay` | a message stays in the queue although its slot is free |
//! | `again` | a rep hypercall is interrupted after an element, to be continued |
//! | `lost`, `lost=18` | an interrupt (with this INTID) is not raised |
//! | `twice`, `twice=18` | an interrupt is raised twice |
//! | `spurious=18` | an interrupt is raised without a reason |
//! | `migrate` | the clock changes as by a migration |
//! | `silent=200ms` | the host half of VMBus answers nothing for so long |
//! | `disturb=messages`, `disturb=events`, `disturb=time` | a hostile host writes garbage into the guest's pages |
//! | `seed=7` | seed of the percentages and the garbage |
//!
//! `@3` is the third time, `@/5` every fifth, `@10%` one in ten by chance; `@50ms` every 50 ms of reference time, which
//! is the one form for `spurious`, `migrate`, `silent` and `disturb`. Without it: every time.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_tlfs::hypercall::HypercallCode;
use hv_tlfs::status::HvStatus;

/// Clauses of a plan at most.
pub const MAX_CLAUSES: usize = 16;
/// Reference time units per millisecond.
const MILLISECOND: u64 = 10_000;

/// A place in the partition at which a fault can be injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injection {
    /// A message has to be queued: no buffer is free.
    Buffers,
    /// A message could be put into its slot: it stays in the queue.
    Delay,
    /// A rep hypercall has done an element: it goes back to the guest.
    Again,
    /// The host half of VMBus has an answer: it is kept back.
    Silent,
}

/// Pages that a hostile host writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Message slots: payload size, flags and type of a random one.
    Messages,
    /// A random event flag.
    Events,
    /// Sequence number of the reference TSC page.
    Time,
}

/// What becomes of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raise {
    /// It is raised.
    Once,
    /// It is lost.
    Lost,
    /// It is raised twice.
    Twice,
}

/// Something that is due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// Raise this interrupt.
    Spurious(u32),
    /// Call [`Partition::migrate`](crate::Partition::migrate).
    Migrate,
    /// Call [`Partition::disturb`](crate::Partition::disturb) with this random number.
    Disturb(Disturbance, u64),
    /// Call [`Partition::rescan`](crate::Partition::rescan) on every VP: something was kept back.
    Rescan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Call { code: Option<u16>, status: u16 },
    Inject(Injection),
    Lost(Option<u32>),
    Twice(Option<u32>),
    Spurious(u32),
    Migrate,
    Silent { units: u64 },
    Disturb(Disturbance),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Nth(u64),
    Every(u64),
    Percent(u64),
    Period { units: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clause {
    what: What,
    when: When,
}

/// What is to go wrong, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    clauses: [Option<Clause>; MAX_CLAUSES],
    seed: u64,
}

/// Why a text is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPlan {
    /// Number of the clause, from 1.
    pub clause: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for BadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clause {}: {}", self.clause, self.reason)
    }
}

impl core::error::Error for BadPlan {}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn milliseconds(text: &str) -> Option<u64> {
    number(text.strip_suffix("ms")?)?.checked_mul(MILLISECOND).filter(|&units| units != 0)
}

fn when(text: Option<&str>) -> Result<When, &'static str> {
    let Some(text) = text else { return Ok(When::Every(1)) };
    let positive = |text| number(text).filter(|&n| n != 0);
    let parsed = if let Some(n) = text.strip_prefix('/') {
        positive(n).map(When::Every)
    } else if let Some(percent) = text.strip_suffix('%') {
        number(percent).filter(|&n| n <= 100).map(When::Percent)
    } else if text.ends_with("ms") {
        milliseconds(text).map(|units| When::Period { units })
    } else {
        positive(text).map(When::Nth)
    };
    parsed.ok_or("after @ comes a number, /number, a percentage or a number of ms")
}

fn what(
    name: &str,
    argument: Option<&str>,
    names: &dyn Fn(&str) -> Option<u64>,
) -> Result<What, &'static str> {
    let intid = || match argument {
        None => Ok(None),
        Some(text) => {
            let intid = number(text).and_then(|n| u32::try_from(n).ok()).filter(|n| (16..1020).contains(n));
            intid.map(Some).ok_or("an INTID is a number from 16 to 1019")
        }
    };
    let what = match name {
        "call" => {
            let (code, status) = argument.and_then(|a| a.split_once(':')).ok_or("write call=CODE:STATUS")?;
            let value = |text| number(text).or_else(|| names(text)).and_then(|n| u16::try_from(n).ok());
            let code = match code {
                "any" => None,
                _ => Some(value(code).ok_or("no such hypercall")?),
            };
            let status = value(status).filter(|&status| status != 0).ok_or("no such status")?;
            return Ok(What::Call { code, status });
        }
        "lost" => return Ok(What::Lost(intid()?)),
        "twice" => return Ok(What::Twice(intid()?)),
        "spurious" => return intid()?.map(What::Spurious).ok_or("write spurious=INTID"),
        "silent" => {
            let units = argument.and_then(milliseconds).ok_or("write silent=NUMBERms")?;
            return Ok(What::Silent { units });
        }
        "disturb" => {
            let what = match argument {
                Some("messages") => Disturbance::Messages,
                Some("events") => Disturbance::Events,
                Some("time") => Disturbance::Time,
                _ => return Err("disturb is =messages, =events or =time"),
            };
            return Ok(What::Disturb(what));
        }
        "buffers" => What::Inject(Injection::Buffers),
        "delay" => What::Inject(Injection::Delay),
        "again" => What::Inject(Injection::Again),
        "migrate" => What::Migrate,
        _ => return Err("unknown; see the list"),
    };
    if argument.is_some() { Err("this one takes no argument") } else { Ok(what) }
}

impl Plan {
    /// Nothing goes wrong.
    pub const NONE: Self = Self { clauses: [None; MAX_CLAUSES], seed: 0 };

    /// Reads a plan. `names` turns a C name of a hypercall or a status into its number; a program that has only numbers
    /// gives `&|_| None`.
    ///
    /// # Errors
    /// The clause that is wrong, and why.
    pub fn parse(text: &str, names: &dyn Fn(&str) -> Option<u64>) -> Result<Self, BadPlan> {
        let mut plan = Self::NONE;
        let mut count = 0;
        for (index, clause) in text.split(',').enumerate() {
            let bad = |reason| BadPlan { clause: index + 1, reason };
            let clause = clause.trim();
            if let Some(seed) = clause.strip_prefix("seed=") {
                plan.seed = number(seed).ok_or(bad("a seed is a number"))?;
                continue;
            }
            let (clause, at) = match clause.split_once('@') {
                Some((clause, at)) => (clause, Some(at)),
                None => (clause, None),
            };
            let (name, argument) = match clause.split_once('=') {
                Some((name, argument)) => (name, Some(argument)),
                None => (clause, None),
            };
            let what = what(name, argument, names).map_err(bad)?;
            let when = when(at).map_err(bad)?;
            let timed =
                matches!(what, What::Spurious(_) | What::Migrate | What::Silent { .. } | What::Disturb(_));
            if timed != matches!(when, When::Period { .. }) {
                let reason = if timed { "this one needs @NUMBERms" } else { "this one has no period" };
                return Err(bad(reason));
            }
            if let (What::Silent { units: silent }, When::Period { units: period }) = (what, when) {
                if silent > period {
                    return Err(bad("longer silent than the period"));
                }
            }
            let slot = plan.clauses.get_mut(count).ok_or(bad("too many clauses"))?;
            *slot = Some(Clause { what, when });
            count += 1;
        }
        Ok(plan)
    }
}

/// Follows a plan. All VPs share it.
#[derive(Debug)]
pub struct Injector {
    plan: Plan,
    /// How often each clause was asked, or when a timed one was due last.
    counts: [AtomicU64; MAX_CLAUSES],
    random: AtomicU64,
    injected: AtomicU64,
}

impl Injector {
    /// An injector at the beginning of its plan.
    #[must_use]
    pub const fn new(plan: Plan) -> Self {
        Self {
            plan,
            counts: [const { AtomicU64::new(0) }; MAX_CLAUSES],
            random: AtomicU64::new(plan.seed),
            injected: AtomicU64::new(0),
        }
    }

    /// Faults injected so far.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.injected.load(Ordering::Relaxed)
    }

    /// The next random number: SplitMix64.
    fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn clauses(&self) -> impl Iterator<Item = (&Clause, &AtomicU64)> {
        let clauses = self.plan.clauses.iter().zip(&self.counts);
        clauses.filter_map(|(clause, count)| Some((clause.as_ref()?, count)))
    }

    /// Whether a clause that has just been met strikes.
    fn strikes(&self, when: When, count: &AtomicU64) -> bool {
        let times = count.fetch_add(1, Ordering::Relaxed) + 1;
        let strikes = match when {
            When::Nth(n) => times == n,
            When::Every(n) => times % n == 0,
            When::Percent(percent) => self.random() % 100 < percent,
            When::Period { .. } => false,
        };
        if strikes {
            self.injected.fetch_add(1, Ordering::Relaxed);
        }
        strikes
    }

    /// The status with which a hypercall ends at once; for [`Host::inject_status`](crate::Host::inject_status).
    #[must_use]
    pub fn status(&self, call: HypercallCode) -> Option<HvStatus> {
        // Every clause counts, whether an earlier one strikes or not.
        self.clauses().fold(None, |found, (clause, count)| match clause.what {
            What::Call { code, status } if code.is_none_or(|code| code == call.0) => {
                let strikes = self.strikes(clause.when, count);
                found.or(strikes.then_some(HvStatus(status)))
            }
            _ => found,
        })
    }

    /// Whether a fault strikes at this place at this reference time; for [`Host::inject`](crate::Host::inject).
    #[must_use]
    pub fn injects(&self, injection: Injection, now: u64) -> bool {
        self.clauses().fold(false, |found, (clause, count)| match (clause.what, clause.when) {
            (What::Inject(place), when) if place == injection => self.strikes(when, count) || found,
            (What::Silent { units }, When::Period { units: period }) if injection == Injection::Silent => {
                now % period < units || found
            }
            _ => found,
        })
    }

    /// What becomes of an interrupt.
    #[must_use]
    pub fn interrupt(&self, intid: u32) -> Raise {
        self.clauses().fold(Raise::Once, |raise, (clause, count)| {
            let (meant, result) = match clause.what {
                What::Lost(meant) => (meant, Raise::Lost),
                What::Twice(meant) => (meant, Raise::Twice),
                _ => return raise,
            };
            let strikes = meant.is_none_or(|meant| meant == intid) && self.strikes(clause.when, count);
            if strikes && raise == Raise::Once { result } else { raise }
        })
    }

    /// Calls `act` for everything that has become due since it was asked last. Ask from time to time, on one VP.
    pub fn tick(&self, now: u64, act: &mut dyn FnMut(Timed)) {
        for (clause, last) in self.clauses() {
            if matches!(clause.what, What::Silent { .. } | What::Inject(Injection::Delay)) {
                // What was kept back may go now.
                act(Timed::Rescan);
            }
            let When::Period { units } = clause.when else { continue };
            let turn = now / units;
            if last.swap(turn, Ordering::Relaxed) >= turn {
                continue;
            }
            self.injected.fetch_add(1, Ordering::Relaxed);
            match clause.what {
                What::Spurious(intid) => act(Timed::Spurious(intid)),
                What::Migrate => act(Timed::Migrate),
                What::Disturb(what) => act(Timed::Disturb(what, self.random())),
                _ => {}
            }
        }
    }
}
