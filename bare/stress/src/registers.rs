//! System registers that a guest does not have.
#![expect(unsafe_code, reason = "generated instructions")]

use rt::exception::Exception;
use rt::probe;

use crate::check::{Check, Checks};

/// The encoding of a system register: Op0, Op1, CRn, CRm, Op2.
pub(crate) type Encoding = [u32; 5];

/// Encodes `mrs x0, <register>`, or with `write` `msr <register>, x0`; for Op0 1, `sysl` and `sys`.
pub(crate) fn instruction([op0, op1, crn, crm, op2]: Encoding, write: bool) -> u32 {
    let read = if write { 0 } else { 1 << 21 };
    0xd500_0000 | read | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
}

fn encodings(op1: u32, crn: impl Iterator<Item = u32> + Clone) -> impl Iterator<Item = Encoding> {
    crn.flat_map(move |crn| (0..16).flat_map(move |crm| (0..8).map(move |op2| [3, op1, crn, crm, op2])))
}

pub(crate) fn run(checks: &mut Checks) {
    let levels =
        [(4, "EL2's registers"), (5, "EL1's registers by EL2's names"), (6, "EL3's registers"), (7, "Op1 7")];
    for (op1, name) in levels {
        checks.check(name, |check| encodings(op1, 0..16).for_each(|encoding| undefined(check, encoding)));
    }
    checks.check("implementation defined registers", |check| {
        for op1 in 0..8 {
            encodings(op1, [11, 15].into_iter()).for_each(|encoding| undefined_or_constant(check, encoding));
        }
    });
    checks.check("implementation defined system instructions", |check| {
        for op1 in 0..8 {
            for [_, op1, crn, crm, op2] in encodings(op1, [11, 15].into_iter()) {
                write_is_undefined(check, [1, op1, crn, crm, op2]);
            }
        }
    });
    checks.check("EL2's cache, TLB and address translation instructions", |check| {
        // CRn 7 is `at`, CRn 8 is `tlbi`; EL2's have Op1 4, EL3's 6.
        for op1 in [4, 6] {
            for [_, op1, crn, crm, op2] in encodings(op1, [7, 8].into_iter()) {
                write_is_undefined(check, [1, op1, crn, crm, op2]);
            }
        }
    });
    checks.check("the counter's frequency is read-only", |check| write_is_undefined(check, [3, 3, 14, 0, 0]));
    checks.check("SGIs of the group that is not there have no effect", |check| {
        // ICC_ASGI1R_EL1 and ICC_SGI0R_EL1, with an SGI for no VP.
        for op2 in [6, 7] {
            check.equal(op2, access([3, 0, 12, 11, op2], true), None);
        }
    });
}

/// Executes the instruction with X0 = 0.
fn access(encoding: Encoding, write: bool) -> Option<Exception> {
    // SAFETY: registers of other exception levels, unassigned ones, and those listed above: none of them changes what
    // this program relies on, should the write take effect.
    unsafe { probe::instruction(instruction(encoding, write), &mut [0; 31]) }
}

fn write_is_undefined(check: &mut Check, encoding: Encoding) {
    check.meets((encoding, "write"), access(encoding, true), Exception::is_undefined);
}

fn undefined(check: &mut Check, encoding: Encoding) {
    check.meets((encoding, "read"), access(encoding, false), Exception::is_undefined);
    write_is_undefined(check, encoding);
}

/// Checks that the access is undefined: HCR_EL2.TIDCP makes it so. QEMU 7.2 has no TIDCP, and some models have
/// constants of their own there.
fn undefined_or_constant(check: &mut Check, encoding: Encoding) {
    let access = |write, value| {
        let mut x = [value; 31];
        // SAFETY: implementation defined registers, which have no effect (QEMU) or do not exist.
        let exception = unsafe { probe::instruction(instruction(encoding, write), &mut x) };
        (exception, x[0])
    };
    let (exception, before) = access(false, 0);
    if exception.is_some() {
        return undefined(check, encoding);
    }
    let (exception, _) = access(true, !before);
    check.holds((encoding, exception), exception.is_none_or(|e| e.is_undefined()));
    check.equal((encoding, "a constant"), access(false, 0).1, before);
}
