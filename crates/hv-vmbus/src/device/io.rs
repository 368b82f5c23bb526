//! What a device has to work with: its two rings.

use crate::ring::{Consumer, Outgoing, Packet, Producer, PushError, Ring, RingError};
use hv_memory::GuestMemory;

/// Bytes of packets that a device takes at one run, and the last packet as a whole: a guest that fills the ring as fast
/// as it is read gets its turns with the others.
const BUDGET: usize = 32 << 10;
/// What a packet counts at least.
const LEAST: usize = 512;

/// What a device did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is done with it.
    Yes,
    /// Its answer needs so many bytes of the other ring, which are not free.
    NoRoom(u32),
}

/// A device's rings, for one run.
#[derive(Debug)]
pub(crate) struct Io<'a, M> {
    /// Guest to host.
    pub(crate) incoming: Ring<'a, M>,
    /// Host to guest.
    pub(crate) outgoing: Ring<'a, M>,
    pub(crate) consumer: &'a mut Consumer,
    pub(crate) producer: &'a mut Producer,
    /// Reference time, in 100 ns.
    pub(crate) time: u64,
    /// The guest must be interrupted.
    pub(crate) signal: bool,
    /// There is more to do than one run may.
    pub(crate) unfinished: bool,
    /// Number of the last heartbeat that the guest has answered in this run.
    pub(crate) beat: Option<u64>,
}

impl<M: GuestMemory> Io<'_, M> {
    /// Gives packets to `take` until there is none, the budget is spent, or an answer finds no room.
    pub(crate) fn drain(
        &mut self,
        mut take: impl FnMut(&mut Self, &Packet) -> Result<Taken, RingError>,
    ) -> Result<(), RingError> {
        let mut budget = BUDGET;
        loop {
            // No signals while packets are being taken anyway.
            self.consumer.set_interrupts(&self.incoming, false)?;
            let blocked = self.take_packets(&mut budget, &mut take)?;
            self.signal |= self.consumer.commit(&self.incoming)?;
            // The mask is lifted before the last look, so that a packet which comes now is seen here or signalled.
            let more = self.consumer.set_interrupts(&self.incoming, true)?;
            let again = match blocked {
                Some(bytes) => self.producer.wait_for(&self.outgoing, bytes)?,
                None => more,
            };
            if !again {
                return Ok(());
            }
            if budget == 0 {
                self.unfinished = true;
                return Ok(());
            }
        }
    }

    /// Returns the room that an answer lacks.
    fn take_packets(
        &mut self,
        budget: &mut usize,
        take: &mut impl FnMut(&mut Self, &Packet) -> Result<Taken, RingError>,
    ) -> Result<Option<u32>, RingError> {
        while *budget > 0 {
            let Some(packet) = self.consumer.next(&self.incoming)? else { break };
            *budget = budget.saturating_sub((packet.descriptor.len() as usize).max(LEAST));
            if let Taken::NoRoom(bytes) = take(self, &packet)? {
                self.consumer.put_back(&packet);
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// Sends a packet whose payload is the beginning of `packet`'s.
    pub(crate) fn reflect(&mut self, packet: &Packet, answer: &Outgoing) -> Result<(), PushError> {
        let incoming = self.incoming;
        self.signal |= self.producer.push(&self.outgoing, answer, |at, into| {
            packet.read(&incoming, at, into)?;
            Ok(())
        })?;
        Ok(())
    }

    /// Sends a packet.
    pub(crate) fn send(&mut self, packet: &Outgoing, payload: &[u8]) -> Result<(), PushError> {
        self.signal |= self.producer.push_bytes(&self.outgoing, packet, payload)?;
        Ok(())
    }
}
