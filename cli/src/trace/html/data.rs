//! The sections of the page's data.
//!
//! Each section is a sequence of LEB128 numbers:
//!
//! - records: nanoseconds since the previous record, lane (0 the console, n + 1 VP n), shape, then the shape's fields.
//!   A text is twice the number of a string, or twice its length in bytes plus 1, followed by its bytes.
//! - exits: distance from the record of the previous exit, duration in nanoseconds, string with its name.
//! - arrows: distance of the end from the end of the previous arrow, distance back from the end to the start.
//!
//! Strings, shapes and the description of the run are JSON.

use std::collections::HashMap;

use hv_trace::NO_VP;
use serde_json::{Value as Json, json};

use crate::trace::decode::{Decoded, Value};
use crate::trace::perfetto::Run;

/// Maximum number of strings and shapes that are written once and referred to by number: a guest can create any number.
const MOST_NAMES: usize = 1 << 16;
/// Maximum length of such a string.
const LONGEST_NAME: usize = 48;
/// Maximum number of addresses that get a name.
const MOST_PLACES: usize = 1 << 16;

#[derive(Debug, Default)]
pub(super) struct Data {
    pub(super) record_bytes: Vec<u8>,
    pub(super) exit_bytes: Vec<u8>,
    pub(super) arrow_bytes: Vec<u8>,
    records: usize,
    time: u64,
    times: Vec<u64>,
    strings: Numbers<String>,
    shapes: Numbers<Shape>,
    /// Record, end, name.
    exits: Vec<(usize, u64, usize)>,
    /// End, start.
    arrows: Vec<(usize, usize)>,
    /// By flow: the last record that it passed through.
    flows: HashMap<u64, usize>,
    /// Addresses that may have names, with VBAR_EL1 at that time.
    places: HashMap<u64, u64>,
    /// VBAR_EL1 of the guest at its last exit.
    pub(super) vectors: u64,
}

/// What records have in common: kind, name, and fields with their types.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Shape {
    kind: &'static str,
    name: usize,
    fields: Vec<(&'static str, u8)>,
}

#[derive(Debug)]
struct Numbers<T> {
    all: Vec<T>,
    numbers: HashMap<T, usize>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { all: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Numbers<T> {
    fn has_room(&self, value: &T) -> bool {
        self.all.len() < MOST_NAMES || self.numbers.contains_key(value)
    }

    fn number(&mut self, value: T) -> usize {
        *self.numbers.entry(value).or_insert_with_key(|value| {
            self.all.push(value.clone());
            self.all.len() - 1
        })
    }
}

/// Appends a number, low bits first.
fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

impl Data {
    pub(super) const fn records(&self) -> usize {
        self.records
    }

    /// Adds a record, and returns its number.
    pub(super) fn record(&mut self, time: u64, vp: u32, decoded: Decoded) -> usize {
        let Decoded { kind, name, mut fields } = decoded;
        let types = |fields: &[(&'static str, Value)]| {
            let of = |value: &Value| match value {
                Value::Number(_) => 0,
                Value::Hex(_) => 1,
                Value::Text(_) => 2,
            };
            fields.iter().map(|(name, value)| (*name, of(value))).collect()
        };
        let mut shape = Shape { kind, name: 0, fields: types(&fields) };
        if self.strings.has_room(&name) && self.shapes.all.len() < MOST_NAMES {
            shape.name = self.strings.number(name);
        } else {
            fields.insert(0, ("name", Value::Text(name)));
            shape = Shape { kind, name: self.strings.number(String::new()), fields: types(&fields) };
        }
        let shape = self.shapes.number(shape);
        let lane = if vp == NO_VP { 0 } else { u64::from(vp) + 1 };
        // The console's lines may be slightly older than the records before them.
        let time = time.max(self.time);
        for value in [time - self.time, lane, shape as u64] {
            put(&mut self.record_bytes, value);
        }
        self.time = time;
        self.times.push(time);
        for (name, value) in fields {
            self.field(name, value);
        }
        self.records += 1;
        self.records - 1
    }

    fn field(&mut self, name: &str, value: Value) {
        match value {
            Value::Number(value) => put(&mut self.record_bytes, value),
            Value::Hex(value) => {
                if matches!(name, "pc" | "caller" | "caller-2" | "caller-3")
                    && self.places.len() < MOST_PLACES
                {
                    self.places.entry(value).or_insert(self.vectors);
                }
                put(&mut self.record_bytes, value);
            }
            Value::Text(text) if text.len() <= LONGEST_NAME && self.strings.has_room(&text) => {
                let number = self.strings.number(text);
                put(&mut self.record_bytes, number as u64 * 2);
            }
            Value::Text(text) => {
                put(&mut self.record_bytes, text.len() as u64 * 2 + 1);
                self.record_bytes.extend_from_slice(text.as_bytes());
            }
        }
    }

    /// Ends the exit that began with a record.
    pub(super) fn exit(&mut self, record: usize, end: u64, name: &str) {
        let name = name.to_owned();
        let name = if self.strings.has_room(&name) { name } else { String::new() };
        self.exits.push((record, end, self.strings.number(name)));
    }

    /// Passes a flow through a record, if the record is shown.
    pub(super) fn flow(&mut self, flow: u64, record: Option<usize>) {
        let Some(record) = record else { return };
        if let Some(before) = self.flows.insert(flow, record).filter(|before| *before < record) {
            self.arrows.push((record, before));
        }
    }

    pub(super) fn end_flow(&mut self, flow: u64) {
        self.flows.remove(&flow);
    }

    /// Sorts exits and arrows by their records.
    pub(super) fn close(&mut self) {
        self.exits.sort_unstable();
        let mut last = 0;
        for &(record, end, name) in &self.exits {
            let took = end.saturating_sub(self.times.get(record).copied().unwrap_or_default());
            for value in [(record - last) as u64, took, name as u64] {
                put(&mut self.exit_bytes, value);
            }
            last = record;
        }
        self.arrows.sort_unstable();
        let mut last = 0;
        for &(end, start) in &self.arrows {
            put(&mut self.arrow_bytes, (end - last) as u64);
            put(&mut self.arrow_bytes, (end - start) as u64);
            last = end;
        }
    }

    /// Formats the description of the run, strings and shapes.
    pub(super) fn meta(
        &self,
        run: &Run,
        title: &str,
        cut: u64,
        names: &dyn Fn(u64, u64) -> Option<String>,
    ) -> Json {
        let shapes = self.shapes.all.iter().map(|shape| json!([shape.kind, shape.name, shape.fields]));
        let places = self.places.iter().filter_map(|(&pc, &vectors)| {
            let name = names(pc, vectors).or_else(|| run.place(pc).map(str::to_owned))?;
            Some((format!("{pc:#x}"), Json::from(name)))
        });
        json!({
            "title": title,
            "vps": run.vps,
            "records": self.records,
            "exits": self.exits.len(),
            "arrows": self.arrows.len(),
            "dropped": run.all_dropped(),
            "left_out": run.all_left_out(),
            "cut": cut,
            "faults": run.rules.iter().map(|rule| json!([rule.rule, rule.fired])).collect::<Vec<_>>(),
            "strings": self.strings.all,
            "shapes": shapes.collect::<Vec<_>>(),
            "places": places.collect::<serde_json::Map<_, _>>(),
        })
    }
}
