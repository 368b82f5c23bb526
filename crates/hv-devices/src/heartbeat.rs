//! The heartbeat service: the host sends a number, the guest adds 1 and returns it.

use crate::ic::{self, FRAMEWORKS, Heard, Link, Service, State};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::ic::{Heartbeat as Beat, MessageType, Status, Version};
use hv_tlfs::vmbus::{ChannelOffer, Guid, PipeMode, guid};
use hv_vmbus::{Backend, Channel, Device, Io, Never, Opening, Packet, Refusal, Taken, offer, pipe};
use zerocopy::IntoBytes;

/// The service as Hyper-V offers it.
pub const OFFER: ChannelOffer = pipe(
    offer(
        guid::HEARTBEAT,
        Guid::new(0xfd14_9e91, 0x82e0, 0x4a7d, [0xaf, 0xa6, 0x2a, 0x41, 0x66, 0xcb, 0xd7, 0xc0]),
    ),
    PipeMode::MESSAGE,
);

/// Note for the observer: the guest has answered a beat, with this number.
pub const ANSWERED: u32 = 1;

/// Time between two beats in Hyper-V, in 100 ns.
pub const INTERVAL: u64 = 20_000_000;

/// The service, to the common part.
#[derive(Clone, Copy, Debug)]
enum Kind {}

impl ic::Kind for Kind {
    const SERVICE: Service = Service {
        kind: MessageType::HEARTBEAT,
        frameworks: FRAMEWORKS,
        versions: &[Version { major: 3, minor: 0 }, Version { major: 1, minor: 0 }],
    };
}

/// The host side of the service.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    link: Link<Kind>,
    /// Reference time of the next beat.
    next: u64,
    /// Time between two beats, in 100 ns.
    interval: u64,
    /// Number of the next beat. The guest answers with this number plus 1, and the host continues from there.
    sequence: u64,
}

impl Heartbeat {
    /// Creates a service with a beat every two seconds, as in Hyper-V.
    #[must_use]
    pub const fn new() -> Self {
        Self::every(INTERVAL)
    }

    /// Creates a service with this interval between beats, in 100 ns.
    #[must_use]
    pub const fn every(interval: u64) -> Self {
        Self { link: Link::new(), next: 0, interval, sequence: 0 }
    }

    /// Returns the state of the guest's driver.
    #[must_use]
    pub const fn state(&self) -> State {
        self.link.state()
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

impl Device for Heartbeat {
    type Request = Never;

    const NAME: [u8; 4] = *b"beat";

    fn opened<P: Backend<Never>>(
        &mut self,
        _: Channel,
        _: &Opening<'_>,
        _: &mut Io<'_, P, Never>,
    ) -> Result<(), Refusal> {
        self.link.opened();
        (self.sequence, self.next) = (0, 0);
        Ok(())
    }

    fn packet<P: Backend<Never>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) -> Taken {
        match self.link.hear(packet, io) {
            Some(Heard::Versions) => self.next = io.now(),
            Some(Heard::Response(header)) => {
                let answer: Option<u64> = packet.take();
                if let Some(answer) = answer.filter(|answer| *answer == self.sequence.wrapping_add(1))
                    && header.status == Status::SUCCESS
                {
                    self.sequence = answer;
                    io.observe(Channel::PRIMARY, ANSWERED, answer);
                }
            }
            None => {}
        }
        Taken::Done
    }

    fn deadline(&self) -> Option<u64> {
        match self.link.state() {
            State::Ready { .. } => Some(self.next),
            _ => self.link.deadline(),
        }
    }

    fn tick<P: Backend<Never>>(&mut self, io: &mut Io<'_, P, Never>) {
        self.link.tick(io);
        if matches!(self.link.state(), State::Ready { .. }) && io.now() >= self.next {
            // A guest whose ring is full misses it.
            let _ = self.link.tell(io, &[Beat { sequence: self.sequence, reserved: [0; 8] }.as_bytes()]);
            self.next = io.now().saturating_add(self.interval.max(1));
        }
    }

    fn closed<P: Backend<Never>>(&mut self, _: Channel, io: &mut Io<'_, P, Never>) {
        self.link.closed(io);
    }

    fn reset(&mut self) {
        *self = Self::every(self.interval);
    }

    fn save(&self, w: &mut Writer<'_>) {
        self.link.save(w);
        for word in [self.next, self.interval, self.sequence] {
            w.u64(word);
        }
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        self.link.restore(r)?;
        for word in [&mut self.next, &mut self.interval, &mut self.sequence] {
            *word = r.u64()?;
        }
        Ok(())
    }
}
