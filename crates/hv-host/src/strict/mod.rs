//! The strict mode: reports what a guest does wrong or carelessly.
//!
//! A [`Judge`] is fed with the partition's events and returns [`Finding`]s. It requires nothing of the guest and
//! changes nothing, so it can run next to the partition, or afterwards over a trace. It knows only the events; it
//! cannot see accesses to shared pages, which no hypervisor sees.

mod calls;
mod ends;
mod registers;
mod synic;

pub use hv_tlfs::rules::{self, RULES, Rule, Severity};

use hv_tlfs::register::RegisterName;
use hv_tlfs::synic::{SINT_COUNT, Sint};
use hv_tlfs::timer::{STIMER_COUNT, StimerConfig};

use crate::event::Event;

/// A rule that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// The VP that broke it.
    pub vp: usize,
    /// The value, as [`Terms::value`](hv_tlfs::rules::Terms::value) describes it.
    pub value: u64,
}

impl Finding {
    /// Creates the finding that a VP broke a rule, with this value.
    #[must_use]
    pub const fn new(rule: &'static Rule, vp: usize, value: u64) -> Self {
        Self { rule, vp, value }
    }
}

/// The judge's state of one VP. All zeros at first.
#[derive(Clone, Copy, Debug)]
struct VpState {
    control: u64,
    message_page: u64,
    event_page: u64,
    /// Differences of the SINTs from their reset value.
    sints: [u64; SINT_COUNT],
    timer_config: [u64; STIMER_COUNT],
    timer_count: [u64; STIMER_COUNT],
    /// Timers armed by the current call.
    armed: u8,
    /// Messages queued, by SINT.
    waiting: [u8; SINT_COUNT],
    /// SINTs whose slot has had the message-pending flag since the last end of message.
    pending: u16,
    /// What the last delivery to each SINT said about more messages.
    more: u16,
    /// Messages that came out of a queue without an end of message.
    unanswered: u32,
    /// The last failed call, and how often it was made.
    failed: Failed,
    /// The register read last, and how often in a row: without a write, and without an interrupt for the VP.
    reads: (u32, u32),
    /// The reference time at the first of these reads, if that is the register.
    since: u64,
    /// The register in the last Get or Set.
    name: u32,
    /// A rep call must be continued.
    continuing: bool,
}

/// A call that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Failed {
    control: u64,
    parameters: [u64; 2],
    name: u32,
    status: u16,
    times: u32,
}

impl VpState {
    const NEW: Self = Self {
        control: 0,
        message_page: 0,
        event_page: 0,
        sints: [0; SINT_COUNT],
        timer_config: [0; STIMER_COUNT],
        timer_count: [0; STIMER_COUNT],
        armed: 0,
        waiting: [0; SINT_COUNT],
        pending: 0,
        more: 0,
        unanswered: 0,
        failed: Failed { control: 0, parameters: [0; 2], name: 0, status: 0, times: 0 },
        reads: (0, 0),
        since: 0,
        name: 0,
        continuing: false,
    };

    fn sint(&self, sint: usize) -> Sint {
        Sint(self.sints.get(sint).copied().unwrap_or(0) ^ Sint::RESET.0)
    }

    fn timer(&self, timer: usize) -> StimerConfig {
        StimerConfig(self.timer_config.get(timer).copied().unwrap_or(0))
    }

    fn synic_on(&self) -> bool {
        self.control & 1 != 0 || (0..SINT_COUNT).any(|sint| !self.sint(sint).masked())
    }
}

/// Judge of a guest by the partition's events. It supports `VPS` VPs; events of others are ignored.
#[derive(Clone, Debug)]
pub struct Judge<const VPS: usize> {
    ram_base: u64,
    ram_size: u64,
    guest_os_id: u64,
    crashes: u32,
    vps: [VpState; VPS],
}

/// Receiver of findings.
struct Found<'f> {
    vp: usize,
    sink: &'f mut dyn FnMut(Finding),
}

impl Found<'_> {
    fn add(&mut self, rule: &'static Rule, value: u64) {
        (self.sink)(Finding { rule, vp: self.vp, value });
    }

    fn add_if(&mut self, broken: bool, rule: &'static Rule, value: u64) {
        if broken {
            self.add(rule, value);
        }
    }
}

impl<const VPS: usize> Judge<VPS> {
    /// Creates a judge for a guest whose memory is one range.
    #[must_use]
    pub const fn new(ram_base: u64, ram_size: u64) -> Self {
        Self { ram_base, ram_size, guest_os_id: 0, crashes: 0, vps: [VpState::NEW; VPS] }
    }

    /// Sets the range of the guest's memory, for a judge in a static. Call it before the first event.
    pub const fn set_memory(&mut self, ram_base: u64, ram_size: u64) {
        (self.ram_base, self.ram_size) = (ram_base, ram_size);
    }

    /// Checks an event.
    pub fn event(&mut self, event: &Event<'_>, found: &mut dyn FnMut(Finding)) {
        let found = &mut Found { vp: vp_of(event), sink: found };
        match *event {
            Event::Hypercall { vp, convention, control, parameters, result, retry } => {
                self.hypercall(found, vp, convention, control, parameters, result.status(), retry);
            }
            Event::RegisterGet { vp, name, value, .. } => self.register_get(found, vp, name, value),
            Event::RegisterSet { vp, name, value, status, .. } => {
                self.register_set(found, vp, name, value, status);
            }
            Event::MessagePosted { connection, message_type, status, .. } => {
                calls::posted(found, connection, message_type, status);
            }
            Event::EventSignalled { connection, flag, status, .. } => {
                calls::signalled(found, connection, flag, status);
            }
            Event::MessageQueued { vp, sint } => self.queued(vp, sint),
            Event::MessageDropped { vp, sint, .. } => self.dropped(vp, sint),
            Event::MessageDelivered { vp, sint, pending, .. } => self.delivered(found, vp, sint, pending),
            Event::EndOfMessage { vp, waiting, delivered } => {
                self.end_of_message(found, vp, waiting, delivered);
            }
            // One that reads a register whenever something happens does not poll it.
            Event::Interrupt { vp, .. } => {
                if let Some(state) = self.vps.get_mut(vp) {
                    state.reads = (0, 0);
                }
            }
            Event::Timer { vp, timer, what } => self.timer_event(found, vp, timer, what),
            Event::UnknownImmediate { immediate, .. } => found.add(&rules::IMMEDIATE, u64::from(immediate)),
            Event::Smccc { vp, conduit, function, arguments, result } => {
                self.smccc(found, vp, conduit, function, arguments, result);
            }
            Event::Crash { control, ref parameters, text, .. } => {
                self.crash(found, control, parameters, text);
            }
            // A VP that is off keeps its SynIC until it starts again.
            Event::VpOnline { vp } => {
                if let Some(state) = self.vps.get_mut(vp) {
                    *state = VpState::NEW;
                }
            }
            Event::Reset => *self = Self::new(self.ram_base, self.ram_size),
            _ => {}
        }
    }

    /// Returns true if a VP's SynIC and message page are on and this SINT is masked: messages for it are pending.
    #[must_use]
    pub fn is_masked(&self, vp: usize, sint: usize) -> bool {
        self.vps
            .get(vp)
            .is_some_and(|state| state.control & state.message_page & 1 != 0 && state.sint(sint).masked())
    }

    /// Returns true if a VP's SynIC and event flags page are on and this SINT is unmasked, or if the VP is not
    /// followed.
    #[must_use]
    pub fn takes_events(&self, vp: usize, sint: usize) -> bool {
        self.vps
            .get(vp)
            .is_none_or(|state| state.control & state.event_page & 1 != 0 && !state.sint(sint).masked())
    }

    fn in_memory(&self, address: u64) -> bool {
        address.checked_sub(self.ram_base).is_some_and(|offset| offset < self.ram_size)
    }
}

/// Returns the VP that an event refers to.
fn vp_of(event: &Event<'_>) -> usize {
    match *event {
        Event::Hypercall { vp, .. }
        | Event::RegisterGet { vp, .. }
        | Event::RegisterSet { vp, .. }
        | Event::Smccc { vp, .. }
        | Event::UnknownImmediate { vp, .. }
        | Event::MessagePosted { vp, .. }
        | Event::MessageQueued { vp, .. }
        | Event::MessageDropped { vp, .. }
        | Event::MessageDelivered { vp, .. }
        | Event::EndOfMessage { vp, .. }
        | Event::EventSignalled { vp, .. }
        | Event::EventFlag { vp, .. }
        | Event::Interrupt { vp, .. }
        | Event::Timer { vp, .. }
        | Event::Crash { vp, .. }
        | Event::VpStarting { vp, .. }
        | Event::VpOnline { vp }
        | Event::VpOffline { vp } => vp,
        _ => 0,
    }
}

/// Returns the index of the name in a range of registers, if it is in it.
fn index_in(name: RegisterName, first: RegisterName, count: usize) -> Option<usize> {
    let index = name.0.checked_sub(first.0)? as usize;
    (index < count).then_some(index)
}
