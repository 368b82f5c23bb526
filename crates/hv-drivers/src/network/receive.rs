//! What arrives: messages in the receive buffer, and completions.

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::nvsp::{
    MAX_RANGES, MessageHeader as NvspHeader, MessageType as NvspType, RECEIVE_BUFFER_ID,
    SendRndisPacketComplete, Status as NvspStatus,
};
use hv_tlfs::vmbus::rndis::{MessageHeader, MessageType, PacketMessage, ReceiveChecksum};
use hv_tlfs::vmbus::{PacketType, TransferPageRange};
use hv_vmbus_client::{Dma, Event};
use zerocopy::{FromBytes, IntoBytes};

use super::initialize::State;
use super::message::{self, HEADER};
use super::{Card, Checksums, ETHERNET_HEADER, Error, PACKET, Tag};
use crate::aligned::Aligned;

/// The answer to a packet of messages: it is not padded (Linux 6.12, drivers/net/hyperv/netvsc.c).
const ANSWER: Aligned<[u32; 2]> = Aligned([NvspType::SEND_RNDIS_PACKET_COMPLETE.0, NvspStatus::SUCCESS.0]);
/// Bytes that a completion takes in the ring, with some to spare.
const COMPLETION: u32 = 64;
/// Ranges of a packet at most: Hyper-V sends no more.
const RANGES: usize = MAX_RANGES as usize;
/// Bytes of a control message that are read: the answers that are waited for are shorter.
const CONTROL: usize = 256;
/// Bytes of information about a frame that are read.
const INFOS: usize = 256;
/// A VLAN tag in a frame: its type, and where it is.
const TAG_TYPE: [u8; 2] = [0x81, 0];
const TAG_AT: usize = 12;
const TAG: usize = 4;

/// What a message begins with, if it has a frame, as whole words: read at once. Of another message the header alone is
/// looked at; the rest is read when it is known to be one.
#[derive(FromBytes, IntoBytes)]
#[repr(C)]
struct Head {
    header: MessageHeader,
    packet: PacketMessage,
    behind: u32,
}

/// A packet whose messages are being taken.
pub(super) struct Arrived {
    ranges: [TransferPageRange; RANGES],
    count: usize,
    next: usize,
    /// The packet's id, until it is completed.
    transaction: Option<u64>,
}

impl Arrived {
    pub(super) const fn new() -> Self {
        let none = TransferPageRange { byte_count: 0, byte_offset: 0 };
        Self { ranges: [none; RANGES], count: 0, next: 0, transaction: None }
    }

    /// Returns the next range; `None` after the last one.
    fn take(&mut self) -> Option<TransferPageRange> {
        let range = self.ranges.get(..self.count)?.get(self.next)?;
        self.next += 1;
        Some(*range)
    }
}

impl<D: Dma, C: Conduit> Card<'_, D, C> {
    /// Copies the next frame, and returns its length.
    pub(super) fn next_frame(&mut self, into: &mut [u8]) -> Result<Option<usize>, Error> {
        loop {
            while let Some(range) = self.arrived.take() {
                if let Some(len) = self.message(range, into) {
                    self.counts.received += 1;
                    return Ok(Some(len));
                }
            }
            if !self.advance()? {
                return self.is_ready().map(|_| None);
            }
        }
    }

    /// Takes one event from the host. Returns false if there is none.
    fn advance(&mut self) -> Result<bool, Error> {
        if !self.settle()? {
            return Ok(false);
        }
        if let State::Send(_) = self.state {
            self.send_steps()?;
        }
        let mut payload = Aligned([0; PACKET]);
        let Arrived { ranges, count, next, .. } = &mut self.arrived;
        (*count, *next) = (0, 0);
        let event = self.queue.next_with(&mut payload.0, |set, range| {
            // Ranges of another set are not messages; what has no place is lost, as if the network had lost it.
            if let Some(place) = ranges.get_mut(*count).filter(|_| set == RECEIVE_BUFFER_ID) {
                *place = range;
                *count += 1;
            }
        })?;
        match event {
            None => return Ok(false),
            Some(Event::Completed { tag, data, payload }) => {
                if let Some(data) = data {
                    self.control = Some(data.pages);
                }
                self.completed(tag, payload);
            }
            Some(Event::Packet { kind, transaction, payload, .. }) => {
                if kind == PacketType::DATA_USING_TRANSFER_PAGES {
                    self.arrived.transaction = Some(transaction);
                }
                // Anything else is nothing that this driver has asked for, and is completed at most.
                let header = NvspHeader::read_from_prefix(payload);
                if !header.is_ok_and(|(header, _)| header.message_type == NvspType::SEND_RNDIS_PACKET) {
                    self.arrived.count = 0;
                }
            }
        }
        Ok(true)
    }

    /// Completes the packet whose messages were taken: its sections are the host's again. Returns false if there is no
    /// room for that: the host was asked for a signal, and the call has to end. A commit gives the host room for more
    /// packets, so a host that continues to fill both rings would hold a call that commits and reads on forever.
    fn settle(&mut self) -> Result<bool, Error> {
        let Some(transaction) = self.arrived.transaction else { return Ok(true) };
        loop {
            match self.queue.complete(transaction, ANSWER.0.as_bytes()) {
                // A signal that failed does not take the packet out of the ring.
                Ok(()) | Err(hv_vmbus_client::Error::Post(_)) => {
                    self.arrived.transaction = None;
                    return Ok(true);
                }
                Err(error) if error.may_retry() => {
                    if !self.queue.to_host().wait_for(COMPLETION)? {
                        // The host may wait for the room of what was read.
                        self.queue.from_host().commit()?;
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn completed(&mut self, tag: Tag, payload: &[u8]) {
        match tag {
            Tag::Step(step) => self.step_completed(step, payload),
            Tag::Control => {
                if let Err(error) = rndis_status(payload) {
                    self.control_failed(error);
                }
            }
            Tag::Frame(section) => {
                self.free |= 1 << section;
                self.counts.send_errors += u64::from(rndis_status(payload).is_err());
            }
        }
    }

    /// Takes a message of the receive buffer. Returns the length of its frame, if it has one that fits.
    fn message(&mut self, range: TransferPageRange, into: &mut [u8]) -> Option<usize> {
        let (at, room) = (range.byte_offset as usize, range.byte_count);
        let end = u64::from(range.byte_offset) + u64::from(room);
        let Head { header, packet, .. } = self.read(at);
        // After the buffer there are zeros, which are too short for a message.
        if end > self.receive_len() || header.length > room || (header.length as usize) < HEADER {
            self.counts.receive_drops += 1;
            return None;
        }
        if header.message_type == MessageType::PACKET {
            let len = self.frame(at, header.length, &packet, into);
            if len.is_none() {
                self.counts.receive_drops += 1;
                // It was about a frame that was dropped.
                self.verdict = ReceiveChecksum(0);
            }
            return len;
        }
        self.control_at(at, header);
        None
    }

    /// Reads a control message, and takes it.
    // Seldom: not part of what each frame passes through.
    #[inline(never)]
    fn control_at(&mut self, at: usize, header: MessageHeader) {
        let mut bytes = Aligned([0; CONTROL]);
        let len = (header.length as usize).saturating_sub(HEADER);
        let (body, _) = bytes.0.split_at_mut(len.min(CONTROL));
        self.buffers.receive.read(at + HEADER, body);
        self.control_message(header.message_type, body);
    }

    /// Copies the frame of the message at an offset of the receive buffer, with its VLAN tag where it has one.
    fn frame(&mut self, at: usize, length: u32, packet: &PacketMessage, into: &mut [u8]) -> Option<usize> {
        let (offset, len) = message::frame(length, packet)?;
        let mut tag = None;
        if let Some((offset, len)) = message::infos(length, packet) {
            let mut infos = Aligned([0; INFOS]);
            // Behind what is read there may be a tag, without which the frame belongs to another network.
            let infos = infos.0.get_mut(..len)?;
            self.buffers.receive.read(at + offset, infos);
            if self.checksums != Checksums::NONE {
                self.verdict = message::checksum(infos).unwrap_or(ReceiveChecksum(0));
            }
            tag = message::vlan(infos);
        }
        if len < ETHERNET_HEADER {
            return None;
        }
        let Some(tag) = tag else {
            self.buffers.receive.read(at + offset, into.get_mut(..len)?);
            return Some(len);
        };
        let into = into.get_mut(..len + TAG)?;
        let (addresses, rest) = into.split_at_mut(TAG_AT);
        let (place, rest) = rest.split_at_mut(TAG);
        self.buffers.receive.read(at + offset, addresses);
        self.buffers.receive.read(at + offset + TAG_AT, rest);
        let control = u16::from(tag.priority()) << 13 | u16::from(tag.drop_eligible()) << 12 | tag.vlan_id();
        let (kind, value) = place.split_at_mut(TAG_TYPE.len());
        kind.copy_from_slice(&TAG_TYPE);
        value.copy_from_slice(&control.to_be_bytes());
        Some(len + TAG)
    }

    fn receive_len(&self) -> u64 {
        (self.buffers.receive.pages().len() * hv_tlfs::page::SIZE) as u64
    }

    /// Reads a value from the receive buffer, once.
    fn read<T: FromBytes + IntoBytes>(&self, at: usize) -> T {
        let mut value = Aligned(T::new_zeroed());
        self.buffers.receive.read(at, value.0.as_mut_bytes());
        value.0
    }
}

/// Returns the status of a completed RNDIS packet.
fn rndis_status(payload: &[u8]) -> Result<(), Error> {
    let (header, body) = NvspHeader::read_from_prefix(payload).map_err(|_| Error::Malformed)?;
    let (answer, _) = SendRndisPacketComplete::read_from_prefix(body).map_err(|_| Error::Malformed)?;
    match answer.status {
        _ if header.message_type != NvspType::SEND_RNDIS_PACKET_COMPLETE => Err(Error::Malformed),
        NvspStatus::SUCCESS => Ok(()),
        status => Err(Error::Refused(status)),
    }
}
