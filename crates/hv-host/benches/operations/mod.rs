//! The operations that are measured, on a partition in process.
//!
//! The embedder here does nothing that the partition does not ask for, so that the figures are the partition's own.

// Each bench uses a part of them.
#![allow(dead_code)]

use std::hint::black_box;

use hv_host::{Action, Config, Connections, GuestMemory as _, Host as _, Partition, Port, PortTarget, Vp};
use hv_partition::testing::{Effect, Memory, TestHost, Watch};
use hv_tlfs::hypercall::{HypercallCode as Code, HypercallInput};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};

/// Bytes of memory that each VP has: input of hypercalls, message page, event flags page.
const OF_VP: u64 = 0x3000;
const TSC: u64 = 0;
pub(crate) const SINT: u8 = 3;
/// VPs whose number the cost of an operation may depend on.
const COUNTS: [usize; 4] = [2, 8, 64, 120];

/// Sees nothing, and has no connections.
pub(crate) struct Blind;

impl Watch for Blind {
    fn effect(&self, _: Effect) {}

    fn interrupt(&self, _: usize, _: u32) {}
}

impl Connections for Blind {
    fn post_message(&self, _: usize, _: u32, _: MessageType, _: &[u8]) -> Result<(), HvStatus> {
        Err(HvStatus::INVALID_CONNECTION_ID)
    }

    fn signal_event(&self, _: usize, _: u32, _: u16) -> Result<(), HvStatus> {
        Err(HvStatus::INVALID_CONNECTION_ID)
    }

    fn buffer_freed(&self, _: usize) {}
}

/// What measures: criterion's clock, or valgrind.
pub(crate) trait Measure {
    /// Measures an operation. `step`: does it once.
    fn operation<T>(&mut self, name: &str, step: impl FnMut() -> T);
}

pub(crate) struct Bench<'a> {
    pub(crate) partition: Partition<'a, parking_lot::RawMutex>,
    pub(crate) host: TestHost<Blind>,
}

impl Bench<'_> {
    #[inline(always)]
    fn hvc(&self, vp: usize, x: &mut [u64; 31]) {
        black_box(self.partition.hvc(&self.host, vp, 0, black_box(x)) == Action::Resume);
    }

    /// Issues a hypercall by `hvc #0` in registers that are reused: it changes nothing of its input but X0.
    #[inline(always)]
    pub(crate) fn again(&self, vp: usize, x: &mut [u64; 31]) -> u64 {
        x[0] = u64::from(HYPERCALL);
        self.hvc(vp, x);
        x[0]
    }

    /// Calls a function of SMCCC.
    #[inline(always)]
    fn smccc(&self, vp: usize, x: &mut [u64; 31], function: u32) -> u64 {
        x[0] = u64::from(function);
        self.hvc(vp, x);
        x[0]
    }

    fn set(&self, vp: usize, name: Name, value: u64) {
        let mut x = set_one(name, value);
        assert_eq!(self.again(vp, &mut x), 1 << 32, "{name:?}");
    }

    /// Clears a word of the guest's memory, as the guest does.
    #[inline(always)]
    pub(crate) fn clear(&self, gpa: u64) {
        self.host.memory().store_release(gpa, 0).expect("in memory");
    }

    /// Writes the input of a post of 240 bytes to the VP itself, and returns the registers of the call.
    pub(crate) fn post_input(&self, vp: usize) -> [u64; 31] {
        let mut input = [0u8; 256];
        for (n, word) in [message_port(vp), 0, 1, 240].into_iter().enumerate() {
            input[n * 4..n * 4 + 4].copy_from_slice(&word.to_le_bytes());
        }
        self.host.memory().write(base(vp), &input).expect("in memory");
        call(HypercallInput::from_code(Code::POST_MESSAGE), &[base(vp)])
    }
}

/// Returns the first address of what a VP has.
const fn base(vp: usize) -> u64 {
    0x1000 + vp as u64 * OF_VP
}

/// Returns the address of the word of a VP's message slot that is 0 when the slot is free.
pub(crate) const fn slot(vp: usize) -> u64 {
    base(vp) + 0x1000 + SINT as u64 * 256
}

/// Returns the address of a VP's event flags.
pub(crate) const fn flags(vp: usize) -> u64 {
    base(vp) + 0x2000 + SINT as u64 * 256
}

/// Returns the connection of a VP's messages to itself.
const fn message_port(vp: usize) -> u32 {
    0x100 + 2 * vp as u32
}

/// Returns the registers of a hypercall.
pub(crate) fn call(control: HypercallInput, input: &[u64]) -> [u64; 31] {
    let mut x = [0; 31];
    x[1] = control.0;
    x[2..2 + input.len()].copy_from_slice(input);
    x
}

/// Returns the registers of a hypercall whose input is in them.
fn fast(code: Code, input: &[u64]) -> [u64; 31] {
    call(HypercallInput::from_code(code).with_fast(true), input)
}

pub(crate) fn get_one(name: Name) -> [u64; 31] {
    let input = [PARTITION_ID_SELF, VP_INDEX_SELF.into(), name.0.into()];
    let control = HypercallInput::from_code(Code::GET_VP_REGISTERS).with_fast(true).with_rep_count(1);
    call(control, &input)
}

pub(crate) fn set_one(name: Name, value: u64) -> [u64; 31] {
    let input = [PARTITION_ID_SELF, VP_INDEX_SELF.into(), name.0.into(), 0, value];
    let control = HypercallInput::from_code(Code::SET_VP_REGISTERS).with_fast(true).with_rep_count(1);
    call(control, &input)
}

/// Runs `test` with a partition of this many VPs, each with its SynIC on and connections to itself.
pub(crate) fn with<R>(count: usize, test: impl FnOnce(&Bench<'_>) -> R) -> R {
    let vps: Vec<_> = (0..count).map(|_| Vp::new()).collect();
    let to_itself = |vp: usize| {
        let message = PortTarget::Message { vp: Some(vp), sint: SINT };
        let event = PortTarget::Event { vp: Some(vp), sint: SINT, base: 0, count: 64 };
        let id = message_port(vp);
        [Port::new(id, 7, message), Port::new(id + 1, 8, event)]
    };
    let ports: Vec<_> = (0..count).flat_map(to_itself).collect();
    let host = TestHost::with(count, Memory::new(0, base(count)), Blind);
    let bench = Bench { partition: Partition::new(Config::new(62_500_000), &vps, &ports), host };
    bench.partition.reset(&bench.host);
    for vp in 0..count {
        bench.partition.vp_online(&bench.host, vp);
        if vp == 0 {
            bench.set(vp, Name::GUEST_OS_ID, 1);
        }
        bench.set(vp, Name::SIMP, (base(vp) + 0x1000) | 1);
        bench.set(vp, Name::SIEFP, (base(vp) + 0x2000) | 1);
        bench.set(vp, Name::sint(SINT), 18);
        bench.set(vp, Name::SCONTROL, 1);
    }
    test(&bench)
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
