//! Cause and effect: from a post to its delivery, from an assertion to the list register.
//!
//! A record says what happened, not why. The reason follows from the order: a VP's records between an exit and its end
//! were caused by that exit; messages for a SINT are delivered in the order in which they were queued; an interrupt
//! that is asserted for a VP becomes pending there once, however often it was asserted before.

use std::collections::{HashMap, VecDeque};

use hv_tlfs::synic::MessageType;
use hv_trace::{Cause, NO_VP, Record, TimerChange, What};
use hv_wire::platform::MAX_VPS;

use super::requests::{Key, side};
use super::words;

/// The flows of a record.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    /// They begin at this record, or pass through it.
    pub(super) through: Vec<u64>,
    /// They end at it.
    pub(super) end: Vec<u64>,
    /// They begin with the exit that contains the record.
    pub(super) new: Vec<u64>,
}

/// All flows of a trace.
#[derive(Debug, Default)]
pub(super) struct Flows {
    last: u64,
    /// Number of VPs that have been seen.
    vps: u32,
    /// By VP and SINT: queued messages.
    queued: HashMap<(u32, u8), VecDeque<u64>>,
    /// By VP and timer: armed.
    timers: HashMap<(u32, u8), u64>,
    /// By VP and INTID: asserted, not yet pending.
    asserted: HashMap<(u32, u32), u64>,
    /// Requests to devices and to drivers without an answer.
    requests: HashMap<Key, u64>,
    /// By VP: asked to start.
    starting: HashMap<u32, u64>,
    /// By the VP on which it happened: what an interrupt may follow immediately, as VP and cause.
    effects: HashMap<u32, ((u32, Cause), u64)>,
}

/// INTIDs from here on belong to no VP: they go to the VP that takes them.
const FIRST_SHARED: u32 = 32;

const fn target(vp: u32, intid: u32) -> (u32, u32) {
    (if intid < FIRST_SHARED { vp } else { NO_VP }, intid)
}

impl Flows {
    fn new_flow(&mut self, ends: &mut Ends) -> u64 {
        self.last += 1;
        ends.new.push(self.last);
        self.last
    }

    /// Takes the next record.
    pub(super) fn feed(&mut self, record: &Record) -> Ends {
        let mut ends = Ends::default();
        let vp = record.vp;
        self.vps = self.vps.max(vp.saturating_add(1)).min(MAX_VPS as u32);
        match record.what {
            What::MessageQueued { .. } | What::MessageDropped { .. } | What::MessageDelivered { .. } => {
                self.message(record, &mut ends);
            }
            What::EventFlag { target, sint, was_set: false, .. } => {
                let flow = self.new_flow(&mut ends);
                self.effects.insert(vp, ((target, Cause::Event(sint)), flow));
                ends.through.push(flow);
            }
            What::Timer { target, timer, change: TimerChange::Armed(_) } => {
                let flow = self.new_flow(&mut ends);
                self.timers.insert((target, timer), flow);
                ends.through.push(flow);
            }
            What::Interrupt { .. } | What::Forwarded { .. } | What::SystemRegister { .. } => {
                self.assertion(record, &mut ends);
            }
            What::Injected { intid, .. } => ends.end.extend(self.asserted.remove(&target(vp, intid))),
            What::Packet { .. } | What::Contents { .. } => {
                let Some((key, asks)) = side(&record.what) else { return ends };
                if asks && self.requests.len() < super::requests::MOST_OPEN {
                    let flow = self.new_flow(&mut ends);
                    self.requests.insert(key, flow);
                    ends.through.push(flow);
                } else if !asks {
                    ends.end.extend(self.requests.remove(&key));
                }
            }
            What::VpStarting { target, .. } => {
                let flow = self.new_flow(&mut ends);
                self.starting.insert(target, flow);
                ends.through.push(flow);
            }
            What::VpOnline { target } => ends.end.extend(self.starting.remove(&target)),
            What::VpOffline { target } => self.forget(target),
            What::Reset {} | What::Restored {} => *self = Self { last: self.last, ..Self::default() },
            What::Exit { .. } | What::Enter {} => {
                self.effects.remove(&vp);
            }
            _ => {}
        }
        ends
    }

    /// Takes the next record of a message.
    fn message(&mut self, record: &Record, ends: &mut Ends) {
        let vp = record.vp;
        match record.what {
            What::MessageQueued { target, sint } => {
                let flow = self.new_flow(ends);
                self.queued.entry((target, sint)).or_default().push_back(flow);
                ends.through.push(flow);
            }
            What::MessageDropped { target, sint, place } => {
                let waits = self.queued.get_mut(&(target, sint));
                ends.end.extend(waits.and_then(|waits| waits.remove(place.into())));
            }
            What::MessageDelivered { target, sint, message_type, ref payload, .. } => {
                let waited = self.queued.get_mut(&(target, sint)).and_then(VecDeque::pop_front);
                // The number of the timer is the first field of its message.
                let timer = payload.first_word().filter(|_| message_type == MessageType::TIMER_EXPIRED);
                let timer = timer.and_then(|timer| u8::try_from(timer).ok());
                let armed = || timer.and_then(|timer| self.timers.remove(&(target, timer)));
                let flow = waited.or_else(armed).unwrap_or_else(|| self.new_flow(ends));
                self.effects.insert(vp, ((target, Cause::Message(sint)), flow));
                ends.through.push(flow);
            }
            _ => {}
        }
    }

    /// Takes the next record that may be of an interrupt's assertion.
    fn assertion(&mut self, record: &Record, ends: &mut Ends) {
        let vp = record.vp;
        match record.what {
            What::Interrupt { target: to, intid, cause } => {
                let effect = self.effects.remove(&vp).filter(|(effect, _)| *effect == (to, cause));
                let timer = match cause {
                    Cause::Timer(timer) => self.timers.remove(&(to, timer)),
                    _ => None,
                };
                let flow = effect.map(|(_, flow)| flow).or(timer);
                let flow = flow.unwrap_or_else(|| self.new_flow(ends));
                self.asserted.entry(target(to, intid)).or_insert(flow);
                ends.through.push(flow);
            }
            What::Forwarded { intid } => {
                let flow = self.new_flow(ends);
                self.asserted.entry(target(vp, intid)).or_insert(flow);
                ends.through.push(flow);
            }
            What::SystemRegister { iss, value } if words::generates_sgi(iss.into()) => {
                for to in sgi_targets(vp, value, self.vps) {
                    let flow = self.new_flow(ends);
                    self.asserted.entry((to, (value >> 24 & 0xf) as u32)).or_insert(flow);
                    ends.through.push(flow);
                }
            }
            _ => {}
        }
    }

    /// Drops what is pending for a VP when it goes offline.
    fn forget(&mut self, vp: u32) {
        self.queued.retain(|(target, _), _| *target != vp);
        self.timers.retain(|(target, _), _| *target != vp);
        self.asserted.retain(|(target, _), _| *target != vp);
    }
}

/// Returns the VPs that an SGI targets, of as many. VP n has affinity 0.0.(n / 16).(n % 16).
///
/// Source: Arm IHI 0069, "ICC_SGI1R_EL1".
fn sgi_targets(sender: u32, value: u64, vps: u32) -> Vec<u32> {
    if value >> 40 & 1 != 0 {
        return (0..vps).filter(|vp| *vp != sender).collect();
    }
    let cluster = (value >> 16 & 0xff) as u32;
    (0..16).filter(|bit| value >> bit & 1 != 0).map(|bit| cluster * 16 + bit).collect()
}

#[cfg(test)]
mod tests {
    use hv_trace::{Payload, Trap};

    use super::*;
    use crate::trace::samples::*;

    fn delivered(vp: u32, time: u64, target: u32, sint: u8) -> Record {
        record(vp, time, message(target, sint, &[]))
    }

    fn interrupt(vp: u32, time: u64, target: u32, cause: Cause) -> Record {
        record(vp, time, What::Interrupt { target, intid: 18, cause })
    }

    fn injected(vp: u32, time: u64) -> Record {
        record(vp, time, What::Injected { intid: 18, list_register: 0 })
    }

    fn flag(time: u64) -> Record {
        record(0, time, What::EventFlag { target: 1, sint: 5, flag: 0, was_set: false })
    }

    #[test]
    fn a_message_leads_to_its_interrupt_on_the_other_vp() {
        let mut flows = Flows::default();
        flows.feed(&exit(0, 1, Trap::Hvc));
        let delivery = flows.feed(&delivered(0, 2, 1, 2));
        assert_eq!(delivery, Ends { through: vec![1], new: vec![1], end: vec![] });
        let assertion = flows.feed(&interrupt(0, 3, 1, Cause::Message(2)));
        assert_eq!(assertion, Ends { through: vec![1], ..Ends::default() });
        assert_eq!(flows.feed(&injected(0, 4)), Ends::default());
        assert_eq!(flows.feed(&injected(1, 5)), Ends { end: vec![1], ..Ends::default() });
        assert_eq!(flows.feed(&injected(1, 6)), Ends::default());
    }

    #[test]
    fn queued_messages_are_delivered_in_their_order() {
        let mut flows = Flows::default();
        let queued = |time| record(0, time, What::MessageQueued { target: 1, sint: 2 });
        assert_eq!(flows.feed(&queued(1)).new, [1]);
        assert_eq!(flows.feed(&queued(2)).new, [2]);
        assert_eq!(flows.feed(&delivered(1, 3, 1, 2)), Ends { through: vec![1], ..Ends::default() });
        assert_eq!(flows.feed(&delivered(1, 4, 1, 2)), Ends { through: vec![2], ..Ends::default() });
        assert_eq!(flows.feed(&delivered(1, 5, 1, 2)).new, [3]);
    }

    #[test]
    fn a_dropped_message_leaves_those_around_it_their_arrows() {
        let mut flows = Flows::default();
        for time in 1..4 {
            flows.feed(&record(0, time, What::MessageQueued { target: 1, sint: 2 }));
        }
        let dropped = |place| record(1, 4, What::MessageDropped { target: 1, sint: 2, place });
        assert_eq!(flows.feed(&dropped(1)), Ends { end: vec![2], ..Ends::default() });
        assert_eq!(flows.feed(&dropped(9)), Ends::default());
        assert_eq!(flows.feed(&delivered(1, 5, 1, 2)).through, [1]);
        assert_eq!(flows.feed(&delivered(1, 6, 1, 2)).through, [3]);
    }

    #[test]
    fn a_timer_leads_to_its_message() {
        let mut flows = Flows::default();
        flows.feed(&record(0, 1, What::Timer { target: 0, timer: 3, change: TimerChange::Armed(1000) }));
        let (message_type, payload) = (MessageType::TIMER_EXPIRED, Payload::new(&[3, 0, 0, 0]));
        let what = What::MessageDelivered { target: 0, sint: 2, pending: false, message_type, payload };
        let message = record(0, 9, what);
        assert_eq!(flows.feed(&message), Ends { through: vec![1], ..Ends::default() });
    }

    #[test]
    fn an_interrupt_asserted_twice_becomes_pending_once() {
        let mut flows = Flows::default();
        flows.feed(&interrupt(0, 1, 1, Cause::Ipi));
        flows.feed(&interrupt(0, 2, 1, Cause::Ipi));
        assert_eq!(flows.feed(&injected(1, 3)).end, [1]);
        assert!(flows.feed(&injected(1, 4)).end.is_empty());
    }

    #[test]
    fn an_interrupt_takes_no_other_ones_flow() {
        let mut flows = Flows::default();
        flows.feed(&flag(1));
        assert_eq!(flows.feed(&interrupt(0, 2, 1, Cause::Message(2))).new, [2]);
        flows.feed(&flag(3));
        flows.feed(&enter(0, 4));
        assert_eq!(flows.feed(&interrupt(0, 5, 1, Cause::Event(5))).new, [4]);
    }

    #[test]
    fn an_sgi_goes_to_all_that_it_names() {
        assert_eq!(sgi_targets(0, 3 << 24 | 0b1010, 4), [1, 3]);
        assert_eq!(sgi_targets(2, 1 << 40, 4), [0, 1, 3]);
        let mut flows = Flows::default();
        let sgi = record(0, 1, What::SystemRegister { iss: 0x3a_3016, value: 3 << 24 | 0b1010 });
        assert_eq!(flows.feed(&sgi).new, [1, 2]);
        let pending = record(3, 2, What::Injected { intid: 3, list_register: 0 });
        assert_eq!(flows.feed(&pending).end, [2]);
    }

    #[test]
    fn nothing_waits_for_a_vp_that_went_off() {
        let mut flows = Flows::default();
        flows.feed(&interrupt(0, 1, 1, Cause::Ipi));
        flows.feed(&record(1, 2, What::VpOffline { target: 1 }));
        assert_eq!(flows.feed(&injected(1, 3)), Ends::default());
    }
}
