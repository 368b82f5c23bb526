//! Fault injection, to test a guest's error paths.
//!
//! A [`Plan`] is read from text, an [`Injector`] follows it, and [`Faulty`](crate::Faulty) decorates a host with it.
//! The same plan with the same seed and the same guest gives the same faults. The host itself stays healthy: an
//! injected fault is something that the interface allows, or that a hostile host could do.
//!
//! A plan is a list of rules, separated by commas: `what`, `what=argument`, each with an optional `@when`. [`FORMS`]
//! lists them. A hypervisor that is started by a program gets the plan from it as words ([`Plan::to_words`]), and has
//! no parser.

mod devices;
mod language;
mod words;

use core::sync::atomic::{AtomicU64, Ordering};

use hv_tlfs::hypercall::HypercallCode;
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::ReferenceTime;

pub use devices::{Extent, Failing, FrameFault, Late, RescindPoint, StartFault};
pub use language::{BadPlan, FORMS, Name};

/// Maximum number of rules in a plan.
pub const MAX_RULES: usize = 16;
/// Number of the sockets as a device of a plan. The first word of a socket's GUID is its port; this is what follows in
/// all of them (Linux 6.12, net/vmw_vsock/hyperv_transport.c).
pub const SOCKETS: u32 = 0x11e6_facb;

/// A place in the partition at which a fault can be injected.
///
/// Exhaustive on purpose: a plan of an embedder's own decides about every place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injection {
    /// A message must be queued: no buffer is free.
    Buffers,
    /// A message could be written to its slot: it stays queued.
    Delay,
    /// A rep hypercall has completed an element: it returns to the guest.
    Again,
    /// A service behind the connections has an answer: it is withheld.
    Silent,
}

/// Pages that a hostile host writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disturbance {
    /// Message slots: payload size, flags and type of a random one.
    Messages,
    /// A random event flag.
    Events,
    /// Sequence number of the reference TSC page.
    Time,
}

/// The effect on an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raise {
    /// It is raised.
    Once,
    /// It is lost.
    Lost,
    /// It is raised twice.
    Twice,
}

/// Selects the faults of a [`Faulty`](crate::Faulty) host: implemented by an [`Injector`], and by what delegates to
/// one.
pub trait Faults {
    /// Returns the status with which a hypercall ends instead of being executed.
    fn status(&self, call: HypercallCode) -> Option<HvStatus>;

    /// Returns true to inject a fault here.
    fn injects(&self, injection: Injection) -> bool;

    /// Returns false if nothing is ever injected: a loop asks once, and not for each element.
    #[inline(always)]
    fn any(&self) -> bool {
        true
    }

    /// Returns the effect on an interrupt.
    fn interrupt(&self, intid: u32) -> Raise;

    /// Returns true if nothing ever goes wrong: then the other methods need not be asked.
    #[inline(always)]
    fn is_empty(&self) -> bool {
        false
    }

    /// Returns when a device's request is started.
    #[inline(always)]
    fn starts(&self) -> StartFault {
        StartFault::Now
    }

    /// Returns how a device's request ends instead of being carried out; `begins` is false for a later part of a
    /// command, and `extent` is what it reads or writes.
    #[inline(always)]
    fn fails(&self, begins: bool, extent: Option<Extent>) -> Option<Failing> {
        let _ = (begins, extent);
        None
    }

    /// Returns true if a device is taken away now.
    #[inline(always)]
    fn rescinds(&self, device: u32, point: RescindPoint) -> bool {
        let _ = (device, point);
        false
    }

    /// Returns true while devices take no packets.
    #[inline(always)]
    fn mutes(&self) -> bool {
        false
    }

    /// Returns true if a device does not speak this version of its protocol: major number in the upper half.
    #[inline(always)]
    fn refuses(&self, device: u32, version: u32) -> bool {
        let _ = (device, version);
        false
    }

    /// Returns what becomes of the next frame from the guest, or of the next one for it.
    #[inline(always)]
    fn frame(&self, from_guest: bool) -> Option<FrameFault> {
        let _ = from_guest;
        None
    }
}

/// No faults, and no code for them in the compiled program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoFaults;

impl Faults for NoFaults {
    #[inline(always)]
    fn is_empty(&self) -> bool {
        true
    }

    #[inline(always)]
    fn status(&self, _: HypercallCode) -> Option<HvStatus> {
        None
    }

    #[inline(always)]
    fn injects(&self, _: Injection) -> bool {
        false
    }

    #[inline(always)]
    fn any(&self) -> bool {
        false
    }

    #[inline(always)]
    fn interrupt(&self, _: u32) -> Raise {
        Raise::Once
    }
}

/// A reference to faults implements the trait as well.
impl<F: Faults> Faults for &F {
    #[inline(always)]
    fn is_empty(&self) -> bool {
        (**self).is_empty()
    }

    #[inline(always)]
    fn status(&self, call: HypercallCode) -> Option<HvStatus> {
        (**self).status(call)
    }

    #[inline(always)]
    fn injects(&self, injection: Injection) -> bool {
        (**self).injects(injection)
    }

    #[inline(always)]
    fn any(&self) -> bool {
        (**self).any()
    }

    #[inline(always)]
    fn interrupt(&self, intid: u32) -> Raise {
        (**self).interrupt(intid)
    }

    #[inline(always)]
    fn starts(&self) -> StartFault {
        (**self).starts()
    }

    #[inline(always)]
    fn fails(&self, begins: bool, extent: Option<Extent>) -> Option<Failing> {
        (**self).fails(begins, extent)
    }

    #[inline(always)]
    fn rescinds(&self, device: u32, point: RescindPoint) -> bool {
        (**self).rescinds(device, point)
    }

    #[inline(always)]
    fn mutes(&self) -> bool {
        (**self).mutes()
    }

    #[inline(always)]
    fn refuses(&self, device: u32, version: u32) -> bool {
        (**self).refuses(device, version)
    }

    #[inline(always)]
    fn frame(&self, from_guest: bool) -> Option<FrameFault> {
        (**self).frame(from_guest)
    }
}

/// A fault that is due at a time.
///
/// Exhaustive on purpose: an embedder has to perform every fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// Raise this interrupt.
    Spurious(u32),
    /// Call [`Partition::migrate`](crate::Partition::migrate).
    Migrate,
    /// Call [`Partition::disturb`](crate::Partition::disturb) with this random number.
    Disturb(Disturbance, u64),
    /// Call [`Partition::rescan`](crate::Partition::rescan) on every VP: something was withheld.
    Rescan,
    /// Have the devices behind the connections look at their rings again: they were mute.
    Resume,
    /// Take the link of the network card up or down.
    Link(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Call {
        code: Option<u16>,
        status: u16,
    },
    Inject(Injection),
    Lost(Option<u32>),
    Twice(Option<u32>),
    Spurious(u32),
    Migrate,
    Silent(ReferenceTime),
    Disturb(Disturbance),
    /// Requests of devices.
    Start(StartFault),
    Fail(Failing),
    /// Bytes of a medium: the first, and the first after the last.
    Medium(u64, u64),
    Rescind(Option<u32>, RescindPoint),
    Mute(ReferenceTime),
    /// The newest version of a device's protocol.
    Newest(u32, u32),
    /// Frames from the guest, or for it.
    Frame(bool, FrameFault),
    /// The link of the network card is down.
    Link(ReferenceTime),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Nth(u64),
    Every(u64),
    Percent(u64),
    Period(ReferenceTime),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    what: What,
    when: When,
}

/// The faults to inject, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    rules: [Option<Rule>; MAX_RULES],
    seed: u64,
}

impl Plan {
    /// The empty plan.
    pub const NONE: Self = Self { rules: [None; MAX_RULES], seed: 0 };

    /// Returns the number of rules.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.rules.iter().flatten().count()
    }
}

/// The executor of a plan. All VPs share it.
#[derive(Debug)]
pub struct Injector {
    plan: Plan,
    /// How often each rule was evaluated, or the last period in which a timed rule was due.
    counts: [AtomicU64; MAX_RULES],
    /// How often each rule fired.
    fired: [AtomicU64; MAX_RULES],
    random: AtomicU64,
    /// Reference time of the last [`Injector::tick`]: nothing here may query the partition for it.
    now: AtomicU64,
}

/// A rule with its counters.
#[derive(Clone, Copy)]
struct Counted<'i> {
    rule: &'i Rule,
    count: &'i AtomicU64,
    fired: &'i AtomicU64,
}

impl Injector {
    /// Creates an injector at the beginning of its plan.
    #[must_use]
    pub const fn new(plan: Plan) -> Self {
        Self {
            plan,
            counts: [const { AtomicU64::new(0) }; MAX_RULES],
            fired: [const { AtomicU64::new(0) }; MAX_RULES],
            random: AtomicU64::new(plan.seed),
            now: AtomicU64::new(0),
        }
    }

    /// Returns how often each rule of the plan has fired so far, in the order of the plan. A `silent` counts the
    /// periods in which an answer was withheld.
    pub fn fired(&self) -> impl Iterator<Item = u64> {
        self.rules().map(|counted| counted.fired.load(Ordering::Relaxed))
    }

    /// Returns whether a rule of the plan depends on the time: then [`tick`](Self::tick) is to be called while no VP
    /// does anything.
    #[must_use]
    pub fn has_times(&self) -> bool {
        self.rules().any(|counted| matches!(counted.rule.when, When::Period(_)))
    }

    /// Returns the next random number: SplitMix64.
    fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn rules(&self) -> impl Iterator<Item = Counted<'_>> {
        let counters = self.counts.iter().zip(&self.fired);
        let rules = self.plan.rules.iter().zip(counters);
        rules.filter_map(|(rule, (count, fired))| Some(Counted { rule: rule.as_ref()?, count, fired }))
    }

    /// Returns true if a rule that was just evaluated fires.
    fn strikes(&self, Counted { rule, count, fired }: Counted<'_>) -> bool {
        let times = count.fetch_add(1, Ordering::Relaxed) + 1;
        let strikes = match rule.when {
            When::Nth(n) => times == n,
            When::Every(n) => times % n == 0,
            When::Percent(percent) => self.random() % 100 < percent,
            When::Period(_) => false,
        };
        if strikes {
            fired.fetch_add(1, Ordering::Relaxed);
        }
        strikes
    }

    /// Takes the reference time, and calls `act` for everything that has become due since the last call. Call it
    /// periodically, on one VP.
    pub fn tick(&self, now: ReferenceTime, act: &mut dyn FnMut(Timed)) {
        self.now.store(now.ticks(), Ordering::Relaxed);
        for Counted { rule, count, fired } in self.rules() {
            if matches!(rule.what, What::Silent(_) | What::Inject(Injection::Delay)) {
                // What was withheld may be sent now.
                act(Timed::Rescan);
            }
            if let What::Mute(_) = rule.what {
                act(Timed::Resume);
            }
            if let Some(up) = self.link(now, Counted { rule, count, fired }) {
                act(Timed::Link(up));
            }
            let When::Period(period) = rule.when else { continue };
            let timed = match rule.what {
                What::Spurious(intid) => Timed::Spurious(intid),
                What::Migrate => Timed::Migrate,
                What::Disturb(what) => Timed::Disturb(what, 0),
                // Its periods are counted where an answer is withheld.
                _ => continue,
            };
            let turn = now.ticks() / period.ticks();
            if count.fetch_max(turn, Ordering::Relaxed) >= turn {
                continue;
            }
            fired.fetch_add(1, Ordering::Relaxed);
            act(match timed {
                Timed::Disturb(what, _) => Timed::Disturb(what, self.random()),
                timed => timed,
            });
        }
    }
}

impl Faults for Injector {
    fn status(&self, call: HypercallCode) -> Option<HvStatus> {
        // Every rule counts, whether an earlier one fires or not.
        self.rules().fold(None, |found, counted| match counted.rule.what {
            What::Call { code, status } if code.is_none_or(|code| code == call.0) => {
                let strikes = self.strikes(counted);
                found.or(strikes.then_some(HvStatus(status)))
            }
            _ => found,
        })
    }

    /// Evaluates `silent` by the reference time of the last [`tick`](Self::tick).
    fn injects(&self, injection: Injection) -> bool {
        if injection == Injection::Silent {
            return self.within(|what| match what {
                What::Silent(time) => Some(time),
                _ => None,
            });
        }
        self.rules().fold(false, |found, counted| match counted.rule.what {
            What::Inject(place) if place == injection => self.strikes(counted) || found,
            _ => found,
        })
    }

    fn interrupt(&self, intid: u32) -> Raise {
        self.rules().fold(Raise::Once, |raise, counted| {
            let (meant, result) = match counted.rule.what {
                What::Lost(meant) => (meant, Raise::Lost),
                What::Twice(meant) => (meant, Raise::Twice),
                _ => return raise,
            };
            let strikes = meant.is_none_or(|meant| meant == intid) && self.strikes(counted);
            if strikes && raise == Raise::Once { result } else { raise }
        })
    }

    fn starts(&self) -> StartFault {
        self.start_of_request()
    }

    fn fails(&self, begins: bool, extent: Option<Extent>) -> Option<Failing> {
        self.end_of_request(begins, extent)
    }

    fn rescinds(&self, device: u32, point: RescindPoint) -> bool {
        self.takes_away(device, point)
    }

    /// Returns true if messages are muted at the reference time of the last [`tick`](Self::tick).
    fn mutes(&self) -> bool {
        self.within(|what| match what {
            What::Mute(time) => Some(time),
            _ => None,
        })
    }

    fn refuses(&self, device: u32, version: u32) -> bool {
        self.refuses_version(device, version)
    }

    fn frame(&self, from_guest: bool) -> Option<FrameFault> {
        self.fate_of_frame(from_guest)
    }
}
