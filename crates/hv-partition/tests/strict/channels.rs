//! Rules on VMBus's messages, page lists and channels.

use crate::guests::*;
use hv_vmbus::Event as Server;

pub(crate) const CASES: &[Case] = &[
    (
        &rules::VMBUS_MESSAGE,
        |m| {
            ready(m);
            post(m, 4, 1, &[14, 0]);
        },
        connected,
    ),
    (
        &rules::VMBUS_TYPE,
        |m| {
            connected(m);
            bus_message(m, bus::MessageType(99), &[]);
        },
        closed,
    ),
    (
        &rules::VMBUS_LENGTH,
        |m| {
            connected(m);
            bus_message(m, bus::MessageType::REQUEST_OFFERS, &[0]);
        },
        closed,
    ),
    (
        &rules::VMBUS_PADDING,
        |m| {
            connected(m);
            post(m, 4, 1, &[3, 0, 0, 0, 1, 0, 0, 0]);
        },
        closed,
    ),
    (
        &rules::VMBUS_ORDER,
        |m| {
            ready(m);
            bus_message(m, bus::MessageType::REQUEST_OFFERS, &[]);
        },
        |m| {
            connected(m);
            bus_message(m, bus::MessageType::REQUEST_OFFERS, &[]);
        },
    ),
    (
        &rules::VMBUS_OFFERS,
        |m| {
            connected(m);
            bus_message(m, bus::MessageType::REQUEST_OFFERS, &[]);
            bus_message(m, bus::MessageType::REQUEST_OFFERS, &[]);
        },
        |m| {
            // Once in each connection.
            for _ in 0..2 {
                connected(m);
                bus_message(m, bus::MessageType::REQUEST_OFFERS, &[]);
                m.take_message(0, SINT);
                bus_message(m, bus::MessageType::UNLOAD, &[]);
                m.take_message(0, SINT);
            }
        },
    ),
    (
        &rules::VMBUS_CONTACT,
        |m| {
            ready(m);
            post(m, 4, 1, contact(5).as_bytes());
        },
        connected,
    ),
    (
        &rules::VMBUS_MONITOR,
        |m| {
            ready(m);
            let mut one = contact(SINT);
            one.monitor_page_in = PAGE;
            post(m, 4, 1, one.as_bytes());
        },
        |m| {
            ready(m);
            let mut both = contact(SINT);
            (both.monitor_page_in, both.monitor_page_out) = (PAGE, PAGE + 4096);
            post(m, 4, 1, both.as_bytes());
        },
    ),
    (
        &rules::VMBUS_AGAIN,
        |m| {
            connected(m);
            post(m, 4, 1, contact(SINT).as_bytes());
        },
        |m| {
            connected(m);
            bus_message(m, bus::MessageType::UNLOAD, &[]);
            m.take_message(0, SINT);
            post(m, 4, 1, contact(SINT).as_bytes());
        },
    ),
    (
        &rules::VMBUS_VERSION,
        |m| {
            ready(m);
            ask(m, 0x7_0001);
            ask(m, 0x7_0001);
        },
        |m| {
            ready(m);
            ask(m, 0x7_0001);
            ask(m, 0x7_0000);
            ask(m, bus::Version::V5_3.0);
        },
    ),
    (
        &rules::VMBUS_SYNIC,
        |m| {
            ready(m);
            set(m, Name::SIMP, m.message_page(0));
            post(m, 4, 1, contact(SINT).as_bytes());
        },
        |m| {
            // Another VP's SynIC is off.
            ready(m);
            m.set(1, Name::SCONTROL, 0).unwrap();
            post(m, 4, 1, contact(SINT).as_bytes());
        },
    ),
    (
        &rules::VMBUS_GPADL,
        |m| {
            opened(m);
            list(m, 2, 0, &[PAGE >> 12]);
        },
        |m| {
            opened(m);
            list(m, 2, 100, &[PAGE >> 12]);
        },
    ),
    (
        &rules::GPADL_UNKNOWN,
        |m| {
            opened(m);
            bus_message(m, bus::MessageType::GPADL_TEARDOWN, &[1, 77]);
        },
        closed,
    ),
    (
        &rules::GPADL_TWICE,
        |m| {
            opened(m);
            list(m, 1, 4096, &[PAGE >> 12]);
        },
        |m| {
            closed(m);
            list(m, 1, 4096, &[PAGE >> 12]);
        },
    ),
    (
        &rules::GPADL_BUSY,
        |m| {
            opened(m);
            for _ in 0..2 {
                bus_message(m, bus::MessageType::GPADL_TEARDOWN, &[1, 1]);
            }
        },
        closed,
    ),
    (
        &rules::GPADL_ZERO,
        |m| {
            opened(m);
            list(m, 0, 4096, &[PAGE >> 12]);
        },
        closed,
    ),
    (
        &rules::GPADL_LENGTH,
        |m| {
            opened(m);
            list(m, 2, 4096, &[PAGE >> 12, (PAGE >> 12) + 1]);
        },
        |m| {
            opened(m);
            // The second page is that of an offset.
            list(m, 2, 4096 | 1 << 32, &[PAGE >> 12, (PAGE >> 12) + 1]);
        },
    ),
    (
        &rules::GPADL_OUTSIDE,
        |m| {
            opened(m);
            list(m, 2, 8192, &[PAGE >> 12, (RAM + RAM_SIZE) >> 12]);
        },
        |m| {
            opened(m);
            list(m, 2, 8192, &[PAGE >> 12, ((RAM + RAM_SIZE) >> 12) - 1]);
        },
    ),
    (
        &rules::GPADL_REPEATED,
        |m| {
            opened(m);
            list(m, 2, 8192, &[PAGE >> 12; 2]);
        },
        |m| {
            opened(m);
            list(m, 2, 8192, &[PAGE >> 12, (PAGE >> 12) + 1]);
        },
    ),
    (
        &rules::GPADL_EARLY,
        |m| {
            opened(m);
            bus_message(m, bus::MessageType::GPADL_TEARDOWN, &[1, 1]);
        },
        |m| {
            // Another list than that of the rings.
            opened(m);
            list(m, 2, 4096, &[PAGE >> 12]);
            bus_message(m, bus::MessageType::GPADL_TEARDOWN, &[1, 2]);
            channel::close(m, 0, 1);
        },
    ),
    (
        &rules::GPADL_LEFT,
        |m| {
            opened(m);
            bus_message(m, bus::MessageType::CLOSE_CHANNEL, &[1]);
            list(m, 2, 6 * 4096, &channel::pages(2));
            open(m, 2, 0, 3);
        },
        |m| {
            closed(m);
            list(m, 2, 6 * 4096, &channel::pages(2));
            open(m, 2, 0, 3);
            bus_message(m, bus::MessageType::CLOSE_CHANNEL, &[1]);
            // The same list again.
            open(m, 2, 0, 3);
        },
    ),
    (
        &rules::VMBUS_CHANNEL,
        |m| {
            connected(m);
            bus_message(m, bus::MessageType::CLOSE_CHANNEL, &[77]);
        },
        closed,
    ),
    (
        &rules::CHANNEL_TWICE,
        |m| {
            opened(m);
            open(m, 1, 0, 3);
        },
        |m| {
            opened(m);
            bus_message(m, bus::MessageType::CLOSE_CHANNEL, &[1]);
            open(m, 1, 0, 3);
        },
    ),
    (
        &rules::CHANNEL_RELEASE,
        |m| {
            opened(m);
            bus_message(m, bus::MessageType::RELID_RELEASED, &[1]);
        },
        |m| {
            closed(m);
            bus_message(m, bus::MessageType::RELID_RELEASED, &[1]);
        },
    ),
    (
        &rules::CHANNEL_CLOSED,
        |m| {
            closed(m);
            bus_message(m, bus::MessageType::CLOSE_CHANNEL, &[1]);
        },
        closed,
    ),
    (
        &rules::CHANNEL_PENDING,
        |m| {
            opened(m);
            show(m, &in_band(&[0; 8]).with_flags(1));
            channel::close(m, 0, 1);
        },
        |m| {
            opened(m);
            show(m, &in_band(&[0; 8]).with_flags(1));
            let kind = bus::PacketType::COMPLETION;
            show(m, &in_band(&[]).with_from_guest(false).with_kind(kind));
            channel::close(m, 0, 1);
        },
    ),
    (
        &rules::VMBUS_RING,
        |m| {
            closed(m);
            list(m, 2, 6 * 4096, &channel::pages(2));
            open(m, 2, 0, 6);
        },
        |m| {
            closed(m);
            list(m, 2, 6 * 4096, &channel::pages(2));
            open(m, 2, 0, 4);
        },
    ),
    (
        &rules::VMBUS_TARGET,
        |m| {
            closed(m);
            list(m, 2, 6 * 4096, &channel::pages(2));
            open(m, 2, 99, 3);
        },
        |m| {
            closed(m);
            list(m, 2, 6 * 4096, &channel::pages(2));
            open(m, 2, 2, 3);
        },
    ),
    (
        &rules::CHANNEL_FLAG,
        |m| {
            connected(m);
            for reason in [hv_vmbus::Reason::BadFlag, hv_vmbus::Reason::BadConnection] {
                server(m, Server::Rejected { message: bus::MessageType::OPEN_CHANNEL, reason });
            }
        },
        opened,
    ),
    (
        &rules::CHANNEL_SILENT,
        |m| {
            closed(m);
            list(m, 2, 6 * 4096, &channel::pages(2));
            open(m, 2, bus::TARGET_VP_NONE, 3);
            channel::modify(m, 0, 1, 1);
        },
        |m| {
            opened(m);
            channel::modify(m, 0, 1, 1);
        },
    ),
    (
        &rules::CHANNEL_TARGET,
        |m| {
            opened(m);
            m.set(2, Name::SINT2, 0x1_0012).unwrap();
            channel::modify(m, 0, 1, 2);
        },
        |m| {
            closed(m);
            list(m, 2, 6 * 4096, &channel::pages(2));
            open(m, 2, bus::TARGET_VP_NONE, 3);
            bus_message(m, bus::MessageType::CLOSE_CHANNEL, &[1]);
            open(m, 2, 1, 3);
            channel::modify(m, 0, 1, 2);
        },
    ),
    (
        &rules::CHANNEL_OFFLINE,
        |m| {
            opened(m);
            channel::modify(m, 0, 1, 2);
            let _ = m.smccc(2, psci::CPU_OFF, [0; 3]);
        },
        |m| {
            opened(m);
            channel::modify(m, 0, 1, 2);
            channel::modify(m, 0, 1, 0);
            let _ = m.smccc(2, psci::CPU_OFF, [0; 3]);
        },
    ),
    (
        &rules::SUBCHANNEL_EARLY,
        |m| {
            opened(m);
            sub_channel(m);
            channel::close(m, 0, 1);
            bus_message(m, bus::MessageType::OPEN_CHANNEL, &[2; 35]);
        },
        |m| {
            opened(m);
            sub_channel(m);
            bus_message(m, bus::MessageType::OPEN_CHANNEL, &[2; 35]);
        },
    ),
    (
        &rules::SUBCHANNEL_LATE,
        |m| {
            opened(m);
            sub_channel(m);
            server(m, Server::Opened { channel: bus::ChannelId(2), vp: 0 });
            channel::close(m, 0, 1);
        },
        |m| {
            opened(m);
            sub_channel(m);
            server(m, Server::Opened { channel: bus::ChannelId(2), vp: 0 });
            server(m, Server::Closed { channel: bus::ChannelId(2) });
            channel::close(m, 0, 1);
        },
    ),
];

/// Runs a guest that closes its channel and takes its pages back.
fn closed(m: &TestMachine<'_>) {
    opened(m);
    channel::close(m, 0, 1);
    channel::take_kinds(m, 0);
}

/// Asks for a version.
fn ask(m: &TestMachine<'_>, version: u32) {
    let mut contact = contact(SINT);
    contact.version = bus::Version(version);
    post(m, 4, 1, contact.as_bytes());
    m.take_message(0, SINT);
}

/// Offers a sub-channel of the opened channel.
fn sub_channel(m: &TestMachine<'_>) {
    server(
        m,
        Server::Offered {
            channel: bus::ChannelId(2),
            first: bus::ChannelId(1),
            index: 1,
            flags: bus::OfferFlags(0),
            interface: bus::guid::SCSI,
            instance: bus::Guid::ZERO,
        },
    );
}

#[test]
fn a_request_that_crosses_a_rescind_is_no_finding() {
    let found = judge(&|m| {
        opened(m);
        bus_message(m, bus::MessageType::CLOSE_CHANNEL, &[1]);
        m.partition.with_vmbus(&m.host, |bus| assert!(bus.rescind(bus::ChannelId(1))));
        open(m, 1, 0, 3);
        channel::modify(m, 0, 1, 1);
    });
    assert!(of_vmbus(&found).is_empty(), "{found:?}");
}

#[test]
fn a_restored_partitions_synics_are_not_known() {
    let found = judge(&|m| {
        opened(m);
        m.host.observe(&Event::Restored);
        m.set(1, Name::SCONTROL, 0).unwrap();
        channel::modify(m, 0, 1, 1);
    });
    assert!(found.iter().all(|f| *f.rule != rules::CHANNEL_TARGET), "{found:?}");
}

#[test]
fn channels_and_packets_beyond_those_that_are_followed_are_left_out() {
    let mut judge = Judge::<1>::new(RAM, RAM_SIZE);
    let none = &mut |finding| panic!("{finding:?}");
    let packet = in_band(&[0; 8]).with_channel(bus::ChannelId(u32::MAX)).with_flags(1);
    for _ in 0..2 {
        judge.bus_event(&BusEvent::Packet(packet), none);
    }
    for transaction in 1..1000 {
        judge
            .bus_event(&BusEvent::Packet(in_band(&[0; 8]).with_flags(1).with_transaction(transaction)), none);
    }
    // What was not followed may be used again; its completion is no surprise.
    judge.bus_event(&BusEvent::Packet(in_band(&[0; 8]).with_flags(1).with_transaction(999)), none);
    let kind = bus::PacketType::COMPLETION;
    let completion = in_band(&[]).with_from_guest(false).with_kind(kind).with_transaction(999);
    judge.bus_event(&BusEvent::Packet(completion), none);
}
