//! Rules on the packets of a video driver.

use crate::guests::*;

pub(crate) const CASES: &[Case] = &[
    (&rules::VIDEO_FORM, |m| said(m, &[message(13, &[64, 0])]), right),
    (&rules::VIDEO_MESSAGE, |m| said(m, &[message(9, &[1, 0, 0, 1])]), right),
    (&rules::VIDEO_ORDER, |m| said(m, &[situation(640, 480, 2560)]), right),
    (&rules::VIDEO_PICTURE, |m| said(m, &[location(), situation(1920, 1200, 7680)]), right),
    (&rules::VIDEO_DIRT, |m| said(m, &[location(), situation(640, 480, 2560), dirt([0, 0, 641, 8])]), right),
];

/// Builds a message after its pipe header, as Linux does, in a packet, which has whole words of 8 bytes.
fn message(kind: u32, body: &[u8]) -> Vec<u8> {
    let size = 8 + body.len() as u32;
    let head = [1, size, kind, size].map(u32::to_le_bytes).concat();
    let mut packet = [&head[..], body].concat();
    packet.resize(packet.len().next_multiple_of(8), 0);
    packet
}

fn location() -> Vec<u8> {
    let address = 0x1000_0000_u64.to_le_bytes();
    message(3, &[&address[..], &[1], &address].concat())
}

fn situation(width: u32, height: u32, pitch: u32) -> Vec<u8> {
    let size = [width, height, pitch].map(u32::to_le_bytes).concat();
    message(5, &[&[0; 8][..], &[1, 1, 0, 0, 0, 0, 32], &size].concat())
}

fn dirt(corners: [u32; 4]) -> Vec<u8> {
    message(10, &[&[0, 1][..], &corners.map(u32::to_le_bytes).concat()].concat())
}

/// Observes a host's answer to a request for a version.
fn answered(m: &TestMachine<'_>, version: u32, accepted: u8) {
    let answer = message(2, &[&version.to_le_bytes()[..], &[accepted, 1]].concat());
    show(m, &in_band(&answer).with_from_guest(false).with_transaction(0));
}

/// Runs a guest that has agreed on version 3.5, and sends these.
fn said(m: &TestMachine<'_>, messages: &[Vec<u8>]) {
    opened(m);
    device(m, 1, bus::guid::VIDEO, 1);
    show(m, &in_band(&message(1, &0x5_0003_u32.to_le_bytes())));
    answered(m, 0x5_0003, 2);
    messages.iter().for_each(|message| show(m, &in_band(message)));
}

/// Runs a guest that sends what Linux does, and reports changes.
fn right(m: &TestMachine<'_>) {
    let shape = [&[0xff, 1][..], &[1, 1, 0, 0].map(u32::to_le_bytes).concat(), &[0; 4]].concat();
    said(
        m,
        &[
            message(13, &[64]),
            location(),
            message(7, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            message(8, &shape),
            situation(1920, 1080, 7680),
            dirt([0, 0, 1920, 1080]),
            dirt([8, 16, 16, 32]),
        ],
    );
}

#[test]
fn what_the_version_does_not_have_is_out_of_order() {
    for (version, wrong) in [(0_u32, 6), (3, 3), (0x3_0003, 2), (0x5_0003, 0)] {
        let found = judge(&|m| {
            opened(m);
            device(m, 1, bus::guid::VIDEO, 1);
            if version != 0 {
                show(m, &in_band(&message(1, &version.to_le_bytes())));
                answered(m, version, 2);
            }
            for message in [message(11, &[]), message(13, &[64]), message(15, &[]), location()] {
                show(m, &in_band(&message));
            }
            if version == 0 {
                show(m, &in_band(&dirt([0, 0, 1, 1])));
                show(m, &in_band(&message(7, &[0; 10])));
            }
        });
        let found = found.iter().filter(|finding| *finding.rule == rules::VIDEO_ORDER).count();
        assert_eq!(found, wrong, "{version:#x}");
    }
}

#[test]
fn a_picture_lies_in_the_video_memory_and_changes_on_the_screen() {
    let finds = |rule: &Rule, messages: &[Vec<u8>]| {
        judge(&|m| said(m, messages)).iter().any(|finding| *finding.rule == *rule)
    };
    for bad in [(0, 480, 2560), (640, 0, 2560), (640, 480, 2559), (640, 3277, 2560), (u32::MAX, 1, u32::MAX)]
    {
        let shown = situation(bad.0, bad.1, bad.2);
        assert!(finds(&rules::VIDEO_PICTURE, &[location(), shown]), "{bad:?}");
    }
    let off = message(5, &[0; 27]);
    assert!(!finds(&rules::VIDEO_PICTURE, &[location(), off.clone()]));
    assert!(finds(&rules::VIDEO_ORDER, &[location(), off, dirt([0, 0, 8, 8])]));
    for bad in [[0, 0, 0, 8], [9, 0, 8, 8], [0, 8, 8, 8], [0, 0, 8, 481], [u32::MAX, 0, 8, 8]] {
        let messages = [location(), situation(640, 480, 2560), dirt(bad)];
        assert!(finds(&rules::VIDEO_DIRT, &messages), "{bad:?}");
    }
    let none = [location(), situation(640, 480, 2560), message(10, &[0, 0])];
    assert!(finds(&rules::VIDEO_DIRT, &none));
    // A refused version is followed by another request.
    let found = judge(&|m| {
        opened(m);
        device(m, 1, bus::guid::VIDEO, 1);
        for (version, accepted) in [(0x6_0003_u32, 0), (0x5_0003, 2)] {
            show(m, &in_band(&message(1, &version.to_le_bytes())));
            answered(m, version, accepted);
        }
    });
    assert!(of_vmbus(&found).is_empty(), "{found:?}");
}
