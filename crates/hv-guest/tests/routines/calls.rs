//! Hypercalls by hand, and messages and events over connections.

use crate::common::{EVENTS, FREQUENCY, MESSAGES, everywhere, everywhere_on};
use hv_guest::connection::{self, PostError};
use hv_guest::hypercall::{self, fast};
use hv_guest::synic::{End, SintIndex};
use hv_testbed::{Config, Profile};
use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_tlfs::register::{GetVpRegistersInput, RegisterName, RegisterValue};
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::{ConnectionId, MessageType};
use hv_tlfs::vp::{InputVtl, PartitionId, VpIndex};
use zerocopy::{Immutable, IntoBytes};

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct GetThree {
    header: GetVpRegistersInput,
    names: [RegisterName; 4],
}

const GET_THREE: GetThree = GetThree {
    header: GetVpRegistersInput {
        partition_id: PartitionId::SELF,
        vp_index: VpIndex::SELF,
        input_vtl: InputVtl::CURRENT,
        reserved: [0; 3],
    },
    names: [RegisterName::GUEST_OS_ID, RegisterName::SVERSION, RegisterName::SINT3, RegisterName(0)],
};

#[test]
fn fast_output_of_several_elements_is_found_in_both_conventions() {
    everywhere(|guest| {
        let control = HypercallInput::from_code(HypercallCode::GET_VP_REGISTERS).with_rep_count(3);
        // SAFETY: a Get of registers.
        let values: [RegisterValue; 3] = unsafe { fast(guest.partition, control, &GET_THREE) }.unwrap();
        assert_eq!(values.map(|value| value.low), [crate::common::ID.bits(), 1, 0x1_0000]);
    });
}

#[test]
fn a_simple_call_with_output_gets_it_by_memory_and_by_register() {
    let mut profile = Profile::AZURE;
    profile.features.privileges = profile.features.privileges.with_access_partition_id(true);
    let mut config = Config::new(FREQUENCY).with_profile(profile);
    config.hypervisor.partition_id = 0x1234_5678_9abc;
    everywhere_on(config, |guest| {
        let control = HypercallInput::from_code(HypercallCode::GET_PARTITION_ID);
        let mut page = guest.bed.call_page();
        // SAFETY: the call returns a number.
        let by_memory = unsafe { hypercall::memory(guest.partition, &mut page, control, &()) };
        let by_memory: PartitionId = by_memory.unwrap();
        assert_eq!(by_memory, PartitionId(0x1234_5678_9abc));
        // SAFETY: the call returns a number.
        let by_register: PartitionId = unsafe { fast(guest.partition, control, &()) }.unwrap();
        assert_eq!(by_register, by_memory);
    });
}

#[test]
fn unknown_calls_and_wrong_controls_give_their_status() {
    everywhere(|guest| {
        let call =
            // SAFETY: calls that are refused.
            |control| unsafe { fast::<_, u64, ()>(guest.partition, control, &0) }.unwrap_err().status();
        assert_eq!(call(HypercallInput::from_code(HypercallCode(0x0fff))), HvStatus::INVALID_HYPERCALL_CODE);
        let signal = HypercallInput::from_code(HypercallCode::SIGNAL_EVENT);
        assert_eq!(call(signal.with_rep_count(1)), HvStatus::INVALID_HYPERCALL_INPUT);
        assert_eq!(call(signal.with_variable_header_size(1)), HvStatus::INVALID_HYPERCALL_INPUT);
    });
}

#[test]
fn a_posted_message_arrives_with_its_payload_and_its_port() {
    everywhere(|guest| {
        let synic = guest.synic(0);
        let mut page = guest.bed.call_page();
        let payload: Vec<u8> = (0..240).map(|byte| byte as u8).collect();
        for length in [0, 1, 8, 239, 240] {
            let sender = guest.bed.wire(guest.vps - 1, guest.convention);
            let payload = &payload[..length];
            connection::post_message(&sender, &mut page, ConnectionId(MESSAGES), MessageType(1), payload)
                .unwrap();
            assert_eq!(guest.bed.take_interrupt(0), Some(18));
            let pending = synic.pending(SintIndex::VMBUS).expect("the message is there");
            let message = pending.read().unwrap();
            assert_eq!(
                (message.message_type(), message.payload(), message.sender()),
                (MessageType(1), payload, 7)
            );
            assert_eq!(synic.end(pending), Ok(End::Quiet));
            assert!(synic.pending(SintIndex::VMBUS).is_none());
        }
    });
}

#[test]
fn what_cannot_be_posted_is_told() {
    everywhere(|guest| {
        let _synic = guest.synic(0);
        let mut page = guest.bed.call_page();
        let mut post = |connection, message_type, payload: &[u8]| {
            connection::post_message(
                guest.partition,
                &mut page,
                ConnectionId(connection),
                MessageType(message_type),
                payload,
            )
        };
        assert_eq!(post(MESSAGES, 1, &[0; 241]), Err(PostError::TooLong));
        let status = |result: Result<(), PostError>| match result {
            Err(PostError::Hypervisor(error)) => error.status(),
            other => panic!("{other:?}"),
        };
        assert_eq!(status(post(999, 1, &[])), HvStatus::INVALID_CONNECTION_ID);
        assert_eq!(status(post(MESSAGES, 0, &[])), HvStatus::INVALID_PARAMETER);
        assert_eq!(status(post(MESSAGES, 0x8000_0001, &[])), HvStatus::INVALID_PARAMETER);
    });
}

#[test]
fn a_port_without_buffers_asks_for_patience_until_a_message_is_taken() {
    everywhere(|guest| {
        let synic = guest.synic(0);
        let mut page = guest.bed.call_page();
        let mut post = || {
            connection::post_message(guest.partition, &mut page, ConnectionId(MESSAGES), MessageType(1), b"x")
        };
        let mut posted = 0;
        let error = loop {
            match post() {
                Ok(()) => posted += 1,
                Err(error) => break error,
            }
        };
        assert!(error.may_retry(), "{error}");
        assert!(posted >= 16);
        let pending = synic.pending(SintIndex::VMBUS).unwrap();
        assert_eq!(synic.end(pending), Ok(End::MoreFollow));
        post().expect("a buffer is free again");
    });
}

#[test]
fn a_signalled_event_sets_its_flag() {
    everywhere(|guest| {
        let synic = guest.synic(0);
        connection::signal_event(guest.partition, ConnectionId(EVENTS), 9).unwrap();
        assert_eq!(guest.bed.take_interrupt(0), Some(18));
        assert!(synic.take_event(SintIndex::VMBUS, 9));
        assert!(!synic.take_event(SintIndex::VMBUS, 9));
        let error = connection::signal_event(guest.partition, ConnectionId(EVENTS), 64).unwrap_err();
        assert_eq!(error.status(), HvStatus::INVALID_PARAMETER);
    });
}
