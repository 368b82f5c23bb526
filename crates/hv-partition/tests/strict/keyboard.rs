//! Rules on the packets of a keyboard's driver.

use crate::guests::*;

pub(crate) const CASES: &[Case] = &[
    (&rules::KEYBOARD_FORM, |m| said(m, &[], &[1]), agreeing),
    (&rules::KEYBOARD_MESSAGE, |m| said(m, &[2, 1], &[3, 0]), lit),
    (&rules::KEYBOARD_ORDER, |m| said(m, &[2, 0], &[4, 1]), lit),
];

/// Runs a guest that has asked for a version, was answered with the words of `answer`, and sends those of `message`.
fn said(m: &TestMachine<'_>, answer: &[u32], message: &[u32]) {
    opened(m);
    device(m, 1, bus::guid::KEYBOARD, 1);
    show(m, &in_band(&words(&[1, 0x1_0000])).with_flags(1));
    show(m, &in_band(&[]).with_from_guest(false).with_kind(bus::PacketType::COMPLETION));
    show(m, &in_band(&words(answer)).with_from_guest(false).with_transaction(0));
    show(m, &in_band(&words(message)).with_len(message.len() as u32 * 4));
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Runs a guest whose first version was refused, and that asks for another.
fn agreeing(m: &TestMachine<'_>) {
    said(m, &[2, 0], &[1, 0x1_0000]);
}

/// Runs a guest that reports the lights of its keys.
fn lit(m: &TestMachine<'_>) {
    said(m, &[2, 1], &[4, 7]);
}

#[test]
fn a_version_is_asked_for_once() {
    let found = judge(&|m| said(m, &[2, 1], &[1, 0x1_0000]));
    assert!(found.iter().any(|f| *f.rule == rules::KEYBOARD_ORDER), "{found:?}");
    // Only the guest's own messages are judged.
    let found = judge(&|m| {
        lit(m);
        show(m, &in_band(&words(&[3, 0x1e, 0, 0])).with_from_guest(false));
    });
    assert!(of_vmbus(&found).is_empty(), "{found:?}");
}

#[test]
fn a_version_is_asked_for_again_when_the_channel_is_opened_again() {
    let found = judge(&|m| {
        lit(m);
        let channel = bus::ChannelId(1);
        server(m, hv_vmbus::Event::Closed { channel });
        server(m, hv_vmbus::Event::Opened { channel, vp: 0 });
        show(m, &in_band(&words(&[1, 0x1_0000])));
    });
    assert!(of_vmbus(&found).is_empty(), "{found:?}");
}
