//! The deadline of a VP's timers, passed on to the host.

use lock_api::RawMutex;

use crate::host::Host;
use crate::partition::Partition;
use crate::synic::{Context, Synic};

impl<R: RawMutex> Partition<'_, R> {
    /// Calls [`Host::set_deadline`] for a VP again with the deadline of its timers: for a host that combines it with
    /// deadlines of its own, one of which has changed.
    pub fn renew_deadline(&self, host: &impl Host, vp: usize) {
        if let Some(state) = self.vps().get(vp) {
            state.synic().renew_deadline(&self.context(host, vp));
        }
    }
}

impl Synic {
    /// Sets the current deadline again.
    #[inline(never)]
    pub(crate) fn renew_deadline<H: Host>(&self, context: &Context<'_, H>) {
        context.host.set_deadline(context.vp, context.time.counter_at(self.timers.deadline));
    }
}
