//! The operations that are measured.

use std::hint::black_box;

use hv_host::GuestMemory as _;
use hv_partition::testing::Memory;
use hv_tlfs::hypercall::{HypercallCode as Code, HypercallInput};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::time::ReferenceTime;

use crate::common::{SINT, base, call, get_one, message_port, set_one, slot, with};

/// VPs whose number the cost of an operation may depend on.
const COUNTS: [usize; 4] = [2, 8, 64, 120];
/// Place of the reference TSC page.
const TSC: u64 = 0;

/// What measures: criterion's clock, or valgrind.
pub(crate) trait Measure {
    /// Measures an operation. `step`: does it once.
    fn operation<T>(&mut self, name: &str, step: impl FnMut() -> T);
}

/// Returns the address of a VP's event flags.
const fn flags(vp: usize) -> u64 {
    base(vp) + 0x2000 + SINT as u64 * 256
}

/// Returns the registers of a hypercall whose input is in them.
fn fast(code: Code, input: &[u64]) -> [u64; 31] {
    call(HypercallInput::from_code(code).with_fast(true), input)
}

/// Measures all operations.
pub(crate) fn all(measure: &mut impl Measure) {
    registers(measure);
    messages(measure);
    copies(measure);
    events(measure);
    timers(measure);
    time(measure);
    for count in COUNTS {
        to_all(measure, count);
    }
}

fn registers(measure: &mut impl Measure) {
    with(1, |bench| {
        for (name, register) in
            [("VP_INDEX", Name::VP_INDEX), ("TIME_REF_COUNT", Name::TIME_REF_COUNT), ("SINT2", Name::SINT2)]
        {
            let mut x = get_one(register);
            measure.operation(&format!("fast get of {name}"), || bench.again(0, &mut x));
        }
        for (name, register, value) in [("EOM", Name::EOM, 0), ("SINT4", Name::SINT4, 20)] {
            let mut x = set_one(register, value);
            measure.operation(&format!("fast set of {name}"), || bench.again(0, &mut x));
        }
        let mut x = [0; 31];
        measure.operation("PSCI_VERSION", || bench.smccc(0, &mut x, hv_host::psci::VERSION));
    });
}

fn messages(measure: &mut impl Measure) {
    with(1, |bench| {
        let mut x = bench.post_input(0);
        let slot = slot(0);
        measure.operation("post of 240 bytes into a free slot", || {
            assert_eq!(bench.again(0, &mut x), 0);
            bench.clear(slot);
        });
        let mut eom = set_one(Name::EOM, 0);
        let mut round = || {
            assert_eq!(bench.again(0, &mut x), 0);
            bench.clear(slot);
            bench.again(0, &mut eom)
        };
        measure.operation("post of 240 bytes to slot to EOM", &mut round);
        let mut first = bench.post_input(0);
        bench.again(0, &mut first);
        measure.operation("post of 240 bytes through the queue to EOM", round);
    });
}

/// Measures what the embedder's memory takes of a post: it copies word by word.
fn copies(measure: &mut impl Measure) {
    let memory = Memory::new(0, 0x1000);
    let mut bytes = [0; 256];
    measure.operation("the memory's part of a post of 240 bytes", || {
        memory.read(0x100, black_box(&mut bytes)).expect("in memory");
        memory.write(0x200, black_box(&bytes)).expect("in memory");
    });
}

fn events(measure: &mut impl Measure) {
    with(1, |bench| {
        let mut x = fast(Code::SIGNAL_EVENT, &[u64::from(message_port(0)) + 1]);
        let word = flags(0);
        measure.operation("signal of an event", || {
            assert_eq!(bench.again(0, &mut x), 0);
            bench.clear(word);
        });
    });
}

fn timers(measure: &mut impl Measure) {
    with(1, |bench| {
        bench.set(0, Name::STIMER0_CONFIG, 8 | 1 << 12 | 17 << 4);
        let mut time = 0;
        let mut x = set_one(Name::STIMER0_COUNT, 0);
        measure.operation("one-shot timer by hypercall, armed and expired", || {
            time += 100;
            x[6] = time;
            bench.again(0, &mut x);
            bench.host.set_counter(bench.host.deadline(0).unwrap_or(u64::MAX));
            bench.partition.timer_expired(&bench.host, 0);
        });
    });
}

fn time(measure: &mut impl Measure) {
    with(1, |bench| {
        bench.set(0, Name::REFERENCE_TSC, TSC | 1);
        measure.operation("reference time", || black_box(&bench.partition).reference_time(&bench.host));
        measure.operation("clock update", || {
            black_box(&bench.partition).migrate(&bench.host, black_box(62_500_000), ReferenceTime(5));
        });
    });
}

/// Measures what concerns all VPs, of which there are `count`.
fn to_all(measure: &mut impl Measure, count: usize) {
    with(count, |bench| {
        let mut all = |what: &str, mut x: [u64; 31]| {
            measure.operation(&format!("{what} of {count} VPs"), || assert_eq!(bench.again(0, &mut x), 0));
        };
        // A set in format 1 is all VPs (TLFS, "HV_VP_SET").
        all("IPI to all", fast(Code::SEND_IPI_EX, &[0x20, 1, 0]));
        all("flush of all", fast(Code::FLUSH_VIRTUAL_ADDRESS_SPACE_EX, &[0, 2, 1, 0]));
        let last = count - 1;
        let mut x = [0; 31];
        measure.operation(&format!("CPU_OFF and CPU_ON of the last of {count} VPs"), || {
            bench.smccc(last, &mut x, hv_host::psci::CPU_OFF);
            bench.partition.vp_offline(&bench.host, last);
            (x[1], x[2]) = (bench.partition.config().mpidr(last), 0x1000);
            assert_eq!(bench.smccc(0, &mut x, hv_host::psci::CPU_ON | hv_host::psci::SMC64), 0);
            bench.partition.vp_online(&bench.host, last);
        });
    });
}
