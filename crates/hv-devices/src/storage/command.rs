//! SCSI commands: parsed from the guest's request, answered, or turned into a request to the back end.

use super::{Place, Request, Srb, Storage, Unit, note};
use crate::scsi::{Reply, Sense, Transfer};
use hv_vmbus::{Backend, Channel, Io, Packet, RequestError};

impl<const DISKS: usize> Storage<DISKS> {
    /// Handles a SCSI command. Returns false if its answer comes later: it has become a request to the back end.
    pub(super) fn execute<P: Backend<Request>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        srb: &mut Srb,
        io: &mut Io<'_, P, Request>,
    ) -> bool {
        let room = match io.pages(packet) {
            // Valid requests have one range, of the length in the request.
            Ok(pages) if packet.ranges() <= 1 && pages.len() >= srb.transfer().into() => srb.transfer(),
            _ => {
                srb.invalid();
                return true;
            }
        };
        let (path, target, lun) = (srb.path(), srb.target(), srb.lun());
        if srb.is_report_luns() {
            match self.luns(path, target, srb.cdb()[2]) {
                Ok(data) => answer_data(packet, io, srb, &data, room),
                Err(sense) => refuse(packet, io, srb, sense),
            }
            return true;
        }
        let Some(unit) = self.unit(path, target, lun) else {
            absent(packet, io, srb, room);
            return true;
        };
        let reply = unit.disk.command(srb.cdb(), |into| {
            let pages = io.pages(packet).ok()?;
            let len = into.len().min(room as usize);
            pages.read(io.memory(), 0, &mut into[..len]).ok()?;
            Some(len)
        });
        let disk = (unit.backend, unit.disk.block_size());
        match &reply {
            Reply::Good => srb.good(0),
            Reply::Data(data) => answer_data(packet, io, srb, data.bytes(), room),
            Reply::Check(sense) => refuse(packet, io, srb, *sense),
            Reply::Transfer(transfer) => return start(packet, io, disk, transfer, (srb, room)),
        }
        true
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
            self.units.iter().filter_map(Place::unit).filter(there).zip(data[8..].chunks_exact_mut(8))
        {
            entry[1] = unit.lun;
            count += 1;
        }
        let bytes: u32 = 8 * count;
        data[..4].copy_from_slice(&bytes.to_be_bytes());
        Ok(data)
    }
}

pub(super) fn observe<P: Backend<Request>>(io: &Io<'_, P, Request>, channel: Channel, sense: Sense) {
    let value = u64::from(sense.key as u8) << 16 | u64::from(sense.code) << 8 | u64::from(sense.qualifier);
    io.observe(channel, note::REFUSED, value);
}

/// Rejects a command.
fn refuse<P: Backend<Request>>(
    packet: &Packet<'_, P::Memory>,
    io: &Io<'_, P, Request>,
    srb: &mut Srb,
    sense: Sense,
) {
    observe(io, packet.channel(), sense);
    srb.check(sense);
}

/// Copies data to the guest, as far as it has room.
fn answer_data<P: Backend<Request>>(
    packet: &Packet<'_, P::Memory>,
    io: &Io<'_, P, Request>,
    srb: &mut Srb,
    data: &[u8],
    room: u32,
) {
    let data = &data[..data.len().min(room as usize).min(srb.allocation(data.len()))];
    match io.pages(packet).map(|pages| pages.write(io.memory(), 0, data)) {
        Ok(Ok(())) => srb.good(data.len() as u32),
        _ => srb.invalid(),
    }
}

/// Answers for a logical unit that does not exist. INQUIRY never fails: Linux ignores its status.
fn absent<P: Backend<Request>>(
    packet: &Packet<'_, P::Memory>,
    io: &Io<'_, P, Request>,
    srb: &mut Srb,
    room: u32,
) {
    if srb.is_inquiry() {
        let data = crate::scsi::absent_inquiry();
        answer_data(packet, io, srb, data.bytes(), room);
    } else {
        srb.no_lun();
    }
}

/// Turns a command into a request. Returns true if that failed, and the command is answered.
fn start<P: Backend<Request>>(
    packet: &mut Packet<'_, P::Memory>,
    io: &mut Io<'_, P, Request>,
    (disk, block): (u16, u32),
    transfer: &Transfer,
    (srb, room): (&mut Srb, u32),
) -> bool {
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
                srb.check(Sense::INVALID_FIELD);
                return true;
            }
        }
        srb.overruns();
        &cut
    } else {
        transfer
    };
    let Some((_, _, request)) = io.draft(packet, || Request::EMPTY) else {
        // The bus presents a packet only when a request is free.
        srb.busy();
        return true;
    };
    (request.disk, request.srb) = (disk, *srb);
    request.job.begin(transfer, block);
    let Some((piece, (offset, len))) = request.job.next() else {
        srb.good(0);
        return true;
    };
    request.piece = piece;
    match io.submit(packet, offset, len) {
        Ok(_) => return false,
        Err(RequestError::Pages(_)) => srb.invalid(),
        Err(_) => srb.busy(),
    }
    true
}
