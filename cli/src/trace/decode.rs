//! Decodes a record into words: its kind, a name for its subject, and named fields.

use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::vmbus::connection::MESSAGE_TYPE;
use hv_trace::{Convention, Kind, Payload, TimerChange, What};

use super::services::Message;
use super::{packets, words};
use crate::report::names;

/// A record in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Its kind, as in `--kind`.
    pub(super) kind: &'static str,
    /// Its subject.
    pub(super) name: String,
    /// Its other values.
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A count, or the number of something.
    Number(u64),
    /// An address or a word.
    Hex(u64),
    /// A name, or text.
    Text(String),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Hex(number) => write!(f, "{number:#x}"),
            Self::Text(text) if text.is_empty() || text.contains([' ', '=']) => write!(f, "{text:?}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// The label of a record that is not one of this version.
pub(super) const UNKNOWN: &str = "unknown";

/// Returns the label of a record.
pub(super) const fn label(what: &What) -> &'static str {
    match (what, what.kind()) {
        (What::Unknown { .. }, _) | (_, None) => UNKNOWN,
        (_, Some(kind)) => kind.label(),
    }
}

/// Iterates over all labels.
pub(super) fn labels() -> impl Iterator<Item = &'static str> {
    Kind::ALL.iter().map(|kind| kind.label())
}

/// Decodes a record by itself.
pub(super) fn decode(what: &What) -> Decoded {
    decode_part(what, None)
}

/// Decodes a record that may continue a message of a service.
pub(super) fn decode_part(what: &What, message: Option<Message>) -> Decoded {
    let (name, fields) = calls(what)
        .or_else(|| messages(what))
        .or_else(|| vmbus(what))
        .or_else(|| packets::raw(what, message))
        .or_else(|| machine(what))
        .unwrap_or_else(|| unknown(what));
    Decoded { kind: label(what), name, fields }
}

pub(super) type Parts = (String, Vec<(&'static str, Value)>);

pub(super) fn number(name: &'static str, value: impl Into<u64>) -> (&'static str, Value) {
    (name, Value::Number(value.into()))
}

pub(super) fn hex(name: &'static str, value: impl Into<u64>) -> (&'static str, Value) {
    (name, Value::Hex(value.into()))
}

pub(super) fn text(name: &'static str, value: impl Into<String>) -> (&'static str, Value) {
    (name, Value::Text(value.into()))
}

fn status(status: HvStatus) -> (&'static str, Value) {
    text("status", names::status(status.0.into()))
}

/// Decodes hypercalls, registers, functions, crashes.
fn calls(what: &What) -> Option<Parts> {
    Some(match *what {
        What::Hypercall { convention, retry, control, parameters, result } => {
            hypercall(convention, retry, control, parameters, result)
        }
        What::RegisterGet { target, name, status, value }
        | What::RegisterSet { target, name, status, value } => register(target, name, status, value),
        What::Smccc { conduit, function, arguments: [x1, x2, x3], result } => (
            words::smccc(function),
            vec![
                text("by", words::conduit(conduit)),
                hex("x1", x1),
                hex("x2", x2),
                hex("x3", x3),
                hex("result", result),
            ],
        ),
        What::UnknownImmediate { conduit, immediate } => {
            (format!("{} #{immediate}", words::conduit(conduit)), Vec::new())
        }
        What::Crash { control, parameters } => {
            let mut fields = vec![hex("control", control)];
            fields.extend(["p0", "p1", "p2", "p3", "p4"].into_iter().zip(parameters).map(|(n, p)| hex(n, p)));
            ("crash".into(), fields)
        }
        What::CrashText { text: ref said } => {
            (words::text(said), vec![number("bytes", said.length() as u64)])
        }
        _ => return None,
    })
}

fn hypercall(
    convention: Convention,
    retry: bool,
    control: HypercallInput,
    [first, second]: [u64; 2],
    result: HypercallOutput,
) -> Parts {
    let mut fields = vec![number("hvc", convention as u8)];
    match control.fast() {
        true => fields.extend([hex("first", first), hex("second", second)]),
        false => fields.extend([hex("input", first), hex("output", second)]),
    }
    if control.rep_count() != 0 {
        fields.extend([
            number("reps", control.rep_count()),
            number("start", control.rep_start()),
            number("done", result.reps_completed()),
        ]);
    }
    if control.variable_header_size() != 0 {
        fields.push(number("header-words", control.variable_header_size()));
    }
    fields.push(if retry { text("status", "continued") } else { status(result.status()) });
    (names::hypercall(control.code().0.into()), fields)
}

fn register(target: u32, name: RegisterName, code: HvStatus, [low, high]: [u64; 2]) -> Parts {
    let mut fields = vec![number("of-vp", target), hex("value", low)];
    if high != 0 {
        fields.push(hex("high", high));
    }
    if code != HvStatus::SUCCESS {
        fields.push(status(code));
    }
    (names::register(name.0), fields)
}

/// Names a message by its type and the beginning of its payload.
fn message_name<const ROOM: usize>(message_type: MessageType, payload: &Payload<ROOM>) -> String {
    // Messages that carry VMBus messages begin with the type of the latter.
    match payload.first_word().filter(|_| message_type.0 == MESSAGE_TYPE) {
        Some(word) => vmbus_name(word),
        None => names::name("message-type", message_type.0.into()),
    }
}

fn vmbus_name(message_type: u32) -> String {
    names::name("vmbus-message", message_type.into())
}

/// Formats the recorded part of a payload.
fn payload<const ROOM: usize>(payload: &Payload<ROOM>) -> [(&'static str, Value); 2] {
    [number("bytes", payload.length() as u64), text("payload", payload.to_string())]
}

/// Decodes messages, events, timers.
fn messages(what: &What) -> Option<Parts> {
    let waits =
        |target: u32, sint: u8| (format!("SINT {sint}"), vec![number("to-vp", target), number("sint", sint)]);
    Some(match *what {
        What::MessagePosted { connection, message_type, status: code, payload: ref all } => {
            let mut fields = vec![hex("connection", connection), status(code)];
            fields.extend(payload(all));
            (message_name(message_type, all), fields)
        }
        What::MessageDelivered { target, sint, pending, message_type, payload: ref all } => {
            let mut fields = vec![number("to-vp", target), number("sint", sint), number("pending", pending)];
            fields.extend(payload(all));
            (message_name(message_type, all), fields)
        }
        What::MessageQueued { target, sint } | What::MessageDropped { target, sint, .. } => {
            waits(target, sint)
        }
        What::EndOfMessage { waiting, delivered } => {
            ("end of message".into(), vec![hex("waiting", waiting), hex("delivered", delivered)])
        }
        What::EventSignalled { connection, flag, status: code } => {
            (format!("connection {connection:#x}"), vec![number("flag", flag), status(code)])
        }
        What::EventFlag { target, sint, flag, was_set } => {
            let fields = vec![number("to-vp", target), number("was-set", was_set)];
            (format!("SINT {sint} flag {flag}"), fields)
        }
        What::Timer { target, timer, change } => {
            // In units of 100 ns, like the reference time.
            let (what, mut fields) = match change {
                TimerChange::Armed(due) => ("armed", vec![number("due", due)]),
                TimerChange::Stopped => ("stopped", Vec::new()),
                TimerChange::Expired(due, now) => {
                    ("expired", vec![number("due", due), number("late", now.saturating_sub(due))])
                }
                TimerChange::Blocked => ("blocked", Vec::new()),
                TimerChange::Skipped(periods) => ("skipped", vec![number("periods", periods)]),
            };
            fields.insert(0, number("timer", timer));
            fields.push(number("of-vp", target));
            (format!("timer {timer} {what}"), fields)
        }
        _ => return None,
    })
}

/// Decodes events on the host side of VMBus.
fn vmbus(what: &What) -> Option<Parts> {
    Some(match *what {
        What::VmbusMessage { target, from_guest, payload: ref all } => {
            let mut fields = vec![number(if from_guest { "from-vp" } else { "to-vp" }, target)];
            fields.extend(payload(all));
            (all.first_word().map_or_else(|| "too short".to_owned(), vmbus_name), fields)
        }
        What::VmbusContact { version, accepted, target } => {
            let answer = if accepted { "accepted" } else { "refused" };
            let version = format!("{}.{}", version.0 >> 16, version.0 & 0xffff);
            (
                "contact".into(),
                vec![text("version", version), text("answer", answer), number("to-vp", target)],
            )
        }
        What::VmbusUnloaded {} => ("unloaded".into(), Vec::new()),
        What::VmbusOffers { count } => ("offers delivered".into(), vec![number("count", count)]),
        What::VmbusGpadl { channel, gpadl, pages } => (
            "GPADL created".into(),
            vec![number("channel", channel.0), hex("gpadl", gpadl.0), number("pages", pages)],
        ),
        What::VmbusFlaw { channel, gpadl, ref flaw } => {
            let fields =
                vec![number("channel", channel.0), hex("gpadl", gpadl.0), text("reason", words::text(flaw))];
            ("GPADL suspicious".into(), fields)
        }
        What::VmbusOffered { channel, first, index, interface, instance, .. } => {
            let mut fields = vec![
                number("channel", channel.0),
                text("class", packets::class(&interface)),
                text("instance", instance.to_string()),
            ];
            if index > 0 {
                fields.extend([number("sub-channel", index), number("of-channel", first.0)]);
            }
            ("channel offered".into(), fields)
        }
        What::VmbusTorndown { gpadl } => ("GPADL torn down".into(), vec![hex("gpadl", gpadl.0)]),
        What::VmbusOpened { channel, target } => {
            ("channel opened".into(), vec![number("channel", channel.0), number("to-vp", target)])
        }
        What::VmbusClosed { channel } => ("channel closed".into(), vec![number("channel", channel.0)]),
        What::VmbusReleased { channel } => ("channel released".into(), vec![number("channel", channel.0)]),
        What::VmbusRescinded { channel } => ("channel rescinded".into(), vec![number("channel", channel.0)]),
        What::VmbusDevice { channel, note, value } => {
            let fields = vec![number("channel", channel.0), number("note", note), number("value", value)];
            ("device".into(), fields)
        }
        What::VmbusFault { channel } => ("protocol broken".into(), vec![number("channel", channel.0)]),
        What::VmbusRing { channel, ref error } => {
            ("ring corrupt".into(), vec![number("channel", channel.0), text("reason", words::text(error))])
        }
        What::VmbusRejected { message, ref reason } => (
            "message rejected".into(),
            vec![text("message", vmbus_name(message.0)), text("reason", words::text(reason))],
        ),
        What::VmbusUndeliverable { message, target } => (
            "message dropped, VP has no SynIC".into(),
            vec![text("message", vmbus_name(message.0)), number("to-vp", target)],
        ),
        What::VmbusOther { text: ref said } => (words::text(said), Vec::new()),
        _ => return None,
    })
}

/// Decodes exits, interrupts, VPs, faults, and the tool's additions.
fn machine(what: &What) -> Option<Parts> {
    Some(match *what {
        What::Exit { trap, syndrome, pc, address, .. } => {
            let mut fields = vec![hex("esr", syndrome), hex("pc", pc)];
            if address != 0 {
                fields.push(hex("address", address));
            }
            (words::trap(trap).into(), fields)
        }
        What::Interrupt { target, intid, cause } => {
            let (cause, which) = words::cause(cause);
            let mut fields = vec![number("to-vp", target), text("cause", cause)];
            fields.extend(which.map(|(name, value)| number(name, value)));
            (words::interrupt(intid), fields)
        }
        What::Forwarded { intid } => (words::interrupt(intid), Vec::new()),
        What::OwnInterrupt { intid } => (words::own_interrupt(intid), Vec::new()),
        What::Injected { intid, list_register } => {
            (words::interrupt(intid), vec![hex("list-register", list_register)])
        }
        What::SystemRegister { iss, value } => {
            (words::system_register(iss.into()), vec![hex("value", value)])
        }
        What::GicAccess { address, value, bytes, write } => {
            let access = text("access", if write { "write" } else { "read" });
            let fields = vec![access, hex("address", address), hex("value", value), number("bytes", bytes)];
            (words::gic_register(address), fields)
        }
        What::VpStarting { target, pc } => (format!("VP {target}"), vec![hex("pc", pc)]),
        What::VpOnline { .. } | What::VpOffline { .. } | What::Enter {} => (String::new(), Vec::new()),
        What::Reset {} | What::Restored {} => (String::new(), Vec::new()),
        What::TimeChanged { sequence, now } => {
            ("reference time".into(), vec![number("sequence", sequence), number("now", now)])
        }
        What::Finding { rule, value, pc, callers } => (words::rule(rule.into()), place(value, pc, callers)),
        What::Fault { fault, value, pc, callers } => (words::fault(fault).into(), place(value, pc, callers)),
        What::FaultInjected { rule, times } => (format!("rule {rule}"), vec![number("times", times)]),
        What::Lost { count } => ("records dropped, the ring was full".into(), vec![number("count", count)]),
        What::Console { ref text, .. } => (words::text(text), Vec::new()),
        _ => return None,
    })
}

fn place(value: u64, pc: u64, callers: [u64; 3]) -> Vec<(&'static str, Value)> {
    let mut fields = vec![hex("value", value), hex("pc", pc)];
    let callers = ["caller", "caller-2", "caller-3"].into_iter().zip(callers);
    fields.extend(callers.filter(|(_, address)| *address != 0).map(|(name, address)| hex(name, address)));
    fields
}

/// Formats the bytes of a record that is not one of this version.
fn unknown(what: &What) -> Parts {
    let (kind, body) = what.encode();
    let words = body.chunks(8).map(|bytes| {
        let bytes = bytes.first_chunk().copied().unwrap_or_default();
        hex("value", u64::from_le_bytes(bytes))
    });
    (format!("kind {kind}"), words.collect())
}

/// Returns the name of an exit that contains this record: that of the first record that says more than the exit itself.
pub(super) fn names_exit(what: &What) -> Option<String> {
    Some(match *what {
        What::Hypercall { control, .. } => names::hypercall(control.code().0.into()),
        What::Smccc { function, .. } => words::smccc(function),
        What::SystemRegister { iss, .. } => words::system_register(iss.into()),
        What::GicAccess { address, .. } => words::gic_register(address),
        What::Forwarded { intid } => words::interrupt(intid),
        What::OwnInterrupt { intid } => words::own_interrupt(intid),
        What::Fault { fault, .. } => words::fault(fault).to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
