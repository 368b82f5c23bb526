//! Random calls and accesses, as of a guest that has run wild.
//!
//! What would break only this guest is left out: switching the machine off, its own memory as a target, the global
//! enable bits of the interrupt controller, the interrupts of VP 0, EL1's translation registers. Everything else is
//! allowed, and checked where the answer is known.
#![expect(unsafe_code, reason = "random instructions")]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use rt::exception::Exception;
use rt::gic::{gicd, gicr};
use rt::probe::{self, Size};
use rt::{MAX_CPUS, arch, cpu, irq, time};
use spin::Mutex;

use crate::absent::{self, ODD_INSTRUCTIONS, Window};
use crate::generate;
use crate::gic;
use crate::hv::{self, Call, Convention};
use crate::probes;
use crate::psci;
use crate::registers::{self, Encoding};
use crate::rng::Rng;
use crate::wellbehaved;

/// Interrupts that attackers leave alone, since VP 0 counts them: an SGI, a PPI for IPIs by hypercall, and one for
/// messages. The interrupt of direct timers (`rt::Hardware::stimer_intid`) is another.
pub(crate) const OWN_SGI: u32 = 14;
pub(crate) const IPI_INTID: u32 = 21;
pub(crate) const SINT_INTID: u32 = 20;

/// The state of one attacking VP.
#[derive(Debug)]
pub(crate) struct Attacker {
    /// Actions done.
    pub done: AtomicU64,
    /// Actions to do.
    pub quota: AtomicU64,
    /// It is powering off, and wants to be started again.
    pub leaving: AtomicBool,
    /// It waits for an interrupt.
    pub sleeping: AtomicBool,
    /// The kind of its current action, for a report of a VP that hangs.
    pub kind: AtomicU64,
    /// It has finished, and powers off for the last time.
    pub finished: AtomicBool,
}

pub(crate) static ATTACKERS: [Attacker; MAX_CPUS] = [const {
    Attacker {
        done: AtomicU64::new(0),
        quota: AtomicU64::new(0),
        leaving: AtomicBool::new(false),
        sleeping: AtomicBool::new(false),
        kind: AtomicU64::new(0),
        finished: AtomicBool::new(false),
    }
}; MAX_CPUS];

pub(crate) static SEED: AtomicU64 = AtomicU64::new(0);
/// The kinds of actions of the attackers, as a bit set: all, or fewer to find out which one is to blame.
pub(crate) static KINDS: AtomicU64 = AtomicU64::new(u64::MAX);

/// Number of wrong answers.
pub(crate) static WRONG: AtomicU64 = AtomicU64::new(0);
/// The first of them: the action, its arguments, and the answer.
pub(crate) static FIRST_WRONG: Mutex<Option<(&'static str, u64, Option<Exception>)>> = Mutex::new(None);

fn expect(what: &'static str, subject: u64, got: Option<Exception>, right: bool) {
    if !right && WRONG.fetch_add(1, Ordering::Relaxed) == 0 {
        *FIRST_WRONG.lock() = Some((what, subject, got));
    }
}

/// The next action of an attacker.
#[derive(Clone, Copy)]
enum Kind {
    Hypercall,
    Smccc,
    Immediate,
    Memory,
    Gic,
    Register,
    Recover,
    Sleep,
    Leave,
}

/// Picks the kind of attack that a random number stands for: the frequency of each, in 1000.
fn kind(number: u64) -> Kind {
    match number {
        0..450 => Kind::Hypercall,
        450..550 => Kind::Smccc,
        550..600 => Kind::Immediate,
        600..700 => Kind::Memory,
        700..880 => Kind::Gic,
        880..990 => Kind::Register,
        990..996 => Kind::Recover,
        996..999 => Kind::Sleep,
        _ => Kind::Leave,
    }
}

/// Runs on an attacking VP; restarted after it powered off.
pub(crate) fn attack() {
    let vp = cpu::index();
    let own = &ATTACKERS[vp];
    let done = own.done.load(Ordering::Relaxed);
    let mut rng = Rng::new(SEED.load(Ordering::Relaxed) ^ (vp as u64) << 56 ^ done << 8);
    let kinds = KINDS.load(Ordering::Relaxed);
    recover();
    irq::unmask();
    for done in done..own.quota.load(Ordering::Relaxed) {
        own.done.store(done, Ordering::Relaxed);
        let kind = kind(rng.below(1000));
        if kinds & 1 << kind as u32 == 0 {
            continue;
        }
        own.kind.store(kind as u64, Ordering::Relaxed);
        match kind {
            Kind::Hypercall => hypercall(&mut rng),
            Kind::Smccc => smccc(&mut rng),
            Kind::Immediate => immediate(&mut rng),
            Kind::Memory => memory(&mut rng),
            Kind::Gic => interrupt_controller(&mut rng),
            Kind::Register => system_register(&mut rng),
            Kind::Recover => recover(),
            Kind::Sleep => sleep(&mut rng),
            Kind::Leave => {
                own.done.store(done + 1, Ordering::Relaxed);
                own.leaving.store(true, Ordering::Release);
                cpu::off();
            }
        }
    }
    own.done.store(own.quota.load(Ordering::Relaxed), Ordering::Relaxed);
    own.finished.store(true, Ordering::Release);
}

/// Puts this VP's interrupts into a state in which its timer can wake it.
fn recover() {
    // SAFETY: active priorities of interrupts that were acknowledged by random reads; no handler is running here.
    unsafe { rt::msr!("icc_ap0r0_el1", 0) };
    // SAFETY: active priorities of interrupts that were acknowledged by random reads; no handler is running here.
    unsafe { rt::msr!("icc_ap1r0_el1", 0) };
    // SAFETY: how priorities are grouped; the runtime relies on no grouping.
    unsafe { rt::msr!("icc_bpr1_el1", 0) };
    time::stop();
    stop_physical_timer(0);
    irq::init_cpu();
    irq::on(30, stop_physical_timer);
    // Handlers are the same for all VPs.
    time::on_timer(wellbehaved::take);
}

fn stop_physical_timer(_: u32) {
    // SAFETY: nothing else in this program uses this timer.
    unsafe { rt::msr!("cntp_ctl_el0", 0) };
    arch::isb();
}

fn sleep(rng: &mut Rng) {
    recover();
    let own = &ATTACKERS[cpu::index()];
    own.sleeping.store(true, Ordering::Release);
    // Masked: the timer's interrupt ends the wait even if it comes before it.
    arch::without_interrupts(|| {
        time::arm(time::counter() + time::ticks(Duration::from_micros(200)));
        if rng.chance(1, 2) {
            let state = rng.number();
            let result = psci::psci(psci::CPU_SUSPEND, [state, rng.number(), rng.number()]);
            expect("CPU_SUSPEND", state, None, result == 0);
        } else {
            arch::wfi();
        }
    });
    own.sleeping.store(false, Ordering::Release);
}

/// Makes another, sleeping VP able to take an SGI, and sends it one. Other attackers' writes to its interrupts may have
/// put it to sleep forever.
pub(crate) fn wake(vp: usize) {
    const SGI: u32 = 13;
    let frame = rt::hardware::get().gicr + vp as u64 * gicr::STRIDE;
    for (offset, value) in [
        (gicr::IGROUPR, !0u32),
        (gicr::ICACTIVER, !0),
        (gicr::IPRIORITYR + 12, 0x8080_8080),
        (gicr::ISENABLER, 1 << SGI),
    ] {
        let done = gic::write(frame + offset, Size::Word, u64::from(value));
        expect("a write to a redistributor", frame + offset, done.err(), done.is_ok());
    }
    irq::send_sgi(vp, SGI);
}

fn hypercall(rng: &mut Rng) {
    let convention = rng.pick(&Convention::BOTH);
    let (control, parameters) = generate::hypercall(rng);
    let mut x = convention.registers(control, &parameters);
    let got = convention.call(&mut x);
    expect("a hypercall", control, got, got.is_none());
}

fn smccc(rng: &mut Rng) {
    let mut x = generate::smccc(rng);
    let function = x[0];
    let call = if rng.chance(1, 2) { Call::Hvc(0) } else { Call::Smc(0) };
    let got = hv::call(call, &mut x);
    expect("a call of an SMCCC function", function, got, got.is_none());
}

/// Issues an unassigned immediate.
fn immediate(rng: &mut Rng) {
    let mut x = core::array::from_fn(|_| generate::value(rng));
    let immediate = (rng.next() as u16).max(2);
    let call = if rng.chance(1, 2) { Call::Hvc(immediate) } else { Call::Smc(immediate) };
    let got = hv::call(call, &mut x);
    expect(
        "a call with an unknown immediate",
        u64::from(immediate),
        got,
        got.is_some_and(|e| e.is_undefined()),
    );
}

/// Accesses addresses where nothing is.
fn memory(rng: &mut Rng) {
    let count = absent::windows().count() as u64;
    let Some(Window { range, memory, .. }) = absent::windows().nth(rng.below(count) as usize) else { return };
    let mut address = range.start + rng.below(range.end - range.start - 16);
    if rng.chance(7, 8) {
        address &= !7;
    }
    let size = rng.pick(&Size::ALL);
    let got = match rng.below(if memory { 5 } else { 4 }) {
        0 => probes::read(address, size).err(),
        // SAFETY: nothing is there, or this run shows that something is.
        1 => unsafe { probe::write(address, size, rng.next()) }.err(),
        4 => {
            // SAFETY: there is nothing to fetch from, or this run shows that there is.
            let got = unsafe { probe::execute(address & !3) }.err();
            let right =
                got.is_some_and(|e| e.class() == Exception::INSTRUCTION_ABORT && e.is_external_abort());
            return expect("a fetch", address, got, right);
        }
        _ => return odd(rng, address),
    };
    expect("an access", address, got, got.is_some_and(|e| e.class() == Exception::DATA_ABORT));
}

/// Executes an instruction that the hypervisor cannot emulate, or a cache operation.
fn odd(rng: &mut Rng, address: u64) {
    const CACHE: [u32; 3] = [0xd50b_7e21, 0xd50b_7a21, 0xd508_7621]; // dc civac, dc cvac, dc ivac
    let instruction = if rng.chance(1, 8) { rng.pick(&CACHE) } else { rng.pick(&ODD_INSTRUCTIONS).1 };
    let mut x = [rng.next(); 31];
    x[1] = address;
    // SAFETY: loads, stores and cache maintenance at an address where nothing is, or of the interrupt controller; SP
    // and X30 are not operands. Whether it faults depends on the instruction.
    let _ = unsafe { probe::instruction(instruction, &mut x) };
}

/// Accesses the interrupt controller.
fn interrupt_controller(rng: &mut Rng) {
    let hardware = rt::hardware::get();
    let vp = rng.below(hardware.vps() as u64);
    let distributor = rng.chance(1, 2);
    let (base, bytes) = if distributor {
        (hardware.gicd, gicd::BYTES)
    } else {
        (hardware.gicr + vp * gicr::STRIDE, gicr::STRIDE)
    };
    let mut offset = rng.below(bytes);
    if rng.chance(3, 4) {
        // Offsets of registers: up to 0xe00, in the second frame of a redistributor.
        offset = rng.below(0xe00) + if distributor { 0 } else { gicr::SGI };
    }
    offset &= !rng.pick(&[0, 1, 3, 3, 3, 3, 7]);
    let size = rng.pick(&Size::ALL);
    let own = vp == cpu::index() as u64;
    // The global enable bits, the interrupts of VP 0, and the sleep of other redistributors would break only this
    // guest.
    let kept = match distributor {
        true => offset < gicd::CTLR + 16,
        false => vp == 0 || !own && offset < gicr::SGI,
    };
    let harmless = !kept && offset & 0xffff != gicr::WAKER;
    match rng.below(8) {
        0 if harmless => odd(rng, base + offset),
        0..4 => {
            let got = probes::read(base + offset, size).err();
            expect(
                "a read of the interrupt controller",
                base + offset,
                got,
                got.is_none_or(|e| is_abort(&e)),
            );
        }
        _ if harmless => {
            let value = if rng.chance(1, 2) { rng.number() } else { 1 << rng.below(32) };
            let got = gic::write(base + offset, size, value).err();
            expect(
                "a write to the interrupt controller",
                base + offset,
                got,
                got.is_none_or(|e| is_abort(&e)),
            );
        }
        _ => {}
    }
}

fn is_abort(exception: &Exception) -> bool {
    exception.class() == Exception::DATA_ABORT
}

fn system_register(rng: &mut Rng) {
    let (encoding, write) = generate::system_register(rng);
    let [_, _, crn, crm, _] = encoding;
    let mut x = [generate::value(rng); 31];
    if [crn, crm] == [12, 11] {
        // An SGI: not the one that VP 0 counts.
        while (x[0] >> 24) as u32 & 0xf == OWN_SGI {
            x[0] = rng.next();
        }
    }
    // What makes QEMU 7.2 itself fail. Of a binary point register, its virtual CPU interface loses the upper bits too
    // late, and it aborts some time after a write of 8. A comparison value that overflows when CNTVOFF_EL2 is added
    // lets it run timers forever.
    match encoding {
        [3, 0, 12, 8 | 12, 3] => x[0] &= 7,
        [3, 3, 14, 2 | 3, 2] => x[0] >>= 1,
        _ => {}
    }
    // SAFETY: `generate` names no register or instruction on which this program relies; addresses in X0 are those of
    // arenas, or of places where nothing is.
    let got = unsafe { probe::instruction(registers::instruction(encoding, write), &mut x) };
    let higher = is_of_higher_level(encoding);
    let subject = encoding.into_iter().fold(0, |number, part| number << 8 | u64::from(part));
    expect("a system register", subject, got, !higher || got.is_some_and(|e| e.is_undefined()));
}

/// Registers of EL2 and EL3.
fn is_of_higher_level([op0, op1, ..]: Encoding) -> bool {
    op0 == 3 && [4, 5, 6].contains(&op1)
}
