//! The host half of VMBus against a hostile guest: any messages and signals, and rings with any contents.

use hv_devices::any::{Any, Offer};
use hv_memory::save::{Reader, Writer};
use hv_tlfs::time::ReferenceTime;
use hv_vmbus::testing::{Extra, Partition};
use hv_vmbus::{Bus, BusFaults, Config, DeviceId, Event, Slot, protocol};

use crate::input::{Input, SPLIT};
use crate::memory::Memory;
use crate::messages;
use crate::sequence::guest_packet;

/// Maximum number of steps in a run.
const STEPS: usize = 256;
const VPS: u32 = 4;
/// Time after which a device that runs at each of its deadlines counts as endless.
const TICKS: usize = 64;

type Lock = spin::Mutex<()>;
/// Small, so that all limits are reached.
type Small = Bus<Lock, [Slot<Lock, Any>; 4], 4, 64>;

/// Checks that every event can be shown.
struct Watch;

impl BusFaults for Watch {
    fn is_planned(&self) -> bool {
        false
    }
}

impl Extra for Watch {
    fn observe(&self, event: Event) {
        assert!(!format!("{event:?}").is_empty());
    }
}

type ServerPort = Partition<Watch, Memory>;

fn fresh() -> Small {
    let [heartbeat, echo] = [Offer::HEARTBEAT, Offer::ECHO].map(|o| Slot::offering(o.device, o.channel));
    let more = [const { Slot::new(Any::SILENT) }; 2];
    let [third, fourth] = more;
    Small::new(Config::DEFAULT, [heartbeat, echo, third, fourth])
}

/// Offers a device in a free place; does nothing if there is none, or if such a device is already offered.
fn offer(server: &Small, offer: Offer, port: &ServerPort) {
    let free = |slot: &Slot<Lock, Any>| {
        let put = server.with(slot, port, |device, io| {
            let vacant = io.vacant().is_some();
            if vacant {
                *device = offer.device;
            }
            vacant
        });
        put == Ok(true)
    };
    if let Some(at) = server.devices().iter().position(free) {
        let _ = server.offer(DeviceId(at as u16), &offer.channel, port);
    }
}

fn saved(server: &Small, port: &ServerPort) -> Vec<u8> {
    let mut image = Vec::new();
    let outcome = server.save(port, &mut Writer::new(&mut |part| image.extend_from_slice(part)));
    assert_eq!(outcome, Ok(()), "nothing is in flight");
    image
}

/// Fuzzes VMBus messages, signals and rings.
pub fn vmbus(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    let mut server = fresh();
    let mut port = Partition::new(Memory::by_pages(), VPS, Watch);
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
        let image = saved(&server, &port);
        server.reset(&port);
        assert!(saved(&server, &port) == saved(&fresh(), &port), "a reset leaves something behind");
        assert_eq!(server.restore(&port, &mut Reader::new(&image)), Ok(()));
    }
    check_service(&mut server, &mut port);
}

/// Returns true if the host changed its offers.
fn step(server: &mut Small, port: &mut ServerPort, input: &mut Input<'_>) -> bool {
    match input.below(16) {
        0..=4 => {
            let connection = input.of(&[4, 4, 4, 1, 2, 0x2001]);
            let message = input.vmbus_message();
            // A guest that takes no messages may have to wait.
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
            port.room.set(input.of(&[usize::MAX, 0, 1, 2, 5]));
            server.flush(port);
        }
        13 => {
            let ticks = u64::from(input.half()) << (input.byte() % 16);
            port.now.set(ReferenceTime(port.now.get().0 + ticks));
            server.flush(port);
        }
        14 => {
            let image = saved(server, port);
            let restored = fresh();
            let mut reader = Reader::new(&image);
            assert_eq!(restored.restore(port, &mut reader).and_then(|()| reader.end()), Ok(()));
            assert!(saved(&restored, port) == image, "a restored server is another");
            *server = restored;
        }
        _ => {
            let byte = input.byte();
            if byte & 1 == 0 {
                offer(server, if byte & 2 == 0 { Offer::ECHO } else { Offer::HEARTBEAT }, port);
            } else {
                server.rescind(protocol::ChannelId(u32::from(byte >> 1 & 7)), port);
            }
            server.flush(port);
            return true;
        }
    }
    false
}

/// Writes a word into a page of the guest's rings.
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

fn connect(server: &mut Small, port: &mut ServerPort) {
    let _ = server.message(4, &messages::contact(0x5_0003, 1), port);
    let _ = server.message(4, &messages::request_offers(), port);
}

fn open(server: &mut Small, port: &mut ServerPort, channel: u32) {
    let _ = server.message(4, &messages::gpadl(channel, 77, &messages::ring_pages()), port);
    let _ = server.message(4, &messages::open(channel, 77, 0, SPLIT), port);
}

/// Checks that an idle guest is left alone: devices that are due run, and come to an end.
fn check_deadline(server: &mut Small, port: &mut ServerPort) {
    port.memory.calm();
    port.room.set(usize::MAX);
    server.flush(port);
    assert!(!server.has_pending(), "messages are kept back from a guest with room");
    let mut ticks = 0;
    while server.deadline().is_some_and(|deadline| deadline.ticks() <= port.now.get().0) {
        server.flush(port);
        ticks += 1;
        assert!(ticks < TICKS, "a device never comes to an end");
    }
}

/// Checks that a guest that keeps the rules is served after any other.
fn check_service(server: &mut Small, port: &mut ServerPort) {
    use hv_partition::GuestMemory as _;
    for page in messages::ring_pages() {
        let _ = port.memory.write(page * 4096, &[0; 4096]);
    }
    port.posted.borrow_mut().clear();
    let _ = server.message(4, &messages::unload(), port);
    assert_eq!(kinds(port), [17]);
    // A channel must be gone, or be available again.
    offer(server, Offer::ECHO, port);
    connect(server, port);
    let offers = kinds(port);
    assert!(offers.len() >= 3 && offers[0] == 15 && offers[1] == 1 && offers.ends_with(&[4]), "{offers:?}");
    let message = &port.posted.borrow()[1].clone();
    let channel = u32::from_le_bytes(message[184..188].try_into().expect("four bytes"));
    port.posted.borrow_mut().clear();
    open(server, port, channel);
    assert_eq!(kinds(port)[..2], [10, 6]);
    assert_eq!(port.posted.borrow()[1][16..20], [0; 4], "the channel opens");
    port.posted.borrow_mut().clear();
}

/// Returns the kinds of the messages received; an UNLOAD_RESPONSE ends the previous ones.
fn kinds(port: &mut ServerPort) -> Vec<u8> {
    let kinds: Vec<u8> = port.posted.borrow().iter().map(|message| message[0]).collect();
    if kinds == [17] {
        port.posted.borrow_mut().clear();
    }
    kinds
}
