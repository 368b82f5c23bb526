//! What a message costs, whatever the number of devices without a channel.

use crate::common::{TestPort, contact, header};
use hv_devices::any::Any;
use hv_lock::{FairLock, Wait};
use hv_tlfs::vmbus::guid;
use hv_vmbus::protocol::{ChannelId, Guid, MessageType, Version};
use hv_vmbus::{Bus, Config, DeviceId, Slot};
use std::cell::Cell;
use zerocopy::IntoBytes;

thread_local! {
    /// Locks that this thread has taken.
    static TAKEN: Cell<u32> = const { Cell::new(0) };
}

/// Wait policy that counts the locks.
#[derive(Debug)]
struct Counted;

impl Wait for Counted {
    fn arrived() {
        TAKEN.set(TAKEN.get() + 1);
    }

    fn relax() {
        panic!("this thread has the lock itself");
    }
}

type Lock = FairLock<Counted>;
type Devices<const DEVICES: usize> = [Slot<Lock, Any>; DEVICES];

/// Returns the locks that a contact, a request for offers and an unload take on a bus with this many devices: with two
/// of them offered, and again once these have been rescinded.
fn locks<const DEVICES: usize>() -> [[u32; 3]; 2] {
    let bus: Bus<Lock, Devices<DEVICES>> =
        Bus::new(Config::DEFAULT, [const { Slot::new(Any::SILENT) }; DEVICES]);
    let mut port = TestPort::new();
    let mut connect = |offers: usize| {
        let (contact, [request, unload]) =
            (contact(Version::V5_3), [MessageType::REQUEST_OFFERS, MessageType::UNLOAD].map(header));
        let counts = [contact.as_bytes(), request.as_bytes(), unload.as_bytes()].map(|message| {
            let before = TAKEN.get();
            bus.message(4, message, &port).unwrap();
            TAKEN.get() - before
        });
        let offered = port.take().iter().filter(|m| m.kind() == MessageType::OFFER_CHANNEL).count();
        assert_eq!(offered, offers);
        counts
    };
    let (first, last) = (0, DEVICES - 1);
    for at in [first, last] {
        let offer = hv_vmbus::offer(guid::HEARTBEAT, Guid::new(at as u32 + 1, 0, 0, [0; 8]));
        bus.offer(DeviceId(at as u16), &offer, &TestPort::new()).unwrap();
    }
    let with = connect(2);
    for at in [first, last] {
        assert!(bus.rescind(ChannelId(at as u32 + 1), &TestPort::new()));
    }
    // The first time, it turns out that they have none.
    connect(0);
    [with, connect(0)]
}

#[test]
fn a_message_takes_no_lock_of_a_device_without_a_channel() {
    let few = locks::<2>();
    assert!(few[0].iter().all(|locks| *locks >= 3), "locks are not counted: {few:?}");
    assert_eq!(few[1], [1; 3], "the bus's own lock alone");
    assert_eq!(locks::<64>(), few);
}
