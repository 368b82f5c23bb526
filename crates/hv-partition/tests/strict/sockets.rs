//! Rules on the packets of a socket's driver: guests with a connection, of which the test plays the host.

use crate::guests::*;
use bus::socket::{MAX_PAYLOAD, service};

pub(crate) const CASES: &[Case] = &[
    (
        &rules::SOCKET_PACKET,
        |m| {
            connection(m, 5000, 1);
            show(m, &in_band(&packet(3)).with_flags(1));
        },
        sending,
    ),
    (&rules::SOCKET_PAYLOAD, |m| send(m, &[MAX_PAYLOAD + 1]), |m| send(m, &[MAX_PAYLOAD])),
    (
        &rules::SOCKET_END,
        |m| send(m, &[3, 0, 0]),
        |m| {
            send(m, &[3, 0]);
            // What the host sends ends nothing of the guest's, and each connection has an end of its own.
            show(m, &in_band(&packet(0)).with_from_guest(false));
            stream(m, 5000, 2);
            show(m, &in_band(&packet(3)));
        },
    ),
    (
        &rules::SOCKET_TWICE,
        |m| {
            connection(m, 5000, 1);
            connect(m, 5000, 1);
        },
        |m| {
            connection(m, 5000, 1);
            connect(m, 5000, 2);
            connect(m, 5001, 1);
            server(m, hv_vmbus::Event::Rescinded { channel: bus::ChannelId(1) });
            connect(m, 5000, 1);
        },
    ),
];

/// Runs a guest whose endpoint has a connection to a port, on channel 1.
fn connection(m: &TestMachine<'_>, port: u32, endpoint: u32) {
    opened(m);
    stream(m, port, endpoint);
}

/// Offers and opens a connection's channel.
fn stream(m: &TestMachine<'_>, port: u32, endpoint: u32) {
    let flags = bus::OfferFlags(0).with_named_pipe(true).with_socket(true);
    let (interface, instance) = (service(port), service(endpoint));
    let channel = bus::ChannelId(1);
    server(m, hv_vmbus::Event::Offered { channel, first: channel, index: 0, flags, interface, instance });
    server(m, hv_vmbus::Event::Opened { channel, vp: 0 });
}

/// Requests a connection.
fn connect(m: &TestMachine<'_>, port: u32, endpoint: u32) {
    let mut request = bus::TlConnectRequest::new_zeroed();
    request.header = bus::MessageHeader::new(bus::MessageType::TL_CONNECT_REQUEST);
    (request.endpoint, request.service) = (service(endpoint), service(port));
    post(m, 4, 1, request.as_bytes());
}

/// Builds a packet with this many bytes, as far as an observer is shown it.
fn packet(bytes: u32) -> Vec<u8> {
    let header = bus::ic::PipeHeader { packet_type: 1, message_size: bytes };
    [header.as_bytes(), &vec![0; bytes as usize]].concat()
}

/// Runs a guest that has sent packets of these lengths.
fn send(m: &TestMachine<'_>, packets: &[u32]) {
    connection(m, 5000, 1);
    for bytes in packets {
        show(m, &in_band(&packet(*bytes)));
    }
}

fn sending(m: &TestMachine<'_>) {
    send(m, &[1, MAX_PAYLOAD, 0]);
}

#[test]
fn a_right_stream_breaks_no_rule() {
    let found = judge(&|m| {
        opened(m);
        connect(m, 5000, 1);
        stream(m, 5000, 1);
        [1, MAX_PAYLOAD, 0].iter().for_each(|bytes| show(m, &in_band(&packet(*bytes))));
    });
    assert!(of_vmbus(&found).is_empty(), "{found:?}");
}

#[test]
fn a_stream_ends_with_its_channel() {
    let found = judge(&|m| {
        send(m, &[3, 0]);
        let channel = bus::ChannelId(1);
        server(m, hv_vmbus::Event::Closed { channel });
        server(m, hv_vmbus::Event::Opened { channel, vp: 0 });
        show(m, &in_band(&packet(3)));
    });
    assert!(of_vmbus(&found).is_empty(), "{found:?}");
}

#[test]
fn other_packets_than_in_band_ones_carry_no_bytes_of_a_stream() {
    let found = judge(&|m| {
        connection(m, 5000, 1);
        show(m, &in_band(&packet(3)).with_kind(bus::PacketType::DATA_USING_GPA_DIRECT));
    });
    assert!(found.iter().any(|f| *f.rule == rules::SOCKET_PACKET), "{found:?}");
}
