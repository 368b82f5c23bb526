//! The devices that are attacked: how each is greeted, and what its driver must not say.

use hv_tlfs::vmbus::ic::MessageType;
use hv_tlfs::vmbus::{Guid, PacketType, balloon, guid, mouse, nvsp, scsi, storage, video};

use super::memory::{DATA, Memory, PAGE, SEND};
use super::packet::{Packet, bytes, halves};
use super::ring::Received;
use super::{card, disk};
use crate::rng::Rng;

/// What is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A SCSI controller: the last one, since VP 0 uses the first.
    Controller,
    /// The network card.
    Card,
    /// A socket, to the port that the command line names.
    Socket,
    /// An integration service: the type of its messages, and a version of it.
    Service(MessageType, [u16; 2]),
    /// The keyboard.
    Keyboard,
    /// The mouse.
    Mouse,
    /// Dynamic memory.
    Balloon,
    /// The screen.
    Video,
}

/// A device that is attacked, by name and interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) class: Class,
    pub(super) interface: Guid,
}

pub(super) const TARGETS: [Target; 13] = [
    Target { name: "storage", class: Class::Controller, interface: guid::SCSI },
    Target { name: "network", class: Class::Card, interface: guid::NETWORK },
    // An offered socket has its service as interface.
    Target { name: "sockets", class: Class::Socket, interface: Guid::ZERO },
    Target {
        name: "shutdown",
        class: Class::Service(MessageType::SHUTDOWN, [3, 2]),
        interface: guid::SHUTDOWN,
    },
    Target {
        name: "time",
        class: Class::Service(MessageType::TIME_SYNC, [4, 0]),
        interface: guid::TIME_SYNC,
    },
    Target {
        name: "heartbeat",
        class: Class::Service(MessageType::HEARTBEAT, [3, 0]),
        interface: guid::HEARTBEAT,
    },
    Target { name: "kvp", class: Class::Service(MessageType::KVP_EXCHANGE, [4, 0]), interface: guid::KVP },
    Target { name: "vss", class: Class::Service(MessageType::VSS, [5, 0]), interface: guid::VSS },
    Target {
        name: "fcopy",
        class: Class::Service(MessageType::FILE_COPY, [1, 1]),
        interface: guid::FILE_COPY,
    },
    Target { name: "keyboard", class: Class::Keyboard, interface: guid::KEYBOARD },
    Target { name: "mouse", class: Class::Mouse, interface: guid::MOUSE },
    Target { name: "memory", class: Class::Balloon, interface: guid::DYNAMIC_MEMORY },
    Target { name: "screen", class: Class::Video, interface: guid::VIDEO },
];

impl Class {
    /// Sends the packets with which a driver begins. Most devices answer them; a service speaks first.
    pub(super) fn greeting(self, vp: usize, memory: Memory, send: &mut dyn FnMut(Packet)) {
        match self {
            Self::Controller => {
                for (operation, word) in [(7, 0), (9, u32::from(storage::VERSION_6_2)), (10, 0), (8, 0)] {
                    let mut words = [0; 16];
                    (words[0], words[1], words[3]) = (operation, 1, word);
                    send(Packet::in_band(u64::from(operation), &words));
                }
            }
            Self::Card => card::greet(vp, memory, send),
            Self::Socket => send(socket(&[0x6c6c_6568, 0x6f])),
            Self::Service(_, version) => send(versions(version)),
            Self::Keyboard => send(Packet::in_band(1, &[1, 0x1_0000])),
            Self::Mouse => {
                send(hid(mouse::MessageType::PROTOCOL_REQUEST, &[mouse::VERSION]));
                send(hid(mouse::MessageType::DEVICE_INFO_ACK, &[0]));
            }
            Self::Balloon => {
                send(dynamic(balloon::MessageType::VERSION_REQUEST, &[balloon::VERSION_2_0, 1]));
                send(dynamic(balloon::MessageType::CAPABILITIES_REPORT, &[1, 0, 0, 0, 0, 0]));
            }
            Self::Video => send(drawn(video::MessageType::VERSION_REQUEST, &[video::VERSION_3_5])),
        }
    }

    /// Returns true if this is what a device says to a driver that begins as it should.
    pub(super) fn is_welcome(self, received: &Received) -> bool {
        let words = &received.words;
        match self {
            Self::Controller => received.kind == PacketType::COMPLETION && words[0] == 1 && words[2] == 0,
            Self::Card => {
                words[0] == nvsp::MessageType::INIT_COMPLETE.0 && words[3] == nvsp::Status::SUCCESS.0
            }
            // A socket says nothing of its own.
            Self::Socket => true,
            // The pipe's header, then that of the message, whose type is NEGOTIATE.
            Self::Service(..) => received.kind == PacketType::DATA_IN_BAND && words[3] & 0xffff == 0,
            Self::Keyboard => words[0] == 2 && words[1] == 1,
            // The pipe's header, then that of the message: the version that was asked for, approved.
            Self::Mouse => {
                words[2] == mouse::MessageType::PROTOCOL_RESPONSE.0
                    && words[4] == mouse::VERSION
                    && words[5] & 0xff == 1
            }
            Self::Balloon => {
                words[0] & 0xffff == u32::from(balloon::MessageType::VERSION_RESPONSE.0) && words[2] == 1
            }
            // The version that was asked for, accepted.
            Self::Video => {
                words[2] == video::MessageType::VERSION_RESPONSE.0
                    && words[4] == video::VERSION_3_5
                    && words[5] & 0xff != 0
            }
        }
    }

    /// Makes a packet: of the device's protocol, and wrong somewhere, or right.
    pub(super) fn packet(self, rng: &mut Rng, vp: usize, memory: Memory) -> Packet {
        let mut packet = match self {
            Self::Controller => storage(rng, memory),
            Self::Card => card::packet(rng, vp, memory),
            Self::Socket => {
                let words: [u32; 8] = core::array::from_fn(|_| rng.next() as u32);
                socket(&words[..1 + rng.below(8) as usize])
            }
            Self::Service(kind, version) => message(rng, kind, version),
            Self::Keyboard => keyboard(rng),
            Self::Mouse => pointer(rng),
            Self::Balloon => pages(rng),
            Self::Video => screen(rng),
        };
        // A socket ends with the first error, and its successor takes a while to come.
        if rng.chance(1, if self == Self::Socket { 64 } else { 4 }) {
            disturb(rng, &mut packet);
        }
        packet
    }
}

/// Makes a packet wrong in what all devices share: its kind, flags and id, its length.
fn disturb(rng: &mut Rng, packet: &mut Packet) {
    match rng.below(5) {
        0 => packet.kind = if rng.chance(1, 2) { rng.below(16) as u16 } else { rng.number() as u16 },
        1 => packet.flags = rng.number() as u16,
        2 => packet.id = rng.number(),
        3 => packet.resize(rng.below(24) as usize),
        _ => packet.resize(rng.below(600) as usize),
    }
}

/// Appends ranges of pages to a packet of any kind: numbers of this VP's pages, or of no guest page.
pub(super) fn ranges(rng: &mut Rng, memory: Memory, packet: &mut Packet) -> u32 {
    let any = rng.number() as u32;
    let count = rng.pick(&[1, 1, 1, 2, 3, 0, 0xffff, any]);
    packet.words(&[0, count]);
    let mut bytes = 0_u32;
    for _ in 0..count.min(3) {
        let pages = 1 + rng.below(9) as u32;
        let any = rng.number() as u32;
        let offset = rng.pick(&[0, 0, 0, 512, 4095, 4096, any]);
        let right = (pages * 4096).saturating_sub(offset.min(4095));
        let len = rng.pick(&[right, right, right, right, 1, 0, any]);
        packet.words(&[len, offset]);
        for _ in 0..pages {
            // Those of this program are made harmless where they are written.
            let own = memory.number(DATA.start + rng.below(12) as usize);
            packet.long(if rng.chance(1, 24) { rng.number() } else { own });
        }
        bytes = bytes.wrapping_add(len);
    }
    (packet.kind, packet.head) = (PacketType::DATA_USING_GPA_DIRECT.0, packet.all().len());
    bytes
}

/// Generates a storage driver's valid write to the second disk.
fn write(rng: &mut Rng, memory: Memory) -> Packet {
    let (count, first) = (1 + rng.below(8) as usize, rng.below(64) as u32);
    let bytes = count as u32 * 512;
    let page = memory.number(DATA.start + rng.below(12) as usize);
    let mut packet = Packet::direct(1 + rng.below(400), bytes, core::iter::once(page));
    let cdb = disk::transfer(scsi::OP_WRITE_10, first, count);
    packet.words(&disk::request(
        storage::Operation::EXECUTE_SRB.0,
        [0, 0],
        storage::DIRECTION_WRITE,
        bytes,
        cdb,
    ));
    packet
}

/// Generates a packet of a storage driver.
fn storage(rng: &mut Rng, memory: Memory) -> Packet {
    if rng.chance(1, 4) {
        return write(rng, memory);
    }
    const COMMANDS: [u8; 20] = [
        scsi::OP_TEST_UNIT_READY,
        scsi::OP_REQUEST_SENSE,
        scsi::OP_READ_6,
        scsi::OP_WRITE_6,
        scsi::OP_INQUIRY,
        scsi::OP_MODE_SELECT,
        scsi::OP_MODE_SENSE,
        scsi::OP_START_STOP,
        scsi::OP_READ_CAPACITY,
        scsi::OP_READ_10,
        scsi::OP_WRITE_10,
        scsi::OP_VERIFY,
        scsi::OP_SYNCHRONIZE_CACHE,
        scsi::OP_WRITE_SAME,
        scsi::OP_UNMAP,
        scsi::OP_MODE_SENSE_10,
        scsi::OP_READ_16,
        scsi::OP_WRITE_SAME_16,
        scsi::OP_SERVICE_ACTION_IN_16,
        scsi::OP_REPORT_LUNS,
    ];
    let operation = match rng.below(8) {
        0..6 => storage::Operation::EXECUTE_SRB.0,
        6 => rng.pick(&[4, 5, 6, 7, 8, 9, 10, 12, 13]),
        _ => rng.number() as u32,
    };
    let mut cdb = [0; 16];
    if rng.chance(1, 3) {
        cdb = core::array::from_fn(|_| rng.number() as u8);
    } else {
        // A few blocks near the beginning: where long and short commands have their places.
        let at = rng.below(64) as u8;
        (cdb[5], cdb[8], cdb[9], cdb[13]) = (at, rng.below(32) as u8, at, rng.below(32) as u8);
        cdb[4] = rng.below(256) as u8;
    }
    cdb[0] = if rng.chance(1, 16) { rng.number() as u8 } else { rng.pick(&COMMANDS) };
    let mut packet = Packet::in_band(1 + rng.below(400), &[]);
    let bytes = if rng.chance(2, 3) { ranges(rng, memory, &mut packet) } else { 0 };
    let transfer = if rng.chance(1, 8) { rng.number() as u32 } else { bytes };
    let unit = if rng.chance(1, 8) { [rng.number() as u8, rng.number() as u8] } else { [0, 0] };
    let mut words = disk::request(operation, unit, rng.below(4) as u8, transfer, cdb);
    if rng.chance(1, 8) {
        words[rng.below(16) as usize] = rng.number() as u32;
    }
    // A parameter list: UNMAP takes its lengths from there.
    let list = DATA.start * PAGE + rng.below(12) as usize * PAGE;
    for offset in (0..32).step_by(4) {
        let word = if rng.chance(1, 2) { rng.below(64) as u32 } else { rng.number() as u32 };
        memory.store(list + offset, word.swap_bytes());
    }
    packet.words(&words);
    packet
}

/// Builds a packet of a socket: the pipe's header, and bytes.
fn socket(words: &[u32]) -> Packet {
    let mut packet = Packet::in_band(0, &[1, words.len() as u32 * 4]);
    packet.flags = 0;
    packet.words(words);
    packet
}

/// Builds a service's message: the pipe's header and that of the message, then the body.
fn service(kind: u16, version: [u16; 2], size: u16, flags: u8, status: u32, body: &[u32]) -> Packet {
    let mut packet = Packet::in_band(0, &[1, 20 + body.len() as u32 * 4]);
    packet.flags = 0;
    packet.words(&[
        halves(3, 0),
        halves(kind, version[0]),
        halves(version[1], size),
        status,
        bytes([0, flags, 0, 0]),
    ]);
    packet.words(body);
    packet
}

/// Builds the guest's choice of versions: one of each, with `flags` of a transaction and a response.
fn versions([major, minor]: [u16; 2]) -> Packet {
    service(0, [0, 0], 16, 5, 0, &[halves(1, 1), 0, halves(3, 0), halves(major, minor)])
}

/// Generates a message of a service's driver.
fn message(rng: &mut Rng, own: MessageType, version: [u16; 2]) -> Packet {
    if rng.chance(1, 8) {
        return versions(if rng.chance(1, 2) { version } else { [rng.below(6) as u16, rng.below(3) as u16] });
    }
    let (near, any) = (rng.below(9) as u16, rng.number() as u32);
    let kind = rng.pick(&[own.0, own.0, own.0, own.0, 0, near, any as u16]);
    let flags = rng.pick(&[5, 5, 5, 1, 3, 0, 0xff]);
    let status = rng.pick(&[0, 0, 0x8000_4005, 0x8007_0103, any]);
    let mut body = [0; 64];
    body.iter_mut().for_each(|word| *word = rng.number() as u32);
    let body = &body[..rng.below(64) as usize];
    let size = if rng.chance(1, 4) { rng.number() as u16 } else { body.len() as u16 * 4 };
    let mut packet = service(kind, version, size, flags, status, body);
    if rng.chance(1, 8) {
        packet.resize(rng.below(600) as usize);
    }
    packet
}

/// Generates a message of a keyboard's driver.
fn keyboard(rng: &mut Rng) -> Packet {
    let any = rng.number() as u32;
    let kind = rng.pick(&[1, 1, 1, 4, 0, 2, 3, any]);
    let version = rng.pick(&[0x1_0000, 0x1_0000, 0x2_0000, 0, any]);
    let mut packet = Packet::in_band(rng.next(), &[kind, version, any, any]);
    packet.resize(rng.below(6) as usize);
    packet
}

/// Builds an HID message: the pipe's header and that of the message, then the body.
fn hid(kind: mouse::MessageType, body: &[u32]) -> Packet {
    let bytes = body.len() as u32 * 4;
    let mut packet = Packet::in_band(1, &[1, 8 + bytes, kind.0, bytes]);
    packet.words(body);
    packet
}

/// Generates a message of a mouse's driver.
fn pointer(rng: &mut Rng) -> Packet {
    let any = rng.number() as u32;
    let kind = rng.pick(&[0, 0, 0, 3, 3, 1, 2, 4, any]);
    let version = rng.pick(&[mouse::VERSION, mouse::VERSION, 0x1_0000, any]);
    let mut packet = hid(mouse::MessageType(kind), &[version, any, any]);
    packet.resize(rng.below(8) as usize);
    packet
}

/// Builds a video message: the pipe's header and that of the message, then the body.
fn drawn(kind: video::MessageType, body: &[u32]) -> Packet {
    let bytes = 8 + body.len() as u32 * 4;
    let mut packet = Packet::in_band(1, &[1, bytes, kind.0, bytes]);
    packet.words(body);
    packet
}

/// Generates a message of a video driver: a place for its memory, or a picture or changes at invalid places.
fn screen(rng: &mut Rng) -> Packet {
    let any = rng.number() as u32;
    let kind = rng.pick(&[1, 3, 3, 5, 5, 5, 7, 8, 10, 10, 10, 11, 13, 15, 2, 9, any]);
    let body: [u32; 8] = core::array::from_fn(|_| rng.number() as u32);
    let mut packet = drawn(video::MessageType(kind), &body);
    packet.resize(4 + rng.below(9) as usize);
    packet
}

/// Builds a message of dynamic memory: the header, then the body.
fn dynamic(kind: balloon::MessageType, body: &[u32]) -> Packet {
    let mut packet = Packet::in_band(0, &[halves(kind.0, 8 + body.len() as u16 * 4), 1]);
    packet.flags = 0;
    packet.words(body);
    packet
}

/// Generates a message of a driver of dynamic memory, such as pages that were not requested.
fn pages(rng: &mut Rng) -> Packet {
    let any = rng.number() as u32;
    let kind = rng.pick(&[1, 1, 3, 5, 5, 7, 7, 7, 9, 11, 0, 2, 6, 8, any as u16]);
    // Those of a version, of capabilities, of a status, of a range or some.
    let some = 2 + rng.below(64) as usize;
    let words = rng.pick(&[2, 6, 10, 4, some]);
    let mut body = [0; 80];
    body.iter_mut().for_each(|word| *word = rng.number() as u32);
    let version = rng.pick(&[balloon::VERSION_2_0, balloon::VERSION_1_0, balloon::VERSION_0_3, any]);
    if kind == 1 {
        body[0] = version;
    }
    if kind == 7 {
        // The number of ranges, above a bit that says that more follow.
        body[1] = rng.pick(&[(words as u32 - 2) / 2 * 2, 2, any]);
    }
    let mut packet = dynamic(balloon::MessageType(kind), &body[..words]);
    if rng.chance(1, 8) {
        packet.resize(rng.below(80) as usize);
    }
    packet
}

/// Returns true where a VP may write while the host reads: words at the beginning of each page of the buffers that the
/// host does not pass on unread.
pub(super) fn is_header(offset: usize) -> bool {
    let page = offset / PAGE;
    (SEND.contains(&page) || DATA.contains(&page)) && offset % PAGE < 64
}
