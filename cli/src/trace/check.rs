//! Checks whether a trace is valid for Perfetto, and whether both of its halves agree.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use anyhow::{Context as _, ensure};
use hv_trace::{Kind, NO_VP, Raw, Record, What};
use prost::Message as _;
use zerocopy::FromBytes as _;

use super::convert::track;
use super::file::Packets;
use super::perfetto::{
    INCREMENTAL_STATE_CLEARED, INSTANT, InternedData, NEEDS_INCREMENTAL_STATE, Name, Run, SLICE_BEGIN,
    SLICE_END, TracePacket, TrackEvent,
};

/// Limits of what the checker remembers, whatever the file: tracks (a handful for each VP), interned names, and flows,
/// of which a run of hours has fewer.
const MOST_TRACKS: usize = 1 << 10;
pub(super) const MOST_NAMES: usize = 1 << 16;
const MOST_FLOWS: usize = 1 << 23;

/// Statistics of a valid trace.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// About the run.
    pub(crate) run: Run,
    /// Records by kind.
    pub(crate) records: HashMap<Kind, u64>,
    /// Hypercalls that were not continued.
    pub(crate) hypercalls: u64,
    /// Slices.
    pub(crate) slices: u64,
    /// Instants.
    pub(crate) instants: u64,
    /// Flows with two ends.
    pub(crate) flows: u64,
}

impl Checked {
    /// Formats them as JSON.
    pub(super) fn json(&self) -> serde_json::Value {
        let kinds: BTreeMap<&str, u64> =
            self.records.iter().map(|(kind, &count)| (kind.label(), count)).collect();
        serde_json::json!({
            "schema": 1,
            "vps": self.run.vps,
            "recorded": self.run.all_recorded(),
            "dropped": self.run.all_dropped(),
            "left_out": self.run.all_left_out(),
            "kinds": kinds,
            "hypercalls": self.hypercalls,
            "slices": self.slices,
            "instants": self.instants,
            "flows": self.flows,
        })
    }
}

/// State of the checker.
#[derive(Default)]
struct State {
    cleared: bool,
    tracks: HashSet<u64>,
    categories: HashSet<u64>,
    names: HashSet<u64>,
    annotations: HashSet<u64>,
    /// By track: number of open slices, and time of the last event.
    open: HashMap<u64, (u64, u64)>,
    flows: HashMap<u64, Flow>,
    /// By VP: time of the last record.
    last: HashMap<u32, u64>,
}

/// The events of a flow.
#[derive(Default)]
struct Flow {
    events: u64,
    last: u64,
    end: Option<u64>,
}

/// Checks a trace.
///
/// # Errors
/// The first problem found.
pub(super) fn check<R: io::Read>(mut packets: Packets<R>) -> anyhow::Result<Checked> {
    let mut state = State::default();
    let mut found = Checked::default();
    let mut index = 0u64;
    while let Some(bytes) = packets.next()? {
        let packet =
            TracePacket::decode(&*bytes).with_context(|| format!("packet {index} cannot be decoded"))?;
        state.packet(packet, &mut found).with_context(|| format!("packet {index}"))?;
        index += 1;
    }
    ensure!(found.run.version != 0, "there is no description of the run");
    for vp in 0..found.run.vps {
        ensure!(state.tracks.contains(&track(vp)), "VP {vp} has no track");
    }
    for (track, (open, _)) in &state.open {
        ensure!(*open == 0, "{open} slices of track {track} do not end");
    }
    let written: u64 = found.records.values().sum();
    let said = found.run.all_recorded().saturating_sub(found.run.all_left_out());
    ensure!(written == said, "{written} records, {said} said");
    let count = |kind: Kind| found.records.get(&kind).copied().unwrap_or_default();
    let exits = count(Kind::Exit);
    ensure!(found.slices == exits, "{} slices for {exits} exits", found.slices);
    let others = written.saturating_sub(exits).saturating_sub(count(Kind::Enter));
    ensure!(found.instants == others, "{} instants for {others} records", found.instants);
    for (number, flow) in &state.flows {
        ensure!(flow.end.is_none_or(|end| end >= flow.last), "flow {number} continues after its end");
    }
    found.flows = state.flows.values().filter(|flow| flow.events > 1).count() as u64;
    Ok(found)
}

impl State {
    fn packet(&mut self, packet: TracePacket, found: &mut Checked) -> anyhow::Result<()> {
        let flags = packet.sequence_flags.unwrap_or_default();
        self.cleared |= flags & INCREMENTAL_STATE_CLEARED != 0;
        if let Some(run) = packet.run {
            run.check()?;
            found.run = run;
        }
        if let Some(track) = packet.track_descriptor {
            let uuid = track.uuid.context("a track without a number")?;
            ensure!(self.tracks.len() < MOST_TRACKS, "more than {MOST_TRACKS} tracks");
            ensure!(self.tracks.insert(uuid), "track {uuid} occurs twice");
            let parent = track.parent_uuid;
            ensure!(parent.is_none_or(|parent| self.tracks.contains(&parent)), "track {uuid} has no parent");
        }
        if let Some(new) = packet.interned_data {
            self.intern(new)?;
        }
        if let Some(event) = packet.track_event {
            ensure!(
                self.cleared && flags & NEEDS_INCREMENTAL_STATE != 0,
                "an event refers to names that are not available"
            );
            ensure!(packet.sequence.is_some_and(|sequence| sequence != 0), "an event without a sequence");
            let time = packet.timestamp.context("an event without a time")?;
            self.event(&event, time, found)?;
        }
        self.records(&packet.records, found)
    }

    fn intern(&mut self, new: InternedData) -> anyhow::Result<()> {
        let add = |known: &mut HashSet<u64>, new: Vec<Name>| {
            new.into_iter().try_for_each(|Name { iid, name }| {
                let iid = iid.filter(|iid| *iid != 0).context("a name without a number")?;
                ensure!(known.len() < MOST_NAMES, "more than {MOST_NAMES} names");
                let name = name.filter(|name| !name.is_empty()).context("an empty name")?;
                ensure!(known.insert(iid), "{name} has the number of another name, {iid}");
                Ok(())
            })
        };
        add(&mut self.categories, new.event_categories)?;
        add(&mut self.names, new.event_names)?;
        add(&mut self.annotations, new.debug_annotation_names)
    }

    fn event(&mut self, event: &TrackEvent, time: u64, found: &mut Checked) -> anyhow::Result<()> {
        let track = event
            .track_uuid
            .filter(|track| self.tracks.contains(track))
            .context("an event without a track")?;
        let (open, last) = self.open.entry(track).or_default();
        ensure!(time >= *last, "time on track {track} goes back from {last} to {time}");
        *last = time;
        let end = match event.r#type {
            Some(SLICE_BEGIN) => {
                *open += 1;
                found.slices += 1;
                false
            }
            Some(SLICE_END) => {
                *open = open.checked_sub(1).context("the end of a slice that did not begin")?;
                true
            }
            Some(INSTANT) => {
                found.instants += 1;
                false
            }
            other => anyhow::bail!("an event of type {other:?}"),
        };
        ensure!(*open <= 1, "an exit within an exit");
        ensure!(
            end || event.name_iid.is_some_and(|iid| self.names.contains(&iid)),
            "an event without a name"
        );
        ensure!(event.category_iids.iter().all(|iid| self.categories.contains(iid)), "an unknown category");
        for annotation in &event.debug_annotations {
            let known = annotation.name_iid.is_some_and(|iid| self.annotations.contains(&iid));
            ensure!(known, "an argument without a name");
            let values = [
                annotation.uint_value.is_some(),
                annotation.pointer_value.is_some(),
                annotation.string_value.is_some(),
            ];
            ensure!(values.iter().filter(|is| **is).count() == 1, "an argument without exactly one value");
        }
        let flows = event.flow_ids.len() + event.terminating_flow_ids.len();
        ensure!(self.flows.len() + flows <= MOST_FLOWS, "more than {MOST_FLOWS} flows: too many to check");
        for flow in &event.flow_ids {
            let flow = self.flows.entry(*flow).or_default();
            (flow.events, flow.last) = (flow.events + 1, flow.last.max(time));
        }
        for number in &event.terminating_flow_ids {
            let flow = self.flows.entry(*number).or_default();
            flow.events += 1;
            ensure!(flow.end.replace(time).is_none(), "flow {number} ends twice");
        }
        Ok(())
    }

    fn records(&mut self, bytes: &[u8], found: &mut Checked) -> anyhow::Result<()> {
        for bytes in bytes.chunks(size_of::<Raw>()) {
            let raw = Raw::read_from_bytes(bytes).ok().context("a partial record")?;
            let record = Record::decode(&raw);
            found.run.has(&record)?;
            let last = self.last.entry(record.vp).or_default();
            ensure!(record.time >= *last, "the records of VP {} are out of order", record.vp);
            *last = record.time;
            let kind = record.what.kind().with_context(|| format!("kind {}", raw.kind))?;
            ensure!(!matches!(record.what, What::Unknown { .. }), "an invalid record of kind {}", raw.kind);
            ensure!(
                (record.vp == NO_VP) == (kind == Kind::Console),
                "a record of kind {} without a VP",
                raw.kind
            );
            *found.records.entry(kind).or_default() += 1;
            found.hypercalls += u64::from(matches!(record.what, What::Hypercall { retry: false, .. }));
        }
        Ok(())
    }
}
