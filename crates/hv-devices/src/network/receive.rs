//! Messages to the guest in sections of its receive buffer: frames, answers, and changes of the link.

use super::headers::{self, TAG, TAG_AT};
use super::sections::{FRAMES, Filled};
use super::{Network, Request, Rndis, SHOWN, note, part};
use hv_tlfs::vmbus::nvsp::{
    CONTROL_CHANNEL, DATA_CHANNEL, INVALID_INDEX, MessageHeader, MessageType, PACKET_SIZE_6_1,
    SendRndisPacket,
};
use hv_tlfs::vmbus::rndis::{
    INFO_HASH, INFO_VLAN, IndicateStatus, MessageHeader as RndisHeader, MessageType as RndisType,
    PacketMessage, PerPacketInfo, Status, VlanInfo,
};
use hv_tlfs::vmbus::{PACKET_TRAILER_SIZE, PacketDescriptor, TransferPageRange};
use hv_vmbus::{Backend, CONTENTS_BYTES, Channel, Io, Message, SendError};
use zerocopy::{FromZeros, IntoBytes};

/// Offset of a frame in its section: the headers before it are shorter (OpenVMM, netvsp).
const FRAME_AT: usize = 256;
/// Bytes of a section that stay unused after a frame: a fault of Windows' driver (OpenVMM, netvsp).
const TAIL: u32 = 36;
/// Alignment of sections.
const ALIGN: u32 = 16;
const _: () = assert!(FRAME_AT.is_multiple_of(8) && ALIGN.is_multiple_of(8), "a frame begins with a word");
/// Bytes that the longest packet with frames takes in a ring: descriptor, count, ranges, message, and trailer.
const WHOLE: u32 = (size_of::<PacketDescriptor>()
    + 8
    + FRAMES * size_of::<TransferPageRange>()
    + PACKET_SIZE_6_1.next_multiple_of(8)
    + PACKET_TRAILER_SIZE as usize) as u32;
/// Length of the headers of a frame's message.
const HEADERS: usize = size_of::<RndisHeader>() + size_of::<PacketMessage>();
/// Length of information with its value.
const INFO: usize = size_of::<PerPacketInfo>() + 4;
/// Information about a frame that the guest gets at most.
const INFOS: usize = 2;
/// Smallest section: the longest answer fits.
pub(super) const MIN_SECTION: u32 = 512;

/// Returns the size of a section for frames of this length.
pub(super) const fn section_size(longest: u32) -> u32 {
    let size = (FRAME_AT as u32 + longest + TAIL).next_multiple_of(ALIGN);
    if size < MIN_SECTION { MIN_SECTION } else { size }
}

/// The beginning of a frame's message: its headers, and the information about the frame.
struct Head {
    bytes: [u8; HEADERS + INFOS * INFO],
    len: usize,
}

/// Outcome of a frame for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The guest has it as soon as this call of the card ends: frames of one call share packets.
    Delivered,
    /// It was dropped: the guest does not want it, or cannot receive, or has no section free that could become free
    /// before its own frames are taken.
    Dropped,
    /// There is no room. [`note::ROOM`] is observed when there is, or when the guest no longer receives anything; until
    /// then the back end keeps the frame, or drops it. If it takes no frame of the guest's meanwhile
    /// ([`Started::Full`](hv_vmbus::Started::Full)), it has the frame received again: the guest's completions, which
    /// give room, come behind what it sends, and two directions that wait for each other would wait without end.
    Later,
}

impl Network {
    /// Passes a frame to the guest.
    pub fn receive<P: Backend<Request>>(&mut self, frame: &[u8], io: &mut Io<'_, P, Request>) -> Received {
        if self.rndis != Rndis::Initialized || self.receive.is_none() || self.is_deaf() || self.filter == 0 {
            return Received::Dropped;
        }
        let tag = headers::tag(frame);
        let len = frame.len() - if tag.is_some() { TAG } else { 0 };
        if frame.len() < headers::ETHERNET || len > self.longest_received() as usize || !self.wants(frame) {
            self.counts.receive_discards += 1;
            return Received::Dropped;
        }
        let flow = self.rss.pick(frame);
        // A guest with fewer channels than its table names receives on the first one.
        let channel = flow.map(|(_, channel)| Channel::new(channel)).filter(|channel| io.is_open(*channel));
        let channel = channel.unwrap_or(Channel::PRIMARY);
        let Some(section) = self.receive.take(false) else { return self.without_section(io) };
        if !self.receive.batch.is_empty() && !self.receive.batch.takes(channel) {
            self.push_frames(io);
        }
        if let Some(answer) = self.without_room(channel, io) {
            self.receive.put_back(section);
            return answer;
        }
        let mut head = Head { bytes: [0; HEADERS + INFOS * INFO], len: 0 };
        let written = self.fill(section, frame, tag, flow.map(|(hash, _)| hash), &mut head, io);
        let Some(len) = written else {
            // The guest has taken the buffer's memory away.
            self.receive.put_back(section);
            self.counts.receive_discards += 1;
            return Received::Dropped;
        };
        self.receive.add(channel, section, len, frame.len());
        if let Some(id) = self.receive.batch_id().filter(|_| io.is_observed()) {
            io.show_written(channel, id, part::MESSAGE, len, &head.bytes[..head.len]);
            let shown = &frame[..frame.len().min(SHOWN)];
            io.show_written(channel, id, part::FRAME, frame.len() as u32, shown);
        }
        Received::Delivered
    }

    /// Sends the frames that this call of the card has received by now.
    pub(super) fn push_frames<P: Backend<Request>>(&mut self, io: &mut Io<'_, P, Request>) {
        let batch = &self.receive.batch;
        let Some(id) = self.receive.batch_id() else { return };
        let (frames, bytes) = (batch.sections().len() as u64, batch.bytes());
        // It has room, unless the guest has taken that away: then they are lost, as with a wire.
        let sent = self.push(batch.channel(), id, batch.ranges(), DATA_CHANNEL, io).is_ok();
        self.receive.end_batch(sent);
        if sent {
            self.counts.received += frames;
            self.counts.bytes_received += bytes;
        } else {
            self.counts.receive_discards += frames;
            // Their sections are free. If the ring is corrupt, nothing else says so: the card has found it itself.
            self.wake(io);
        }
    }

    /// Returns the answer to a frame that would begin a packet, if the ring has no room for all that the packet can
    /// become. (With reservations that leave less than that in an empty ring, its frames may be lost; the smallest ring
    /// has room for it and 60 answers.)
    fn without_room<P: Backend<Request>>(
        &mut self,
        channel: Channel,
        io: &mut Io<'_, P, Request>,
    ) -> Option<Received> {
        if !self.receive.batch.is_empty() {
            return None;
        }
        if !io.is_open(channel) {
            return Some(Received::Dropped);
        }
        // The ring has room as soon as the guest reads, whatever it sends.
        (io.free(channel) < WHOLE && !io.await_room(channel, WHOLE)).then(|| self.later())
    }

    /// Has a frame wait for a section, or drops it if sections may wait for it: their completions come behind what the
    /// guest sends.
    fn without_section<P: Backend<Request>>(&mut self, io: &Io<'_, P, Request>) -> Received {
        if io.awaits_back_end() {
            self.counts.no_buffer += 1;
            return Received::Dropped;
        }
        self.later()
    }

    fn later(&mut self) -> Received {
        self.hungry = true;
        self.counts.no_buffer += 1;
        Received::Later
    }

    /// Writes the message of a frame to a section, its beginning to `head`, and returns its length.
    fn fill<P: Backend<Request>>(
        &self,
        section: u16,
        frame: &[u8],
        tag: Option<u16>,
        hash: Option<u32>,
        head: &mut Head,
        io: &Io<'_, P, Request>,
    ) -> Option<u32> {
        let buffer = io.buffer(self.receive.gpadl())?;
        let base = u64::from(section) * u64::from(self.receive.size());
        let Head { bytes: head, len: head_len } = head;
        let mut infos = 0;
        let mut add = |info_type: u32, value: u32| {
            let info = PerPacketInfo {
                size: INFO as u32,
                info_type,
                value_offset: size_of::<PerPacketInfo>() as u32,
            };
            let at = HEADERS + infos * INFO;
            head[at..at + size_of::<PerPacketInfo>()].copy_from_slice(info.as_bytes());
            head[at + size_of::<PerPacketInfo>()..at + INFO].copy_from_slice(&value.to_le_bytes());
            infos += 1;
        };
        if let Some(tag) = tag {
            let vlan = VlanInfo(0).with_priority((tag >> 13) as u8).with_drop_eligible(tag >> 12 & 1 != 0);
            add(INFO_VLAN, vlan.with_vlan_id(tag & 0xfff).0);
        }
        if let Some(hash) = hash {
            add(INFO_HASH, hash);
        }
        let data_length = frame.len() - if tag.is_some() { TAG } else { 0 };
        let total = (FRAME_AT + data_length) as u32;
        let message = RndisHeader { message_type: RndisType::PACKET, length: total };
        let packet = PacketMessage {
            data_offset: (FRAME_AT - size_of::<RndisHeader>()) as u32,
            data_length: data_length as u32,
            info_offset: if infos > 0 { size_of::<PacketMessage>() as u32 } else { 0 },
            info_length: (infos * INFO) as u32,
            ..PacketMessage::new_zeroed()
        };
        head[..size_of::<RndisHeader>()].copy_from_slice(message.as_bytes());
        head[size_of::<RndisHeader>()..HEADERS].copy_from_slice(packet.as_bytes());
        *head_len = HEADERS + infos * INFO;
        buffer.write(base, &head[..*head_len]).ok()?;
        let at = base + FRAME_AT as u64;
        match tag {
            Some(_) => {
                buffer.write(at, &frame[..TAG_AT]).ok()?;
                buffer.write(at + TAG_AT as u64, &frame[TAG_AT + TAG..]).ok()?;
            }
            None => buffer.write(at, frame).ok()?,
        }
        Some(total)
    }

    /// Sends a control message to the guest. Returns false if the guest has left no room for it.
    pub(super) fn tell<P: Backend<Request>>(
        &mut self,
        message_type: RndisType,
        body: &[&[u8]],
        io: &mut Io<'_, P, Request>,
    ) -> bool {
        if self.receive.is_none() {
            return false;
        }
        let Some(section) = self.receive.take(true) else { return false };
        let len = size_of::<RndisHeader>() + body.iter().map(|part| part.len()).sum::<usize>();
        let filled = Filled { section, len: len as u32 };
        let header = RndisHeader { message_type, length: len as u32 };
        if io.is_observed() {
            let mut shown = [0; CONTENTS_BYTES];
            let parts = header.as_bytes().iter().chain(body.iter().copied().flatten());
            shown.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
            io.show_written(
                Channel::PRIMARY,
                0,
                part::CONTROL,
                len as u32,
                &shown[..len.min(CONTENTS_BYTES)],
            );
        }
        let written = io.buffer(self.receive.gpadl()).is_some_and(|buffer| {
            let mut at = u64::from(section) * u64::from(self.receive.size());
            core::iter::once(header.as_bytes()).chain(body.iter().copied()).all(|part| {
                let written = buffer.write(at, part).is_ok();
                at += part.len() as u64;
                written
            })
        });
        if !written || len as u32 > self.receive.size() || !self.receive.enqueue(filled) {
            self.receive.put_back(section);
            return false;
        }
        self.flush(io);
        true
    }

    /// Sends the answers that had to wait for room in the ring.
    fn flush<P: Backend<Request>>(&mut self, io: &mut Io<'_, P, Request>) {
        if !self.receive.batch.is_empty() {
            // The frames have their room already: answers must not take it.
            self.push_frames(io);
        }
        while let Some(Filled { section, len }) = self.receive.front() {
            let (id, range) = (self.receive.next_id(section), self.receive.range(section, len));
            match self.push(Channel::PRIMARY, id, &[range], CONTROL_CHANNEL, io) {
                Ok(()) => {
                    self.receive.dequeue();
                    self.receive.sent(&[section]);
                }
                Err(SendError::Full) => return,
                Err(_) => {
                    self.receive.dequeue();
                    self.receive.put_back(section);
                    self.wake(io);
                }
            }
        }
    }

    /// Sends a packet with messages in these sections.
    fn push<P: Backend<Request>>(
        &self,
        channel: Channel,
        id: u64,
        ranges: &[TransferPageRange],
        channel_type: u32,
        io: &mut Io<'_, P, Request>,
    ) -> Result<(), SendError> {
        let header = MessageHeader { message_type: MessageType::SEND_RNDIS_PACKET };
        let body = SendRndisPacket { channel_type, section_index: INVALID_INDEX, section_size: 0 };
        let mut payload = [0; PACKET_SIZE_6_1];
        payload[..size_of_val(&header)].copy_from_slice(header.as_bytes());
        payload[size_of_val(&header)..size_of_val(&header) + size_of_val(&body)]
            .copy_from_slice(body.as_bytes());
        let payload = &payload[..self.packet_size()];
        let message = Message { transaction: id, wants_completion: true };
        io.send_transfer_pages(channel, message, self.receive.id(), ranges, payload)
    }

    /// Handles the guest's completion of a message.
    pub(super) fn returned<P: Backend<Request>>(
        &mut self,
        channel: Channel,
        id: u64,
        io: &mut Io<'_, P, Request>,
    ) {
        if self.receive.returned(id) {
            self.attend(io);
        } else {
            // A guest that gave the buffer back completes messages of before.
            io.observe(channel, note::REFUSED, id);
        }
    }

    /// Does what had to wait for room.
    pub(super) fn attend<P: Backend<Request>>(&mut self, io: &mut Io<'_, P, Request>) {
        self.flush(io);
        if self.announce {
            let status = if self.shows_down() { Status::MEDIA_DISCONNECT } else { Status::MEDIA_CONNECT };
            let body = IndicateStatus { status, buffer_length: 0, buffer_offset: 0 };
            self.announce = !self.tell(RndisType::INDICATE_STATUS, &[body.as_bytes()], io);
        }
        self.wake(io);
    }

    /// Has the back end pass a frame again that had to wait. A guest that can no longer receive it gives no room, and
    /// the frames after it would wait as well.
    pub(super) fn wake<P: Backend<Request>>(&mut self, io: &Io<'_, P, Request>) {
        if core::mem::take(&mut self.hungry) {
            io.observe(Channel::PRIMARY, note::ROOM, 0);
        }
    }

    /// Returns true if the guest's filter lets a frame through.
    fn wants(&self, frame: &[u8]) -> bool {
        self.multicast.wants(self.filter, self.address, frame)
    }
}
