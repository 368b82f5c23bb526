//! Time synchronization: the host sends the guest its time, with the partition's reference time at that moment.
//!
//! After version negotiation, one message sets the guest's clock; then a sample follows every five seconds, which an
//! NTP daemon in the guest may use. Each waits for its answer.

use crate::ic::{self, FRAMEWORKS, Heard, Link, Refused, Service, State};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::ic::{
    MessageType, TIME_SYNC_SAMPLE, TIME_SYNC_SYNC, TimeSync as Old, TimeSyncRef, Version,
};
use hv_tlfs::vmbus::{ChannelOffer, Guid, PipeMode, guid};
use hv_vmbus::{Backend, BusPort, Channel, Device, Io, Never, Opening, Packet, Refusal, Taken, offer, pipe};
use zerocopy::{FromZeros, IntoBytes};

/// The service as Hyper-V offers it.
pub const OFFER: ChannelOffer = pipe(
    offer(
        guid::TIME_SYNC,
        Guid::new(0x2dd1_ce17, 0x079e, 0x403c, [0xb3, 0x52, 0xa1, 0x92, 0x1e, 0xe2, 0x07, 0xee]),
    ),
    PipeMode::MESSAGE,
);

/// The host's time at 1970-01-01 00:00: 100 ns since the year 1601.
pub const EPOCH_1970: u64 = 116_444_736_000_000_000;

/// Time between two samples, in 100 ns.
const INTERVAL: u64 = 50_000_000;

/// The service, to the common part.
#[derive(Clone, Copy, Debug)]
enum Kind {}

impl ic::Kind for Kind {
    const SERVICE: Service = Service {
        kind: MessageType::TIME_SYNC,
        frameworks: FRAMEWORKS,
        versions: &[
            Version { major: 4, minor: 0 },
            Version { major: 3, minor: 0 },
            Version { major: 1, minor: 0 },
        ],
    };
}

/// The host side of the service.
#[derive(Clone, Copy, Debug)]
pub struct TimeSync {
    link: Link<Kind>,
    /// The host's time at reference time 0: 100 ns since the year 1601.
    origin: u64,
    /// Reference time of the next message.
    next: u64,
    /// The guest's clock was set: the next message is a sample.
    synced: bool,
}

impl TimeSync {
    /// Creates the service of a host whose time was `origin` at reference time 0, in 100 ns since the year 1601.
    #[must_use]
    pub const fn new(origin: u64) -> Self {
        Self { link: Link::new(), origin, next: 0, synced: false }
    }

    /// Returns the state of the guest's driver.
    #[must_use]
    pub const fn state(&self) -> State {
        self.link.state()
    }

    /// Sets the host's time at reference time 0.
    pub const fn set_origin(&mut self, origin: u64) {
        self.origin = origin;
    }

    /// Returns the host's time at reference time 0.
    #[must_use]
    pub const fn origin(&self) -> u64 {
        self.origin
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
        self.synced = false;
        self.next = io.now();
        Ok(())
    }

    fn send<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>) {
        let now = io.now();
        let host = self.origin.wrapping_add(now);
        let flag = if self.synced { TIME_SYNC_SAMPLE } else { TIME_SYNC_SYNC };
        let sent = if self.link.version().is_some_and(|version| version.major >= 4) {
            let mut body = TimeSyncRef::new_zeroed();
            body.parent_time = host.into();
            body.reference_time = now.into();
            body.flags = flag;
            self.link.ask(io, &[body.as_bytes()])
        } else {
            let mut body = Old::new_zeroed();
            body.parent_time = host.into();
            body.flags = flag;
            self.link.ask(io, &[body.as_bytes()])
        };
        self.synced |= sent.is_ok();
        self.next = now.saturating_add(INTERVAL);
    }
}

impl Device for TimeSync {
    type Request = Never;

    const NAME: [u8; 4] = *b"time";

    fn opened<P: Backend<Never>>(
        &mut self,
        _: Channel,
        _: &Opening<'_>,
        _: &mut Io<'_, P, Never>,
    ) -> Result<(), Refusal> {
        self.link.opened();
        (self.synced, self.next) = (false, 0);
        Ok(())
    }

    fn packet<P: Backend<Never>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) -> Taken {
        if let Some(Heard::Response(_)) = self.link.hear(packet, io) {
            // The service itself asked for it.
            self.link.answered();
        }
        Taken::Done
    }

    fn deadline(&self) -> Option<u64> {
        match self.link.state() {
            State::Ready { .. } if !self.link.is_waiting() => Some(self.next),
            _ => self.link.deadline(),
        }
    }

    fn tick<P: Backend<Never>>(&mut self, io: &mut Io<'_, P, Never>) {
        self.link.tick(io);
        if self.deadline().is_some_and(|deadline| deadline <= io.now()) {
            self.send(io);
        }
    }

    fn closed<P: Backend<Never>>(&mut self, _: Channel, io: &mut Io<'_, P, Never>) {
        self.link.answered();
        self.link.closed(io);
    }

    fn reset(&mut self) {
        *self = Self::new(self.origin);
    }

    fn save(&self, w: &mut Writer<'_>) {
        self.link.save(w);
        w.u64(self.origin);
        w.u64(self.next);
        w.flag(self.synced);
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        self.link.restore(r)?;
        (self.origin, self.next) = (r.u64()?, r.u64()?);
        self.synced = r.flag("state of time synchronisation")?;
        Ok(())
    }
}
