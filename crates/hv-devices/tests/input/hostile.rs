//! Guests that say anything, in any order: nothing panics, events end once, and a machine that is saved and restored in
//! between ends as one that is not.

use crate::guest::{Guest, Played, words};
use crate::single::Left;
use hv_devices::ic::READY;
use hv_tlfs::vmbus::PacketType;
use proptest::prelude::*;

/// Step of a guest or its host.
#[derive(Clone, Debug)]
enum Step {
    /// The host hands events over: one, or as many as there may be.
    Ask(bool),
    /// The host takes the outcome.
    Take,
    /// The guest sends a message of the protocol, or one that resembles it.
    Say {
        kind: u32,
        word: u32,
        pipe: bool,
    },
    /// The guest sends any packet.
    Raw {
        kind: u16,
        flags: u16,
        id: u64,
        bytes: Vec<u8>,
    },
    /// The guest reads some packets, with or without a signal.
    Read(u8, bool),
    /// The guest writes to the header of a ring.
    Write {
        from_host: bool,
        word: u8,
        value: u32,
    },
    Close,
    Open,
    /// Time advances.
    Wait(u32),
    /// The machine is saved and restored.
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    let word = prop_oneof![3 => Just(0x1_0000_u32), 3 => Just(0x2_0000), 1 => any::<u32>()];
    let raw = (0_u16..12, 0_u16..3, any::<u64>(), prop::collection::vec(any::<u8>(), 0..64));
    prop_oneof![
        6 => any::<bool>().prop_map(Step::Ask),
        4 => Just(Step::Take),
        6 => (0_u32..6, word, any::<bool>()).prop_map(|(kind, word, pipe)| Step::Say { kind, word, pipe }),
        1 => raw.prop_map(|(kind, flags, id, bytes)| Step::Raw { kind, flags, id, bytes }),
        4 => (any::<u8>(), any::<bool>()).prop_map(|(count, signals)| Step::Read(count, signals)),
        1 => (any::<bool>(), 0_u8..5, any::<u32>())
            .prop_map(|(from_host, word, value)| Step::Write { from_host, word, value }),
        1 => Just(Step::Close),
        2 => Just(Step::Open),
        1 => any::<u32>().prop_map(Step::Wait),
        1 => Just(Step::Restore),
    ]
}

/// Plays the steps with guests that have just opened the channel, with and without the restores.
fn play<D: Played>(guest: impl Fn() -> Guest<D>, steps: &[Step]) {
    let [restored, plain] = [true, false].map(|restores| run(&guest(), steps, restores));
    assert!(restored.0 == plain.0, "the states differ");
    assert!(restored.1 == plain.1, "the guests' memories differ");
}

fn run<D: Played>(guest: &Guest<D>, steps: &[Step], restores: bool) -> Left {
    let (mut open, mut asked, mut taken) = (true, 0_usize, 0_usize);
    for step in steps {
        match step {
            Step::Ask(many) => asked += usize::from(guest.with(|device, io| device.ask(io, *many).is_ok())),
            Step::Take => taken += usize::from(guest.outcome().is_some()),
            Step::Say { kind, word, pipe } => {
                let message =
                    [if *pipe { words(&[1, 12]) } else { Vec::new() }, words(&[*kind, *word, *word])];
                let _ = open && guest.send(PacketType::DATA_IN_BAND, 1, 7, &message.concat());
            }
            Step::Raw { kind, flags, id, bytes } => {
                let _ = open && guest.send(PacketType(*kind), *flags, *id, bytes);
            }
            Step::Read(count, signals) => {
                for _ in 0..*count {
                    let packet = if *signals { guest.receive() } else { guest.receive_quietly() };
                    if packet.is_none() {
                        break;
                    }
                }
            }
            Step::Write { from_host, word, value } => guest.write(*from_host, *word, *value),
            Step::Close => guest.set_open(&mut open, false),
            Step::Open => guest.set_open(&mut open, true),
            Step::Restore if !restores => {}
            Step::Wait(ticks) => guest.wait((*ticks).into()),
            Step::Restore => {
                // What was told of the state before, which the bus closes for the new one, is of another machine.
                let told = guest.host.notes.borrow().len();
                guest.saved_and_restored();
                guest.host.notes.borrow_mut().truncate(told);
            }
        }
        assert!(taken <= asked, "an outcome of nothing");
    }
    let told = guest.host.notes.borrow().iter().filter(|(note, _)| *note == READY).count();
    assert!(taken <= told && told <= asked, "{taken} taken, {told} told, {asked} asked");
    guest.left()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn keyboard(steps in prop::collection::vec(step(), 0..80)) {
        use hv_devices::keyboard::{Keyboard, OFFER};
        play(|| Guest::opened(Keyboard::new(), OFFER), &steps);
    }

    #[test]
    fn mouse(steps in prop::collection::vec(step(), 0..80)) {
        use hv_devices::mouse::{Mouse, OFFER};
        play(|| Guest::opened(Mouse::new(), OFFER), &steps);
    }
}
