//! Memory and devices that are not the guest's: each access is an external abort, and has no effect.
#![expect(unsafe_code, reason = "accesses to what is not there")]

use core::ops::Range;

use rt::exception::Exception;
use rt::mmu::{self, Kind};
use rt::probe::{self, Size};

use crate::check::{Check, Checks};
use crate::probes;

/// A part of the address space where nothing is for a guest, though the machine may have something there.
pub(crate) struct Window {
    pub name: &'static str,
    pub range: Range<u64>,
    /// Mapped as memory, so that fetches get as far as stage 2; otherwise as a device.
    pub memory: bool,
}

const fn window(name: &'static str, start: u64, end: u64) -> Window {
    Window { name, range: start..end, memory: false }
}

/// QEMU's `virt` machine (hw/arch/virt.c, `base_memmap`), in multiples of 64 KiB.
const DEVICES: [Window; 15] = [
    window("flash 0", 0x0000_0000, 0x0400_0000),
    window("flash 1", 0x0400_0000, 0x0800_0000),
    window("GICv2 CPU interface", 0x0801_0000, 0x0802_0000),
    window("GICv2m frame", 0x0802_0000, 0x0803_0000),
    window("GICv2 hypervisor interface", 0x0803_0000, 0x0804_0000),
    window("GICv2 virtual CPU interface", 0x0804_0000, 0x0805_0000),
    window("ITS", 0x0808_0000, 0x080a_0000),
    window("real-time clock", 0x0901_0000, 0x0902_0000),
    window("fw_cfg", 0x0902_0000, 0x0903_0000),
    window("GPIO to platform bus", 0x0903_0000, 0x0a00_0000),
    window("virtio-mmio", 0x0a00_0000, 0x0a01_0000),
    window("platform bus", 0x0c00_0000, 0x0e00_0000),
    window("PCIe memory", 0x1000_0000, 0x3eff_0000),
    window("PCIe I/O", 0x3eff_0000, 0x3f00_0000),
    window("PCIe configuration", 0x3f00_0000, 0x4000_0000),
];

/// The hypervisor's memory.
pub(crate) const HYPERVISOR: Window =
    Window { name: "hypervisor", range: 0x4000_0000..0x4040_0000, memory: true };

/// Returns all windows of this machine. Redistributors of VPs that do not exist, and what follows RAM, depend on it.
pub(crate) fn windows() -> impl Iterator<Item = Window> {
    let hardware = rt::hardware::get();
    let redistributors = hardware.gicr + hardware.vps() as u64 * 0x2_0000;
    let behind = hardware.ram.end;
    let rest = [
        window("redistributors without a VP", redistributors, 0x0900_0000),
        HYPERVISOR,
        Window { name: "behind RAM", range: behind..behind + 0x40_0000, memory: true },
        Window { name: "far behind RAM", range: 0xf_ff00_0000..0xf_ff10_0000, memory: true },
    ];
    DEVICES.into_iter().chain(rest)
}

/// Maps all windows, so that accesses get past the guest's own translation.
pub(crate) fn map_windows() {
    for Window { name, range, memory } in windows() {
        let kind = if memory { Kind::Ram } else { Kind::Device };
        if let Err(error) = mmu::map(range.start, range.start, range.end - range.start, kind) {
            panic!("cannot map {name}: {error:?}");
        }
    }
}

/// Iterates over addresses in a window: its edges, and some in between.
fn addresses(range: &Range<u64>, step: u64) -> impl Iterator<Item = u64> + use<> {
    let last = range.end - 8;
    (range.start..last).step_by(step as usize).chain([range.start + 0xff8, last])
}

pub(crate) fn run(checks: &mut Checks) {
    for Window { name, range, memory } in windows() {
        // Every page of the hypervisor's, about 64 places elsewhere.
        let step = ((range.end - range.start) / 64).next_multiple_of(0x1000).max(0x1000);
        let step = if range == HYPERVISOR.range { 0x1000 } else { step };
        checks.check(name, |check| {
            for address in addresses(&range, step) {
                access(check, address);
            }
            if memory {
                addresses(&range, step).for_each(|address| fetch(check, address));
            }
        });
    }
    checks.check("accesses of each size", sizes);
    checks.check("instructions that the hypervisor cannot emulate", odd_instructions);
    if rt::hardware::get().granule == rt::Granule::K4 {
        checks.check("the rest of the UART's 64 KiB", |check| {
            let end = 0x901_0000u64;
            let mapped = mmu::map(0x900_1000, 0x900_1000, 0xf000, Kind::Device);
            check.equal("mapping", mapped, Ok(()));
            addresses(&(0x900_1000..end), 0x1000).for_each(|address| access(check, address));
        });
    }
}

/// Checks that the exception is an external abort of an access to `address`.
fn judge(check: &mut Check, address: u64, write: bool, got: Option<Exception>) {
    let right = got.is_some_and(|e| e.is_external_abort() && e.far == address && e.is_write() == write);
    if !right {
        check.wrong((address, if write { "write" } else { "read" }), got);
    }
}

/// Reads and writes at an address.
fn access(check: &mut Check, address: u64) {
    judge(check, address, false, probes::read(address, Size::Word).err());
    // SAFETY: nothing that Rust code uses is there.
    let write = unsafe { probe::write(address, Size::Word, 0xdead_beef) };
    judge(check, address, true, write.err());
}

fn fetch(check: &mut Check, address: u64) {
    // SAFETY: nothing executable is there, as this checks; otherwise the run ends in a fault.
    let got = unsafe { probe::execute(address & !3) };
    let right = got.is_err_and(|e| e.is_external_abort() && e.far == address & !3 && e.elr == address & !3);
    if !right {
        check.wrong((address, "fetch"), got);
    }
}

fn sizes(check: &mut Check) {
    for address in [0x902_0000, HYPERVISOR.range.start + 0x20_0000] {
        for size in Size::ALL {
            judge(check, address, false, probes::read(address, size).err());
            // SAFETY: nothing that Rust code uses is there.
            let write = unsafe { probe::write(address, size, u64::MAX) };
            judge(check, address, true, write.err());
        }
    }
}

/// Loads and stores whose aborts have no valid syndrome: X1 is the address.
pub(crate) const ODD_INSTRUCTIONS: [(&str, u32); 16] = [
    ("ldp x2, x3, [x1]", 0xa940_0c22),
    ("stp x2, x3, [x1]", 0xa900_0c22),
    ("ldp w2, w3, [x1]", 0x2940_0c22),
    ("stp w2, w3, [x1]", 0x2900_0c22),
    ("ldnp x2, x3, [x1]", 0xa840_0c22),
    ("ldr x2, [x1], #8", 0xf840_8422),
    ("ldr x2, [x1, #8]!", 0xf840_8c22),
    ("str w2, [x1], #4", 0xb800_4422),
    ("ldr q0, [x1]", 0x3dc0_0020),
    ("str q0, [x1]", 0x3d80_0020),
    ("ld1 {v0.16b}, [x1]", 0x4c40_7020),
    ("ldxr x2, [x1]", 0xc85f_7c22),
    ("ldxp x2, x3, [x1]", 0xc87f_0c22),
    ("stxr w4, x2, [x1]", 0xc804_7c22),
    ("ldaxr w2, [x1]", 0x885f_fc22),
    ("dc zva, x1", 0xd50b_7421),
];

fn odd_instructions(check: &mut Check) {
    for address in [0x902_0000, HYPERVISOR.range.start + 0x20_0000] {
        for (name, instruction) in ODD_INSTRUCTIONS {
            let mut x = [0; 31];
            x[1] = address;
            // SAFETY: loads and stores at an address where nothing that Rust code uses is; SP and X30 are not among
            // their operands.
            let got = unsafe { probe::instruction(instruction, &mut x) };
            // An exclusive store without a reservation need not access memory; `dc zva` on a device may be an
            // alignment fault.
            let excused = match name {
                "stxr w4, x2, [x1]" => got.is_none() && x[4] == 1,
                "dc zva, x1" => got.is_some_and(|e| e.esr & 0x3f == Exception::ALIGNMENT_FAULT),
                _ => false,
            };
            if !excused {
                check.meets((name, address), got, Exception::is_external_abort);
            }
        }
    }
}
