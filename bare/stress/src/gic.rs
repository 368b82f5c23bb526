//! Accesses to the interrupt controller: those that it supports, and those that it refuses.
//!
//! Source: Arm Generic Interrupt Controller Architecture Specification (IHI 0069), "About the programmers' model":
//! supported access sizes; reserved registers are RAZ/WI.
#![expect(unsafe_code, reason = "accesses to the interrupt controller beside its driver")]

use rt::Hardware;
use rt::exception::Exception;
use rt::gic::{gicd, gicr};
use rt::probe::{self, Size};

use crate::absent::ODD_INSTRUCTIONS;
use crate::check::{Check, Checks};
use crate::probes;

/// Writes to the interrupt controller.
pub(crate) fn write(address: u64, size: Size, value: u64) -> Result<(), Exception> {
    // SAFETY: the interrupt controller is not memory. This program's writes change only state that its driver does not
    // rely on: interrupts that the driver did not enable, or settings that it makes again.
    unsafe { probe::write(address, size, value) }
}

pub(crate) fn run(checks: &mut Checks) {
    let hardware = rt::hardware::get();
    checks.check("it is a GICv3", |check| {
        for address in [hardware.gicd + gicd::PIDR2, hardware.gicr + gicr::PIDR2] {
            check.equal(address, probes::read(address, Size::Word).map(|v| v >> 4 & 0xf), Ok(3));
        }
    });
    checks.check("registers have the sizes that the specification gives", |check| sizes(check, hardware));
    checks.check("accesses that are not aligned fail", |check| unaligned(check, hardware));
    checks.check("pairs, exclusives and vectors fail", |check| odd(check, hardware));
    checks.check("reserved registers read as zero and ignore writes", |check| reserved(check, hardware));
    checks.check("read-only registers ignore writes", |check| read_only(check, hardware));
    checks.check("every word can be read", |check| every_word(check, hardware));
    checks.check("fetches fail", |check| {
        for address in [hardware.gicd, hardware.gicr] {
            // SAFETY: the mapping is not executable, so the fetch fails before it gets anywhere.
            let got = unsafe { probe::execute(address) };
            check.holds(address, got.is_err_and(|e| e.class() == Exception::INSTRUCTION_ABORT));
        }
    });
    checks.check("SGIs for VPs that do not exist go nowhere", |check| {
        // Target lists without a VP of ours in Aff 0.0.0.x, and other clusters.
        let beyond = 0xffff & !((1 << hardware.vps()) - 1);
        for target in [beyond, 1 << 16 | 1, 0xff << 32 | 1, 1 << 48 | 1, 0xf << 44 | 1] {
            let before = rt::irq::unexpected();
            // SAFETY: at worst it raises SGI 9, which has no handler, and which the line below notices.
            unsafe { rt::msr!("icc_sgi1r_el1", target | 9 << 24) };
            rt::arch::isb();
            check.equal(target, rt::irq::unexpected(), before);
        }
    });
}

fn sizes(check: &mut Check, hardware: &Hardware) {
    let distributor = hardware.gicd;
    let own = hardware.gicr;
    let table = [
        (distributor + gicd::CTLR, [false, false, true, false]),
        (distributor + gicd::TYPER, [false, false, true, false]),
        (distributor + gicd::ISENABLER, [false, false, true, false]),
        (distributor + gicd::IPRIORITYR + 32, [true, false, true, false]),
        (distributor + gicd::IROUTER + 32 * 8, [false, false, true, true]),
        (own, [false, false, true, false]),
        (own + gicr::TYPER, [false, false, true, true]),
        (own + gicr::IPRIORITYR, [true, false, true, false]),
        (own + gicr::ISENABLER, [false, false, true, false]),
    ];
    for (address, supported) in table {
        for (n, (size, supported)) in Size::ALL.into_iter().zip(supported).enumerate() {
            let refused = if address % (1 << n) == 0 { Exception::is_external_abort } else { is_abort };
            let read = probes::read(address, size);
            if supported {
                check.holds((address, size, read), read.is_ok());
                // The value read is written back.
                let wrote = read.map(|value| write(address, size, value));
                check.holds((address, size, wrote), wrote.is_ok_and(|w| w.is_ok()));
            } else {
                check.meets((address, size, "read"), read.err(), refused);
                let wrote = write(address, size, 0);
                check.meets((address, size, "write"), wrote.err(), refused);
            }
        }
    }
}

/// Checks unaligned accesses: an unaligned device access is an alignment fault of the guest's own translation; QEMU
/// 7.2 does not raise it, and then the interrupt controller refuses the access.
fn is_abort(exception: &Exception) -> bool {
    exception.is_external_abort()
        || exception.class() == Exception::DATA_ABORT && exception.esr & 0x3f == Exception::ALIGNMENT_FAULT
}

fn unaligned(check: &mut Check, hardware: &Hardware) {
    for (address, size) in [
        (hardware.gicd + gicd::TYPER + 2, Size::Word),
        (hardware.gicd + gicd::IPRIORITYR + 33, Size::Word),
        (hardware.gicd + gicd::IROUTER + 32 * 8 + 4, Size::Double),
        (hardware.gicr + gicr::TYPER + 1, Size::Double),
        (hardware.gicr + gicr::IPRIORITYR + 1, Size::Word),
    ] {
        check.meets((address, size, "read"), probes::read(address, size).err(), is_abort);
        check.meets((address, size, "write"), write(address, size, 0).err(), is_abort);
    }
}

fn odd(check: &mut Check, hardware: &Hardware) {
    for address in [hardware.gicd + gicd::ISENABLER, hardware.gicr + gicr::ISENABLER] {
        for (name, instruction) in ODD_INSTRUCTIONS {
            if name == "stxr w4, x2, [x1]" {
                // Without a reservation it need not access anything.
                continue;
            }
            let mut x = [0; 31];
            x[1] = address;
            // SAFETY: they write, if anything, zero to enable registers, where zeros have no effect; SP and X30 are not
            // among their operands.
            let got = unsafe { probe::instruction(instruction, &mut x) };
            check.meets((name, address), got, is_abort);
        }
    }
}

fn reserved(check: &mut Check, hardware: &Hardware) {
    for address in
        [hardware.gicd + 0x20, hardware.gicd + 0xc000, hardware.gicr + 0x30, hardware.gicr + 0x1_f000]
    {
        check.equal((address, "write"), write(address, Size::Word, 0xffff_ffff), Ok(()));
        check.equal((address, "read"), probes::read(address, Size::Word), Ok(0));
    }
}

fn read_only(check: &mut Check, hardware: &Hardware) {
    for address in [hardware.gicd + gicd::TYPER, hardware.gicd + gicd::PIDR2, hardware.gicr + gicr::TYPER] {
        let before = probes::read(address, Size::Word);
        check.holds((address, before), before.is_ok());
        check.equal((address, "write"), write(address, Size::Word, 0x5555_5555), Ok(()));
        check.equal((address, "read"), probes::read(address, Size::Word), before);
    }
}

fn every_word(check: &mut Check, hardware: &Hardware) {
    let redistributors = (0..hardware.vps() as u64)
        .flat_map(|vp| (0..gicr::STRIDE).step_by(4).map(move |o| vp * gicr::STRIDE + o));
    let addresses = (0..gicd::BYTES).step_by(4).map(|offset| hardware.gicd + offset);
    for address in addresses.chain(redistributors.map(|offset| hardware.gicr + offset)) {
        let got = probes::read(address, Size::Word);
        if got.is_err() {
            check.wrong(address, got);
        }
    }
}
