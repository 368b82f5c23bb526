//! Accesses and instructions that may fault: each returns the exception it took instead of ending the program.
#![expect(unsafe_code, reason = "assembly that may fault")]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::exception::{self, Exception};
use crate::stacks::MAX_CPUS;
use crate::{arch, cpu, mrs, msr};

/// An access of 1, 2, 4 or 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// `ldrb`, `strb`.
    Byte,
    /// `ldrh`, `strh`.
    Half,
    /// `ldr w`, `str w`.
    Word,
    /// `ldr x`, `str x`.
    Double,
}

impl Size {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Byte, Self::Half, Self::Word, Self::Double];
}

macro_rules! load {
    ($instruction:literal, $address:expr, $value:expr) => {
        // SAFETY: a load; if it faults, it is skipped and the register keeps its value. The caller promises that it may
        // read there.
        unsafe {
            asm!(concat!($instruction, ", [{address}]"), value = inlateout(reg) 0u64 => $value,
                address = in(reg) $address, options(nostack, preserves_flags))
        }
    };
}

/// Reads at an address.
///
/// # Safety
///
/// Rust code does not write memory there meanwhile, except through atomics; a device there has no state that the
/// program relies on and that the read changes.
///
/// # Errors
///
/// The exception that the access took.
pub unsafe fn read(address: u64, size: Size) -> Result<u64, Exception> {
    let mut value = 0u64;
    let exception = exception::catch(|| match size {
        Size::Byte => load!("ldrb {value:w}", address, value),
        Size::Half => load!("ldrh {value:w}", address, value),
        Size::Word => load!("ldr {value:w}", address, value),
        Size::Double => load!("ldr {value}", address, value),
    });
    exception.map_or(Ok(value), Err)
}

macro_rules! store {
    ($instruction:literal, $address:expr, $value:expr) => {
        // SAFETY: a store, skipped if it faults; the caller promises that it may write there.
        unsafe {
            asm!(concat!($instruction, ", [{address}]"), value = in(reg) $value, address = in(reg) $address,
                options(nostack, preserves_flags))
        }
    };
}

/// Writes at an address.
///
/// # Safety
///
/// No memory that Rust code uses is there, except atomics, and no device that the write disturbs in a way that breaks
/// the program.
///
/// # Errors
///
/// The exception that the access took.
pub unsafe fn write(address: u64, size: Size, value: u64) -> Result<(), Exception> {
    let exception = exception::catch(|| match size {
        Size::Byte => store!("strb {value:w}", address, value),
        Size::Half => store!("strh {value:w}", address, value),
        Size::Word => store!("str {value:w}", address, value),
        Size::Double => store!("str {value}", address, value),
    });
    exception.map_or(Ok(()), Err)
}

/// Calls an address.
///
/// # Safety
///
/// Nothing executable is there, or a function that follows the procedure call standard.
///
/// # Errors
///
/// The exception that the fetch took.
pub unsafe fn execute(address: u64) -> Result<(), Exception> {
    let exception = exception::catch(|| {
        // SAFETY: a fetch that fails returns to the next instruction (`catch`); otherwise the caller promises a
        // function that follows the procedure call standard.
        unsafe { asm!("blr {}", in(reg) address, clobber_abi("C")) }
    });
    exception.map_or(Ok(()), Err)
}

/// Instructions that this CPU has executed recently, each followed by a return; found by hash, so that one in a loop is
/// not written each time.
#[repr(align(4096))]
struct Slots([[AtomicU32; 2]; SLOTS]);
const SLOTS: usize = 512;
static CODE: [Slots; MAX_CPUS] =
    [const { Slots([const { [AtomicU32::new(0), AtomicU32::new(0)] }; SLOTS]) }; MAX_CPUS];

unsafe extern "C" {
    /// Calls `code` with these registers, and stores them again (vectors.s).
    fn rt_run(code: *const AtomicU32, registers: *mut [u64; 31]);
    /// Enters `code` with these registers by an exception return with this SPSR_EL1, and stores them again (vectors.s).
    fn rt_run_in_state(code: *const AtomicU32, registers: *mut [u64; 31], spsr: u64);
}

/// Returns the address of `instruction`, followed by a return, in this CPU's page of instructions.
fn place(instruction: u32) -> *const AtomicU32 {
    const RET: u32 = 0xd65f_03c0;
    // Fibonacci hashing; encodings differ in all bits.
    let index = (instruction.wrapping_mul(0x9e37_79b1) >> 16) as usize % SLOTS;
    let slot = &CODE[cpu::index()].0[index];
    if slot[0].load(Ordering::Relaxed) != instruction {
        slot[0].store(instruction, Ordering::Relaxed);
        slot[1].store(RET, Ordering::Relaxed);
        // SAFETY: cache maintenance by address on memory of ours (Arm ARM, "Concurrent modification and execution of
        // instructions"); both words are in one cache line.
        unsafe {
            asm!("dc cvau, {0}", "dsb ish", "ic ivau, {0}", "dsb ish", "isb", in(reg) slot.as_ptr(),
                options(nostack, preserves_flags));
        }
    }
    slot.as_ptr()
}

/// Executes one instruction with these registers, and returns the exception it took. X30 is not the caller's: it holds
/// the return address. An instruction that faults is skipped.
///
/// # Safety
///
/// The instruction leaves SP, X30, the flow of control, and everything in memory and system registers that the program
/// relies on unchanged.
pub unsafe fn instruction(instruction: u32, registers: &mut [u64; 31]) -> Option<Exception> {
    let code = place(instruction);
    exception::catch(|| {
        // SAFETY: `code` is the instruction and a return; `rt_run` preserves the registers that the procedure call
        // standard requires, and the caller promises that the instruction leaves everything else that the program
        // relies on unchanged.
        unsafe { rt_run(code, registers) }
    })
}

/// The result of a step over one instruction.
#[derive(Clone, Copy, Debug)]
pub struct Stepped {
    /// Address of the instruction.
    pub address: u64,
    /// The first exception: that of the instruction, or the software step exception after it.
    pub exception: Option<Exception>,
}

/// Executes one instruction as a debugger steps over it, with PSTATE.BTYPE = `btype`. The registers are those of
/// [`instruction`].
///
/// # Safety
///
/// That of [`instruction`].
pub unsafe fn step(instruction: u32, registers: &mut [u64; 31], btype: u64) -> Stepped {
    /// MDSCR_EL1: SS, KDE.
    const STEP: u64 = 1 << 13 | 1 << 0;
    /// SPSR_EL1: EL1t; A, I and F masked, debug exceptions are not; SS.
    const STATE: u64 = 0b0100 | 0b111 << 6 | 1 << 21;
    let code = place(instruction);
    let mut exception = None;
    arch::without_interrupts(|| {
        let before = mrs!("mdscr_el1");
        // SAFETY: the OS lock and MDSCR_EL1 concern only debug exceptions, which are masked except for the instruction.
        unsafe { msr!("oslar_el1", 0) };
        // SAFETY: MDSCR_EL1 concerns only debug exceptions, which are masked except for the instruction.
        unsafe { msr!("mdscr_el1", STEP) };
        arch::isb();
        // SAFETY: the state is the one in which this program runs, except for what makes the step. `code` is the
        // instruction and a return; the caller promises that the instruction leaves everything else that the program
        // relies on unchanged. The step's exception masks debug exceptions again.
        exception = exception::catch(|| unsafe { rt_run_in_state(code, registers, STATE | btype << 10) });
        // SAFETY: restores the value from before.
        unsafe { msr!("mdscr_el1", before) };
        arch::isb();
    });
    Stepped { address: code as u64, exception }
}

/// Executes `hvc` with any immediate.
///
/// # Safety
///
/// The call changes no memory that Rust code uses, except atomics and raw memory.
pub unsafe fn hvc(immediate: u16, registers: &mut [u64; 31]) -> Option<Exception> {
    // SAFETY: the caller promises that the call changes no memory that Rust code uses; the host changes no register but
    // X0 to X17.
    unsafe { self::instruction(0xd400_0002 | u32::from(immediate) << 5, registers) }
}

/// Executes `smc` with any immediate.
///
/// # Safety
///
/// The call changes no memory that Rust code uses, except atomics and raw memory.
pub unsafe fn smc(immediate: u16, registers: &mut [u64; 31]) -> Option<Exception> {
    // SAFETY: the caller promises that the call changes no memory that Rust code uses; the host changes no register but
    // X0 to X17.
    unsafe { self::instruction(0xd400_0003 | u32::from(immediate) << 5, registers) }
}
