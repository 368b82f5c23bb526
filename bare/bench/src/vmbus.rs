//! VMBus, as far as the measurements of devices need it: channels that are opened once, and packets that have an
//! answer.

use hv_guest::arch::Smccc;
use hv_guest::connection;
use hv_guest::page::{CallPage, Memory, Page};
use hv_guest::synic::{SintIndex, Synic};
use hv_tlfs::synic::{ConnectionId, MessageType as Kind};
use hv_tlfs::vmbus::{
    ChannelId, GpadlHeader, GpadlId, Guid, InitiateContact, MessageHeader, MessageType, OfferChannel,
    OpenChannel, PACKET_TRAILER_SIZE, PacketDescriptor, PacketType, TargetInfo, Version,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::gic::{acknowledge, end, take_pending};
use crate::measure::{counter, nops};
use crate::{MEMORY, PAGES};

/// Pages of each ring, the first of which has its indices.
const RING: usize = 8;
/// Bytes of a ring's data.
const DATA: usize = (RING - 1) * 4096;
/// Offers that are kept.
const OFFERS: usize = 4;

/// A ring to the host, and that from it.
pub(crate) type Rings = [Page; 2 * RING];

/// Returns empty rings.
pub(crate) const fn rings() -> Rings {
    [const { Page::new() }; 2 * RING]
}

/// A connection to VMBus.
pub(crate) struct Bus<'s> {
    synic: &'s Synic<'s, Smccc>,
    offers: [Option<OfferChannel>; OFFERS],
}

impl<'s> Bus<'s> {
    /// Connects, and asks for the offers.
    pub(crate) fn connect(synic: &'s Synic<'s, Smccc>) -> Self {
        let mut contact = InitiateContact::new_zeroed();
        contact.header = MessageHeader::new(MessageType::INITIATE_CONTACT);
        contact.version = Version::V5_3;
        contact.target_vp = synic.vp().index().0;
        contact.target_info = TargetInfo(0).with_sint(SintIndex::VMBUS.number());
        let mut bus = Self { synic, offers: [const { None }; OFFERS] };
        bus.post(contact.as_bytes());
        bus.await_message(MessageType::VERSION_RESPONSE, |_| ());
        bus.post(MessageHeader::new(MessageType::REQUEST_OFFERS).as_bytes());
        let (mut offers, mut count) = ([const { None }; OFFERS], 0);
        bus.await_message(MessageType::ALL_OFFERS_DELIVERED, |message| {
            if let Ok((found, _)) = OfferChannel::read_from_prefix(message)
                && found.header.message_type == MessageType::OFFER_CHANNEL
                && let Some(place) = offers.get_mut(count)
            {
                *place = Some(found);
                count += 1;
            }
        });
        bus.offers = offers;
        bus
    }

    /// Opens the first channel of a kind of devices. `None` if there is none.
    pub(crate) fn open(&self, interface: Guid, gpadl: GpadlId, rings: &'static Rings) -> Option<Channel<'s>> {
        let offer = self.offers.iter().flatten().find(|offer| offer.offer.interface == interface)?;
        let id = offer.channel;
        self.share(id, gpadl, rings);
        let open = OpenChannel {
            header: MessageHeader::new(MessageType::OPEN_CHANNEL),
            channel: id,
            open_id: id.0,
            ring_gpadl: gpadl,
            target_vp: self.synic.vp().index().0,
            downstream_page_offset: RING as u32,
            user_data: [0; 120],
        };
        self.post(open.as_bytes());
        self.await_message(MessageType::OPEN_RESULT, |_| ());
        let connection = ConnectionId(offer.connection);
        Some(Channel { synic: self.synic, id, connection, flag: id.0 as u16, rings, next: 0 })
    }

    /// Gives pages to a channel, as many as fit into one message.
    pub(crate) fn share(&self, channel: ChannelId, gpadl: GpadlId, pages: &[Page]) {
        let mut list = [0; size_of::<GpadlHeader>() + 8 + 2 * RING * 8];
        let header = GpadlHeader {
            header: MessageHeader::new(MessageType::GPADL_HEADER),
            channel,
            gpadl,
            range_buffer_len: (pages.len() as u16 + 1) * 8,
            range_count: 1,
        };
        let (head, range) = list.split_at_mut(size_of::<GpadlHeader>());
        head.copy_from_slice(header.as_bytes());
        range[..8].copy_from_slice(&(pages.len() as u64 * 4096).to_le_bytes());
        for (place, page) in range[8..].chunks_exact_mut(8).zip(pages) {
            place.copy_from_slice(&(MEMORY.gpa(page) / 4096).to_le_bytes());
        }
        self.post(&list[..size_of::<GpadlHeader>() + 8 + pages.len() * 8]);
        self.await_message(MessageType::GPADL_CREATED, |_| ());
    }

    fn post(&self, message: &[u8]) {
        let mut page = CallPage::new(&PAGES[4], &MEMORY);
        connection::post_message(self.synic, &mut page, ConnectionId(4), Kind(1), message)
            .expect("VMBus takes messages");
    }

    /// Passes VMBus's messages to `each`, up to one of a kind.
    fn await_message(&self, kind: MessageType, mut each: impl FnMut(&[u8])) {
        loop {
            end(acknowledge());
            while let Some(pending) = self.synic.pending(SintIndex::VMBUS) {
                let message = pending.read().expect("a message");
                let _ = self.synic.end(pending);
                each(message.payload());
                let head = MessageHeader::read_from_prefix(message.payload());
                if head.is_ok_and(|(head, _)| head.message_type == kind) {
                    return;
                }
            }
        }
    }
}

/// An open channel.
pub(crate) struct Channel<'s> {
    synic: &'s Synic<'s, Smccc>,
    pub(crate) id: ChannelId,
    connection: ConnectionId,
    flag: u16,
    rings: &'static Rings,
    /// Where the next packet goes.
    next: usize,
}

impl Channel<'_> {
    /// Puts a packet into the ring, and returns the ticks from the signal to the completion's interrupt and the packet
    /// after it.
    #[inline(always)]
    pub(crate) fn execute(&mut self, packet: &[u8], delay: u64) -> u64 {
        self.put(packet);
        let down = &self.rings[RING];
        let before = down.load_u32(0);
        let start = counter();
        let _ = connection::signal_event(&Smccc, self.connection, 0);
        end(acknowledge());
        let signalled = self.synic.take_event(SintIndex::VMBUS, self.flag);
        let written = down.load_u32(0);
        nops(delay);
        let ticks = counter() - start;
        assert!(signalled && written != before, "the device has not answered");
        let _ = down.store_u32(4, written.unwrap_or_default());
        ticks
    }

    /// Puts a packet into the ring.
    #[inline(always)]
    fn put(&mut self, packet: &[u8]) {
        let up = &self.rings[..RING];
        for (word, at) in packet.chunks_exact(8).zip((self.next..).step_by(8)) {
            let at = at % DATA;
            up[1 + at / 4096].write(at % 4096, word);
        }
        self.next = (self.next + packet.len()) % DATA;
        let _ = up[0].store_u32(0, self.next as u32);
    }

    /// Sends a packet whose answer, if it has one, is [drained](Self::drain) later.
    pub(crate) fn send(&mut self, packet: &[u8]) {
        self.put(packet);
        let _ = connection::signal_event(&Smccc, self.connection, 0);
    }

    /// Takes the packets that are in the ring from the host, by type and id.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(PacketType, u64)) {
        let down = &self.rings[RING..];
        let index = |at: usize| down[0].load_u32(at).unwrap_or_default() as usize;
        let (written, mut read) = (index(0), index(4));
        while read != written {
            let mut bytes = [0; size_of::<PacketDescriptor>()];
            for (word, at) in bytes.chunks_exact_mut(8).zip((read..).step_by(8)) {
                let at = at % DATA;
                down[1 + at / 4096].read(at % 4096, word);
            }
            let packet = PacketDescriptor::read_from_bytes(&bytes).expect("any bytes are one");
            each(packet.packet_type, packet.transaction_id);
            read = (read + usize::from(packet.length8) * 8 + PACKET_TRAILER_SIZE as usize) % DATA;
        }
        let _ = down[0].store_u32(4, read as u32);
        take_pending();
        let _ = self.synic.take_event(SintIndex::VMBUS, self.flag);
    }
}

/// Builds a packet that lists `len` bytes of a page, as it stands in a ring: 48 bytes more than its payload.
pub(crate) fn packet<const LEN: usize>(payload: &[u8], page: &Page, len: u32) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    // GPA direct; offset of the payload and length of the packet in 8 bytes; a completion is wanted.
    let length = (40 + payload.len()) / 8;
    for (at, half) in [9, 5, length as u16, 1].into_iter().enumerate() {
        bytes[at * 2..at * 2 + 2].copy_from_slice(&half.to_le_bytes());
    }
    bytes[8] = 7;
    bytes[20] = 1;
    bytes[24..28].copy_from_slice(&len.to_le_bytes());
    bytes[32..40].copy_from_slice(&(MEMORY.gpa(page) / 4096).to_le_bytes());
    bytes[40..40 + payload.len()].copy_from_slice(payload);
    bytes
}
