//! Hypercalls with every register under control, and the memory that they may use.
#![expect(unsafe_code, reason = "hypercalls write to memory")]

use core::ptr::addr_of;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_tlfs::hypercall::{HypercallCode, HypercallInput, HypercallOutput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};
use rt::exception::Exception;
use rt::probe;

/// X0 to X30. The last is not the caller's.
pub(crate) type Registers = [u64; 31];

/// Pages for hypercalls of each VP.
pub(crate) const ARENA_PAGES: usize = 16;
/// Bytes of a VP's arena.
pub(crate) const ARENA_BYTES: usize = ARENA_PAGES << 12;

/// Memory that hypercalls may read and write; 64 KiB per VP, so that it has pages of its own with any granule.
#[repr(align(65536))]
struct Arenas([[AtomicU64; ARENA_BYTES / 8]; rt::MAX_CPUS]);

static ARENAS: Arenas = Arenas([const { [const { AtomicU64::new(0) }; ARENA_BYTES / 8] }; rt::MAX_CPUS]);

/// Returns this VP's arena, as words.
pub(crate) fn arena() -> &'static [AtomicU64; ARENA_BYTES / 8] {
    &ARENAS.0[rt::cpu::index()]
}

/// Returns the guest physical address of this VP's arena.
pub(crate) fn arena_gpa() -> u64 {
    addr_of!(*arena()) as u64
}

/// Returns whether an address is in the arena of any VP.
pub(crate) fn in_arenas(gpa: u64) -> bool {
    let start = addr_of!(ARENAS) as u64;
    (start..start + size_of::<Arenas>() as u64).contains(&gpa)
}

/// Writes words into this VP's arena from byte `offset`, a multiple of 8, on, and returns their address.
pub(crate) fn put(offset: usize, words: &[u64]) -> u64 {
    for (place, word) in arena()[offset / 8..].iter().zip(words) {
        place.store(*word, Ordering::Relaxed);
    }
    arena_gpa() + offset as u64
}

/// Returns a word of this VP's arena.
pub(crate) fn word(offset: usize) -> u64 {
    arena()[offset / 8].load(Ordering::Acquire)
}

/// The convention of a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Convention {
    /// `hvc #0`, with the function id in X0.
    Smccc,
    /// `hvc #1`, as in 2018.
    Hvc1,
}

impl Convention {
    pub(crate) const BOTH: [Self; 2] = [Self::Smccc, Self::Hvc1];

    /// Returns the register that has the control word.
    pub(crate) fn first(self) -> usize {
        match self {
            Self::Smccc => 1,
            Self::Hvc1 => 0,
        }
    }

    /// Puts control word and parameters in their places, up to the 16 of a fast call.
    pub(crate) fn registers(self, control: u64, parameters: &[u64]) -> Registers {
        let mut x = [0; 31];
        let first = self.first();
        x[first] = control;
        x[first + 1..][..parameters.len()].copy_from_slice(parameters);
        if self == Self::Smccc {
            x[0] = u64::from(HYPERCALL);
        }
        x
    }

    /// Makes the call. It may write only to arenas, and to memory that is not the guest's: see [`call`].
    pub(crate) fn call(self, x: &mut Registers) -> Option<Exception> {
        call(Call::Hvc(if self == Self::Smccc { 0 } else { 1 }), x)
    }
}

/// The instruction that calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// `hvc` with this immediate.
    Hvc(u16),
    /// `smc` with this immediate.
    Smc(u16),
}

/// Calls with these registers. Addresses among them are those of arenas, or lie outside this program: a promise of this
/// whole program, whose random addresses all come from `generate::address`.
pub(crate) fn call(call: Call, x: &mut Registers) -> Option<Exception> {
    match call {
        // SAFETY: no register names memory that Rust code uses, except atomics in arenas, as this function's
        // description promises.
        Call::Hvc(immediate) => unsafe { probe::hvc(immediate, x) },
        // SAFETY: no register names memory that Rust code uses, except atomics in arenas, as this function's
        // description promises.
        Call::Smc(immediate) => unsafe { probe::smc(immediate, x) },
    }
}

/// Issues a fast hypercall, and returns its result and the registers afterwards.
pub(crate) fn fast(
    convention: Convention,
    control: HypercallInput,
    input: &[u64],
) -> (HypercallOutput, Registers) {
    let mut x = convention.registers(control.with_fast(true).bits(), input);
    if let Some(exception) = convention.call(&mut x) {
        panic!("a hypercall met {exception:?}");
    }
    (HypercallOutput::from_bits(x[0]), x)
}

/// Issues a hypercall with its parameters in memory.
pub(crate) fn memory(
    convention: Convention,
    control: HypercallInput,
    input: u64,
    output: u64,
) -> HypercallOutput {
    let mut x = convention.registers(control.bits(), &[input, output]);
    if let Some(exception) = convention.call(&mut x) {
        panic!("a hypercall met {exception:?}");
    }
    HypercallOutput::from_bits(x[0])
}

/// Returns the control word of a Get or a Set of one register.
fn one(code: HypercallCode) -> HypercallInput {
    HypercallInput::from_code(code).with_rep_count(1)
}

/// Reads a register of a VP: low and high half.
pub(crate) fn get_of(convention: Convention, vp: u32, name: RegisterName) -> Result<[u64; 2], HvStatus> {
    let input = [PARTITION_ID_SELF, u64::from(vp), u64::from(name.0), 0];
    let (result, x) = fast(convention, one(HypercallCode::GET_VP_REGISTERS), &input);
    // Output follows the input, or is in the last registers.
    let output = if convention == Convention::Smccc { 6 } else { 15 };
    if result.status() == HvStatus::SUCCESS { Ok([x[output], x[output + 1]]) } else { Err(result.status()) }
}

/// Reads a register of this VP: its low half.
pub(crate) fn get(name: RegisterName) -> Result<u64, HvStatus> {
    get_of(Convention::Smccc, VP_INDEX_SELF, name).map(|[low, _]| low)
}

/// Writes a register of this VP.
pub(crate) fn set(name: RegisterName, value: u64) -> Result<(), HvStatus> {
    let input = [PARTITION_ID_SELF, u64::from(VP_INDEX_SELF), u64::from(name.0), 0, value, 0];
    let (result, _) = fast(Convention::Smccc, one(HypercallCode::SET_VP_REGISTERS), &input);
    if result.status() == HvStatus::SUCCESS { Ok(()) } else { Err(result.status()) }
}

/// The guest OS id of this program: open source, OS type 0x7f, which is unassigned.
const GUEST_OS_ID: u64 = 1 << 63 | 0x7f << 56 | 1;

/// Reports the guest OS id to the host, without which most calls are refused.
pub(crate) fn identify() {
    if let Err(status) = set(RegisterName::GUEST_OS_ID, GUEST_OS_ID) {
        panic!("the guest OS id was refused: {status:?}");
    }
}
