//! Two facts from the ACPI tables: the hypervisor's identity, and where this processor's redistributor may be.
//!
//! Source: ACPI Specification 6.5, "Root System Description Pointer", "Fixed ACPI Description Table",
//! "Multiple APIC Description Table".
#![expect(unsafe_code, reason = "tables are addresses")]

use uefi_raw::{Guid, guid};

use crate::firmware;

const ACPI_20_TABLE: Guid = guid!("8868e871-e4f1-11d3-bc22-0080c73c8881");
/// Bytes of the header of every table.
const HEADER: usize = 36;
/// Maximum plausible length of a table.
const LONGEST: usize = 1 << 20;

/// A table in memory.
#[derive(Clone, Copy)]
pub(crate) struct Table(&'static [u8]);

impl Table {
    /// Returns the table at an address, if its header has this signature and a plausible length.
    fn at(address: u64, signature: &[u8; 4]) -> Option<Self> {
        if address == 0 {
            return None;
        }
        // SAFETY: the firmware says that a table is at this address; it has a header, and does not change until an
        // operating system reclaims it.
        let header = unsafe { core::slice::from_raw_parts(address as *const u8, HEADER) };
        let length = Self(header).u32(4)? as usize;
        if &header[..4] != signature || !(HEADER..=LONGEST).contains(&length) {
            return None;
        }
        // SAFETY: the firmware says that a table is at this address, its header says that it has this length, and it
        // does not change until an operating system reclaims it.
        Some(Self(unsafe { core::slice::from_raw_parts(address as *const u8, length) }))
    }

    fn u32(self, offset: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.0.get(offset..offset + 4)?.try_into().ok()?))
    }

    fn u64(self, offset: usize) -> Option<u64> {
        Some(u64::from_le_bytes(self.0.get(offset..offset + 8)?.try_into().ok()?))
    }
}

/// Returns the first table with this signature.
fn table(signature: &[u8; 4]) -> Option<Table> {
    let rsdp = firmware::configuration(ACPI_20_TABLE)?;
    // SAFETY: the firmware says that the pointer structure, revision 2 or later, is at this address: 36 bytes.
    let rsdp = Table(unsafe { core::slice::from_raw_parts(rsdp as *const u8, HEADER) });
    let xsdt = Table::at(rsdp.u64(24)?, b"XSDT")?;
    (HEADER..xsdt.0.len()).step_by(8).find_map(|offset| Table::at(xsdt.u64(offset)?, signature))
}

/// Returns the hypervisor vendor identity of the FADT, if the table is new enough to have one.
pub(crate) fn hypervisor_identity() -> Option<[u8; 8]> {
    Some(table(b"FACP")?.u64(268)?.to_le_bytes())
}

/// Locations of the redistributors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frames {
    /// Address of the first.
    pub(crate) base: u64,
    /// Bytes; 0 if the table names only the one of the processor with this affinity.
    pub(crate) length: u64,
    /// See `length`.
    pub(crate) affinity: u64,
}

/// Lists the redistributor regions of the MADT.
pub(crate) fn redistributors() -> impl Iterator<Item = Frames> {
    let madt = table(b"APIC");
    let mut offset = HEADER + 8;
    core::iter::from_fn(move || {
        loop {
            let madt = madt?;
            let (kind, length) = (*madt.0.get(offset)?, usize::from(*madt.0.get(offset + 1)?));
            let entry = offset;
            // An entry without a length would be the last.
            offset = if length == 0 { usize::MAX - 1 } else { offset + length };
            match kind {
                // GICC: GICR base address, MPIDR.
                0xb if length >= 76 => {
                    let (base, affinity) = (madt.u64(entry + 60)?, madt.u64(entry + 68)?);
                    if base != 0 {
                        return Some(Frames { base, length: 0, affinity });
                    }
                }
                // GICR: discovery range base address and length.
                0xe => {
                    let (base, length) = (madt.u64(entry + 4)?, madt.u32(entry + 12)?.into());
                    return Some(Frames { base, length, affinity: 0 });
                }
                _ => {}
            }
        }
    })
}
