//! Rules on VPs, crashes and VMBus.

use crate::channel;
use crate::guests::*;
use hv_devices::any::Offer;

pub(crate) const CASES: &[Case] = &[
    (
        &rules::START_VP,
        |m| {
            identified(m);
            call(m, simple(Code::START_VP), &[PARTITION_ID_SELF, 1, RAM, 0, 0, 0, 0, 0, 0, 0, 0]);
        },
        |m| {
            identified(m);
            m.offline(1);
            call(m, simple(Code::START_VP), &[PARTITION_ID_SELF, 1, RAM, 0, 0, 0, 0, 0, 0, 0, 0]);
        },
    ),
    (
        &rules::PSCI_ON,
        |m| {
            let _ = m.smccc(0, psci::CPU_ON | psci::SMC64, [9, RAM, 0]);
        },
        |m| {
            let _ = m.smccc(0, psci::CPU_ON | psci::SMC64, [1, RAM, 0]);
        },
    ),
    (
        &rules::CRASH_TWICE,
        |m| {
            crash(m, 1 << 63, 0, 0);
            crash(m, 1 << 63, 0, 0);
        },
        |m| crash(m, 1 << 63, 0, 0),
    ),
    (&rules::CRASH_RESERVED, |m| crash(m, 1 << 63 | 1, 0, 0), |m| crash(m, 7 << 61, PAGE, 5)),
    (&rules::CRASH_SILENT, |m| crash(m, 1 << 62, PAGE, 5), |m| crash(m, 3 << 62, PAGE, 5)),
    (&rules::CRASH_EMPTY, |m| crash(m, 3 << 62, PAGE, 0), |m| crash(m, 1 << 63, PAGE, 0)),
    (&rules::CRASH_LONG, |m| crash(m, 3 << 62, PAGE, 5000), |m| crash(m, 3 << 62, PAGE, 4096)),
    (&rules::CRASH_ADDRESS, |m| crash(m, 3 << 62, 0xffff_8000_0000_0000, 5), |m| crash(m, 3 << 62, PAGE, 5)),
    (
        &rules::VMBUS_MESSAGE,
        |m| {
            ready(m);
            post(m, 4, 1, &[14, 0]);
        },
        connected,
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
        &rules::VMBUS_CONTACT,
        |m| {
            ready(m);
            post(m, 4, 1, contact(5).as_bytes());
        },
        connected,
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
        &rules::VMBUS_CHANNEL,
        |m| {
            connected(m);
            bus_message(m, bus::MessageType::CLOSE_CHANNEL, &[77]);
        },
        connected,
    ),
    (
        &rules::VMBUS_GPADL,
        |m| {
            connected(m);
            bus_message(m, bus::MessageType::GPADL_TEARDOWN, &[77, 78]);
        },
        connected,
    ),
    (
        &rules::VMBUS_RING,
        |m| {
            connected(m);
            let event = hv_vmbus::Event::Rejected {
                message: bus::MessageType::OPEN_CHANNEL,
                reason: hv_vmbus::Reason::BadRing,
            };
            m.host.observe_bus(&BusEvent::Server(event));
        },
        connected,
    ),
    (
        &rules::VMBUS_TARGET,
        |m| {
            connected(m);
            let event = hv_vmbus::Event::Rejected {
                message: bus::MessageType::OPEN_CHANNEL,
                reason: hv_vmbus::Reason::UnknownVp,
            };
            m.host.observe_bus(&BusEvent::Server(event));
        },
        connected,
    ),
    (
        &rules::VMBUS_RING_DATA,
        |m| {
            echoed(m);
            // The write index lies beyond the data.
            m.host.memory().store_release(channel::pages(1)[0] << 12, 0x10_0000).unwrap();
            let _ = channel::signal(m, 0, 1);
        },
        echoed,
    ),
    (
        &rules::VMBUS_DEVICE,
        |m| {
            echoed(m);
            m.host.observe_bus(&BusEvent::Server(hv_vmbus::Event::Fault { channel: bus::ChannelId(1) }));
        },
        echoed,
    ),
];

/// A guest that has sent a packet to the echo device and taken the answer.
fn echoed(m: &TestMachine<'_>) {
    ready(m);
    m.partition.with_vmbus(&m.host, |bus| bus.offer(Offer::ECHO)).unwrap();
    channel::connect(m, 0);
    channel::open(m, 0, 1, 0);
    channel::take_kinds(m, 0);
    assert!(channel::put(m, 1, 7, b"ring out"));
    let _ = channel::signal(m, 0, 1);
}
