//! A read of a disk: from the signal to the completion.

use hv_guest::arch::Smccc;
use hv_guest::connection;
use hv_guest::page::{CallPage, Memory, Page};
use hv_guest::synic::{SintIndex, Synic};
use hv_tlfs::synic::{ConnectionId, MessageType as Kind};
use hv_tlfs::vmbus::storage::{Operation, Packet, ScsiRequest};
use hv_tlfs::vmbus::{
    GpadlHeader, GpadlId, InitiateContact, MessageHeader, MessageType, OfferChannel, OpenChannel, TargetInfo,
    Version, guid,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::gic::{acknowledge, end};
use crate::measure::{Bench, counter, nops};
use crate::{MEMORY, PAGES};

/// Pages of each ring, the first of which has its indices.
const RING: usize = 8;
/// Bytes of a ring's data: a multiple of those of a read's packet, so that none goes around the end.
const DATA: usize = (RING - 1) * 4096;
const READ: usize = 112;
const _: () = assert!(DATA.is_multiple_of(READ));

/// The ring to the host, and that from it.
static RINGS: [Page; 2 * RING] = [const { Page::new() }; 2 * RING];
static BUFFER: Page = Page::new();

/// An open channel of a SCSI controller.
struct Disk<'s> {
    synic: &'s Synic<'s, Smccc>,
    connection: ConnectionId,
    flag: u16,
    /// Where the next packet goes.
    next: usize,
}

pub(crate) fn run(bench: &Bench, synic: &Synic<'_, Smccc>) {
    // The figure without the copy comes from these two.
    if !bench.wants("disk-read") && !bench.wants("disk-read-512") {
        return;
    }
    let Some(mut disk) = Disk::open(synic) else {
        rt::println!("there is no disk");
        return;
    };
    for (name, blocks) in [("disk-read", 8u8), ("disk-read-512", 1)] {
        let packet = read(blocks);
        bench.latency(name, 40, || disk.execute(&packet, bench.delay()));
    }
}

impl<'s> Disk<'s> {
    /// Connects to VMBus, and opens the first SCSI controller. `None` if there is none.
    fn open(synic: &'s Synic<'s, Smccc>) -> Option<Self> {
        let mut contact = InitiateContact::new_zeroed();
        contact.header = MessageHeader::new(MessageType::INITIATE_CONTACT);
        contact.version = Version::V5_3;
        contact.target_vp = synic.vp().index().0;
        contact.target_info = TargetInfo(0).with_sint(SintIndex::VMBUS.number());
        post(synic, contact.as_bytes());
        await_message(synic, MessageType::VERSION_RESPONSE, |_| ());
        post(synic, MessageHeader::new(MessageType::REQUEST_OFFERS).as_bytes());
        let mut offer = None;
        await_message(synic, MessageType::ALL_OFFERS_DELIVERED, |message| {
            if let Ok((found, _)) = OfferChannel::read_from_prefix(message)
                && found.header.message_type == MessageType::OFFER_CHANNEL
                && found.offer.interface == guid::SCSI
            {
                offer = Some((found.channel, found.connection));
            }
        });
        let (channel, connection) = offer?;
        let header = GpadlHeader {
            header: MessageHeader::new(MessageType::GPADL_HEADER),
            channel,
            gpadl: GpadlId(1),
            range_buffer_len: (2 * RING as u16 + 1) * 8,
            range_count: 1,
        };
        let mut list = [0; size_of::<GpadlHeader>() + 8 + 2 * RING * 8];
        let (head, range) = list.split_at_mut(size_of::<GpadlHeader>());
        head.copy_from_slice(header.as_bytes());
        range[..8].copy_from_slice(&(2 * RING as u64 * 4096).to_le_bytes());
        for (place, page) in range[8..].chunks_exact_mut(8).zip(&RINGS) {
            place.copy_from_slice(&(MEMORY.gpa(page) / 4096).to_le_bytes());
        }
        post(synic, &list);
        await_message(synic, MessageType::GPADL_CREATED, |_| ());
        let open = OpenChannel {
            header: MessageHeader::new(MessageType::OPEN_CHANNEL),
            channel,
            open_id: channel.0,
            ring_gpadl: GpadlId(1),
            target_vp: synic.vp().index().0,
            downstream_page_offset: RING as u32,
            user_data: [0; 120],
        };
        post(synic, open.as_bytes());
        await_message(synic, MessageType::OPEN_RESULT, |_| ());
        let mut disk = Self { synic, connection: ConnectionId(connection), flag: channel.0 as u16, next: 0 };
        // BEGIN_INITIALIZATION, QUERY_PROTOCOL_VERSION, QUERY_PROPERTIES, END_INITIALIZATION.
        for (operation, word) in [(7, 0), (9, 0x0602), (10, 0), (8, 0u16)] {
            let mut vstor = Packet::new_zeroed();
            vstor.header.operation = Operation(operation);
            vstor.header.flags = 1;
            vstor.body[..2].copy_from_slice(&word.to_le_bytes());
            disk.execute(&packet(&vstor, 512), 0);
        }
        Some(disk)
    }

    /// Puts a packet into the ring, and returns the ticks from the signal to the completion's interrupt and the packet
    /// behind it.
    #[inline(always)]
    fn execute(&mut self, packet: &[u8; READ], delay: u64) -> u64 {
        let up = &RINGS[..RING];
        for (word, at) in packet.chunks_exact(8).zip((self.next..).step_by(8)) {
            up[1 + at / 4096].write(at % 4096, word);
        }
        self.next = (self.next + READ) % DATA;
        let _ = up[0].store_u32(0, self.next as u32);
        let down = &RINGS[RING];
        let before = down.load_u32(0);
        let start = counter();
        let _ = connection::signal_event(&Smccc, self.connection, 0);
        end(acknowledge());
        let signalled = self.synic.take_event(SintIndex::VMBUS, self.flag);
        let written = down.load_u32(0);
        nops(delay);
        let ticks = counter() - start;
        assert!(signalled && written != before, "the disk has not answered");
        let _ = down.store_u32(4, written.unwrap_or_default());
        ticks
    }
}

/// A packet with a page of data, as it stands in the ring.
fn packet(vstor: &Packet, len: u32) -> [u8; READ] {
    let mut bytes = [0; READ];
    // GPA direct; offset of the data and length of the packet in 8 bytes; a completion is wanted.
    for (at, half) in [9u16, 5, 13, 1].into_iter().enumerate() {
        bytes[at * 2..at * 2 + 2].copy_from_slice(&half.to_le_bytes());
    }
    bytes[8] = 7;
    bytes[20] = 1;
    bytes[24..28].copy_from_slice(&len.to_le_bytes());
    bytes[32..40].copy_from_slice(&(MEMORY.gpa(&BUFFER) / 4096).to_le_bytes());
    bytes[40..104].copy_from_slice(vstor.as_bytes());
    bytes
}

/// READ(10) of the disk's first blocks.
fn read(blocks: u8) -> [u8; READ] {
    let len = u32::from(blocks) * 512;
    let mut request = ScsiRequest::new_zeroed();
    request.length = size_of::<ScsiRequest>() as u16;
    request.cdb_length = 10;
    request.sense_length = 20;
    request.direction = 1;
    request.transfer_length = len;
    request.cdb_or_sense[..10].copy_from_slice(&[0x28, 0, 0, 0, 0, 0, 0, 0, blocks, 0]);
    let mut vstor = Packet::new_zeroed();
    vstor.header.operation = Operation::EXECUTE_SRB;
    vstor.header.flags = 1;
    vstor.body.copy_from_slice(request.as_bytes());
    packet(&vstor, len)
}

fn post(synic: &Synic<'_, Smccc>, message: &[u8]) {
    let mut page = CallPage::new(&PAGES[4], &MEMORY);
    connection::post_message(synic, &mut page, ConnectionId(4), Kind(1), message)
        .expect("VMBus takes messages");
}

/// Passes VMBus's messages to `each`, up to one of a kind.
fn await_message(synic: &Synic<'_, Smccc>, kind: MessageType, mut each: impl FnMut(&[u8])) {
    loop {
        end(acknowledge());
        while let Some(pending) = synic.pending(SintIndex::VMBUS) {
            let message = pending.read().expect("a message");
            let _ = synic.end(pending);
            each(message.payload());
            let head = MessageHeader::read_from_prefix(message.payload());
            if head.is_ok_and(|(head, _)| head.message_type == kind) {
                return;
            }
        }
    }
}
