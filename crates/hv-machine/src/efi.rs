//! Just enough of UEFI for a kernel to look as if an EFI stub started it: system table, configuration tables, memory
//! map. There are no services.
//!
//! Sources: UEFI Specification 2.10, "EFI System Table", "EFI Configuration Table & Properties Table",
//! "EFI_BOOT_SERVICES.GetMemoryMap()"; Linux, Documentation/arch/arm/uefi.rst.

use std::ops::Range;

use zerocopy::{Immutable, IntoBytes, LE, U16, U32, U64};

/// "IBI SYST".
const SIGNATURE: u64 = 0x5453_5953_2049_4249;
/// UEFI 2.10: the revision of these structures.
const REVISION: u32 = 2 << 16 | 100;
/// 8868e871-e4f1-11d3-bc22-0080c73c8881.
const ACPI_20_TABLE: [u8; 16] =
    [0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11, 0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81];
/// f2fd1544-9794-4a2c-992e-e5bbcf20e394.
const SMBIOS3_TABLE: [u8; 16] =
    [0x44, 0x15, 0xfd, 0xf2, 0x94, 0x97, 0x2c, 0x4a, 0x99, 0x2e, 0xe5, 0xbb, 0xcf, 0x20, 0xe3, 0x94];
/// eb66918a-7eef-402a-842e-931d21c38ae9.
const RT_PROPERTIES_TABLE: [u8; 16] =
    [0x8a, 0x91, 0x66, 0xeb, 0xef, 0x7e, 0x2a, 0x40, 0x84, 0x2e, 0x93, 0x1d, 0x21, 0xc3, 0x8a, 0xe9];
/// EfiConventionalMemory.
const CONVENTIONAL: u32 = 7;
/// EfiACPIReclaimMemory: reserved permanently by Linux, mapped as normal memory.
const ACPI_RECLAIM: u32 = 9;
/// EFI_MEMORY_WB. Linux does not treat a region without it as RAM.
const WRITE_BACK: u64 = 1 << 3;
/// UEFI's page, whatever the kernel's page size.
const EFI_PAGE: u64 = 4096;

#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct SystemTable {
    signature: U64<LE>,
    revision: U32<LE>,
    header_size: U32<LE>,
    crc32: U32<LE>,
    reserved: U32<LE>,
    vendor: U64<LE>,
    vendor_revision: U32<LE>,
    padding: U32<LE>,
    /// Handle and protocol of console input, output and error: none.
    consoles: [U64<LE>; 6],
    runtime_services: U64<LE>,
    boot_services: U64<LE>,
    table_count: U64<LE>,
    tables: U64<LE>,
}

#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct ConfigurationTable {
    guid: [u8; 16],
    address: U64<LE>,
}

#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct RtProperties {
    version: U16<LE>,
    length: U16<LE>,
    supported: U32<LE>,
}

#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct MemoryDescriptor {
    kind: U32<LE>,
    padding: U32<LE>,
    physical_start: U64<LE>,
    virtual_start: U64<LE>,
    pages: U64<LE>,
    attributes: U64<LE>,
}

const _: () = assert!(size_of::<SystemTable>() == 120);
const _: () = assert!(size_of::<ConfigurationTable>() == 24);
const _: () = assert!(size_of::<RtProperties>() == 8);
const _: () = assert!(size_of::<MemoryDescriptor>() == MemoryMap::DESCRIPTOR_SIZE as usize);

/// Location of the memory map, for the device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryMap {
    /// Guest physical address.
    pub(crate) start: u64,
    /// Size in bytes.
    pub(crate) size: u32,
}

impl MemoryMap {
    /// Size of a descriptor in bytes.
    pub(crate) const DESCRIPTOR_SIZE: u32 = 40;
    /// Version of the descriptors.
    pub(crate) const DESCRIPTOR_VERSION: u32 = 1;
}

/// The block of EFI structures.
#[derive(Debug)]
pub(crate) struct Tables {
    /// The structures, for the address passed to [`build`].
    pub(crate) bytes: Vec<u8>,
    /// Guest physical address of the system table.
    pub(crate) system_table: u64,
    /// The memory map.
    pub(crate) map: MemoryMap,
}

/// Builds the structures for address `base`, a multiple of 8, with the addresses of the RSDP and of the SMBIOS entry
/// point. RAM is `ram`, of which `firmware` (64 KiB aligned, inside `ram`) holds ACPI, SMBIOS and these structures
/// themselves.
pub(crate) fn build(base: u64, rsdp: u64, smbios: u64, ram: &Range<u64>, firmware: &Range<u64>) -> Tables {
    let tables_at = base + size_of::<SystemTable>() as u64;
    let rt_properties_at = tables_at + 3 * size_of::<ConfigurationTable>() as u64;
    let vendor_at = rt_properties_at + size_of::<RtProperties>() as u64;
    let vendor: Vec<u8> = "hv-arm64\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let map_at = (vendor_at + vendor.len() as u64).next_multiple_of(8);

    let configuration = [
        ConfigurationTable { guid: ACPI_20_TABLE, address: rsdp.into() },
        ConfigurationTable { guid: RT_PROPERTIES_TABLE, address: rt_properties_at.into() },
        ConfigurationTable { guid: SMBIOS3_TABLE, address: smbios.into() },
    ];
    // No runtime services at all: without this table Linux would call through the null pointer.
    let rt_properties = RtProperties { version: 1.into(), length: 8.into(), supported: 0.into() };
    let map = memory_map(ram, firmware);

    let mut bytes = system_table(vendor_at, tables_at, configuration.len() as u64).as_bytes().to_vec();
    bytes.extend_from_slice(configuration.as_bytes());
    bytes.extend_from_slice(rt_properties.as_bytes());
    bytes.extend_from_slice(&vendor);
    bytes.resize((map_at - base) as usize, 0);
    bytes.extend_from_slice(map.as_bytes());
    let size = map.as_bytes().len() as u32;
    Tables { bytes, system_table: base, map: MemoryMap { start: map_at, size } }
}

fn system_table(vendor: u64, tables: u64, table_count: u64) -> SystemTable {
    let mut table = SystemTable {
        signature: SIGNATURE.into(),
        revision: REVISION.into(),
        header_size: (size_of::<SystemTable>() as u32).into(),
        crc32: U32::ZERO,
        reserved: U32::ZERO,
        vendor: vendor.into(),
        vendor_revision: 1.into(),
        padding: U32::ZERO,
        consoles: [U64::ZERO; 6],
        runtime_services: U64::ZERO,
        boot_services: U64::ZERO,
        table_count: table_count.into(),
        tables: tables.into(),
    };
    let mut crc = flate2::Crc::new();
    crc.update(table.as_bytes());
    table.crc32 = crc.sum().into();
    table
}

/// Lists the RAM below the firmware region, the firmware region, and the RAM above; empty parts are left out.
fn memory_map(ram: &Range<u64>, firmware: &Range<u64>) -> Vec<MemoryDescriptor> {
    let parts = [
        (CONVENTIONAL, ram.start..firmware.start),
        (ACPI_RECLAIM, firmware.clone()),
        (CONVENTIONAL, firmware.end..ram.end),
    ];
    let parts = parts.into_iter().filter(|(_, range)| !range.is_empty());
    parts
        .map(|(kind, range)| MemoryDescriptor {
            kind: kind.into(),
            padding: U32::ZERO,
            physical_start: range.start.into(),
            virtual_start: U64::ZERO,
            pages: ((range.end - range.start) / EFI_PAGE).into(),
            attributes: WRITE_BACK.into(),
        })
        .collect()
}

#[cfg(test)]
mod test {
    use super::*;

    const BASE: u64 = 0x4201_0000;

    fn tables() -> Tables {
        build(BASE, 0x4200_0240, 0x4200_e000, &(0x4040_0000..0x5040_0000), &(0x4200_0000..0x4202_0000))
    }

    fn u64_at(bytes: &[u8], gpa: u64) -> u64 {
        let offset = (gpa - BASE) as usize;
        u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
    }

    #[test]
    fn the_system_table_has_its_signature_checksum_and_no_services() {
        let tables = tables();
        assert_eq!(tables.system_table, BASE);
        assert_eq!(&tables.bytes[..8], b"IBI SYST");
        assert_eq!(tables.bytes[12], 120);
        let mut header = tables.bytes[..120].to_vec();
        let crc = u32::from_le_bytes(header[16..20].try_into().expect("four bytes"));
        header[16..20].fill(0);
        let mut expected = flate2::Crc::new();
        expected.update(&header);
        assert_eq!(crc, expected.sum());
        assert_eq!((u64_at(&tables.bytes, BASE + 88), u64_at(&tables.bytes, BASE + 96)), (0, 0));
    }

    #[test]
    fn the_configuration_tables_lead_to_acpi_to_smbios_and_to_an_empty_service_mask() {
        let tables = tables();
        assert_eq!(u64_at(&tables.bytes, BASE + 104), 3);
        let list = u64_at(&tables.bytes, BASE + 112);
        let guid = |at: u64| &tables.bytes[(at - BASE) as usize..][..16];
        assert_eq!(guid(list), ACPI_20_TABLE);
        assert_eq!(u64_at(&tables.bytes, list + 16), 0x4200_0240);
        assert_eq!(guid(list + 24), RT_PROPERTIES_TABLE);
        assert_eq!(guid(list + 48), SMBIOS3_TABLE);
        assert_eq!(u64_at(&tables.bytes, list + 64), 0x4200_e000);
        let properties = u64_at(&tables.bytes, list + 40);
        assert_eq!(u64_at(&tables.bytes, properties), 8 << 16 | 1, "version 1, length 8, mask 0");
    }

    #[test]
    fn the_memory_map_covers_ram_exactly_with_64_kib_aligned_regions() {
        let tables = tables();
        let map = tables.map;
        assert_eq!((map.start % 8, map.size), (0, 120));
        let mut at = 0x4040_0000;
        for (index, kind) in [7, 9, 7].into_iter().enumerate() {
            let entry = map.start + index as u64 * 40;
            assert_eq!(u64_at(&tables.bytes, entry), kind);
            assert_eq!(u64_at(&tables.bytes, entry + 8), at);
            assert_eq!(at % 0x1_0000, 0);
            assert_eq!(u64_at(&tables.bytes, entry + 32), 8);
            at += u64_at(&tables.bytes, entry + 24) * 4096;
        }
        assert_eq!(at, 0x5040_0000);
    }

    #[test]
    fn empty_parts_of_the_memory_map_are_left_out() {
        let map = build(BASE, 0, 0, &(0x4200_0000..0x4202_0000), &(0x4200_0000..0x4202_0000)).map;
        assert_eq!(map.size, 40);
    }
}
