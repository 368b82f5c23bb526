//! The device that all services are, and what is a service's own.

use core::fmt::Debug;

use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::ic::{MessageType, Version};
use hv_vmbus::{Backend, Channel, Device, Io, Never, Opening, Packet, Refusal, Taken};

use super::{FRAMEWORKS, Heard, IGNORED, Link, State};

/// What is a service's own: its versions, its requests and answers.
pub(crate) trait Service: Copy + Debug {
    /// See [`Device::NAME`].
    const NAME: [u8; 4];
    /// Type of its messages.
    const KIND: MessageType;
    /// Versions of the framework that the host offers, newest first.
    const FRAMEWORKS: &'static [Version] = FRAMEWORKS;
    /// Versions of the service that the host offers, newest first.
    const VERSIONS: &'static [Version];
    /// See [`Device::PACKET_LIMIT`].
    const PACKET_LIMIT: u32 = 4096;
    /// See [`Device::SIGNAL_EACH`].
    const SIGNAL_EACH: bool = false;

    /// Handles the open of the channel.
    fn opened(&mut self) {}

    /// Handles a message from the guest.
    fn heard<P: Backend<Never>>(
        &mut self,
        link: &mut Link<Self>,
        heard: Heard,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    );

    /// Returns when it must run next, once a version was selected.
    fn deadline(&self, _: &Link<Self>) -> Option<ReferenceTime> {
        None
    }

    /// Does what is due.
    fn tick<P: Backend<Never>>(&mut self, _: &mut Link<Self>, _: &mut Io<'_, P, Never>) {}

    /// Handles the close of the channel, before a pending request ends with it.
    fn closing(&mut self, _: &mut Link<Self>) {}

    /// Returns to the state after creation.
    fn reset(&mut self) {}

    /// Writes its state.
    fn save(&self, _: &mut Writer<'_>) {}

    /// Restores what was written by [`save`](Self::save), or claimed to be.
    fn restore(&mut self, _: &mut Reader<'_>) -> Result<(), RestoreError> {
        Ok(())
    }
}

/// An integration service: the common part, and its own.
#[derive(Clone, Copy, Debug)]
pub struct Ic<S> {
    pub(crate) link: Link<S>,
    pub(crate) own: S,
}

impl<S> Ic<S> {
    pub(crate) const fn with(own: S) -> Self {
        Self { link: Link::new(), own }
    }

    /// Returns the state of the guest's driver.
    #[must_use]
    pub const fn state(&self) -> State {
        self.link.state()
    }
}

impl<S: Service> Device for Ic<S> {
    type Request = Never;

    const NAME: [u8; 4] = S::NAME;
    const PACKET_LIMIT: u32 = S::PACKET_LIMIT;
    const SIGNAL_EACH: bool = S::SIGNAL_EACH;

    fn opened<P: Backend<Never>>(
        &mut self,
        _: Channel,
        _: &Opening<'_>,
        _: &mut Io<'_, P, Never>,
    ) -> Result<(), Refusal> {
        self.own.opened();
        Ok(())
    }

    /// Begins only now: a request of the embedder may find the device before the guest knows that the channel is open,
    /// and then nothing can be sent.
    fn live<P: Backend<Never>>(&mut self, _: Channel, _: &mut Io<'_, P, Never>) {
        self.link.begin();
    }

    fn packet<P: Backend<Never>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) -> Taken {
        let len = packet.left();
        match self.link.hear(packet, io) {
            Some(heard) => self.own.heard(&mut self.link, heard, packet, io),
            None => io.observe(Channel::PRIMARY, IGNORED, len as u64),
        }
        Taken::Done
    }

    fn deadline(&self) -> Option<ReferenceTime> {
        match self.link.state() {
            State::Ready { .. } => self.own.deadline(&self.link),
            _ => self.link.deadline(),
        }
    }

    fn tick<P: Backend<Never>>(&mut self, io: &mut Io<'_, P, Never>) {
        self.link.tick(io);
        if self.deadline().is_some_and(|deadline| deadline <= io.now()) {
            self.own.tick(&mut self.link, io);
        }
    }

    fn closed<P: Backend<Never>>(&mut self, _: Channel, io: &mut Io<'_, P, Never>) {
        self.own.closing(&mut self.link);
        self.link.closed(io);
    }

    fn reset(&mut self) {
        self.link.reset();
        self.own.reset();
    }

    fn save(&self, w: &mut Writer<'_>) {
        self.link.save(w);
        self.own.save(w);
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        self.link.restore(r)?;
        self.own.restore(r)
    }
}
