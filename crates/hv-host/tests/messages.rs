//! TLFS, "Inter-Partition Communication", "SynIC Messages", and HvCallPostMessage.

use hv_host::{BUFFERS_PER_PORT, Config, FULL_PORTS_PER_VP, GuestMemory, Host, Port, PortTarget, Profile};
use hv_partition::testing::{RAM, RAM_SIZE, TestMachine, run, simple};
use hv_tlfs::hypercall::HypercallCode as Code;
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;

const PORT: u32 = 0x100;
const ANY: u32 = 0x101;
const EVENT: u32 = 0x102;
const DELETED: u32 = 0x103;
const NOWHERE: u32 = 0x104;
const OTHER: u32 = 0x105;
const SINT: u8 = 5;
const VECTOR: u8 = 20;

fn ports() -> [Port; 6] {
    let message = |vp| PortTarget::Message { vp, sint: SINT };
    [
        Port::new(PORT, 0x77, message(Some(1))),
        Port::new(ANY, 0x78, message(None)),
        Port::new(EVENT, 0x79, PortTarget::Event { vp: Some(1), sint: SINT, base: 0, count: 1 }),
        Port::new(DELETED, 0x7a, PortTarget::Deleted),
        Port::new(NOWHERE, 0x7b, message(Some(9))),
        Port::new(OTHER, 0x7c, PortTarget::Message { vp: Some(1), sint: SINT + 1 }),
    ]
}

fn two(test: impl FnOnce(&TestMachine<'_>)) {
    run(Config::new(62_500_000), 2, &ports(), test);
}

/// Runs a test with a machine whose VP 1 takes messages.
fn ready(test: impl FnOnce(&TestMachine<'_>)) {
    two(|m| {
        m.enable_synic(1, SINT, VECTOR);
        m.host.take_effects();
        test(m);
    });
}

fn input(connection: u32, message_type: u32, size: u32, payload: &[u8]) -> Vec<u8> {
    let mut input: Vec<u8> =
        [connection, 0, message_type, size].iter().flat_map(|w| w.to_le_bytes()).collect();
    input.extend(payload);
    input.resize(256, 0xee);
    input
}

fn post(m: &TestMachine<'_>, connection: u32, payload: &[u8]) -> HvStatus {
    let input = input(connection, 1, payload.len() as u32, payload);
    m.call(0, simple(Code::POST_MESSAGE), &input, 0).0.status()
}

#[test]
fn a_message_goes_into_the_empty_slot_and_interrupts() {
    ready(|m| {
        assert_eq!(post(m, PORT, b"hello"), HvStatus::SUCCESS);
        let message = m.slot(1, SINT);
        assert_eq!(message.header.message_type, MessageType(1));
        assert_eq!(message.header.payload_size, 5);
        assert_eq!(message.header.sender, 0x77, "the port's id");
        assert!(!message.header.flags.message_pending());
        assert_eq!(message.header.reserved, [0; 2]);
        assert_eq!(&message.payload[..6], b"hello\0", "not more than the payload");
        assert_eq!(m.host.take_interrupts(), [(1, u32::from(VECTOR))]);
    });
}

#[test]
fn payloads_of_all_sizes_arrive_whole() {
    ready(|m| {
        let payload: Vec<u8> = (0..240).map(|n| n as u8 ^ 0x5a).collect();
        for size in [0, 1, 3, 4, 7, 8, 15, 16, 100, 239, 240] {
            assert_eq!(post(m, PORT, &payload[..size]), HvStatus::SUCCESS);
            let message = m.take_message(1, SINT).unwrap();
            assert_eq!(usize::from(message.header.payload_size), size);
            assert_eq!(message.payload[..size], payload[..size]);
        }
    });
}

#[test]
fn message_types_are_any_but_zero_and_the_hypervisors() {
    ready(|m| {
        for (message_type, status) in [
            (0, HvStatus::INVALID_PARAMETER),
            (0x8000_0000, HvStatus::INVALID_PARAMETER),
            (0x8000_0010, HvStatus::INVALID_PARAMETER),
            (0xffff_ffff, HvStatus::INVALID_PARAMETER),
            (1, HvStatus::SUCCESS),
            (0x7fff_ffff, HvStatus::SUCCESS),
        ] {
            let input = input(PORT, message_type, 8, &[1; 8]);
            let (result, _) = m.call(0, simple(Code::POST_MESSAGE), &input, 0);
            assert_eq!(result.status(), status, "{message_type:#x}");
        }
    });
}

#[test]
fn payloads_have_at_most_240_bytes() {
    ready(|m| {
        for (size, status) in [
            (240, HvStatus::SUCCESS),
            (241, HvStatus::INVALID_PARAMETER),
            (256, HvStatus::INVALID_PARAMETER),
            (u32::MAX, HvStatus::INVALID_PARAMETER),
        ] {
            let (result, _) = m.call(0, simple(Code::POST_MESSAGE), &input(PORT, 1, size, &[]), 0);
            assert_eq!(result.status(), status, "{size}");
        }
    });
}

#[test]
fn the_reserved_field_is_zero() {
    ready(|m| {
        let mut input = input(PORT, 1, 8, &[]);
        input[4] = 1;
        let (result, _) = m.call(0, simple(Code::POST_MESSAGE), &input, 0);
        assert_eq!(result.status(), HvStatus::INVALID_PARAMETER);
    });
}

#[test]
fn connections_and_ports_are_checked() {
    ready(|m| {
        for (connection, status) in [
            (0xabc, HvStatus::INVALID_CONNECTION_ID),
            (PORT | 1 << 24, HvStatus::INVALID_CONNECTION_ID),
            (DELETED, HvStatus::INVALID_PORT_ID),
            (EVENT, HvStatus::INVALID_PORT_ID),
            (NOWHERE, HvStatus::INVALID_VP_INDEX),
        ] {
            assert_eq!(post(m, connection, b"x"), status, "{connection:#x}");
        }
    });
}

#[test]
fn posting_needs_the_privilege() {
    let mut profile = Profile::AZURE;
    profile.features.privileges = profile.features.privileges.with_post_messages(false);
    run(Config::new(62_500_000).with_profile(profile), 2, &ports(), |m| {
        m.enable_synic(1, SINT, VECTOR);
        assert_eq!(post(m, PORT, b"x"), HvStatus::ACCESS_DENIED);
    });
}

#[test]
fn a_disabled_synic_or_page_takes_no_message() {
    two(|m| {
        assert_eq!(post(m, PORT, b"x"), HvStatus::INVALID_SYNIC_STATE);
        m.set(1, Name::SCONTROL, 1).unwrap();
        assert_eq!(post(m, PORT, b"x"), HvStatus::INVALID_SYNIC_STATE, "no page");
        m.set(1, Name::SIMP, m.message_page(1) | 1).unwrap();
        assert_eq!(post(m, PORT, b"x"), HvStatus::SUCCESS);
        m.set(1, Name::SCONTROL, 0).unwrap();
        assert_eq!(post(m, PORT, b"x"), HvStatus::INVALID_SYNIC_STATE);
    });
}

#[test]
fn any_vp_means_one_that_can_take_it() {
    two(|m| {
        assert_eq!(post(m, ANY, b"x"), HvStatus::INVALID_VP_INDEX, "there is none");
        m.enable_synic(1, SINT, VECTOR);
        assert_eq!(post(m, ANY, b"x"), HvStatus::SUCCESS);
        assert!(m.take_message(1, SINT).is_some());
    });
}

#[test]
fn the_interrupt_of_a_masked_sint_is_lost_and_the_message_is_not() {
    ready(|m| {
        m.set(1, Name::sint(SINT), 0x1_0000 | u64::from(VECTOR)).unwrap();
        assert_eq!(post(m, PORT, b"x"), HvStatus::SUCCESS);
        assert_eq!(m.host.take_interrupts(), []);
        assert!(m.take_message(1, SINT).is_some());
    });
}

#[test]
fn a_polled_sint_takes_messages_without_an_interrupt() {
    ready(|m| {
        m.set(1, Name::sint(SINT), 1 << 18 | u64::from(VECTOR)).unwrap();
        assert_eq!(post(m, PORT, b"x"), HvStatus::SUCCESS);
        assert_eq!(m.host.take_interrupts(), []);
        assert!(m.take_message(1, SINT).is_some());
    });
}

#[test]
fn a_full_slot_queues_and_says_so() {
    ready(|m| {
        post(m, PORT, b"1");
        m.host.take_effects();
        post(m, PORT, b"2");
        assert_eq!(m.host.take_interrupts(), [], "a queued message does not interrupt");
        let first = m.slot(1, SINT);
        assert_eq!(first.payload[0], b'1', "the first one is not overwritten");
        assert!(first.header.flags.message_pending(), "set while the message lies in the slot");
    });
}

#[test]
fn end_of_message_delivers_the_next_with_its_interrupt() {
    ready(|m| {
        for n in [b"1", b"2", b"3"] {
            post(m, PORT, n);
        }
        m.host.take_effects();
        let slot = m.message_page(1) + u64::from(SINT) * 256;
        m.set(1, Name::EOM, 0).unwrap();
        assert_eq!(m.slot(1, SINT).payload[0], b'1', "the slot is not empty");
        m.host.memory().store_release(slot, 0).unwrap();
        m.set(1, Name::EOM, 0).unwrap();
        let second = m.slot(1, SINT);
        assert_eq!((second.payload[0], second.header.flags.message_pending()), (b'2', true));
        assert_eq!(m.host.take_interrupts(), [(1, u32::from(VECTOR))]);
        m.host.memory().store_release(slot, 0).unwrap();
        m.set(1, Name::EOM, 0xffff).unwrap();
        let third = m.slot(1, SINT);
        assert_eq!((third.payload[0], third.header.flags.message_pending()), (b'3', false));
    });
}

#[test]
fn end_of_message_without_messages_does_nothing() {
    ready(|m| {
        m.set(1, Name::EOM, 0).unwrap();
        assert_eq!(m.host.take_effects(), []);
        assert_eq!(m.get(1, Name::EOM), Ok(0));
    });
}

#[test]
fn queueing_another_message_scans_the_queue() {
    ready(|m| {
        post(m, PORT, b"1");
        post(m, PORT, b"2");
        let slot = m.message_page(1) + u64::from(SINT) * 256;
        m.host.memory().store_release(slot, 0).unwrap();
        m.host.take_effects();
        post(m, PORT, b"3");
        let second = m.slot(1, SINT);
        assert_eq!((second.payload[0], second.header.flags.message_pending()), (b'2', true));
        assert_eq!(m.host.take_interrupts(), [(1, u32::from(VECTOR))]);
    });
}

#[test]
fn messages_arrive_in_the_order_in_which_they_were_posted() {
    ready(|m| {
        for n in 0..17u8 {
            assert_eq!(post(m, PORT, &[n]), HvStatus::SUCCESS, "{n}");
        }
        for n in 0..17u8 {
            assert_eq!(m.take_message(1, SINT).unwrap().payload[0], n);
        }
        assert!(m.take_message(1, SINT).is_none());
    });
}

#[test]
fn a_port_has_16_buffers() {
    ready(|m| {
        // One in the slot needs none.
        for n in 0..17 {
            assert_eq!(post(m, PORT, &[n]), HvStatus::SUCCESS, "{n}");
        }
        assert_eq!(post(m, PORT, b"x"), HvStatus::INSUFFICIENT_BUFFERS);
        assert_eq!(post(m, OTHER, b"x"), HvStatus::SUCCESS, "another port has its own");
        m.take_message(1, SINT).unwrap();
        assert_eq!(post(m, PORT, b"x"), HvStatus::SUCCESS, "a delivery frees a buffer");
        assert_eq!(post(m, PORT, b"x"), HvStatus::INSUFFICIENT_BUFFERS);
    });
}

#[test]
fn ports_that_lead_to_one_vp_and_the_host_do_not_take_each_others_buffers() {
    let target = PortTarget::Message { vp: Some(1), sint: SINT };
    let ports: [Port; 4] = [0, 1, 2, 3].map(|n| Port::new(PORT + n, n, target));
    run(Config::new(62_500_000), 2, &ports, |m| {
        m.enable_synic(1, SINT, VECTOR);
        let from_host = || m.partition.post_message(&m.host, 1, SINT, MessageType(1), 9, b"host");
        assert_eq!(from_host(), Ok(()), "into the slot");
        for port in PORT..PORT + FULL_PORTS_PER_VP {
            for n in 0..BUFFERS_PER_PORT {
                assert_eq!(post(m, port, b"x"), HvStatus::SUCCESS, "port {port:#x}, message {n}");
            }
            assert_eq!(post(m, port, b"x"), HvStatus::INSUFFICIENT_BUFFERS, "port {port:#x}");
        }
        assert_eq!(
            post(m, PORT + FULL_PORTS_PER_VP, b"x"),
            HvStatus::INSUFFICIENT_BUFFERS,
            "one port too many"
        );
        for n in 0..BUFFERS_PER_PORT {
            assert_eq!(from_host(), Ok(()), "the host's message {n}");
        }
        assert_eq!(from_host(), Err(HvStatus::INSUFFICIENT_BUFFERS));
    });
}

#[test]
fn each_sint_has_a_queue_of_its_own() {
    ready(|m| {
        post(m, PORT, b"1");
        post(m, PORT, b"2");
        m.set(1, Name::sint(SINT + 1), 21).unwrap();
        m.host.take_effects();
        post(m, OTHER, b"3");
        assert_eq!(m.slot(1, SINT + 1).payload[0], b'3', "a waiting queue does not hold up another");
        assert_eq!(m.host.take_interrupts(), [(1, 21)]);
    });
}

#[test]
fn one_end_of_message_serves_all_sints() {
    ready(|m| {
        for port in [PORT, OTHER] {
            post(m, port, b"1");
            post(m, port, b"2");
        }
        for sint in [SINT, SINT + 1] {
            let slot = m.message_page(1) + u64::from(sint) * 256;
            m.host.memory().store_release(slot, 0).unwrap();
        }
        m.set(1, Name::EOM, 0).unwrap();
        assert_eq!(m.slot(1, SINT).payload[0], b'2');
        assert_eq!(m.slot(1, SINT + 1).payload[0], b'2');
    });
}

#[test]
fn a_page_turned_off_keeps_the_queue() {
    ready(|m| {
        post(m, PORT, b"1");
        post(m, PORT, b"2");
        m.set(1, Name::SIMP, 0).unwrap();
        m.set(1, Name::EOM, 0).unwrap();
        assert_eq!(post(m, PORT, b"3"), HvStatus::INVALID_SYNIC_STATE);
        m.host.take_effects();
        m.set(1, Name::SIMP, m.message_page(1) | 1).unwrap();
        let [first, second] = [0; 2].map(|_| m.take_message(1, SINT).unwrap().payload[0]);
        assert_eq!([first, second], *b"12", "the slot as it was, then the queue");
        assert_eq!(m.host.take_interrupts(), [(1, u32::from(VECTOR))]);
    });
}

#[test]
fn a_page_that_moves_takes_its_messages_along() {
    ready(|m| {
        post(m, PORT, b"1");
        let new = RAM + 0x8000;
        m.host.memory().write(new, &[0xff; 4096]).unwrap();
        m.set(1, Name::SIMP, new | 1).unwrap();
        let mut bytes = [0; 4096];
        m.host.memory().read(new, &mut bytes).unwrap();
        let slot = usize::from(SINT) * 256;
        assert_eq!(bytes[slot + 16], b'1');
        assert!(bytes[..slot].iter().all(|&b| b == 0), "what lay there is covered");
    });
}

#[test]
fn a_page_switched_on_is_empty() {
    two(|m| {
        m.host.memory().write(m.message_page(1), &[0xff; 8192]).unwrap();
        m.enable_synic(1, SINT, VECTOR);
        let mut bytes = [0xff; 8192];
        m.host.memory().read(m.message_page(1), &mut bytes).unwrap();
        assert_eq!(bytes, [0; 8192]);
    });
}

#[test]
fn writing_the_page_register_again_keeps_the_page() {
    ready(|m| {
        post(m, PORT, b"1");
        m.set(1, Name::SIMP, m.message_page(1) | 1 | 0x10).unwrap();
        assert_eq!(m.slot(1, SINT).payload[0], b'1');
    });
}

#[test]
fn a_page_beyond_the_guests_memory_is_accepted_and_not_accessible() {
    ready(|m| {
        for bad in [0, RAM + RAM_SIZE, !0xfff, 1 << 60] {
            assert_eq!(m.set(1, Name::SIMP, bad | 1), Ok(()));
            for _ in 0..17 {
                post(m, PORT, b"1");
            }
            assert_eq!(post(m, PORT, b"x"), HvStatus::INSUFFICIENT_BUFFERS, "slot and buffers are full");
            m.set(1, Name::EOM, 0).unwrap();
            m.set(1, Name::SIMP, 0).unwrap();
        }
        m.set(1, Name::SIMP, m.message_page(1) | 1).unwrap();
        assert_eq!(std::iter::from_fn(|| m.take_message(1, SINT)).count(), 17);
    });
}

#[test]
fn reset_of_a_vp_empties_its_queues_and_frees_the_buffers() {
    ready(|m| {
        for _ in 0..17 {
            post(m, PORT, b"1");
        }
        m.offline(1);
        m.online(1);
        m.enable_synic(1, SINT, VECTOR);
        assert!(m.take_message(1, SINT).is_none());
        for n in 0..17 {
            assert_eq!(post(m, PORT, b"1"), HvStatus::SUCCESS, "{n}");
        }
    });
}

#[test]
fn a_stopped_vp_still_takes_messages() {
    ready(|m| {
        m.offline(1);
        assert_eq!(post(m, PORT, b"the last one"), HvStatus::SUCCESS);
        assert_eq!(m.take_message(1, SINT).unwrap().payload[..12], *b"the last one");
    });
}

#[test]
fn the_host_has_16_buffers_too() {
    ready(|m| {
        let post = || m.partition.post_message(&m.host, 1, SINT, MessageType(1), 3, b"host");
        for n in 0..17 {
            assert_eq!(post(), Ok(()), "{n}");
        }
        assert_eq!(post(), Err(HvStatus::INSUFFICIENT_BUFFERS));
        assert_eq!(m.slot(1, SINT).header.sender, 3);
        let bad = m.partition.post_message(&m.host, 2, SINT, MessageType(1), 3, b"host");
        assert_eq!(bad, Err(HvStatus::INVALID_VP_INDEX));
        let bad = m.partition.post_message(&m.host, 1, 16, MessageType(1), 3, b"host");
        assert_eq!(bad, Err(HvStatus::INVALID_PARAMETER));
    });
}

#[test]
fn messages_of_many_senders_arrive_each_once_while_the_guest_takes_them() {
    const SENDERS: usize = 3;
    const EACH: u32 = 500;
    run(Config::new(62_500_000), SENDERS + 1, &ports(), |m| {
        m.enable_synic(1, SINT, VECTOR);
        let mut seen = vec![Vec::new(); SENDERS + 1];
        std::thread::scope(|scope| {
            for vp in (0..=SENDERS).filter(|&vp| vp != 1) {
                scope.spawn(move || {
                    for n in 0..EACH {
                        let payload = [vp as u32, n].map(u32::to_le_bytes).concat();
                        let input = input(PORT, 1, 8, &payload);
                        while m.call(vp, simple(Code::POST_MESSAGE), &input, 0).0.status()
                            != HvStatus::SUCCESS
                        {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let mut left = SENDERS * EACH as usize;
            while left > 0 {
                if let Some(message) = m.take_message(1, SINT) {
                    let word = |n: usize| u32::from_le_bytes(message.payload[n..n + 4].try_into().unwrap());
                    seen[word(0) as usize].push(word(4));
                    left -= 1;
                }
            }
        });
        for vp in (0..=SENDERS).filter(|&vp| vp != 1) {
            assert!(seen[vp].iter().copied().eq(0..EACH), "VP {vp}");
        }
        assert!(m.take_message(1, SINT).is_none());
    });
}
