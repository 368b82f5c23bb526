//! Converts records for Perfetto: a track for each VP, slices for exits, instants for everything else, flows between
//! them.

use std::collections::HashMap;
use std::io::{self, Write};

use hv_trace::{NO_VP, Record, What};
use prost::Message as _;

use super::decode::{self, Decoded, Value};
use super::exits::{Exit, Exits};
use super::file::Writer;
use super::flows::Flows;
use super::perfetto::{
    DebugAnnotation, INCREMENTAL_STATE_CLEARED, INSTANT, InternedData, NEEDS_INCREMENTAL_STATE, Name,
    NamedPlace, ProcessDescriptor, Run, SLICE_BEGIN, SLICE_END, ThreadDescriptor, TracePacket,
    TrackDescriptor, TrackEvent,
};
use super::services::Messages;

/// The only packet sequence.
const SEQUENCE: u32 = 1;
/// Process id of the partition; VP n is thread n + 1 of it.
const PROCESS: i32 = 1;
/// Track of the partition.
const PROCESS_TRACK: u64 = 1;
/// Category of the slices.
const EXIT: &str = "exit";

/// Track of the console.
const CONSOLE_TRACK: u64 = 2;

/// Returns the track of a VP, or of the console.
pub(super) const fn track(vp: u32) -> u64 {
    if vp == NO_VP { CONSOLE_TRACK } else { 100 + vp as u64 }
}

/// Maximum number of names that are written once and referred to by number; further events are named by their kind,
/// with the name as an argument. A guest can create any number of names, through calls that do not exist.
///
/// Kinds have names as well; together they must not exceed the reader's limit.
const NAMES: usize = super::check::MOST_NAMES - 2 * hv_trace::Kind::ALL.len();
/// Maximum number of bytes for one record and the end of the file.
const MARGIN: u64 = 1 << 16;

/// Statistics of a written trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// Records.
    pub(crate) records: u64,
    /// Number of VP records for which there was no room.
    pub(crate) left_out: u64,
}

/// Writes the trace of a run, with at most `limit` bytes, of which at least a third is for records if it is
/// [`LEAST`](super::LEAST) or more.
pub(crate) fn write(
    out: impl Write,
    mut run: Run,
    limit: u64,
    records: impl Iterator<Item = anyhow::Result<Record>>,
) -> anyhow::Result<Written> {
    limit_places(&mut run.places, limit / 2);
    let mut writer = Writer::new(out);
    let first = TracePacket { run: Some(run.clone()), ..packet(INCREMENTAL_STATE_CLEARED) };
    writer.packet(&first)?;
    for descriptor in descriptors(run.vps) {
        writer.packet(&TracePacket { track_descriptor: Some(descriptor), ..packet(0) })?;
    }
    let mut converter = Converter {
        vps: (0..run.vps).map(|_| Pending::default()).collect(),
        run,
        writer,
        names: Interner::default(),
        exits: Exits::default(),
        flows: Flows::default(),
        messages: Messages::default(),
    };
    let mut last = converter.run.origin;
    let mut full = converter.run.all_left_out() != 0;
    let cut = |converter: &Converter<_>| converter.writer.length().saturating_add(MARGIN) > limit;
    let mut closed = false;
    for record in records {
        let record = record?;
        closed = closed || cut(&converter);
        if closed {
            full = true;
            match converter.run.left_out.get_mut(record.vp as usize) {
                Some(count) => *count += 1,
                // The tool's own records are counted as written to the file.
                None => converter.run.console = converter.run.console.saturating_sub(1),
            }
            continue;
        }
        last = record.time;
        converter.writer.record(&record)?;
        converter.convert(&record)?;
    }
    converter.finish(last, full)
}

/// Leaves out names of addresses that have no place in this many bytes: records matter more.
fn limit_places(places: &mut Vec<NamedPlace>, most: u64) {
    /// Bytes of a field's tag and length, at most.
    const FRAME: usize = 6;
    let mut bytes = 0;
    let fits = |place: &&NamedPlace| {
        bytes += (place.encoded_len() + FRAME) as u64;
        bytes <= most
    };
    let count = places.iter().take_while(fits).count();
    places.truncate(count);
}

/// Describes the partition and each VP.
fn descriptors(vps: u32) -> impl Iterator<Item = TrackDescriptor> {
    let process = ProcessDescriptor { pid: Some(PROCESS), process_name: Some("Hyper-V partition".into()) };
    let partition =
        TrackDescriptor { uuid: Some(PROCESS_TRACK), process: Some(process), ..TrackDescriptor::default() };
    let vps = (0..vps).map(|vp| {
        let thread = ThreadDescriptor {
            pid: Some(PROCESS),
            tid: i32::try_from(vp + 1).ok(),
            thread_name: Some(format!("VP {vp}")),
        };
        TrackDescriptor {
            uuid: Some(track(vp)),
            parent_uuid: Some(PROCESS_TRACK),
            thread: Some(thread),
            ..TrackDescriptor::default()
        }
    });
    let console = TrackDescriptor {
        uuid: Some(CONSOLE_TRACK),
        parent_uuid: Some(PROCESS_TRACK),
        name: Some("console".into()),
        ..TrackDescriptor::default()
    };
    [partition, console].into_iter().chain(vps)
}

fn packet(flags: u32) -> TracePacket {
    TracePacket {
        sequence: Some(SEQUENCE),
        sequence_flags: (flags != 0).then_some(flags),
        ..TracePacket::default()
    }
}

struct Converter<W> {
    run: Run,
    writer: Writer<W>,
    names: Interner,
    exits: Exits,
    flows: Flows,
    messages: Messages,
    vps: Vec<Pending>,
}

/// Record held until the end of a VP's exit, when its name and everything that it led to are known.
#[derive(Default)]
struct Pending {
    in_exit: bool,
    events: Vec<Event>,
    flows: Vec<u64>,
}

/// A record shown as an instant.
struct Event {
    time: u64,
    decoded: Decoded,
    through: Vec<u64>,
    end: Vec<u64>,
}

impl<W: Write> Converter<W> {
    fn convert(&mut self, record: &Record) -> io::Result<()> {
        let flows = self.flows.feed(record);
        let message = self.messages.feed(record);
        if let Some(exit) = self.exits.feed(record) {
            self.exit(&exit)?;
        }
        if record.vp == NO_VP {
            let decoded = decode::decode_part(&record.what, message);
            let event = Event { time: record.time, decoded, through: Vec::new(), end: Vec::new() };
            return self.instant(NO_VP, event);
        }
        // An invalid VP in a damaged record has no track.
        let Some(pending) = self.vps.get_mut(record.vp as usize) else { return Ok(()) };
        match record.what {
            What::Exit { .. } => {
                pending.in_exit = true;
                return Ok(());
            }
            What::Enter {} => return Ok(()),
            _ => {}
        }
        pending.flows.extend(&flows.new);
        let event = Event {
            time: record.time,
            decoded: decode::decode_part(&record.what, message),
            through: flows.through,
            end: flows.end,
        };
        if pending.in_exit {
            pending.events.push(event);
            return Ok(());
        }
        pending.flows.clear();
        self.instant(record.vp, event)
    }

    /// Writes an exit and its records.
    fn exit(&mut self, exit: &Exit) -> io::Result<()> {
        let vp = exit.began.vp;
        let Some(pending) = self.vps.get_mut(vp as usize) else { return Ok(()) };
        let Pending { events, flows, .. } = std::mem::take(pending);
        let mut fields =
            vec![("cause", Value::Text(exit.cause.to_owned())), ("pc", Value::Hex(exit.began.pc))];
        for (name, value) in [("esr", exit.began.syndrome), ("address", exit.began.address)] {
            fields.extend((value != 0).then_some((name, Value::Hex(value))));
        }
        let begin = Decoded { kind: EXIT, name: exit.name.clone(), fields };
        let event = Event { time: exit.began.time, decoded: begin, through: flows, end: Vec::new() };
        self.event(vp, SLICE_BEGIN, event)?;
        for event in events {
            self.instant(vp, event)?;
        }
        let end =
            TrackEvent { r#type: Some(SLICE_END), track_uuid: Some(track(vp)), ..TrackEvent::default() };
        self.track_event(exit.end, end, None)
    }

    fn instant(&mut self, vp: u32, event: Event) -> io::Result<()> {
        self.event(vp, INSTANT, event)
    }

    fn event(&mut self, vp: u32, event_type: i32, event: Event) -> io::Result<()> {
        let Event { time, decoded: Decoded { kind, name, fields }, through, end } = event;
        let mut new = InternedData::default();
        let names = &mut self.names;
        let category = names.categories.number(kind, &mut new.event_categories);
        let mut fields = fields;
        let name = if names.events.has_room(&name) {
            name
        } else {
            fields.push(("name", Value::Text(name)));
            String::new()
        };
        let name = names.events.number(if name.is_empty() { kind } else { &name }, &mut new.event_names);
        let debug_annotations = fields.into_iter().map(|(name, value)| {
            let name_iid = Some(names.annotations.number(name, &mut new.debug_annotation_names));
            let annotation = DebugAnnotation { name_iid, ..DebugAnnotation::default() };
            match value {
                Value::Number(number) => DebugAnnotation { uint_value: Some(number), ..annotation },
                Value::Hex(number) => DebugAnnotation { pointer_value: Some(number), ..annotation },
                Value::Text(text) => DebugAnnotation { string_value: Some(text), ..annotation },
            }
        });
        let event = TrackEvent {
            category_iids: vec![category],
            debug_annotations: debug_annotations.collect(),
            r#type: Some(event_type),
            name_iid: Some(name),
            track_uuid: Some(track(vp)),
            flow_ids: through,
            terminating_flow_ids: end,
        };
        self.track_event(time, event, (new != InternedData::default()).then_some(new))
    }

    fn track_event(&mut self, time: u64, event: TrackEvent, new: Option<InternedData>) -> io::Result<()> {
        self.writer.packet(&TracePacket {
            timestamp: Some(self.run.nanoseconds(time)),
            track_event: Some(event),
            interned_data: new,
            ..packet(NEEDS_INCREMENTAL_STATE)
        })
    }

    fn finish(mut self, last: u64, full: bool) -> anyhow::Result<Written> {
        let open: Vec<Exit> = std::mem::take(&mut self.exits).finish(last).collect();
        for exit in open {
            self.exit(&exit)?;
        }
        self.writer.close_batch()?;
        let left_out = self.run.all_left_out();
        let records = self.run.all_recorded().saturating_sub(left_out);
        if full {
            // The names are in the first one.
            let run = Run { places: Vec::new(), ..self.run };
            self.writer.packet(&TracePacket { run: Some(run), ..packet(0) })?;
        }
        self.writer.finish()?;
        Ok(Written { records, left_out })
    }
}

/// Numbered names: each is written once.
#[derive(Default)]
struct Interner {
    categories: Names,
    events: Names,
    annotations: Names,
}

#[derive(Default)]
struct Names(HashMap<String, u64>);

impl Names {
    /// Returns true if the name has a number or can get one.
    fn has_room(&self, name: &str) -> bool {
        self.0.len() < NAMES || self.0.contains_key(name)
    }

    /// Returns the number of a name; a new name is also added to `new`.
    fn number(&mut self, name: &str, new: &mut Vec<Name>) -> u64 {
        if let Some(&number) = self.0.get(name) {
            return number;
        }
        let number = self.0.len() as u64 + 1;
        self.0.insert(name.to_owned(), number);
        new.push(Name { iid: Some(number), name: Some(name.to_owned()) });
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_makes_all_names_leaves_room_for_the_kinds() {
        let mut names = Names::default();
        let mut new = Vec::new();
        let made = (0..).map(|n| format!("name {n}")).take_while(|name| {
            let room = names.has_room(name);
            if room {
                names.number(name, &mut new);
            }
            room
        });
        assert_eq!(made.count(), NAMES);
        for kind in decode::labels().chain([decode::UNKNOWN]) {
            names.number(kind, &mut new);
        }
        assert!(names.0.len() <= super::super::check::MOST_NAMES);
        assert!(names.has_room("name 7") && !names.has_room("another"));
    }
}
