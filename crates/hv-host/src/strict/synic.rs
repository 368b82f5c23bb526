//! Rules on the handling of messages.

use super::{Found, Judge, rules};

/// Number of messages out of a queue without an end of message after which it counts as forgotten. A few may come
/// between the guest's emptying of the slot and its end of message.
const FORGOTTEN: u32 = 16;

impl<const VPS: usize> Judge<VPS> {
    pub(super) fn queued(&mut self, vp: usize, sint: u8) {
        let Some(state) = self.vps.get_mut(vp) else { return };
        if let Some(waiting) = state.waiting.get_mut(usize::from(sint)) {
            *waiting = waiting.saturating_add(1);
            state.pending |= 1 << sint;
        }
    }

    pub(super) fn dropped(&mut self, vp: usize, sint: u8) {
        let Some(state) = self.vps.get_mut(vp) else { return };
        if let Some(waiting) = state.waiting.get_mut(usize::from(sint)) {
            *waiting = waiting.saturating_sub(1);
        }
    }

    pub(super) fn delivered(&mut self, found: &mut Found<'_>, vp: usize, sint: u8, more: bool) {
        let Some(state) = self.vps.get_mut(vp) else { return };
        let Some(waiting) = state.waiting.get_mut(usize::from(sint)) else { return };
        let bit = 1 << sint;
        state.more = if more { state.more | bit } else { state.more & !bit };
        if *waiting != 0 {
            *waiting -= 1;
            state.unanswered = state.unanswered.saturating_add(1);
            found.add_if(state.unanswered == FORGOTTEN, &rules::EOM_MISSING, u64::from(FORGOTTEN));
        }
    }

    pub(super) fn end_of_message(&mut self, found: &mut Found<'_>, vp: usize, waiting: u16, delivered: u16) {
        let Some(state) = self.vps.get_mut(vp) else { return };
        found.add_if(waiting == 0 && state.pending == 0, &rules::EOM_NEEDLESS, 0);
        state.unanswered = 0;
        // The last delivery tells by itself whether more are queued; a queued message has set its flag.
        state.pending = (delivered & state.more) | (waiting & !delivered);
    }
}
