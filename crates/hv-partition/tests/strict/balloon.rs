//! Rules on the packets of the driver of dynamic memory.

use crate::guests::*;

pub(crate) const CASES: &[Case] = &[
    (&rules::BALLOON_FORM, |m| reporting(m, 40), |m| reporting(m, 48)),
    (&rules::BALLOON_MESSAGE, |m| saying(m, &message(6, &[512])), |m| reporting(m, 48)),
    (
        &rules::BALLOON_ORDER,
        |m| {
            opened(m);
            device(m, 1, bus::guid::DYNAMIC_MEMORY, 1);
            show(m, &in_band(&message(3, &[1, 0, 0])));
        },
        |m| reporting(m, 48),
    ),
    (&rules::BALLOON_UNASKED, |m| saying(m, &message(9, &[])), given),
    (&rules::BALLOON_RANGE, |m| giving_up(m, &[1 << 40, 0]), |m| giving_up(m, &[1 << 40, 511 << 40 | 9])),
    (&rules::BALLOON_PAGES, |m| giving_up(m, &[1 << 40, 512 << 40]), |m| giving_up(m, &[512 << 40])),
];

/// Builds a message of these words after its header.
fn message(kind: u16, words: &[u64]) -> Vec<u8> {
    let head = [kind, 8 + words.len() as u16 * 8, 1, 0].map(u16::to_le_bytes).concat();
    [head, words.iter().flat_map(|word| word.to_le_bytes()).collect()].concat()
}

fn host(m: &TestMachine<'_>, message: &[u8]) {
    show(m, &in_band(message).with_from_guest(false).with_transaction(0));
}

/// Runs a guest until it has agreed on a version, at the second attempt, and has declared its capabilities.
fn agreed(m: &TestMachine<'_>) {
    opened(m);
    device(m, 1, bus::guid::DYNAMIC_MEMORY, 1);
    for (version, accepted) in [(0x2_0000, 0), (0x1_0000, 1)] {
        show(m, &in_band(&message(1, &[version])));
        host(m, &message(2, &[accepted]));
    }
    show(m, &in_band(&message(3, &[1, 0, u64::MAX])));
    host(m, &message(4, &[1]));
}

/// Runs an agreed guest that then sends this.
fn saying(m: &TestMachine<'_>, message: &[u8]) {
    agreed(m);
    show(m, &in_band(message));
}

/// Runs an agreed guest that then reports its need for memory, with this size.
fn reporting(m: &TestMachine<'_>, size: u8) {
    let mut report = message(5, &[1, 2, 0, 0, 0]);
    report[2] = size;
    saying(m, &report);
}

/// Runs an agreed guest that then gives up ranges when it is asked for 512 pages.
fn giving_up(m: &TestMachine<'_>, ranges: &[u64]) {
    agreed(m);
    host(m, &message(6, &[512]));
    let head = (ranges.len() as u64) << 33;
    show(m, &in_band(&message(7, &[&[head], ranges].concat())));
}

/// Runs an agreed guest that then answers when it is given pages back.
fn given(m: &TestMachine<'_>) {
    giving_up(m, &[512 << 40 | 77]);
    host(m, &message(8, &[1 << 32, 512 << 40 | 77]));
    show(m, &in_band(&message(9, &[])));
}

#[test]
fn a_right_driver_breaks_no_rule_and_answers_once() {
    let found = judge(&|m| {
        given(m);
        // In several messages.
        host(m, &message(6, &[1024]));
        show(m, &in_band(&message(7, &[1 << 33 | 1 << 32, 512 << 40 | 77])));
        show(m, &in_band(&message(7, &[1 << 33, 512 << 40 | 1077])));
    });
    assert!(of_vmbus(&found).is_empty(), "{found:?}");
    let found = judge(&|m| {
        giving_up(m, &[512 << 40]);
        show(m, &in_band(&message(7, &[0])));
    });
    assert!(found.iter().any(|f| *f.rule == rules::BALLOON_UNASKED), "{found:?}");
    // The driver may be loaded again.
    let found = judge(&|m| {
        given(m);
        let channel = bus::ChannelId(1);
        server(m, hv_vmbus::Event::Closed { channel });
        server(m, hv_vmbus::Event::Opened { channel, vp: 0 });
        show(m, &in_band(&message(1, &[0x2_0000])));
    });
    assert!(of_vmbus(&found).is_empty(), "{found:?}");
    // A completion is not wanted, nor is anything that is not in-band.
    let found = judge(&|m| {
        agreed(m);
        show(m, &in_band(&message(5, &[0; 5])).with_flags(1));
    });
    assert!(found.iter().any(|f| *f.rule == rules::BALLOON_FORM), "{found:?}");
}
