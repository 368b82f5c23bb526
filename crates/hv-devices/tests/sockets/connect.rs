//! How connections begin, and how they do not.

use crate::guest::{Guest, STREAMS, Told};
use hv_devices::sockets::{ACCEPT_TIMEOUT, OPEN_TIMEOUT, cost, note};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::socket::{self, Parameters};
use hv_tlfs::vmbus::{Guid, MessageHeader, MessageType, TlConnectRequest};
use zerocopy::{FromBytes, IntoBytes};

#[test]
fn the_guests_connection_is_offered_once_the_host_has_accepted() {
    let mut guest = Guest::new();
    guest.connect(1000, 5000);
    assert_eq!(guest.host.calls.get(), 1);
    let news = guest.news();
    let [Told::Connect(stream, 5000)] = news[..] else { panic!("{news:?}") };
    assert_eq!(guest.mail(), []);
    guest.with(|sockets, io| sockets.accept(io, stream));
    let offer = guest.offered();
    assert_eq!((offer.offer.interface, offer.offer.instance), (socket::service(5000), socket::service(1000)));
    assert_eq!(offer.offer.flags.0, 0x2011, "a socket, a pipe, and enumerated");
    let parameters = Parameters::read_from_prefix(&offer.offer.user_defined).unwrap().0;
    assert_eq!((parameters.pipe_mode.get(), parameters.host_connects, parameters.version.get()), (0, 0, 1));
    guest.open(offer.channel.0);
    let news = guest.news();
    let [Told::Credit(of, bytes)] = news[..] else { panic!("{news:?}") };
    assert_eq!(of, stream);
    assert_eq!(bytes, 5 * 4096 - 8 - cost(0), "the whole ring but for the end of the stream");
    assert_eq!(guest.notes(), [(note::OPENED, 5000)]);
}

#[test]
fn the_guests_connection_is_refused_with_a_message() {
    let guest = Guest::new();
    guest.connect(1000, 5000);
    let [Told::Connect(stream, _)] = guest.news()[..] else { panic!() };
    guest.with(|sockets, io| sockets.refuse(io, stream));
    assert_eq!(guest.mail(), [MessageType::TL_CONNECT_RESULT]);
    assert_eq!((guest.news(), guest.connections()), (vec![], 0));
    guest.with(|sockets, io| sockets.accept(io, stream));
    assert_eq!(guest.mail(), [], "too late");
    assert_eq!(guest.notes(), [(note::REFUSED, 5000)]);
}

#[test]
fn a_ring_without_room_ends_a_connection_and_the_host_hears_of_both() {
    let mut guest = Guest::new();
    guest.with(|sockets, io| sockets.connect(io, 7, 22)).unwrap();
    let channel = guest.offered().channel.0;
    // The ring to the guest is full from the start.
    guest.set_index(channel, true, 0, 0);
    guest.set_index(channel, true, 4, 8);
    guest.open_as_it_is(channel);
    let news = guest.news();
    let [Told::Opened(7, stream, _), Told::Ended(of)] = news[..] else { panic!("{news:?}") };
    assert_eq!(of, stream);
    guest.release(channel);
    assert_eq!(guest.connections(), 0);
}

#[test]
fn services_that_are_no_port_are_refused_at_once() {
    let guest = Guest::new();
    let request = TlConnectRequest {
        header: MessageHeader::new(MessageType::TL_CONNECT_REQUEST),
        endpoint: socket::service(1000),
        service: Guid::new(1, 2, 3, [4; 8]),
    };
    guest.post(request.as_bytes()).unwrap();
    assert_eq!((guest.mail(), guest.news()), (vec![MessageType::TL_CONNECT_RESULT], vec![]));
}

#[test]
fn an_endpoint_has_one_connection_to_a_service() {
    let mut guest = Guest::new();
    guest.connected(1000, 5000);
    guest.connect(1000, 5000);
    let [Told::Connect(stream, _)] = guest.news()[..] else { panic!() };
    guest.with(|sockets, io| sockets.accept(io, stream));
    assert_eq!(guest.mail(), [MessageType::TL_CONNECT_RESULT]);
    assert_eq!(guest.news(), [Told::Ended(stream)]);
    guest.connected(1000, 5001);
    guest.connected(1001, 5000);
}

#[test]
fn there_are_so_many_connections_and_no_more() {
    let mut guest = Guest::new();
    let all: Vec<_> = (0..STREAMS as u32).map(|n| guest.connected(1000 + n, 5000)).collect();
    guest.connect(2000, 5000);
    assert_eq!((guest.mail(), guest.news()), (vec![MessageType::TL_CONNECT_RESULT], vec![]));
    guest.with(|sockets, io| sockets.connect(io, 1, 5000).unwrap_err());
    let (stream, channel, _) = all[2];
    guest.with(|sockets, io| sockets.reset(io, stream));
    guest.connect(2000, 5000);
    assert_eq!(guest.mail(), [MessageType::RESCIND_OFFER, MessageType::TL_CONNECT_RESULT], "not released");
    guest.release(channel);
    let (other, same, _) = guest.connected(2000, 5000);
    assert_eq!(same, channel, "the channel's number is used again");
    assert_ne!(other, stream, "the stream's name is not");
}

#[test]
fn the_hosts_connection_is_offered_and_open_when_the_guest_has_opened_it() {
    let mut guest = Guest::new();
    guest.with(|sockets, io| sockets.connect(io, 77, 22).unwrap());
    let offer = guest.offered();
    let own = socket::port(offer.offer.instance).unwrap();
    assert_eq!(offer.offer.interface, socket::service(22));
    assert_eq!(offer.offer.user_defined[4], 1, "the host connects");
    assert_eq!(guest.news(), []);
    guest.open(offer.channel.0);
    let news = guest.news();
    let [Told::Opened(77, stream, port), Told::Credit(of, _)] = news[..] else { panic!("{news:?}") };
    assert_eq!((of, port), (stream, own));
    guest.mail();
    guest.with(|sockets, io| sockets.connect(io, 78, 22).unwrap());
    assert_ne!(socket::port(guest.offered().offer.instance), Some(own));
}

#[test]
fn a_connection_that_no_program_of_the_guests_takes_is_rescinded_after_a_time() {
    let mut guest = Guest::new();
    guest.at(ReferenceTime(1000));
    guest.with(|sockets, io| sockets.connect(io, 77, 22).unwrap());
    let channel = guest.offered().channel.0;
    assert_eq!(guest.bus.deadline(), Some(OPEN_TIMEOUT.saturating_add(ReferenceTime(1000))));
    guest.at(OPEN_TIMEOUT.saturating_add(ReferenceTime(999)));
    assert_eq!((guest.mail(), guest.news()), (vec![], vec![]));
    guest.at(OPEN_TIMEOUT.saturating_add(ReferenceTime(1000)));
    assert_eq!(guest.mail(), [MessageType::RESCIND_OFFER]);
    assert_eq!(guest.news(), [Told::Refused(77)]);
    guest.open(channel);
    assert_eq!(guest.mail().last(), Some(&MessageType::OPEN_RESULT), "always answered");
    assert_eq!(guest.connections(), 1);
    guest.release(channel);
    assert_eq!((guest.news(), guest.connections(), guest.bus.deadline()), (vec![], 0, None));
}

#[test]
fn a_host_that_does_not_answer_has_refused_after_a_time() {
    let guest = Guest::new();
    guest.connect(1000, 5000);
    let [Told::Connect(stream, _)] = guest.news()[..] else { panic!() };
    guest.at(ACCEPT_TIMEOUT);
    assert_eq!(guest.mail(), [MessageType::TL_CONNECT_RESULT]);
    assert_eq!(guest.news(), [Told::Ended(stream)]);
    guest.connect(1000, 5000);
    guest.at(ACCEPT_TIMEOUT.saturating_add(ACCEPT_TIMEOUT));
    assert_eq!(guest.news(), [], "the host never hears of one that has ended before");
    assert_eq!(guest.connections(), 0);
}

#[test]
fn a_host_that_hangs_up_before_the_guest_has_opened_withdraws_the_offer() {
    let guest = Guest::new();
    guest.connect(1000, 5000);
    let [Told::Connect(stream, _)] = guest.news()[..] else { panic!() };
    guest.with(|sockets, io| sockets.accept(io, stream));
    guest.mail();
    guest.with(|sockets, io| sockets.reset(io, stream));
    assert_eq!((guest.mail(), guest.news()), (vec![MessageType::RESCIND_OFFER], vec![]));
}

#[test]
fn a_host_that_has_nothing_to_say_ends_its_direction_before_the_guest_has_opened() {
    let mut guest = Guest::new();
    guest.connect(1000, 5000);
    let [Told::Connect(stream, _)] = guest.news()[..] else { panic!() };
    guest.with(|sockets, io| sockets.accept(io, stream));
    let channel = guest.offered().channel.0;
    guest.with(|sockets, io| sockets.finish(io, stream));
    assert_eq!(guest.mail(), []);
    guest.open(channel);
    assert_eq!((guest.read(channel), guest.news()), (vec![vec![]], vec![]), "the end, and no credit");
    assert!(guest.write(channel, b"all ears?"));
    assert_eq!(guest.news(), [Told::Data(stream, b"all ears?".to_vec())]);
}

#[test]
fn without_a_back_end_there_are_no_sockets() {
    let guest = Guest::alone();
    guest.connect(1000, 5000);
    assert_eq!((guest.mail(), guest.connections()), (vec![MessageType::TL_CONNECT_RESULT], 0));
    assert_eq!(guest.bus.deadline(), None);
}
