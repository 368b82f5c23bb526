//! Rules on the contents of rings.

use crate::guests::*;

pub(crate) const CASES: &[Case] = &[
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
    (&rules::RING_LENGTH, |m| raw(m, [6, 2, 0, 0], 24), |m| raw(m, [6, 2, 2, 0], 24)),
    (&rules::RING_OFFSET, |m| raw(m, [6, 1, 2, 0], 24), |m| raw(m, [6, 2, 2, 0], 24)),
    (
        &rules::RING_MEMORY,
        |m| {
            opened(m);
            channel::close(m, 0, 1);
            channel::take_kinds(m, 0);
            let mut pages = channel::pages(2);
            pages[1] = (RAM + RAM_SIZE) >> 12;
            list(m, 2, 6 * 4096, &pages);
            open(m, 2, 0, 3);
            channel::take_kinds(m, 0);
            m.host.memory().store_release(pages[0] << 12, 24).unwrap();
            let _ = channel::signal(m, 0, 1);
        },
        echoed,
    ),
    (
        &rules::VMBUS_DEVICE,
        |m| {
            echoed(m);
            server(m, hv_vmbus::Event::Fault { channel: bus::ChannelId(1) });
        },
        echoed,
    ),
];

/// Runs a guest that has sent a packet to the echo device and taken the answer.
fn echoed(m: &TestMachine<'_>) {
    opened(m);
    assert!(channel::put(m, 1, 7, b"ring out"));
    let _ = channel::signal(m, 0, 1);
}

/// Runs a guest that has written a descriptor into its ring, and says that it has written this many bytes.
fn raw(m: &TestMachine<'_>, [kind, offset8, length8, flags]: [u16; 4], written: u32) {
    opened(m);
    let (header, data) = (channel::pages(1)[0] << 12, channel::pages(1)[1] << 12);
    let descriptor = [kind, offset8, length8, flags].map(u16::to_le_bytes).concat();
    m.host.memory().write(data, &descriptor).unwrap();
    m.host.memory().store_release(header, written).unwrap();
    let _ = channel::signal(m, 0, 1);
}
