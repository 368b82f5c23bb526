//! The device on the bus, and its saved state.

use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::PacketType;
use hv_tlfs::vmbus::balloon::{Capabilities, PageRange, VersionResponse};
use hv_vmbus::{Backend, Channel, Device, Done, Head, Io, Opening, Packet, Refusal, Taken};

use crate::ic::IGNORED;

use super::{Balloon, Discard, Ended, Pressure, Step, Task};

impl Device for Balloon {
    type Request = Discard;

    const NAME: [u8; 4] = *b"ball";
    /// Linux reads one packet per interrupt.
    const SIGNAL_EACH: bool = true;
    /// Maximum size that Linux reads of a packet.
    const PACKET_LIMIT: u32 = 8192;

    fn reply_len(&self, _: Channel, head: &Head) -> Option<u32> {
        // The answers to the first two messages. Linux wants no completions.
        let in_band = head.kind == PacketType::DATA_IN_BAND;
        (in_band || head.wants_completion).then_some(size_of::<VersionResponse>() as u32)
    }

    fn opened<P: Backend<Discard>>(
        &mut self,
        _: Channel,
        _: &Opening<'_>,
        _: &mut Io<'_, P, Discard>,
    ) -> Result<(), Refusal> {
        self.step = Step::Opened;
        Ok(())
    }

    fn packet<P: Backend<Discard>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Discard>,
    ) -> Taken {
        if packet.kind() == PacketType::DATA_IN_BAND {
            self.message(packet, io);
        } else {
            io.observe(Channel::PRIMARY, IGNORED, packet.left() as u64);
        }
        // One that was answered is not completed again, and one with a request later.
        if self.kept == 0 {
            let _ = io.complete(packet, &[]);
        }
        Taken::Done
    }

    fn completed<P: Backend<Discard>>(
        &mut self,
        done: &mut Done<'_, Discard>,
        (): (),
        io: &mut Io<'_, P, Discard>,
    ) {
        let _ = io.complete(done, &[]);
        self.discarded(io);
    }

    fn corrupt<P: Backend<Discard>>(&mut self, _: Channel, io: &mut Io<'_, P, Discard>) {
        self.end(io, Ended::Closed);
    }

    fn room<P: Backend<Discard>>(&mut self, _: Channel, io: &mut Io<'_, P, Discard>) {
        if self.task == Task::GiveLater {
            self.go_on(io);
        }
    }

    fn closed<P: Backend<Discard>>(&mut self, _: Channel, io: &mut Io<'_, P, Discard>) {
        self.end(io, Ended::Closed);
        self.forget();
        (self.step, self.reported, self.kept) = (Step::Closed, false, 0);
    }

    fn reset(&mut self) {
        self.forget();
        // Not all at once: the ranges are a page, which a stack may not have room for.
        (self.step, self.task, self.ended, self.reported) = (Step::Closed, Task::None, Ended::No, false);
        (self.version, self.transaction, self.capabilities) = (0, 0, Capabilities(0));
        self.pressure = Pressure::default();
        (self.left, self.from, self.kept) = (0, 0, 0);
    }

    fn save(&self, w: &mut Writer<'_>) {
        w.u8(self.step as u8);
        w.u8(self.task as u8);
        w.u8(self.ended as u8);
        w.flag(self.reported);
        w.u32(self.version);
        w.u32(self.transaction);
        w.u64(self.capabilities.bits());
        w.u64(self.pressure.available);
        w.u64(self.pressure.committed);
        w.u64(self.left);
        let mut from = 0;
        while let Some((start, count)) = self.record.next(from).filter(|_| self.taken > 0) {
            w.u64(PageRange(0).with_start(start).with_count(count as u32).bits());
            from = start + count;
        }
        w.u64(0);
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        self.reset();
        self.restored(r)
    }
}

impl Balloon {
    /// Restores a state, on a device that was reset.
    fn restored(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        const INVALID: RestoreError = RestoreError::Invalid("state of dynamic memory");
        self.step = match r.u8()? {
            0 => Step::Closed,
            1 => Step::Opened,
            2 => Step::Agreed,
            3 => Step::Ready,
            4 => Step::Incompatible,
            _ => return Err(INVALID),
        };
        self.task = match r.u8()? {
            0 => Task::None,
            1 => Task::Take,
            3 => Task::Give,
            4 => Task::GiveLater,
            _ => return Err(INVALID),
        };
        self.ended = match r.u8()? {
            0 => Ended::No,
            1 => Ended::Done,
            2 => Ended::Malformed,
            3 => Ended::Closed,
            _ => return Err(INVALID),
        };
        self.reported = r.flag("report of dynamic memory")?;
        (self.version, self.transaction) = (r.u32()?, r.u32()?);
        self.capabilities = Capabilities(r.u64()?);
        self.pressure = Pressure { available: r.u64()?, committed: r.u64()? };
        self.left = r.u64()?;
        loop {
            let range = PageRange(r.u64()?);
            let (start, count) = (range.start(), u64::from(range.count()));
            if count == 0 {
                break;
            }
            if !self.record.contains(start, count) || self.record.has_any(start, count) {
                return Err(RestoreError::Invalid("pages of dynamic memory"));
            }
            self.record.put(start, count, true);
            self.taken += count;
        }
        let most = match self.task {
            Task::Give | Task::GiveLater => self.taken,
            Task::Take => u32::MAX.into(),
            _ => 0,
        };
        let busy = self.task != Task::None;
        let idle = self.step != Step::Ready && (busy || self.taken > 0 || self.reported);
        if idle || (busy && self.ended != Ended::No) || self.left > most {
            return Err(INVALID);
        }
        Ok(())
    }
}
