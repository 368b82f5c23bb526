//! What leads to what: from a post to its delivery, from an assertion to the list register.
//!
//! A record says what happened, not why. Why follows from the order: what a VP's records say between an exit and the way back
//! was caused by that exit; messages for a SINT are delivered in the order in which they were queued; an interrupt that is
//! asserted for a VP becomes pending there once, however often it was asserted before.

use std::collections::{HashMap, VecDeque};

use hv_tlfs::synic::MessageType;
use hv_wire::{TraceKind, TraceRecord};

use super::words;

/// The flows that a record has to do with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    /// They begin at this record, or go through it.
    pub(super) through: Vec<u64>,
    /// They end at it.
    pub(super) end: Vec<u64>,
    /// Those that begin with the exit in which the record is.
    pub(super) new: Vec<u64>,
}

/// All flows of a trace.
#[derive(Debug, Default)]
pub(super) struct Flows {
    last: u64,
    /// By VP and SINT: messages in the queue.
    queued: HashMap<(u64, u64), VecDeque<u64>>,
    /// By VP and timer: armed.
    timers: HashMap<(u64, u64), u64>,
    /// By VP and INTID: asserted, and not pending yet.
    asserted: HashMap<(u64, u64), u64>,
    /// By VP: asked to start.
    starting: HashMap<u64, u64>,
    /// By VP on which it happened: what may be followed by an interrupt at once.
    effects: HashMap<u32, (Effect, u64)>,
}

/// What asserts an interrupt, as an interrupt record tells it: VP, cause, SINT or timer.
type Effect = (u64, u64, u64);
const MESSAGE: u64 = 0;
const EVENT: u64 = 1;
const TIMER: u64 = 2;

/// INTIDs from here on belong to no VP: the one that gets it is the one that has it.
const FIRST_SHARED: u64 = 32;
const NO_VP: u64 = u64::MAX;

fn target(vp: u64, intid: u64) -> (u64, u64) {
    (if intid < FIRST_SHARED { vp } else { NO_VP }, intid)
}

impl Flows {
    fn new_flow(&mut self, ends: &mut Ends) -> u64 {
        self.last += 1;
        ends.new.push(self.last);
        self.last
    }

    /// Takes the next record.
    pub(super) fn feed(&mut self, record: &TraceRecord) -> Ends {
        let mut ends = Ends::default();
        let [first, second, third, fourth, fifth, _] = record.values;
        let vp = u64::from(record.vp);
        match TraceKind::from_raw(record.kind) {
            Some(TraceKind::MessageQueued) => {
                let flow = self.new_flow(&mut ends);
                self.queued.entry((first, second)).or_default().push_back(flow);
                ends.through.push(flow);
            }
            Some(TraceKind::MessageDropped) => {
                let place = usize::try_from(third).unwrap_or(usize::MAX);
                let waits = self.queued.get_mut(&(first, second));
                ends.end.extend(waits.and_then(|waits| waits.remove(place)));
            }
            Some(TraceKind::MessageDelivered) => {
                let sint = second & 0xff;
                let waited = self.queued.get_mut(&(first, sint)).and_then(VecDeque::pop_front);
                let is_timer = third == u64::from(MessageType::TIMER_EXPIRED.0);
                // The number of the timer comes first in its message.
                let timer = (first, fifth & u64::from(u32::MAX));
                let armed = || is_timer.then(|| self.timers.remove(&timer)).flatten();
                let flow = waited.or_else(armed).unwrap_or_else(|| self.new_flow(&mut ends));
                self.effects.insert(record.vp, ((first, MESSAGE, sint), flow));
                ends.through.push(flow);
            }
            Some(TraceKind::EventFlag) if fourth == 0 => {
                let flow = self.new_flow(&mut ends);
                self.effects.insert(record.vp, ((first, EVENT, second), flow));
                ends.through.push(flow);
            }
            // Armed.
            Some(TraceKind::Timer) if second == 0 => {
                let flow = self.new_flow(&mut ends);
                self.timers.insert((vp, first), flow);
                ends.through.push(flow);
            }
            Some(TraceKind::Interrupt) => {
                let cause = (first, third, fourth);
                let effect = self.effects.remove(&record.vp).filter(|(effect, _)| *effect == cause);
                let timer = (third == TIMER).then(|| self.timers.remove(&(first, fourth))).flatten();
                let flow = effect.map(|(_, flow)| flow).or(timer);
                let flow = flow.unwrap_or_else(|| self.new_flow(&mut ends));
                self.asserted.entry(target(first, second)).or_insert(flow);
                ends.through.push(flow);
            }
            Some(TraceKind::Forwarded) => {
                let flow = self.new_flow(&mut ends);
                self.asserted.entry(target(vp, first)).or_insert(flow);
                ends.through.push(flow);
            }
            Some(TraceKind::SystemRegister) if words::generates_sgi(first) => {
                for target in sgi_targets(vp, second) {
                    let flow = self.new_flow(&mut ends);
                    self.asserted.entry((target, second >> 24 & 0xf)).or_insert(flow);
                    ends.through.push(flow);
                }
            }
            Some(TraceKind::Injected) => ends.end.extend(self.asserted.remove(&target(vp, first))),
            Some(TraceKind::VpStarting) => {
                let flow = self.new_flow(&mut ends);
                self.starting.insert(first, flow);
                ends.through.push(flow);
            }
            Some(TraceKind::VpOnline) => ends.end.extend(self.starting.remove(&vp)),
            Some(TraceKind::VpOffline) => self.forget(vp),
            Some(TraceKind::Reset | TraceKind::Restored) => {
                *self = Self { last: self.last, ..Self::default() }
            }
            Some(TraceKind::Exit | TraceKind::Enter) => {
                self.effects.remove(&record.vp);
            }
            _ => {}
        }
        ends
    }

    /// What waits for a VP is dropped when it goes off.
    fn forget(&mut self, vp: u64) {
        self.queued.retain(|(target, _), _| *target != vp);
        self.timers.retain(|(target, _), _| *target != vp);
        self.asserted.retain(|(target, _), _| *target != vp);
    }
}

/// The VPs that an SGI goes to. VP n has affinity 0.0.(n / 16).(n % 16).
///
/// Source: Arm IHI 0069, "ICC_SGI1R_EL1".
fn sgi_targets(sender: u64, value: u64) -> Vec<u64> {
    let others = hv_wire::platform::MAX_VPS as u64;
    if value >> 40 & 1 != 0 {
        return (0..others).filter(|vp| *vp != sender).collect();
    }
    let cluster = value >> 16 & 0xff;
    (0..16).filter(|bit| value >> bit & 1 != 0).map(|bit| cluster * 16 + bit).collect()
}

#[cfg(test)]
mod tests {
    use hv_wire::Trap;

    use super::*;
    use crate::trace::samples::*;

    fn delivered(vp: u32, time: u64, to: u64, sint: u64) -> TraceRecord {
        record(vp, time, TraceKind::MessageDelivered, [to, sint, 1, 0, 0, 0])
    }

    fn interrupt(vp: u32, time: u64, to: u64, cause: u64, which: u64) -> TraceRecord {
        record(vp, time, TraceKind::Interrupt, [to, 18, cause, which, 0, 0])
    }

    fn injected(vp: u32, time: u64) -> TraceRecord {
        record(vp, time, TraceKind::Injected, [18, 0, 0, 0, 0, 0])
    }

    #[test]
    fn a_message_leads_to_its_interrupt_on_the_other_vp() {
        let mut flows = Flows::default();
        flows.feed(&exit(0, 1, Trap::Hvc));
        let delivery = flows.feed(&delivered(0, 2, 1, 2));
        assert_eq!(delivery, Ends { through: vec![1], new: vec![1], end: vec![] });
        let assertion = flows.feed(&interrupt(0, 3, 1, MESSAGE, 2));
        assert_eq!(assertion, Ends { through: vec![1], ..Ends::default() });
        assert_eq!(flows.feed(&injected(0, 4)), Ends::default());
        assert_eq!(flows.feed(&injected(1, 5)), Ends { end: vec![1], ..Ends::default() });
        assert_eq!(flows.feed(&injected(1, 6)), Ends::default());
    }

    #[test]
    fn queued_messages_are_delivered_in_their_order() {
        let mut flows = Flows::default();
        let queued = |time| record(0, time, TraceKind::MessageQueued, [1, 2, 0, 0, 0, 0]);
        assert_eq!(flows.feed(&queued(1)).new, [1]);
        assert_eq!(flows.feed(&queued(2)).new, [2]);
        assert_eq!(flows.feed(&delivered(1, 3, 1, 2 | 1 << 8)), Ends { through: vec![1], ..Ends::default() });
        assert_eq!(flows.feed(&delivered(1, 4, 1, 2)), Ends { through: vec![2], ..Ends::default() });
        assert_eq!(flows.feed(&delivered(1, 5, 1, 2)).new, [3]);
    }

    #[test]
    fn a_dropped_message_leaves_those_around_it_their_arrows() {
        let mut flows = Flows::default();
        for time in 1..4 {
            flows.feed(&record(0, time, TraceKind::MessageQueued, [1, 2, 0, 0, 0, 0]));
        }
        let dropped = |place| record(1, 4, TraceKind::MessageDropped, [1, 2, place, 0, 0, 0]);
        assert_eq!(flows.feed(&dropped(1)), Ends { end: vec![2], ..Ends::default() });
        assert_eq!(flows.feed(&dropped(9)), Ends::default());
        assert_eq!(flows.feed(&delivered(1, 5, 1, 2)).through, [1]);
        assert_eq!(flows.feed(&delivered(1, 6, 1, 2)).through, [3]);
    }

    #[test]
    fn a_timer_leads_to_its_message() {
        let mut flows = Flows::default();
        flows.feed(&record(0, 1, TraceKind::Timer, [3, 0, 1000, 0, 0, 0]));
        let expired = u64::from(MessageType::TIMER_EXPIRED.0);
        let message = record(0, 9, TraceKind::MessageDelivered, [0, 2, expired, 24, 3, 0]);
        assert_eq!(flows.feed(&message), Ends { through: vec![1], ..Ends::default() });
    }

    #[test]
    fn an_interrupt_asserted_twice_becomes_pending_once() {
        let mut flows = Flows::default();
        flows.feed(&interrupt(0, 1, 1, 3, 0));
        flows.feed(&interrupt(0, 2, 1, 3, 0));
        assert_eq!(flows.feed(&injected(1, 3)).end, [1]);
        assert!(flows.feed(&injected(1, 4)).end.is_empty());
    }

    #[test]
    fn an_interrupt_takes_no_other_ones_flow() {
        let mut flows = Flows::default();
        flows.feed(&record(0, 1, TraceKind::EventFlag, [1, 5, 0, 0, 0, 0]));
        assert_eq!(flows.feed(&interrupt(0, 2, 1, MESSAGE, 2)).new, [2]);
        flows.feed(&record(0, 3, TraceKind::EventFlag, [1, 5, 0, 0, 0, 0]));
        flows.feed(&enter(0, 4));
        assert_eq!(flows.feed(&interrupt(0, 5, 1, EVENT, 5)).new, [4]);
    }

    #[test]
    fn an_sgi_goes_to_all_that_it_names() {
        assert_eq!(sgi_targets(0, 3 << 24 | 0b1010), [1, 3]);
        assert_eq!(sgi_targets(2, 1 << 40).len(), 7);
        let mut flows = Flows::default();
        let sgi = record(0, 1, TraceKind::SystemRegister, [0x3a_3016, 3 << 24 | 0b1010, 0, 0, 0, 0]);
        assert_eq!(flows.feed(&sgi).new, [1, 2]);
        let pending = record(3, 2, TraceKind::Injected, [3, 0, 0, 0, 0, 0]);
        assert_eq!(flows.feed(&pending).end, [2]);
    }

    #[test]
    fn nothing_waits_for_a_vp_that_went_off() {
        let mut flows = Flows::default();
        flows.feed(&interrupt(0, 1, 1, 3, 0));
        flows.feed(&record(1, 2, TraceKind::VpOffline, [0; 6]));
        assert_eq!(flows.feed(&injected(1, 3)), Ends::default());
    }
}
