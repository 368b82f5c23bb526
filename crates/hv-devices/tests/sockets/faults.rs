//! Injected faults: connections that are taken away, and a host that is silent.

use crate::guest::{Guest, Told};
use hv_tlfs::vmbus::MessageType;
use hv_vmbus::Moment;

#[test]
fn the_connection_whose_packet_it_was_is_taken_away_and_no_other() {
    let mut guest = Guest::new();
    let (first, one, _) = guest.connected(1000, 5000);
    let (second, two, _) = guest.connected(1001, 5000);
    guest.host.taken.set(Some(Moment::Packet));
    assert!(guest.write(two, b"last"));
    assert_eq!(guest.mail(), [MessageType::RESCIND_OFFER]);
    assert_eq!(guest.news(), [Told::Data(second, b"last".to_vec()), Told::Ended(second)]);
    guest.write(two, b"too late");
    assert_eq!(guest.news(), []);
    guest.with(|sockets, io| sockets.send(io, second, b"too late").unwrap());
    guest.release(two);
    assert_eq!((guest.news(), guest.connections()), (vec![], 1));
    assert!(guest.write(one, b"and on"));
    assert_eq!(guest.news(), [Told::Data(first, b"and on".to_vec())]);
    guest.with(|sockets, io| sockets.send(io, first, b"and on").unwrap());
    assert_eq!(guest.read(one), [b"and on".to_vec()]);
    assert_eq!(guest.mail(), []);
    assert_eq!(guest.connected(1001, 5000).1, two, "its channel serves again");
}

#[test]
fn a_connection_is_taken_away_while_the_guest_opens_it() {
    let mut guest = Guest::new();
    let (first, one, _) = guest.connected(1000, 5000);
    guest.connect(1001, 5000);
    let [Told::Connect(second, _)] = guest.news()[..] else { panic!() };
    guest.with(|sockets, io| sockets.accept(io, second));
    let two = guest.offered().channel.0;
    guest.host.taken.set(Some(Moment::Open));
    guest.open(two);
    let mail = guest.mail();
    let after: Vec<_> = mail.iter().skip_while(|kind| **kind != MessageType::OPEN_RESULT).collect();
    assert_eq!(after, [&MessageType::OPEN_RESULT, &MessageType::RESCIND_OFFER]);
    guest.release(two);
    assert_eq!(guest.news().last(), Some(&Told::Ended(second)));
    assert!(guest.write(one, b"and on"));
    assert_eq!(guest.news(), [Told::Data(first, b"and on".to_vec())]);
}

#[test]
fn what_a_silent_host_did_not_take_it_takes_when_it_speaks_again() {
    let mut guest = Guest::new();
    let (stream, channel, _) = guest.connected(1000, 5000);
    guest.host.mute.set(true);
    assert!(guest.write(channel, b"early") && guest.write(channel, b""));
    assert_eq!(guest.news(), []);
    guest.host.mute.set(false);
    guest.bus.resume_all(&guest.host);
    assert_eq!(guest.news(), [Told::Data(stream, b"early".to_vec()), Told::Finished(stream)]);
}
