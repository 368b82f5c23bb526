//! Time of the hot paths in process: `cargo bench -p hv-host`.
//!
//! The embedder here does nothing that the partition does not ask for, so that the figures are the partition's own.

use std::hint::black_box;

use criterion::Criterion;
use hv_host::{Config, Connections, GuestMemory as _, Host as _, Partition, Port, PortTarget, Vp};
use hv_partition::testing::{Effect, Memory, TestHost, Watch};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};

const SIZE: u64 = 0x10000;
const INPUT: u64 = 0x1000;
const SIMP: u64 = 0x4000;
const SIEFP: u64 = 0x5000;
const TSC: u64 = 0x6000;
const SINT: u8 = 3;

/// Sees nothing, and has no connections.
struct Blind;

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

struct Bench<'a> {
    partition: Partition<'a, parking_lot::RawMutex>,
    host: TestHost<Blind>,
}

impl Bench<'_> {
    #[inline(always)]
    fn hvc(&self, immediate: u16, x: &mut [u64; 31]) {
        black_box(self.partition.hvc(&self.host, 0, immediate, black_box(x)) == hv_host::Action::Resume);
    }

    /// Issues a hypercall by `hvc #0` in registers that are reused: it changes nothing of its input but X0.
    #[inline(always)]
    fn again(&self, x: &mut [u64; 31]) -> u64 {
        x[0] = u64::from(HYPERCALL);
        self.hvc(0, x);
        x[0]
    }

    fn set(&self, name: Name, value: u64) {
        let mut x = set_one(name, value);
        self.hvc(0, &mut x);
        assert_eq!(x[0], 1 << 32, "{name:?}");
    }
}

fn get_one(name: Name) -> [u64; 31] {
    let mut x = [0; 31];
    x[0] = u64::from(HYPERCALL);
    x[1] = 0x1_0001_0050;
    x[2] = PARTITION_ID_SELF;
    x[3] = u64::from(VP_INDEX_SELF);
    x[4] = u64::from(name.0);
    x
}

fn set_one(name: Name, value: u64) -> [u64; 31] {
    let mut x = get_one(name);
    x[1] = 0x1_0001_0051;
    x[6] = value;
    x
}

fn with(test: impl FnOnce(&Bench<'_>)) {
    let vps = [Vp::new(), Vp::new()];
    let ports = [
        Port::new(0x100, 7, PortTarget::Message { vp: Some(0), sint: SINT }),
        Port::new(0x101, 8, PortTarget::Event { vp: Some(0), sint: SINT, base: 0, count: 64 }),
    ];
    let host = TestHost::with(1, Memory::new(0, SIZE), Blind);
    let bench = Bench { partition: Partition::new(Config::new(62_500_000), &vps, &ports), host };
    bench.partition.reset(&bench.host);
    bench.partition.vp_online(&bench.host, 0);
    bench.set(Name::GUEST_OS_ID, 1);
    bench.set(Name::SIMP, SIMP | 1);
    bench.set(Name::SIEFP, SIEFP | 1);
    bench.set(Name::sint(SINT), 18);
    bench.set(Name::SCONTROL, 1);
    test(&bench);
}

fn registers(c: &mut Criterion) {
    with(|bench| {
        for (name, register) in
            [("VP_INDEX", Name::VP_INDEX), ("TIME_REF_COUNT", Name::TIME_REF_COUNT), ("SINT2", Name::SINT2)]
        {
            let mut x = get_one(register);
            c.bench_function(&format!("fast get of {name}"), |b| {
                b.iter(|| bench.again(&mut x));
            });
        }
        for (name, register, value) in [("EOM", Name::EOM, 0), ("SINT4", Name::SINT4, 20)] {
            let mut x = set_one(register, value);
            c.bench_function(&format!("fast set of {name}"), |b| {
                b.iter(|| bench.again(&mut x));
            });
        }
        c.bench_function("PSCI_VERSION", |b| {
            let mut x = [0; 31];
            b.iter(|| {
                x[0] = 0x8400_0000;
                bench.hvc(0, &mut x);
                x[0]
            });
        });
    });
}

fn post_input(bench: &Bench<'_>) -> [u64; 31] {
    let mut input = [0u8; 256];
    for (n, word) in [0x100u32, 0, 1, 240].into_iter().enumerate() {
        input[n * 4..n * 4 + 4].copy_from_slice(&word.to_le_bytes());
    }
    bench.host.memory().write(INPUT, &input).expect("in memory");
    let mut x = [0; 31];
    x[0] = u64::from(HYPERCALL);
    x[1] = 0x5c;
    x[2] = INPUT;
    x
}

fn messages(c: &mut Criterion) {
    with(|bench| {
        let mut x = post_input(bench);
        let slot = SIMP + u64::from(SINT) * 256;
        c.bench_function("post of 240 bytes into a free slot", |b| {
            b.iter(|| {
                assert_eq!(bench.again(&mut x), 0);
                bench.host.memory().store_release(slot, 0).expect("in memory");
            });
        });
        let mut eom = set_one(Name::EOM, 0);
        c.bench_function("post of 240 bytes to slot to EOM", |b| {
            b.iter(|| {
                assert_eq!(bench.again(&mut x), 0);
                bench.host.memory().store_release(slot, 0).expect("in memory");
                bench.again(&mut eom);
            });
        });
        bench.again(&mut x);
        c.bench_function("post of 240 bytes through the queue to EOM", |b| {
            b.iter(|| {
                assert_eq!(bench.again(&mut x), 0);
                bench.host.memory().store_release(slot, 0).expect("in memory");
                bench.again(&mut eom);
            });
        });
    });
}

fn events(c: &mut Criterion) {
    with(|bench| {
        let mut x = [0; 31];
        x[1] = 0x1_005d;
        x[2] = 0x101;
        let word = SIEFP + u64::from(SINT) * 256;
        c.bench_function("signal of an event", |b| {
            b.iter(|| {
                assert_eq!(bench.again(&mut x), 0);
                bench.host.memory().store_release(word, 0).expect("in memory");
            });
        });
    });
}

fn timers(c: &mut Criterion) {
    with(|bench| {
        bench.set(Name::STIMER0_CONFIG, 8 | 1 << 12 | 17 << 4);
        let mut time = 0;
        let mut x = set_one(Name::STIMER0_COUNT, 0);
        c.bench_function("one-shot timer by hypercall, armed and expired", |b| {
            b.iter(|| {
                time += 100;
                x[6] = time;
                bench.again(&mut x);
                bench.host.set_counter(bench.host.deadline(0).unwrap_or(u64::MAX));
                bench.partition.timer_expired(&bench.host, 0);
            });
        });
    });
}

fn time(c: &mut Criterion) {
    with(|bench| {
        bench.set(Name::REFERENCE_TSC, TSC | 1);
        c.bench_function("reference time", |b| {
            b.iter(|| black_box(&bench.partition).reference_time(&bench.host));
        });
        c.bench_function("clock update", |b| {
            b.iter(|| {
                black_box(&bench.partition).migrate(&bench.host, black_box(62_500_000), ReferenceTime(5));
            });
        });
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    registers(&mut criterion);
    messages(&mut criterion);
    events(&mut criterion);
    timers(&mut criterion);
    time(&mut criterion);
    criterion.final_summary();
}
