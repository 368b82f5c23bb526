//! The messages of stock Linux 6.12 (drivers/hv: connection.c, channel_mgmt.c, channel.c, hv_util.c), in its order and
//! to the byte: contact, offers, the heartbeat driver's rings, its first beats, and the end at a crash.

use crate::common::Server;
use crate::common::{GuestPacket, GuestRing, Received, TestPort};
use hv_devices::any::Any;
use hv_devices::any::Offer;
use hv_devices::heartbeat;
use hv_vmbus::protocol::Version;
use hv_vmbus::{Config, Event};

/// Converts words to bytes.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// A guest with pages of `1 << shift` bytes.
struct Linux {
    server: Server,
    port: TestPort,
    /// Connection for messages, as the host has named it.
    connection: u32,
}

/// Creates a guest to which the host offers a device that Linux has no driver for, and the heartbeat.
fn linux(config: Config) -> Linux {
    let mut server = Server::new(config);
    server.offer(Offer::ECHO).unwrap();
    server.offer(Offer::HEARTBEAT).unwrap();
    Linux { server, port: TestPort::new(), connection: 4 }
}

impl Linux {
    fn post(&mut self, message: &[u8]) -> Vec<Received> {
        self.server.message(self.connection, message, &mut self.port).unwrap();
        self.port.take()
    }

    /// Tries a version like `vmbus_try_connection_id()`, and returns true if it was taken.
    fn negotiate(&mut self, version: u32) -> bool {
        let new = version >= 5 << 16;
        self.connection = if new { 4 } else { 1 };
        // msg_sint 2 and msg_vtl 0, or the address of the interrupt page; then the monitor pages.
        let target = if new { 2 } else { 0x4123_4000 };
        let message = words(&[14, 0, version, 0, target, 0, 0x4520_0000, 0, 0x4520_1000, 0]);
        let answers = self.post(&message);
        let [answer] = &answers[..] else { panic!("one answer, or the guest waits forever: {answers:?}") };
        assert_eq!((answer.vp, answer.sint, &answer.payload[..4]), (0, 2, &[15, 0, 0, 0][..]));
        let supported = answer.payload[8] != 0;
        if supported && new {
            self.connection = u32::from_le_bytes(answer.payload[12..16].try_into().unwrap());
        }
        supported
    }

    /// Connects like `vmbus_connect()`: tries the versions from the newest down.
    fn connect(&mut self, versions: &[u32]) -> u32 {
        *versions.iter().find(|v| self.negotiate(**v)).expect("Unable to connect to host")
    }

    /// Requests offers like `vmbus_request_offers()`, and returns the channels, connections and interfaces.
    fn request_offers(&mut self) -> Vec<(u32, u32, u8)> {
        let answers = self.post(&words(&[3, 0]));
        let (end, offers) = answers.split_last().unwrap();
        assert_eq!(end.payload, words(&[4, 0]));
        offers
            .iter()
            .map(|offer| {
                let p = &offer.payload;
                assert_eq!((p.len(), &p[..4]), (196, &[1, 0, 0, 0][..]));
                assert_eq!(p[189] & 1, 0, "no monitor: signals go by hypercall");
                assert_eq!(p[190] & 1, 1, "a dedicated interrupt: the interrupt page is not touched");
                let word = |i: usize| u32::from_le_bytes(p[i..i + 4].try_into().unwrap());
                (word(184), word(192), p[8])
            })
            .collect()
    }

    /// Opens a channel like `__vmbus_open()`, with rings of these pages: the GPADL in one message, as 10 to 26 pages
    /// are, and the open.
    fn open(&mut self, channel: u32, pages: &[u64], split: u32) {
        let mut message = words(&[8, 0, channel, 0xe1e10]);
        message.extend((8 + pages.len() as u16 * 8).to_le_bytes());
        message.extend(1u16.to_le_bytes());
        message.extend(words(&[pages.len() as u32 * 4096, 0]));
        message.extend(pages.iter().flat_map(|p| p.to_le_bytes()));
        let answers = self.post(&message);
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].payload, words(&[10, 0, channel, 0xe1e10, 0]));

        // hv_ringbuffer_init() of both rings: zero, and the feature bit.
        for header in [0, split as usize] {
            GuestRing::new(&pages[header..]).set_word(&self.port.memory, 64, 1);
        }
        let mut message = words(&[5, 0, channel, channel, 0xe1e10, 0, split]);
        message.resize(148, 0);
        let answers = self.post(&message);
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].payload, words(&[6, 0, channel, channel, 0]));
    }

    /// Closes a channel like `vmbus_close_internal()`: CLOSECHANNEL has no answer, the teardown has.
    fn close(&mut self, channel: u32) {
        assert_eq!(self.post(&words(&[7, 0, channel])), []);
        let answers = self.post(&words(&[11, 0, channel, 0xe1e10]));
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].payload, words(&[12, 0, 0xe1e10]));
    }

    /// Handles the heartbeat like `heartbeat_onchannelcallback()`: drains the ring, answers each request by itself,
    /// signals where `hv_signal_on_write()` does.
    fn heartbeat(&mut self, connection: u32, pages: &[u64], split: usize) -> usize {
        let (outbound, inbound) = (GuestRing::new(&pages[..split]), GuestRing::new(&pages[split..]));
        let mut handled = 0;
        while let Some((mut packet, _)) = inbound.receive(&self.port.memory) {
            let p = &mut packet.payload;
            if p[12] == 0 {
                p[18] = 0x10;
                p[28..32].copy_from_slice(&[1, 0, 1, 0]);
                let service: [u8; 4] = p[44..48].try_into().unwrap();
                p[40..44].copy_from_slice(&service);
            } else {
                p[28] += 1;
            }
            p[25] = 5;
            let reply = GuestPacket { kind: 6, flags: 0, ..packet };
            if outbound.send(&self.port.memory, &reply).unwrap() {
                self.server.signal(connection, &mut self.port).unwrap();
            }
            handled += 1;
        }
        handled
    }
}

const V6_12: [u32; 6] = [0x5_0003, 0x5_0002, 0x5_0001, 0x5_0000, 0x4_0001, 0x4_0000];

#[test]
fn linux_6_12_connects_with_5_3_and_beats_until_it_crashes() {
    let mut linux = linux(Config::DEFAULT);
    assert_eq!(linux.connect(&V6_12), Version::V5_3.0);
    let offers = linux.request_offers();
    assert_eq!(offers, [(1, 0x2001, 0x52), (2, 0x2002, 0x39)]);

    // Debian's 16K-page kernel: each ring's header is one page of which the first 4096 bytes are listed.
    let pages = [44950 & 0xff, 44954 & 0xff, 0x9b, 0x9c, 0x9d, 0xa2, 0xa6, 0xa7, 0xa8, 0xa9];
    linux.open(2, &pages, 5);
    assert_eq!(*linux.port.interrupts.get_mut(), [(0, 2, 2)]);
    assert_eq!(
        linux.heartbeat(0x2002, &pages, 5),
        2,
        "the negotiation, and the first beat in the same callback"
    );
    for _ in 0..20 {
        linux.port.time = linux.server.deadline().expect("the next beat");
        linux.port.interrupts.get_mut().clear();
        linux.server.flush(&mut linux.port);
        assert_eq!(*linux.port.interrupts.get_mut(), [(0, 2, 2)]);
        assert_eq!(linux.heartbeat(0x2002, &pages, 5), 1);
    }
    let last = linux
        .port
        .events
        .get_mut()
        .iter()
        .rev()
        .find(|e| matches!(e, Event::Device { note: heartbeat::ANSWERED, .. }));
    assert!(matches!(last, Some(Event::Device { value: 21, .. })), "{last:?}");

    // Taking CPU 0 from the channel: echo 1 > .../channels/2/cpu.
    let answers = linux.post(&words(&[22, 0, 2, 1]));
    assert_eq!(answers[0].payload, words(&[24, 0, 2, 0]));
    linux.port.interrupts.get_mut().clear();
    linux.port.time = linux.server.deadline().unwrap();
    linux.server.flush(&mut linux.port);
    assert_eq!(*linux.port.interrupts.get_mut(), [(1, 2, 2)]);

    // vmbus_initiate_unload() from the panic notifier, with the channel open.
    let answers = linux.post(&words(&[16, 0]));
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].payload, words(&[17, 0]));
    assert_eq!(linux.server.rejected(), 0);
}

#[test]
fn the_driver_can_be_unloaded_and_loaded_again() {
    let mut linux = linux(Config::DEFAULT);
    linux.connect(&V6_12);
    linux.request_offers();
    let pages = [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17];
    for _ in 0..3 {
        linux.open(2, &pages, 4);
        linux.heartbeat(0x2002, &pages, 4);
        linux.close(2);
        for header in [0x10, 0x14] {
            GuestRing::new(&[header, header + 1]).set_word(&linux.port.memory, 0, 0);
            GuestRing::new(&[header, header + 1]).set_word(&linux.port.memory, 4, 0);
        }
    }
    assert_eq!(linux.server.rejected(), 0);
}

#[test]
fn each_host_version_is_found_on_the_way_down() {
    for (max, expected) in [
        (Version::V6_0, 0x5_0003),
        (Version::V5_3, 0x5_0003),
        (Version::V5_1, 0x5_0001),
        (Version::V5_0, 0x5_0000),
        (Version::V4_1, 0x4_0001),
        (Version::V4_0, 0x4_0000),
    ] {
        let mut linux = linux(Config::DEFAULT.with_max_version(max));
        assert_eq!(linux.connect(&V6_12), expected);
        assert_eq!(linux.connection, if expected >= 5 << 16 { 4 } else { 1 });
        assert_eq!(linux.request_offers().len(), 2);
    }
}

#[test]
fn linux_7_asks_for_6_0_first_and_falls_back() {
    let versions = [&[0x6_0000][..], &V6_12].concat();
    let mut linux = linux(Config::DEFAULT.with_max_version(Version::V5_3));
    assert_eq!(linux.connect(&versions), 0x5_0003);
    assert_eq!(linux.request_offers().len(), 2);
}

#[test]
fn a_host_that_can_speak_6_0_speaks_it_with_linux_7() {
    let versions = [&[0x6_0000][..], &V6_12].concat();
    let mut linux = linux(Config::DEFAULT.with_max_version(Version::V6_0));
    assert_eq!(linux.connect(&versions), 0x6_0000);
}

#[test]
fn a_crash_kernel_that_finds_the_old_connection_gets_a_new_one() {
    let mut linux = linux(Config::DEFAULT);
    linux.connect(&V6_12);
    linux.request_offers();
    linux.open(2, &[0x10, 0x11, 0x12, 0x13, 0x14, 0x15], 3);
    // No UNLOAD came.
    assert_eq!(linux.connect(&V6_12), 0x5_0003);
    assert_eq!(linux.request_offers().len(), 2);
    linux.open(2, &[0x20, 0x21, 0x22, 0x23, 0x24, 0x25], 3);
}

#[test]
fn a_silent_device_hangs_no_driver() {
    let mut linux = linux(Config::DEFAULT);
    let heartbeat = Offer { device: Any::SILENT, ..Offer::HEARTBEAT };
    linux.server.offer(heartbeat).unwrap();
    linux.connect(&V6_12);
    assert_eq!(linux.request_offers().len(), 3);
    linux.open(3, &[0x10, 0x11, 0x12, 0x13, 0x14, 0x15], 3);
    assert_eq!(linux.server.deadline(), None);
    linux.close(3);
}
