//! Records checked as the events that they were made from.

use hv_host::event::{Cause, Convention, Event, SmcccConduit, TimerEvent};
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::{Guid, guid, socket};
use hv_trace::{CONTENTS_START, PACKET_START, Payload, Record, SOCKET_CLASS, TimerChange, What};
use hv_vmbus::ring::RingError;
use hv_vmbus::{CONTENTS_BYTES, Contents, Event as Bus, Flaw, Listed, Reason, SEEN_BYTES, Seen};

use super::{continuation, continuations, error_of};
use crate::event::BusEvent;
use crate::strict::{Finding, Judge, Rule, rules};
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
    /// By VP: the part of a packet's data that continues there.
    contents: [Option<Collected>; VPS],
}

/// A part of a packet's data, as far as its records have been seen.
#[derive(Clone, Copy, Debug)]
struct Collected {
    /// Its first record.
    what: What,
    bytes: [u8; CONTENTS_BYTES],
    /// Number of the records that have continued it, and of all that do.
    records: usize,
    all: usize,
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
            contents: [None; VPS],
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
        if let Some(whole) = self.collect(record) {
            with_contents(&whole, |contents| self.judge.contents(contents, found));
        }
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

impl<const VPS: usize> Replay<VPS> {
    /// Collects the records of a part of a packet's data, and returns it when it is whole. A record of something else
    /// drops one that is not.
    fn collect(&mut self, record: &Record) -> Option<Collected> {
        let place = self.contents.get_mut(record.vp as usize)?;
        let collected = match (record.what, place.take()) {
            (what @ What::Contents { shown, start, .. }, _) => {
                let mut bytes = [0; CONTENTS_BYTES];
                bytes[..CONTENTS_START].copy_from_slice(&start);
                Collected { what, bytes, records: 0, all: continuations(shown.into()) }
            }
            (What::ContentsData { at, bytes, .. }, Some(mut before))
                if usize::from(at) == continuation(before.records) =>
            {
                let room = before.bytes.iter_mut().skip(at.into());
                room.zip(bytes).for_each(|(place, byte)| *place = byte);
                before.records += 1;
                before
            }
            _ => return None,
        };
        if collected.records >= collected.all {
            return Some(collected);
        }
        *place = Some(collected);
        None
    }
}

/// Calls a function with a part of a packet's data.
fn with_contents(collected: &Collected, work: impl FnOnce(&Contents<'_>)) {
    let What::Contents { channel, class, from_guest, part, shown, transaction, length: len, .. } =
        collected.what
    else {
        return;
    };
    let (interface, bytes) = (interface_of(class), &collected.bytes[..CONTENTS_BYTES.min(shown.into())]);
    let contents = Contents::new(channel, interface, part, bytes);
    work(&contents.with_from_guest(from_guest).with_transaction(transaction).with_len(len));
}

/// Returns the kind of devices that a record names by number.
fn interface_of(class: u8) -> Guid {
    let interface = usize::from(class).checked_sub(1).and_then(|at| guid::INTERFACES.get(at));
    match class {
        SOCKET_CLASS => socket::VSOCK_TEMPLATE,
        _ => interface.map_or(Guid::ZERO, |(interface, ..)| *interface),
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
    let listed = if error == 0 { Ok(Listed::new(ranges, bytes)) } else { Err(error_of(error)) };
    let payload = &payload[..SEEN_BYTES.min(len as usize)];
    let interface = interface_of(class);
    let seen = Seen::new(channel, interface, kind, payload).with_from_guest(from_guest).with_flags(flags);
    work(&seen.with_transaction(transaction).with_len(len).with_listed(listed));
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
        What::Interrupt { target, intid, cause } => {
            Event::Interrupt { vp: target as usize, intid, cause: of_cause(cause) }
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

const fn of_cause(cause: hv_trace::Cause) -> Cause {
    match cause {
        hv_trace::Cause::Message(sint) => Cause::Message(sint),
        hv_trace::Cause::Event(sint) => Cause::Event(sint),
        hv_trace::Cause::Timer(timer) => Cause::Timer(timer),
        hv_trace::Cause::Ipi => Cause::Ipi,
    }
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
