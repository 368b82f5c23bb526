//! Rules on the messages of RNDIS in a network card's packets.

use crate::guests::*;
use crate::network::{control, data, initialized, reply, words};
use hv_partition::record::network_part as part;

pub(crate) const CASES: &[Case] = &[
    (
        &rules::RNDIS_LENGTH,
        |m| {
            initialized(m);
            control(m, &[4, 32, 2, MAC, 0, 20, 0]);
        },
        asked,
    ),
    (
        &rules::RNDIS_MESSAGE,
        |m| {
            initialized(m);
            control(m, &[7, 20, 0x4001_000b, 0, 0]);
        },
        |m| {
            initialized(m);
            control(m, &[6, 12, 0]);
            reply(m, &[0x8000_0006, 16, 0, 1]);
            control(m, &[8, 12, 3]);
            reply(m, &[0x8000_0008, 16, 3, 0]);
        },
    ),
    (
        &rules::RNDIS_ORDER,
        |m| {
            initialized(m);
            control(m, &[3, 12, 2]);
            control(m, &[4, 28, 3, MAC, 0, 20, 0]);
        },
        |m| {
            initialized(m);
            control(m, &[3, 12, 2]);
            control(m, &[2, 24, 3, 1, 0, 0x4000]);
            reply(m, &[0x8000_0002, 52, 3, 0, 1, 0, 1, 0, 8, 0x4000, 3, 0, 0]);
            control(m, &[4, 28, 4, MAC, 0, 20, 0]);
        },
    ),
    (
        &rules::RNDIS_VERSION,
        |m| {
            initialized(m);
            control(m, &[3, 12, 2]);
            control(m, &[2, 24, 3, 1, 1, 0x4000]);
        },
        initialized,
    ),
    (
        &rules::RNDIS_REQUEST,
        |m| {
            initialized(m);
            control(m, &[4, 28, 2, MAC, 0, 20, 0]);
            control(m, &[4, 28, 2, LINK, 0, 20, 0]);
        },
        |m| {
            asked(m);
            control(m, &[4, 28, 2, LINK, 0, 20, 0]);
        },
    ),
    (
        &rules::RNDIS_INFORMATION,
        |m| {
            initialized(m);
            control(m, &[5, 32, 2, FILTER, 4, 24, 0, 0xd]);
        },
        |m| {
            initialized(m);
            control(m, &[5, 32, 2, FILTER, 4, 20, 0, 0xd]);
        },
    ),
    (
        &rules::RNDIS_SET,
        |m| {
            initialized(m);
            control(m, &[5, 32, 2, MAC, 4, 20, 0, 0xd]);
            reply(m, &[0x8000_0005, 16, 2, 0xc000_00bb]);
        },
        |m| {
            initialized(m);
            control(m, &[5, 32, 2, FILTER, 4, 20, 0, 0xd]);
            reply(m, &[0x8000_0005, 16, 2, 0]);
        },
    ),
    (
        &rules::RNDIS_QUERY,
        |m| {
            initialized(m);
            control(m, &[4, 28, 2, 0x7777, 0, 20, 0]);
            reply(m, &[0x8000_0004, 24, 2, 0xc000_00bb, 0, 0]);
        },
        asked,
    ),
    (&rules::RNDIS_FRAME, |m| frame(m, |words| words[OFFSET] += 8), right),
    (
        &rules::RNDIS_FRAME_LENGTH,
        |m| frame(m, |words| (words[LENGTH], words[BYTES]) = (76 + 1519, 1519)),
        |m| frame(m, |words| (words[LENGTH], words[BYTES]) = (76 + 1518, 1518)),
    ),
    (&rules::RNDIS_FRAME_RESERVED, |m| frame(m, |words| words[4] = 1), right),
    (&rules::RNDIS_INFO, |m| frame(m, |words| words[FIRST] = 17), right),
    (
        &rules::RNDIS_INFO_REPEATED,
        |m| frame(m, |words| words[SECOND + 1] = 0),
        |m| frame(m, |words| words[SECOND + 1] = 8),
    ),
    (
        &rules::RNDIS_LARGE_SEND,
        |m| frame(m, |words| (words[FIRST + 1], words[FIRST + 3]) = (2, large_send(0))),
        |m| {
            frame(m, |words| {
                (words[FIRST + 1], words[FIRST + 3]) = (2, large_send(1460));
                (words[LENGTH], words[BYTES]) = (76 + 8000, 8000);
            });
        },
    ),
    // Both TCP and UDP.
    (&rules::RNDIS_CHECKSUM, |m| frame(m, |words| words[FIRST + 3] |= 1 << 3), right),
    (
        &rules::RNDIS_VLAN,
        |m| frame(m, |words| words[SECOND + 3] = 0xfff << 4),
        |m| frame(m, |words| words[SECOND + 3] = 0xffe << 4 | 7),
    ),
];

/// Objects.
const MAC: u32 = 0x0101_0101;
const LINK: u32 = 0x0001_0107;
const FILTER: u32 = 0x0001_010e;
/// Bytes in which the guest puts a message.
const ROOM: u32 = 10_000;

/// Encodes a large send with this segment size, of TCP over IPv4.
const fn large_send(mss: u32) -> u32 {
    mss | 34 << 20 | 1 << 30
}

/// Runs a guest that has queried its address.
fn asked(m: &TestMachine<'_>) {
    initialized(m);
    control(m, &[4, 28, 2, MAC, 0, 20, 0]);
    reply(m, &[0x8000_0004, 30, 2, 0, 6, 16, 0x5d15_0000, 0x0102]);
}

/// Words of the message of a frame: its length, the frame's offset and length, those of the information, and the two
/// pieces of it.
const LENGTH: usize = 1;
const OFFSET: usize = 2;
const BYTES: usize = 3;
const INFO_LENGTH: usize = 8;
const FIRST: usize = 11;
const SECOND: usize = 15;

/// The message of a frame of 1000 bytes, with information about its checksums and its tag.
const FRAME: [u32; 19] =
    [1, 1076, 68, 1000, 0, 0, 0, 36, 32, 0, 0, 16, 0, 12, 1 | 1 << 2 | 34 << 16, 16, 6, 12, 5 << 4];

/// Runs a guest that has sent that message, with a change.
fn frame(m: &TestMachine<'_>, change: fn(&mut [u32; 19])) {
    initialized(m);
    let mut message = FRAME;
    change(&mut message);
    data(m, true, part::MESSAGE, &words(&message), ROOM);
}

fn right(m: &TestMachine<'_>) {
    frame(m, |_| {});
}

#[test]
fn what_is_cut_of_a_message_is_not_judged() {
    let found = judge(&|m| {
        // Longer information than is shown.
        frame(m, |words| (words[LENGTH], words[OFFSET], words[INFO_LENGTH]) = (1244, 236, 200));
        for len in 44..=76 {
            data(m, true, part::MESSAGE, &words(&FRAME)[..len], ROOM);
        }
    });
    assert!(of_vmbus(&found).is_empty(), "{found:?}");
}

#[test]
fn a_frame_without_its_header_is_named_by_its_length() {
    for (len, value) in [(4, ROOM), (8, 77), (43, 77)] {
        let found = judge(&|m| {
            initialized(m);
            let message = [&words(&[1, 77])[..], &[0; 36]].concat();
            data(m, true, part::MESSAGE, &message[..len], ROOM);
        });
        let values: Vec<_> =
            found.iter().filter(|f| *f.rule == rules::RNDIS_FRAME).map(|f| f.value).collect();
        assert_eq!(values, [u64::from(value)], "{len}");
    }
}
