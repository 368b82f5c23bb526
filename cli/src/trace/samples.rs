//! Records for tests.

use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::synic::MessageType;
use hv_trace::{Convention, Payload, Record, Trap, What};

use super::perfetto::Run;

pub(super) const fn record(vp: u32, time: u64, what: What) -> Record {
    Record { time, vp, what }
}

pub(super) const fn exit(vp: u32, time: u64, trap: Trap) -> Record {
    let what = What::Exit { trap, syndrome: 0x5600_0001, pc: 0xffff_8000_0000_1234, address: 0, vectors: 0 };
    record(vp, time, what)
}

pub(super) const fn enter(vp: u32, time: u64) -> Record {
    record(vp, time, What::Enter {})
}

/// Returns a memory-based hypercall that succeeds.
pub(super) const fn call(code: u64) -> What {
    What::Hypercall {
        convention: Convention::Hvc1,
        retry: false,
        control: HypercallInput(code),
        parameters: [0x1000, 0x2000],
        result: HypercallOutput(0),
    }
}

pub(super) const fn hypercall(vp: u32, time: u64, code: u64) -> Record {
    record(vp, time, call(code))
}

/// Returns the delivery of a VMBus message.
pub(super) fn message(target: u32, sint: u8, payload: &[u8]) -> What {
    let (message_type, payload) = (MessageType(1), Payload::new(payload));
    What::MessageDelivered { target, sint, pending: false, message_type, payload }
}

/// Returns a run of two VPs with a counter of 1 GHz that starts at 1000.
pub(super) fn run() -> Run {
    Run {
        version: hv_trace::VERSION,
        vps: 2,
        frequency: 1_000_000_000,
        origin: 1000,
        recorded: vec![0, 0],
        dropped: vec![0, 0],
        left_out: vec![0, 0],
        ..Run::default()
    }
}
