//! The guest's position in the ring from the host.

use hv_tlfs::vmbus::{PACKET_TRAILER_SIZE, PacketDescriptor};

use super::{
    Area, DESCRIPTOR, Geometry, INTERRUPT_MASK, PENDING_SEND_SIZE, Packet, READ_INDEX, RingError, WORD,
    WRITE_INDEX,
};

/// What is to be done after room went back to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The host waits for the room: signal it.
    pub signal: bool,
    /// Another packet is available: keep reading. For one that the host wrote after the guest's last look and before
    /// this commit, the ring was not empty, so no interrupt comes (Linux, drivers/hv/ring_buffer.c,
    /// `hv_signal_on_write`).
    pub more: bool,
}

/// The guest's position in the ring from the host.
#[derive(Debug)]
pub struct Receiver {
    geometry: Geometry,
    /// What the host knows: `read_index`.
    committed: u32,
    /// Where the next packet is.
    next: u32,
    /// The host's `write_index`, as last judged.
    written: u32,
    dead: Option<RingError>,
}

impl Receiver {
    /// Begins with an empty ring, which the host does not know yet.
    ///
    /// # Errors
    ///
    /// [`RingError::Pages`].
    pub fn new<A: Area + ?Sized>(area: &A) -> Result<Self, RingError> {
        let geometry = Geometry::new(area.pages())?;
        super::clear(area);
        Ok(Self { geometry, committed: 0, next: 0, written: 0, dead: None })
    }

    /// Returns the error after which the ring is dead.
    #[must_use]
    pub fn dead(&self) -> Option<RingError> {
        self.dead
    }

    fn judged<T>(&mut self, result: Result<T, RingError>) -> Result<T, RingError> {
        if let Err(error) = result {
            self.dead = Some(error);
        }
        result
    }

    fn alive(&self) -> Result<(), RingError> {
        self.dead.map_or(Ok(()), Err)
    }

    /// Looks at the host's index. It may move forward only, and not onto the guest's.
    fn look<A: Area + ?Sized>(&mut self, area: &A) -> Result<(), RingError> {
        // Acquire: the packets are read after this.
        let written = self.geometry.index(area.load(WRITE_INDEX))?;
        let at = |index| self.geometry.distance(self.committed, index);
        if at(written) < at(self.written) {
            return Err(self.geometry.error(written));
        }
        self.written = written;
        Ok(())
    }

    /// Returns true if there is a packet.
    ///
    /// # Errors
    ///
    /// [`RingError`]: the ring is dead.
    pub fn is_ready<A: Area + ?Sized>(&mut self, area: &A) -> Result<bool, RingError> {
        self.alive()?;
        if self.next == self.written {
            // Once for a batch: the host's cache line stays where it is meanwhile.
            let looked = self.look(area);
            self.judged(looked)?;
        }
        Ok(self.next != self.written)
    }

    /// Returns the next packet, or `None` if the ring is empty. The room of packets goes back to the host with
    /// [`commit`](Self::commit).
    ///
    /// # Errors
    ///
    /// [`RingError`]: the ring is dead.
    pub fn next<'r, A: Area + ?Sized>(&'r mut self, area: &'r A) -> Result<Option<Packet<'r, A>>, RingError> {
        if self.is_ready(area)? { self.take(area).map(Some) } else { Ok(None) }
    }

    /// Returns the next packet of a ring that has one.
    pub(crate) fn take<'r, A: Area + ?Sized>(&'r mut self, area: &'r A) -> Result<Packet<'r, A>, RingError> {
        let available = self.geometry.distance(self.next, self.written);
        let descriptor = self.descriptor(area, available);
        let descriptor = self.judged(descriptor)?;
        let at = self.next;
        self.next = self.geometry.advance(at, descriptor.len() + PACKET_TRAILER_SIZE);
        Ok(Packet::new(area, self.geometry, at, descriptor))
    }

    /// Reads a descriptor, once, and judges it.
    fn descriptor<A: Area + ?Sized>(&self, area: &A, available: u32) -> Result<PacketDescriptor, RingError> {
        let room = available.saturating_sub(PACKET_TRAILER_SIZE);
        if room < DESCRIPTOR {
            return Err(RingError::Length { len: 0, available });
        }
        let places = [self.next, self.geometry.advance(self.next, WORD)];
        let descriptor: PacketDescriptor =
            zerocopy::transmute!(places.map(|at| self.geometry.word(area, at)));
        let (len, offset) = (descriptor.len(), descriptor.data_offset());
        if len < DESCRIPTOR || len > room {
            return Err(RingError::Length { len, available });
        }
        if offset < DESCRIPTOR || offset > len {
            return Err(RingError::DataOffset { offset, len });
        }
        Ok(descriptor)
    }

    /// Gives the room of all packets read so far back to the host, and looks whether it has sent more meanwhile.
    ///
    /// # Errors
    ///
    /// [`RingError`]: the ring is dead.
    pub fn commit<A: Area + ?Sized>(&mut self, area: &A) -> Result<Committed, RingError> {
        self.alive()?;
        if self.committed == self.next {
            return Ok(Committed { signal: false, more: self.next != self.written });
        }
        let before = core::mem::replace(&mut self.committed, self.next);
        // Release: the packets were read before this.
        area.store(READ_INDEX, self.next);
        area.fence();
        let pending = area.load(PENDING_SEND_SIZE);
        let looked = self.look(area);
        self.judged(looked)?;
        let free = |read| self.geometry.size - self.geometry.distance(read, self.written);
        let signal = pending != 0 && free(before) <= pending && free(self.next) > pending;
        Ok(Committed { signal, more: self.next != self.written })
    }

    /// Asks the host for no interrupts, while the guest reads a batch or polls.
    pub fn mask<A: Area + ?Sized>(&self, area: &A) {
        area.store(INTERRUPT_MASK, 1);
        area.fence();
    }

    /// Asks the host for interrupts again. Returns true if there is a packet already, for which no interrupt may come.
    ///
    /// # Errors
    ///
    /// [`RingError`]: the ring is dead.
    pub fn unmask<A: Area + ?Sized>(&mut self, area: &A) -> Result<bool, RingError> {
        self.alive()?;
        area.store(INTERRUPT_MASK, 0);
        area.fence();
        let looked = self.look(area);
        self.judged(looked)?;
        Ok(self.next != self.written)
    }
}
