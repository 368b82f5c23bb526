//! The server saved and restored, rule by rule. That a restore at any point changes nothing is in `hostile`.

use crate::common::Server;
use crate::common::{GuestPacket, Opened, TestPort, connect, gpadl, send, teardown};
use hv_devices::any::Offer;
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_vmbus::Config;
use hv_vmbus::protocol::Version;

fn saved<const C: usize, const G: usize, const W: usize>(server: &Server<C, G, W>) -> Vec<u8> {
    let mut image = Vec::new();
    server.save(&mut Writer::new(&mut |part| image.extend_from_slice(part)));
    image
}

/// Restores a server, and tells how many bytes that took.
fn restore<const C: usize, const G: usize, const W: usize>(
    server: &mut Server<C, G, W>,
    image: &[u8],
) -> Result<usize, RestoreError> {
    let mut reader = Reader::new(image);
    server.restore(&mut reader)?;
    Ok(image.len() - reader.left())
}

fn fresh() -> Server {
    Server::new(Config::DEFAULT)
}

#[test]
fn a_restored_channel_goes_on_where_it_was() {
    let mut guest = Opened::new(Offer::ECHO);
    let packet = |n| GuestPacket { kind: 6, flags: 1, transaction: n, payload: vec![n as u8; 1000] };
    for n in 0..40 {
        guest.send(&packet(n)).unwrap();
        let image = saved(&guest.server);
        guest.server = fresh();
        assert_eq!(restore(&mut guest.server, &image), Ok(image.len()));
        assert_eq!(guest.receive(), Some(GuestPacket { kind: 11, flags: 0, ..packet(n) }));
    }
}

#[test]
fn page_lists_in_the_place_of_others_are_saved_as_they_are_restored() {
    let (mut server, mut port) = (fresh(), TestPort::new());
    server.offer(Offer::ECHO).unwrap();
    connect(&mut server, &mut port, Version::V5_3);
    let add = |server: &mut Server, port: &mut TestPort, id| {
        for message in gpadl(1, id, &[0x50, 0x52]) {
            server.message(4, &message, port).unwrap();
        }
    };
    add(&mut server, &mut port, 1);
    add(&mut server, &mut port, 2);
    send(&mut server, &mut port, &teardown(1, 1));
    add(&mut server, &mut port, 3);
    let image = saved(&server);
    let mut restored = fresh();
    assert_eq!(restore(&mut restored, &image), Ok(image.len()));
    assert_eq!(saved(&restored), image);
    for server in [&mut server, &mut restored] {
        send(server, &mut port, &teardown(1, 2));
        add(server, &mut port, 4);
    }
    assert_eq!(saved(&restored), saved(&server));
}

#[test]
fn what_follows_the_image_is_left_alone() {
    let guest = Opened::new(Offer::HEARTBEAT);
    let mut image = saved(&guest.server);
    let len = image.len();
    image.extend([0xff; 100]);
    assert_eq!(restore(&mut fresh(), &image), Ok(len));
}

#[test]
fn an_image_that_is_cut_off_anywhere_is_refused_and_leaves_a_new_server() {
    let guest = Opened::new(Offer::HEARTBEAT);
    let image = saved(&guest.server);
    let mut server = fresh();
    let new = format!("{server:?}");
    for len in 0..image.len() {
        assert_eq!(restore(&mut server, &image[..len]), Err(RestoreError::Truncated), "{len}");
        // What remains of one would stay to the next look.
        if len.is_multiple_of(61) || len + 1 == image.len() {
            assert_eq!(format!("{server:?}"), new, "{len}");
        }
    }
}

#[test]
fn something_else_or_a_newer_format_is_refused_by_name() {
    let mut image = saved(&fresh());
    assert_eq!(restore(&mut fresh(), b"ELF, or whatever it may be"), Err(RestoreError::NotAnImage));
    image[4] = 5;
    let error = restore(&mut fresh(), &image).unwrap_err();
    assert_eq!(error, RestoreError::Version(5));
    assert_eq!(error.to_string(), "saved state of unknown version 5");
}

#[test]
fn a_smaller_server_refuses_what_it_has_no_room_for_and_a_larger_one_takes_it() {
    let guest = Opened::new(Offer::ECHO);
    let image = saved(&guest.server);
    assert_eq!(
        restore(&mut Server::<1, 16, 1024>::new(Config::DEFAULT), &image),
        Err(RestoreError::OtherPartition)
    );
    assert_eq!(restore(&mut Server::<8, 0, 1024>::new(Config::DEFAULT), &image), Err(RestoreError::NoRoom));
    assert_eq!(restore(&mut Server::<8, 16, 10>::new(Config::DEFAULT), &image), Err(RestoreError::NoRoom));
    assert_eq!(restore(&mut Server::<8, 1, 11>::new(Config::DEFAULT), &image), Ok(image.len()));
}

#[test]
fn a_host_that_does_not_speak_the_version_refuses_the_connection() {
    let (mut server, mut port) = (fresh(), TestPort::new());
    connect(&mut server, &mut port, Version::V5_3);
    let image = saved(&server);
    let mut older: Server = Server::new(Config::DEFAULT.with_max_version(Version::V5_2));
    assert!(matches!(restore(&mut older, &image), Err(RestoreError::Invalid(_))));
}
