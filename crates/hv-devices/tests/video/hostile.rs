//! Guests that say anything, in any order: nothing panics, a picture lies in the window, changes on the screen, and a
//! machine that is saved and restored in between ends as one that is not.

use proptest::prelude::*;

use super::*;

/// Step of a guest or its host.
#[derive(Clone, Debug)]
enum Step {
    /// A message of any kind, with any body.
    Any(u32, Vec<u8>),
    Version(u32),
    Place(u64),
    Show(Shown, u8),
    Change(Vec<[i32; 4]>),
    /// The guest reads some packets.
    Read(u8),
    /// The guest writes to the header of a ring.
    Write(bool, u8, u32),
    Close,
    Open,
    Restore,
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 0_u32..3000, 1 => any::<u32>(), 1 => Just(u32::MAX), 1 => Just(7680)]
}

fn step() -> impl Strategy<Value = Step> {
    let depth = prop_oneof![4 => Just(32_u8), 2 => Just(16), 1 => any::<u8>()];
    let shown = (number(), depth, number(), number(), number());
    let corner = prop_oneof![3 => -10_i32..3000, 1 => any::<i32>()];
    let place = prop_oneof![
        3 => (0_u64..4100).prop_map(|page| WINDOW + page * 4096),
        1 => any::<u64>(),
    ];
    prop_oneof![
        2 => (0_u32..18, prop::collection::vec(any::<u8>(), 0..80)).prop_map(|(kind, body)| Step::Any(kind, body)),
        3 => prop_oneof![3 => Just(0x5_0003_u32), 1 => any::<u32>()].prop_map(Step::Version),
        4 => place.prop_map(Step::Place),
        6 => (shown, 0_u8..3).prop_map(|(shown, active)| Step::Show(shown, active)),
        5 => prop::collection::vec(prop::array::uniform4(corner), 0..5).prop_map(Step::Change),
        4 => any::<u8>().prop_map(Step::Read),
        1 => (any::<bool>(), 0_u8..5, any::<u32>()).prop_map(|(from, word, value)| Step::Write(from, word, value)),
        1 => Just(Step::Close),
        2 => Just(Step::Open),
        1 => Just(Step::Restore),
    ]
}

fn check(guest: &Guest<Video>) {
    let mut device = guest.with(|device, _| *device);
    let (picture, changed) = (device.picture(), device.take_changed());
    let Some(Picture { offset, depth, width, height, pitch }) = picture else { return };
    let row = u128::from(width) * u128::from(depth / 8);
    let end = u128::from(offset) + u128::from(height - 1) * u128::from(pitch) + row;
    assert!(row > 0 && row <= pitch.into() && end <= WINDOW_BYTES.into(), "{picture:?}");
    assert!(changed.is_empty() || changed.right <= width && changed.bottom <= height, "{changed:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_picture_lies_in_the_window(steps in prop::collection::vec(step(), 0..80)) {
        let (restored, plain) = (run(&steps, true), run(&steps, false));
        assert!(restored.0 == plain.0, "the states differ");
        assert!(restored.1 == plain.1, "the guests' memories differ");
    }
}

/// Plays the steps, with or without the restores.
fn run(steps: &[Step], restores: bool) -> Left {
    let guest = agreed(0x5_0003);
    let mut open = true;
    for step in steps {
        let message = match step {
            Step::Any(kind, body) => message(*kind, body),
            Step::Version(version) => message(1, &version.to_le_bytes()),
            Step::Place(address) => location(*address, Some(*address)),
            Step::Show(shown, active) => situation(*shown, *active),
            Step::Change(parts) => dirt(parts),
            _ => Vec::new(),
        };
        match step {
            Step::Read(count) => (0..*count).for_each(|_| drop(guest.receive())),
            Step::Write(from_host, word, value) => guest.write(*from_host, *word, *value),
            Step::Close => guest.set_open(&mut open, false),
            Step::Open => guest.set_open(&mut open, true),
            Step::Restore if restores => guest.saved_and_restored(),
            Step::Restore => {}
            _ => {
                let _ = open && guest.send(PacketType::DATA_IN_BAND, 1, 7, &message);
            }
        }
        check(&guest);
    }
    guest.left()
}
