//! The removal of a card on request, while its guest may be in the middle of traffic.
//!
//! A guest must neither send nor complete anything once it has learned that its channel is rescinded, and its memory is
//! its own again. So a driver that counts what is under way would wait forever: Linux' does, with `rtnl_lock` held,
//! for each packet that it has sent and for each section that it has yet to give back (6.12, rndis_filter.c,
//! `rndis_filter_halt_device`). The link goes down first, and the channel when nothing is under way.

use super::{Network, Request, Rndis};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::time::ReferenceTime;
use hv_vmbus::{Backend, Channel, Io};

/// Time without a packet from the guest after which it is taken to have stopped sending: longer than what TCP waits
/// before it sends again (Linux, `TCP_RTO_MIN`).
const STOPPED: ReferenceTime = ReferenceTime::from_nanos(250_000_000);
/// Time that the guest has, again and again, to give back what it received.
const QUIET: ReferenceTime = ReferenceTime::from_nanos(20_000_000);
/// Time after which the card is rescinded whatever the guest does. Linux takes a change of the link 2 s after the one
/// before, and later if the network's lock is taken then (netvsc_drv.c, `netvsc_link_change`).
const PATIENCE: ReferenceTime = ReferenceTime::from_nanos(10_000_000_000);

/// A removal. All zeros: there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leaving {
    /// When the card is rescinded at the latest.
    until: ReferenceTime,
    /// When the guest is looked at next.
    next: ReferenceTime,
    /// The guest has sent something since the last look.
    pub(super) busy: bool,
    /// It has stopped sending, and gets no more frames. Before that it does: a sender whose frames are not acknowledged
    /// pauses, and continues.
    stopped: bool,
}

impl Leaving {
    pub(super) const NONE: Self =
        Self { until: ReferenceTime::ZERO, next: ReferenceTime::ZERO, busy: false, stopped: false };

    pub(super) fn is_under_way(&self) -> bool {
        self.until != ReferenceTime::ZERO
    }

    /// Returns true if the guest gets no more frames.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped
    }

    pub(super) fn deadline(&self) -> Option<ReferenceTime> {
        self.is_under_way().then_some(self.next)
    }

    pub(super) fn save(&self, w: &mut Writer<'_>) {
        w.u64(self.until.0);
        w.u64(self.next.0);
        w.flag(self.busy);
        w.flag(self.stopped);
    }

    pub(super) fn load(r: &mut Reader<'_>) -> Result<Self, RestoreError> {
        Ok(Self {
            until: ReferenceTime(r.u64()?),
            next: ReferenceTime(r.u64()?),
            busy: r.flag("network card")?,
            stopped: r.flag("network card")?,
        })
    }
}

impl Network {
    /// Removes the card. A guest that uses it is told that the link is down. Once it has sent nothing for 250 ms it
    /// gets no more frames, and the channel is rescinded when it has given back all that it received, and nothing of
    /// its own is under way; after 10 s in any case. Returns false for a card that is gone.
    pub fn leave<P: Backend<Request>>(&mut self, io: &mut Io<'_, P, Request>) -> bool {
        if !io.is_offered(Channel::PRIMARY) {
            return false;
        }
        if self.leaving.is_under_way() {
            return true;
        }
        if self.rndis != Rndis::Initialized {
            io.rescind(Channel::PRIMARY);
            return true;
        }
        let now = io.now();
        let (until, next) = (now.saturating_add(PATIENCE), now.saturating_add(STOPPED));
        self.leaving = Leaving { until, next, busy: true, stopped: false };
        self.announce |= !self.down;
        self.attend(io);
        true
    }

    /// Looks whether the guest has come to rest, and rescinds the channel.
    pub(super) fn look<P: Backend<Request>>(&mut self, io: &mut Io<'_, P, Request>) {
        let now = io.now();
        if self.leaving.deadline().is_none_or(|next| now < next) {
            return;
        }
        let quiet = !core::mem::take(&mut self.leaving.busy);
        let rests = self.leaving.stopped && quiet && self.receive.is_home() && io.is_idle();
        if rests || now >= self.leaving.until {
            self.leaving = Leaving::NONE;
            io.rescind(Channel::PRIMARY);
            return;
        }
        self.leaving.stopped |= quiet && !self.announce;
        let pause = if self.leaving.stopped { QUIET } else { STOPPED };
        self.leaving.next = now.saturating_add(pause);
        self.wake(io);
    }
}
