//! Rules on the packets of a SCSI controller's driver.

use hv_tlfs::vmbus::PACKET_FLAG_COMPLETION_REQUESTED;
use hv_tlfs::vmbus::storage::{
    CDB_SIZE, DIRECTION_NONE, DIRECTION_READ, DIRECTION_WRITE, FLAG_REQUEST_COMPLETION, Operation, Packet,
    Properties, ScsiRequest,
};
use hv_vmbus::Seen;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::packets::word;
use super::{Found, rules};

/// Size of every packet, in bytes.
const PACKET: u32 = size_of::<Packet>() as u32;
/// Bytes before a packet's body.
const BODY: usize = size_of::<Packet>() - size_of::<ScsiRequest>();

/// Progress of a driver's initialization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Step {
    Start = 0,
    Begun,
    /// A version is agreed.
    Agreed,
    /// The driver knows the properties.
    Informed,
    Ready,
}

/// State of a driver. All zeros at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Driver {
    step: Step,
    /// Properties of the controller; 0 before they are known.
    max_channels: u16,
    max_transfer: u32,
}

impl Driver {
    pub(super) const NEW: Self = Self { step: Step::Start, max_channels: 0, max_transfer: 0 };

    /// Checks a packet from the guest on the channel with this index.
    pub(super) fn request(&mut self, packet: &Seen<'_>, index: u16, found: &mut Found<'_>) {
        found.add_if(packet.len != PACKET, &rules::STORAGE_SIZE, packet.len);
        let (operation, flags, status) =
            (Operation(word(packet.payload, 0)), word(packet.payload, 4), word(packet.payload, 8));
        let wanted = packet.flags == PACKET_FLAG_COMPLETION_REQUESTED;
        found.add_if(!wanted, &rules::STORAGE_COMPLETION, operation.0);
        let reserved = u64::from(status) << 32 | u64::from(flags & !FLAG_REQUEST_COMPLETION);
        found.add_if(reserved != 0, &rules::STORAGE_RESERVED, reserved);
        if operation == Operation::EXECUTE_SRB {
            found.add_if(self.step != Step::Ready, &rules::STORAGE_EARLY, operation.0);
            // What the judge is not shown of a packet is zero.
            let mut whole = Packet::new_zeroed();
            whole.as_mut_bytes().iter_mut().zip(packet.payload).for_each(|(place, byte)| *place = *byte);
            if let Ok(request) = ScsiRequest::read_from_bytes(&whole.body) {
                self.command(packet, &request, found);
            }
            return;
        }
        found.add_if(index > 0, &rules::STORAGE_PRIMARY, operation.0);
        let in_order = match operation {
            Operation::BEGIN_INITIALIZATION => {
                let first = self.step == Step::Start;
                self.step = Step::Begun;
                first
            }
            Operation::QUERY_PROTOCOL_VERSION => self.step == Step::Begun,
            Operation::QUERY_PROPERTIES => self.step == Step::Agreed,
            Operation::END_INITIALIZATION => self.step == Step::Informed,
            // Windows asks for sub-channels before the end, Linux after it.
            Operation::CREATE_SUB_CHANNELS => {
                let count = word(packet.payload, BODY) & 0xffff;
                let informed = self.step >= Step::Informed;
                let many = informed && count > self.max_channels.into();
                found.add_if(many, &rules::STORAGE_CHANNELS, count);
                informed
            }
            Operation::RESET_LUN | Operation::RESET_ADAPTER | Operation::RESET_BUS => {
                found.add_if(self.step != Step::Ready, &rules::STORAGE_EARLY, operation.0);
                true
            }
            _ => {
                found.add(&rules::STORAGE_OPERATION, operation.0);
                true
            }
        };
        found.add_if(!in_order, &rules::STORAGE_ORDER, operation.0);
    }

    /// Follows the host's answer to a packet with this operation.
    pub(super) fn answer(&mut self, packet: &Seen<'_>, operation: Option<u32>) {
        let Some(operation) = operation.map(Operation).filter(|_| word(packet.payload, 8) == 0) else {
            return;
        };
        self.step = match (operation, self.step) {
            (Operation::QUERY_PROTOCOL_VERSION, Step::Begun) => Step::Agreed,
            (Operation::QUERY_PROPERTIES, Step::Agreed) => {
                let body = packet.payload.get(BODY..).unwrap_or_default();
                if let Ok((properties, _)) = Properties::read_from_prefix(body) {
                    self.max_channels = properties.max_channels;
                    self.max_transfer = properties.max_transfer_bytes;
                }
                Step::Informed
            }
            (Operation::END_INITIALIZATION, Step::Informed) => Step::Ready,
            (_, step) => step,
        };
    }

    /// Checks a SCSI command.
    fn command(&self, packet: &Seen<'_>, request: &ScsiRequest, found: &mut Found<'_>) {
        let expected = size_of::<ScsiRequest>() as u16;
        found.add_if(request.length != expected, &rules::STORAGE_LENGTH, request.length);
        let code = request.cdb_or_sense[0];
        let cdb = request.cdb_length;
        let wrong = group(code).map_or(cdb == 0 || usize::from(cdb) > CDB_SIZE, |length| cdb != length);
        found.add_if(wrong, &rules::STORAGE_CDB, u16::from(cdb) << 8 | u16::from(code));
        let sense = request.sense_length;
        let room = 1..=request.cdb_or_sense.len();
        found.add_if(!room.contains(&sense.into()), &rules::STORAGE_SENSE, sense);
        let (direction, transfer) = (request.direction, request.transfer_length);
        let known = matches!(direction, DIRECTION_WRITE | DIRECTION_READ)
            || (direction == DIRECTION_NONE && transfer == 0);
        let fits = moves(code).is_none_or(|moves| moves == direction || transfer == 0);
        let value = u16::from(direction) << 8 | u16::from(code);
        found.add_if(!known || !fits, &rules::STORAGE_DIRECTION, value);
        if let Ok(listed) = packet.listed {
            found.add_if(listed.bytes != transfer, &rules::STORAGE_TRANSFER, transfer);
            found.add_if(listed.ranges > 1, &rules::STORAGE_RANGE, listed.ranges);
        }
        let most = self.max_transfer;
        found.add_if(most != 0 && transfer > most, &rules::STORAGE_MOST, transfer);
    }
}

/// Returns the length of the commands in the group of an operation code, if it is fixed (SCSI SPC-4, table "GROUP CODE
/// field").
const fn group(code: u8) -> Option<u8> {
    match code >> 5 {
        0 => Some(6),
        1 | 2 => Some(10),
        4 => Some(16),
        5 => Some(12),
        _ => None,
    }
}

/// Returns the direction of READ and WRITE.
const fn moves(code: u8) -> Option<u8> {
    match code {
        0x08 | 0x28 | 0xa8 | 0x88 => Some(DIRECTION_READ),
        0x0a | 0x2a | 0xaa | 0x8a => Some(DIRECTION_WRITE),
        _ => None,
    }
}
