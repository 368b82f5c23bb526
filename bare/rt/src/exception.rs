//! Exceptions: expected ones are recorded and survived; unexpected ones end the program with a description.
#![expect(unsafe_code, reason = "the vectors are assembly")]

use core::fmt;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arm_sysregs::el1::registers::{EsrEl1, SpsrEl1};

use crate::stacks::MAX_CPUS;
use crate::{arch, cpu, irq, mrs};

core::arch::global_asm!(
    include_str!("vectors.s"),
    size = const size_of::<ExceptionFrame>(),
    x = const offset_of!(ExceptionFrame, x),
    spsr = const offset_of!(ExceptionFrame, spsr),
    sync = sym sync,
    irq = sym irq,
    other = sym other,
);

/// The state of the CPU when it took the exception, stored by vectors.s.
#[repr(C)]
#[derive(Debug)]
pub struct ExceptionFrame {
    /// X0 to X30.
    pub x: [u64; 31],
    /// ELR_EL1: the address to resume at.
    pub elr: u64,
    /// SPSR_EL1: its PSTATE.
    pub spsr: u64,
    reserved: u64,
}
// X30 and ELR are stored as one pair, and SP is a multiple of 16.
const _: () = assert!(offset_of!(ExceptionFrame, elr) == offset_of!(ExceptionFrame, x) + 31 * 8);
const _: () = assert!(size_of::<ExceptionFrame>().is_multiple_of(16));

/// A synchronous exception.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1; valid for aborts only.
    pub far: u64,
    /// ELR_EL1: the address of the instruction (of the one after it, for a call).
    pub elr: u64,
    /// SPSR_EL1.
    pub spsr: u64,
    /// PSTATE.PAN when the handler began; false if the CPU has no PAN.
    pub pan: bool,
}

impl Exception {
    /// Exception class of an undefined instruction.
    pub const UNKNOWN: u64 = 0x00;
    /// Exception class of a failed instruction fetch in EL1.
    pub const INSTRUCTION_ABORT: u64 = 0x21;
    /// Exception class of a failed access in EL1.
    pub const DATA_ABORT: u64 = 0x25;
    /// Exception class of a software step in EL1.
    pub const SOFTWARE_STEP: u64 = 0x33;
    /// Fault status code of a synchronous external abort that is not one of a table walk.
    pub const EXTERNAL_ABORT: u64 = 0x10;
    /// Fault status code of an alignment fault.
    pub const ALIGNMENT_FAULT: u64 = 0x21;

    /// Returns ESR_ELx.EC.
    pub fn class(&self) -> u64 {
        self.esr >> EsrEl1::EC_SHIFT & EsrEl1::EC_MASK
    }

    /// Returns ESR_ELx.ISS.
    pub fn iss(&self) -> u64 {
        self.esr & EsrEl1::ISS_MASK
    }

    /// Returns true for an undefined instruction, as the architecture reports it: no syndrome, a 32-bit instruction.
    pub fn is_undefined(&self) -> bool {
        self.esr == EsrEl1::IL.bits()
    }

    /// Returns true for a synchronous external abort of an access or of a fetch in EL1.
    pub fn is_external_abort(&self) -> bool {
        matches!(self.class(), Self::INSTRUCTION_ABORT | Self::DATA_ABORT)
            && self.esr & 0x3f == Self::EXTERNAL_ABORT
    }

    /// Returns true if the access was a write (data aborts).
    pub fn is_write(&self) -> bool {
        self.esr & 1 << 6 != 0
    }
}

impl fmt::Debug for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ESR {:#x} (class {:#x}), FAR {:#x}, ELR {:#x}", self.esr, self.class(), self.far, self.elr)
    }
}

/// The exceptions that a CPU expects.
struct Expected {
    active: AtomicBool,
    count: AtomicU32,
    esr: AtomicU64,
    far: AtomicU64,
    elr: AtomicU64,
    spsr: AtomicU64,
    pan: AtomicBool,
}

static EXPECTED: [Expected; MAX_CPUS] = [const {
    Expected {
        active: AtomicBool::new(false),
        count: AtomicU32::new(0),
        esr: AtomicU64::new(0),
        far: AtomicU64::new(0),
        elr: AtomicU64::new(0),
        spsr: AtomicU64::new(0),
        pan: AtomicBool::new(false),
    }
}; MAX_CPUS];

/// Runs `f`, in which instructions may fault, and returns the first exception that one of them took.
///
/// The instruction that faulted is skipped; a fetch that failed returns to X30, which is right for a call; a software
/// step resumes with debug exceptions masked. Since Rust knows nothing of this, an instruction that may fault must be
/// in assembly whose outputs have a value before it. Interrupt handlers are not part of `f`: they must not fault. Calls
/// must not be nested.
pub fn catch(f: impl FnOnce()) -> Option<Exception> {
    let expected = &EXPECTED[cpu::index()];
    expected.count.store(0, Ordering::Relaxed);
    expected.active.store(true, Ordering::SeqCst);
    f();
    expected.active.store(false, Ordering::SeqCst);
    (expected.count.load(Ordering::Relaxed) != 0).then(|| Exception {
        esr: expected.esr.load(Ordering::Relaxed),
        far: expected.far.load(Ordering::Relaxed),
        elr: expected.elr.load(Ordering::Relaxed),
        spsr: expected.spsr.load(Ordering::Relaxed),
        pan: expected.pan.load(Ordering::Relaxed),
    })
}

/// Returns true if the CPU has PAN (ID_AA64MMFR1_EL1).
pub fn has_pan() -> bool {
    mrs!("id_aa64mmfr1_el1") >> 20 & 0xf != 0
}

/// Returns PSTATE.PAN.
fn pan() -> bool {
    has_pan() && mrs!("s3_0_c4_c2_3") != 0
}

extern "C" fn sync(frame: &mut ExceptionFrame) {
    let (esr, far) = (mrs!("esr_el1"), mrs!("far_el1"));
    let exception = Exception { esr, far, elr: frame.elr, spsr: frame.spsr, pan: pan() };
    let expected = &EXPECTED[cpu::index()];
    if !expected.active.load(Ordering::SeqCst) {
        describe("unexpected exception", exception, frame);
    }
    if expected.count.fetch_add(1, Ordering::Relaxed) == 0 {
        expected.esr.store(esr, Ordering::Relaxed);
        expected.far.store(far, Ordering::Relaxed);
        expected.elr.store(frame.elr, Ordering::Relaxed);
        expected.spsr.store(frame.spsr, Ordering::Relaxed);
        expected.pan.store(exception.pan, Ordering::Relaxed);
    }
    match exception.class() {
        Exception::SOFTWARE_STEP => frame.spsr |= SpsrEl1::D.bits(),
        Exception::INSTRUCTION_ABORT => frame.elr = frame.x[30],
        _ => frame.elr = frame.elr.wrapping_add(4),
    }
}

extern "C" fn irq(_frame: &mut ExceptionFrame) {
    let expected = &EXPECTED[cpu::index()];
    let active = expected.active.swap(false, Ordering::SeqCst);
    irq::handle();
    expected.active.store(active, Ordering::SeqCst);
}

extern "C" fn other(frame: &mut ExceptionFrame) {
    let (esr, far) = (mrs!("esr_el1"), mrs!("far_el1"));
    describe(
        "FIQ, SError or exception from EL0",
        Exception { esr, far, elr: frame.elr, spsr: frame.spsr, pan: pan() },
        frame,
    )
}

fn describe(what: &str, exception: Exception, frame: &ExceptionFrame) -> ! {
    arch::isb();
    panic!("{what}: {exception:?}, SPSR {:#x}, registers {:x?}", frame.spsr, frame.x)
}
