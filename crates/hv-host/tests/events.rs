//! TLFS, "Inter-Partition Communication", "SynIC Event Flags", and HvCallSignalEvent.

use hv_host::{Config, GuestMemory, Host, Port, PortTarget, Profile};
use hv_partition::testing::{TestMachine, run, simple};
use hv_tlfs::hypercall::HypercallCode as Code;
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::status::HvStatus;

const PORT: u32 = 0x200;
const ANY: u32 = 0x201;
const MESSAGE: u32 = 0x202;
const DELETED: u32 = 0x203;
const NOWHERE: u32 = 0x204;
const TOO_HIGH: u32 = 0x205;
const SINT: u8 = 3;
const VECTOR: u8 = 19;

fn ports() -> [Port; 6] {
    let event = |vp, base, count| PortTarget::Event { vp, sint: SINT, base, count };
    [
        Port::new(PORT, 1, event(Some(1), 100, 8)),
        Port::new(ANY, 2, event(None, 0, 2048)),
        Port::new(MESSAGE, 3, PortTarget::Message { vp: Some(1), sint: SINT }),
        Port::new(DELETED, 4, PortTarget::Deleted),
        Port::new(NOWHERE, 5, event(Some(7), 0, 1)),
        Port::new(TOO_HIGH, 6, event(Some(1), 2047, 10)),
    ]
}

fn two(test: impl FnOnce(&TestMachine<'_>)) {
    run(Config::new(62_500_000), 2, &ports(), test);
}

fn ready(test: impl FnOnce(&TestMachine<'_>)) {
    two(|m| {
        m.enable_synic(1, SINT, VECTOR);
        m.host.take_effects();
        test(m);
    });
}

fn signal(m: &TestMachine<'_>, connection: u32, flag: u16) -> HvStatus {
    let input = u64::from(connection) | u64::from(flag) << 32;
    m.fast(0, simple(Code::SIGNAL_EVENT), &[input]).0.status()
}

#[test]
fn a_flag_is_relative_to_the_ports_base() {
    ready(|m| {
        assert_eq!(signal(m, PORT, 7), HvStatus::SUCCESS);
        assert!(m.event_flag(1, SINT, 107));
        assert_eq!((0..2048).filter(|&flag| m.event_flag(1, SINT, flag)).count(), 1);
        assert_eq!(m.host.take_interrupts(), [(1, u32::from(VECTOR))]);
    });
}

#[test]
fn a_flag_that_is_set_already_does_not_interrupt() {
    ready(|m| {
        signal(m, PORT, 0);
        m.host.take_effects();
        assert_eq!(signal(m, PORT, 0), HvStatus::SUCCESS);
        assert_eq!(m.host.take_interrupts(), []);
        assert_eq!(signal(m, PORT, 1), HvStatus::SUCCESS);
        assert_eq!(m.host.take_interrupts(), [(1, u32::from(VECTOR))], "another flag does");
    });
}

#[test]
fn all_2048_flags_of_a_sint_can_be_set() {
    ready(|m| {
        for flag in 0..2048 {
            assert_eq!(signal(m, ANY, flag), HvStatus::SUCCESS);
            assert!(m.event_flag(1, SINT, flag), "{flag}");
        }
        assert!(!m.event_flag(1, SINT + 1, 0) && !m.event_flag(1, SINT - 1, 2047));
    });
}

#[test]
fn the_call_works_from_memory_too() {
    ready(|m| {
        let mut input = PORT.to_le_bytes().to_vec();
        input.extend([2, 0, 0, 0]);
        assert_eq!(m.call(0, simple(Code::SIGNAL_EVENT), &input, 0).0.status(), HvStatus::SUCCESS);
        assert!(m.event_flag(1, SINT, 102));
    });
}

#[test]
fn what_lies_behind_the_first_register_of_a_fast_signal_is_ignored() {
    // Linux 7.x leaves garbage in X3.
    ready(|m| {
        let (result, _) = m.fast(0, simple(Code::SIGNAL_EVENT), &[u64::from(PORT), u64::MAX]);
        assert_eq!(result.status(), HvStatus::SUCCESS);
    });
}

#[test]
fn flags_beyond_the_ports_count_are_refused() {
    ready(|m| {
        assert_eq!(signal(m, PORT, 8), HvStatus::INVALID_PARAMETER);
        assert_eq!(signal(m, PORT, u16::MAX), HvStatus::INVALID_PARAMETER);
        assert_eq!(signal(m, TOO_HIGH, 0), HvStatus::SUCCESS);
        assert_eq!(signal(m, TOO_HIGH, 1), HvStatus::INVALID_PARAMETER, "beyond the page's share");
    });
}

#[test]
fn the_reserved_field_is_zero() {
    ready(|m| {
        let (result, _) = m.fast(0, simple(Code::SIGNAL_EVENT), &[u64::from(PORT) | 1 << 48]);
        assert_eq!(result.status(), HvStatus::INVALID_PARAMETER);
    });
}

#[test]
fn connections_and_ports_are_checked() {
    ready(|m| {
        for (connection, status) in [
            (0xabc, HvStatus::INVALID_CONNECTION_ID),
            (MESSAGE, HvStatus::INVALID_PORT_ID),
            (DELETED, HvStatus::INVALID_PORT_ID),
            (NOWHERE, HvStatus::INVALID_VP_INDEX),
        ] {
            assert_eq!(signal(m, connection, 0), status, "{connection:#x}");
        }
    });
}

#[test]
fn signalling_needs_the_privilege() {
    let mut profile = Profile::AZURE;
    profile.features.privileges = profile.features.privileges.with_signal_events(false);
    run(Config::new(62_500_000).with_profile(profile), 2, &ports(), |m| {
        m.enable_synic(1, SINT, VECTOR);
        assert_eq!(signal(m, PORT, 0), HvStatus::ACCESS_DENIED);
    });
}

#[test]
fn a_disabled_synic_page_or_masked_sint_takes_no_event() {
    ready(|m| {
        for (name, off) in [(Name::SCONTROL, 0), (Name::SIEFP, 0), (Name::sint(SINT), 0x1_0013)] {
            let on = m.get(1, name).unwrap();
            m.set(1, name, off).unwrap();
            assert_eq!(signal(m, PORT, 0), HvStatus::INVALID_SYNIC_STATE, "{name:?}");
            m.set(1, name, on).unwrap();
        }
        assert!(!m.event_flag(1, SINT, 100));
        assert_eq!(signal(m, PORT, 0), HvStatus::SUCCESS);
    });
}

#[test]
fn any_vp_means_one_that_can_take_it() {
    two(|m| {
        assert_eq!(signal(m, ANY, 0), HvStatus::INVALID_VP_INDEX);
        m.enable_synic(1, SINT, VECTOR);
        assert_eq!(signal(m, ANY, 0), HvStatus::SUCCESS);
        assert!(m.event_flag(1, SINT, 0));
    });
}

#[test]
fn a_polled_sint_takes_flags_without_an_interrupt() {
    ready(|m| {
        m.set(1, Name::sint(SINT), 1 << 18 | u64::from(VECTOR)).unwrap();
        assert_eq!(signal(m, PORT, 0), HvStatus::SUCCESS);
        assert!(m.event_flag(1, SINT, 100));
        assert_eq!(m.host.take_interrupts(), []);
    });
}

#[test]
fn a_page_beyond_the_guests_memory_takes_flags_that_show_when_it_moves() {
    ready(|m| {
        let page = m.get(1, Name::SIEFP).unwrap();
        m.set(1, Name::SIEFP, 1).unwrap();
        assert_eq!(signal(m, PORT, 0), HvStatus::SUCCESS);
        assert!(!m.event_flag(1, SINT, 100));
        m.set(1, Name::SIEFP, page).unwrap();
        assert!(m.event_flag(1, SINT, 100));
    });
}

#[test]
fn the_host_can_set_flags() {
    ready(|m| {
        assert_eq!(m.partition.signal_event(&m.host, 1, SINT, 5), Ok(true));
        assert_eq!(m.partition.signal_event(&m.host, 1, SINT, 5), Ok(false));
        assert_eq!(m.host.take_interrupts().len(), 1);
        assert_eq!(m.partition.signal_event(&m.host, 1, SINT, 2048), Err(HvStatus::INVALID_PARAMETER));
        assert_eq!(m.partition.signal_event(&m.host, 1, 16, 0), Err(HvStatus::INVALID_PARAMETER));
        assert_eq!(m.partition.signal_event(&m.host, 2, SINT, 0), Err(HvStatus::INVALID_VP_INDEX));
    });
}

#[test]
fn each_clear_flag_that_is_set_interrupts_once_however_many_signal_it() {
    run(Config::new(62_500_000), 4, &ports(), |m| {
        m.enable_synic(1, SINT, VECTOR);
        m.host.take_effects();
        std::thread::scope(|scope| {
            for vp in [0, 2, 3] {
                scope.spawn(move || {
                    for flag in 0..500u64 {
                        m.fast(vp, simple(Code::SIGNAL_EVENT), &[u64::from(ANY) | flag << 32]);
                    }
                });
            }
        });
        assert_eq!(m.host.take_interrupts().len(), 500);
        let mut page = [0; 256];
        m.host.memory().read(m.message_page(1) + 0x1000 + u64::from(SINT) * 256, &mut page).unwrap();
        assert_eq!(page.iter().map(|byte| byte.count_ones()).sum::<u32>(), 500);
    });
}
