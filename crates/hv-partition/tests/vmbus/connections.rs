//! Messages and signals to VMBus's connections, and what comes back.

use crate::guest::{self, SINT, contact, take_kinds};
use hv_devices::any::{Any, Offer};
use hv_partition::testing::{TestMachine, run, simple};
use hv_partition::{Config, Profile};
use hv_tlfs::hypercall::HypercallCode as Code;
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::status::HvStatus;
use hv_vmbus::protocol::{MessageHeader, MessageType};
use zerocopy::IntoBytes;

fn post(m: &TestMachine<'_>, connection: u32, payload: &[u8]) -> HvStatus {
    guest::post(m, 0, connection, payload)
}

fn ready(test: impl FnOnce(&TestMachine<'_>)) {
    run(Config::new(62_500_000), 2, &[], |m| {
        for vp in 0..2 {
            m.enable_synic(vp, SINT, 18);
        }
        m.host.take_effects();
        test(m);
    });
}

#[test]
fn a_contact_is_answered_on_the_vp_that_it_names() {
    ready(|m| {
        assert_eq!(post(m, 4, contact(1).as_bytes()), HvStatus::SUCCESS);
        assert_eq!(m.host.take_interrupts(), [(1, 18)]);
        assert_eq!(take_kinds(m, 1), [MessageType::VERSION_RESPONSE]);
        assert_eq!(take_kinds(m, 0), []);
    });
}

#[test]
fn more_offers_than_buffers_arrive_all_and_in_order() {
    ready(|m| {
        let offers = m.partition.with_vmbus(&m.host, |server| {
            let offer = |n| {
                let instance = hv_vmbus::protocol::Guid::new(n, 0, 0, [0; 8]);
                let channel = hv_vmbus::offer(hv_vmbus::protocol::guid::HEARTBEAT, instance);
                server.offer(Offer { channel, device: Any::SILENT })
            };
            (0..8).filter(|n| offer(*n).is_some()).count()
        });
        assert_eq!(post(m, 4, contact(0).as_bytes()), HvStatus::SUCCESS);
        assert_eq!(take_kinds(m, 0), [MessageType::VERSION_RESPONSE]);
        // The queue is full but for a little, so that the rest has to wait in the server.
        for _ in 0..14 {
            let filler = hv_tlfs::synic::MessageType(1);
            m.partition.post_message(&m.host, 0, SINT, filler, 0, &[0; 8]).unwrap();
        }
        assert_eq!(post(m, 4, MessageHeader::new(MessageType::REQUEST_OFFERS).as_bytes()), HvStatus::SUCCESS);
        let mut expected = vec![MessageType(0); 14];
        expected.extend(vec![MessageType::OFFER_CHANNEL; offers]);
        expected.push(MessageType::ALL_OFFERS_DELIVERED);
        assert_eq!(take_kinds(m, 0), expected);
    });
}

#[test]
fn an_answer_to_a_synic_or_message_page_that_is_off_is_dropped() {
    for register in [Name::SCONTROL, Name::SIMP] {
        ready(|m| {
            let on = m.get(1, register).unwrap();
            m.set(1, register, 0).unwrap();
            assert_eq!(post(m, 4, contact(1).as_bytes()), HvStatus::SUCCESS);
            m.set(1, register, on).unwrap();
            assert_eq!(take_kinds(m, 1), [], "{register:?}");
            assert_eq!(m.host.take_interrupts(), []);
            // The connection stands: later messages arrive.
            let offers = MessageHeader::new(MessageType::REQUEST_OFFERS);
            assert_eq!(post(m, 4, offers.as_bytes()), HvStatus::SUCCESS);
            assert!(take_kinds(m, 1).contains(&MessageType::ALL_OFFERS_DELIVERED));
        });
    }
}

#[test]
fn what_waits_in_the_server_is_dropped_when_the_synic_goes_off() {
    ready(|m| {
        // All of the host's buffers are full.
        let filler = hv_tlfs::synic::MessageType(1);
        while m.partition.post_message(&m.host, 1, SINT, filler, 0, &[0; 8]).is_ok() {}
        assert_eq!(post(m, 4, contact(1).as_bytes()), HvStatus::SUCCESS);
        m.set(1, Name::SCONTROL, 0).unwrap();
        m.set(1, Name::SCONTROL, 1).unwrap();
        assert!(take_kinds(m, 1).iter().all(|kind| *kind == MessageType(0)));
    });
}

#[test]
fn an_answer_waits_until_its_sint_is_unmasked() {
    ready(|m| {
        m.set(1, Name::SINT2, 0x1_0012).unwrap();
        assert_eq!(post(m, 4, contact(1).as_bytes()), HvStatus::SUCCESS);
        assert_eq!(take_kinds(m, 1), []);
        m.set(1, Name::SINT2, 18).unwrap();
        assert_eq!(m.host.take_interrupts(), [(1, 18)]);
        assert_eq!(take_kinds(m, 1), [MessageType::VERSION_RESPONSE]);
    });
}

#[test]
fn without_vmbus_its_connections_do_not_exist() {
    run(Config::new(62_500_000).with_vmbus(None), 1, &[], |m| {
        for connection in [1, 4] {
            assert_eq!(post(m, connection, contact(0).as_bytes()), HvStatus::INVALID_CONNECTION_ID);
        }
        let (result, _) = m.fast(0, simple(Code::SIGNAL_EVENT), &[0x1_0001]);
        assert_eq!(result.status(), HvStatus::INVALID_CONNECTION_ID);
    });
}

#[test]
fn a_signal_of_a_channel_that_is_not_open_has_no_connection() {
    ready(|m| {
        let (result, _) = m.fast(0, simple(Code::SIGNAL_EVENT), &[0x1_0001]);
        assert_eq!(result.status(), HvStatus::INVALID_CONNECTION_ID);
    });
}

#[test]
fn any_payload_is_taken_without_harm() {
    ready(|m| {
        for size in [0, 1, 7, 8, 40, 240] {
            for byte in [0, 1, 14, 0xff] {
                assert_eq!(post(m, 4, &vec![byte; size]), HvStatus::SUCCESS);
            }
        }
        assert_eq!(post(m, 4, contact(0).as_bytes()), HvStatus::SUCCESS);
        assert!(take_kinds(m, 0).contains(&MessageType::VERSION_RESPONSE));
    });
}

#[test]
fn vmbus_works_with_every_profile() {
    for number in 0..3 {
        let profile = Profile::by_number(number).unwrap();
        run(Config::new(62_500_000).with_profile(profile), 1, &[], |m| {
            m.enable_synic(0, SINT, 18);
            assert_eq!(post(m, 4, contact(0).as_bytes()), HvStatus::SUCCESS);
            assert_eq!(take_kinds(m, 0), [MessageType::VERSION_RESPONSE]);
        });
    }
}
