//! The end of a message, against a hypervisor that delivers another.

use crate::message::{Freed, Slot};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use hv_tlfs::synic::MessageType;
use loom::{sync::Arc, thread};

fn slot(message_type: u32, info: u32) -> Slot {
    Slot {
        message_type: AtomicU32::new(message_type),
        info: AtomicU32::new(info),
        sender: AtomicU64::new(9),
        payload: core::array::from_fn(|i| AtomicU64::new(i as u64)),
    }
}

const PENDING: u32 = 0x100;

/// Delivers one more message, like the hypervisor: fills the slot if it is free, else marks it and looks again.
fn deliver(slot: &Slot, message_type: u32) -> bool {
    let fill = || {
        slot.payload[0].store(u64::from(message_type), Ordering::Relaxed);
        slot.message_type.store(message_type, Ordering::Release);
    };
    if slot.message_type.load(Ordering::Acquire) == 0 {
        fill();
        return true;
    }
    slot.info.fetch_or(PENDING, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    if slot.message_type.load(Ordering::Acquire) == 0 {
        fill();
        return true;
    }
    false
}

#[test]
fn no_message_stays_behind() {
    loom::model(|| {
        let slot = Arc::new(slot(1, 8));
        let host = {
            let slot = slot.clone();
            thread::spawn(move || deliver(&slot, 2))
        };
        let freed = slot.free(MessageType(1));
        let delivered = host.join().unwrap();
        assert!(delivered || freed == Freed::MoreWait, "the message waits and no side knows");
    });
}

/// Frees the slot by an exchange with acquire and nothing else, the least that C++'s and Rust's model asks for.
fn free_with_acquire(slot: &Slot) -> Freed {
    match slot.message_type.compare_exchange(1, 0, Ordering::Acquire, Ordering::Relaxed) {
        Err(_) => Freed::NotOurs,
        Ok(_) if slot.info.load(Ordering::Relaxed) & PENDING != 0 => Freed::MoreWait,
        Ok(_) => Freed::Quiet,
    }
}

#[test]
#[should_panic(expected = "the message waits and no side knows")]
fn an_acquire_exchange_without_a_barrier_leaves_one_behind() {
    loom::model(|| {
        let slot = Arc::new(slot(1, 8));
        let host = {
            let slot = slot.clone();
            thread::spawn(move || deliver(&slot, 2))
        };
        let freed = free_with_acquire(&slot);
        let delivered = host.join().unwrap();
        assert!(delivered || freed == Freed::MoreWait, "the message waits and no side knows");
    });
}

#[test]
fn the_payload_is_copied_before_the_next_message_overwrites_it() {
    loom::model(|| {
        let slot = Arc::new(slot(1, 8));
        slot.payload[0].store(1, Ordering::Relaxed);
        let host = {
            let slot = slot.clone();
            thread::spawn(move || deliver(&slot, 2))
        };
        let pending = slot.pending().unwrap();
        let message = pending.read().unwrap();
        assert_eq!(message.payload(), u64::from(message.message_type().0).to_ne_bytes());
        let _ = slot.free(message.message_type());
        host.join().unwrap();
    });
}

#[test]
fn a_crashed_cpu_and_the_owner_free_a_slot_once() {
    loom::model(|| {
        let slot = Arc::new(slot(1, PENDING));
        let other = {
            let slot = slot.clone();
            thread::spawn(move || slot.free(MessageType(1)))
        };
        let here = slot.free(MessageType(1));
        let there = other.join().unwrap();
        assert_ne!(here == Freed::NotOurs, there == Freed::NotOurs);
    });
}
