//! What the client posts, byte by byte, and hosts that this project has none of.

use std::task::Poll;

use hv_testbed::RAM_BASE;
use hv_testbed::scripted::ScriptedHost;
use hv_tlfs::status::HvStatus;
use hv_tlfs::vmbus::{ChannelId, Guid, Version};
use hv_tlfs::vp::VpIndex;
use hv_vmbus_client::ring::{Outgoing, Sender};
use hv_vmbus_client::{
    Buffer, Channel, Client, Contact, Error, Event, FLOOD, Notice, Open, PageRun, Queue, Slots,
};

pub(crate) const DEVICE: Guid = Guid::new(1, 2, 3, [4; 8]);

type ScriptedClient<'h> = Client<'h, &'h ScriptedHost>;
type ScriptedChannel<'h> = Channel<'h, hv_testbed::scripted::ScriptedDma<'h>, &'h ScriptedHost>;

/// Builds a message of this type with these words after the header.
pub(crate) fn message(kind: u32, words: &[u32]) -> Vec<u8> {
    [kind, 0].iter().chain(words).flat_map(|word| word.to_le_bytes()).collect()
}

/// Builds OFFERCHANNEL: number, whether it has a connection of its own, and that.
pub(crate) fn offer(channel: u32, dedicated: u8, connection: u32) -> Vec<u8> {
    let mut offer = message(1, &[0; 47]);
    offer[8..24].copy_from_slice(&DEVICE.bytes);
    offer[184..188].copy_from_slice(&channel.to_le_bytes());
    offer[190] = dedicated;
    offer[192..196].copy_from_slice(&connection.to_le_bytes());
    offer
}

/// Returns the answer to a message from the guest, if it has one, of a host that grants everything.
pub(crate) fn answer(posted: &[u8]) -> Option<Vec<u8>> {
    let word = |n: usize| u32::from_le_bytes(posted[n..n + 4].try_into().unwrap());
    Some(match word(0) {
        3 => message(4, &[]),
        5 => message(6, &[word(8), word(12), 0]),
        8 => message(10, &[word(8), word(12), 0]),
        11 => message(12, &[word(12)]),
        14 => message(15, &[1, 4, 0]),
        16 => message(17, &[]),
        _ => return None,
    })
}

/// Answers what the guest has posted as a host does that grants everything.
pub(crate) fn grant<'h>(
    host: &'h ScriptedHost,
) -> impl FnMut(&mut Client<'_, &'h ScriptedHost>) -> Result<(), Error> + use<'h> {
    move |client| {
        let posted = host.take_posted();
        for answer in posted.iter().filter_map(|(_, posted)| answer(posted)) {
            client.take(&answer);
        }
        if posted.is_empty() { Err(Error::TimedOut) } else { Ok(()) }
    }
}

/// Creates a client of this version with a channel 3 that is open.
fn opened<'h>(host: &'h ScriptedHost, slots: &'h Slots<2, 4>) -> (ScriptedClient<'h>, ScriptedChannel<'h>) {
    opened_with(host, slots, 2)
}

/// Opens one with rings of `ring` pages each.
fn opened_with<'h>(
    host: &'h ScriptedHost,
    slots: &'h Slots<2, 4>,
    ring: usize,
) -> (ScriptedClient<'h>, ScriptedChannel<'h>) {
    let mut client = host.client(slots.lend().unwrap());
    client.connect(Contact::new(VpIndex(0)), &mut grant(host)).unwrap();
    assert_eq!(client.take(&offer(3, 1, 0x2003)), Notice::Offered(ChannelId(3)));
    let offer = client.find(DEVICE).unwrap();
    let channel =
        client.open_channel(&offer, ring, Open::on(VpIndex(0)), &host.dma(), &mut grant(host)).unwrap();
    host.take_posted();
    (client, channel)
}

/// Returns the ring from the host, whose pages follow the client's page and the ring to it.
fn host_end(host: &ScriptedHost) -> (&[hv_guest::page::Page], Sender) {
    let ring = &host.pages()[3..5];
    (ring, Sender::new(ring).unwrap())
}

#[test]
fn contact_says_what_each_version_has_a_field_for() {
    for (version, connection, field) in [
        (Version::V3_0, 1, RAM_BASE + 0x1000),
        (Version::V4_1, 1, RAM_BASE + 0x1000),
        (Version::V5_0, 4, 2),
        (Version::V5_3, 4, 2),
        (Version::V6_0, 4, 2 | 1 << 32),
    ] {
        let host = ScriptedHost::new(4);
        let slots = Slots::<1, 1>::new();
        let mut client = host.client(slots.lend().unwrap());
        // Leaked, as a page must live forever that a host was told of.
        let page: &'static hv_guest::page::Page = Box::leak(Box::new(hv_guest::page::Page::new()));
        let contact = Contact::new(VpIndex(7)).with_versions(version, version);
        let contact = contact.with_features(hv_tlfs::vmbus::FeatureFlags(u32::MAX));
        client.contact(contact.with_interrupt_page(page, &Fixed(RAM_BASE + 0x1000))).unwrap();
        let mut expected = message(14, &[version.0, 7]);
        expected.extend(field.to_le_bytes());
        expected.extend([0; 16]);
        assert_eq!(host.take_posted(), [(connection, expected)], "{version}");
    }
}

/// A page at an address of the test's choice: no host ever writes to it.
struct Fixed(u64);

// SAFETY: the address is told to a scripted host alone, which accesses no memory.
#[expect(unsafe_code, reason = "vouches for a host that accesses nothing")]
unsafe impl hv_guest::page::Memory for Fixed {
    fn gpa(&self, _: &hv_guest::page::Page) -> u64 {
        self.0
    }
}

#[test]
fn versions_are_proposed_from_the_newest_down_and_old_hosts_lack_a_connection() {
    let host = ScriptedHost::new(4);
    let slots = Slots::<1, 1>::new();
    let mut client = host.client(slots.lend().unwrap());
    client.contact(Contact::new(VpIndex(0))).unwrap();
    let mut proposed = Vec::new();
    while client.poll_contact().is_pending() {
        for (connection, posted) in host.take_posted() {
            proposed.push((connection, Version(u32::from_le_bytes(posted[8..12].try_into().unwrap()))));
        }
        client.take(&message(15, &[0, 0]));
    }
    assert_eq!(client.poll_contact(), Poll::Ready(Err(Error::NoVersion)));
    let versions: Vec<_> = proposed.iter().map(|(_, version)| *version).collect();
    assert_eq!(versions, Version::ALL.into_iter().rev().collect::<Vec<_>>());
    assert!(proposed.iter().all(|(c, v)| *c == if *v >= Version::V5_0 { 4 } else { 1 }));
    // Connection 4 does not exist: versions from 5.0 on are passed over without an answer, and an unload finds the
    // other.
    host.remove_connection(4);
    client.unload().unwrap();
    assert_eq!(host.take_posted(), [(1, message(16, &[]))]);
    client.take(&message(17, &[]));
    client.contact(Contact::new(VpIndex(0))).unwrap();
    let (connection, posted) = host.take_posted().remove(0);
    assert_eq!((connection, &posted[8..12]), (1, &Version::V4_1.0.to_le_bytes()[..]));
    client.unload().unwrap();
    client.take(&message(17, &[]));
    host.remove_connection(1);
    host.set_status(HvStatus::INVALID_CONNECTION_ID);
    assert_eq!(client.contact(Contact::new(VpIndex(0))), Ok(()));
    assert_eq!(client.poll_contact(), Poll::Ready(Err(Error::NoVersion)));
    host.remove_connection(0);
    // A host that accepts and refuses at once, and one whose connection for messages is none.
    host.set_status(HvStatus(0));
    for (state, connection, error) in
        [(1, 4, Error::Contact(hv_tlfs::vmbus::ConnectionState::LOW_RESOURCES)), (0, 0, Error::Malformed)]
    {
        client.contact(Contact::new(VpIndex(0))).unwrap();
        assert_eq!(client.take(&message(15, &[1 | state << 8, connection])), Notice::Contact);
        assert_eq!(client.poll_contact(), Poll::Ready(Err(error)));
        assert_eq!(client.request_offers(), Err(Error::NotConnected));
    }
}

#[test]
fn contact_names_its_vp_and_source_in_the_versions_that_have_a_field_for_it() {
    let host = ScriptedHost::new(4);
    let slots = Slots::<1, 1>::new();
    let mut client = host.client(slots.lend().unwrap());
    let sint = hv_guest::synic::SintIndex::new(5).unwrap();
    client.contact(Contact::new(VpIndex(1)).with_sint(sint)).unwrap();
    let mut proposed = Vec::new();
    while client.poll_contact().is_pending() {
        proposed.extend(host.take_posted());
        client.take(&message(15, &[0, 0]));
    }
    // Older ones have the address of a page where these have the source, and the host would use the usual one.
    let newer = Version::ALL.into_iter().rev().filter(|version| *version >= Version::V5_0);
    let expected = newer.map(|version| (4, message(14, &[version.0, 1, 5, 0, 0, 0, 0, 0])));
    assert_eq!(proposed, expected.collect::<Vec<_>>());
    assert_eq!(client.poll_contact(), Poll::Ready(Err(Error::NoVersion)));
    // A host that serves the source.
    client.disconnect(&mut grant(&host)).unwrap();
    let contact = Contact::new(VpIndex(1)).with_sint(sint);
    assert_eq!(client.connect(contact, &mut grant(&host)), Ok(Version::V6_0));
}

#[test]
fn messages_go_to_the_connection_that_the_host_names() {
    let host = ScriptedHost::new(4);
    let slots = Slots::<1, 1>::new();
    let mut client = host.client(slots.lend().unwrap());
    client.contact(Contact::new(VpIndex(0))).unwrap();
    client.take(&message(15, &[1, 0x1234, 0]));
    host.take_posted();
    client.request_offers().unwrap();
    client.unload().unwrap();
    assert_eq!(host.take_posted(), [(0x1234, message(3, &[])), (0x1234, message(16, &[]))]);
}

#[test]
fn a_gpadl_is_a_header_and_bodies() {
    let host = ScriptedHost::new(128);
    let slots = Slots::<1, 1>::new();
    let mut client = host.client(slots.lend().unwrap());
    client.connect(Contact::new(VpIndex(0)), &mut grant(&host)).unwrap();
    client.take(&offer(9, 1, 1));
    let pages = PageRun::new(&host.dma(), 26 + 28 + 1).unwrap();
    let first = pages.pfn(0).unwrap();
    drop(client.create_gpadl(ChannelId(9), pages).unwrap());
    let posted = host.take_posted();
    assert_eq!(posted.iter().map(|(_, message)| message.len()).collect::<Vec<_>>(), [236, 240, 24]);
    let name = u32::from_le_bytes(posted[0].1[12..16].try_into().unwrap());
    let mut header = message(8, &[9, name, 448 | 1 << 16, 55 * 4096, 0]);
    header.extend((first..first + 26).flat_map(u64::to_le_bytes));
    assert_eq!(posted[0].1, header);
    let mut body = message(9, &[0, name]);
    body.extend((first + 26..first + 54).flat_map(u64::to_le_bytes));
    assert_eq!(posted[1].1, body);
    assert_eq!(posted[2].1, [message(9, &[0, name]), (first + 54).to_le_bytes().to_vec()].concat());
    // The slot is used until the connection ends.
    let refused = client.create_gpadl(ChannelId(9), PageRun::new(&host.dma(), 1).unwrap());
    assert_eq!(refused.unwrap_err().error, Error::NoSlot);
    let many = PageRun::new(&host.dma(), 1).unwrap();
    drop(many);
    client.disconnect(&mut grant(&host)).unwrap();
    client.connect(Contact::new(VpIndex(0)), &mut grant(&host)).unwrap();
    client.take(&offer(9, 1, 1));
    let _ = client.create_gpadl(ChannelId(9), PageRun::new(&host.dma(), 1).unwrap()).unwrap();
}

#[test]
fn old_hosts_find_the_channel_in_the_interrupt_page() {
    let host = ScriptedHost::new(16);
    let slots = Slots::<2, 4>::new();
    let page: &'static hv_guest::page::Page = Box::leak(Box::new(hv_guest::page::Page::new()));
    let mut client = host.client(slots.lend().unwrap());
    let contact = Contact::new(VpIndex(0)).with_versions(Version::V3_0, Version::V4_0);
    client.connect(contact.with_interrupt_page(page, &Fixed(0)), &mut grant(&host)).unwrap();
    // Number 75: word 2, bit 11. The other has a connection of its own.
    for (channel, dedicated, connection, flag) in [(75, 0, 2, 1 << 11), (76, 1, 0x204c, 0)] {
        client.take(&offer(channel, dedicated, connection));
        let offer = client.offers().find(|offer| offer.channel().0 == channel).unwrap();
        let mut channel =
            client.open_channel(&offer, 2, Open::on(VpIndex(0)), &host.dma(), &mut grant(&host)).unwrap();
        host.take_signals();
        page.store_u32(2048 + 8, 0);
        channel.send(&Outgoing::in_band(1, &[])).unwrap();
        assert_eq!((host.take_signals(), page.load_u32(2048 + 8)), (vec![connection], Some(flag)));
        drop(channel);
    }
}

#[test]
fn offers_that_cannot_be_used_are_declined() {
    let host = ScriptedHost::new(4);
    let slots = Slots::<2, 1>::new();
    let mut client = host.client(slots.lend().unwrap());
    client.connect(Contact::new(VpIndex(0)), &mut grant(&host)).unwrap();
    host.take_posted();
    for bad in [0, 2048, u32::MAX] {
        assert!(matches!(client.take(&offer(bad, 1, 1)), Notice::Ignored(_)), "{bad}");
    }
    assert!(matches!(client.take(&offer(5, 1, 1)[..195]), Notice::Ignored(_)), "cut off");
    assert_eq!(client.take(&offer(5, 1, 1)), Notice::Offered(ChannelId(5)));
    assert_eq!(client.take(&offer(5, 1, 1)), Notice::Declined(ChannelId(5)), "known already");
    assert_eq!(client.take(&offer(6, 1, 1)), Notice::Offered(ChannelId(6)));
    assert_eq!(host.take_posted(), []);
    assert_eq!(client.take(&offer(7, 1, 1)), Notice::Declined(ChannelId(7)));
    assert_eq!(host.take_posted(), [(4, message(13, &[7]))], "released: there is no slot");
    client.take(&message(2, &[5]));
    client.release(ChannelId(5)).unwrap();
    assert_eq!(client.take(&offer(7, 1, 1)), Notice::Offered(ChannelId(7)));
}

#[test]
fn an_answer_of_one_kind_is_none_of_another() {
    let host = ScriptedHost::new(16);
    let slots = Slots::<2, 4>::new();
    let (mut client, channel) = opened(&host, &slots);
    let rings = channel.close(&mut client).unwrap();
    let name = rings.id().0;
    host.take_posted();
    assert!(matches!(client.take(&message(12, &[name])), Notice::Ignored(_)), "not asked for yet");
    let teardown = rings.teardown(&mut client).unwrap();
    // GPADL_CREATED is not an answer to a teardown, nor is another name.
    for (kind, words) in [(10, vec![3, name, 0]), (12, vec![name + 1]), (12, vec![])] {
        assert!(matches!(client.take(&message(kind, &words)), Notice::Ignored(_)), "{kind}");
    }
    let pending = match teardown.poll() {
        hv_vmbus_client::Progress::Pending(teardown) => teardown,
        hv_vmbus_client::Progress::Done(_) => panic!("memory came back without the host's word"),
    };
    assert!(matches!(client.take(&message(12, &[name])), Notice::Gpadl(_)));
    assert!(matches!(pending.poll(), hv_vmbus_client::Progress::Done(_)));
}

#[test]
fn a_flood_of_completions_ends_a_call() {
    let host = ScriptedHost::new(160);
    let slots = Slots::<2, 4>::new();
    // More than enough for the packets, 24 bytes each.
    let (_client, channel) = opened_with(&host, &slots, 40);
    let ring = &host.pages()[41..81];
    let mut end = Sender::new(ring).unwrap();
    let mut queue: Queue<'_, _, _, u8, 2> = Queue::new(channel);
    let mut flood = |packets| {
        for _ in 0..packets {
            end.send(ring, &Outgoing::completion(7, &[])).unwrap();
        }
    };
    flood(FLOOD - 1);
    assert!(queue.next(&mut [0; 8]).unwrap().is_none());
    flood(FLOOD);
    assert_eq!(queue.next(&mut [0; 8]).unwrap_err(), Error::Flood);
}

#[test]
fn completions_that_name_no_request_change_nothing() {
    let host = ScriptedHost::new(32);
    let slots = Slots::<2, 4>::new();
    let (mut client, channel) = opened(&host, &slots);
    let (ring, mut end) = host_end(&host);
    let mut queue: Queue<'_, _, _, u8, 2> = Queue::new(channel);
    let submit = |queue: &mut Queue<'_, _, _, u8, 2>, tag| {
        let pages = PageRun::new(&host.dma(), 1).unwrap();
        queue.submit(tag, &[tag], Some(Buffer { pages, offset: 0, len: 64 })).unwrap();
    };
    submit(&mut queue, 1);
    submit(&mut queue, 2);
    // The ids are those of the packets that the host reads.
    let to_host = &host.pages()[1..3];
    let mut ids = [[0; 8]; 2];
    to_host[1].read(8, &mut ids[0]);
    to_host[1].read(8 + 56, &mut ids[1]);
    let ids = ids.map(u64::from_le_bytes);
    for stray in [0, 1, u64::MAX, ids[0] + 1, ids[1] + 1, ids[0] & 0xffff, ids[1] << 16] {
        end.send(ring, &Outgoing::completion(stray, &[])).unwrap();
    }
    assert!(queue.next(&mut [0; 8]).unwrap().is_none());
    assert_eq!((queue.strays(), queue.in_flight()), (7, 2));
    for _ in 0..2 {
        end.send(ring, &Outgoing::completion(ids[1], &[9; 20])).unwrap();
    }
    let mut buffer = [0; 8];
    match queue.next(&mut buffer).unwrap() {
        // Cut to the buffer.
        Some(Event::Completed { tag: 2, data: Some(_), payload: [9, 9, 9, 9, 9, 9, 9, 9] }) => {}
        other => panic!("{other:?}"),
    }
    assert!(queue.next(&mut buffer).unwrap().is_none());
    assert_eq!((queue.strays(), queue.in_flight()), (8, 1), "the second completion names no request");
    // Its place has another request now, with another id.
    submit(&mut queue, 3);
    end.send(ring, &Outgoing::completion(ids[1], &[])).unwrap();
    assert!(queue.next(&mut buffer).unwrap().is_none());
    assert_eq!((queue.strays(), queue.in_flight()), (9, 2));
    // A dead ring ends the queue; its memory comes back when the channel is closed.
    ring[0].store_u32(0, 3);
    assert!(matches!(queue.next(&mut buffer), Err(Error::Ring(_))));
    let closing = queue.close(&mut client).unwrap();
    let (_, flights) = client.block_on(closing, &mut grant(&host)).unwrap();
    assert_eq!(flights.iter().flatten().map(|(tag, _)| *tag).collect::<Vec<_>>(), [1, 3]);
    drop(flights);
    assert_eq!(host.live(), 0);
}

#[test]
fn a_signal_that_the_hypervisor_did_not_take_is_made_up_for() {
    let host = ScriptedHost::new(32);
    let slots = Slots::<2, 4>::new();
    let (_client, channel) = opened(&host, &slots);
    host.take_signals();
    let mut queue: Queue<'_, _, _, u8, 2> = Queue::new(channel);
    host.set_status(HvStatus::INVALID_CONNECTION_ID);
    queue.submit(1, &[1], None).unwrap();
    assert!(matches!(queue.next(&mut [0; 8]), Err(Error::Post(_))), "and the driver hears of it");
    host.take_signals();
    host.set_status(HvStatus(0));
    // The ring is not empty, so the next packet by itself asks for no signal.
    queue.submit(2, &[2], None).unwrap();
    assert_eq!(host.take_signals(), [0x2003]);
    assert!(queue.next(&mut [0; 8]).unwrap().is_none());
    assert!(host.take_signals().is_empty(), "once");
    host.set_status(HvStatus::INVALID_CONNECTION_ID);
    // Nor does a poll that finds nothing: that makes up for it as well.
    assert!(matches!(queue.to_host().signal(), Err(Error::Post(_))));
    host.take_signals();
    host.set_status(HvStatus(0));
    assert!(queue.next(&mut [0; 8]).unwrap().is_none());
    assert_eq!(host.take_signals(), [0x2003]);
}

#[test]
fn a_channel_that_was_dropped_leaves_its_slot_at_the_end_of_the_connection() {
    let host = ScriptedHost::new(32);
    let slots = Slots::<1, 1>::new();
    let mut client = host.client(slots.lend().unwrap());
    for late in [false, true, false] {
        client.connect(Contact::new(VpIndex(0)), &mut grant(&host)).unwrap();
        assert_eq!(client.take(&offer(3, 1, 0x2003)), Notice::Offered(ChannelId(3)));
        let offer = client.find(DEVICE).unwrap();
        let open = Open::on(VpIndex(0));
        let mut channel = Some(client.open_channel(&offer, 2, open, &host.dma(), &mut grant(&host)).unwrap());
        if !late {
            channel = None;
            assert_eq!(client.release(ChannelId(3)), Err(Error::InUse), "the host has it open");
        }
        client.disconnect(&mut grant(&host)).unwrap();
        // The name of its rings' GPADL is free at the next end.
        if channel.take().is_some() {
            client.unload().unwrap();
            client.take(&message(17, &[]));
        }
    }
}

#[test]
fn slots_are_lent_once() {
    let slots = Slots::<1, 1>::new();
    let host = ScriptedHost::new(4);
    let lent = slots.lend().unwrap();
    assert!(slots.lend().is_none());
    let _ = host.client(lent);
}
