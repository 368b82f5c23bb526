//! SCSI commands: parsed from the guest's request, answered, or turned into a request to the back end.

use super::{Bay, Request, Srb, Storage, Unit, note};
use crate::scsi::{Reply, Sense, Transfer};
use hv_vmbus::{Backend, BusPort, Channel, Context, Io, Packet, RequestError, Ticket};

impl<const DISKS: usize> Storage<DISKS> {
    /// Handles the SCSI command in the packet's request, which becomes the answer. Returns false if that comes later:
    /// the request goes to the back end.
    pub(super) fn execute<P: Backend<Request>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Request>,
    ) -> bool {
        let Some((context, ticket, request)) = io.draft(packet, Request::empty) else { return true };
        let Some((offset, len)) = self.judge(context, ticket, request) else { return true };
        let Err(error) = io.submit(packet, offset, len) else { return false };
        if let Some(request) = io.kept(packet, Request::empty) {
            match error {
                RequestError::Pages(_) => request.srb.invalid(),
                _ => request.srb.busy(),
            }
        }
        true
    }

    /// Returns the maximum number of bytes of a piece.
    pub(super) const fn most<P: Backend<Request>>() -> u64 {
        const {
            let whole = P::REQUEST_LIMIT > 0 && P::REQUEST_LIMIT.is_multiple_of(4096);
            assert!(whole, "REQUEST_LIMIT is not a multiple of 4096");
        }
        P::REQUEST_LIMIT
    }

    /// Answers a command, or makes it a request to the back end. Returns the range of the data that the request has:
    /// offset and length.
    fn judge<P: Backend<Request>>(
        &mut self,
        context: &Context<'_, P>,
        ticket: &Ticket,
        request: &mut Request,
    ) -> Option<(u64, u64)> {
        let srb = &mut request.srb;
        let room = match context.data_len(ticket) {
            // Valid requests have one range, of the length in the request.
            Ok(len) if ticket.ranges() <= 1 && len >= srb.transfer().into() => srb.transfer(),
            _ => {
                srb.invalid();
                return None;
            }
        };
        let (path, target, lun) = (srb.path(), srb.target(), srb.lun());
        if srb.is_report_luns() {
            match self.luns(path, target, srb.cdb()[2]) {
                Ok(data) => answer_data(context, ticket, srb, &data, room),
                Err(sense) => refuse(context, ticket, srb, sense),
            }
            return None;
        }
        let Some(unit) = self.unit(path, target, lun) else {
            absent(context, ticket, srb, room);
            return None;
        };
        let reply = unit.disk.command(srb.cdb(), |into| {
            let pages = context.pages(ticket).ok()?;
            let len = into.len().min(room as usize);
            pages.read(context.memory(), 0, &mut into[..len]).ok()?;
            Some(len)
        });
        match &reply {
            Reply::Good => srb.good(0),
            Reply::Data(data) => answer_data(context, ticket, srb, data.bytes(), room),
            Reply::Check(sense) => refuse(context, ticket, srb, *sense),
            Reply::Transfer(transfer) => {
                request.disk = unit.backend;
                return begin(request, (unit.disk.block_size(), Self::most::<P>()), transfer, room);
            }
        }
        None
    }

    /// Answers REPORT LUNS with the logical units of a target. It is answered for empty targets too: Linux takes
    /// INVALID_LUN for the removal of a logical unit, looks for it on path 0 whatever the path, and removes the disk
    /// there (6.12, storvsc_drv.c, `storvsc_remove_lun`). `select`: which kinds of them (SPC-4, "REPORT LUNS command").
    fn luns(&self, path: u8, target: u8, select: u8) -> Result<[u8; 8 + 8 * 64], Sense> {
        const ADDRESSED: u8 = 0;
        const WELL_KNOWN: u8 = 1;
        const ALL: u8 = 2;
        let mut data = [0; 8 + 8 * 64];
        match select {
            ADDRESSED | ALL => {}
            WELL_KNOWN => return Ok(data),
            _ => return Err(Sense::INVALID_FIELD),
        }
        let mut count = 0;
        let there = |unit: &&Unit| path == 0 && unit.target == target;
        for (unit, entry) in
            self.units.iter().filter_map(Bay::unit).filter(there).zip(data[8..].chunks_exact_mut(8))
        {
            entry[1] = unit.lun;
            count += 1;
        }
        let bytes: u32 = 8 * count;
        data[..4].copy_from_slice(&bytes.to_be_bytes());
        Ok(data)
    }
}

pub(super) fn observe<P: BusPort>(context: &Context<'_, P>, channel: Channel, sense: Sense) {
    let value = u64::from(sense.key as u8) << 16 | u64::from(sense.code) << 8 | u64::from(sense.qualifier);
    context.observe(channel, note::REFUSED, value);
}

/// Rejects a command.
fn refuse<P: BusPort>(context: &Context<'_, P>, ticket: &Ticket, srb: &mut Srb, sense: Sense) {
    observe(context, ticket.channel(), sense);
    srb.check(sense);
}

/// Copies data to the guest, as far as it has room.
fn answer_data<P: BusPort>(context: &Context<'_, P>, ticket: &Ticket, srb: &mut Srb, data: &[u8], room: u32) {
    let data = &data[..data.len().min(room as usize).min(srb.allocation(data.len()))];
    match context.pages(ticket).map(|pages| pages.write(context.memory(), 0, data)) {
        Ok(Ok(())) => srb.good(data.len() as u32),
        _ => srb.invalid(),
    }
}

/// Answers for a logical unit that does not exist. INQUIRY never fails: Linux ignores its status.
fn absent<P: BusPort>(context: &Context<'_, P>, ticket: &Ticket, srb: &mut Srb, room: u32) {
    if srb.is_inquiry() {
        let data = crate::scsi::absent_inquiry();
        answer_data(context, ticket, srb, data.bytes(), room);
    } else {
        srb.no_lun();
    }
}

/// Makes a command the first piece of its work, given the sizes of a block and of the longest piece. Returns the range
/// of its data that the piece has, or `None` if the command is answered.
fn begin(
    request: &mut Request,
    (block, most): (u32, u64),
    transfer: &Transfer,
    room: u32,
) -> Option<(u64, u64)> {
    let (room, size) = (u64::from(room), u64::from(block));
    let wanted = match transfer {
        Transfer::Read { len, .. } | Transfer::Write { len, .. } => *len,
        Transfer::Fill { .. } => size,
        Transfer::Flush | Transfer::Discard { .. } => 0,
    };
    let cut;
    let transfer = if wanted > room {
        // The guest gets the blocks that it has room for.
        let part = room / size * size;
        match *transfer {
            Transfer::Read { offset, .. } if part > 0 => cut = Transfer::Read { offset, len: part },
            _ => {
                request.srb.check(Sense::INVALID_FIELD);
                return None;
            }
        }
        request.srb.overruns();
        &cut
    } else {
        transfer
    };
    request.job.begin(transfer, block);
    let Some((piece, data)) = request.job.next(most) else {
        request.srb.good(0);
        return None;
    };
    request.piece = piece;
    Some(data)
}
