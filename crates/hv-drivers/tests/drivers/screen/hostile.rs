//! The screen against hosts that lie, on a ring of the test's own.

use hv_drivers::hv_vmbus_client::{self, Channel, Contact, Slots};
use hv_testbed::scripted::{ScriptedDma, ScriptedHost};
use hv_testbed::scripted_card::{Heard, ScriptedCard, words};
use proptest::prelude::*;

use super::*;

type Host = &'static ScriptedHost;
type Scripted = Screen<'static, 'static, ScriptedDma<'static>, Host>;

/// Pages of a ring.
const RING: usize = 4;
/// Bytes of the memory of a scripted device.
const MEMORY: u32 = 1 << 20;

/// Creates a screen that has sent nothing yet, and the host's end of its channel.
fn scripted() -> (Scripted, ScriptedCard<'static>, Window<'static>) {
    let host: Host = Box::leak(Box::new(ScriptedHost::new(16)));
    let slots: &'static Slots<2, 4> = Box::leak(Box::new(Slots::new()));
    let mut client = host.client(slots.lend().unwrap());
    client.contact(Contact::new(VpIndex(0))).unwrap();
    let message = |kind: u32, body: &[u32]| words(&[&[kind, 0][..], body].concat());
    client.take(&message(15, &[1, 4, 0]));
    let mut offer = message(1, &[0; 47]);
    offer[8..24].copy_from_slice(&guid::VIDEO.bytes);
    // Megabytes of memory; the channel, and a connection of its own.
    (offer[58], offer[184], offer[190]) = (1, 1, 1);
    offer[192..196].copy_from_slice(&0x2001_u32.to_le_bytes());
    client.take(&offer);
    let offer = client.find(guid::VIDEO).unwrap();
    assert_eq!(synthvid::needed(&offer), u64::from(MEMORY));
    let mut grant = |client: &mut hv_vmbus_client::Client<'_, Host>| {
        for (_, posted) in host.take_posted() {
            let word = |n: usize| u32::from_le_bytes(posted[n..n + 4].try_into().unwrap());
            client.take(&match word(0) {
                8 => message(10, &[word(8), word(12), 0]),
                _ => message(6, &[word(8), word(12), 0]),
            });
        }
        Ok(())
    };
    let open = Open::on(VpIndex(0));
    let channel: Channel<'static, _, _> =
        client.open_channel(&offer, RING, open, &host.dma(), &mut grant).unwrap();
    let memory = window(WINDOW, MEMORY);
    let screen = Screen::new(channel, memory);
    // The client's page comes first.
    let end = ScriptedCard::new(&host.pages()[1..], RING, 0, 0).unwrap();
    (screen, end, memory)
}

/// Builds a message from the host.
fn told(kind: u32, body: &[u8]) -> Vec<u8> {
    let size = 8 + body.len() as u32;
    [words(&[1, size, kind, size]), body.to_vec()].concat()
}

fn tell(end: &mut ScriptedCard<'_>, payload: &[u8]) {
    assert!(end.put(6, 0, 0, &[], payload), "the guest has not read");
}

/// Returns the kinds of the messages that the guest has sent.
fn kinds(end: &mut ScriptedCard<'_>) -> Vec<u32> {
    std::iter::from_fn(|| end.hear()).map(|heard| heard.word(2)).collect()
}

/// Builds a list of resolutions of this length, of these claims.
fn list(count: u8, default: u8, sizes: &[(u16, u16)]) -> Vec<u8> {
    let sizes = sizes.iter().flat_map(|(width, height)| [*width, *height]).flat_map(u16::to_le_bytes);
    [vec![0; 128], vec![count, default, 0], sizes.collect()].concat()
}

/// Answers up to the location, with this list of resolutions.
fn located(screen: &mut Scripted, end: &mut ScriptedCard<'_>, list: &[u8]) -> Result<(), Error> {
    screen.poll().unwrap();
    assert_eq!(kinds(end), [1]);
    tell(end, &told(2, &[3, 0, 5, 0, 1, 1]));
    screen.poll().unwrap();
    assert_eq!(kinds(end), [13]);
    tell(end, &told(14, list));
    screen.poll()
}

/// Creates a screen of 640 by 400 pixels that is ready.
fn scripted_ready() -> (Scripted, ScriptedCard<'static>, Window<'static>) {
    let (mut screen, mut end, memory) = scripted();
    located(&mut screen, &mut end, &list(1, 0, &[(640, 400)])).unwrap();
    tell(&mut end, &told(4, &WINDOW.to_le_bytes()));
    screen.poll().unwrap();
    assert!(screen.is_ready());
    (screen, end, memory)
}

#[test]
fn the_guest_says_what_linux_says() {
    let (mut screen, mut end, _) = scripted_ready();
    let heard: Vec<Heard> = std::iter::from_fn(|| end.hear()).collect();
    assert_eq!(
        heard.iter().map(|heard| (heard.kind, heard.transaction)).collect::<Vec<_>>(),
        [(6, 3), (6, 4), (6, 5), (6, 6)]
    );
    let of = |kind: u32, body: &[u8]| {
        let mut bytes = told(kind, body);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let gpa = WINDOW.to_le_bytes();
    assert_eq!(heard[0].payload, of(3, &[&gpa[..], &[1], &gpa].concat()));
    assert_eq!(heard[1].payload, of(7, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    let pixel = words(&[1, 1, 0, 0]);
    assert_eq!(heard[2].payload, of(8, &[&[0xff, 1][..], &pixel, &[0, 1, 1, 1]].concat()));
    let situation = [&[0; 8][..], &[1, 1, 0, 0, 0, 0, 32], &words(&[640, 400, 2560])].concat();
    assert_eq!(heard[3].payload, of(5, &situation));

    // No changes are told before the host asks for them.
    screen.fill(ScreenArea::new(1, 2, 3, 4), 5);
    screen.flush().unwrap();
    assert_eq!(kinds(&mut end), [0; 0]);
    tell(&mut end, &told(9, &[1, 0, 0, 0]));
    screen.fill(ScreenArea::new(1, 2, 3, 4), 6);
    screen.flush().unwrap();
    let [position, shape, dirt] = [(); 3].map(|()| end.hear().unwrap());
    assert_eq!([position.word(2), shape.word(2), dirt.word(2)], [7, 8, 10]);
    let changes = words(&[1, 2, 4, 6, 0, 0, 640, 400]);
    assert_eq!(dirt.payload, of(10, &[&[0, 2][..], &changes].concat()));
    // It asks for what it has, and for the situation, then for nothing.
    tell(&mut end, &told(9, &[1, 1, 1, 1]));
    screen.flush().unwrap();
    assert_eq!(kinds(&mut end), [7, 8, 5]);
    tell(&mut end, &told(9, &[0; 4]));
    screen.fill(ScreenArea::new(1, 2, 3, 4), 7);
    screen.flush().unwrap();
    assert_eq!((kinds(&mut end), screen.is_watched()), (vec![], false));
}

#[test]
fn lists_of_resolutions_are_judged() {
    let many = [(100, 100); 64];
    for (list, expected) in [
        (list(1, 0, &[(640, 400)]), Ok(((640, 400), 1))),
        (list(2, 1, &[(64, 40), (640, 400)]), Ok(((640, 400), 2))),
        // The default has no room: the first that has.
        (list(3, 0, &[(1024, 768), (320, 200), (0, 9)]), Ok(((320, 200), 1))),
        (list(64, 63, &many), Ok(((100, 100), 64))),
        // Shorter than it says, by a byte and more.
        (list(2, 0, &[(640, 400)]), Err(Error::Malformed)),
        (list(1, 0, &[(640, 400)])[..134].to_vec(), Err(Error::Malformed)),
        (list(255, 0, &many), Err(Error::Malformed)),
        (Vec::new(), Err(Error::Malformed)),
        (vec![0; 130], Err(Error::Malformed)),
        // Without a use: the size that screens have without a list has no room.
        (list(0, 0, &[]), Err(Error::Size(1024, 768))),
        (list(1, 1, &[(640, 400)]), Err(Error::Size(1024, 768))),
        (list(1, 0, &[(u16::MAX, u16::MAX)]), Err(Error::Size(1024, 768))),
    ] {
        let (mut screen, mut end, _) = scripted();
        let result = located(&mut screen, &mut end, &list).and_then(|()| {
            tell(&mut end, &told(4, &WINDOW.to_le_bytes()));
            screen.poll()?;
            Ok((screen.size(), screen.sizes().len()))
        });
        assert_eq!(result, expected, "{:?}", &list[list.len().min(128)..]);
    }
}

#[test]
fn messages_out_of_turn_change_nothing() {
    let (mut screen, mut end, _) = scripted();
    screen.poll().unwrap();
    let not_yet = [
        told(4, &WINDOW.to_le_bytes()),
        told(14, &list(1, 0, &[(640, 400)])),
        told(6, &[0; 8]),
        // No messages at all.
        told(2, &[]),
        told(2, &[3, 0, 5, 0, 1]),
        told(1, &[3, 0, 5, 0, 1, 1]),
        told(u32::MAX, &[0; 16]),
        words(&[2, 16, 2, 14, 0x5_0003, 0x101]),
        words(&[1, u32::MAX, 2, 14, 0x5_0003, 0x101]),
        words(&[1, 7, 2, 14, 0x5_0003, 0x101]),
        words(&[1]),
        Vec::new(),
    ];
    for (n, message) in not_yet.iter().enumerate() {
        tell(&mut end, message);
        screen.poll().unwrap();
        assert_eq!((screen.ignored(), screen.version()), (n as u64 + 1, 0), "{message:x?}");
    }
    assert!(end.put(11, 0, 1, &[], &told(2, &[3, 0, 5, 0, 1, 1])), "a completion");
    screen.poll().unwrap();
    assert_eq!((screen.ignored(), screen.version(), kinds(&mut end)), (13, 0, vec![1]));
    // The answer, twice.
    tell(&mut end, &told(2, &[3, 0, 5, 0, 1, 1]));
    tell(&mut end, &told(2, &[3, 0, 5, 0, 0, 1]));
    screen.poll().unwrap();
    assert_eq!((screen.ignored(), screen.version()), (14, VERSION_3_5));
    let (mut screen, mut end, _) = scripted_ready();
    tell(&mut end, &told(4, &[0; 8]));
    tell(&mut end, &told(2, &[3, 0, 5, 0, 0, 1]));
    screen.poll().unwrap();
    assert!(screen.is_ready() && screen.ignored() == 2);
}

/// Hosts may ask for changes as soon as the channel is open, and once (Linux, "drm/hyperv: Don't overwrite dirt_needed
/// value set by host").
#[test]
fn changes_that_were_asked_for_early_are_told() {
    let answers =
        [told(2, &[3, 0, 5, 0, 1, 1]), told(14, &list(1, 0, &[(640, 400)])), told(4, &WINDOW.to_le_bytes())];
    for early in 0..=answers.len() {
        // The last word counts.
        for (wants, reports) in [(&[1][..], 1), (&[1, 0], 0), (&[0, 1], 1)] {
            let (mut screen, mut end, _) = scripted();
            screen.poll().unwrap();
            let mut sent = kinds(&mut end);
            for n in 0..=answers.len() {
                for wants in wants.iter().filter(|_| n == early) {
                    tell(&mut end, &told(9, &[*wants, 1, 1, 1]));
                }
                if let Some(answer) = answers.get(n) {
                    tell(&mut end, answer);
                }
                screen.poll().unwrap();
                sent.extend(kinds(&mut end));
            }
            screen.flush().unwrap();
            assert_eq!(kinds(&mut end), vec![10; reports], "{wants:?} at {early}");
            assert_eq!((screen.is_watched(), screen.ignored()), (reports == 1, 0));
            // The pointer is not sent before there is a screen.
            assert_eq!(sent[..6], [1, 13, 3, 7, 8, 5], "{wants:?} at {early}");
        }
    }
}

#[test]
fn requests_without_an_end_are_answered_once_a_look() {
    let (mut screen, mut end, _) = scripted_ready();
    kinds(&mut end);
    let mut told_so = 0;
    while end.put(6, 0, 0, &[], &told(9, &[1, 1, 1, 1])) {
        told_so += 1;
    }
    assert!(told_so > 200, "{told_so}");
    // The ring to the host ends up full, and the rest waits for room.
    loop {
        screen.poll().unwrap();
        if kinds(&mut end).is_empty() {
            break;
        }
    }
    // Changes wait for room as well.
    tell(&mut end, &told(9, &[1, 0, 0, 0]));
    let mut refused = None;
    for n in 0..1000 {
        screen.fill(ScreenArea::new(n % 640, 0, 1, 1), n);
        if let Err(error) = screen.flush() {
            refused = Some(error);
            break;
        }
    }
    let Some(Error::Client(error)) = refused else { panic!("{refused:?}") };
    assert!(error.may_retry(), "{error:?}");
    kinds(&mut end);
    screen.flush().unwrap();
    assert_eq!(kinds(&mut end), [10]);
}

#[test]
fn a_corrupt_ring_and_a_rescind_end_the_screen() {
    let (mut screen, end, _) = scripted_ready();
    end.rings()[1][0].store_u32(0, 4);
    let error = screen.flush().unwrap_err();
    assert!(matches!(error, Error::Client(hv_vmbus_client::Error::Ring(_))), "{error:?}");
    assert_eq!(screen.poll(), Err(error));
    let world = World::new(Storage::new(), &[]);
    let (mut client, mut screen) = open(world, window(WINDOW, VRAM_BYTES));
    assert!(!screen.is_over());
    assert!(world.bus.rescind(client.find(guid::VIDEO).unwrap().channel(), &world.host));
    world.take_all(&mut client);
    assert!(screen.is_over());
    let rescinded = Err(Error::Client(hv_vmbus_client::Error::Rescinded));
    assert_eq!(screen.wait_ready(&mut || panic!("nothing comes")), rescinded);
}

/// Generates a step of the host.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let sizes = prop::collection::vec((0_u16..1200, 0_u16..900), 0..70);
    prop_oneof![
        3 => Just(told(2, &[3, 0, 5, 0, 1, 1])),
        1 => Just(told(2, &[3, 0, 5, 0, 0, 1])),
        3 => (sizes, any::<[u8; 2]>(), any::<bool>()).prop_map(|(sizes, [count, default], right)| {
            let count = if right { sizes.len().min(64) as u8 } else { count };
            told(14, &list(count, default % 8, &sizes[..sizes.len().min(64)]))
        }),
        3 => Just(told(4, &WINDOW.to_le_bytes())),
        3 => any::<[bool; 4]>().prop_map(|wants| told(9, &wants.map(u8::from))),
        1 => (0_u32..18, prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(kind, body)| told(kind, &body)),
        1 => prop::collection::vec(any::<u8>(), 0..500),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_host_says_the_picture_lies_in_the_memory(
        messages in prop::collection::vec(any_message(), 0..24),
        corrupt in prop::option::weighted(0.1, any::<u32>()),
    ) {
        let (mut screen, mut end, memory) = scripted();
        for message in &messages {
            let _ = end.put(6, 0, 0, &[], message);
            let _ = screen.poll();
            screen.fill(ScreenArea::new(0, 0, u32::MAX, u32::MAX), 0xff);
            let _ = screen.flush();
            let (width, height) = screen.size();
            prop_assert!(u64::from(width) * u64::from(height) * 4 <= u64::from(MEMORY));
            if screen.is_ready() {
                prop_assert!(width > 0 && height > 0);
                prop_assert_eq!(pixel(&memory, (width * height * 4 - 4) as usize), 0xff);
            } else {
                prop_assert_eq!((width, height), (0, 0));
            }
            while let Some(heard) = end.hear() {
                prop_assert!(heard.kind == 6 && matches!(heard.word(2), 1 | 3 | 5 | 7 | 8 | 10 | 13));
            }
        }
        if let Some(index) = corrupt {
            end.rings()[1][0].store_u32(0, index);
            let _ = screen.flush();
        }
    }
}
