//! The partition of `hv-host` as an environment: what is tested and who tests it in one process.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hv_conformance::{Convention, CrashReport, Env, Exception, PAGES, loopback};
use hv_guest::conduit::{Conduit, FAST_WORDS, FastOutput};
use hv_host::testing::{Effect, Machine, RAM, run_bare};
use hv_host::{Action, Config, Flush, GuestMemory, Host, Port, PortTarget};
use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::start_vp::InitialVpContext;

/// First scratch page.
const SCRATCH: u64 = RAM + 0x1000;
/// The interrupts that the suite may use.
const INTIDS: [u32; 3] = [18, 17, 20];
/// Virtual address of the window, and the translation table base that translates it.
const WINDOW: u64 = 0x7000_0000;
const ADDRESS_SPACE: u64 = 0x4_2000;
/// More executions of one `hvc` than any list has elements.
const PATIENCE: usize = 10_000;

/// Pages at the window: no translation cached.
const NOT_CACHED: usize = usize::MAX;

/// A VP's side of the machine.
struct VpState {
    /// Interrupts taken, by INTID.
    taken: Vec<AtomicU64>,
    /// Interrupts that it listens to.
    listens: Vec<AtomicU64>,
    /// The translation of the window that its TLB holds.
    tlb: AtomicUsize,
}

/// An environment around a machine.
pub(crate) struct InProcess<'m> {
    machine: &'m Machine<'m>,
    convention: Convention,
    conduit: Wire<'m>,
    vps: Vec<VpState>,
    /// What the translation tables say.
    window: AtomicUsize,
    crash: Mutex<Option<CrashReport>>,
    started: Mutex<Vec<usize>>,
    frequency: AtomicU64,
}

/// The conduit: registers of one `hvc`.
struct Wire<'m> {
    machine: &'m Machine<'m>,
    current: AtomicUsize,
    convention: Convention,
}

impl Wire<'_> {
    fn vp(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    fn hvc(&self, immediate: u16, x: &mut [u64; 31]) -> Result<(), Exception> {
        for _ in 0..PATIENCE {
            match self.machine.hvc(self.vp(), immediate, x) {
                Action::Retry => {}
                Action::Resume | Action::Suspend => return Ok(()),
                Action::Undefined => return Err(Exception { undefined: true }),
                _ => return Err(Exception { undefined: false }),
            }
        }
        panic!("an hvc is repeated for ever");
    }
}

impl Conduit for Wire<'_> {
    fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        let mut x = [0; 31];
        let first = self.convention.control();
        x[0] = HYPERCALL.into();
        x[first] = control.0;
        x[first + 1..first + 1 + FAST_WORDS].copy_from_slice(block);
        let done = self.hvc(self.convention.immediate(), &mut x);
        assert!(done.is_ok(), "a hypercall met an exception");
        block.copy_from_slice(&x[first + 1..first + 1 + FAST_WORDS]);
        HypercallOutput(x[0])
    }

    fn fast_output(&self) -> FastOutput {
        match self.convention {
            Convention::Smccc => FastOutput::AfterInput,
            Convention::Hvc1 => FastOutput::Last,
        }
    }

    fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
        let mut x = [0; 31];
        x[0] = function.into();
        x[1..4].copy_from_slice(&arguments);
        let done = self.hvc(0, &mut x);
        assert!(done.is_ok(), "an SMCCC call met an exception");
        [x[0], x[1], x[2], x[3]]
    }
}

/// The connections of [`loopback`].
pub(crate) fn ports(vps: usize) -> Vec<Port> {
    let message = |vp, sint| PortTarget::Message { vp, sint };
    let event = |vp, base, count| PortTarget::Event { vp, sint: loopback::EVENT_SINT, base, count };
    let mut ports = vec![
        Port::new(loopback::MESSAGE, loopback::MESSAGE_PORT, message(Some(0), loopback::MESSAGE_SINT)),
        Port::new(loopback::MESSAGE_TO_ANY, 3, message(None, loopback::MESSAGE_SINT)),
        Port::new(loopback::MESSAGE_SECOND, 4, message(Some(0), loopback::SECOND_SINT)),
        Port::new(loopback::EVENT, 11, event(Some(0), loopback::EVENT_BASE, loopback::EVENT_COUNT)),
        Port::new(loopback::EVENT_TO_ANY, 13, event(None, 0, 2048)),
        Port::new(loopback::DELETED, 21, PortTarget::Deleted),
    ];
    if vps > 1 {
        ports.push(Port::new(loopback::MESSAGE_TO_VP1, 2, message(Some(1), loopback::MESSAGE_SINT)));
        ports.push(Port::new(loopback::EVENT_TO_VP1, 12, event(Some(1), 0, 2048)));
    }
    ports
}

/// Runs `test` in an environment with VPs that all run, around a partition as it is after reset.
pub(crate) fn with<R>(
    config: Config,
    vps: usize,
    convention: Convention,
    test: impl FnOnce(&InProcess<'_>) -> R,
) -> R {
    let ports = ports(vps);
    run_bare(config, vps, &ports, |machine| {
        machine.host.set_counter_step(1);
        for vp in 0..vps {
            machine.online(vp);
        }
        test(&InProcess {
            machine,
            convention,
            conduit: Wire { machine, current: AtomicUsize::new(0), convention },
            vps: (0..vps)
                .map(|_| VpState {
                    taken: (0..256).map(|_| AtomicU64::new(0)).collect(),
                    listens: (0..256).map(|_| AtomicU64::new(0)).collect(),
                    tlb: AtomicUsize::new(NOT_CACHED),
                })
                .collect(),
            window: AtomicUsize::new(0),
            crash: Mutex::default(),
            started: Mutex::default(),
            frequency: AtomicU64::new(config.counter_frequency),
        })
    })
}

impl InProcess<'_> {
    /// Lets the machine's other side happen: timers that are due, then what the partition asked for.
    fn settle(&self) {
        // A timer that a wrong host arms for the past again and again must not keep us here.
        for _ in 0..100 {
            let now = self.machine.host.counter();
            let due =
                (0..self.vps.len()).find(|&vp| self.machine.host.deadline(vp).is_some_and(|at| at <= now));
            let Some(vp) = due else { break };
            self.machine.expire(vp);
        }
        for effect in self.machine.host.take_effects() {
            match effect {
                Effect::Interrupt { vp, intid } => {
                    let Some(state) = self.vps.get(vp) else { continue };
                    let intid = intid as usize % 256;
                    if state.listens[intid].load(Ordering::Relaxed) != 0 {
                        state.taken[intid].fetch_add(1, Ordering::Relaxed);
                    }
                }
                Effect::Start { vp, .. } => lock(&self.started).push(vp),
                Effect::Flush { targets, what } => {
                    for (n, vp) in self.vps.iter().enumerate() {
                        if targets.contains(n) && drops_window(what) {
                            vp.tlb.store(NOT_CACHED, Ordering::Relaxed);
                        }
                    }
                }
                Effect::Crash { control, parameters, text: message } => {
                    let mut text = [0; 32];
                    let len = message.len().min(text.len());
                    text[..len].copy_from_slice(&message[..len]);
                    *lock(&self.crash) =
                        Some(CrashReport { control, parameters, text, text_len: message.len() });
                }
                _ => {}
            }
        }
        // Nobody reads them.
        self.machine.host.take_events();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Whether a flush drops the window's translation.
fn drops_window(what: Flush) -> bool {
    let ours = |space: Option<u64>| space.is_none_or(|space| space == ADDRESS_SPACE);
    match what {
        // The window is not global, so a flush that spares global translations drops it too.
        Flush::All { address_space, .. } => ours(address_space),
        Flush::Pages { address_space, address, pages } => {
            ours(address_space) && (address..address.saturating_add(pages * 4096)).contains(&WINDOW)
        }
    }
}

impl Env for InProcess<'_> {
    fn conduit(&self) -> &dyn Conduit {
        &self.conduit
    }

    fn convention(&self) -> Convention {
        self.convention
    }

    fn hvc(&self, immediate: u16, x: &mut [u64; 31]) -> Result<(), Exception> {
        self.conduit.hvc(immediate, x)
    }

    fn vp_count(&self) -> usize {
        self.vps.len()
    }

    fn vp(&self) -> usize {
        self.conduit.vp()
    }

    fn mpidr(&self, vp: usize) -> u64 {
        // RES1 and no multithreading, as the register reads.
        self.machine.partition.config().mpidr(vp) | 1 << 31
    }

    fn run_on(&self, vp: usize, work: &(dyn Fn() + Sync)) {
        let caller = self.conduit.current.swap(vp, Ordering::Relaxed);
        work();
        self.conduit.current.store(caller, Ordering::Relaxed);
    }

    fn page(&self, n: usize) -> u64 {
        assert!(n < PAGES);
        SCRATCH + n as u64 * 4096
    }

    fn read(&self, gpa: u64, into: &mut [u8]) {
        self.machine.host.memory().read(gpa, into).expect("a scratch page");
    }

    fn write(&self, gpa: u64, from: &[u8]) {
        self.machine.host.memory().write(gpa, from).expect("a scratch page");
    }

    fn load(&self, gpa: u64) -> u32 {
        self.machine.host.memory().load_u32(gpa).expect("a scratch page")
    }

    fn store(&self, gpa: u64, value: u32) {
        self.machine.host.memory().store_u32(gpa, value).expect("a scratch page");
    }

    fn granule(&self) -> u64 {
        4096
    }

    fn counter(&self) -> u64 {
        self.settle();
        self.machine.host.counter()
    }

    fn frequency(&self) -> u64 {
        self.frequency.load(Ordering::Relaxed)
    }

    fn idle(&self, ticks: u64) {
        self.settle();
        let end = self.machine.host.counter() + ticks;
        let deadlines = (0..self.vps.len()).filter_map(|vp| self.machine.host.deadline(vp));
        let next = deadlines.min().map_or(end, |deadline| deadline.min(end));
        self.machine.host.set_counter(next.max(self.machine.host.counter()));
        self.settle();
    }

    fn intids(&self) -> &[u32] {
        &INTIDS
    }

    fn listen(&self, intid: u32) {
        self.settle();
        self.vps[self.vp()].listens[intid as usize].store(1, Ordering::Relaxed);
    }

    fn taken(&self, intid: u32) -> u64 {
        self.settle();
        self.vps[self.vp()].taken[intid as usize].load(Ordering::Relaxed)
    }

    fn loopback(&self) -> bool {
        true
    }

    fn vmbus(&self) -> bool {
        true
    }

    fn window(&self) -> Option<u64> {
        Some(WINDOW)
    }

    fn address_space(&self) -> u64 {
        ADDRESS_SPACE
    }

    fn point_window(&self, page: usize) {
        self.window.store(page, Ordering::Relaxed);
    }

    fn look_through_window(&self) -> usize {
        self.settle();
        let tlb = &self.vps[self.vp()].tlb;
        if tlb.load(Ordering::Relaxed) == NOT_CACHED {
            tlb.store(self.window.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        tlb.load(Ordering::Relaxed)
    }

    fn stop(&self, vp: usize) -> bool {
        self.settle();
        self.machine.offline(vp);
        true
    }

    fn start_context(&self, vp: usize) -> Option<InitialVpContext> {
        Some(InitialVpContext {
            pc: RAM,
            sp_elh: 0,
            sctlr_el1: 0x30d0_0800,
            mair_el1: 0,
            tcr_el1: 0,
            vbar_el1: 0,
            ttbr0_el1: 0,
            ttbr1_el1: 0,
            x18: vp as u64,
        })
    }

    fn start(&self, vp: usize) -> bool {
        let [result, ..] = self.conduit.smccc(0xc400_0003, [self.mpidr(vp) & !(1 << 31), RAM, 0]);
        result == 0
    }

    fn wait_online(&self, vp: usize) -> bool {
        self.settle();
        let mut started = lock(&self.started);
        let Some(place) = started.iter().position(|&n| n == vp) else { return false };
        started.remove(place);
        self.machine.online(vp);
        true
    }

    fn take_crash(&self) -> Option<CrashReport> {
        self.settle();
        lock(&self.crash).take()
    }

    fn sees_crashes(&self) -> bool {
        true
    }

    fn survives_crashes(&self) -> bool {
        true
    }

    fn migrate(&self, frequency: u64) -> bool {
        let now = self.machine.partition.reference_time(&self.machine.host);
        self.machine.partition.migrate(&self.machine.host, frequency, now);
        self.frequency.store(frequency, Ordering::Relaxed);
        for vp in 0..self.vps.len() {
            self.machine.expire(vp);
        }
        true
    }

    fn set_tsc_page_valid(&self, valid: bool) -> bool {
        self.machine.partition.set_reference_tsc_valid(&self.machine.host, valid);
        true
    }
}
