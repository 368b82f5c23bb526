//! Images of a partition whose guest is connected to VMBus.

use crate::guest::{self, SINT};
use hv_devices::any::Offer;
use hv_partition::testing::{RAM, TestMachine, rehash, run_bare};
use hv_partition::{Config, GuestMemory, Host, Power, RestoreError};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::time::ReferenceTime;
use proptest::prelude::*;

const VPS: usize = 3;
/// The heartbeat's channel, and the echo's.
const HEARTBEAT: u32 = 1;
const ECHO: u32 = 2;

fn config() -> Config {
    const BEAT: Offer = Offer::heartbeat(ReferenceTime(20_000));
    const OFFERS: &[Offer] = &[BEAT, Offer::ECHO];
    Config::new(62_500_000).with_offers(OFFERS)
}

/// Runs a guest with both channels open.
fn connected(m: &TestMachine<'_>) {
    for vp in 0..VPS {
        m.online(vp);
        m.set(vp, Name::GUEST_OS_ID, 1).unwrap();
        m.enable_synic(vp, SINT, 18);
    }
    guest::connect(m, 0);
    guest::open(m, 0, HEARTBEAT, 0);
    guest::open(m, 0, ECHO, 1);
    guest::take_kinds(m, 0);
}

fn connected_machine(test: impl FnOnce(&TestMachine<'_>)) {
    run_bare(config(), VPS, &[], |m| {
        connected(m);
        test(m);
    });
}

/// Restores the guest into a new partition, in which it continues.
fn restored(m: &TestMachine<'_>, test: impl FnOnce(&TestMachine<'_>)) {
    let image = m.image();
    run_bare(config(), VPS, &[], |n| {
        n.host.memory().copy_from(m.host.memory());
        n.host.set_counter(m.host.counter());
        n.partition.restore(&n.host, &image).unwrap();
        (0..VPS).for_each(|vp| n.expire(vp));
        assert!(n.image() == image, "right after the restore");
        test(n);
    });
}

/// Returns what the guest's memory holds of SynIC pages and rings.
fn memory(m: &TestMachine<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 0x6000 + 0x1_2000];
    let (pages, rings) = bytes.split_at_mut(0x6000);
    m.host.memory().read(m.message_page(0), pages).unwrap();
    m.host.memory().read(RAM + 0x4_6000, rings).unwrap();
    bytes
}

#[test]
fn an_open_channel_goes_on_where_it_was() {
    connected_machine(|m| {
        for n in 0..4 {
            assert!(guest::put(m, ECHO, n, &[n as u8; 100]));
        }
        guest::signal(m, 2, ECHO);
        assert_eq!(guest::receive(m, 2, ECHO).unwrap().0, 0);
        restored(m, |n| {
            for id in 1..4 {
                let (answer, payload) = guest::receive(n, 2, ECHO).unwrap();
                assert_eq!((answer, &payload[..100]), (id, &[id as u8; 100][..]));
            }
            guest::put(n, ECHO, 9, b"more");
            guest::signal(n, 2, ECHO);
            assert_eq!(guest::receive(n, 2, ECHO).unwrap().0, 9);
        });
    });
}

#[test]
fn the_heartbeat_goes_on() {
    connected_machine(|m| {
        assert!(guest::answer_heartbeat(m, 0, HEARTBEAT), "versions");
        assert!(guest::answer_heartbeat(m, 0, HEARTBEAT), "first beat");
        m.set_time(ReferenceTime(1000));
        restored(m, |n| {
            assert!(!guest::answer_heartbeat(n, 1, HEARTBEAT), "not early");
            n.set_time(ReferenceTime(30_000));
            assert!(guest::answer_heartbeat(n, 1, HEARTBEAT));
        });
    });
}

#[test]
fn what_vmbus_owes_the_guest_arrives_after_the_restore() {
    connected_machine(|m| {
        m.set(0, Name::SINT2, 0x1_0012).unwrap();
        guest::unload(m, 1);
        restored(m, |n| {
            n.set(0, Name::SINT2, 18).unwrap();
            assert_eq!(guest::take_kinds(n, 0), [hv_vmbus::protocol::MessageType::UNLOAD_RESPONSE]);
        });
    });
}

#[test]
fn a_damaged_vmbus_part_is_refused_by_name() {
    connected_machine(|m| {
        let image = m.image();
        let start = image.windows(4).rposition(|bytes| bytes == b"VMBS").unwrap();
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bad = image.clone();
            change(&mut bad);
            rehash(&mut bad);
            run_bare(config(), VPS, &[], |n| n.partition.restore(&n.host, &bad).unwrap_err())
        };
        let error = refused(&|bad| bad[start] = 0);
        assert_eq!(error, RestoreError::NotAnImage);
        let error = refused(&|bad| bad[start + 4] = 2);
        assert_eq!(error, RestoreError::Version(2));
    });
}

#[test]
fn the_channels_of_a_refused_image_are_not_offered() {
    connected_machine(|m| {
        let mut other = Offer::ECHO;
        other.channel.instance = hv_vmbus::protocol::Guid::ZERO;
        m.partition.with_vmbus(&m.host, |server| server.offer(other).unwrap());
        let mut image = m.image();
        // A byte too many: the last thing that is looked at.
        image.insert(image.len() - 8, 0);
        rehash(&mut image);
        run_bare(config(), VPS, &[], |n| {
            let created = n.image();
            let refused = n.partition.restore(&n.host, &image);
            assert!(refused.is_err());
            assert!(n.image() == created);
        });
    });
}

/// One thing that the guest does, or its host.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put { size: usize },
    Signal { vp: usize, channel: u32 },
    Receive { vp: usize },
    Beat { vp: usize },
    Take { vp: usize },
    Time(u64),
    Close { vp: usize, channel: u32 },
    Open { vp: usize, channel: u32, target: u32 },
    Modify { vp: usize, target: u32 },
    Reconnect { vp: usize },
    Unload { vp: usize },
    Offline(usize),
    Online(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (vp, channel) = (0..VPS, HEARTBEAT..=ECHO);
    let target = 0..VPS as u32;
    prop_oneof![
        8 => (0..1500usize).prop_map(|size| Step::Put { size }),
        6 => (vp.clone(), channel.clone()).prop_map(|(vp, channel)| Step::Signal { vp, channel }),
        8 => vp.clone().prop_map(|vp| Step::Receive { vp }),
        6 => vp.clone().prop_map(|vp| Step::Beat { vp }),
        6 => vp.clone().prop_map(|vp| Step::Take { vp }),
        6 => (1..50_000u64).prop_map(Step::Time),
        2 => (vp.clone(), channel.clone()).prop_map(|(vp, channel)| Step::Close { vp, channel }),
        4 => (vp.clone(), channel, target.clone()).prop_map(|(vp, channel, target)| Step::Open { vp, channel, target }),
        2 => (vp.clone(), target).prop_map(|(vp, target)| Step::Modify { vp, target }),
        1 => vp.clone().prop_map(|vp| Step::Reconnect { vp }),
        1 => vp.clone().prop_map(|vp| Step::Unload { vp }),
        1 => vp.clone().prop_map(Step::Offline),
        2 => vp.prop_map(Step::Online),
    ]
}

impl Step {
    /// Returns true if it can happen: a VP that is off does nothing, and one that runs cannot be started.
    fn possible(self, m: &TestMachine<'_>) -> bool {
        let on = |vp| m.partition.power(vp) == Some(Power::On);
        match self {
            Self::Put { .. } | Self::Time(_) => true,
            Self::Online(vp) => !on(vp),
            Self::Signal { vp, .. }
            | Self::Receive { vp }
            | Self::Beat { vp }
            | Self::Take { vp }
            | Self::Close { vp, .. }
            | Self::Open { vp, .. }
            | Self::Modify { vp, .. }
            | Self::Reconnect { vp }
            | Self::Unload { vp }
            | Self::Offline(vp) => on(vp),
        }
    }
}

fn apply(m: &TestMachine<'_>, step: Step, time: &mut u64) {
    if !step.possible(m) {
        return;
    }
    match step {
        Step::Put { size } => {
            guest::put(m, ECHO, size as u64, &vec![size as u8; size]);
        }
        Step::Signal { vp, channel } => {
            guest::signal(m, vp, channel);
        }
        Step::Receive { vp } => {
            guest::receive(m, vp, ECHO);
        }
        Step::Beat { vp } => {
            guest::answer_heartbeat(m, vp, HEARTBEAT);
        }
        Step::Take { vp } => {
            m.take_message(vp, SINT);
        }
        Step::Time(units) => {
            *time += units;
            m.set_time(ReferenceTime(*time));
        }
        Step::Close { vp, channel } => guest::close(m, vp, channel),
        Step::Open { vp, channel, target } => guest::open(m, vp, channel, target),
        Step::Modify { vp, target } => guest::modify(m, vp, ECHO, target),
        Step::Reconnect { vp } => guest::connect(m, vp),
        Step::Unload { vp } => guest::unload(m, vp),
        Step::Offline(vp) => m.offline(vp),
        Step::Online(vp) => {
            m.online(vp);
            m.enable_synic(vp, SINT, 18);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_run_with_a_restore_at_any_instant_ends_as_the_run_without(
        before in prop::collection::vec(step(), 0..50),
        after in prop::collection::vec(step(), 0..50),
    ) {
        connected_machine(|m| {
            let mut time = 0;
            for step in &before {
                apply(m, *step, &mut time);
            }
            (0..VPS).for_each(|vp| m.expire(vp));
            restored(m, |n| {
                m.host.take_effects();
                n.host.take_effects();
                let mut times = [time; 2];
                for step in &after {
                    apply(m, *step, &mut times[0]);
                    apply(n, *step, &mut times[1]);
                    assert_eq!(m.host.take_effects(), n.host.take_effects(), "{step:?}");
                }
                assert!(m.image() == n.image(), "at the end");
                assert!(memory(m) == memory(n), "memory at the end");
            });
        });
    }

    #[test]
    fn a_vmbus_part_with_a_right_hash_and_wrong_contents_does_no_harm(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        connected_machine(|m| {
            let mut image = m.image();
            let start = image.windows(4).rposition(|bytes| bytes == b"VMBS").unwrap() - 12;
            for (at, byte) in damage {
                let at = start + at.index(image.len() - 8 - start);
                image[at] = byte;
            }
            rehash(&mut image);
            if m.partition.restore(&m.host, &image).is_err() {
                connected(m);
            }
            let mut time = 0;
            for step in steps {
                apply(m, step, &mut time);
            }
        });
    }
}
