//! Guests that say anything, in any order: nothing panics, each request has one outcome at most, and a machine that is
//! saved and restored in between ends as one that is not.

use crate::guest::{Guest, version, wide};
use hv_devices::fcopy;
use hv_devices::ic::READY;
use hv_devices::kvp::{self, Ask};
use hv_devices::shutdown::{self, Action};
use hv_devices::{Fcopy, Heartbeat, Kvp, Shutdown, TimeSync, Vss, heartbeat, time_sync, vss};
use hv_tlfs::time::FileTime;
use hv_tlfs::vmbus::ChannelOffer;
use hv_tlfs::vmbus::ic::{MessageType, Status, Version};
use hv_tlfs::vmbus::kvp::Pool;
use hv_tlfs::vmbus::vss::Operation;
use hv_vmbus::{Device, Io, Never};
use proptest::prelude::*;

use crate::single::{Host, Left};

/// Step of a guest or its host.
#[derive(Clone, Debug)]
enum Step {
    /// The host asks.
    Ask,
    /// The host takes the outcome.
    Take,
    /// The guest answers what it got last, with another kind if there is one, and with its body cut and partly
    /// overwritten.
    Answer {
        kind: Option<u16>,
        flags: u8,
        status: u32,
        len: usize,
        fill: Option<(usize, u8)>,
    },
    /// The guest sends bytes, after a pipe header with their length.
    Raw {
        bytes: Vec<u8>,
        claimed: usize,
    },
    Close,
    Open,
    /// Time advances.
    Wait(u32),
    /// The machine is saved and restored.
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![4 => Just(None), 1 => (0_u16..10).prop_map(Some)];
    let flags = prop_oneof![4 => Just(5_u8), 1 => any::<u8>()];
    let status = prop_oneof![4 => Just(0_u32), 1 => any::<u32>()];
    let len = prop_oneof![3 => Just(usize::MAX), 1 => 0_usize..3000];
    let fill = prop_oneof![2 => Just(None), 1 => (0_usize..600, any::<u8>()).prop_map(Some)];
    let answer = (kind, flags, status, len, fill).prop_map(|(kind, flags, status, len, fill)| Step::Answer {
        kind,
        flags,
        status,
        len,
        fill,
    });
    prop_oneof![
        4 => Just(Step::Ask),
        3 => Just(Step::Take),
        6 => answer,
        1 => (prop::collection::vec(any::<u8>(), 0..64), 0_usize..100)
            .prop_map(|(bytes, claimed)| Step::Raw { bytes, claimed }),
        1 => Just(Step::Close),
        1 => Just(Step::Open),
        1 => any::<u32>().prop_map(Step::Wait),
        1 => Just(Step::Restore),
    ]
}

/// A service whose driver is played.
struct Played<D: Device> {
    device: D,
    offer: ChannelOffer,
    framework: Version,
    version: Version,
}

/// Plays the steps, with and without the restores. `ask` gets the number of the request, and returns whether one was
/// sent; `take` returns whether there was an outcome.
fn play<D: Device<Request = Never>>(
    played: impl Fn() -> Played<D>,
    steps: &[Step],
    ask: impl Fn(&mut D, &mut Io<'_, Host, Never>, usize) -> bool,
    take: impl Fn(&mut D) -> bool,
) {
    let [restored, plain] = [true, false].map(|restores| run(played(), steps, restores, &ask, &take));
    assert!(restored.0 == plain.0, "the states differ");
    assert!(restored.1 == plain.1, "the guests' memories differ");
}

fn run<D: Device<Request = Never>>(
    played: Played<D>,
    steps: &[Step],
    restores: bool,
    ask: impl Fn(&mut D, &mut Io<'_, Host, Never>, usize) -> bool,
    take: impl Fn(&mut D) -> bool,
) -> Left {
    let guest = Guest::new(played.device, played.offer, played.framework, played.version);
    let (mut open, mut last, mut now, mut asked, mut taken) = (true, None, 0_u64, 0_usize, 0_usize);
    let mut turn = 0;
    for step in steps {
        while let Some(request) = open.then(|| guest.receive()).flatten() {
            last = Some(request);
        }
        match step {
            Step::Ask => {
                turn += 1;
                asked += usize::from(guest.with(|device, io| ask(device, io, turn)));
            }
            Step::Take => taken += usize::from(guest.with(|device, _| take(device))),
            Step::Answer { kind, flags, status, len, fill } => {
                let Some(request) = last.as_mut().filter(|_| open) else { continue };
                let mut body = request.body().to_vec();
                body.truncate(*len);
                if let Some((at, byte)) = fill {
                    body.iter_mut().skip(*at).take(5).for_each(|place| *place = *byte);
                }
                let mut header = request.header;
                header.message_type = kind.map_or(header.message_type, MessageType);
                header.flags = *flags;
                header.status = Status(*status);
                guest.send(&header, &body);
            }
            Step::Raw { bytes, claimed } if open => guest.send_raw(bytes, *claimed),
            Step::Close if open => {
                guest.close();
                (open, last) = (false, None);
            }
            Step::Open if !open => {
                guest.open();
                open = true;
            }
            Step::Wait(ticks) => {
                now += u64::from(*ticks);
                guest.at(now);
            }
            Step::Restore if restores => {
                // What was told of the state before, which the bus closes for the new one, is of another machine.
                let told = guest.host.notes.borrow().len();
                guest.saved_and_restored();
                guest.host.notes.borrow_mut().truncate(told);
            }
            Step::Raw { .. } | Step::Close | Step::Open | Step::Restore => {}
        }
        assert!(taken <= asked, "an outcome of nothing");
    }
    let told = guest.host.notes.borrow().iter().filter(|(note, _)| *note == READY).count();
    assert!(taken <= told && told <= asked, "{taken} taken, {told} told, {asked} asked");
    guest.left()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn shutdown(steps in prop::collection::vec(step(), 0..60)) {
        let played = || Played {
            device: Shutdown::new(), offer: shutdown::OFFER, framework: version(3, 0), version: version(3, 2),
        };
        play(
            played,
            &steps,
            |device, io, _| device.ask(io, Action::Restart, false).is_ok(),
            |device| device.take().is_some(),
        );
    }

    #[test]
    fn key_values(steps in prop::collection::vec(step(), 0..60)) {
        let played =
            || Played { device: Kvp::new(), offer: kvp::OFFER, framework: version(3, 0), version: version(4, 0) };
        let key = wide("key");
        let ask = |device: &mut Kvp, io: &mut Io<'_, Host, Never>, turn: usize| {
            let pool = Pool::GUEST;
            let asks = [
                Ask::Get { pool, key: &key },
                Ask::Set { pool, key: &key, value: &key },
                Ask::Delete { pool, key: &key },
                Ask::Enumerate { pool, index: turn as u32 },
                Ask::Addresses { adapter: &key },
            ];
            device.ask(io, &asks[turn % asks.len()]).is_ok()
        };
        play(played, &steps, ask, |device| {
            let found = device.outcome().is_some();
            device.done();
            found
        });
    }

    #[test]
    fn shadow_copies(steps in prop::collection::vec(step(), 0..60)) {
        let played =
            || Played { device: Vss::new(), offer: vss::OFFER, framework: version(3, 0), version: version(5, 0) };
        play(
            played,
            &steps,
            |device, io, _| device.ask(io, Operation::FREEZE).is_ok(),
            |device| device.take().is_some(),
        );
    }

    #[test]
    fn file_copy(steps in prop::collection::vec(step(), 0..60)) {
        let played = || Played {
            device: Fcopy::new(), offer: fcopy::OFFER, framework: version(3, 0), version: version(1, 1),
        };
        let text = wide("a");
        let ask = |device: &mut Fcopy, io: &mut Io<'_, Host, Never>, turn: usize| {
            let asks = [
                fcopy::Ask::Start { file: &text, folder: &text, overwrite: true, create_path: false, size: 9 },
                fcopy::Ask::Write { offset: turn as u64, data: &text },
                fcopy::Ask::Complete,
                fcopy::Ask::Cancel,
            ];
            device.ask(io, &asks[turn % asks.len()]).is_ok()
        };
        play(played, &steps, ask, |device| device.take().is_some());
    }

    #[test]
    fn time_and_heartbeat(steps in prop::collection::vec(step(), 0..60)) {
        let played = || Played {
            device: TimeSync::new(FileTime(7)), offer: time_sync::OFFER, framework: version(1, 0), version: version(4, 0),
        };
        play(played, &steps, |device, io, _| { let _ = device.sync(io); false }, |_| false);
        let played = || Played {
            device: Heartbeat::new(), offer: heartbeat::OFFER, framework: version(3, 0), version: version(1, 0),
        };
        play(played, &steps, |_, _, _| false, |_| false);
    }
}
