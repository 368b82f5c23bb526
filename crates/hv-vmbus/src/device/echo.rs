//! A device for tests: it sends back what it gets.
//!
//! In-band packets come back with the same payload and transaction id: as completions where one was requested, else
//! in-band. Of other kinds the completion is empty, and so it is for a packet that the other ring can never hold.

use super::io::{Io, Taken};
use crate::protocol::{PACKET_FLAG_COMPLETION_REQUESTED, PacketType};
use crate::ring::{Outgoing, Packet, PushError, RingError};
use hv_memory::GuestMemory;

pub(super) fn run<M: GuestMemory>(io: &mut Io<'_, M>) -> Result<(), RingError> {
    io.drain(answer)
}

fn answer<M: GuestMemory>(io: &mut Io<'_, M>, packet: &Packet) -> Result<Taken, RingError> {
    let descriptor = &packet.descriptor;
    let in_band = descriptor.packet_type == PacketType::DATA_IN_BAND;
    let wanted = descriptor.flags & PACKET_FLAG_COMPLETION_REQUESTED != 0;
    if !in_band && !wanted {
        return Ok(Taken::Yes);
    }
    let full = Outgoing {
        packet_type: if wanted { PacketType::COMPLETION } else { PacketType::DATA_IN_BAND },
        flags: 0,
        transaction_id: descriptor.transaction_id,
        len: if in_band { packet.payload_len() } else { 0 },
    };
    let mut outcome = io.reflect(packet, &full);
    if outcome == Err(PushError::TooLong) {
        outcome = io.reflect(packet, &Outgoing { len: 0, ..full });
    }
    match outcome {
        Ok(()) | Err(PushError::TooLong) => Ok(Taken::Yes),
        Err(PushError::Full(bytes)) => Ok(Taken::NoRoom(bytes)),
        Err(PushError::Ring(error)) => Err(error),
    }
}
