//! Offers, rule by rule.

use crate::common::Server;
use crate::common::{Lock, TestPort, contact, header, offer_of, send};
use hv_devices::any::Any;
use hv_devices::any::Offer;
use hv_vmbus::Slot;
use hv_vmbus::protocol::{
    ChannelId, MessageHeader, MessageType, OfferChannel, PipeMode, RelIdReleased, RescindOffer, Version, guid,
};
use hv_vmbus::{Config, Event, Reason};
use zerocopy::IntoBytes;

const OFFER: Offer = Offer::HEARTBEAT;

fn released(channel: ChannelId) -> RelIdReleased {
    RelIdReleased { header: header(MessageType::RELID_RELEASED), channel }
}

fn kinds(port: &mut TestPort) -> Vec<MessageType> {
    port.take().iter().map(crate::common::Received::kind).collect()
}

#[test]
fn a_host_without_devices_says_that_these_were_all_offers() {
    let (mut server, mut port): (Server, _) = (Server::new(Config::DEFAULT), TestPort::new());
    send(&mut server, &mut port, &contact(Version::V5_3));
    port.take();
    send(&mut server, &mut port, &header(MessageType::REQUEST_OFFERS));
    let answer = port.one();
    assert_eq!((answer.kind(), answer.payload.len()), (MessageType::ALL_OFFERS_DELIVERED, 8));
}

#[test]
fn offers_go_to_the_contacts_vp_in_order_and_then_their_end() {
    let (mut server, mut port): (Server, _) = (Server::new(Config::DEFAULT), TestPort::new());
    let second = offer_of(guid::SHUTDOWN, guid::SHUTDOWN, Any::SILENT);
    assert_eq!(server.offer(OFFER), Some(ChannelId(1)));
    assert_eq!(server.offer(second), Some(ChannelId(2)));
    let mut message = contact(Version::V5_3);
    message.target_vp = 2;
    send(&mut server, &mut port, &message);
    port.take();
    send(&mut server, &mut port, &header(MessageType::REQUEST_OFFERS));
    let answers = port.take();
    assert!(answers.iter().all(|a| a.vp == 2 && a.sint == 2));
    let first: OfferChannel = answers[0].message();
    assert_eq!(first.header, MessageHeader::new(MessageType::OFFER_CHANNEL));
    assert_eq!(first.offer.interface, guid::HEARTBEAT);
    assert!(first.offer.flags.named_pipe());
    assert_eq!(first.offer.user_defined[..4], PipeMode::MESSAGE.0.to_le_bytes());
    assert_eq!((first.channel, first.monitor_allocated, first.dedicated_interrupt), (ChannelId(1), 0, 1));
    assert_eq!(first.connection, 0x2001, "the channel's own connection");
    assert_eq!(answers[1].message::<OfferChannel>().channel, ChannelId(2));
    assert_eq!(answers[2].kind(), MessageType::ALL_OFFERS_DELIVERED);
    assert_eq!(answers.len(), 3);
    assert_eq!(port.events.get_mut().last(), Some(&Event::OffersDelivered { count: 2 }));
}

#[test]
fn the_configurations_channels_are_offered_from_the_start() {
    let devices: [Slot<Lock, Any>; 3] = [
        Slot::offering(OFFER.device, OFFER.channel),
        Slot::offering(Any::ECHO, Offer::ECHO.channel),
        Slot::new(Any::SILENT),
    ];
    let (mut server, mut port) = (Server::<3>::with(Config::DEFAULT, devices), TestPort::new());
    assert_eq!(server.offer(OFFER), Some(ChannelId(3)), "the next number");
    send(&mut server, &mut port, &contact(Version::V5_3));
    port.take();
    send(&mut server, &mut port, &header(MessageType::REQUEST_OFFERS));
    let answers = port.take();
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0].message::<OfferChannel>().offer.interface, guid::HEARTBEAT);
    assert_eq!(answers[1].message::<OfferChannel>().offer.interface, hv_devices::echo::INTERFACE);
}

#[test]
fn offers_that_find_the_queue_full_go_on_where_they_stopped() {
    let (mut server, mut port): (Server, _) = (Server::new(Config::DEFAULT), TestPort::new());
    for _ in 0..5 {
        server.offer(OFFER);
    }
    send(&mut server, &mut port, &contact(Version::V5_3));
    port.take();
    port.room = 2;
    send(&mut server, &mut port, &header(MessageType::REQUEST_OFFERS));
    let mut all = port.take();
    while server.has_pending() {
        server.flush(&mut port);
        all.extend(port.take());
    }
    let ids: Vec<_> = all[..5].iter().map(|m| m.message::<OfferChannel>().channel.0).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    assert_eq!(all[5].kind(), MessageType::ALL_OFFERS_DELIVERED);
    assert_eq!(all.len(), 6);
}

#[test]
fn a_second_request_gets_the_end_of_the_offers_and_none_twice() {
    let (mut server, mut port): (Server, _) = (Server::new(Config::DEFAULT), TestPort::new());
    server.offer(OFFER);
    crate::common::connect(&mut server, &mut port, Version::V5_3);
    send(&mut server, &mut port, &header(MessageType::REQUEST_OFFERS));
    assert_eq!(kinds(&mut port), [MessageType::ALL_OFFERS_DELIVERED]);
    assert_eq!(port.rejection(), Some(Reason::OffersAlreadySent));
}

#[test]
fn a_new_connection_is_offered_everything_again() {
    let (mut server, mut port): (Server, _) = (Server::new(Config::DEFAULT), TestPort::new());
    server.offer(OFFER);
    crate::common::connect(&mut server, &mut port, Version::V5_3);
    send(&mut server, &mut port, &header(MessageType::UNLOAD));
    port.take();
    send(&mut server, &mut port, &contact(Version::V5_3));
    send(&mut server, &mut port, &header(MessageType::REQUEST_OFFERS));
    let kinds = kinds(&mut port);
    assert_eq!(
        kinds,
        [MessageType::VERSION_RESPONSE, MessageType::OFFER_CHANNEL, MessageType::ALL_OFFERS_DELIVERED]
    );
}

#[test]
fn a_device_that_comes_later_is_offered_then() {
    let (mut server, mut port): (Server, _) = (Server::new(Config::DEFAULT), TestPort::new());
    crate::common::connect(&mut server, &mut port, Version::V5_3);
    let id = server.offer(OFFER).unwrap();
    server.flush(&mut port);
    assert_eq!(port.one().message::<OfferChannel>().channel, id);
}

#[test]
fn a_host_with_all_channels_taken_offers_no_more() {
    let mut server = Server::<2, 1, 8>::new(Config::DEFAULT);
    assert!(server.offer(OFFER).is_some());
    assert!(server.offer(OFFER).is_some());
    assert_eq!(server.offer(OFFER), None);
}

#[test]
fn a_rescinded_channels_number_is_free_when_the_guest_has_released_it() {
    let mut server = Server::<1, 1, 8>::new(Config::DEFAULT);
    let mut port = TestPort::new();
    let id = server.offer(OFFER).unwrap();
    crate::common::connect(&mut server, &mut port, Version::V5_3);
    assert!(server.rescind(id));
    assert!(!server.rescind(id), "only once");
    server.flush(&mut port);
    assert_eq!(port.one().message::<RescindOffer>().channel, id);
    assert_eq!(server.offer(OFFER), None);
    send(&mut server, &mut port, &released(id));
    assert_eq!(*port.events.get_mut(), [Event::Rescinded { channel: id }, Event::Released { channel: id }]);
    assert_eq!(server.offer(OFFER), Some(id));
}

#[test]
fn a_channel_that_the_guest_never_heard_of_is_rescinded_in_silence() {
    let (mut server, mut port): (Server, _) = (Server::new(Config::DEFAULT), TestPort::new());
    let id = server.offer(OFFER).unwrap();
    send(&mut server, &mut port, &contact(Version::V5_3));
    port.take();
    assert!(server.rescind(id));
    assert!(!server.has_pending());
    send(&mut server, &mut port, &header(MessageType::REQUEST_OFFERS));
    assert_eq!(kinds(&mut port), [MessageType::ALL_OFFERS_DELIVERED]);
    assert!(!server.rescind(ChannelId(0)));
    assert!(!server.rescind(ChannelId(!0)));
}

#[test]
fn the_end_of_the_connection_frees_a_rescinded_channel() {
    let mut server = Server::<1, 1, 8>::new(Config::DEFAULT);
    let mut port = TestPort::new();
    let id = server.offer(OFFER).unwrap();
    crate::common::connect(&mut server, &mut port, Version::V5_3);
    server.rescind(id);
    send(&mut server, &mut port, &header(MessageType::UNLOAD));
    assert_eq!(server.offer(OFFER), Some(id));
}

#[test]
fn a_guest_that_releases_an_offer_is_not_offered_it_again_before_its_next_contact() {
    let (mut server, mut port): (Server, _) = (Server::new(Config::DEFAULT), TestPort::new());
    let id = server.offer(OFFER).unwrap();
    crate::common::connect(&mut server, &mut port, Version::V5_3);
    send(&mut server, &mut port, &released(id));
    assert_eq!(port.rejection(), None);
    send(&mut server, &mut port, &released(id));
    assert_eq!(port.rejection(), Some(Reason::UnknownChannel));
    crate::common::connect(&mut server, &mut port, Version::V5_3);
    send(&mut server, &mut port, &released(id));
    assert_eq!(port.rejection(), None);
}

#[test]
fn releasing_a_number_that_was_not_offered_is_counted() {
    let (mut server, mut port): (Server, _) = (Server::new(Config::DEFAULT), TestPort::new());
    crate::common::connect(&mut server, &mut port, Version::V5_3);
    for id in [0, 1, 7, 8, 2048, u32::MAX] {
        send(&mut server, &mut port, &released(ChannelId(id)));
        assert_eq!(port.rejection(), Some(Reason::UnknownChannel));
    }
    server.message(4, &released(ChannelId(1)).as_bytes()[..11], &mut port).unwrap();
    assert_eq!(port.rejection(), Some(Reason::TooShort));
    assert_eq!(port.take(), []);
}

#[test]
fn no_offer_has_the_flags_for_which_linux_7_refuses_it() {
    // Linux 7.2 asks for 6.0 first and refuses an offer with the confidential bits 1 and 2 unless it is confidential
    // itself (drivers/hv/channel_mgmt.c); firmware asks for 6.0 and then 3.0 (mu_msvm, MsvmPkg/VmbusDxe).
    for version in [Version::V6_0, Version::V3_0] {
        let mut server: Server = Server::new(Config::DEFAULT);
        let mut port = TestPort::new();
        let mut offer = Offer::ECHO;
        offer.channel.flags.0 = 0xffff;
        server.offer(offer).unwrap();
        send(&mut server, &mut port, &contact(version));
        assert_eq!(server.version(), Some(version));
        assert_eq!(kinds(&mut port), [MessageType::VERSION_RESPONSE]);
        send(&mut server, &mut port, &header(MessageType::REQUEST_OFFERS));
        let [offer, end] = &port.take()[..] else { panic!("one offer and the end of the offers") };
        assert_eq!(offer.message::<OfferChannel>().offer.flags.0, 0xfff1);
        assert_eq!(end.kind(), MessageType::ALL_OFFERS_DELIVERED);
    }
}
