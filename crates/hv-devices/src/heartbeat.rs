//! The heartbeat service: the host sends a number, the guest adds 1 and returns it.

use crate::ic::{self, Heard, Ic, Link, Service};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::ic::{Heartbeat as Beat, MessageType, Status, Version};
use hv_tlfs::vmbus::{ChannelOffer, Guid, guid};
use hv_vmbus::{Backend, Channel, Io, Never, Packet};
use zerocopy::IntoBytes;

/// The service as Hyper-V offers it.
pub const OFFER: ChannelOffer = ic::offer(
    guid::HEARTBEAT,
    Guid::new(0xfd14_9e91, 0x82e0, 0x4a7d, [0xaf, 0xa6, 0x2a, 0x41, 0x66, 0xcb, 0xd7, 0xc0]),
);

/// Note for the observer: the guest has answered a beat, with this number.
pub const ANSWERED: u32 = 1;

/// Time between two beats in Hyper-V.
pub const INTERVAL: ReferenceTime = ReferenceTime(20_000_000);

/// The host side of the service.
pub type Heartbeat = Ic<Beats>;

/// What is the heartbeat's own.
#[derive(Clone, Copy, Debug)]
pub struct Beats {
    /// Reference time of the next beat.
    next: ReferenceTime,
    /// Time between two beats.
    interval: ReferenceTime,
    /// Number of the next beat. The guest answers with this number plus 1, and the host continues from there.
    sequence: u64,
}

impl Heartbeat {
    /// Creates a service with a beat every two seconds, as in Hyper-V.
    #[must_use]
    pub const fn new() -> Self {
        Self::every(INTERVAL)
    }

    /// Creates a service with this interval between beats.
    #[must_use]
    pub const fn every(interval: ReferenceTime) -> Self {
        Self::with(Beats { next: ReferenceTime::ZERO, interval, sequence: 0 })
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

impl Service for Beats {
    const NAME: [u8; 4] = *b"beat";
    const KIND: MessageType = MessageType::HEARTBEAT;
    const VERSIONS: &'static [Version] = &[Version { major: 3, minor: 0 }, Version { major: 1, minor: 0 }];

    fn opened(&mut self) {
        (self.sequence, self.next) = (0, ReferenceTime::ZERO);
    }

    fn heard<P: Backend<Never>>(
        &mut self,
        _: &mut Link<Self>,
        heard: Heard,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) {
        match heard {
            Heard::Versions => self.next = io.now(),
            Heard::Response(header) => {
                let answer: Option<u64> = packet.take();
                if let Some(answer) = answer.filter(|answer| *answer == self.sequence.wrapping_add(1))
                    && header.status == Status::SUCCESS
                {
                    self.sequence = answer;
                    io.observe(Channel::PRIMARY, ANSWERED, answer);
                }
            }
        }
    }

    fn deadline(&self, _: &Link<Self>) -> Option<ReferenceTime> {
        Some(self.next)
    }

    fn tick<P: Backend<Never>>(&mut self, link: &mut Link<Self>, io: &mut Io<'_, P, Never>) {
        // A guest whose ring is full misses it.
        let _ = link.tell(io, &[Beat { sequence: self.sequence, reserved: [0; 8] }.as_bytes()]);
        self.next = io.now().saturating_add(self.interval.max(ReferenceTime(1)));
    }

    fn reset(&mut self) {
        (self.sequence, self.next) = (0, ReferenceTime::ZERO);
    }

    fn save(&self, w: &mut Writer<'_>) {
        for word in [self.next.ticks(), self.interval.ticks(), self.sequence] {
            w.u64(word);
        }
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        (self.next, self.interval) = (ReferenceTime(r.u64()?), ReferenceTime(r.u64()?));
        self.sequence = r.u64()?;
        Ok(())
    }
}
