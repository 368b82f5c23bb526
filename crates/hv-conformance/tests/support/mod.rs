//! The partition of `hv-partition` as an environment: what is tested and who tests it in one process.

mod devices;
mod machine;
mod threads;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use hv_conformance::{Convention, CrashReport, Env, Exception, PAGES};
use hv_guest::conduit::{Conduit, FAST_WORDS, FastOutput, Raw};
use hv_partition::{Action, Config, GuestMemory, Partition, Port, PortTarget, Vp, loopback};
use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::psci;
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::start_vp::InitialVpContext;

use machine::{ADDRESS_SPACE, Lock, RAM, SuiteHost, SuitePartition, WINDOW};

/// First scratch page.
const SCRATCH: u64 = RAM + 0x1000;
/// The interrupts that the suite may use.
const INTIDS: [u32; 3] = [18, 17, 20];
/// More executions of one `hvc` than any list has elements.
const PATIENCE: usize = 10_000;

/// PSCI CPU_ON.
const CPU_ON: u32 = psci::CPU_ON | psci::SMC64;

thread_local! {
    /// The VP that runs in this thread.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// An environment around a partition.
pub(crate) struct InProcess<'p> {
    partition: &'p SuitePartition<'p>,
    machine: &'p SuiteHost,
    wire: &'p Hvc<'p>,
    conduit: Raw<Wire<'p>>,
    frequency: AtomicU64,
}

/// The conduit: registers of one `hvc`.
struct Wire<'p>(&'p Hvc<'p>);

/// `hvc`, on whichever VP runs.
struct Hvc<'p> {
    partition: &'p SuitePartition<'p>,
    machine: &'p SuiteHost,
    convention: Convention,
}

impl Hvc<'_> {
    fn vp(&self) -> usize {
        CURRENT.get()
    }

    fn hvc(&self, immediate: u16, x: &mut [u64; 31]) -> Result<(), Exception> {
        for _ in 0..PATIENCE {
            match self.partition.hvc(self.machine, self.vp(), immediate, x) {
                Action::Retry => {}
                Action::Resume | Action::Suspend => return Ok(()),
                Action::Undefined => return Err(Exception { undefined: true }),
                _ => return Err(Exception { undefined: false }),
            }
        }
        panic!("an hvc is repeated forever");
    }
}

#[expect(unsafe_code, reason = "as the trait has it; a model is behind it")]
impl Conduit for Wire<'_> {
    unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        let mut x = [0; 31];
        let first = self.0.convention.control();
        x[0] = HYPERCALL.into();
        x[first] = control.0;
        x[first + 1..first + 1 + FAST_WORDS].copy_from_slice(block);
        let done = self.0.hvc(self.0.convention.immediate(), &mut x);
        assert!(done.is_ok(), "a hypercall met an exception");
        block.copy_from_slice(&x[first + 1..first + 1 + FAST_WORDS]);
        HypercallOutput(x[0])
    }

    fn fast_output(&self) -> FastOutput {
        match self.0.convention {
            Convention::Smccc => FastOutput::AfterInput,
            Convention::Hvc1 => FastOutput::Last,
        }
    }

    unsafe fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
        let mut x = [0; 31];
        x[0] = function.into();
        x[1..4].copy_from_slice(&arguments);
        let done = self.0.hvc(0, &mut x);
        assert!(done.is_ok(), "an SMCCC call met an exception");
        [x[0], x[1], x[2], x[3]]
    }
}

/// Returns the ports that lead back to the VPs that there are.
fn ports(vps: usize) -> Vec<Port> {
    let is_there = |port: &Port| match port.target {
        PortTarget::Message { vp: Some(vp), .. } | PortTarget::Event { vp: Some(vp), .. } => vp < vps,
        _ => true,
    };
    loopback::ports().into_iter().filter(is_there).collect()
}

/// Runs `test` in an environment with VPs that all run, around a partition as it is after reset.
pub(crate) fn with<R>(
    config: Config,
    vps: usize,
    convention: Convention,
    test: impl FnOnce(&InProcess<'_>) -> R,
) -> R {
    run_on_machine(config, &SuiteHost::new(vps), convention, test)
}

/// Does the same as [`with`], by the wall's clock and with a thread for each VP. All of them run concurrently: those to
/// which the suite gives no work make background calls. The calling thread is VP 0.
///
/// # Panics
/// If one of these calls had another result than it must have.
pub(crate) fn with_threads<R>(
    config: Config,
    vps: usize,
    convention: Convention,
    test: impl FnOnce(&InProcess<'_>) -> R,
) -> R {
    let machine = SuiteHost::by_the_wall(vps, config.hypervisor.counter_frequency);
    let result = run_on_machine(config, &machine, convention, |env| {
        thread::scope(|scope| {
            for vp in 0..vps {
                scope.spawn(move || env.machine.serve(env.partition, vp));
            }
            for vp in 1..vps {
                scope.spawn(move || env.machine.door(vp).serve(env, vp));
            }
            // Also if the test panics: the threads have to end.
            struct End<'m>(&'m SuiteHost);
            impl Drop for End<'_> {
                fn drop(&mut self) {
                    self.0.end();
                }
            }
            let _end = End(env.machine);
            test(env)
        })
    });
    assert_eq!(machine.take_failures(), [""; 0], "background calls of the VPs");
    result
}

fn run_on_machine<R>(
    config: Config,
    machine: &SuiteHost,
    convention: Convention,
    test: impl FnOnce(&InProcess<'_>) -> R,
) -> R {
    let vps = machine.vp_count();
    let states: Vec<Vp<Lock>> = (0..vps).map(|_| Vp::new()).collect();
    let ports = ports(vps);
    let bus = devices::bus(config.vmbus);
    let partition = Partition::new(config.hypervisor, &states, &ports, &bus);
    partition.reset(machine);
    for vp in 0..vps {
        partition.vp_online(machine, vp);
    }
    let hvc = Hvc { partition: &partition, machine, convention };
    // SAFETY: the model reaches nothing but the machine's own memory, whatever the call.
    #[expect(unsafe_code, reason = "vouches for calls to a model")]
    let conduit = unsafe { Raw::new(Wire(&hvc)) };
    test(&InProcess {
        partition: &partition,
        machine,
        wire: &hvc,
        conduit,
        frequency: AtomicU64::new(config.hypervisor.counter_frequency),
    })
}

impl InProcess<'_> {
    /// Has this many VPs read their indices, each held inside the partition until all are there. Returns false if they
    /// do not get there at the same time.
    pub(crate) fn meet_inside(&self, vps: u32) -> bool {
        self.machine.meeting.call(vps);
        self.own_calls();
        self.machine.meeting.took_place()
    }

    /// Returns how many rounds of calls of its own a VP has made.
    pub(crate) fn rounds(&self, vp: usize) -> u64 {
        self.machine.door(vp).rounds()
    }

    fn settle(&self) {
        self.machine.settle(self.partition);
    }
}

impl Env for InProcess<'_> {
    fn conduit(&self) -> &Raw<dyn Conduit + '_> {
        &self.conduit
    }

    fn convention(&self) -> Convention {
        self.wire.convention
    }

    fn hvc(&self, immediate: u16, x: &mut [u64; 31]) -> Result<(), Exception> {
        self.wire.hvc(immediate, x)
    }

    fn vp_count(&self) -> usize {
        self.machine.vp_count()
    }

    fn vp(&self) -> usize {
        self.wire.vp()
    }

    fn mpidr(&self, vp: usize) -> u64 {
        // With the bit that is RES1, as the register reads.
        self.partition.config().mpidr(vp) | 1 << 31
    }

    fn run_on(&self, vp: usize, work: &(dyn Fn() + Sync)) {
        if self.machine.is_by_the_wall() && vp != self.vp() {
            return self.machine.door(vp).run(vp, work);
        }
        let caller = CURRENT.replace(vp);
        work();
        CURRENT.set(caller);
    }

    fn page(&self, n: usize) -> u64 {
        assert!(n < PAGES, "there is no scratch page {n}");
        SCRATCH + n as u64 * 4096
    }

    fn read(&self, gpa: u64, into: &mut [u8]) {
        self.machine.memory.read(gpa, into).expect("a scratch page");
    }

    fn write(&self, gpa: u64, from: &[u8]) {
        self.machine.memory.write(gpa, from).expect("a scratch page");
    }

    fn load(&self, gpa: u64) -> u32 {
        self.machine.memory.load_acquire(gpa).expect("a scratch page")
    }

    fn store(&self, gpa: u64, value: u32) {
        self.machine.memory.store_release(gpa, value).expect("a scratch page");
    }

    fn granule(&self) -> u64 {
        4096
    }

    fn counter(&self) -> u64 {
        self.settle();
        self.machine.counter()
    }

    fn frequency(&self) -> u64 {
        self.frequency.load(Ordering::Relaxed)
    }

    fn idle(&self, ticks: u64) {
        self.settle();
        self.machine.idle(self.vp(), ticks);
        self.settle();
    }

    fn intids(&self) -> &[u32] {
        &INTIDS
    }

    fn listen(&self, intid: u32) {
        self.machine.listen(self.vp(), intid);
    }

    fn taken(&self, intid: u32) -> u64 {
        self.settle();
        self.machine.taken(self.vp(), intid)
    }

    fn loopback(&self) -> bool {
        true
    }

    fn vmbus(&self) -> bool {
        self.partition.has_vmbus()
    }

    fn video_window(&self) -> Option<u64> {
        Some(devices::VIDEO_WINDOW)
    }

    fn window(&self) -> Option<u64> {
        Some(WINDOW)
    }

    fn address_space(&self) -> u64 {
        ADDRESS_SPACE
    }

    fn point_window(&self, page: usize) {
        self.machine.point_window(page);
    }

    fn look_through_window(&self) -> usize {
        self.machine.look(self.vp())
    }

    fn stop(&self, vp: usize) -> bool {
        if self.machine.is_by_the_wall() {
            return self.machine.door(vp).stop();
        }
        self.settle();
        self.partition.vp_offline(self.machine, vp);
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
        let [result, ..] = self.conduit.smccc(CPU_ON, [self.partition.config().mpidr(vp), RAM, 0]);
        result == 0
    }

    fn wait_online(&self, vp: usize) -> bool {
        if self.machine.is_by_the_wall() {
            return self.machine.door(vp).wait_online();
        }
        let started = self.machine.door(vp).take_start();
        if started {
            self.partition.vp_online(self.machine, vp);
        }
        started
    }

    fn take_crash(&self) -> Option<CrashReport> {
        self.machine.take_crash()
    }

    fn sees_crashes(&self) -> bool {
        true
    }

    fn survives_crashes(&self) -> bool {
        true
    }

    fn migrate(&self, frequency: u64) -> bool {
        let host = self.machine;
        let now = self.partition.reference_time(host);
        self.partition.migrate(host, frequency, now);
        self.frequency.store(frequency, Ordering::Relaxed);
        for vp in 0..self.vp_count() {
            self.partition.timer_expired(self.machine, vp);
        }
        true
    }

    fn set_tsc_page_valid(&self, valid: bool) -> bool {
        self.partition.set_reference_tsc_valid(self.machine, valid);
        true
    }
}
