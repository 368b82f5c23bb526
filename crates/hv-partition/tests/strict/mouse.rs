//! Rules on the packets of a mouse's driver.

use crate::guests::*;

pub(crate) const CASES: &[Case] = &[
    (&rules::MOUSE_FORM, |m| said(m, &[&[1, 5, 0x2_0000, 1], &INFO], &[3, 2, 0], 9), right),
    (&rules::MOUSE_MESSAGE, |m| said(m, &[], &[4, 4, 0], 12), right),
    (&rules::MOUSE_ORDER, |m| said(m, &[&[1, 5, 0x2_0000, 1]], &[3, 1, 0], 9), right),
];

/// The beginning of the description of a device.
const INFO: [u32; 4] = [2, 102, 32, 0];

/// Builds a message after its pipe header, of this length.
fn message(words: &[u32], bytes: u32) -> Vec<u8> {
    [1, bytes].iter().chain(words).flat_map(|word| word.to_le_bytes()).collect()
}

/// Runs a guest that has asked for a version, was answered with these messages, and sends one.
fn said(m: &TestMachine<'_>, answers: &[&[u32]], words: &[u32], bytes: u32) {
    opened(m);
    device(m, 1, bus::guid::MOUSE, 1);
    show(m, &in_band(&message(&[0, 4, 0x2_0000], 12)).with_flags(1));
    show(m, &in_band(&[]).with_from_guest(false).with_kind(bus::PacketType::COMPLETION));
    for answer in answers {
        show(m, &in_band(&message(answer, 16)).with_from_guest(false).with_transaction(0));
    }
    show(m, &in_band(&message(words, bytes)));
}

/// Runs a guest that acknowledges the description of its mouse.
fn right(m: &TestMachine<'_>) {
    said(m, &[&[1, 5, 0x2_0000, 1], &INFO], &[3, 1, 0], 9);
}

#[test]
fn a_version_is_asked_for_and_a_description_acknowledged_once() {
    for words in [&[0, 4, 0x2_0000][..], &[3, 1, 0]] {
        let found = judge(&|m| {
            right(m);
            show(m, &in_band(&message(words, if words[0] == 0 { 12 } else { 9 })));
        });
        assert!(found.iter().any(|f| *f.rule == rules::MOUSE_ORDER), "{found:?}");
    }
    // Another version after a refusal.
    let found = judge(&|m| said(m, &[&[1, 5, 0x3_0000, 0]], &[0, 4, 0x2_0000], 12));
    assert!(of_vmbus(&found).is_empty(), "{found:?}");
}
