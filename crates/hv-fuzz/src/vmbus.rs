//! The host half of VMBus against a hostile guest: any messages and signals, rings with anything in them.

use hv_memory::save::{Reader, Writer};
use hv_vmbus::{Config, Event, Offer, Port, Posted, Server, protocol};

use crate::input::{Input, SPLIT};
use crate::memory::Memory;
use crate::messages;
use crate::sequence::guest_packet;

/// Steps of a run at most.
const STEPS: usize = 256;
const VPS: u32 = 4;
/// Time until a device that runs at each of its deadlines is taken to starve the guest.
const TICKS: usize = 64;

/// Small, so that all of its limits are met.
type Small = Server<4, 4, 64>;

/// The partition, as the server sees it.
struct Partition {
    memory: Memory,
    time: u64,
    /// Messages that still fit.
    room: usize,
    received: Vec<Vec<u8>>,
    interrupts: u32,
}

impl Port for Partition {
    type Memory = Memory;

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn reference_time(&self) -> u64 {
        self.time
    }

    fn has_vp(&self, vp: u32) -> bool {
        vp < VPS
    }

    fn post(&mut self, vp: u32, sint: u8, payload: &[u8]) -> Posted {
        assert!((8..=240).contains(&payload.len()) && sint < 16);
        if vp >= VPS {
            return Posted::Undeliverable;
        }
        if self.room == 0 {
            return Posted::Full;
        }
        self.room -= 1;
        self.received.push(payload.to_vec());
        Posted::Queued
    }

    fn interrupt(&mut self, vp: u32, sint: u8, flag: u16) {
        assert!(vp < VPS && sint == 2 && flag < 2048);
        self.interrupts += 1;
    }

    fn observe(&mut self, event: Event) {
        assert!(!format!("{event:?}").is_empty());
    }
}

fn fresh() -> Small {
    const OFFERS: &[Offer] = &[Offer::HEARTBEAT, Offer::ECHO];
    let config = Config::DEFAULT.with_offers(OFFERS);
    Small::new(config.with_max_version(protocol::Version::V6_0))
}

fn saved(server: &Small) -> Vec<u8> {
    let mut image = Vec::new();
    server.save(&mut Writer::new(&mut |part| image.extend_from_slice(part)));
    image
}

/// VMBus messages, signals and rings.
pub fn vmbus(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    let mut server = fresh();
    let mut port = Partition {
        memory: Memory::by_pages(),
        time: 0,
        room: usize::MAX,
        received: Vec::new(),
        interrupts: 0,
    };
    if how & 1 == 0 {
        connect(&mut server, &mut port);
        if how & 2 == 0 {
            open(&mut server, &mut port, 1 + u32::from(how >> 2 & 1));
        }
    }
    let mut offers_changed = false;
    let mut steps = 0;
    while !input.is_empty() && steps < STEPS {
        offers_changed |= step(&mut server, &mut port, &mut input);
        steps += 1;
    }
    check_deadline(&mut server, &mut port);
    if !offers_changed {
        let mut reset = server.clone();
        reset.reset();
        assert!(saved(&reset) == saved(&fresh()), "a reset leaves something behind");
    }
    check_service(&mut server, &mut port);
}

/// True if the host changed its offers.
fn step(server: &mut Small, port: &mut Partition, input: &mut Input<'_>) -> bool {
    match input.below(16) {
        0..=4 => {
            let connection = input.of(&[4, 4, 4, 1, 2, 0x2001]);
            let message = input.vmbus_message();
            // A guest that takes no messages may be told to wait.
            let _ = server.message(connection, &message, port);
        }
        5 | 6 => {
            let _ = server.signal(input.of(&[0x2001, 0x2002, 0x2003, 0x2004, 1, 99]), port);
        }
        7..=9 => {
            let kind = input.byte();
            guest_packet(&port.memory, kind, input);
            let _ = server.signal(0x2001 + u32::from(kind >> 7), port);
        }
        10 => poke(&port.memory, input),
        11 => port.memory.race(input),
        12 => {
            port.room = input.of(&[usize::MAX, 0, 1, 2, 5]);
            server.flush(port);
        }
        13 => {
            port.time += u64::from(input.half()) << (input.byte() % 16);
            server.flush(port);
        }
        14 => {
            let image = saved(server);
            let mut restored = fresh();
            let mut reader = Reader::new(&image);
            assert_eq!(restored.restore(&mut reader).and_then(|()| reader.end()), Ok(()));
            assert!(saved(&restored) == image, "a restored server is another");
            *server = restored;
        }
        _ => {
            let byte = input.byte();
            if byte & 1 == 0 {
                server.offer(if byte & 2 == 0 { Offer::ECHO } else { Offer::HEARTBEAT });
            } else {
                server.rescind(protocol::ChannelId(u32::from(byte >> 1 & 7)));
            }
            server.flush(port);
            return true;
        }
    }
    false
}

/// The guest writes a word into a page of its rings.
fn poke(memory: &Memory, input: &mut Input<'_>) {
    use hv_partition::GuestMemory as _;
    let pages = messages::ring_pages();
    let page = input.of(&[pages[0], pages[5], pages[1], pages[6], pages[2], pages[9]]);
    let at = input.of(&[0, 4, 8, 12, 64, 16, 0x100, 0xffc]) + u64::from(input.byte() & 7) * 4;
    let value = match input.below(3) {
        0 => u32::from(input.half()) & !7,
        1 => input.value() as u32,
        _ => input.word(),
    };
    let _ = memory.store_release(page * 4096 + at, value);
}

fn connect(server: &mut Small, port: &mut Partition) {
    let _ = server.message(4, &messages::contact(0x5_0003, 1), port);
    let _ = server.message(4, &messages::request_offers(), port);
}

fn open(server: &mut Small, port: &mut Partition, channel: u32) {
    let _ = server.message(4, &messages::gpadl(channel, 77, &messages::ring_pages()), port);
    let _ = server.message(4, &messages::open(channel, 77, 0, SPLIT), port);
}

/// A guest that does nothing is left alone: devices that are due run, and come to an end.
fn check_deadline(server: &mut Small, port: &mut Partition) {
    port.memory.calm();
    port.room = usize::MAX;
    server.flush(port);
    assert!(!server.owes(), "messages are kept back from a guest with room");
    let mut ticks = 0;
    while server.deadline().is_some_and(|deadline| deadline <= port.time) {
        server.flush(port);
        ticks += 1;
        assert!(ticks < TICKS, "a device never comes to an end");
    }
}

/// A guest that keeps the rules is served after any other.
fn check_service(server: &mut Small, port: &mut Partition) {
    use hv_partition::GuestMemory as _;
    for page in messages::ring_pages() {
        let _ = port.memory.write(page * 4096, &[0; 4096]);
    }
    port.received.clear();
    let _ = server.message(4, &messages::unload(), port);
    assert_eq!(kinds(port), [17]);
    // A channel must be left, or be there again.
    server.offer(Offer::ECHO);
    connect(server, port);
    let offers = kinds(port);
    assert!(offers.len() >= 3 && offers[0] == 15 && offers[1] == 1 && offers.ends_with(&[4]), "{offers:?}");
    let message = &port.received[1];
    let channel = u32::from_le_bytes(message[184..188].try_into().expect("four bytes"));
    port.received.clear();
    open(server, port, channel);
    assert_eq!(kinds(port)[..2], [10, 6]);
    assert_eq!(port.received[1][16..20], [0; 4], "the channel opens");
    port.received.clear();
}

/// Kinds of the messages received; a UNLOAD_RESPONSE ends what was before.
fn kinds(port: &mut Partition) -> Vec<u8> {
    let kinds: Vec<u8> = port.received.iter().map(|message| message[0]).collect();
    if kinds == [17] {
        port.received.clear();
    }
    kinds
}
