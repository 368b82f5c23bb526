//! Rules on packets of any device.

use crate::guests::*;
use hv_vmbus::ring::{Outgoing, Producer, Ring};

pub(crate) const CASES: &[Case] = &[
    (
        &rules::PACKET_TYPE,
        |m| send(m, bus::PacketType::CANCEL_REQUEST, 0, 7, 0),
        |m| send(m, bus::PacketType::DATA_IN_BAND, 0, 7, 0),
    ),
    (
        &rules::PACKET_FLAGS,
        |m| send(m, bus::PacketType::DATA_IN_BAND, 3, 7, 0),
        |m| send(m, bus::PacketType::DATA_IN_BAND, 1, 7, 0),
    ),
    (
        &rules::PACKET_ID_ZERO,
        |m| send(m, bus::PacketType::DATA_IN_BAND, 1, 0, 0),
        |m| send(m, bus::PacketType::DATA_IN_BAND, 0, 0, 0),
    ),
    (
        &rules::PACKET_ID_USED,
        |m| {
            opened(m);
            for _ in 0..2 {
                show(m, &in_band(&[0; 8]).with_flags(1));
            }
        },
        |m| {
            opened(m);
            // The same id, completed before, and on another channel.
            for _ in 0..2 {
                put(m, bus::PacketType::DATA_IN_BAND, 1, 7, 0);
            }
            for channel in 1..3 {
                show(m, &in_band(&[0; 8]).with_channel(bus::ChannelId(channel)).with_flags(1));
            }
        },
    ),
    (
        &rules::PACKET_UNASKED,
        |m| send(m, bus::PacketType::COMPLETION, 0, 7, 0),
        |m| {
            opened(m);
            show(m, &in_band(&[0; 8]).with_flags(1).with_from_guest(false));
            put(m, bus::PacketType::COMPLETION, 0, 7, 0);
        },
    ),
    (
        &rules::PACKET_RANGES,
        |m| send(m, bus::PacketType::DATA_USING_GPA_DIRECT, 1, 7, 8),
        |m| {
            opened(m);
            show(m, &listing(Ok(Listed::new(1, 8))));
        },
    ),
    (
        &rules::PACKET_OUTSIDE,
        |m| {
            opened(m);
            show(m, &listing(Err(PagesError::NotMemory)));
        },
        |m| send(m, bus::PacketType::DATA_USING_GPA_DIRECT, 1, 7, 8),
    ),
    (
        &rules::PACKET_PAGES,
        // The echo device takes none.
        |m| send(m, bus::PacketType::DATA_USING_GPA_DIRECT, 1, 7, 24),
        |m| send(m, bus::PacketType::DATA_USING_GPA_DIRECT, 1, 7, 8),
    ),
    (
        &rules::PIPE_HEADER,
        |m| {
            opened(m);
            device(m, 1, bus::guid::HEARTBEAT, 1);
            show(m, &in_band(&[[1, 0, 0, 0], [9, 0, 0, 0], [0; 4], [0; 4]].concat()));
        },
        |m| {
            opened(m);
            device(m, 1, bus::guid::HEARTBEAT, 1);
            show(m, &in_band(&[[1, 0, 0, 0], [8, 0, 0, 0], [0; 4], [0; 4]].concat()));
        },
    ),
];

fn listing(listed: Result<Listed, PagesError>) -> Seen<'static> {
    in_band(&[]).with_kind(bus::PacketType::DATA_USING_GPA_DIRECT).with_listed(listed)
}

/// Runs a guest that sends a packet to the echo device.
fn send(m: &TestMachine<'_>, kind: bus::PacketType, flags: u16, id: u64, header: u32) {
    opened(m);
    put(m, kind, flags, id, header);
}

/// Sends a packet; `header` bytes before its payload list a range of one page, as far as they go.
fn put(m: &TestMachine<'_>, kind: bus::PacketType, flags: u16, id: u64, header: u32) {
    let pages = channel::pages(1);
    let ring = Ring::new(m.host.memory(), &pages[..3]).unwrap();
    let packet = Outgoing { packet_type: kind, flags, transaction_id: id, len: 8 };
    let count = u32::from(header > 8);
    let range =
        [[0, count, 8, 0].map(u32::to_le_bytes).concat(), (PAGE >> 12).to_le_bytes().to_vec()].concat();
    let range = &range[..header as usize];
    let all = [range, &[5; 8]].concat();
    let pushed = Producer::attach(&ring).unwrap().push_behind(&ring, &packet, header, |at, into| {
        into.copy_from_slice(&all[at as usize..][..into.len()]);
        Ok(())
    });
    assert!(pushed.is_ok(), "{pushed:?}");
    let _ = channel::signal(m, 0, 1);
}

#[test]
fn an_observer_gets_the_bytes_that_the_device_gets_once_and_the_answer_after_them() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    run_bare(Config::new(62_500_000), VPS, &[], |m| {
        (0..VPS).for_each(|vp| m.online(vp));
        opened(m);
        m.host.set_observer(move |observed| {
            if let Observed::Bus(BusEvent::Packet(packet)) = observed {
                let Seen { from_guest, kind, len, payload, .. } = *packet;
                sink.lock().unwrap().push((from_guest, kind, len, payload.to_vec()));
            }
        });
        let text = [b'x'; 100];
        assert!(channel::put(m, 1, 7, &text));
        let _ = channel::signal(m, 0, 1);
    });
    let front = vec![b'x'; hv_vmbus::SEEN_BYTES];
    let kind = bus::PacketType::DATA_IN_BAND;
    let expected = vec![(true, kind, 104, front.clone()), (false, kind, 104, front)];
    assert_eq!(*seen.lock().unwrap(), expected);
}
