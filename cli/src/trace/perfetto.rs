//! The messages of Perfetto's trace format that are used here.
//!
//! Source: Perfetto, `protos/perfetto/trace/perfetto_trace.proto`, whose field numbers never change. Unneeded fields
//! are omitted, as Protocol Buffers allow. A file is a `Trace`: a sequence of packets with tag 1.

/// Tag and wire type of `Trace.packet`.
pub(super) const PACKET: u8 = 1 << 3 | 2;

/// `TracePacket.sequence_flags`: earlier interned names are no longer valid.
pub(super) const INCREMENTAL_STATE_CLEARED: u32 = 1;
/// `TracePacket.sequence_flags`: the packet refers to interned names.
pub(super) const NEEDS_INCREMENTAL_STATE: u32 = 2;

/// `TrackEvent.Type`: a slice begins.
pub(super) const SLICE_BEGIN: i32 = 1;
/// `TrackEvent.Type`: the most recently started slice ends.
pub(super) const SLICE_END: i32 = 2;
/// `TrackEvent.Type`: an event without duration.
pub(super) const INSTANT: i32 = 3;

/// One packet.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TracePacket {
    /// Nanoseconds.
    #[prost(uint64, optional, tag = "8")]
    pub(super) timestamp: Option<u64>,
    /// The writer; interned names are valid within a sequence.
    #[prost(uint32, optional, tag = "10")]
    pub(super) sequence: Option<u32>,
    #[prost(message, optional, tag = "11")]
    pub(super) track_event: Option<TrackEvent>,
    #[prost(message, optional, tag = "12")]
    pub(super) interned_data: Option<InternedData>,
    #[prost(uint32, optional, tag = "13")]
    pub(super) sequence_flags: Option<u32>,
    #[prost(message, optional, tag = "60")]
    pub(super) track_descriptor: Option<TrackDescriptor>,
    /// An extension, in the range 1000 to 1999 that the schema leaves to others: the description of the run.
    #[prost(message, optional, tag = "1900")]
    pub(super) run: Option<Run>,
    /// An extension: [`Raw`](hv_trace::Raw) records in time order.
    #[prost(bytes = "vec", tag = "1901")]
    pub(super) records: Vec<u8>,
}

/// The part of a packet that `hv trace` reads; the rest is skipped.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct OwnPacket {
    #[prost(message, optional, tag = "1900")]
    pub(super) run: Option<Run>,
    #[prost(bytes = "vec", tag = "1901")]
    pub(super) records: Vec<u8>,
}

/// Description of the run; the first packet.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Run {
    /// Version of the records: [`hv_trace::VERSION`].
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    /// Number of VPs.
    #[prost(uint32, tag = "2")]
    pub(crate) vps: u32,
    /// Frequency of the records' times in Hz.
    #[prost(uint64, tag = "3")]
    pub(crate) frequency: u64,
    /// Time at which the guest's counter was 0.
    #[prost(uint64, tag = "4")]
    pub(crate) origin: u64,
    /// Number of records that each VP wrote.
    #[prost(uint64, repeated, tag = "5")]
    pub(crate) recorded: Vec<u64>,
    /// Number of records that each VP dropped because its ring was full.
    #[prost(uint64, repeated, tag = "6")]
    pub(crate) dropped: Vec<u64>,
    /// The rules of the fault plan.
    #[prost(message, repeated, tag = "7")]
    pub(crate) rules: Vec<PlanRule>,
    /// Number of records of each VP that are not in the file, because it has reached its maximum size. Known at the
    /// end: a second packet of this kind ends a trace with missing records.
    #[prost(uint64, repeated, tag = "8")]
    pub(crate) left_out: Vec<u64>,
    /// The guest's memory: first address.
    #[prost(uint64, tag = "9")]
    pub(crate) ram_base: u64,
    /// Its size in bytes.
    #[prost(uint64, tag = "10")]
    pub(crate) ram_size: u64,
    /// Number of console records, created by the tool.
    #[prost(uint64, tag = "11")]
    pub(crate) console: u64,
    /// Names of guest addresses, if symbols are known.
    #[prost(message, repeated, tag = "12")]
    pub(crate) places: Vec<NamedPlace>,
}

/// A guest address.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NamedPlace {
    /// Its address.
    #[prost(uint64, tag = "1")]
    pub(crate) pc: u64,
    /// Symbol and offset.
    #[prost(string, tag = "2")]
    pub(crate) name: String,
}

/// A rule of a fault plan.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PlanRule {
    /// The rule as the user wrote it.
    #[prost(string, tag = "1")]
    pub(crate) rule: String,
    /// How often it fired.
    #[prost(uint64, tag = "2")]
    pub(crate) fired: u64,
}

/// An event on a track.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TrackEvent {
    #[prost(uint64, repeated, packed = "false", tag = "3")]
    pub(super) category_iids: Vec<u64>,
    #[prost(message, repeated, tag = "4")]
    pub(super) debug_annotations: Vec<DebugAnnotation>,
    #[prost(int32, optional, tag = "9")]
    pub(super) r#type: Option<i32>,
    #[prost(uint64, optional, tag = "10")]
    pub(super) name_iid: Option<u64>,
    #[prost(uint64, optional, tag = "11")]
    pub(super) track_uuid: Option<u64>,
    /// Flows that begin at this event or pass through it.
    #[prost(fixed64, repeated, packed = "false", tag = "47")]
    pub(super) flow_ids: Vec<u64>,
    /// Flows that end at this event.
    #[prost(fixed64, repeated, packed = "false", tag = "48")]
    pub(super) terminating_flow_ids: Vec<u64>,
}

/// An argument of an event.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DebugAnnotation {
    #[prost(uint64, optional, tag = "1")]
    pub(super) name_iid: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub(super) uint_value: Option<u64>,
    #[prost(string, optional, tag = "6")]
    pub(super) string_value: Option<String>,
    /// Shown in hexadecimal.
    #[prost(uint64, optional, tag = "7")]
    pub(super) pointer_value: Option<u64>,
}

/// Names that events refer to by number.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct InternedData {
    #[prost(message, repeated, tag = "1")]
    pub(super) event_categories: Vec<Name>,
    #[prost(message, repeated, tag = "2")]
    pub(super) event_names: Vec<Name>,
    #[prost(message, repeated, tag = "3")]
    pub(super) debug_annotation_names: Vec<Name>,
}

/// `EventCategory`, `EventName` and `DebugAnnotationName`, which have the same form.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Name {
    #[prost(uint64, optional, tag = "1")]
    pub(super) iid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    pub(super) name: Option<String>,
}

/// A track.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TrackDescriptor {
    #[prost(uint64, optional, tag = "1")]
    pub(super) uuid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    pub(super) name: Option<String>,
    #[prost(message, optional, tag = "3")]
    pub(super) process: Option<ProcessDescriptor>,
    #[prost(message, optional, tag = "4")]
    pub(super) thread: Option<ThreadDescriptor>,
    #[prost(uint64, optional, tag = "5")]
    pub(super) parent_uuid: Option<u64>,
}

/// The partition, as a process.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ProcessDescriptor {
    #[prost(int32, optional, tag = "1")]
    pub(super) pid: Option<i32>,
    #[prost(string, optional, tag = "6")]
    pub(super) process_name: Option<String>,
}

/// A VP, as a thread.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ThreadDescriptor {
    #[prost(int32, optional, tag = "1")]
    pub(super) pid: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    pub(super) tid: Option<i32>,
    #[prost(string, optional, tag = "5")]
    pub(super) thread_name: Option<String>,
}
