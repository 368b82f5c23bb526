//! The rows of `bare/routines` without a machine: every routine on every VP, over both conventions, against the host
//! model in this process.

#[path = "../../../bare/routines/src/rows/mod.rs"]
mod rows;

use hv_tlfs::time::ReferenceTime;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hv_guest::conduit::{Conduit, Counter, FAST_WORDS, FastOutput};
use hv_guest::interrupts::{Interrupts, Intid};
use hv_guest::page::{Memory, Page};
use hv_guest::tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_guest::tlfs::start_vp::InitialVpContext;
use hv_testbed::{Config, Convention, Effect, Port, PortTarget, Testbed, Wire};
use rows::crash::{Kind, long_text};
use rows::messages::{EVENT_SINT, EVENTS, FLAGS, MESSAGE_SINT, MESSAGES, PORTS};
use rows::{MAX_VPS, Os};

/// An OS of the test's: work on another VP is a call, and time passes when it is waited for.
struct Laptop {
    bed: &'static Testbed,
    convention: Convention,
    vps: usize,
    pages: &'static [Page],
    current: AtomicUsize,
    taken: [[AtomicU64; 256]; MAX_VPS],
    done: Mutex<Vec<String>>,
}

impl Laptop {
    fn new(convention: Convention, vps: usize) -> &'static Self {
        let ports = (0..vps.min(2)).flat_map(|vp| {
            let (base, count) = FLAGS[vp];
            let event = PortTarget::Event { vp: Some(vp), sint: EVENT_SINT, base, count };
            let message = PortTarget::Message { vp: Some(vp), sint: MESSAGE_SINT };
            [Port::new(MESSAGES[vp], PORTS[vp], message), Port::new(EVENTS[vp], 1, event)]
        });
        let bed = Testbed::with_ports(Config::new(62_500_000), vps, ports.collect());
        bed.advance(ReferenceTime(12_345_678));
        bed.set_counter_step(1);
        Box::leak(Box::new(Self {
            bed,
            convention,
            vps,
            pages: bed.pages(rows::PAGES),
            current: AtomicUsize::new(0),
            taken: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            done: Mutex::default(),
        }))
    }

    fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    fn take_interrupts(&self) {
        for (vp, taken) in self.taken.iter().enumerate().take(self.vps) {
            while let Some(intid) = self.bed.take_interrupt(vp) {
                taken[usize::from(intid)].fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The VP that calls, as an instruction acts on the CPU that executes it.
#[derive(Clone, Copy)]
struct ThisVp(&'static Laptop);

impl ThisVp {
    fn wire(&self) -> Wire {
        self.0.bed.wire(self.0.current(), self.0.convention)
    }
}

#[expect(unsafe_code, reason = "as the trait has it; a model is behind it")]
impl Conduit for ThisVp {
    unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        self.wire().raw().call(control, block)
    }

    fn fast_output(&self) -> FastOutput {
        self.wire().fast_output()
    }

    unsafe fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
        self.wire().raw().smccc(function, arguments)
    }
}

impl Counter for ThisVp {
    fn counter(&self) -> u64 {
        self.wire().counter()
    }
}

impl Interrupts for ThisVp {
    fn enable(&self, intid: Intid) {
        self.0.bed.interrupts(self.0.current()).enable(intid);
    }

    fn disable(&self, intid: Intid) {
        self.0.bed.interrupts(self.0.current()).disable(intid);
    }
}

impl Os for ThisVp {
    type Conduit = Self;

    fn conduit(&self) -> Self {
        *self
    }

    fn memory(&self) -> &(impl Memory + Sync) {
        self.0.bed.memory()
    }

    fn pages(&self) -> &'static [Page] {
        self.0.pages
    }

    fn vps(&self) -> usize {
        self.0.vps
    }

    fn on(&self, vp: usize, work: &(dyn Fn() + Sync)) {
        let before = self.0.current.swap(vp, Ordering::Relaxed);
        work();
        self.0.current.store(before, Ordering::Relaxed);
    }

    fn taken(&self, vp: usize, intid: Intid) -> u64 {
        self.0.take_interrupts();
        self.0.taken[vp][usize::from(intid.number())].load(Ordering::Relaxed)
    }

    fn pass(&self) {
        self.0.bed.advance(ReferenceTime(1000));
        self.0.take_interrupts();
    }

    fn intids(&self) -> [Intid; 3] {
        [18, 17, 21].map(|number| Intid::new(number).expect("a number from 16 to 255"))
    }

    fn stop(&self, vp: usize) {
        self.0.bed.switch_off(vp);
        self.0.bed.take_effects();
    }

    fn start_context(&self, vp: usize) -> InitialVpContext {
        InitialVpContext {
            pc: 0x4008_0000,
            sp_elh: 0,
            sctlr_el1: 0x30d0_0800,
            mair_el1: 0,
            tcr_el1: 0,
            vbar_el1: 0,
            ttbr0_el1: 0,
            ttbr1_el1: 0,
            x18: vp as u64,
        }
    }

    fn wait_up(&self, vp: usize) {
        let started = self.0.bed.take_effects();
        let [Effect::Start { vp: started, context }] = started[..] else { panic!("{started:?}") };
        assert_eq!((started, context.pc, context.x18), (vp, 0x4008_0000, vp as u64));
        self.0.bed.switch_on(vp);
    }

    fn done(&self, row: &str) {
        self.0.done.lock().unwrap().push(row.to_owned());
    }
}

fn rows(convention: Convention, vps: usize, kind: Kind) {
    let os = ThisVp(Laptop::new(convention, vps));
    // Twice, as two kernels one after the other.
    for _ in 0..2 {
        rows::run(&os);
        let done = std::mem::take(&mut *os.0.done.lock().unwrap());
        assert_eq!(done.len(), 9, "{done:?}");
    }
    os.0.bed.take_effects();
    rows::crash::report(&os, kind);
    let effects = os.0.bed.take_effects();
    let [Effect::Crash { control, parameters: [11, 12, 13, p3, p4], text }] = &effects[..] else {
        panic!("{effects:?}")
    };
    let long = long_text();
    match kind {
        Kind::Numbers => assert_eq!((*control, *p3, *p4, &text[..]), (1 << 63, 14, 15, &[][..])),
        Kind::Empty => assert_eq!((*control, *p3, *p4, &text[..]), (1 << 63, 0, 0, &[][..])),
        Kind::Long => assert_eq!((*control, *p4, &text[..]), (3 << 62, 4096, &long[5000 - 4096..])),
    }
}

#[test]
fn every_row_on_one_vp() {
    rows(Convention::Smccc, 1, Kind::Numbers);
    rows(Convention::Hvc1, 1, Kind::Empty);
}

#[test]
fn every_row_on_two_vps() {
    rows(Convention::Smccc, 2, Kind::Empty);
    rows(Convention::Hvc1, 2, Kind::Long);
}

#[test]
fn every_row_on_four_vps() {
    rows(Convention::Smccc, 4, Kind::Long);
    rows(Convention::Hvc1, 4, Kind::Numbers);
}
