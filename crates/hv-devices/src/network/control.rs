//! RNDIS messages on the control channel.

use super::objects::MAX_PACKETS;
use super::{Network, Request, Rndis, note, part};
use hv_tlfs::vmbus::nvsp::Status as NvspStatus;
use hv_tlfs::vmbus::rndis::{
    CONNECTIONLESS, InitializeComplete, InitializeRequest, KeepaliveComplete, KeepaliveRequest,
    MAJOR_VERSION, MEDIUM_802_3, MINOR_VERSION, MessageHeader, MessageType, QueryComplete, QueryRequest,
    ResetComplete, SetComplete, SetRequest, Status,
};
use hv_vmbus::{Backend, Channel, Io, Packet};
use zerocopy::{FromBytes, IntoBytes};

/// Maximum length of a control message: the longest sets up receive side scaling.
const MAX_MESSAGE: usize = 1024;
/// Bytes of one packet: as long as the guest's memory for it (OpenVMM, netvsp).
const MAX_TRANSFER: u32 = 0xefff_ffff;
/// Messages of a packet begin at multiples of 8.
const ALIGNMENT_FACTOR: u32 = 3;

/// Returns the information that a request names in its body.
fn information(body: &[u8], offset: u32, len: u32) -> Option<&[u8]> {
    if len == 0 {
        return Some(&[]);
    }
    let (offset, len) = (usize::try_from(offset).ok()?, usize::try_from(len).ok()?);
    body.get(offset..offset.checked_add(len)?)
}

impl Network {
    /// Handles a message. Returns the status with which its packet is completed; the answer is a packet of its own.
    pub(super) fn control<P: Backend<Request>>(
        &mut self,
        packet: &Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Request>,
    ) -> NvspStatus {
        let mut bytes = [0; MAX_MESSAGE];
        let Ok(data) = io.all_pages(packet) else { return NvspStatus::FAIL };
        let len = usize::try_from(data.len()).unwrap_or(MAX_MESSAGE).min(MAX_MESSAGE);
        // Read once, into memory that the guest cannot reach.
        if data.read(io.memory(), 0, &mut bytes[..len]).is_err() {
            return NvspStatus::FAIL;
        }
        io.show_read(packet, part::CONTROL, u32::try_from(data.len()).unwrap_or(u32::MAX), &bytes[..len]);
        let message = MessageHeader::read_from_prefix(&bytes[..len]).ok();
        let whole =
            message.and_then(|(header, _)| Some((header, bytes[..len].get(8..header.length as usize)?)));
        match whole {
            Some((header, body)) => self.message(header.message_type, body, io),
            None => NvspStatus::INVALID_RNDIS_PACKET,
        }
    }

    fn message<P: Backend<Request>>(
        &mut self,
        kind: MessageType,
        body: &[u8],
        io: &mut Io<'_, P, Request>,
    ) -> NvspStatus {
        let told = match kind {
            MessageType::INITIALIZE => self.initialize(body, io),
            MessageType::HALT => {
                self.halt();
                self.wake(io);
                Some(true)
            }
            MessageType::QUERY => self.answer_query(body, io),
            MessageType::SET => self.answer_set(body, io),
            MessageType::RESET => {
                self.forget_addresses();
                let answer = ResetComplete { status: Status::SUCCESS, addressing_reset: 1 };
                Some(self.tell(MessageType::RESET_COMPLETE, &[answer.as_bytes()], io))
            }
            MessageType::KEEPALIVE => KeepaliveRequest::read_from_prefix(body).ok().map(|(request, _)| {
                let answer = KeepaliveComplete { request_id: request.request_id, status: Status::SUCCESS };
                self.tell(MessageType::KEEPALIVE_COMPLETE, &[answer.as_bytes()], io)
            }),
            MessageType::KEEPALIVE_COMPLETE => Some(true),
            _ => None,
        };
        match told {
            Some(true) => NvspStatus::SUCCESS,
            // The guest has left no section for the answer.
            Some(false) => NvspStatus::BUSY,
            None => NvspStatus::INVALID_RNDIS_PACKET,
        }
    }

    fn initialize<P: Backend<Request>>(&mut self, body: &[u8], io: &mut Io<'_, P, Request>) -> Option<bool> {
        let (request, _) = InitializeRequest::read_from_prefix(body).ok()?;
        let good = request.major_version == MAJOR_VERSION;
        let answer = InitializeComplete {
            request_id: request.request_id,
            status: if good { Status::SUCCESS } else { Status::BAD_VERSION },
            major_version: MAJOR_VERSION,
            minor_version: MINOR_VERSION,
            device_flags: CONNECTIONLESS,
            medium: MEDIUM_802_3,
            max_packets_per_message: MAX_PACKETS,
            max_transfer_size: MAX_TRANSFER,
            packet_alignment_factor: ALIGNMENT_FACTOR,
            af_list_offset: 0,
            af_list_size: 0,
        };
        let told = self.tell(MessageType::INITIALIZE_COMPLETE, &[answer.as_bytes()], io);
        if told && good && self.rndis == Rndis::Halted {
            self.rndis = Rndis::Initialized;
            io.observe(Channel::PRIMARY, note::READY, self.version.0.into());
        }
        Some(told)
    }

    fn answer_query<P: Backend<Request>>(
        &mut self,
        body: &[u8],
        io: &mut Io<'_, P, Request>,
    ) -> Option<bool> {
        let (request, _) = QueryRequest::read_from_prefix(body).ok()?;
        let QueryRequest { request_id, oid, information_length, .. } = request;
        let room = usize::try_from(information_length).unwrap_or(usize::MAX);
        let value = match self.rndis {
            Rndis::Initialized => self.query(oid, room, io.channels()).ok_or(Status::NOT_SUPPORTED),
            Rndis::Halted => Err(Status::ADAPTER_NOT_READY),
        };
        let (status, value) = match &value {
            Ok(value) => (Status::SUCCESS, value.bytes()),
            Err(status) => (*status, &[][..]),
        };
        let answer = QueryComplete {
            request_id,
            status,
            information_length: value.len() as u32,
            // Linux does not look at the status: it takes an answer without this offset for a failure.
            information_offset: if value.is_empty() { 0 } else { size_of::<QueryComplete>() as u32 },
        };
        Some(self.tell(MessageType::QUERY_COMPLETE, &[answer.as_bytes(), value], io))
    }

    fn answer_set<P: Backend<Request>>(&mut self, body: &[u8], io: &mut Io<'_, P, Request>) -> Option<bool> {
        let (request, _) = SetRequest::read_from_prefix(body).ok()?;
        let SetRequest { request_id, oid, information_length, information_offset, .. } = request;
        let status = match information(body, information_offset, information_length) {
            _ if self.rndis == Rndis::Halted => Status::ADAPTER_NOT_READY,
            Some(info) => self.set(oid, info, io.channels()),
            None => Status::INVALID_LENGTH,
        };
        if status != Status::SUCCESS {
            io.observe(Channel::PRIMARY, note::REFUSED, status.0.into());
        }
        let answer = SetComplete { request_id, status };
        Some(self.tell(MessageType::SET_COMPLETE, &[answer.as_bytes()], io))
    }
}
