//! A device that a developer adds: one file, `adder.rs`, and one line below.

#[expect(dead_code, reason = "the guest of hv-vmbus's tests, of which a part is used here")]
#[path = "../../../hv-vmbus/tests/vmbus/common/mod.rs"]
mod common;

use common::{GuestPacket, GuestRing, Lock, PAGES, SPLIT, TestPort, contact, gpadl, header, open};
use hv_vmbus::protocol::{MessageType, PacketType, Version};
use hv_vmbus::{Bus, Config, Slot};
use zerocopy::IntoBytes as _;

hv_vmbus::devices! {
    pub(crate) struct Devices {
        pub(crate) mod adder: Slot<Lock, adder::Adder> = Slot::offering(adder::Adder::new(), adder::OFFER), // the line
    }
}

#[test]
fn a_new_device_is_one_file_and_one_line() {
    let bus: Bus<Lock, Devices> = Bus::new(Config::DEFAULT, Devices::new());
    let port = TestPort::new();
    let post = |message: &[u8]| bus.message(4, message, &port).unwrap();
    // What a guest sends to open the channel.
    post(contact(Version::V5_3).as_bytes());
    post(header(MessageType::REQUEST_OFFERS).as_bytes());
    gpadl(1, 9, &PAGES).iter().for_each(|message| post(message));
    post(open(1, 9, 1, SPLIT).as_bytes());
    let (out, back) = PAGES.split_at(SPLIT as usize);
    let (out, back) = (GuestRing::new(out), GuestRing::new(back));
    for (id, numbers, sum) in [(7, [1_u32, 2], 3_u32), (8, [u32::MAX, 6], 5)] {
        let numbers = numbers.as_bytes().to_vec();
        let packet =
            GuestPacket { kind: PacketType::DATA_IN_BAND.0, flags: 1, transaction: id, payload: numbers };
        out.send(&port.memory, &packet).expect("the ring has room");
        bus.signal(0x2001, &port).unwrap();
        let (answer, _) = back.receive(&port.memory).expect("each packet is answered");
        assert_eq!((answer.kind, answer.transaction), (PacketType::COMPLETION.0, id));
        assert_eq!(answer.payload[..4], sum.to_le_bytes());
    }
    assert_eq!(bus.with(&bus.devices().adder, &port, |adder, _| adder.total), Ok(8));
}
