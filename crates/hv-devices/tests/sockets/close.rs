//! How connections end.

use crate::guest::{Guest, Told};
use hv_devices::sockets::{MAX_PAYLOAD, note};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::MessageType;

const RESCIND: MessageType = MessageType::RESCIND_OFFER;

#[test]
fn a_direction_ends_while_the_other_goes_on() {
    let mut guest = Guest::new();
    let (stream, channel, _) = guest.connected(1000, 5000);
    assert!(guest.write(channel, b"last") && guest.write(channel, b""));
    assert_eq!(guest.news(), [Told::Data(stream, b"last".to_vec()), Told::Finished(stream)]);
    guest.with(|sockets, io| sockets.send(io, stream, b"still here").unwrap());
    assert_eq!(guest.read(channel), [b"still here".to_vec()]);
    assert_eq!(guest.mail(), []);
    guest.with(|sockets, io| sockets.finish(io, stream));
    assert_eq!(guest.mail(), [RESCIND], "both have ended");
    assert_eq!(guest.look(channel), [vec![0; 0]], "and the guest finds the end in its ring");
    assert_eq!(guest.news(), [Told::Ended(stream)]);
    guest.release(channel);
    assert_eq!((guest.connections(), guest.news()), (0, vec![]));
}

#[test]
fn the_host_ends_first() {
    let mut guest = Guest::new();
    let (stream, channel, _) = guest.connected(1000, 5000);
    guest.with(|sockets, io| sockets.finish(io, stream));
    assert_eq!((guest.read(channel), guest.mail()), (vec![vec![]], vec![]));
    assert!(guest.write(channel, b"after the host's end"));
    assert_eq!(guest.news().len(), 1);
    assert!(guest.write(channel, b""));
    assert_eq!(guest.mail(), [RESCIND]);
    assert_eq!(guest.news(), [Told::Finished(stream), Told::Ended(stream)]);
}

#[test]
fn the_end_finds_room_in_a_full_ring() {
    let mut guest = Guest::new();
    let (stream, channel, credit) = guest.connected(1000, 5000);
    let bytes = vec![3; (credit - 32) as usize];
    let (first, second) = bytes.split_at(bytes.len() - MAX_PAYLOAD as usize / 2);
    guest.with(|sockets, io| {
        sockets.send(io, stream, first).unwrap();
        sockets.send(io, stream, &second[..second.len() - 32]).unwrap();
        sockets.finish(io, stream);
    });
    assert_eq!(guest.look(channel).last(), Some(&vec![]));
    assert_eq!(guest.mail(), []);
}

#[test]
fn the_end_follows_the_bytes_even_if_the_back_end_takes_few_at_a_time() {
    let mut guest = Guest::new();
    let (stream, channel, _) = guest.connected(1000, 5000);
    guest.with(|sockets, io| sockets.finish(io, stream));
    assert!(guest.write(channel, &[1; 10]) && guest.write(channel, &[2; 10]) && guest.write(channel, b""));
    let told: Vec<_> = (0..4).flat_map(|_| guest.news_of(1)).collect();
    let data = |byte| Told::Data(stream, vec![byte; 10]);
    assert_eq!(told, [data(1), data(2), Told::Finished(stream), Told::Ended(stream)]);
}

#[test]
fn a_reset_rescinds_at_once_and_the_host_hears_nothing_more() {
    let mut guest = Guest::new();
    let (stream, channel, _) = guest.connected(1000, 5000);
    guest.with(|sockets, io| sockets.reset(io, stream));
    assert_eq!(guest.mail(), [RESCIND]);
    guest.write(channel, b"too late");
    assert_eq!(guest.news(), []);
    guest.with(|sockets, io| {
        sockets.reset(io, stream);
        sockets.finish(io, stream);
        sockets.credit(io, stream, 1);
        sockets.send(io, stream, b"too late").unwrap();
    });
    guest.release(channel);
    assert_eq!((guest.connections(), guest.mail()), (0, vec![]));
}

#[test]
fn a_guest_that_closes_the_channel_or_the_connection_has_ended_its_streams() {
    let mut guest = Guest::new();
    let (stream, channel, _) = guest.connected(1000, 5000);
    assert!(guest.write(channel, b"last"));
    guest.close(channel);
    assert_eq!(guest.mail(), [RESCIND], "it must not open it again");
    assert_eq!(guest.news(), [Told::Data(stream, b"last".to_vec()), Told::Ended(stream)]);
    let (other, ..) = guest.connected(1001, 5000);
    guest.connect(1002, 5000);
    guest.with(|sockets, io| sockets.connect(io, 9, 22).unwrap());
    let mut news = guest.news();
    let Some(Told::Connect(third, _)) = news.pop() else { panic!("{news:?}") };
    guest.contact();
    assert_eq!(guest.news(), [Told::Ended(other), Told::Ended(third), Told::Refused(9)]);
    assert_eq!(guest.connections(), 0);
}

#[test]
fn a_restored_machine_has_no_connections() {
    let mut guest = Guest::new();
    let (stream, channel, _) = guest.connected(1000, 5000);
    let (_, second, _) = guest.connected(1001, 5000);
    guest.connect(1002, 5000);
    guest.with(|sockets, io| sockets.connect(io, 9, 22).unwrap());
    guest.news();
    guest.mail();
    guest.restore();
    assert_eq!(guest.bus.deadline(), Some(ReferenceTime::ZERO));
    guest.at(ReferenceTime(5));
    let mut mail = guest.mail();
    mail.sort_unstable();
    assert_eq!(mail, [RESCIND, RESCIND, RESCIND, MessageType::TL_CONNECT_RESULT]);
    assert_eq!((guest.news(), guest.bus.deadline()), (vec![], None));
    guest.with(|sockets, io| sockets.send(io, stream, b"of another life").unwrap());
    guest.release(channel);
    guest.release(second);
    let (_, again, _) = guest.connected(1000, 5000);
    assert_eq!(again, channel);
}

#[test]
fn a_refusal_that_waits_for_the_guest_is_over_after_a_restore() {
    let guest = Guest::new();
    guest.connect(1000, 5000);
    let [Told::Connect(stream, _)] = guest.news()[..] else { panic!() };
    guest.host.room.set(0);
    guest.with(|sockets, io| sockets.refuse(io, stream));
    guest.restore();
    guest.host.room.set(usize::MAX);
    guest.at(ReferenceTime(5));
    assert_eq!((guest.mail(), guest.connections()), (vec![MessageType::TL_CONNECT_RESULT], 0));
}

#[test]
fn a_rescind_that_waits_for_the_guest_is_carried_out_after_a_restore() {
    let mut guest = Guest::new();
    let (stream, ..) = guest.connected(1000, 5000);
    guest.host.room.set(0);
    guest.connect(1001, 5000);
    let [Told::Connect(other, _)] = guest.news()[..] else { panic!() };
    guest.with(|sockets, io| sockets.refuse(io, other));
    guest.with(|sockets, io| sockets.reset(io, stream));
    // An answer that has to wait is in front of the rescind.
    guest.open(3);
    guest.restore();
    guest.host.room.set(usize::MAX);
    guest.at(ReferenceTime(5));
    assert!(guest.mail().contains(&RESCIND));
}

#[test]
fn a_reset_machine_has_no_connections_and_the_host_hears_of_it() {
    let mut guest = Guest::new();
    let (stream, ..) = guest.connected(1000, 5000);
    guest.bus.reset(&guest.host);
    assert_eq!((guest.news(), guest.connections()), (vec![Told::Ended(stream)], 0));
    guest.contact();
    guest.connected(1000, 5000);
}

#[test]
fn what_violates_the_protocol_ends_the_connection() {
    let violations: [fn(&Guest, u32); 7] = [
        |guest, channel| assert!(guest.raw(channel, 6, 100, &[1; 8])),
        |guest, channel| assert!(guest.raw(channel, 6, u32::MAX, &[1; 8])),
        |guest, channel| assert!(guest.raw(channel, 11, 8, &[1; 8])),
        |guest, channel| assert!(guest.put(channel, &[1; MAX_PAYLOAD as usize + 1])),
        |guest, channel| assert!(guest.put(channel, b"") && guest.put(channel, b"after the end")),
        |guest, channel| guest.set_index(channel, false, 0, 4),
        |guest, channel| guest.set_index(channel, false, 0, 8),
    ];
    for (at, violate) in violations.into_iter().enumerate() {
        let mut guest = Guest::new();
        let (stream, channel, _) = guest.connected(1000, 5000);
        violate(&guest, channel);
        guest.signal(channel);
        assert_eq!(guest.mail(), [RESCIND], "violation {at}");
        assert_eq!(guest.news().last(), Some(&Told::Ended(stream)), "violation {at}");
        assert_eq!(guest.host.faults.get(), 1, "violation {at}");
        assert!(guest.notes().contains(&(note::FAILED, 0)), "violation {at}");
    }
}

#[test]
fn a_guest_that_takes_room_back_ends_the_connection() {
    let mut guest = Guest::new();
    let (stream, channel, _) = guest.connected(1000, 5000);
    guest.with(|sockets, io| sockets.send(io, stream, &[1; 8000]).unwrap());
    guest.set_index(channel, true, 4, 8040);
    guest.with(|sockets, io| sockets.send(io, stream, &[1; 8000]).unwrap());
    assert_eq!(guest.mail(), [RESCIND]);
    assert_eq!(guest.news(), [Told::Ended(stream)]);
}
