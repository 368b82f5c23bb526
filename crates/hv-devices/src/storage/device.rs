//! The `Device` implementation of the controller.

use super::command::observe;
use super::{Bay, Failure, HEADER, MAX_TRANSFER, PACKET, Request, State, Storage, VERSIONS};
use crate::scsi::Sense;
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::PacketType;
use hv_tlfs::vmbus::storage::Operation;
use hv_vmbus::{Backend, Channel, Device, Done, Head, Io, Opening, Packet, Refusal, Taken};
use zerocopy::IntoBytes;

impl<const DISKS: usize> Device for Storage<DISKS> {
    type Request = Request;

    const NAME: [u8; 4] = *b"scsi";
    const REPLY: u32 = PACKET as u32;
    /// Maximum size that Linux's driver reads of a packet (drivers/scsi/storvsc_drv.c, `storvsc_connect_to_vsp`).
    const PACKET_LIMIT: u32 = 80;
    /// A request of the maximum size: at 5 GB/s the 50 microseconds that the TLFS gives a hypercall ("Hypercall
    /// Continuation").
    const WORK_LIMIT: usize = MAX_TRANSFER as usize;

    fn reply_len(&self, _: Channel, head: &Head) -> Option<u32> {
        head.wants_completion.then_some(head.len.min(Self::REPLY))
    }

    fn opened<P: Backend<Request>>(
        &mut self,
        channel: Channel,
        _: &Opening<'_>,
        _: &mut Io<'_, P, Request>,
    ) -> Result<(), Refusal> {
        if channel == Channel::PRIMARY {
            self.state = State::Start;
            self.version = 0;
        }
        Ok(())
    }

    fn packet<P: Backend<Request>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Request>,
    ) -> Taken {
        // Windows opens sub-channels before it has ended the initialization.
        if packet.channel() != Channel::PRIMARY && self.state != State::Ready {
            return Taken::Later;
        }
        if !matches!(packet.kind(), PacketType::DATA_IN_BAND | PacketType::DATA_USING_GPA_DIRECT) {
            return Taken::Fault;
        }
        // Where it is kept in case it has to wait: it is not moved. A packet of these kinds has room for a request.
        let Some(Request { srb, .. }) = io.kept(packet, Request::empty) else { return Taken::Fault };
        srb.read(|bytes| packet.read(bytes));
        if srb.len() < HEADER {
            return Taken::Fault;
        }
        // A guest that requests no completion gets none.
        if srb.operation() == Operation::EXECUTE_SRB && self.state == State::Ready {
            if self.execute(packet, io) {
                let _ = io.complete_kept(packet, |request| request.srb.answer());
            }
        } else {
            let len = srb.len();
            let mut answer = srb.packet();
            answer.header.status = self.control(packet, &mut answer, io);
            answer.header.operation = Operation::COMPLETE_IO;
            let _ = io.complete(packet, &answer.as_bytes()[..len]);
        }
        Taken::Done
    }

    fn completed<P: Backend<Request>>(
        &mut self,
        done: &mut Done<'_, Request>,
        outcome: Result<(), Failure>,
        io: &mut Io<'_, P, Request>,
    ) {
        // In its place: a request is long, and this is done for each.
        let request = &mut *done.request;
        match outcome {
            Ok(()) => match request.job.next(Self::most::<P>()) {
                None => {
                    let moved = request.job.moved().map_or(request.srb.transfer(), |len| len as u32);
                    request.srb.good(moved);
                }
                Some((piece, (offset, len))) => {
                    request.piece = piece;
                    if io.submit(done, offset, len).is_ok() {
                        return;
                    }
                    done.request.srb.check(Sense::TARGET_FAILURE);
                }
            },
            Err(Failure::Exactly { srb: status, scsi, sense }) => request.srb.exactly(status, scsi, sense),
            Err(failure) => {
                let sense = match failure {
                    Failure::Sense(sense) => sense,
                    Failure::Medium if request.job.reads() => Sense::READ_ERROR,
                    Failure::Medium => Sense::WRITE_ERROR,
                    Failure::Target | Failure::Exactly { .. } => Sense::TARGET_FAILURE,
                };
                request.srb.check(sense);
                observe(io, done.channel(), sense);
            }
        }
        let (ticket, request) = done.split();
        let _ = io.complete(ticket, request.srb.answer());
    }

    fn room<P: Backend<Request>>(&mut self, _: Channel, io: &mut Io<'_, P, Request>) {
        if self.announce {
            self.announce(io);
        }
    }

    fn closed<P: Backend<Request>>(&mut self, channel: Channel, _: &mut Io<'_, P, Request>) {
        if channel == Channel::PRIMARY {
            self.state = State::Start;
            self.announce = false;
        }
    }

    fn reset(&mut self) {
        (self.state, self.version, self.announce) = (State::Start, 0, false);
        self.units.iter_mut().filter_map(Bay::unit_mut).for_each(|unit| unit.disk.renew());
    }

    fn save(&self, w: &mut Writer<'_>) {
        w.u8(match self.state {
            State::Start => 0,
            State::Begun => 1,
            State::Ready => 2,
        });
        w.u32(self.version.into());
        w.u8(self.announce.into());
        let units = || self.units.iter().filter_map(Bay::unit);
        w.count(units().count());
        for unit in units() {
            w.u8(unit.target);
            w.u8(unit.lun);
            unit.disk.save(w);
        }
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        let state = match r.u8()? {
            0 => State::Start,
            1 => State::Begun,
            2 => State::Ready,
            _ => return Err(RestoreError::Invalid("state of a SCSI controller")),
        };
        let version = u16::try_from(r.u32()?).ok().filter(|v| *v == 0 || VERSIONS.contains(v));
        let version = version.ok_or(RestoreError::Invalid("version of a SCSI controller"))?;
        let announce = match r.u8()? {
            0 => false,
            1 => true,
            _ => return Err(RestoreError::Invalid("flag of a SCSI controller")),
        };
        (self.state, self.version, self.announce) = (state, version, announce);
        // The embedder has attached the disks of the saved controller.
        const DISKS: RestoreError = RestoreError::Invalid("disks of a SCSI controller");
        let count = self.units.iter().filter_map(Bay::unit).count();
        if r.count()? != count {
            return Err(DISKS);
        }
        for _ in 0..count {
            let (target, lun) = (r.u8()?, r.u8()?);
            self.disk_mut(target, lun).ok_or(DISKS)?.restore(r)?;
        }
        Ok(())
    }
}
