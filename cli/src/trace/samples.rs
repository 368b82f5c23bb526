//! Records for tests.

use hv_wire::{TraceKind, TraceRecord, Trap};

use super::perfetto::Run;

pub(super) fn record(vp: u32, time: u64, kind: TraceKind, values: [u64; 6]) -> TraceRecord {
    TraceRecord { time, kind: kind as u32, vp, values }
}

pub(super) fn exit(vp: u32, time: u64, trap: Trap) -> TraceRecord {
    record(vp, time, TraceKind::Exit, [trap as u64, 0x5600_0001, 0xffff_8000_0000_1234, 0, 0, 0])
}

pub(super) fn enter(vp: u32, time: u64) -> TraceRecord {
    record(vp, time, TraceKind::Enter, [0; 6])
}

/// A hypercall in memory form that succeeds.
pub(super) fn hypercall(vp: u32, time: u64, code: u64) -> TraceRecord {
    record(vp, time, TraceKind::Hypercall, [code, 0x1000, 0x2000, 0, 1, 0])
}

/// A run of two VPs with a counter of 1 GHz that starts at 1000.
pub(super) fn run() -> Run {
    Run {
        version: hv_wire::VERSION,
        vps: 2,
        frequency: 1_000_000_000,
        origin: 1000,
        recorded: vec![0, 0],
        dropped: vec![0, 0],
        rules: Vec::new(),
        left_out: vec![0, 0],
    }
}
