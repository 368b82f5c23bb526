//! Random steps of a guest and its host, for property tests.

use hv_host::{Action, Config, GuestMemory, Host, Port, PortTarget, Profile};
use hv_partition::testing::{RAM, RAM_SIZE, TestMachine};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::synic::MessageType;
use hv_tlfs::time::ReferenceTime;
use proptest::prelude::*;

pub(crate) const VPS: usize = 3;
pub(crate) const FREQUENCY: u64 = 62_500_000;

pub(crate) fn ports() -> [Port; 3] {
    [
        Port::new(0x10, 1, PortTarget::Message { vp: Some(1), sint: 3 }),
        Port::new(0x11, 2, PortTarget::Event { vp: None, sint: 3, base: 5, count: 600 }),
        Port::new(0x12, 3, PortTarget::Message { vp: None, sint: 15 }),
    ]
}

/// Generates a guest physical address: in memory, at its edges, or anywhere.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0..RAM_SIZE).prop_map(|offset| RAM + offset),
        (0..RAM_SIZE / 8).prop_map(|word| RAM + word * 8),
        (0..64u64).prop_map(|n| RAM + RAM_SIZE - 32 + n),
        any::<u64>(),
    ]
}

fn register() -> impl Strategy<Value = u64> {
    prop_oneof![
        0xa0000..0xa0016u64,
        0xb0000..0xb0008u64,
        0x90000..0x9001bu64,
        0x200..0x216u64,
        any::<u32>().prop_map(u64::from),
    ]
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..32u64,
        (0..RAM_SIZE / 4096).prop_map(|page| (RAM + page * 4096) | 1),
        (0..1u64 << 20).prop_map(|bits| bits),
        any::<u64>(),
    ]
}

fn code() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0x50),
        Just(0x51),
        Just(0x5c),
        Just(0x5d),
        0..0x20u64,
        Just(0x7e),
        Just(0x99),
        Just(0x9a),
        Just(0x8001),
        0..0x10000u64,
    ]
}

fn control() -> impl Strategy<Value = u64> {
    let counts = (0..6u64, 0..6u64, 0..4u64, any::<bool>());
    let plain = (code(), counts).prop_map(|(code, (count, start, variable, fast))| {
        code | u64::from(fast) << 16 | variable << 17 | count << 32 | start << 48
    });
    prop_oneof![4 => plain, 1 => any::<u64>()]
}

/// One thing that a guest or its host does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Hvc { vp: usize, immediate: u16, x: Vec<u64> },
    Smc { vp: usize, x: Vec<u64> },
    Set { vp: usize, name: u64, value: u64 },
    Write { gpa: u64, bytes: Vec<u8> },
    Time(u64),
    Expire(usize),
    Post { vp: usize, sint: u8, size: usize },
    Signal { vp: usize, sint: u8, flag: u16 },
    Online(usize),
    Offline(usize),
    Migrate(u64),
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let vp = 0..VPS;
    let hypercall = (vp.clone(), any::<bool>(), control(), address(), address(), register(), value())
        .prop_map(|(vp, smccc, control, input, output, name, value)| {
            let parameters = if control >> 16 & 1 != 0 && input % 2 == 0 {
                vec![control, u64::MAX, 0xffff_fffe, name, 0, value, 0]
            } else {
                vec![control, input, output, name, value, value]
            };
            let x = if smccc { [vec![0x4600_0001], parameters].concat() } else { parameters };
            Step::Hvc { vp, immediate: u16::from(!smccc), x }
        });
    let smccc = (
        vp.clone(),
        any::<bool>(),
        prop_oneof![0x8400_0000..0x8400_0020u64, 0xc400_0000..0xc400_0008u64, any::<u64>()],
        prop_oneof![0..5u64, any::<u64>()],
        address(),
    )
        .prop_map(|(vp, smc, function, first, second)| {
            let x = vec![function, first, second];
            if smc { Step::Smc { vp, x } } else { Step::Hvc { vp, immediate: 0, x } }
        });
    prop_oneof![
        6 => hypercall,
        3 => smccc,
        6 => (vp.clone(), register(), value()).prop_map(|(vp, name, value)| Step::Set { vp, name, value }),
        1 => (vp.clone(), any::<u16>()).prop_map(|(vp, immediate)| Step::Hvc { vp, immediate, x: vec![] }),
        3 => (address(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(gpa, bytes)| Step::Write { gpa, bytes }),
        2 => (0..1u64 << 40).prop_map(Step::Time),
        1 => vp.clone().prop_map(Step::Expire),
        3 => (vp.clone(), 0..18u8, 0..260usize).prop_map(|(vp, sint, size)| Step::Post { vp, sint, size }),
        2 => (vp.clone(), 0..18u8, 0..2100u16).prop_map(|(vp, sint, flag)| Step::Signal { vp, sint, flag }),
        1 => vp.clone().prop_map(Step::Online),
        1 => vp.prop_map(Step::Offline),
        1 => prop_oneof![Just(24_000_000), Just(1_000_000_000), any::<u64>()].prop_map(Step::Migrate),
    ]
}

pub(crate) fn apply(m: &TestMachine<'_>, step: &Step) {
    let registers = |given: &[u64]| {
        let mut x = [0; 31];
        x[..given.len()].copy_from_slice(given);
        x
    };
    match step {
        Step::Hvc { vp, immediate, x } => {
            let mut x = registers(x);
            let mut rounds = 0;
            while m.hvc(*vp, *immediate, &mut x) == Action::Retry {
                rounds += 1;
                assert!(rounds < 4096, "each round makes progress");
            }
        }
        Step::Smc { vp, x } => {
            let _ = m.smc(*vp, &mut registers(x));
        }
        Step::Set { vp, name, value } => {
            let _ = m.set(*vp, Name(*name as u32), *value);
        }
        Step::Write { gpa, bytes } => {
            let _ = m.host.memory().write(*gpa, bytes);
        }
        Step::Time(time) => m.set_time(ReferenceTime(*time)),
        Step::Expire(vp) => m.expire(*vp),
        Step::Post { vp, sint, size } => {
            let payload = vec![7; *size];
            let _ = m.partition.post_message(&m.host, *vp, *sint, MessageType(1), 9, &payload);
        }
        Step::Signal { vp, sint, flag } => {
            let _ = m.partition.signal_event(&m.host, *vp, *sint, *flag);
        }
        Step::Online(vp) => m.online(*vp),
        Step::Offline(vp) => m.offline(*vp),
        Step::Migrate(frequency) => {
            let now = m.partition.reference_time(&m.host);
            m.partition.migrate(&m.host, *frequency, now);
            (0..VPS).for_each(|vp| m.expire(vp));
        }
    }
}

pub(crate) fn config(profile: u32) -> Config {
    let profile = Profile::by_number(profile).unwrap();
    Config::new(FREQUENCY).with_profile(profile).with_rep_budget(0)
}
