//! Event flags.
//!
//! Source: TLFS, "Inter-Partition Communication", "SynIC Event Flags".

use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::{EVENT_FLAGS_COUNT, SINT_COUNT};
use lock_api::RawMutex;

use crate::event::{Cause, Event};
use crate::host::Host;
use crate::partition::Partition;
use crate::synic::{Context, SLOT, Synic};

impl<R: RawMutex> Partition<'_, R> {
    /// Sets an event flag of a VP, from the host. Returns true if it was clear, so that an interrupt was raised.
    ///
    /// # Errors
    /// [`HvStatus::INVALID_VP_INDEX`], [`HvStatus::INVALID_SYNIC_STATE`] if the target's SynIC, event flags page or
    /// SINT is off, [`HvStatus::INVALID_PARAMETER`] for an invalid SINT or flag.
    pub fn signal_event(&self, host: &impl Host, vp: usize, sint: u8, flag: u16) -> Result<bool, HvStatus> {
        let target = self.vps().get(vp).ok_or(HvStatus::INVALID_VP_INDEX)?;
        target.synic().signal(&self.context(host, vp), sint, flag)
    }
}

impl Synic {
    /// Sets an event flag, and raises the SINT's interrupt if it was clear. Returns true if it was clear.
    pub(crate) fn signal<H: Host>(
        &mut self,
        context: &Context<'_, H>,
        sint: u8,
        flag: u16,
    ) -> Result<bool, HvStatus> {
        let index = usize::from(sint);
        if index >= SINT_COUNT || usize::from(flag) >= EVENT_FLAGS_COUNT {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        if !self.control.enable() || !self.event_page.enabled() || self.sints[index].masked() {
            return Err(HvStatus::INVALID_SYNIC_STATE);
        }
        let word = index as u64 * SLOT + u64::from(flag / 32) * 4;
        let bit = 1 << (flag % 32);
        let Ok(before) = self.event_page.fetch_or(context.host.memory(), word, bit) else {
            return Err(HvStatus::INVALID_SYNIC_STATE);
        };
        let was_set = before & bit != 0;
        context.host.observe(&Event::EventFlag { vp: context.vp, sint, flag, was_set });
        if !was_set {
            self.raise(context, index, Cause::Event(sint));
        }
        Ok(!was_set)
    }
}
