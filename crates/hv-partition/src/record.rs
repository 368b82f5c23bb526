//! Events as trace records, and records checked as the events that they were made from.
//!
//! An embedder that traces calls [`records`] and [`bus_records`] from its observer; where the bytes go is up to the
//! embedder. [`Replay`] runs the strict mode's judge over records: the same judge as over a running partition.

use hv_host::event::{Cause, Convention, Event, SmcccConduit, TimerEvent};
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::{Guid, guid, socket};
use hv_trace::{PACKET_DATA, PACKET_START, Payload, Record, SOCKET_CLASS, TimerChange, What};
use hv_vmbus::ring::RingError;
use hv_vmbus::{Event as Bus, Flaw, Listed, PagesError, Reason, SEEN_BYTES, Seen};

use crate::event::BusEvent;
use crate::strict::{Finding, Judge, Rule, rules};

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

/// Passes the records of an event of VMBus to `sink`: a packet may need two.
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
    }
}

const _: () = assert!(PACKET_START + PACKET_DATA == SEEN_BYTES);

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

/// Maximum length of a crash text.
const CRASH_TEXT: usize = 4096;

/// The strict mode's judge over the records of a finished run.
#[derive(Clone, Debug)]
pub struct Replay<const VPS: usize> {
    judge: Judge<VPS>,
    /// The location of the guest's memory is known.
    memory: bool,
    /// By VP: length of the text that belongs to its next crash.
    texts: [usize; VPS],
    /// By VP: the packet whose payload continues in its next record.
    packets: [Option<What>; VPS],
}

impl<const VPS: usize> Replay<VPS> {
    /// Creates a judge for a guest whose memory is one range; an empty one if it is not known.
    #[must_use]
    pub const fn new(ram_base: u64, ram_size: u64) -> Self {
        Self {
            judge: Judge::new(ram_base, ram_size),
            memory: ram_size != 0,
            texts: [0; VPS],
            packets: [None; VPS],
        }
    }

    /// Returns the rules that cannot be checked, and why. All others can be checked from records alone.
    pub fn not_judged(&self) -> impl Iterator<Item = (&'static Rule, &'static str)> {
        let unknown = !self.memory;
        [&rules::PAGE_OUTSIDE, &rules::PAGE_UNITS]
            .into_iter()
            .filter(move |_| unknown)
            .map(|rule| (rule, "the trace does not contain the location of the guest's memory"))
    }

    /// Checks the next record of all VPs in time order.
    pub fn record(&mut self, record: &Record, found: &mut dyn FnMut(Finding)) {
        if let What::CrashText { text } = record.what {
            if let Some(length) = self.texts.get_mut(record.vp as usize) {
                *length = text.length().min(CRASH_TEXT);
            }
            return;
        }
        // The judge uses only the text's length.
        static TEXT: [u8; CRASH_TEXT] = [b' '; CRASH_TEXT];
        let text = self.texts.get(record.vp as usize).map_or(&[][..], |&length| &TEXT[..length]);
        let knows_memory = self.memory;
        let found = &mut |finding: Finding| {
            let place = [&rules::PAGE_OUTSIDE, &rules::PAGE_UNITS].contains(&finding.rule);
            if knows_memory || !place {
                found(finding);
            }
        };
        let waiting = self.packets.get_mut(record.vp as usize).and_then(Option::take);
        match (record.what, waiting) {
            (What::Packet { length, .. }, _) if length as usize > PACKET_START => {
                if let Some(place) = self.packets.get_mut(record.vp as usize) {
                    *place = Some(record.what);
                }
            }
            (packet @ What::Packet { .. }, _) => {
                with_packet(&packet, &[], |seen| self.judge.packet(seen, found));
            }
            (What::PacketData { bytes, .. }, Some(packet)) => {
                with_packet(&packet, &bytes, |seen| self.judge.packet(seen, found));
            }
            (What::VmbusMessage { from_guest: true, ref payload, .. }, _) => {
                self.judge.message(payload.kept(), payload.length(), found);
            }
            _ => {
                if let Some(event) = event(record, text) {
                    self.judge.event(&event, found);
                } else if let Some(event) = bus_event(&record.what) {
                    self.judge.bus_event(&BusEvent::Server(event), found);
                }
            }
        }
    }
}

/// Calls a function with the packet of a record and the record that continues it.
fn with_packet(what: &What, more: &[u8], work: impl FnOnce(&Seen<'_>)) {
    let What::Packet {
        channel,
        class,
        from_guest,
        packet_type: kind,
        flags,
        transaction,
        length: len,
        ranges,
        bytes,
        error,
        ref start,
    } = *what
    else {
        return;
    };
    let mut payload = [0; SEEN_BYTES];
    payload[..PACKET_START].copy_from_slice(start);
    payload.iter_mut().skip(PACKET_START).zip(more).for_each(|(place, byte)| *place = *byte);
    let listed = if error == 0 { Ok(Listed { ranges, bytes }) } else { Err(error_of(error)) };
    let payload = &payload[..SEEN_BYTES.min(len as usize)];
    let interface = usize::from(class).checked_sub(1).and_then(|at| guid::INTERFACES.get(at));
    let interface = match class {
        SOCKET_CLASS => socket::VSOCK_TEMPLATE,
        _ => interface.map_or(Guid::ZERO, |(interface, ..)| *interface),
    };
    work(&Seen { channel, interface, from_guest, kind, flags, transaction, len, listed, payload });
}

/// Returns the event that a record was made from, as far as the judge uses it.
fn event<'a>(record: &'a Record, text: &'a [u8]) -> Option<Event<'a>> {
    let vp = record.vp as usize;
    Some(match record.what {
        What::Hypercall { convention, retry, control, parameters, result } => {
            let convention = match convention {
                hv_trace::Convention::Smccc => Convention::Smccc,
                hv_trace::Convention::Hvc1 => Convention::Hvc1,
            };
            Event::Hypercall { vp, convention, control, parameters, result, retry }
        }
        What::RegisterGet { target, name, status, value } => {
            let value = if status == HvStatus::SUCCESS { Ok(value) } else { Err(status) };
            Event::RegisterGet { vp, target: target as usize, name, value }
        }
        What::RegisterSet { target, name, status, value } => {
            Event::RegisterSet { vp, target: target as usize, name, value, status }
        }
        What::Smccc { conduit, function, arguments, result } => {
            Event::Smccc { vp, conduit: of_conduit(conduit), function, arguments, result }
        }
        What::UnknownImmediate { conduit, immediate } => {
            Event::UnknownImmediate { vp, conduit: of_conduit(conduit), immediate }
        }
        What::MessagePosted { connection, message_type, status, ref payload } => Event::MessagePosted {
            vp,
            connection,
            message_type: message_type.0,
            payload: payload.kept(),
            status,
        },
        What::MessageQueued { target, sint } => Event::MessageQueued { vp: target as usize, sint },
        What::MessageDropped { target, sint, place } => {
            Event::MessageDropped { vp: target as usize, sint, place }
        }
        What::MessageDelivered { target, sint, pending, message_type, ref payload } => {
            Event::MessageDelivered {
                vp: target as usize,
                sint,
                message_type: message_type.0,
                payload: payload.kept(),
                pending,
            }
        }
        What::EndOfMessage { waiting, delivered } => Event::EndOfMessage { vp, waiting, delivered },
        What::EventSignalled { connection, flag, status } => {
            Event::EventSignalled { vp, connection, flag, status }
        }
        What::Timer { target, timer, change } => {
            Event::Timer { vp: target as usize, timer, what: timer_event(change) }
        }
        What::Crash { control, parameters } => Event::Crash { vp, control, parameters, text },
        What::VpOnline { target } => Event::VpOnline { vp: target as usize },
        What::VpOffline { target } => Event::VpOffline { vp: target as usize },
        What::Reset {} => Event::Reset,
        What::Restored {} => Event::Restored,
        _ => return None,
    })
}

const fn of_conduit(conduit: hv_trace::SmcccConduit) -> SmcccConduit {
    match conduit {
        hv_trace::SmcccConduit::Hvc => SmcccConduit::Hvc,
        hv_trace::SmcccConduit::Smc => SmcccConduit::Smc,
    }
}

const fn timer_event(change: TimerChange) -> TimerEvent {
    match change {
        TimerChange::Armed(due) => TimerEvent::Armed(ReferenceTime(due)),
        TimerChange::Stopped => TimerEvent::Stopped,
        TimerChange::Expired(due, now) => TimerEvent::Expired(ReferenceTime(due), ReferenceTime(now)),
        TimerChange::Blocked => TimerEvent::Blocked,
        TimerChange::Skipped(periods) => TimerEvent::Skipped(periods),
    }
}

fn bus_event(what: &What) -> Option<Bus> {
    Some(match *what {
        What::VmbusContact { version, accepted, target } => Bus::Contact { version, accepted, vp: target },
        What::VmbusUndeliverable { message, target } => Bus::Undeliverable { message, vp: target },
        What::VmbusFault { channel } => Bus::Fault { channel },
        What::VmbusOffered { channel, first, index, flags, interface, instance } => {
            Bus::Offered { channel, first, index, flags, interface, instance }
        }
        What::VmbusFlaw { channel, gpadl, ref flaw } => {
            let mut all = [Flaw::Outside, Flaw::Repeated].into_iter();
            let flaw = all.find(|known| Payload::text(format_args!("{known:?}")) == *flaw)?;
            Bus::GpadlFlaw { channel, gpadl, flaw }
        }
        What::VmbusUnloaded {} => Bus::Unloaded,
        What::VmbusTorndown { gpadl } => Bus::GpadlTorndown { gpadl },
        What::VmbusOpened { channel, target } => Bus::Opened { channel, vp: target },
        What::VmbusClosed { channel } => Bus::Closed { channel },
        What::VmbusReleased { channel } => Bus::Released { channel },
        What::VmbusRescinded { channel } => Bus::Rescinded { channel },
        What::VmbusRing { channel, ref error } => {
            Bus::RingCorrupt { channel, error: ring_error(error.kept()) }
        }
        What::VmbusRejected { message, ref reason } => {
            let mut all = Reason::all();
            let reason = all.find(|known| Payload::text(format_args!("{known:?}")) == *reason)?;
            Bus::Rejected { message, reason }
        }
        _ => return None,
    })
}

/// Returns an error of the kind that a text names; its values are not used.
fn ring_error(text: &[u8]) -> RingError {
    match text.split(|byte| *byte == b' ').next().unwrap_or_default() {
        b"Size" => RingError::Size { pages: 0 },
        b"Memory" => RingError::Memory,
        b"Length" => RingError::Length { len: 0, available: 0 },
        b"DataOffset" => RingError::DataOffset { offset: 0, len: 0 },
        _ => RingError::Index { index: 0, size: 0 },
    }
}
