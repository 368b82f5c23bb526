//! A channel by hand: two rings in scratch pages, and the packets in them.

use core::mem::offset_of;

use hv_tlfs::status::HvStatus;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::{
    ChannelId, CloseChannel, GpadlId, MessageHeader, MessageType, NtStatus, OfferChannel, OpenChannel,
    OpenResult, PACKET_FLAG_COMPLETION_REQUESTED, PACKET_TRAILER_SIZE, PacketDescriptor, PacketType,
    RingHeader,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Cx;
use super::vmbus::{Bus, SINT};
use crate::outcome::{Outcome, Stop, equal, fail};

/// Data pages of a ring at most.
const MOST: usize = 4;
/// Bytes of a packet's payload that are kept.
const KEPT: usize = 640;
const PAGE: u32 = 4096;
const DESCRIPTOR: u32 = size_of::<PacketDescriptor>() as u32;

/// The GPADL of the first channel that a case opens.
pub(crate) const RINGS: GpadlId = GpadlId(0x1000);

/// A word of a ring's header.
#[derive(Clone, Copy)]
pub(crate) enum Word {
    Write = offset_of!(RingHeader, write_index) as isize,
    Read = offset_of!(RingHeader, read_index) as isize,
    Mask = offset_of!(RingHeader, interrupt_mask) as isize,
    Pending = offset_of!(RingHeader, pending_send_size) as isize,
    Features = offset_of!(RingHeader, features) as isize,
}

/// A ring: a page with its header, and pages with data.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    pub(crate) header: u64,
    data: [u64; MOST],
    pages: usize,
}

impl Ring {
    /// Returns the size of the data in bytes.
    pub(crate) const fn size(&self) -> u32 {
        self.pages as u32 * PAGE
    }

    /// Returns the offset `by` bytes after `at`.
    pub(crate) const fn advance(&self, at: u32, by: u32) -> u32 {
        (at + by) % self.size()
    }

    /// Calls `access` with the address of each part of `len` bytes at `at`, and its range in the whole.
    fn parts(&self, at: u32, len: usize, mut access: impl FnMut(u64, core::ops::Range<usize>)) {
        let mut done = 0;
        while done < len {
            let at = self.advance(at, done as u32);
            let part = (len - done).min((PAGE - at % PAGE) as usize);
            access(self.data[(at / PAGE) as usize] + u64::from(at % PAGE), done..done + part);
            done += part;
        }
    }
}

/// A packet from the host.
pub(crate) struct Packet {
    pub(crate) kind: PacketType,
    pub(crate) flags: u16,
    pub(crate) transaction: u64,
    /// Offset of the packet in the ring, and its length without the trailer.
    pub(crate) at: u32,
    pub(crate) len: u32,
    pub(crate) data_offset: u32,
    bytes: [u8; KEPT],
    kept: usize,
}

impl Packet {
    /// Returns the payload, as far as it is kept.
    pub(crate) fn payload(&self) -> &[u8] {
        let first = (self.data_offset - DESCRIPTOR) as usize;
        self.bytes[..self.kept].get(first..).unwrap_or_default()
    }

    /// Returns what lies between descriptor and payload.
    pub(crate) fn front(&self) -> &[u8] {
        &self.bytes[..self.kept.min((self.data_offset - DESCRIPTOR) as usize)]
    }

    /// Reads a structure at an offset of the payload.
    #[track_caller]
    pub(crate) fn get<T: FromBytes>(&self, at: usize) -> Result<T, Stop> {
        let bytes = self.payload().get(at..).unwrap_or_default();
        T::read_from_prefix(bytes).map(|(value, _)| value).map_err(|_| fail("the packet is whole"))
    }
}

/// Parameters with which a channel is opened.
#[derive(Clone, Copy)]
pub(crate) struct Opening {
    pub(crate) gpadl: GpadlId,
    /// VP that gets the interrupts, by its index.
    pub(crate) target_vp: u32,
    /// Data pages of the guest-to-host ring and of the host-to-guest ring.
    pub(crate) pages: [usize; 2],
}

/// An open channel.
pub(crate) struct Channel<'b, 'a, 'e> {
    pub(crate) bus: &'b Bus<'a, 'e>,
    pub(crate) id: ChannelId,
    /// Connection of the guest's signals.
    pub(crate) connection: u32,
    /// Event flag for the host's signals.
    pub(crate) flag: u16,
    pub(crate) gpadl: GpadlId,
    /// From the guest to the host.
    pub(crate) outgoing: Ring,
    /// From the host to the guest.
    pub(crate) incoming: Ring,
}

impl<'a, 'e> Bus<'a, 'e> {
    /// Returns the usual way to open a channel.
    pub(crate) fn opening(&self) -> Opening {
        Opening { gpadl: RINGS, target_vp: self.cx.index(self.synic.vp), pages: [1, 1] }
    }

    /// Returns a ring with this many data pages.
    #[track_caller]
    fn ring(&self, pages: usize) -> Result<Ring, Stop> {
        let mut ring = Ring { header: self.cx.page()?, data: [0; MOST], pages };
        for page in &mut ring.data[..pages] {
            *page = self.cx.page()?;
        }
        Ok(ring)
    }

    /// Creates two rings and their GPADL, which the host must take.
    #[track_caller]
    pub(crate) fn rings(
        &self,
        channel: ChannelId,
        gpadl: GpadlId,
        [outgoing, incoming]: [usize; 2],
    ) -> Result<(Ring, Ring), Stop> {
        let rings = (self.ring(outgoing)?, self.ring(incoming)?);
        let mut words = [0; 1 + 2 * (1 + MOST)];
        let mut count = 1;
        for ring in [&rings.0, &rings.1] {
            for page in [ring.header].iter().chain(&ring.data[..ring.pages]) {
                words[count] = page / u64::from(PAGE);
                count += 1;
            }
        }
        words[0] = (count as u64 - 1) * u64::from(PAGE);
        let status = self.create(channel, gpadl, 1, &words[..count])?;
        equal(status.0, 0, "the status of the rings' GPADL")?;
        Ok(rings)
    }

    /// Requests to open a channel, and returns the status of the answer.
    #[track_caller]
    pub(crate) fn ask_to_open(&self, request: &OpenChannel) -> Result<NtStatus, Stop> {
        self.say(request)?;
        let answer: OpenResult = self.expect(MessageType::OPEN_RESULT)?;
        equal(answer.channel.0, request.channel.0, "the channel that the answer names")?;
        equal(answer.open_id, request.open_id, "the open id that the answer names")?;
        Ok(answer.status)
    }

    /// Opens a channel with rings of its own.
    #[track_caller]
    pub(crate) fn open_as<'b>(
        &'b self,
        offer: &OfferChannel,
        opening: Opening,
    ) -> Result<Channel<'b, 'a, 'e>, Stop> {
        let rings = self.rings(offer.channel, opening.gpadl, opening.pages)?;
        let channel = self.channel(offer, opening.gpadl, rings);
        let status = self.ask_to_open(&channel.request(opening.target_vp))?;
        equal(status.0, 0, "the status of the channel's opening")?;
        Ok(channel)
    }

    /// Returns a channel with these rings, which is not open yet.
    pub(crate) fn channel<'b>(
        &'b self,
        offer: &OfferChannel,
        gpadl: GpadlId,
        (outgoing, incoming): (Ring, Ring),
    ) -> Channel<'b, 'a, 'e> {
        Channel {
            bus: self,
            id: offer.channel,
            connection: offer.connection,
            flag: offer.channel.0 as u16,
            gpadl,
            outgoing,
            incoming,
        }
    }

    /// Opens a channel in the usual way.
    #[track_caller]
    pub(crate) fn open<'b>(&'b self, offer: &OfferChannel) -> Result<Channel<'b, 'a, 'e>, Stop> {
        self.open_as(offer, self.opening())
    }

    /// Closes a channel, which the host does not answer.
    #[track_caller]
    pub(crate) fn close(&self, channel: ChannelId) -> Outcome {
        self.say(&CloseChannel { header: MessageHeader::new(MessageType::CLOSE_CHANNEL), channel })
    }
}

impl<'e> Channel<'_, '_, 'e> {
    fn cx(&self) -> &Cx<'e> {
        self.bus.cx
    }

    /// Returns OPENCHANNEL for this channel.
    pub(crate) fn request(&self, target_vp: u32) -> OpenChannel {
        OpenChannel {
            header: MessageHeader::new(MessageType::OPEN_CHANNEL),
            channel: self.id,
            open_id: 0x4f50_0000 | self.id.0,
            ring_gpadl: self.gpadl,
            target_vp,
            downstream_page_offset: 1 + self.outgoing.pages as u32,
            user_data: [0; 120],
        }
    }

    /// Closes the channel and takes its memory back.
    #[track_caller]
    pub(crate) fn end(&self) -> Outcome {
        self.bus.close(self.id)?;
        self.bus.teardown(self.id, self.gpadl)
    }

    /// Reads a word of a ring's header.
    pub(crate) fn word(&self, ring: &Ring, word: Word) -> u32 {
        self.cx().env.load(ring.header + word as u64)
    }

    /// Writes a word of a ring's header.
    pub(crate) fn set_word(&self, ring: &Ring, word: Word, value: u32) {
        self.cx().env.store(ring.header + word as u64, value);
    }

    /// Puts a packet into the ring without signalling the host. `front` lies between descriptor and payload.
    #[track_caller]
    pub(crate) fn put(
        &self,
        (kind, flags, transaction): (PacketType, u16, u64),
        front: &[u8],
        payload: &[u8],
    ) -> Outcome {
        let ring = &self.outgoing;
        let start = self.word(ring, Word::Write);
        let len = (DESCRIPTOR as usize + front.len() + payload.len()).next_multiple_of(8) as u32;
        let used = self.word(ring, Word::Write) + ring.size() - self.word(ring, Word::Read);
        if used % ring.size() + len + PACKET_TRAILER_SIZE >= ring.size() {
            return Err(fail("the guest's ring has room"));
        }
        let descriptor = PacketDescriptor {
            packet_type: kind,
            data_offset8: ((DESCRIPTOR as usize + front.len()) / 8) as u16,
            length8: (len / 8) as u16,
            flags,
            transaction_id: transaction,
        };
        let end = ring.advance(start, len);
        let trailer = u64::from(start) << 32;
        self.store(start, descriptor.as_bytes());
        self.store(ring.advance(start, DESCRIPTOR), front);
        self.store(ring.advance(start, DESCRIPTOR + front.len() as u32), payload);
        self.store(end, trailer.as_bytes());
        self.set_word(ring, Word::Write, ring.advance(end, PACKET_TRAILER_SIZE));
        Ok(())
    }

    /// Writes bytes into the guest's ring.
    pub(crate) fn store(&self, at: u32, bytes: &[u8]) {
        let env = self.cx().env;
        self.outgoing.parts(at, bytes.len(), |gpa, part| env.write(gpa, &bytes[part]));
    }

    /// Reads bytes of the host's ring.
    pub(crate) fn load(&self, at: u32, bytes: &mut [u8]) {
        let env = self.cx().env;
        self.incoming.parts(at, bytes.len(), |gpa, part| env.read(gpa, &mut bytes[part]));
    }

    /// Signals the host.
    pub(crate) fn signal(&self) -> HvStatus {
        self.cx().signal(self.connection, 0)
    }

    /// Signals the host, which must take it.
    #[track_caller]
    pub(crate) fn signalled(&self) -> Outcome {
        equal(self.signal(), HvStatus::SUCCESS, "the status of the signal")
    }

    /// Returns true if the host has written a packet.
    pub(crate) fn has_packet(&self) -> bool {
        self.word(&self.incoming, Word::Write) != self.word(&self.incoming, Word::Read)
    }

    /// Returns true if the channel's event flag is set.
    pub(crate) fn is_flagged(&self) -> bool {
        self.cx().flag(&self.bus.synic, SINT, self.flag)
    }

    /// Clears the channel's event flag, with its neighbours.
    pub(crate) fn clear_flag(&self) {
        self.cx().clear_flags(&self.bus.synic, SINT, self.flag);
    }

    /// Takes the next packet, if there is one.
    #[track_caller]
    pub(crate) fn poll(&self) -> Result<Option<Packet>, Stop> {
        let ring = &self.incoming;
        let (write, at) = (self.word(ring, Word::Write), self.word(ring, Word::Read));
        if write == at {
            return Ok(None);
        }
        let available = (write + ring.size() - at) % ring.size();
        let mut descriptor = PacketDescriptor {
            packet_type: PacketType(0),
            data_offset8: 0,
            length8: 0,
            flags: 0,
            transaction_id: 0,
        };
        self.load(at, descriptor.as_mut_bytes());
        let (len, data_offset) = (descriptor.len(), descriptor.data_offset());
        let fits = write < ring.size() && write.is_multiple_of(8) && len + PACKET_TRAILER_SIZE <= available;
        if !fits || data_offset < DESCRIPTOR || data_offset > len {
            return Err(fail("the host's packet lies within what it has written"));
        }
        let kept = KEPT.min((len - DESCRIPTOR) as usize);
        let mut packet = Packet {
            kind: descriptor.packet_type,
            flags: descriptor.flags,
            transaction: descriptor.transaction_id,
            at,
            len,
            data_offset,
            bytes: [0; KEPT],
            kept,
        };
        self.load(ring.advance(at, DESCRIPTOR), &mut packet.bytes[..kept]);
        self.set_word(ring, Word::Read, ring.advance(at, len + PACKET_TRAILER_SIZE));
        if self.word(ring, Word::Pending) != 0 {
            // The host waits for room: more signals than it needs do no harm.
            self.signalled()?;
        }
        Ok(Some(packet))
    }

    /// Waits for a packet to come into the ring.
    pub(crate) fn wait(&self, span: Option<ReferenceTime>) -> bool {
        let come = || {
            // A flag that stays set raises no interrupt.
            self.clear_flag();
            self.has_packet()
        };
        match span {
            Some(span) => self.cx().wait_for(span, come),
            None => self.cx().soon("", come).is_ok(),
        }
    }

    /// Waits for a packet without touching its flag, and without an interrupt that ends the wait.
    pub(crate) fn comes(&self) -> bool {
        (0..20_000).any(|_| {
            if !self.has_packet() {
                self.cx().pause(ReferenceTime(1_000));
            }
            self.has_packet()
        })
    }

    /// Takes the next packet, and waits for it.
    #[track_caller]
    pub(crate) fn receive(&self) -> Result<Packet, Stop> {
        if !self.wait(None) {
            return Err(fail("the host sends a packet"));
        }
        self.poll()?.ok_or_else(|| fail("the host's packet stays in the ring"))
    }

    /// Checks that no packet comes for a while.
    #[track_caller]
    pub(crate) fn silence(&self) -> Outcome {
        if self.wait(Some(ReferenceTime(2_000))) { Err(fail("the host sends no packet")) } else { Ok(()) }
    }

    /// Puts a packet with data in itself into the ring.
    #[track_caller]
    pub(crate) fn put_in_band<T: IntoBytes + Immutable + ?Sized>(
        &self,
        transaction: u64,
        completion: bool,
        payload: &T,
    ) -> Outcome {
        let flags = if completion { PACKET_FLAG_COMPLETION_REQUESTED } else { 0 };
        self.put((PacketType::DATA_IN_BAND, flags, transaction), &[], payload.as_bytes())
    }

    /// Sends a packet with data in itself, and signals.
    #[track_caller]
    pub(crate) fn send<T: IntoBytes + Immutable + ?Sized>(&self, transaction: u64, payload: &T) -> Outcome {
        self.put_in_band(transaction, false, payload)?;
        self.signalled()
    }

    /// Sends a packet that must be completed, and returns the completion.
    #[track_caller]
    pub(crate) fn ask<T: IntoBytes + Immutable + ?Sized>(
        &self,
        transaction: u64,
        payload: &T,
    ) -> Result<Packet, Stop> {
        self.put_in_band(transaction, true, payload)?;
        self.signalled()?;
        self.completion(transaction)
    }

    /// Takes the next packet, which must complete this one.
    #[track_caller]
    pub(crate) fn completion(&self, transaction: u64) -> Result<Packet, Stop> {
        let packet = self.receive()?;
        equal(u32::from(packet.kind.0), u32::from(PacketType::COMPLETION.0), "the packet is a completion")?;
        equal(packet.transaction, transaction, "the transaction id of the completion")?;
        Ok(packet)
    }
}
