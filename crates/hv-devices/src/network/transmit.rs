//! Frames from the guest: RNDIS messages in a section of the send buffer, in listed pages, or in both.

use super::frame::{Frame, MAX_HEADER, Wanted};
use super::{Lost, Network, Rndis, SHOWN, note, part};
use hv_memory::{BadAddress, GuestMemory};
use hv_tlfs::vmbus::nvsp::{MessageType, SendRndisPacketComplete, Status};
use hv_tlfs::vmbus::rndis::{
    INFO_CHECKSUM, INFO_LARGE_SEND, INFO_VLAN, LargeSend, MessageHeader, MessageType as RndisType,
    PacketMessage, PerPacketInfo, TransmitChecksum, VlanInfo,
};
use hv_vmbus::{Answer, Backend, BusPort, CONTENTS_BYTES, Channel, Context, Done, Io, Pages, Requester};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Length of the header of a frame's message.
const HEADER: u64 = (size_of::<MessageHeader>() + size_of::<PacketMessage>()) as u64;
/// Offsets in a message count from its body.
const BODY: u64 = size_of::<MessageHeader>() as u64;
/// Maximum length of the information about a frame that is read: there are few kinds.
const MAX_INFO: usize = 256;
/// Length of a value.
const VALUE: usize = 4;

/// A frame for the wire, aligned so that it is copied by words.
#[derive(Clone, Copy, Debug)]
#[repr(align(8))]
pub struct Request {
    frame: Frame,
    segment: u32,
    /// Where the frame is in the packet's data.
    at: u64,
    /// Where the next message is; 0 if there is none.
    next: u64,
}

impl Request {
    const EMPTY: Self = Self { frame: Frame::EMPTY, segment: 0, at: 0, next: 0 };

    /// Returns the length of the frame on the wire, at most [`MAX_FRAME`](super::MAX_FRAME).
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
    pub fn len(&self) -> usize {
        self.frame.len(self.segment)
    }

    /// Returns where the bytes lie in the frame that [`write`](Self::write) copies from the guest's memory, without
    /// change.
    #[must_use]
    pub fn payload_at(&self) -> usize {
        self.frame.payload_at()
    }

    /// Writes the frame as it goes to the wire, and returns its length. `data` is the request's.
    ///
    /// # Errors
    /// [`BadAddress`] if `into` is too short, or the guest's memory is gone.
    pub fn write<M: GuestMemory>(
        &self,
        memory: &M,
        data: Pages<'_>,
        into: &mut [u8],
    ) -> Result<usize, BadAddress> {
        self.frame.write(self.segment, memory, data, into)
    }

    /// Returns the part of the packet's data that belongs to the segment: offset and length.
    fn part(&self) -> (u64, u64) {
        let (offset, len) = self.frame.part(self.segment);
        (self.at + u64::from(offset), len.into())
    }
}

/// The header of a frame's message, aligned so that it is copied by words.
#[derive(FromBytes, IntoBytes)]
#[repr(C, align(8))]
struct Head {
    header: MessageHeader,
    packet: PacketMessage,
    _rest: [u8; 4],
}

/// What an observer is shown of a message: bytes that were read to judge it.
struct Glimpse {
    message: [u8; CONTENTS_BYTES],
    message_len: usize,
    frame: [u8; SHOWN],
    frame_len: usize,
    /// Length of the whole frame.
    length: u32,
}

impl Glimpse {
    const fn new() -> Self {
        Self { message: [0; CONTENTS_BYTES], message_len: 0, frame: [0; SHOWN], frame_len: 0, length: 0 }
    }

    /// Keeps bytes of the message, if they follow those that are kept.
    fn keep(&mut self, at: u64, bytes: &[u8]) {
        if at == self.message_len as u64 {
            let room = &mut self.message[self.message_len..];
            let len = room.len().min(bytes.len());
            room[..len].copy_from_slice(&bytes[..len]);
            self.message_len += len;
        }
    }

    /// Keeps the first bytes of the frame.
    fn keep_frame(&mut self, length: u32, bytes: &[u8]) {
        self.frame_len = bytes.len().min(SHOWN);
        self.frame[..self.frame_len].copy_from_slice(&bytes[..self.frame_len]);
        self.length = length;
    }

    /// Shows what was read of a message. `left`: bytes of the packet's data from it on.
    fn show<P: BusPort>(&self, of: &impl Answer, left: u64, io: &Context<'_, P>) {
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        io.show_read(of, part::MESSAGE, left, &self.message[..self.message_len]);
        if self.frame_len > 0 {
            io.show_read(of, part::FRAME, self.length, &self.frame[..self.frame_len]);
        }
    }
}

/// Parses the message at an offset of a packet's data into `request`; each byte of it is read once. Returns `None` if
/// it is invalid.
fn parse<M: GuestMemory>(
    data: &Pages<'_>,
    memory: &M,
    at: u64,
    longest: u32,
    mut glimpse: Option<&mut Glimpse>,
    request: &mut Request,
) -> Option<()> {
    let mut keep = |from: u64, bytes: &[u8]| {
        if let Some(glimpse) = &mut glimpse {
            glimpse.keep(from - at, bytes);
        }
    };
    let mut head = Head::new_zeroed();
    let bytes = &mut head.as_mut_bytes()[..HEADER.min(data.len() - at) as usize];
    data.read(memory, at, bytes).ok()?;
    keep(at, bytes);
    // A shorter one has a length that is less than a header's, or too long for it.
    let Head { header, packet, .. } = head;
    let length = u64::from(header.length);
    if header.message_type != RndisType::PACKET || length < HEADER || length > data.len() - at {
        return None;
    }
    // All that the message names lies in it.
    let inside = |offset: u32, len: u32| {
        let (offset, len) = (BODY + u64::from(offset), u64::from(len));
        (offset >= HEADER && offset + len <= length).then_some(at + offset)
    };
    let wanted = match (packet.info_offset, packet.info_length) {
        (0, _) | (_, 0) => Wanted::default(),
        (offset, len) => {
            let from = inside(offset, len)?;
            let mut info = [0; MAX_INFO];
            let info = info.get_mut(..len as usize)?;
            data.read(memory, from, info).ok()?;
            keep(from, info);
            parse_info(info)?
        }
    };
    let from = inside(packet.data_offset, packet.data_length)?;
    let shown = if glimpse.is_some() { SHOWN } else { 0 };
    let needed = wanted.header_len().max(shown).min(packet.data_length as usize);
    let mut buffer;
    let first = if needed > 0 {
        buffer = [0; MAX_HEADER];
        data.read(memory, from, &mut buffer[..needed]).ok()?;
        &buffer[..needed]
    } else {
        &[]
    };
    if let Some(glimpse) = glimpse {
        glimpse.keep_frame(packet.data_length, first);
    }
    let end = at + length;
    (request.segment, request.at, request.next) = (0, from, if end < data.len() { end } else { 0 });
    request.frame.set(first, packet.data_length, &wanted, longest)
}

/// Parses the information about a frame.
pub(super) fn parse_info(mut info: &[u8]) -> Option<Wanted> {
    let mut wanted = Wanted::default();
    while !info.is_empty() {
        let (header, _) = PerPacketInfo::read_from_prefix(info).ok()?;
        let (size, offset) = (header.size as usize, header.value_offset as usize);
        // An element has a header, so the number of rounds is bounded.
        if size < size_of::<PerPacketInfo>() || size > info.len() {
            return None;
        }
        let value = info[..size]
            .get(offset..offset.checked_add(VALUE)?)
            .filter(|_| offset >= size_of::<PerPacketInfo>());
        let value = value.and_then(|value| u32::read_from_bytes(value).ok());
        match header.info_type {
            INFO_CHECKSUM => wanted.checksum = Some(TransmitChecksum(value?)),
            INFO_LARGE_SEND => wanted.large_send = Some(LargeSend(value?)),
            INFO_VLAN => wanted.vlan = Some(VlanInfo(value?)),
            _ => {}
        }
        info = &info[size..];
    }
    Some(wanted)
}

impl Network {
    /// Sends the frame at an offset of a packet's data, or completes the packet: there is none, or it is invalid.
    pub(super) fn send<P: Backend<Request>>(
        &mut self,
        of: &mut impl Requester<Request>,
        channel: Channel,
        at: u64,
        io: &mut Io<'_, P, Request>,
    ) {
        let status = match self.try_send(of, at, io) {
            Ok(true) => return,
            Ok(false) => Status::SUCCESS,
            Err(status) => {
                self.counts.send_errors += 1;
                io.observe(channel, note::REFUSED, status.0.into());
                status
            }
        };
        self.reply(io, of, MessageType::SEND_RNDIS_PACKET_COMPLETE, &SendRndisPacketComplete { status });
    }

    /// Returns false if there is nothing to send.
    fn try_send<P: Backend<Request>>(
        &mut self,
        of: &mut impl Requester<Request>,
        at: u64,
        io: &mut Io<'_, P, Request>,
    ) -> Result<bool, Status> {
        let longest = self.longest();
        let mut glimpse = io.is_observed().then(Glimpse::new);
        let (context, ticket, request) = io.draft(of, || Request::EMPTY).ok_or(Status::FAIL)?;
        let data = context.all_pages(ticket).map_err(|_| Status::FAIL)?;
        if self.rndis != Rndis::Initialized {
            return Err(Status::FAIL);
        }
        let parsed = parse(&data, context.memory(), at, longest, glimpse.as_mut(), request);
        if let Some(glimpse) = &glimpse {
            glimpse.show(ticket, data.len() - at, context);
        }
        parsed.ok_or(Status::INVALID_RNDIS_PACKET)?;
        if self.down {
            self.counts.send_discards += 1;
            return Ok(false);
        }
        let (offset, len) = request.part();
        io.submit(of, offset, len).map(|_| true).map_err(|_| Status::FAIL)
    }

    /// Continues after a frame: with the next segment, or the next message.
    pub(super) fn sent<P: Backend<Request>>(
        &mut self,
        done: &mut Done<'_, Request>,
        outcome: Result<(), Lost>,
        io: &mut Io<'_, P, Request>,
    ) {
        // In its place: a request is long.
        let request = &mut *done.request;
        match outcome {
            Ok(()) => {
                self.counts.sent += 1;
                self.counts.bytes_sent += request.len() as u64;
            }
            Err(Lost) => self.counts.send_discards += 1,
        }
        let next = request.next;
        if request.segment + 1 < request.frame.segments() && !self.down {
            request.segment += 1;
            let (offset, len) = request.part();
            if io.submit(done, offset, len).is_err() {
                let status = Status::FAIL;
                let complete = SendRndisPacketComplete { status };
                self.reply(io, done, MessageType::SEND_RNDIS_PACKET_COMPLETE, &complete);
            }
            return;
        }
        if next == 0 {
            let complete = SendRndisPacketComplete { status: Status::SUCCESS };
            return self.reply(io, done, MessageType::SEND_RNDIS_PACKET_COMPLETE, &complete);
        }
        let channel = done.channel();
        self.send(done, channel, next, io);
    }
}
