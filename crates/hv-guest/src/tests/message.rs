use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hv_tlfs::synic::MessageType;

use crate::message::{Freed, Malformed, Slot};

fn slot(message_type: u32, info: u32) -> Slot {
    Slot {
        message_type: AtomicU32::new(message_type),
        info: AtomicU32::new(info),
        sender: AtomicU64::new(9),
        payload: core::array::from_fn(|i| AtomicU64::new(i as u64)),
    }
}

#[test]
fn an_empty_slot_has_no_message() {
    assert!(slot(0, 0x01ff).pending().is_none());
}

#[test]
fn a_message_is_copied_as_far_as_its_size() {
    let full = slot(1, 12);
    let message = full.pending().unwrap().read().unwrap();
    assert_eq!(message.message_type(), MessageType(1));
    assert_eq!(message.sender(), 9);
    assert_eq!(message.payload(), [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn a_size_above_240_is_an_error_and_not_an_overrun() {
    for size in [241, 255] {
        let full = slot(1, size);
        assert_eq!(
            full.pending().unwrap().read(),
            Err(Malformed { message_type: MessageType(1), size: size as u8 })
        );
    }
    assert_eq!(slot(1, 240).pending().unwrap().read().unwrap().payload().len(), 240);
}

#[test]
fn a_timer_payload_is_read_only_from_a_timer_message_that_is_long_enough() {
    let timer = MessageType::TIMER_EXPIRED.0;
    let payload = |message_type, size| slot(message_type, size).pending().unwrap().read().unwrap().timer();
    assert_eq!(payload(timer, 24).unwrap().delivery_time.ticks(), 2);
    assert_eq!(payload(timer, 23), None);
    assert_eq!(payload(1, 24), None);
}

#[test]
fn the_second_to_free_a_slot_leaves_the_next_message_alone() {
    let full = slot(1, 0);
    assert_eq!(full.free(MessageType(1)), Freed::Quiet);
    full.message_type.store(2, Ordering::Relaxed);
    assert_eq!(full.free(MessageType(1)), Freed::NotOurs);
    assert_eq!(full.message_type.load(Ordering::Relaxed), 2);
}

#[test]
fn the_pending_bit_asks_for_an_eom() {
    assert_eq!(slot(1, 0x100).free(MessageType(1)), Freed::MoreWait);
    assert_eq!(slot(1, 0xfeff).free(MessageType(1)), Freed::Quiet);
}
