//! `hvc` and `smc` without a meaning.
#![expect(unsafe_code, reason = "calls from another stack pointer")]

use core::arch::asm;

use hv_tlfs::smccc::{HYPERCALL, NOT_SUPPORTED, VENDOR_HYP_UID, VENDOR_UID};
use rt::exception::{self, Exception};

use crate::check::{Check, Checks};
use crate::hv::{self, Call, Registers};

/// Registers with a distinct value in each.
fn marked() -> Registers {
    core::array::from_fn(|n| 0x1122_3344_5566_7700 + n as u64)
}

/// Iterates over immediates without a meaning: small ones, powers of two and their neighbours.
fn immediates() -> impl Iterator<Item = u16> {
    (2..=40).chain((6..16).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1])).chain([u16::MAX])
}

pub(crate) fn run(checks: &mut Checks) {
    checks.check("hvc with an unknown immediate is undefined", |check| {
        immediates().for_each(|immediate| undefined(check, Call::Hvc(immediate)));
    });
    checks.check("smc with an immediate is undefined", |check| {
        immediates().chain([1]).for_each(|immediate| undefined(check, Call::Smc(immediate)));
    });
    checks.check("the exception comes from the mode that called", from_sp_el1);
    if exception::has_pan() {
        checks.check("the exception sets PAN as one of the CPU's own does", sets_pan);
    }
    checks.check("an unknown function gives -1 and keeps the other registers", unknown_functions);
    checks.check("the vendor UID by both conduits", |check| {
        for call in [Call::Hvc(0), Call::Smc(0)] {
            let mut x = [0; 31];
            x[0] = u64::from(VENDOR_HYP_UID);
            check.equal(call, hv::call(call, &mut x), None);
            check.equal(call, x[..4].iter().map(|x| *x as u32).eq(VENDOR_UID), true);
        }
    });
    checks.check("a hypercall by smc does not exist", |check| {
        let mut x = marked();
        x[0] = u64::from(HYPERCALL);
        check.equal("exception", hv::call(Call::Smc(0), &mut x), None);
        check.equal("X0", x[0] as u32, NOT_SUPPORTED as u32);
    });
}

/// Checks that the call is an undefined instruction, reported at the call itself, and changes no register.
fn undefined(check: &mut Check, call: Call) {
    let mut x = marked();
    let before = x;
    let got = hv::call(call, &mut x);
    check.meets(call, got, Exception::is_undefined);
    // The return address in X30 is that of the trampoline; the instruction lies right before a return, at its start.
    let at = got.map_or(0, |e| e.elr);
    // SAFETY: the exception's address is that of an instruction of this program, in readable memory.
    let instruction = unsafe { (at as *const u32).read_volatile() };
    let (base, immediate) = match call {
        Call::Hvc(immediate) => (0xd400_0002, immediate),
        Call::Smc(immediate) => (0xd400_0003, immediate),
    };
    check.equal((call, "ELR"), instruction, base | u32::from(immediate) << 5);
    check.equal((call, "registers"), &x[..30], &before[..30]);
}

/// Checks the mode of the exception: programs of ours run on SP_EL0; on SP_EL1, as other kernels do, the exception
/// takes another vector.
fn from_sp_el1(check: &mut Check) {
    /// SPSR_EL1.M.
    const MODE: u64 = 0xf;
    const EL1H: u64 = 0b0101;
    const EL1T: u64 = 0b0100;
    let on_sp_el1 = rt::arch::without_interrupts(|| {
        exception::catch(|| {
            // SAFETY: SP_EL1 is the exception stack, which is empty here; the block uses no stack, and goes back to
            // SP_EL0. The call is skipped when it faults, as it should, and otherwise has no effect.
            unsafe { asm!("msr spsel, #1", "hvc #77", "msr spsel, #0", clobber_abi("C")) }
        })
    });
    check.meets("on SP_EL1", on_sp_el1, Exception::is_undefined);
    check.equal("mode on SP_EL1", on_sp_el1.map(|e| e.spsr & MODE), Some(EL1H));
    let on_sp_el0 = hv::call(Call::Hvc(77), &mut marked());
    check.equal("mode on SP_EL0", on_sp_el0.map(|e| e.spsr & MODE), Some(EL1T));
}

/// Checks that SCTLR_EL1.SPAN decides whether PSTATE.PAN is set.
fn sets_pan(check: &mut Check) {
    const SPAN: u64 = 1 << 23;
    let before = rt::mrs!("sctlr_el1");
    for (control, pan) in [(before & !SPAN, true), (before | SPAN, false)] {
        rt::arch::without_interrupts(|| {
            // SAFETY: only SPAN changes, on which nothing here relies.
            unsafe { rt::msr!("sctlr_el1", control) };
            rt::arch::isb();
            let own = exception::catch(|| {
                // SAFETY: an undefined instruction, which is skipped.
                unsafe { asm!("udf #0") }
            });
            check.equal(("udf", control), own.map(|e| e.pan), Some(pan));
            let injected = hv::call(Call::Hvc(77), &mut marked());
            check.equal(("hvc", control), injected.map(|e| e.pan), Some(pan));
        });
    }
    // SAFETY: restores the value from before.
    unsafe { rt::msr!("sctlr_el1", before) };
    rt::arch::isb();
}

/// Function ids that no owner defines: of each owner, fast and yielding, with 32 and 64 bits.
const UNKNOWN: [u32; 26] = [
    0x0000_0000,
    0x0000_0001,
    0x0100_0001,
    0x3200_0000,
    0x4600_0002,
    0x4600_0000,
    0x7fff_ffff,
    0x8000_0002,
    0x8000_7fff,
    0x8100_0000,
    0x8200_0000,
    0x8300_0000,
    0x8400_0050,
    0x8400_0051,
    0x8400_ff00,
    0x8500_0000,
    0x8600_0000,
    0x8600_0001,
    0xb200_0000,
    0xbf00_ff01,
    0xc400_0000,
    0xc400_0050,
    0xc600_0001,
    0xc600_ff00,
    0xf200_ff01,
    0xffff_ffff,
];

fn unknown_functions(check: &mut Check) {
    for call in [Call::Hvc(0), Call::Smc(0)] {
        for function in UNKNOWN {
            let mut x = marked();
            x[0] = u64::from(function);
            let before = x;
            check.equal((call, function), hv::call(call, &mut x), None);
            check.equal((call, function), x[0], NOT_SUPPORTED);
            // SMCCC 1.1: X4 to X17 are preserved unless they carry results; we also keep X1 to X3.
            check.equal((call, function, "registers"), &x[4..30], &before[4..30]);
        }
    }
}
