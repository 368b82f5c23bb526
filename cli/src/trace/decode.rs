//! A record in words: its kind, a name for what it is about, and fields with names.

use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_wire::{BusChange, TraceKind, TraceRecord};

use super::words;
use crate::report::names;

/// A record in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Its kind, as `--kind` takes it.
    pub(super) kind: &'static str,
    /// What it is about.
    pub(super) name: String,
    /// What else it says.
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

/// Kinds with their labels. Labels with a common first word are filtered together by that word.
const LABELS: [(TraceKind, &str); TraceKind::ALL.len()] = [
    (TraceKind::Exit, "exit"),
    (TraceKind::Enter, "enter"),
    (TraceKind::Hypercall, "hypercall"),
    (TraceKind::RegisterGet, "register-get"),
    (TraceKind::RegisterSet, "register-set"),
    (TraceKind::Smccc, "smccc"),
    (TraceKind::UnknownImmediate, "unknown-immediate"),
    (TraceKind::MessagePosted, "message-posted"),
    (TraceKind::MessageQueued, "message-queued"),
    (TraceKind::MessageDelivered, "message-delivered"),
    (TraceKind::EndOfMessage, "message-end"),
    (TraceKind::EventSignalled, "event-signalled"),
    (TraceKind::EventFlag, "event-flag"),
    (TraceKind::Interrupt, "interrupt-asserted"),
    (TraceKind::Timer, "timer"),
    (TraceKind::Crash, "crash"),
    (TraceKind::VpStarting, "vp-starting"),
    (TraceKind::VpOnline, "vp-online"),
    (TraceKind::VpOffline, "vp-offline"),
    (TraceKind::Vmbus, "vmbus-message"),
    (TraceKind::TimeChanged, "time-changed"),
    (TraceKind::Reset, "reset"),
    (TraceKind::Forwarded, "interrupt-forwarded"),
    (TraceKind::Fault, "fault"),
    (TraceKind::OwnInterrupt, "interrupt-own"),
    (TraceKind::Injected, "interrupt-injected"),
    (TraceKind::SystemRegister, "system-register"),
    (TraceKind::GicAccess, "gic-access"),
    (TraceKind::Bus, "vmbus-state"),
    (TraceKind::Finding, "finding"),
    (TraceKind::Restored, "restored"),
    (TraceKind::MessageDropped, "message-dropped"),
    (TraceKind::FaultInjected, "fault-injected"),
];

/// The label of a record that is of no kind known.
pub(super) const UNKNOWN: &str = "unknown";

/// The label of a kind.
pub(super) fn label(kind: TraceKind) -> &'static str {
    LABELS.iter().find(|(known, _)| *known == kind).map_or(UNKNOWN, |(_, label)| label)
}

/// All labels.
pub(super) fn labels() -> impl Iterator<Item = &'static str> {
    LABELS.iter().map(|(_, label)| *label)
}

/// Puts a record into words.
pub(super) fn decode(record: &TraceRecord) -> Decoded {
    let Some(kind) = TraceKind::from_raw(record.kind) else {
        let fields = record.values.map(|value| ("value", Value::Hex(value)));
        return Decoded { kind: UNKNOWN, name: format!("kind {}", record.kind), fields: fields.to_vec() };
    };
    let (name, fields) = match kind {
        TraceKind::Hypercall => hypercall(record.values),
        TraceKind::RegisterGet | TraceKind::RegisterSet => register(record.values),
        TraceKind::MessagePosted
        | TraceKind::MessageQueued
        | TraceKind::MessageDelivered
        | TraceKind::MessageDropped => message(kind, record.values),
        TraceKind::Vmbus => vmbus(record.values),
        TraceKind::Bus => bus(record.values),
        TraceKind::Timer => timer(record.values),
        _ => other(kind, record.values),
    };
    Decoded { kind: label(kind), name, fields }
}

type Parts = (String, Vec<(&'static str, Value)>);

fn number(name: &'static str, value: u64) -> (&'static str, Value) {
    (name, Value::Number(value))
}

fn hex(name: &'static str, value: u64) -> (&'static str, Value) {
    (name, Value::Hex(value))
}

fn text(name: &'static str, value: impl Into<String>) -> (&'static str, Value) {
    (name, Value::Text(value.into()))
}

fn status(code: u64) -> (&'static str, Value) {
    text("status", names::status(code as u32))
}

fn hypercall([control, first, second, result, convention, retry]: [u64; 6]) -> Parts {
    let input = HypercallInput(control);
    let output = HypercallOutput(result);
    let mut fields = vec![number("hvc", convention)];
    match input.fast() {
        true => fields.extend([hex("first", first), hex("second", second)]),
        false => fields.extend([hex("input", first), hex("output", second)]),
    }
    if input.rep_count() != 0 {
        fields.extend([
            number("reps", input.rep_count().into()),
            number("start", input.rep_start().into()),
            number("done", output.reps_completed().into()),
        ]);
    }
    if input.variable_header_size() != 0 {
        fields.push(number("header-words", input.variable_header_size().into()));
    }
    fields.push(match retry {
        0 => status(output.status().0.into()),
        _ => text("status", "continued"),
    });
    (names::hypercall(input.code().0.into()), fields)
}

fn register([vp, name, low, high, code, _]: [u64; 6]) -> Parts {
    let mut fields = vec![number("of-vp", vp), hex("value", low)];
    if high != 0 {
        fields.push(hex("high", high));
    }
    if code != 0 {
        fields.push(status(code));
    }
    (names::register(name as u32), fields)
}

/// Type of the messages that carry VMBus's, which begin with a type of their own.
const CHANNEL_MESSAGE: u64 = hv_tlfs::vmbus::connection::MESSAGE_TYPE as u64;

/// A message's name by its type and the first words of its payload.
fn message_name(message_type: u64, payload: &[u64]) -> String {
    match payload {
        [length, first, ..] if message_type == CHANNEL_MESSAGE && *length >= 4 => vmbus_name(*first),
        _ => names::name("message-type", message_type),
    }
}

fn vmbus_name(first: u64) -> String {
    names::name("vmbus-message", first & u64::from(u32::MAX))
}

/// The part of a payload that the record holds.
fn payload(values: &[u64]) -> Vec<(&'static str, Value)> {
    let [length, words @ ..] = values else { return Vec::new() };
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let shown = usize::try_from(*length).unwrap_or(usize::MAX).min(bytes.len());
    let mut shown: String = bytes[..shown].iter().map(|byte| format!("{byte:02x}")).collect();
    if *length > bytes.len() as u64 {
        shown.push_str("..");
    }
    vec![number("bytes", *length), text("payload", shown)]
}

fn message(kind: TraceKind, values: [u64; 6]) -> Parts {
    match (kind, values) {
        (TraceKind::MessagePosted, [connection, message_type, code, ref rest @ ..]) => {
            let mut fields = vec![hex("connection", connection), status(code)];
            fields.extend(payload(rest));
            (message_name(message_type, rest), fields)
        }
        (TraceKind::MessageDelivered, [vp, sint, message_type, ref rest @ ..]) => {
            let more = sint >> 8 & 1;
            let mut fields = vec![number("to-vp", vp), number("sint", sint & 0xff), number("pending", more)];
            fields.extend(payload(rest));
            (message_name(message_type, rest), fields)
        }
        (_, [vp, sint, ..]) => (format!("SINT {sint}"), vec![number("to-vp", vp), number("sint", sint)]),
    }
}

fn vmbus([vp, from_guest, ref rest @ ..]: [u64; 6]) -> Parts {
    let direction = if from_guest != 0 { "from-vp" } else { "to-vp" };
    let mut fields = vec![number(direction, vp)];
    fields.extend(payload(rest));
    let name = if rest[0] >= 4 { vmbus_name(rest[1]) } else { "too short".to_owned() };
    (name, fields)
}

fn bus([change, first, ref rest @ ..]: [u64; 6]) -> Parts {
    let [second, third, ..] = *rest;
    let said = || text("reason", words::text(rest));
    let channel = || number("channel", first);
    match BusChange::from_raw(change) {
        Some(BusChange::Contact) => {
            let accepted = if second != 0 { "accepted" } else { "refused" };
            let version = format!("{}.{}", first >> 16, first & 0xffff);
            (
                "contact".into(),
                vec![text("version", version), text("answer", accepted), number("to-vp", third)],
            )
        }
        Some(BusChange::Unloaded) => ("unloaded".into(), Vec::new()),
        Some(BusChange::OffersDelivered) => ("offers delivered".into(), vec![number("count", first)]),
        Some(BusChange::GpadlCreated) => {
            ("GPADL created".into(), vec![channel(), hex("gpadl", second), number("pages", third)])
        }
        Some(BusChange::GpadlTorndown) => ("GPADL torn down".into(), vec![hex("gpadl", first)]),
        Some(BusChange::Opened) => ("channel opened".into(), vec![channel(), number("to-vp", second)]),
        Some(BusChange::Closed) => ("channel closed".into(), vec![channel()]),
        Some(BusChange::Released) => ("channel released".into(), vec![channel()]),
        Some(BusChange::Heartbeat) => ("heartbeat".into(), vec![channel(), number("sequence", second)]),
        Some(BusChange::RingSpoilt) => ("ring spoilt".into(), vec![channel(), said()]),
        Some(BusChange::Rejected) => {
            ("message rejected".into(), vec![text("message", vmbus_name(first)), said()])
        }
        Some(BusChange::Undeliverable) => (
            "message dropped, VP has no SynIC".into(),
            vec![text("message", vmbus_name(first)), number("to-vp", second)],
        ),
        Some(BusChange::Other) => (words::text(rest), Vec::new()),
        None => (format!("change {change}"), vec![hex("value", first)]),
    }
}

fn timer([timer, what, first, second, ..]: [u64; 6]) -> Parts {
    // In units of 100 ns, as the reference time is.
    let (what, mut fields) = match what {
        0 => ("armed", vec![number("due", first)]),
        1 => ("stopped", Vec::new()),
        2 => ("expired", vec![number("due", first), number("late", second.saturating_sub(first))]),
        3 => ("blocked", Vec::new()),
        4 => ("skipped", vec![number("periods", first)]),
        _ => ("unknown", vec![number("what", what)]),
    };
    fields.insert(0, number("timer", timer));
    (format!("timer {timer} {what}"), fields)
}

fn other(kind: TraceKind, values: [u64; 6]) -> Parts {
    let [first, second, third, fourth, fifth, sixth] = values;
    match kind {
        TraceKind::Exit => {
            let mut fields = vec![hex("esr", second), hex("pc", third)];
            if fourth != 0 {
                fields.push(hex("address", fourth));
            }
            (words::trap(first).into(), fields)
        }
        TraceKind::Smccc => (
            words::smccc(second as u32),
            vec![
                text("by", words::conduit(first)),
                hex("x1", third),
                hex("x2", fourth),
                hex("x3", fifth),
                hex("result", sixth),
            ],
        ),
        TraceKind::UnknownImmediate => (format!("{} #{second}", words::conduit(first)), Vec::new()),
        TraceKind::EndOfMessage => {
            ("end of message".into(), vec![hex("waiting", first), hex("delivered", second)])
        }
        TraceKind::EventSignalled => {
            (format!("connection {first:#x}"), vec![number("flag", second), status(third)])
        }
        TraceKind::EventFlag => {
            (format!("SINT {second} flag {third}"), vec![number("to-vp", first), number("was-set", fourth)])
        }
        TraceKind::Interrupt => {
            let (cause, which) = words::cause(third);
            let mut fields = vec![number("to-vp", first), text("cause", cause)];
            fields.extend(which.map(|which| number(which, fourth)));
            (words::interrupt(second), fields)
        }
        TraceKind::Crash => (
            "crash".into(),
            vec![
                hex("control", first),
                hex("p0", second),
                hex("p1", third),
                hex("p2", fourth),
                hex("p3", fifth),
                hex("p4", sixth),
            ],
        ),
        TraceKind::VpStarting => (format!("VP {first}"), vec![hex("pc", second)]),
        TraceKind::TimeChanged => {
            ("reference time".into(), vec![number("sequence", first), number("now", second)])
        }
        TraceKind::Forwarded => (words::interrupt(first), Vec::new()),
        TraceKind::OwnInterrupt => (words::own_interrupt(first), Vec::new()),
        TraceKind::Injected => (words::interrupt(first), vec![hex("list-register", second)]),
        TraceKind::SystemRegister => (words::system_register(first), vec![hex("value", second)]),
        TraceKind::GicAccess => {
            let direction = if fourth != 0 { "write" } else { "read" };
            (
                words::gic_register(first),
                vec![
                    text("access", direction),
                    hex("address", first),
                    hex("value", second),
                    number("bytes", third),
                ],
            )
        }
        TraceKind::Finding | TraceKind::Fault => {
            let name = if kind == TraceKind::Finding { words::rule(first) } else { words::fault(first) };
            let mut fields = vec![hex("value", second), hex("pc", third)];
            let callers = [("caller", fourth), ("caller-2", fifth), ("caller-3", sixth)];
            fields.extend(callers.into_iter().filter(|(_, address)| *address != 0).map(|(n, a)| hex(n, a)));
            (name, fields)
        }
        TraceKind::FaultInjected => (format!("rule {first}"), vec![number("times", second)]),
        _ => (String::new(), Vec::new()),
    }
}

/// What an exit is called that has this record in it: the first one that says more than the exit itself does.
pub(super) fn names_exit(record: &TraceRecord) -> Option<String> {
    let [first, second, ..] = record.values;
    Some(match TraceKind::from_raw(record.kind)? {
        TraceKind::Hypercall => names::hypercall(HypercallInput(first).code().0.into()),
        TraceKind::Smccc => words::smccc(second as u32),
        TraceKind::SystemRegister => words::system_register(first),
        TraceKind::GicAccess => words::gic_register(first),
        TraceKind::Forwarded => words::interrupt(first),
        TraceKind::OwnInterrupt => words::own_interrupt(first),
        TraceKind::Fault => words::fault(first),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
