//! The screen as guests see it: one that does what Linux's drivers/video/fbdev/hyperv_fb.c does, and hostile ones.

#[expect(dead_code, reason = "the guest of the tests of input devices, of which a part is used here")]
#[path = "../input/guest.rs"]
mod guest;
mod hostile;
#[path = "../common/single.rs"]
mod single;

use guest::{Guest, Packet, Played};
use hv_devices::ic::{AGREED, IGNORED, Outcome, Refused, State};
use hv_devices::video::{NO_PICTURE, OFFER, Picture, REFUSED, ScreenArea, Video};
use hv_tlfs::vmbus::PacketType;
use hv_tlfs::vmbus::ic::Version;
use hv_tlfs::vmbus::video::{EDID_BYTES, VRAM_BYTES};
use hv_vmbus::{Io, Never};
use single::{Host, Left};

/// The window: twice the memory.
const WINDOW: u64 = 0x1000_0000;
const WINDOW_BYTES: u64 = 2 * VRAM_BYTES as u64;

impl Played for Video {
    fn ask(&mut self, _: &mut Io<'_, Host, Never>, _: bool) -> Result<(), Refused> {
        Err(Refused::Unsupported)
    }

    fn outcome(&mut self) -> Option<Outcome> {
        None
    }
}

/// Builds a message after its pipe header.
fn message(kind: u32, body: &[u8]) -> Vec<u8> {
    let size = 8 + body.len() as u32;
    let head = [1, size, kind, size].map(u32::to_le_bytes).concat();
    [&head[..], body].concat()
}

fn location(context: u64, address: Option<u64>) -> Vec<u8> {
    let place = address.unwrap_or_default().to_le_bytes();
    message(3, &[&context.to_le_bytes()[..], &[address.is_some().into()], &place].concat())
}

/// What is to be shown: offset, depth, width, height, pitch.
type Shown = (u32, u8, u32, u32, u32);

const FULL: Shown = (0, 32, 1920, 1080, 7680);

fn situation((offset, depth, width, height, pitch): Shown, active: u8) -> Vec<u8> {
    let size = [width, height, pitch].map(u32::to_le_bytes).concat();
    message(5, &[&7_u64.to_le_bytes()[..], &[1, active], &offset.to_le_bytes(), &[depth], &size].concat())
}

fn dirt(parts: &[[i32; 4]]) -> Vec<u8> {
    let corners: Vec<u8> = parts.iter().flatten().flat_map(|corner| corner.to_le_bytes()).collect();
    message(10, &[&[0, parts.len() as u8][..], &corners].concat())
}

/// Returns kind and body of a message from the host.
fn read(packet: &Packet) -> (u32, &[u8]) {
    assert_eq!((packet.kind, packet.id), (PacketType::DATA_IN_BAND, 0));
    let word = |at: usize| u32::from_le_bytes(packet.payload[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(4)), (1, word(12)), "the pipe's header, and the message's");
    (word(8), &packet.payload[16..8 + word(4) as usize])
}

fn device() -> Video {
    let mut video = Video::new();
    video.set_window(WINDOW, WINDOW_BYTES);
    video
}

/// Sends a message as Linux does, without a completion, and returns the answers.
fn say(guest: &Guest<Video>, message: &[u8]) -> Vec<(u32, Vec<u8>)> {
    assert!(guest.send(PacketType::DATA_IN_BAND, 0, 1, message));
    let owned = |packet: &Packet| {
        let (kind, body) = read(packet);
        (kind, body.to_vec())
    };
    guest.receive_all().iter().map(owned).collect()
}

/// Creates a guest that has agreed on this version.
fn agreed(version: u32) -> Guest<Video> {
    let guest = Guest::opened(device(), OFFER);
    let answers = say(&guest, &message(1, &version.to_le_bytes()));
    assert_eq!(answers, [(2, [&version.to_le_bytes()[..], &[2, 1]].concat())]);
    guest
}

/// Creates a guest that shows a full picture.
fn showing() -> Guest<Video> {
    let guest = agreed(0x5_0003);
    say(&guest, &location(9, Some(WINDOW)));
    say(&guest, &situation(FULL, 1));
    guest
}

fn picture(guest: &Guest<Video>) -> Option<Picture> {
    guest.with(|device, _| device.picture())
}

fn changed(guest: &Guest<Video>) -> ScreenArea {
    guest.with(|device, _| device.take_changed())
}

fn state(guest: &Guest<Video>) -> State {
    guest.with(|device, _| device.state())
}

#[test]
fn a_stock_driver_has_a_picture() {
    let guest = Guest::opened(device(), OFFER);
    assert_eq!(state(&guest), State::Negotiating);
    let answers = say(&guest, &message(1, &0x5_0003_u32.to_le_bytes()));
    assert_eq!(answers, [(2, vec![3, 0, 5, 0, 2, 1])]);
    let version = Version { major: 3, minor: 5 };
    assert_eq!(state(&guest), State::Ready { framework: version, version });
    assert_eq!(guest.host.notes.take(), [(AGREED, 0x3_0005)]);

    let [(kind, answer)] = &say(&guest, &message(13, &[64]))[..] else { panic!("one answer") };
    let (edid, rest) = answer.split_at(EDID_BYTES);
    assert_eq!((*kind, &rest[..3], rest.len()), (14, &[8, 0, 0][..], 3 + 8 * 4));
    assert_eq!(&edid[..8], [0, 255, 255, 255, 255, 255, 255, 0]);
    assert_eq!(edid.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0, "the description's sum");
    // It begins with 1024x768, and 1920x1080 is the largest.
    assert_eq!((&rest[3..7], &rest[31..]), (&[0, 4, 0, 3][..], &[0x80, 7, 0x38, 4][..]));

    let context = 0x1234_5678_9abc_def0_u64;
    assert_eq!(say(&guest, &location(context, Some(WINDOW))), [(4, context.to_le_bytes().to_vec())]);
    assert_eq!(picture(&guest), None);
    assert_eq!(say(&guest, &message(7, &[0; 10])), []);
    assert_eq!(say(&guest, &message(8, &[0; 22])), []);
    let ack = (6, 7_u64.to_le_bytes().to_vec());
    assert_eq!(say(&guest, &situation(FULL, 1)), [ack.clone(), (9, vec![1, 0, 0, 1])]);
    let full = Picture { offset: 0, depth: 32, width: 1920, height: 1080, pitch: 7680 };
    assert_eq!(picture(&guest), Some(full));
    // Linux answers the request for reports with another situation, which must not make another request.
    assert_eq!(say(&guest, &situation((64, 16, 640, 480, 1280), 1)), [ack]);
    let small = Picture { offset: 64, depth: 16, width: 640, height: 480, pitch: 1280 };
    assert_eq!(picture(&guest), Some(small));
    assert!(guest.host.notes.borrow().is_empty());
}

#[test]
fn what_has_changed_is_added_up_on_the_screen() {
    let guest = showing();
    let area = |left, top, right, bottom| ScreenArea { left, top, right, bottom };
    assert_eq!(changed(&guest), area(0, 0, 1920, 1080), "a new picture");
    assert!(changed(&guest).is_empty());
    say(&guest, &dirt(&[[10, 20, 30, 40], [25, 5, 26, 6]]));
    say(&guest, &dirt(&[[100, 30, 101, 31]]));
    assert_eq!(changed(&guest), area(10, 5, 101, 40));
    say(&guest, &dirt(&[[-5, i32::MIN, 8, 8], [5000, 7, 6000, 9], [8, 8, 7, 9]]));
    assert_eq!(changed(&guest), area(0, 0, 8, 8));
    say(&guest, &dirt(&[[1900, 1070, i32::MAX, i32::MAX]]));
    assert_eq!(changed(&guest), area(1900, 1070, 1920, 1080));
    say(&guest, &dirt(&[[0, 0, 1, 1]; 250]));
    assert_eq!(changed(&guest), area(0, 0, 1, 1));
    // A message that ends before its last rectangle changes nothing.
    let mut short = dirt(&[[0, 0, 9, 9], [0, 0, 9, 9]]);
    short.truncate(short.len() - 8);
    short[4..8].copy_from_slice(&34_u32.to_le_bytes());
    say(&guest, &short);
    assert!(changed(&guest).is_empty());
    assert_eq!(guest.host.notes.borrow().last(), Some(&(IGNORED, 34)));
}

#[test]
fn each_version_has_its_messages() {
    for (version, answered) in
        [(3, [false; 3]), (0x2_0003, [false; 3]), (0x3_0003, [true, false, false]), (0x5_0003, [true; 3])]
    {
        let guest = agreed(version);
        guest.host.notes.take();
        for ((kind, answer, bytes), answered) in
            [(11, 12, 16), (13, 14, 163), (15, 16, 64)].into_iter().zip(answered)
        {
            let answers = say(&guest, &message(kind, &[64][..usize::from(kind == 13)]));
            match answered {
                true => assert_eq!((answers[0].0, answers[0].1.len(), answers.len()), (answer, bytes, 1)),
                false => assert_eq!(answers, []),
            }
        }
        assert_eq!(guest.host.notes.borrow().len(), answered.iter().filter(|known| !*known).count());
        say(&guest, &location(1, Some(WINDOW)));
        say(&guest, &situation(FULL, 1));
        assert!(picture(&guest).is_some());
    }
}

#[test]
fn a_guest_gets_no_more_resolutions_than_it_has_room_for() {
    let guest = agreed(0x5_0003);
    for (maximum, count) in [(0, 0), (1, 1), (7, 7), (8, 8), (255, 8)] {
        let answers = say(&guest, &message(13, &[maximum]));
        assert_eq!(
            (answers[0].1[EDID_BYTES], answers[0].1.len()),
            (count, EDID_BYTES + 3 + usize::from(count) * 4)
        );
    }
}

#[test]
fn an_older_version_is_agreed_after_a_refusal() {
    let guest = Guest::opened(device(), OFFER);
    for refused in [0x6_0003_u32, 4, 2, 0x5_0002, u32::MAX] {
        let answers = say(&guest, &message(1, &refused.to_le_bytes()));
        assert_eq!(answers, [(2, [&refused.to_le_bytes()[..], &[0, 1]].concat())]);
        assert_eq!(state(&guest), State::Incompatible);
        assert_eq!(say(&guest, &location(1, Some(WINDOW))), []);
    }
    guest.host.refuses.set(true);
    assert_eq!(say(&guest, &message(1, &0x5_0003_u32.to_le_bytes()))[0].1[4], 0);
    guest.host.refuses.set(false);
    assert_eq!(say(&guest, &message(1, &0x2_0003_u32.to_le_bytes()))[0].1[4], 2);
    let version = Version { major: 3, minor: 2 };
    assert_eq!(state(&guest), State::Ready { framework: version, version });
}

#[test]
fn memory_is_acknowledged_only_where_there_is_some() {
    let guest = agreed(0x5_0003);
    guest.host.notes.take();
    let end = WINDOW + WINDOW_BYTES;
    let bad = [0, WINDOW - 4096, WINDOW + 1, end - u64::from(VRAM_BYTES) + 4096, end, u64::MAX, !4095];
    for address in bad {
        let answers = say(&guest, &location(address, Some(address)));
        assert_eq!(answers, [(4, (!address).to_le_bytes().to_vec())], "{address:#x}");
        assert_eq!(guest.host.notes.take(), [(REFUSED, address)]);
    }
    say(&guest, &situation(FULL, 1));
    assert_eq!(picture(&guest), None);
    for address in [WINDOW, WINDOW + 4096, end - u64::from(VRAM_BYTES)] {
        assert_eq!(say(&guest, &location(5, Some(address))), [(4, 5_u64.to_le_bytes().to_vec())]);
        assert_eq!(picture(&guest).unwrap().offset, address - WINDOW);
    }
    // A refused place leaves the last one; none at all takes it away.
    say(&guest, &location(5, Some(0)));
    assert_eq!(picture(&guest).unwrap().offset, WINDOW_BYTES - u64::from(VRAM_BYTES));
    assert_eq!(say(&guest, &location(6, None)), [(4, 6_u64.to_le_bytes().to_vec())]);
    assert_eq!(picture(&guest), None);
    // Without a window there is no place.
    let guest = Guest::opened(Video::new(), OFFER);
    say(&guest, &message(1, &0x5_0003_u32.to_le_bytes()));
    assert_eq!(say(&guest, &location(0, Some(0))), [(4, u64::MAX.to_le_bytes().to_vec())]);
}

#[test]
fn what_is_no_picture_switches_the_screen_off() {
    let guest = showing();
    guest.host.notes.take();
    let most = VRAM_BYTES;
    let bad = [
        (0, 24, 640, 480, 2560),
        (0, 0, 640, 480, 2560),
        (0, 32, 0, 480, 2560),
        (0, 32, 640, 0, 2560),
        (0, 32, 640, 480, 2559),
        (0, 32, 1920, 1093, 7680),
        (most - 7680 * 1080 + 4, 32, 1920, 1080, 7680),
        (0, 32, u32::MAX, u32::MAX, u32::MAX),
        (u32::MAX, 32, 640, 480, 2560),
        (0, 32, u32::MAX / 4 + 2, 1, 4),
        (0, 16, most / 2 + 1, 1, most + 2),
    ];
    for (n, shown) in bad.into_iter().enumerate() {
        say(&guest, &situation(FULL, 1));
        assert!(picture(&guest).is_some());
        say(&guest, &situation(shown, 1));
        assert_eq!(picture(&guest), None, "{n}: {shown:?}");
        let size = u64::from(shown.2) << 32 | u64::from(shown.3);
        assert_eq!(guest.host.notes.take(), [(NO_PICTURE, size)]);
        assert!(changed(&guest).is_empty());
    }
    for shown in
        [(most - 7680 * 1080, 32, 1920, 1080, 7680), (0, 32, most / 4, 1, most), (0, 16, 1, most / 4, 4)]
    {
        say(&guest, &situation(shown, 1));
        assert!(picture(&guest).is_some(), "{shown:?}");
    }
    say(&guest, &situation(FULL, 0));
    assert_eq!((picture(&guest), guest.host.notes.take()), (None, vec![]));
}

#[test]
fn a_picture_outlives_its_channel_and_not_the_partition() {
    let guest = showing();
    guest.close();
    assert_eq!((state(&guest), picture(&guest).is_some()), (State::Closed, true));
    guest.open();
    assert_eq!((state(&guest), picture(&guest).is_some()), (State::Negotiating, true));
    // The host asks a driver for reports again.
    say(&guest, &message(1, &0x5_0003_u32.to_le_bytes()));
    assert_eq!(say(&guest, &situation(FULL, 1)).len(), 2);
    guest.with(|device, _| hv_vmbus::Device::reset(device));
    assert_eq!((state(&guest), picture(&guest)), (State::Closed, None));
}

#[test]
fn a_guest_that_does_not_read_is_answered_later() {
    let guest = agreed(0x5_0003);
    let mut sent = 0;
    while guest.send(PacketType::DATA_IN_BAND, 1, 1, &message(13, &[64])) {
        sent += 1;
    }
    let answers = guest.receive_all();
    let resolutions = answers.iter().filter(|packet| packet.kind == PacketType::DATA_IN_BAND).count();
    assert_eq!((resolutions, answers.len()), (sent, sent * 2), "each with its completion");
    assert!(sent > 20, "{sent}");
}

#[test]
fn what_the_protocol_does_not_have_is_noted_and_ignored() {
    let guest = showing();
    guest.host.notes.take();
    // No message at all, unknown ones, the host's own, and some without their bodies.
    for kind in [0, 2, 4, 6, 9, 12, 14, 16, u32::MAX, 1, 3, 5, 10, 13] {
        assert_eq!(say(&guest, &message(kind, &[])), [], "{kind}");
    }
    assert_eq!(say(&guest, &[1, 0, 0, 0, 0, 0, 0, 0]), []);
    assert!(guest.send(PacketType::COMPLETION, 0, 9, &location(1, None)));
    let notes = guest.host.notes.take();
    assert_eq!(notes.len(), 16, "{notes:?}");
    assert!(notes.iter().all(|(note, _)| *note == IGNORED), "{notes:?}");
    assert!(picture(&guest).is_some());
}

#[test]
fn a_screen_survives_save_and_restore() {
    let guest = showing();
    changed(&guest);
    say(&guest, &dirt(&[[3, 4, 5, 6]]));
    let before = picture(&guest);
    guest.saved_and_restored();
    assert_eq!(picture(&guest), before);
    assert_eq!(changed(&guest), ScreenArea { left: 3, top: 4, right: 5, bottom: 6 });
    // Reports were asked for before.
    assert_eq!(say(&guest, &situation(FULL, 1)).len(), 1);
    guest.hostile_images();
    let guest = agreed(0x3_0003);
    guest.saved_and_restored();
    assert_eq!(say(&guest, &message(13, &[64])), []);
    assert_eq!(say(&guest, &location(1, Some(WINDOW))).len(), 1);
}

#[test]
fn an_observer_is_shown_the_bodies_of_messages() {
    let guest = Guest::opened(device(), OFFER);
    // Without an observer nothing is shown.
    say(&guest, &message(1, &[3, 0, 5, 0]));
    *guest.host.shown.borrow_mut() = Some(Vec::new());
    let said = [
        message(1, &[3, 0, 5, 0]),
        location(9, Some(WINDOW)),
        situation(FULL, 1),
        message(7, &[1, 0, 1, 0, 0, 0, 2, 0, 0, 0]),
        dirt(&[[1, 2, 3, 4], [5, 6, 7, 8]]),
        dirt(&[]),
    ];
    let answered: Vec<_> = said.iter().flat_map(|message| say(&guest, message)).collect();
    let shown = guest.host.shown.take().unwrap();
    let (from_guest, from_host): (Vec<_>, Vec<_>) =
        shown.into_iter().partition(|(from_guest, ..)| *from_guest);
    let bodies = said[..5].iter().map(|message| {
        let (kind, body) = (message[8], &message[16..]);
        // Of several changed parts the first one is shown.
        (true, kind, body.len() as u32, body[..body.len().min(if kind == 10 { 18 } else { 27 })].to_vec())
    });
    assert_eq!(from_guest, bodies.collect::<Vec<_>>());
    let bodies = answered.into_iter().map(|(kind, body)| (false, kind as u8, body.len() as u32, body));
    assert_eq!(from_host, bodies.collect::<Vec<_>>());
}
