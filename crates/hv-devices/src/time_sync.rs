//! Time synchronization: the host sends the guest its time, with the partition's reference time at that moment.
//!
//! After version negotiation, one message sets the guest's clock; then a sample follows every five seconds, which an
//! NTP daemon in the guest may use. Each waits for its answer.

use crate::ic::{self, Heard, Ic, Link, Refused, Service, State};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::time::{FileTime, ReferenceTime};
use hv_tlfs::vmbus::ic::{
    MessageType, TIME_SYNC_SAMPLE, TIME_SYNC_SYNC, TimeSync as Old, TimeSyncRef, Version,
};
use hv_tlfs::vmbus::{ChannelOffer, Guid, guid};
use hv_vmbus::{Backend, BusPort, Io, Never, Packet};
use zerocopy::{FromZeros, IntoBytes};

/// The service as Hyper-V offers it.
pub const OFFER: ChannelOffer = ic::offer(
    guid::TIME_SYNC,
    Guid::new(0x2dd1_ce17, 0x079e, 0x403c, [0xb3, 0x52, 0xa1, 0x92, 0x1e, 0xe2, 0x07, 0xee]),
);

/// Time between two samples.
const INTERVAL: ReferenceTime = ReferenceTime(50_000_000);

/// The host side of the service.
pub type TimeSync = Ic<Clock>;

/// What is the service's own.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The host's time at reference time 0.
    origin: FileTime,
    /// Reference time of the next message.
    next: ReferenceTime,
    /// The guest's clock was set: the next message is a sample.
    synced: bool,
}

impl TimeSync {
    /// Creates the service of a host whose time was `origin` at reference time 0.
    #[must_use]
    pub const fn new(origin: FileTime) -> Self {
        Self::with(Clock { origin, next: ReferenceTime::ZERO, synced: false })
    }

    /// Sets the host's time at reference time 0.
    pub const fn set_origin(&mut self, origin: FileTime) {
        self.own.origin = origin;
    }

    /// Returns the host's time at reference time 0.
    #[must_use]
    pub const fn origin(&self) -> FileTime {
        self.own.origin
    }

    /// Sets the guest's clock with the next message, which is sent immediately if none is pending.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn sync<P: BusPort>(&mut self, io: &Io<'_, P, Never>) -> Result<(), Refused> {
        match self.link.state() {
            State::Closed => return Err(Refused::Closed),
            State::Start | State::Negotiating => return Err(Refused::Negotiating),
            State::Incompatible => return Err(Refused::Incompatible),
            State::Ready { .. } => {}
        }
        self.own.synced = false;
        self.own.next = io.now();
        Ok(())
    }
}

impl Clock {
    fn send<P: BusPort>(&mut self, link: &mut Link<Self>, io: &mut Io<'_, P, Never>) {
        let now = io.now();
        let host = self.origin.wrapping_add(now);
        let flag = if self.synced { TIME_SYNC_SAMPLE } else { TIME_SYNC_SYNC };
        let sent = if link.version().is_some_and(|version| version.major >= 4) {
            let mut body = TimeSyncRef::new_zeroed();
            body.parent_time = host.0.into();
            body.reference_time = now.ticks().into();
            body.flags = flag;
            link.ask(io, &[body.as_bytes()])
        } else {
            let mut body = Old::new_zeroed();
            body.parent_time = host.0.into();
            body.flags = flag;
            link.ask(io, &[body.as_bytes()])
        };
        self.synced |= sent.is_ok();
        self.next = now.saturating_add(INTERVAL);
    }
}

impl Service for Clock {
    const NAME: [u8; 4] = *b"time";
    const KIND: MessageType = MessageType::TIME_SYNC;
    const VERSIONS: &'static [Version] =
        &[Version { major: 4, minor: 0 }, Version { major: 3, minor: 0 }, Version { major: 1, minor: 0 }];

    fn opened(&mut self) {
        (self.synced, self.next) = (false, ReferenceTime::ZERO);
    }

    fn heard<P: Backend<Never>>(
        &mut self,
        link: &mut Link<Self>,
        heard: Heard,
        _: &mut Packet<'_, P::Memory>,
        _: &mut Io<'_, P, Never>,
    ) {
        if let Heard::Response(_) = heard {
            // The service itself asked for it.
            link.answered();
        }
    }

    fn deadline(&self, link: &Link<Self>) -> Option<ReferenceTime> {
        (!link.is_waiting()).then_some(self.next)
    }

    fn tick<P: Backend<Never>>(&mut self, link: &mut Link<Self>, io: &mut Io<'_, P, Never>) {
        self.send(link, io);
    }

    fn closing(&mut self, link: &mut Link<Self>) {
        link.answered();
    }

    fn reset(&mut self) {
        (self.synced, self.next) = (false, ReferenceTime::ZERO);
    }

    fn save(&self, w: &mut Writer<'_>) {
        w.u64(self.origin.0);
        w.u64(self.next.ticks());
        w.flag(self.synced);
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        (self.origin, self.next) = (FileTime(r.u64()?), ReferenceTime(r.u64()?));
        self.synced = r.flag("state of time synchronization")?;
        Ok(())
    }
}
