//! The console's driver against a device that judges every address, and against one that lies.

use crate::device::{Lie, VirtioDevice};
use hv_virtio::{Broken, Console, PORT_BYTES, Refused, status};

type Driver = Console<VirtioDevice>;

fn console() -> (VirtioDevice, Driver) {
    let (device, memory) = VirtioDevice::console(Driver::MEMORY);
    let console = Console::new(device.clone(), memory).unwrap();
    (device, console)
}

#[test]
fn port_1_is_opened_by_messages_that_need_no_interrupt() {
    let (device, console) = console();
    let ready = [0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0];
    let [port_ready, port_open] = [3, 6].map(|event| [1, 0, 0, 0, event, 0, 1, 0]);
    assert_eq!(device.controls(), [ready, port_ready, port_open]);
    assert!(!console.acknowledge(), "an interrupt for a message");
}

/// Returns bytes of which each tells its place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn what_is_received_is_read_in_pieces_of_any_length() {
    let (device, mut console) = console();
    let bytes = pattern(10_000);
    assert_eq!(device.receive(&bytes), bytes.len());
    assert!(console.acknowledge());
    assert!(!console.acknowledge(), "an interrupt is acknowledged once");
    let mut read = Vec::new();
    for len in [1, 4095, 1, 2, 5000, 3000] {
        let mut piece = vec![0; len];
        let got = console.read(&mut piece).unwrap();
        read.extend_from_slice(&piece[..got]);
    }
    assert_eq!(read, bytes);
    assert_eq!(console.read(&mut [0; 9]), Ok(0));
}

#[test]
fn buffers_go_round_for_ever() {
    let (device, mut console) = console();
    for round in 0..5000_u32 {
        let bytes = pattern(1 + round as usize * 13 % 9000);
        assert_eq!(device.receive(&bytes), bytes.len(), "round {round}: every buffer was given back");
        let mut piece = vec![0; bytes.len() + 1];
        assert_eq!(console.read(&mut piece), Ok(bytes.len()));
        console.flush();
        assert_eq!(piece[..bytes.len()], bytes);
        assert!(console.write(&bytes).unwrap());
        console.flush();
        assert_eq!(device.send(), bytes);
    }
}

#[test]
fn writes_share_buffers_and_everything_is_notified_once() {
    let (device, mut console) = console();
    let bytes = pattern(9000);
    for part in bytes.chunks(7) {
        assert!(console.write(part).unwrap());
    }
    assert_eq!(console.room(), Ok(PORT_BYTES - 9000));
    assert_eq!(device.receive(&pattern(5000)), 5000);
    let before = [device.notified(0), device.notified(1)];
    for _ in 0..50 {
        assert_eq!(console.read(&mut [0; 100]), Ok(100));
    }
    assert_eq!(before, [device.notified(0), device.notified(1)]);
    console.flush();
    assert_eq!([before[0] + 1, before[1] + 1], [device.notified(0), device.notified(1)]);
    assert_eq!(device.send(), bytes);
    assert_eq!(console.room(), Ok(PORT_BYTES));
    console.flush();
    assert_eq!([before[0] + 1, before[1] + 1], [device.notified(0), device.notified(1)], "nothing to tell");
}

#[test]
fn a_device_that_takes_nothing_fills_the_queue_and_no_more() {
    let (device, mut console) = console();
    let bytes = pattern(3 * 4096);
    let mut taken = 0;
    while console.write(&bytes).unwrap() {
        taken += 1;
    }
    assert_eq!(taken, PORT_BYTES / bytes.len());
    assert_eq!(console.room(), Ok(4096));
    assert!(console.write(&[b'x'; 4096]).unwrap());
    assert!(!console.write(b"y").unwrap());
    let mut sent = bytes.repeat(taken);
    sent.extend([b'x'; 4096]);
    console.flush();
    assert_eq!(device.send(), sent);
    assert_eq!(console.room(), Ok(PORT_BYTES));
    assert!(device.notified(1) > 0);
}

#[test]
fn a_device_that_lies_is_given_up() {
    let lies = [
        (Lie::Index(16), Broken::Index { claimed: 17, lent: 16 }),
        (Lie::Index(0xfffe), Broken::Index { claimed: 0xffff, lent: 16 }),
        (Lie::Buffer(16), Broken::Buffer(16)),
        (Lie::Buffer(u32::MAX), Broken::Buffer(u32::MAX)),
        (Lie::Buffer(0x1_0000), Broken::Buffer(0x1_0000)),
        (Lie::Length(4097), Broken::Length { claimed: 4097, size: 4096 }),
        (Lie::Length(u32::MAX), Broken::Length { claimed: u32::MAX, size: 4096 }),
    ];
    for (lie, broken) in lies {
        let (device, mut console) = console();
        device.lie(lie);
        device.receive(b"abc");
        assert_eq!(console.read(&mut [0; 8]), Err(broken));
        assert_eq!(console.broken(), Some(broken));
        assert_eq!(device.status(), 0, "a device that was given up is reset");
        assert_eq!(console.write(b"abc"), Err(broken));
        assert_eq!(console.room(), Err(broken));
        assert!(!console.acknowledge());
    }
}

#[test]
fn a_buffer_comes_back_once() {
    let (device, mut console) = console();
    assert!(console.write(b"one").unwrap());
    console.flush();
    device.send();
    assert_eq!(console.room(), Ok(PORT_BYTES));
    assert!(console.write(b"two").unwrap());
    console.flush();
    // The buffer that was just taken back is lent again; another was not.
    device.lie(Lie::Buffer(1));
    device.send();
    assert_eq!(console.room(), Err(Broken::Buffer(1)));
}

#[test]
fn a_device_that_does_not_fit_is_refused() {
    let try_it = |device: VirtioDevice, bytes: usize| {
        let (_, memory) = VirtioDevice::console(bytes);
        Console::new(device, memory).map(|_| ()).unwrap_err()
    };
    let device = || VirtioDevice::console(16).0;
    assert_eq!(try_it(device().with_features([2, 0]), Driver::MEMORY), Refused::Features);
    assert_eq!(try_it(device().with_features([0, 1]), Driver::MEMORY), Refused::Features, "no port 1");
    assert_eq!(try_it(device(), Driver::MEMORY - 16), Refused::Memory);
    let (short, memory) = VirtioDevice::console(Driver::MEMORY);
    let short = short.with_queue_max(8);
    assert_eq!(Console::new(short.clone(), memory).map(|_| ()), Err(Refused::Queue(2)));
    assert_eq!(short.status(), 0);
    let (whole, memory) = VirtioDevice::console(Driver::MEMORY);
    Console::new(whole.clone(), memory).unwrap();
    assert_ne!(whole.status() & status::DRIVER_OK, 0);
}
