//! Events as trace records, and records checked as the events that they were made from.
//!
//! An embedder that traces calls [`records`] and [`bus_records`] from its observer; where the bytes go is up to the
//! embedder. [`Replay`] runs the strict mode's judge over records: the same judge as over a running partition.

mod frame;
mod replay;

use hv_host::event::{Cause, Convention, Event, SmcccConduit, TimerEvent};
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::vmbus::{Guid, guid, socket};
use hv_trace::{
    CONTENTS_DATA, CONTENTS_RECORDS, CONTENTS_START, CONTENTS_STEP, PACKET_DATA, PACKET_START, Payload,
    SOCKET_CLASS, TimerChange, What,
};
use hv_vmbus::{CONTENTS_BYTES, Contents, Event as Bus, PagesError, SEEN_BYTES, Seen};

use crate::event::BusEvent;

pub use replay::Replay;

/// Parts of the data of a network card's packets, as records have them.
pub use hv_devices::network::part as network_part;

const fn convention(convention: Convention) -> hv_trace::Convention {
    match convention {
        Convention::Smccc => hv_trace::Convention::Smccc,
        Convention::Hvc1 => hv_trace::Convention::Hvc1,
    }
}

const fn conduit(conduit: SmcccConduit) -> hv_trace::SmcccConduit {
    match conduit {
        SmcccConduit::Hvc => hv_trace::SmcccConduit::Hvc,
        SmcccConduit::Smc => hv_trace::SmcccConduit::Smc,
    }
}

const fn cause(cause: Cause) -> hv_trace::Cause {
    match cause {
        Cause::Message(sint) => hv_trace::Cause::Message(sint),
        Cause::Event(sint) => hv_trace::Cause::Event(sint),
        Cause::Timer(timer) => hv_trace::Cause::Timer(timer),
        Cause::Ipi => hv_trace::Cause::Ipi,
    }
}

const fn change(what: TimerEvent) -> TimerChange {
    match what {
        TimerEvent::Armed(due) => TimerChange::Armed(due.ticks()),
        TimerEvent::Stopped => TimerChange::Stopped,
        TimerEvent::Expired(due, now) => TimerChange::Expired(due.ticks(), now.ticks()),
        TimerEvent::Blocked => TimerChange::Blocked,
        TimerEvent::Skipped(periods) => TimerChange::Skipped(periods),
    }
}

/// Passes the records of an event to `sink`: some events need none, one needs two. They belong to the VP of this CPU or
/// thread.
pub fn records(event: &Event<'_>, mut sink: impl FnMut(What)) {
    if let Event::Crash { text, .. } = *event {
        sink(What::CrashText { text: Payload::new(text) });
    }
    if let Some(what) = record(event) {
        sink(what);
    }
}

fn record(event: &Event<'_>) -> Option<What> {
    Some(match *event {
        Event::Hypercall { convention: made, control, parameters, result, retry, .. } => {
            What::Hypercall { convention: convention(made), retry, control, parameters, result }
        }
        Event::RegisterGet { target, name, value, .. } => {
            let (status, value) = match value {
                Ok(value) => (HvStatus::SUCCESS, value),
                Err(status) => (status, [0; 2]),
            };
            What::RegisterGet { target: target as u32, name, status, value }
        }
        Event::RegisterSet { target, name, value, status, .. } => {
            What::RegisterSet { target: target as u32, name, status, value }
        }
        Event::Smccc { conduit: by, function, arguments, result, .. } => {
            What::Smccc { conduit: conduit(by), function, arguments, result }
        }
        Event::UnknownImmediate { conduit: by, immediate, .. } => {
            What::UnknownImmediate { conduit: conduit(by), immediate }
        }
        Event::MessagePosted { connection, message_type, payload, status, .. } => {
            let message_type = MessageType(message_type);
            What::MessagePosted { connection, message_type, status, payload: Payload::new(payload) }
        }
        Event::MessageQueued { vp, sint } => What::MessageQueued { target: vp as u32, sint },
        Event::MessageDropped { vp, sint, place } => What::MessageDropped { target: vp as u32, sint, place },
        Event::MessageDelivered { vp, sint, message_type, payload, pending } => {
            let (message_type, payload) = (MessageType(message_type), Payload::new(payload));
            What::MessageDelivered { target: vp as u32, sint, pending, message_type, payload }
        }
        Event::EndOfMessage { waiting, delivered, .. } => What::EndOfMessage { waiting, delivered },
        Event::EventSignalled { connection, flag, status, .. } => {
            What::EventSignalled { connection, flag, status }
        }
        Event::EventFlag { vp, sint, flag, was_set } => {
            What::EventFlag { target: vp as u32, sint, flag, was_set }
        }
        Event::Interrupt { vp, intid, cause: why } => {
            What::Interrupt { target: vp as u32, intid, cause: cause(why) }
        }
        Event::Timer { vp, timer, what } => What::Timer { target: vp as u32, timer, change: change(what) },
        Event::Crash { control, parameters, .. } => What::Crash { control, parameters },
        Event::VpStarting { vp, context, .. } => What::VpStarting { target: vp as u32, pc: context.pc },
        Event::VpOnline { vp } => What::VpOnline { target: vp as u32 },
        Event::VpOffline { vp } => What::VpOffline { target: vp as u32 },
        Event::TimeChanged { sequence, now } => What::TimeChanged { sequence, now: now.ticks() },
        Event::Reset => What::Reset {},
        Event::Restored => What::Restored {},
        _ => return None,
    })
}

/// Passes the records of an event of VMBus to `sink`: a packet may need two, a part of its data three.
pub fn bus_records(event: &BusEvent<'_>, mut sink: impl FnMut(What)) {
    match *event {
        BusEvent::Message { vp, from_guest, payload } => {
            sink(What::VmbusMessage { target: vp as u32, from_guest, payload: Payload::new(payload) });
        }
        BusEvent::Server(ref change) => sink(bus_change(change)),
        BusEvent::Packet(ref packet) => {
            sink(packet_record(packet));
            if let Some(rest) = packet.payload.get(PACKET_START..).filter(|rest| !rest.is_empty()) {
                let (class, from_guest) = (class_of(&packet.interface), packet.from_guest);
                sink(What::PacketData { class, from_guest, bytes: first(rest) });
            }
        }
        BusEvent::Contents(ref contents) => contents_records(contents, sink),
    }
}

const _: () = assert!(PACKET_START + PACKET_DATA == SEEN_BYTES);
const _: () =
    assert!(CONTENTS_START + (CONTENTS_RECORDS - 1) * CONTENTS_STEP + CONTENTS_DATA == CONTENTS_BYTES);

fn contents_records(contents: &Contents<'_>, mut sink: impl FnMut(What)) {
    let Contents { channel, interface, from_guest, transaction, part, len, bytes, .. } = *contents;
    if interface == guid::NETWORK && part == network_part::FRAME {
        return sink(frame::record(contents));
    }
    let (class, shown) = (class_of(&interface), bytes.len().min(CONTENTS_BYTES));
    sink(What::Contents {
        channel,
        class,
        from_guest,
        part,
        shown: shown as u8,
        transaction,
        length: len,
        start: first(bytes),
    });
    for at in (0..continuations(shown)).map(continuation) {
        let rest = bytes.get(at..).unwrap_or_default();
        sink(What::ContentsData { class, from_guest, part, at: at as u8, bytes: first(rest) });
    }
}

/// Returns the offset of the bytes in the n-th record that continues a part of a packet's data.
const fn continuation(n: usize) -> usize {
    CONTENTS_START + n * CONTENTS_STEP
}

/// Returns the number of records that continue a part of which this many bytes are shown.
const fn continuations(shown: usize) -> usize {
    if shown <= CONTENTS_START {
        return 0;
    }
    // Each but the first has as many new bytes as it is after the one before.
    1 + shown.saturating_sub(CONTENTS_START + CONTENTS_DATA).div_ceil(CONTENTS_STEP)
}

/// Returns the beginning of some bytes, and zeros after them.
fn first<const COUNT: usize>(bytes: &[u8]) -> [u8; COUNT] {
    let mut kept = [0; COUNT];
    let len = bytes.len().min(COUNT);
    kept[..len].copy_from_slice(&bytes[..len]);
    kept
}

fn packet_record(packet: &Seen<'_>) -> What {
    let listed = packet.listed.unwrap_or_default();
    What::Packet {
        channel: packet.channel,
        class: class_of(&packet.interface),
        from_guest: packet.from_guest,
        packet_type: packet.kind,
        flags: packet.flags,
        transaction: packet.transaction,
        length: packet.len,
        ranges: listed.ranges,
        bytes: listed.bytes,
        error: packet.listed.err().map_or(0, number_of),
        start: first(packet.payload),
    }
}

/// Returns the number of a kind of devices in records.
fn class_of(interface: &Guid) -> u8 {
    if socket::port(*interface).is_some() {
        return SOCKET_CLASS;
    }
    guid::INTERFACES.iter().position(|(known, ..)| known == interface).map_or(0, |at| at as u8 + 1)
}

/// The errors in ranges, by their numbers in records.
const ERRORS: [PagesError; 7] = [
    PagesError::Truncated,
    PagesError::Empty,
    PagesError::Offset,
    PagesError::TooMany,
    PagesError::NotMemory,
    PagesError::UnknownGpadl,
    PagesError::Beyond,
];

fn number_of(error: PagesError) -> u8 {
    ERRORS.iter().position(|known| *known == error).map_or(u8::MAX, |at| at as u8 + 1)
}

fn error_of(number: u8) -> PagesError {
    usize::from(number).checked_sub(1).and_then(|at| ERRORS.get(at)).copied().unwrap_or(PagesError::Truncated)
}

/// Changes of the server that this version has no record for are recorded by name.
fn bus_change(change: &Bus) -> What {
    match *change {
        Bus::Contact { version, accepted, vp } => What::VmbusContact { version, accepted, target: vp },
        Bus::Unloaded => What::VmbusUnloaded {},
        Bus::OffersDelivered { count } => What::VmbusOffers { count },
        Bus::GpadlCreated { channel, gpadl, pages } => What::VmbusGpadl { channel, gpadl, pages },
        Bus::GpadlTorndown { gpadl } => What::VmbusTorndown { gpadl },
        Bus::GpadlFlaw { channel, gpadl, flaw } => {
            What::VmbusFlaw { channel, gpadl, flaw: Payload::text(format_args!("{flaw:?}")) }
        }
        Bus::Offered { channel, first, index, flags, interface, instance } => {
            What::VmbusOffered { channel, first, index, flags, interface, instance }
        }
        Bus::Opened { channel, vp } => What::VmbusOpened { channel, target: vp },
        Bus::Closed { channel } => What::VmbusClosed { channel },
        Bus::Released { channel } => What::VmbusReleased { channel },
        Bus::Rescinded { channel } => What::VmbusRescinded { channel },
        Bus::Device { channel, note, value } => What::VmbusDevice { channel, note, value },
        Bus::Fault { channel } => What::VmbusFault { channel },
        Bus::RingCorrupt { channel, error } => {
            What::VmbusRing { channel, error: Payload::text(format_args!("{error:?}")) }
        }
        Bus::Rejected { message, reason } => {
            What::VmbusRejected { message, reason: Payload::text(format_args!("{reason:?}")) }
        }
        Bus::Undeliverable { message, vp } => What::VmbusUndeliverable { message, target: vp },
        ref other => What::VmbusOther { text: Payload::text(format_args!("{other:?}")) },
    }
}
