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

messages! {
    /// One packet.
    pub(super) struct TracePacket {
        /// Nanoseconds.
        pub(super) timestamp: Option<u64> = 8 as optional,
        /// The writer; interned names are valid within a sequence.
        pub(super) sequence: Option<u32> = 10 as optional,
        pub(super) track_event: Option<TrackEvent> = 11 as message,
        pub(super) interned_data: Option<InternedData> = 12 as message,
        pub(super) sequence_flags: Option<u32> = 13 as optional,
        pub(super) track_descriptor: Option<TrackDescriptor> = 60 as message,
        /// An extension, in the range 1000 to 1999 that the schema leaves to others: the description of the run.
        pub(super) run: Option<Run> = 1900 as message,
        /// An extension: [`Raw`](hv_trace::Raw) records in time order.
        pub(super) records: Vec<u8> = 1901 as bytes,
    }

    /// The part of a packet that `hv trace` reads; the rest is skipped.
    pub(super) struct OwnPacket {
        pub(super) run: Option<Run> = 1900 as message,
        pub(super) records: Vec<u8> = 1901 as bytes,
    }

    /// Description of the run; the first packet.
    pub(crate) struct Run {
        /// Version of the records: [`hv_trace::VERSION`].
        pub(crate) version: u32 = 1 as number,
        /// Number of VPs.
        pub(crate) vps: u32 = 2 as number,
        /// Frequency of the records' times in Hz.
        pub(crate) frequency: u64 = 3 as number,
        /// Time at which the guest's counter was 0.
        pub(crate) origin: u64 = 4 as number,
        /// Number of records that each VP wrote.
        pub(crate) recorded: Vec<u64> = 5 as packed,
        /// Number of records that each VP dropped because its ring was full.
        pub(crate) dropped: Vec<u64> = 6 as packed,
        /// The rules of the fault plan.
        pub(crate) rules: Vec<PlanRule> = 7 as messages,
        /// Number of records of each VP that are not in the file, because it has reached its maximum size. Known at the
        /// end: a second packet of this kind ends a trace with missing records.
        pub(crate) left_out: Vec<u64> = 8 as packed,
        /// The guest's memory: first address.
        pub(crate) ram_base: u64 = 9 as number,
        /// Its size in bytes.
        pub(crate) ram_size: u64 = 10 as number,
        /// Number of console records, created by the tool.
        pub(crate) console: u64 = 11 as number,
        /// Names of guest addresses, if symbols are known.
        pub(crate) places: Vec<NamedPlace> = 12 as messages,
    }

    /// A guest address.
    pub(crate) struct NamedPlace {
        /// Its address.
        pub(crate) pc: u64 = 1 as number,
        /// Symbol and offset.
        pub(crate) name: String = 2 as text,
    }

    /// A rule of a fault plan.
    pub(crate) struct PlanRule {
        /// The rule as the user wrote it.
        pub(crate) rule: String = 1 as text,
        /// How often it fired.
        pub(crate) fired: u64 = 2 as number,
    }

    /// An event on a track.
    pub(super) struct TrackEvent {
        pub(super) category_iids: Vec<u64> = 3 as numbers,
        pub(super) debug_annotations: Vec<DebugAnnotation> = 4 as messages,
        pub(super) r#type: Option<i32> = 9 as optional,
        pub(super) name_iid: Option<u64> = 10 as optional,
        pub(super) track_uuid: Option<u64> = 11 as optional,
        /// Flows that begin at this event or pass through it.
        pub(super) flow_ids: Vec<u64> = 47 as fixed,
        /// Flows that end at this event.
        pub(super) terminating_flow_ids: Vec<u64> = 48 as fixed,
    }

    /// An argument of an event.
    pub(super) struct DebugAnnotation {
        pub(super) name_iid: Option<u64> = 1 as optional,
        pub(super) uint_value: Option<u64> = 3 as optional,
        pub(super) string_value: Option<String> = 6 as optional_text,
        /// Shown in hexadecimal.
        pub(super) pointer_value: Option<u64> = 7 as optional,
    }

    /// Names that events refer to by number.
    pub(super) struct InternedData {
        pub(super) event_categories: Vec<Name> = 1 as messages,
        pub(super) event_names: Vec<Name> = 2 as messages,
        pub(super) debug_annotation_names: Vec<Name> = 3 as messages,
    }

    /// `EventCategory`, `EventName` and `DebugAnnotationName`, which have the same form.
    pub(super) struct Name {
        pub(super) iid: Option<u64> = 1 as optional,
        pub(super) name: Option<String> = 2 as optional_text,
    }

    /// A track.
    pub(super) struct TrackDescriptor {
        pub(super) uuid: Option<u64> = 1 as optional,
        pub(super) name: Option<String> = 2 as optional_text,
        pub(super) process: Option<ProcessDescriptor> = 3 as message,
        pub(super) thread: Option<ThreadDescriptor> = 4 as message,
        pub(super) parent_uuid: Option<u64> = 5 as optional,
    }

    /// The partition, as a process.
    pub(super) struct ProcessDescriptor {
        pub(super) pid: Option<i32> = 1 as optional,
        pub(super) process_name: Option<String> = 6 as optional_text,
    }

    /// A VP, as a thread.
    pub(super) struct ThreadDescriptor {
        pub(super) pid: Option<i32> = 1 as optional,
        pub(super) tid: Option<i32> = 2 as optional,
        pub(super) thread_name: Option<String> = 5 as optional_text,
    }
}
