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
    // As many as there are descriptors, or as there is memory for.
    for (len, most) in [(100, 128), (1514, 96), (SEND_FRAME, 16)] {
        let (device, _, mut sender) = card();
        let mut sent = 0;
        while sender.send(&mut packet(len)).unwrap() {
            assert!(!device.may_interrupt(1), "nothing waits for the end of a frame");
            sent += 1;
        }
        assert_eq!(sent, most);
        assert_eq!(sender.has_room(), Ok(false));
        assert!(device.may_interrupt(1));
        while sender.has_room() == Ok(false) {
            assert_eq!(device.take().unwrap()[NET_HEADER..], packet(len)[NET_HEADER..]);
        }
        assert!(!device.may_interrupt(1));
        assert!(sender.send(&mut packet(SEND_FRAME)).unwrap());
    }
}

#[test]
fn no_frame_is_written_over_one_that_the_device_has() {
    let (device, _, mut sender) = card();
    let (mut waiting, mut random) = (std::collections::VecDeque::new(), 1_u64);
    for round in 0..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (pick, skew) = ((random >> 33) as usize, (random >> 61) as usize);
        let len = if pick % 16 == 0 { pick % SEND_FRAME + 1 } else { pick % 1514 + 1 };
        // From any place in a word.
        let mut bytes = vec![0; skew];
        bytes.extend(packet(len));
        bytes[skew + NET_HEADER] = round as u8;
        if sender.send(&mut bytes[skew..]).unwrap() {
            waiting.push_back(bytes[skew + NET_HEADER..].to_vec());
        }
        // The device is behind by fewer and more frames.
        while waiting.len() > round % 200 {
            assert_eq!(device.take().unwrap()[NET_HEADER..], waiting.pop_front().unwrap());
        }
    }
}

#[test]
fn a_device_may_be_done_in_any_order() {
    let (device, _, mut sender) = card();
    assert!(sender.send(&mut packet(1000)).unwrap());
    let held = device.hold().unwrap();
    let mut sent = 1;
    while sender.send(&mut packet(60)).unwrap() {
        sent += 1;
        assert_eq!(device.take().unwrap()[NET_HEADER..], packet(60)[NET_HEADER..]);
    }
    // The memory of all of them comes after that of the first one.
    assert_eq!((sent, sender.has_room()), (128, Ok(false)));
    device.end(held);
    assert_eq!(sender.has_room(), Ok(true));
    assert!(sender.send(&mut packet(SEND_FRAME)).unwrap());
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
        (Lie::Length(2045), Broken::Length { claimed: 2045, size: 2044 }),
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
    // What the receiver finds is true of the sender too, whose frames never come back.
    let (device, _, mut sender) = card();
    while sender.send(&mut packet(60)) == Ok(true) {}
    sender.lose(Broken::Buffer(9));
    assert_eq!(sender.has_room(), Err(Broken::Buffer(9)));
    assert_eq!(sender.send(&mut packet(60)), Err(Broken::Buffer(9)));
    drop(device);

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
