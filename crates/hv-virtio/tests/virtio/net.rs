//! The network card's driver.

use crate::device::{Lie, VirtioDevice};
use hv_virtio::{
    Broken, NET_HEADER, NET_MEMORY, NetReceiver, NetSender, RECEIVE_FRAME, Refused, SEND_FRAME, net, status,
};

fn card() -> (VirtioDevice, NetReceiver<VirtioDevice>, NetSender<VirtioDevice>) {
    let (device, memory) = VirtioDevice::net(NET_MEMORY);
    let (receiver, sender) = net(device.clone(), memory).unwrap();
    (device, receiver, sender)
}

/// Builds a frame after its header, whose bytes encode their offsets.
fn packet(len: usize) -> Vec<u8> {
    let frame = (0..len).map(|at| (at * 7 + at / 251) as u8);
    [0xee; NET_HEADER].into_iter().chain(frame).collect()
}

#[test]
fn frames_are_sent_after_a_header_of_zeros() {
    let (device, _, mut sender) = card();
    for len in [1, 60, 1514, SEND_FRAME] {
        let mut bytes = packet(len);
        assert_eq!(sender.send(&mut bytes), Ok(true));
        let sent = device.take().unwrap();
        assert_eq!(sent[..NET_HEADER], [0; NET_HEADER]);
        assert_eq!(sent[NET_HEADER..], packet(len)[NET_HEADER..]);
        assert_eq!(device.take(), None);
    }
    assert_eq!(sender.send(&mut packet(SEND_FRAME + 1)), Ok(false));
    assert_eq!(sender.send(&mut packet(0)), Ok(false));
    assert_eq!(sender.send(&mut []), Ok(false));
    assert_eq!(device.take(), None);
}

#[test]
fn a_device_that_takes_nothing_is_waited_for() {
    let (device, _, mut sender) = card();
    let mut sent = 0;
    while sender.send(&mut packet(100)).unwrap() {
        assert!(!device.may_interrupt(1), "nothing waits for the end of a frame");
        sent += 1;
    }
    assert_eq!(sent, 16);
    assert_eq!(sender.has_room(), Ok(false));
    assert!(device.may_interrupt(1));
    assert!(device.take().is_some());
    assert_eq!(sender.has_room(), Ok(true));
    assert!(!device.may_interrupt(1));
    assert!(sender.send(&mut packet(5)).unwrap());
    assert!(!sender.send(&mut packet(5)).unwrap());
}

#[test]
fn a_device_is_notified_when_it_asks_for_that() {
    let (device, mut receiver, mut sender) = card();
    let before = [device.notified(0), device.notified(1)];
    for wants in [false, true] {
        device.wants_notice(0, wants);
        device.wants_notice(1, wants);
        sender.send(&mut packet(60)).unwrap();
        device.put(&packet(60));
        receiver.frame(&mut [0; 100]).unwrap();
        receiver.done();
        let more = usize::from(wants);
        assert_eq!([device.notified(0), device.notified(1)], before.map(|count| count + more));
    }
}

#[test]
fn a_frame_stays_until_it_is_done() {
    let (device, mut receiver, _) = card();
    let mut frame = [0; RECEIVE_FRAME];
    assert_eq!(receiver.frame(&mut frame), Ok(None));
    receiver.done();
    for len in [60, 61, RECEIVE_FRAME] {
        assert!(device.put(&packet(len)));
    }
    assert!(receiver.acknowledge());
    for len in [60, 61, RECEIVE_FRAME] {
        for _ in 0..2 {
            frame.fill(0);
            assert_eq!(receiver.frame(&mut frame), Ok(Some(len)));
            assert_eq!(frame[..len], packet(len)[NET_HEADER..]);
        }
        receiver.done();
    }
    assert_eq!(receiver.frame(&mut frame), Ok(None));
}

#[test]
fn buffers_go_round_for_ever() {
    let (device, mut receiver, mut sender) = card();
    let mut frame = [0; RECEIVE_FRAME];
    for round in 0..5000 {
        let bytes = packet(14 + round * 13 % 1500);
        assert!(device.put(&bytes), "round {round}: every buffer was given back");
        assert_eq!(receiver.frame(&mut frame), Ok(Some(bytes.len() - NET_HEADER)));
        receiver.done();
        assert!(sender.send(&mut bytes.clone()).unwrap());
        assert_eq!(device.take().unwrap()[NET_HEADER..], bytes[NET_HEADER..]);
    }
}

#[test]
fn a_frame_without_a_header_is_empty() {
    let (device, mut receiver, _) = card();
    for len in [0, 5, NET_HEADER] {
        device.put(&vec![1; len]);
        assert_eq!(receiver.frame(&mut [0; 10]), Ok(Some(0)));
        receiver.done();
    }
}

#[test]
fn a_device_that_lies_is_given_up() {
    let lies = [
        (Lie::Index(64), Broken::Index { claimed: 65, lent: 64 }),
        (Lie::Buffer(64), Broken::Buffer(64)),
        (Lie::Length(2049), Broken::Length { claimed: 2049, size: 2048 }),
    ];
    for (lie, broken) in lies {
        let (device, mut receiver, _) = card();
        device.lie(lie);
        device.put(&packet(60));
        assert_eq!(receiver.frame(&mut [0; 100]), Err(broken));
        assert_eq!(receiver.frame(&mut [0; 100]), Err(broken));
        assert_eq!(device.status(), 0, "a device that was given up is reset");
        assert!(!receiver.acknowledge());
    }
    let (device, _, mut sender) = card();
    sender.send(&mut packet(60)).unwrap();
    device.lie(Lie::Buffer(3));
    device.take();
    assert_eq!(sender.has_room(), Err(Broken::Buffer(3)));
    assert_eq!(sender.send(&mut packet(60)), Err(Broken::Buffer(3)));
    assert_eq!(device.status(), 0);
}

#[test]
fn a_device_that_does_not_fit_is_refused() {
    let try_it = |device: VirtioDevice, bytes: usize| {
        let (_, memory) = VirtioDevice::net(bytes);
        net(device, memory).map(|_| ()).unwrap_err()
    };
    assert_eq!(try_it(VirtioDevice::console(16).0, NET_MEMORY), Refused::Device(3));
    assert_eq!(try_it(VirtioDevice::net(16).0.with_features([0, 0]), NET_MEMORY), Refused::Features);
    assert_eq!(try_it(VirtioDevice::net(16).0, NET_MEMORY - 16), Refused::Memory);
    let (short, memory) = VirtioDevice::net(NET_MEMORY);
    let short = short.with_queue_max(32);
    assert_eq!(net(short.clone(), memory).map(|_| ()).unwrap_err(), Refused::Queue(0));
    assert_eq!(short.status(), 0);
    let (whole, memory) = VirtioDevice::net(NET_MEMORY);
    net(whole.clone(), memory).unwrap();
    assert_ne!(whole.status() & status::DRIVER_OK, 0);
}
