//! Generators of the random mode: addresses, values, hypercalls, calls and registers, most of them almost valid.

use hv_tlfs::crash::CrashControl;
use hv_tlfs::hypercall::{HypercallCode as Code, HypercallInput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};
use rt::cpu;
use rt::time::VIRTUAL_TIMER_INTID;

use crate::absent;
use crate::attack::{IPI_INTID, SINT_INTID};
use crate::hv::{self, ARENA_BYTES, Registers};
use crate::hypercalls::KNOWN;
use crate::psci::{self, SMC64};
use crate::registers::Encoding;
use crate::rng::Rng;

/// Returns an address that may be written: in RAM only if it is in an arena.
fn harmless(gpa: u64) -> u64 {
    let ram = &rt::hardware::get().ram;
    if ram.contains(&gpa) && !hv::in_arenas(gpa) { hv::arena_gpa() + gpa % ARENA_BYTES as u64 } else { gpa }
}

/// Generates a guest physical address: in this VP's arena, at the edges of its pages, or anywhere else.
pub(crate) fn address(rng: &mut Rng) -> u64 {
    let hardware = rt::hardware::get();
    let in_arena = hv::arena_gpa() + rng.below(ARENA_BYTES as u64);
    let gpa = match rng.below(10) {
        0..4 => in_arena & !7,
        4 => in_arena,
        5 => (in_arena | 0xfff) + 1 - 8 * rng.below(40),
        6 => {
            let windows = absent::windows().count() as u64;
            let range =
                absent::windows().nth(rng.below(windows) as usize).map_or(0..1, |window| window.range);
            range.start + rng.below(range.end - range.start)
        }
        7 => rng.pick(&[0x900_0000, hardware.gicd, hardware.gicr, hardware.ram.end, hardware.ram.start - 8]),
        _ => rng.number(),
    };
    harmless(gpa)
}

/// Generates a value of a register or of a parameter.
pub(crate) fn value(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => address(rng) | rng.below(2),
        _ => harmless(rng.number()),
    }
}

/// Generates a VP index or an MPIDR for calls that start VPs: never of a VP that may be off, since that would run
/// garbage in this guest's memory.
fn startable(rng: &mut Rng) -> u64 {
    let target = if rng.chance(1, 2) { rng.below(3) } else { rng.number() };
    let vps = rt::hardware::get().vps() as u64;
    let own = cpu::index() as u64;
    if u64::from(target as u32) != own && (1..vps).contains(&u64::from(target as u32)) { own } else { target }
}

fn register_name(rng: &mut Rng) -> u32 {
    match rng.below(16) {
        0..3 => 0xa_0000 + rng.below(0x17) as u32,
        3..6 => 0xb_0000 + rng.below(9) as u32,
        6 => 0x9_0000 + rng.below(0x20) as u32,
        7 => 0x200 + rng.below(0x50) as u32,
        8 => rng.number() as u32,
        _ => {
            rng.pick(&[
                RegisterName::SIMP,
                RegisterName::SIEFP,
                RegisterName::SCONTROL,
                RegisterName::EOM,
                RegisterName::REFERENCE_TSC,
                RegisterName::VP_ASSIST_PAGE,
                RegisterName::GUEST_OS_ID,
                RegisterName::VP_INDEX,
                RegisterName::TIME_REF_COUNT,
                RegisterName::GUEST_CRASH_CTL,
            ])
            .0
        }
    }
}

/// Generates the name and value of a register to write.
fn register(rng: &mut Rng) -> (u32, u64) {
    let name = register_name(rng);
    let value = match RegisterName(name) {
        RegisterName(0xa_0000..=0xa_000f) => rng.below(256) | rng.below(32) << 16,
        RegisterName::SCONTROL => rng.below(2),
        RegisterName(0xb_0000..=0xb_0007) if name & 1 == 0 => {
            rng.below(16) | rng.below(256) << 4 | rng.below(2) << 12 | rng.below(16) << 16
        }
        // A timer soon, in 100 ns.
        RegisterName(0xb_0000..=0xb_0007) => rng.next() >> (40 + rng.below(24)),
        _ => value(rng),
    };
    let value = if rng.chance(1, 16) { harmless(value ^ 1 << rng.below(64)) } else { value };
    let value = match RegisterName(name) {
        // Without a guest OS id, all calls of this guest would be refused.
        RegisterName::GUEST_OS_ID => value | 1,
        // A crash ends the run's report as one.
        RegisterName::GUEST_CRASH_CTL => value & !CrashControl::CRASH_NOTIFY.0,
        _ => value,
    };
    (name, value)
}

/// Words of a call's input.
const WORDS: usize = 48;

/// Generates the control word and the parameters of a hypercall.
pub(crate) fn hypercall(rng: &mut Rng) -> (u64, [u64; 16]) {
    let code = if rng.chance(9, 10) { rng.pick(&KNOWN) } else { Code(rng.next() as u16) };
    let input = input(rng, code);
    let mut control = HypercallInput::from_code(code).with_fast(rng.chance(1, 2));
    if takes_reps(code) {
        let count = if rng.chance(7, 8) { 1 + rng.below(10) } else { rng.number() & 0xfff };
        let start = if rng.chance(7, 8) { 0 } else { rng.below(count + 1) };
        control = control.with_rep_count(count as u16).with_rep_start(start as u16 & 0xfff);
    }
    if [Code::SEND_IPI_EX, Code::RETARGET_INTERRUPT].contains(&code) || code.0 == 0x13 || code.0 == 0x14 {
        control = control.with_variable_header_size(rng.below(5) as u16);
    }
    let mut control = control.bits();
    if rng.chance(1, 32) {
        control ^= 1 << (16 + rng.below(48));
    }
    let mut parameters = [0; 16];
    if HypercallInput::from_bits(control).fast() {
        parameters.copy_from_slice(&input[..16]);
    } else {
        // Stale input must not be taken for a start of a VP, for registers that `register` would not write, or for IPIs
        // that VP 0 counts.
        let strict =
            [Code::SET_VP_REGISTERS, Code::START_VP, Code::SEND_IPI, Code::SEND_IPI_EX].contains(&code);
        let fresh = hv::put(rng.below(0x200) as usize * 8 + rng.below(8) as usize * 0x1000, &input);
        let other = address(rng);
        let stray = rng.chance(1, 6) && !(strict && hv::in_arenas(other));
        parameters[0] = if stray { other } else { fresh };
        parameters[1] = address(rng);
    }
    (control, parameters)
}

fn takes_reps(code: Code) -> bool {
    [
        Code::GET_VP_REGISTERS,
        Code::SET_VP_REGISTERS,
        Code::FLUSH_VIRTUAL_ADDRESS_LIST,
        Code::FLUSH_VIRTUAL_ADDRESS_LIST_EX,
        Code::GET_VP_ID_FROM_APIC_ID,
    ]
    .contains(&code)
}

fn input(rng: &mut Rng, code: Code) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    words[0] = if rng.chance(15, 16) { PARTITION_ID_SELF } else { rng.number() };
    words[1] = match rng.below(16) {
        0..13 => u64::from(VP_INDEX_SELF),
        13 | 14 => rng.below(9),
        _ => rng.number(),
    };
    match code {
        Code::GET_VP_REGISTERS => {
            words[2..].fill_with(|| u64::from(register_name(rng)) | u64::from(register_name(rng)) << 32);
        }
        Code::SET_VP_REGISTERS => {
            for element in words[2..].chunks_mut(4) {
                let (name, value) = register(rng);
                let four = [u64::from(name), 0, value, if rng.chance(1, 32) { rng.number() } else { 0 }];
                element.copy_from_slice(&four[..element.len()]);
            }
        }
        Code::START_VP => {
            words[2..].fill_with(|| rng.number());
            words[1] = startable(rng) & 0xffff_ffff;
        }
        Code::SEND_IPI | Code::SEND_IPI_EX => {
            let vector = if rng.chance(7, 8) { rng.below(64) } else { rng.number() };
            let stimer = rt::hardware::get().stimer_intid.unwrap_or(0);
            let kept = [IPI_INTID, SINT_INTID, stimer, VIRTUAL_TIMER_INTID].contains(&(vector as u32));
            let vector = if kept { 24 } else { vector };
            words[0] = vector;
            words[1..].fill_with(|| if rng.chance(1, 2) { rng.below(16) } else { rng.number() });
        }
        Code::POST_MESSAGE => {
            words[0] = if rng.chance(3, 4) { rng.pick(&[1, 4]) } else { rng.number() };
            let size = if rng.chance(7, 8) { rng.below(241) } else { rng.next() };
            words[1] = 1 | size << 32;
            words[2..].fill_with(|| harmless(rng.number()));
            // A VMBus message: its type, and its first field.
            words[2] = rng.below(30) | rng.number() << 32;
        }
        Code::SIGNAL_EVENT => words[0] = if rng.chance(1, 2) { rng.below(1 << 17) } else { rng.number() },
        _ => words.fill_with(|| if rng.chance(1, 2) { rng.below(8) } else { harmless(rng.number()) }),
    }
    // Flushes stop every CPU of the emulator: make few.
    if is_flush(code) && rng.chance(15, 16) {
        words[1] = rng.number() | 1 << 40;
    }
    words
}

fn is_flush(code: Code) -> bool {
    [
        Code::FLUSH_VIRTUAL_ADDRESS_SPACE,
        Code::FLUSH_VIRTUAL_ADDRESS_LIST,
        Code::FLUSH_VIRTUAL_ADDRESS_SPACE_EX,
        Code::FLUSH_VIRTUAL_ADDRESS_LIST_EX,
    ]
    .contains(&code)
}

/// Registers of a call of an SMCCC function.
pub(crate) fn smccc(rng: &mut Rng) -> Registers {
    let mut x: Registers = core::array::from_fn(|_| value(rng));
    let function = match rng.below(4) {
        0 | 1 => psci::VERSION + rng.below(0x20) + rng.below(2) * SMC64,
        2 => rng.pick(&[0x8000_0000, 0x8000_0001, 0x8600_ff01, 0xc600_ff01, 0x8400_0050]),
        _ => rng.number(),
    };
    // The end of this run, or of this VP, or its sleep; and hypercalls, which are made otherwise.
    const KEPT: [u64; 6] = [
        psci::CPU_SUSPEND - SMC64,
        psci::CPU_OFF,
        psci::SYSTEM_OFF,
        psci::SYSTEM_RESET,
        psci::SYSTEM_SUSPEND,
        psci::SYSTEM_RESET2,
    ];
    let short = function & 0xffff_ffff;
    let kept = KEPT.contains(&(short & !SMC64)) || short == u64::from(HYPERCALL);
    x[0] = if kept { psci::VERSION } else { function };
    if short & !SMC64 == psci::CPU_ON - SMC64 {
        x[1] = startable(rng);
    }
    x
}

/// Generates a system register or instruction, and whether it is written.
pub(crate) fn system_register(rng: &mut Rng) -> (Encoding, bool) {
    let mut any = |end: u32| rng.below(u64::from(end)) as u32;
    let [op1, crn, crm, op2] = [any(8), any(16), any(16), any(8)];
    match any(16) {
        // Any register may be read.
        0..6 => ([2 + any(2), op1, crn, crm, op2], false),
        // Registers of other levels.
        6..8 => ([3, 4 + any(4), crn, crm, op2], true),
        // Implementation defined ones.
        8 => ([3, op1, 11 + 4 * any(2), crm, op2], true),
        // The interrupt controller's: CRm 8 to 12, priorities and all, and the priority mask.
        9..11 => ([3, 0, 12, 8 + any(5), op2], true),
        11 => ([3, 0, 4, 6, 0], true),
        // Timers.
        12 => ([3, 3, 14, any(4), op2], true),
        // Performance monitors.
        13 => ([3, 3, [9, 14][any(2) as usize], 8 + any(8), op2], true),
        // Debug registers but for MDSCR_EL1, which could turn on breakpoints.
        14 if [crn, crm, op2] != [0, 2, 2] => ([2, 0, crn & 1, crm, op2], true),
        // Cache and address translation instructions; TLB instructions stop every CPU of the emulator: make few.
        _ => ([1, op1, if any(16) == 0 { 8 } else { 7 }, crm, op2], true),
    }
}
