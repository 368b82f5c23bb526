//! The strict mode: for each rule a guest that breaks it, and one that keeps it.

mod balloon;
mod calls;
#[expect(dead_code, reason = "the guest of the tests of VMBus, of which a part is used here")]
#[path = "../vmbus/guest.rs"]
mod channel;
mod channels;
mod ends;
mod guests;
mod keyboard;
mod mouse;
mod network;
mod packets;
mod registers;
mod rings;
mod rndis;
mod services;
mod sockets;
mod storage;
mod synic;
mod video;

use guests::*;
use hv_tlfs::time::ReferenceTime;

fn cases() -> impl Iterator<Item = &'static Case> {
    let hypervisor = [calls::CASES, registers::CASES, synic::CASES, ends::CASES];
    let bus = [channels::CASES, rings::CASES, packets::CASES];
    let devices = [
        storage::CASES,
        services::CASES,
        keyboard::CASES,
        mouse::CASES,
        video::CASES,
        balloon::CASES,
        network::CASES,
        rndis::CASES,
        sockets::CASES,
    ];
    hypervisor.into_iter().chain(bus).chain(devices).flatten()
}

#[test]
fn each_rule_is_triggered_by_the_guest_that_breaks_it_and_not_by_the_one_that_keeps_it() {
    for (rule, breaks, keeps) in cases() {
        let found = judge(breaks);
        assert!(found.iter().any(|f| f.rule == *rule), "{}: not found, but {found:?}", rule.id);
        let found = judge(keeps);
        assert!(found.iter().all(|f| f.rule != *rule), "{}: false alarm {found:?}", rule.id);
    }
}

#[test]
fn every_rule_has_its_two_guests() {
    for rule in RULES {
        assert!(cases().any(|(tested, ..)| tested == rule), "{}", rule.id);
    }
    assert_eq!(cases().count(), RULES.len());
}

#[test]
fn what_stock_linux_does_gives_no_alarm() {
    let found = judge(&|m| {
        m.offline(1);
        m.offline(2);
        let _ = m.smccc(0, 0x8600_ff01, [0; 3]);
        let _ = m.smccc(0, 0x8400_0050, [0; 3]);
        identified(m);
        for name in [
            Name::PRIVILEGES_AND_FEATURES_INFO,
            Name::FEATURES_INFO,
            Name::HYPERVISOR_VERSION,
            Name::GUEST_CRASH_CTL,
        ] {
            m.get(0, name).unwrap();
        }
        for vp in 1..VPS {
            let _ = m.smccc(0, psci::CPU_ON | psci::SMC64, [vp as u64, RAM, 0]);
            m.online(vp);
        }
        for vp in 0..VPS {
            m.get(vp, Name::VP_INDEX).unwrap();
            // Read, changed, written.
            let page = m.message_page(vp);
            let simp = m.get(vp, Name::SIMP).unwrap();
            m.set(vp, Name::SIMP, simp | page | 1).unwrap();
            m.set(vp, Name::SIEFP, (page + 0x1000) | 1).unwrap();
            m.set(vp, Name::SINT2, 0x12).unwrap();
            m.set(vp, Name::SCONTROL, 1).unwrap();
        }
        post(m, 4, 1, contact(SINT).as_bytes());
        m.take_message(0, SINT).unwrap();
        bus_message(m, bus::MessageType::REQUEST_OFFERS, &[]);
        while m.take_message(0, SINT).is_some() {}
        // CPU hotplug.
        m.set(2, Name::SINT2, 0x1_0012).unwrap();
        for name in [Name::SIMP, Name::SIEFP] {
            let page = m.get(2, name).unwrap();
            m.set(2, name, page & !1).unwrap();
        }
        m.set(2, Name::SCONTROL, 0).unwrap();
        let _ = m.smccc(2, psci::CPU_OFF, [0; 3]);
        m.offline(2);
        // Panic.
        bus_message(m, bus::MessageType::UNLOAD, &[]);
        for n in 0..3 {
            m.set(0, Name(Name::GUEST_CRASH_P0.0 + n), 7).unwrap();
        }
        crash(m, 3 << 62, PAGE + 0x2000, 40);
        let _ = m.smccc(0, psci::SYSTEM_OFF, [0; 3]);
    });
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_contact_with_any_part_of_the_synic_off_is_named_once() {
    let off: [(Name, u64); 3] = [(Name::SCONTROL, 0), (Name::SIMP, 0), (Name::SINT2, 0x1_0012)];
    for (register, value) in off {
        let found = judge(&|m| {
            ready(m);
            set(m, register, value);
            post(m, 4, 1, contact(SINT).as_bytes());
        });
        let named = found.iter().filter(|f| *f.rule == rules::VMBUS_SYNIC);
        let values: Vec<_> = named.map(|f| f.value).collect();
        assert_eq!(values, [u64::from(bus::MessageType::VERSION_RESPONSE.0)], "{register:?}: {found:?}");
    }
}

#[test]
fn a_timers_message_that_was_dropped_does_not_wait() {
    let found = judge(&|m| {
        ready(m);
        for timer in 0..2 {
            set(m, Name::stimer_count(timer), 2000 + u64::from(timer));
            set(m, Name::stimer_config(timer), 1 | u64::from(SINT) << 16);
        }
        m.set_time(ReferenceTime(2100));
        set(m, Name::stimer_config(1), 0);
        set(m, Name::SCONTROL, 0);
        set(m, Name::SIMP, m.message_page(0));
    });
    assert!(found.iter().all(|f| *f.rule != rules::PAGE_OFF), "{found:?}");
}

#[test]
fn a_finding_names_the_vp_and_the_value() {
    let found = judge(&|m| {
        identified(m);
        m.set(2, Name::SINT5, 3).unwrap_err();
    });
    assert_eq!(found, [Finding::new(&rules::SINT_VECTOR, 2, 3)]);
}

#[test]
fn a_vp_beyond_those_that_the_judge_knows_is_left_out() {
    let mut judge = Judge::<1>::new(RAM, RAM_SIZE);
    let event = hv_partition::Event::MessageDelivered {
        vp: 5,
        sint: 99,
        message_type: MessageType::TIMER_EXPIRED.0,
        payload: &[],
        pending: true,
    };
    judge.event(&event, &mut |finding| panic!("{finding:?}"));
    judge
        .event(&hv_partition::Event::MessageQueued { vp: 0, sint: 99 }, &mut |finding| panic!("{finding:?}"));
}
