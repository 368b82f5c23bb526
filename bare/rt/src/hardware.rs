//! The hardware, as the device tree describes it.
//!
//! Sources: Devicetree Specification 0.4; Linux, Documentation/devicetree/bindings: arm,gic-v3.yaml,
//! microsoft,vmbus.yaml.
#![expect(unsafe_code, reason = "the device tree is a raw address")]

use core::ops::Range;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property, ToCellInt};
use spin::Once;

use crate::granule::Granule;
use crate::stacks::MAX_CPUS;

/// The facts from the device tree.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// Guest physical addresses of the RAM.
    pub ram: Range<u64>,
    /// The command line.
    pub bootargs: &'static str,
    /// Guest physical addresses of the initrd, if there is one.
    pub initrd: Option<Range<u64>>,
    /// Address of the EFI system table that leads to the ACPI tables, if there is one (`--firmware both`).
    pub efi_system_table: Option<u64>,
    /// Address of the GIC's distributor.
    pub gicd: u64,
    /// Address of the first redistributor; the others follow, 128 KiB each.
    pub gicr: u64,
    /// INTID of the VMBus interrupt, when the tree has a `microsoft,vmbus` node.
    pub vmbus_intid: Option<u32>,
    /// Guest physical addresses that VMBus's devices may put memory at, when the tree has that node.
    pub vmbus_window: Option<Range<u64>>,
    /// INTID for direct-mode synthetic timers, when the tree has the `hv-arm64,stimer-intid` property in /chosen.
    pub stimer_intid: Option<u32>,
    /// The page size that the runtime chose.
    pub granule: Granule,
    /// Affinities of the CPUs.
    mpidrs: [u64; MAX_CPUS],
    cpus: usize,
}

static HARDWARE: Once<Hardware> = Once::new();

impl Hardware {
    /// Returns the number of CPUs.
    pub fn vps(&self) -> usize {
        self.cpus
    }

    /// Returns the affinity fields of a CPU's MPIDR_EL1, as PSCI takes them.
    ///
    /// # Panics
    ///
    /// If there is no such CPU.
    pub fn mpidr(&self, cpu: usize) -> u64 {
        self.mpidrs[..self.cpus][cpu]
    }

    /// Returns the value of `name=value` in the command line.
    pub fn argument(&self, name: &str) -> Option<&'static str> {
        argument(self.bootargs, name)
    }

    /// Returns the value of `name=number` in the command line; decimal, or hexadecimal with `0x`.
    ///
    /// If it is not a number: a program that ignored the argument would not do what it was told.
    ///
    /// If it is not a number: a program that ignored that would do something else than it was told to.
    pub fn number(&self, name: &str) -> Option<u64> {
        let value = self.argument(name)?;
        let number = match value.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => value.parse(),
        };
        Some(number.unwrap_or_else(|_| panic!("{name}={value} is not a number")))
    }
}

fn argument(bootargs: &'static str, name: &str) -> Option<&'static str> {
    bootargs.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// Returns the hardware, available once the runtime has started.
///
/// # Panics
///
/// Before the runtime has started.
pub fn get() -> &'static Hardware {
    HARDWARE.get().expect("the runtime parses the device tree first")
}

/// Parses the tree and stores the result.
pub(crate) fn init(tree: *const u8) -> &'static Hardware {
    HARDWARE.call_once(|| parse(tree))
}

/// Parses the tree. Works with the MMU off.
pub(crate) fn parse(tree: *const u8) -> Hardware {
    // SAFETY: the start's X0 is the device tree's address (lib.rs); the tree lies in RAM that none of our code
    // overwrites, and `from_raw` checks the header before the rest.
    let fdt = unsafe { Fdt::from_raw(tree) }.expect("X0 points to a device tree: boot with `--firmware dt`");
    let chosen = fdt.find_node("/chosen");
    let bootargs = chosen.and_then(|node| text(node, "bootargs")).unwrap_or("");
    let memory =
        fdt.find_node("/memory").expect("the device tree describes the memory: boot with `--firmware dt`");
    let (start, size) = reg(memory, 0).expect("the memory has a reg property");
    let gic = compatible(fdt, "arm,gic-v3").expect("the machine has a GICv3");
    let mut mpidrs = [0; MAX_CPUS];
    let mut cpus = 0;
    let list = fdt.cpus().expect("the device tree has CPUs");
    for (mpidr, cpu) in mpidrs.iter_mut().zip(list.cpus()) {
        let id = cpu.ids().ok().and_then(|mut ids| ids.next());
        *mpidr = id.and_then(|id| id.to_int().ok()).expect("a CPU has a reg property");
        cpus += 1;
    }
    let vmbus = compatible(fdt, "microsoft,vmbus");
    Hardware {
        ram: start..start + size,
        bootargs,
        initrd: chosen
            .and_then(|node| Some(long(node, "linux,initrd-start", 0)?..long(node, "linux,initrd-end", 0)?)),
        efi_system_table: chosen.and_then(|node| long(node, "linux,uefi-system-table", 0)),
        gicd: reg(gic, 0).expect("the GIC has a distributor").0,
        gicr: reg(gic, 1).expect("the GIC has redistributors").0,
        vmbus_intid: vmbus.and_then(intid),
        vmbus_window: vmbus.and_then(window),
        stimer_intid: chosen.and_then(|node| cell(node, "hv-arm64,stimer-intid", 0)),
        granule: Granule::choose(argument(bootargs, "rt.granule")),
        mpidrs,
        cpus,
    }
}

/// Returns the first child of the root that is compatible with `name`.
fn compatible(fdt: Fdt<'static>, name: &str) -> Option<FdtNode<'static>> {
    fdt.root()
        .children()
        .find(|node| node.compatible().is_some_and(|mut names| names.any(|other| other == name)))
}

fn text(node: FdtNode<'static>, name: &str) -> Option<&'static str> {
    node.property(name)?.value_as().ok()
}

fn cell(node: FdtNode<'static>, name: &str, index: usize) -> Option<u32> {
    let property = node.property(name)?;
    let bytes = property.value().get(index * 4..index * 4 + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn long(node: FdtNode<'static>, name: &str, index: usize) -> Option<u64> {
    let [high, low] = [0, 1].map(|half| cell(node, name, index * 2 + half).map(u64::from));
    Some(high? << 32 | low?)
}

/// Returns the first range of a bus: its own address, that of its parent, and the size, two cells each.
fn window(node: FdtNode<'static>) -> Option<Range<u64>> {
    let (start, size) = (long(node, "ranges", 1)?, long(node, "ranges", 2)?);
    Some(start..start.checked_add(size)?)
}

/// Address and size of entry `index` of the reg property.
fn reg(node: FdtNode<'static>, index: usize) -> Option<(u64, u64)> {
    let entry = node.reg().ok()??.nth(index)?;
    Some((entry.address().ok()?, entry.size().ok()?))
}

/// Returns the INTID of the first interrupt, by the GICv3 binding: type (0 SPI, 1 PPI), number, trigger.
fn intid(node: FdtNode<'static>) -> Option<u32> {
    let (kind, number) = (cell(node, "interrupts", 0)?, cell(node, "interrupts", 1)?);
    match kind {
        0 => Some(number + 32),
        1 => Some(number + 16),
        _ => None,
    }
}
