//! PSCI: its answers to wrong arguments, and VPs that go off and on.
//!
//! Source: Arm Power State Coordination Interface (DEN0022).

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use hv_tlfs::psci;
use rt::cpu::{self, AffinityState};
use rt::{arch, time};
use spin::Mutex;

use crate::check::{Check, Checks};
use crate::hv::{self, Call};

/// Set in the function ids of the 64-bit forms.
pub(crate) const SMC64: u64 = psci::SMC64 as u64;
pub(crate) const VERSION: u64 = psci::VERSION as u64;
pub(crate) const CPU_SUSPEND: u64 = psci::CPU_SUSPEND as u64 | SMC64;
pub(crate) const CPU_OFF: u64 = psci::CPU_OFF as u64;
pub(crate) const CPU_ON: u64 = psci::CPU_ON as u64 | SMC64;
pub(crate) const AFFINITY_INFO: u64 = psci::AFFINITY_INFO as u64 | SMC64;
pub(crate) const SYSTEM_OFF: u64 = psci::SYSTEM_OFF as u64;
pub(crate) const SYSTEM_RESET: u64 = psci::SYSTEM_RESET as u64;
pub(crate) const SYSTEM_SUSPEND: u64 = psci::SYSTEM_SUSPEND as u64;
pub(crate) const SYSTEM_RESET2: u64 = psci::SYSTEM_RESET2 as u64;
const FEATURES: u64 = psci::FEATURES as u64;

const NOT_SUPPORTED: i32 = -1;
const INVALID_PARAMETERS: i32 = -2;
const ALREADY_ON: i32 = -4;
const ON_PENDING: i32 = -5;
const INVALID_ADDRESS: i32 = -9;

/// Long enough for another VP to do something, even when QEMU's threads share few CPUs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Makes a call by `hvc`; returns its result as a signed 32-bit number.
pub(crate) fn psci(function: u64, arguments: [u64; 3]) -> i32 {
    by(Call::Hvc(0), function, arguments)
}

fn by(call: Call, function: u64, [a, b, c]: [u64; 3]) -> i32 {
    let mut x = [0; 31];
    x[..4].copy_from_slice(&[function, a, b, c]);
    if let Some(exception) = hv::call(call, &mut x) {
        panic!("a PSCI call met {exception:?}");
    }
    x[0] as i32
}

pub(crate) fn run(checks: &mut Checks) {
    checks.check("the version is 1.1 by both conduits", |check| {
        for call in [Call::Hvc(0), Call::Smc(0)] {
            check.equal(call, by(call, VERSION, [0; 3]), 0x1_0001);
        }
    });
    checks.check("PSCI_FEATURES knows what there is", features);
    checks.check("functions that are not there", |check| {
        // MIGRATE, CPU_FREEZE, CPU_DEFAULT_SUSPEND, NODE_HW_STATE, SYSTEM_SUSPEND, SET_SUSPEND_MODE, STAT_*,
        // MEM_PROTECT, and beyond.
        for number in [5, 7, 0xb, 0xc, 0xd, 0xe, 0xf, 0x10, 0x11, 0x13, 0x14, 0x15, 0x1f] {
            for function in [VERSION + number, VERSION + SMC64 + number] {
                check.equal(function, psci(function, [0; 3]), NOT_SUPPORTED);
            }
        }
    });
    checks.check("CPU_ON refuses what is not a VP", |check| {
        let entry = start_address();
        for target in [rt::hardware::get().vps() as u64, 16, 255, 1 << 8, 1 << 24, 1 << 32, 1 << 40, u64::MAX]
        {
            check.equal(target, psci(CPU_ON, [target, entry, 0]), INVALID_PARAMETERS);
        }
    });
    checks.check("CPU_ON refuses a VP that is on", |check| {
        check.equal("64 bits", psci(CPU_ON, [0, start_address(), 0]), ALREADY_ON);
        // The 32-bit form uses the lower halves only.
        check.equal("32 bits", psci(CPU_ON - SMC64, [0xdead_beef << 32, start_address(), 0]), ALREADY_ON);
    });
    checks.check("AFFINITY_INFO refuses what is not there", |check| {
        for arguments in
            [[0, 4, 0], [0, u64::MAX, 0], [1 << 8, 0, 0], [1 << 32, 0, 0], [1 << 24, 0, 0], [255, 0, 0]]
        {
            check.equal(arguments, psci(AFFINITY_INFO, arguments), INVALID_PARAMETERS);
        }
        check.equal("this VP", psci(AFFINITY_INFO, [0; 3]), 0);
    });
    checks.check("CPU_SUSPEND returns when an interrupt is pending", suspend);
    if rt::hardware::get().vps() < 2 {
        checks.skip("VPs go off and on", "there is one VP");
        return;
    }
    checks.check("CPU_ON refuses an entry outside of memory", |check| {
        for entry in [0, 0x902_0000, 0x4000_0000, 0x4020_0000, rt::hardware::get().ram.end, 1 << 52, !3] {
            check.equal(entry, psci(CPU_ON, [1, entry, 0]), INVALID_ADDRESS);
        }
        check.equal("it stays off", cpu::state(1), Ok(AffinityState::Off));
    });
    checks.check("VPs go off and on", off_and_on);
    if rt::hardware::get().vps() < 3 {
        checks.skip("of those that start a VP at the same time one succeeds", "there are two VPs");
    } else {
        checks.check("of those that start a VP at the same time one succeeds", race);
    }
    checks.check("an SGI for a VP that is off waits until it is on", wait_for_the_vp);
}

/// Returns an address at which a VP could start.
fn start_address() -> u64 {
    rt::hardware::get().ram.start
}

fn features(check: &mut Check) {
    for number in [0, 2, 6, 8, 9, 0xa] {
        check.equal(number, psci(FEATURES, [VERSION + number, 0, 0]), 0);
    }
    for number in [1, 3, 4] {
        check.equal(number, psci(FEATURES, [VERSION + number, 0, 0]), 0);
        check.equal(number, psci(FEATURES, [VERSION + SMC64 + number, 0, 0]), 0);
    }
    check.equal("SMCCC_VERSION", psci(FEATURES, [0x8000_0000, 0, 0]), 0);
    for function in [0, VERSION + 5, VERSION + 0x3f, VERSION + SMC64, 0x8600_ff01, 0xffff_ffff] {
        check.equal(function, psci(FEATURES, [function, 0, 0]), NOT_SUPPORTED);
    }
}

fn suspend(check: &mut Check) {
    /// An interrupt is pending: ISR_EL1.I.
    const IRQ: u64 = 1 << 7;
    static EXPIRED: AtomicU64 = AtomicU64::new(0);
    time::on_timer(|_| {
        time::stop();
        EXPIRED.fetch_add(1, Ordering::Relaxed);
    });
    for (round, state) in [0, 1, 1 << 16, 0xffff_ffff].into_iter().enumerate() {
        time::arm(time::counter() + time::ticks(Duration::from_millis(2)));
        // An early return is allowed; only the interrupt matters.
        let woken = time::wait_until(PATIENCE, || {
            // Masked: an interrupt that comes between the check and the call ends the wait anyway.
            arch::without_interrupts(|| {
                let waits = || EXPIRED.load(Ordering::Relaxed) == round as u64;
                if waits() {
                    // In every second round it comes before the call.
                    while round % 2 == 1 && waits() && rt::mrs!("isr_el1") & IRQ == 0 {
                        core::hint::spin_loop();
                    }
                    check.equal(state, psci(CPU_SUSPEND, [state, start_address(), 0]), 0);
                }
            });
            EXPIRED.load(Ordering::Relaxed) == round as u64 + 1
        });
        check.holds((state, "the timer's interrupt arrives"), woken);
    }
    rt::irq::disable(time::VIRTUAL_TIMER_INTID);
}

/// How often VPs ran.
static RUNS: AtomicU64 = AtomicU64::new(0);
/// Rounds at whose end VPs may go off.
static RELEASED: AtomicU64 = AtomicU64::new(0);

/// Runs on a VP: signals that it runs, and stays until it is released.
fn stay() {
    let round = RELEASED.load(Ordering::Acquire);
    RUNS.fetch_add(1, Ordering::AcqRel);
    while RELEASED.load(Ordering::Acquire) == round {
        core::hint::spin_loop();
    }
}

fn off_and_on(check: &mut Check) {
    const ROUNDS: u64 = 10;
    let others = rt::hardware::get().vps() as u64 - 1;
    for round in 1..=ROUNDS {
        for vp in 1..=others as usize {
            check.equal((round, vp, "CPU_ON"), cpu::start(vp, stay), Ok(()));
            let again = psci(CPU_ON, [rt::hardware::get().mpidr(vp), start_address(), 0]);
            check.holds((round, vp, "CPU_ON again", again), [ALREADY_ON, ON_PENDING].contains(&again));
        }
        let ran = time::wait_until(PATIENCE, || RUNS.load(Ordering::Acquire) == round * others);
        check.holds((round, "they run"), ran);
        for vp in 1..=others as usize {
            check.equal((round, vp, "AFFINITY_INFO"), cpu::state(vp), Ok(AffinityState::On));
            let again = psci(CPU_ON, [rt::hardware::get().mpidr(vp), start_address(), 0]);
            check.equal((round, vp, "CPU_ON of one that runs"), again, ALREADY_ON);
        }
        RELEASED.fetch_add(1, Ordering::AcqRel);
        for vp in 1..=others as usize {
            let off = time::wait_until(PATIENCE, || cpu::state(vp) == Ok(AffinityState::Off));
            check.holds((round, vp, "it goes off"), off);
        }
    }
}

/// VPs that wait to start VP 1; rounds that have begun; those that started it, those that found it on, and those with
/// another answer.
static READY: AtomicU64 = AtomicU64::new(0);
static BEGUN: AtomicU64 = AtomicU64::new(0);
static ANSWERS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// Starts VP 1, which stays until it is released.
fn start_vp_1() {
    let target = rt::hardware::get().mpidr(1);
    let answer = match psci(CPU_ON, [target, cpu::prepare(1, stay), 1]) {
        0 => 0,
        ALREADY_ON | ON_PENDING => 1,
        _ => 2,
    };
    ANSWERS[answer].fetch_add(1, Ordering::AcqRel);
}

fn race(check: &mut Check) {
    const ROUNDS: u64 = 10;
    fn contend() {
        let begun = BEGUN.load(Ordering::Acquire);
        READY.fetch_add(1, Ordering::AcqRel);
        while BEGUN.load(Ordering::Acquire) == begun {
            core::hint::spin_loop();
        }
        start_vp_1();
    }
    let vps = rt::hardware::get().vps();
    let contenders = vps as u64 - 1;
    for round in 1..=ROUNDS {
        let runs = RUNS.load(Ordering::Acquire);
        let before = ANSWERS.each_ref().map(|answer| answer.load(Ordering::Acquire));
        let so_far = || {
            let now = ANSWERS.each_ref().map(|answer| answer.load(Ordering::Acquire));
            [0, 1, 2].map(|n| now[n] - before[n])
        };
        for vp in 2..vps {
            check.equal((round, vp, "CPU_ON"), cpu::start(vp, contend), Ok(()));
        }
        let ready = || READY.load(Ordering::Acquire) == round * (contenders - 1);
        check.holds((round, "they are ready"), time::wait_until(PATIENCE, ready));
        BEGUN.fetch_add(1, Ordering::AcqRel);
        start_vp_1();
        let answered = time::wait_until(PATIENCE, || so_far().iter().sum::<u64>() == contenders);
        check.holds((round, "they have answers"), answered);
        check.equal((round, "started, on, else"), so_far(), [1, contenders - 1, 0]);
        // It reads which release it waits for before it counts itself.
        check.holds(
            (round, "it runs"),
            time::wait_until(PATIENCE, || RUNS.load(Ordering::Acquire) == runs + 1),
        );
        RELEASED.fetch_add(1, Ordering::AcqRel);
        for vp in 1..vps {
            let off = time::wait_until(PATIENCE, || cpu::state(vp) == Ok(AffinityState::Off));
            check.holds((round, vp, "it goes off"), off);
        }
    }
}

/// SGIs that VP 1 took.
static SGIS: AtomicU64 = AtomicU64::new(0);

fn wait_for_the_vp(check: &mut Check) {
    const SGI: u32 = 12;
    fn enable() {
        rt::irq::enable(SGI, |_| {
            SGIS.fetch_add(1, Ordering::AcqRel);
        });
    }
    fn take() {
        enable();
        rt::irq::unmask();
        time::wait_until(PATIENCE, || SGIS.load(Ordering::Acquire) != 0);
    }
    // A redistributor keeps its settings: the SGI is still enabled when the VP is off.
    run_on_vp_1(check, enable);
    rt::irq::send_sgi(1, SGI);
    // Time for the host to notice it.
    time::wait_until(Duration::from_millis(5), || false);
    run_on_vp_1(check, take);
    check.equal("it comes once", SGIS.load(Ordering::Acquire), 1);
}

/// Lets VP 1 do something and go off again.
fn run_on_vp_1(check: &mut Check, work: fn()) {
    check.equal("CPU_ON", cpu::start(1, work), Ok(()));
    let off = time::wait_until(2 * PATIENCE, || cpu::state(1) == Ok(AffinityState::Off));
    check.holds("it goes off", off);
}

/// The checks, handed to the VP that ends the run.
static CHECKS: Mutex<Option<Checks>> = Mutex::new(None);

/// Runs the last check: VP 0 starts VP 1 and goes off at once, then VP 1 does so, and so on. The run continues
/// meanwhile; the last VP that is on ends it.
pub(crate) fn hand_over(checks: Checks) {
    if rt::hardware::get().vps() < 2 {
        return checks.close();
    }
    *CHECKS.lock() = Some(checks);
    start_other(1);
    cpu::off()
}

fn start_other(vp: usize) {
    let started = cpu::start(vp, go_on);
    assert!(started.is_ok(), "VP {vp} does not start: {started:?}");
}

fn go_on() {
    const ROUNDS: u64 = 200;
    static ROUND: AtomicU64 = AtomicU64::new(0);
    let other = 1 - cpu::index();
    let off = time::wait_until(PATIENCE, || cpu::state(other) == Ok(AffinityState::Off));
    if off && ROUND.fetch_add(1, Ordering::AcqRel) < ROUNDS {
        return start_other(other);
    }
    let mut checks = CHECKS.lock().take().unwrap_or_default();
    checks.enter("psci");
    checks.check("a VP may go off right after it has started another", |check| check.holds(other, off));
    checks.close();
    rt::power::off()
}
