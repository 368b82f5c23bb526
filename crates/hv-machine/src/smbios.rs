//! SMBIOS tables, like those of Hyper-V's UEFI firmware on a generation 2 machine.
//!
//! They tell user space that it runs on Hyper-V: systemd-detect-virt looks for the prefix "Hyper-V" in the product
//! version (systemd, src/basic/virt.c), cloud-init for Azure's chassis asset tag (tools/ds-identify), the Linux
//! Integration Services for manufacturer and product.
//!
//! Sources: DMTF DSP0134 3.1, "SMBIOS Structures"; mu_msvm, MsvmPkg/SmbiosPlatformDxe.

use zerocopy::{Immutable, IntoBytes, LE, U32, U64};

const MANUFACTURER: &str = "Microsoft Corporation";
const PRODUCT: &str = "Virtual Machine";
/// Version of firmware, system, board and chassis.
const RELEASE: &str = "Hyper-V UEFI Release v4.1";
/// Date of that release, in the format of the specification.
const RELEASE_DATE: &str = "05/13/2024";
/// The chassis asset tag of every machine on Azure (cloud-init, DataSourceAzure.py).
const AZURE_ASSET_TAG: &str = "7783-7084-3265-9085-8269-3286-77";

/// Handles that another structure refers to.
const CHASSIS: u16 = 3;
const MEMORY_ARRAY: u16 = 16;
/// "No error information structure".
const NO_ERROR_HANDLE: u16 = 0xfffe;

/// The identity of the machine: [`Identity::DEFAULT`], or one that the setters make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// UUID of the machine, in text order. Cloud images use it as the instance id.
    pub uuid: [u8; 16],
    /// Sets the chassis asset tag of an Azure machine. cloud-init then waits for Azure's services.
    pub azure: bool,
}

impl Identity {
    /// A fixed identity, the same on every run.
    pub const DEFAULT: Self = Self {
        uuid: [
            0x68, 0x76, 0x61, 0x72, 0x6d, 0x36, 0x44, 0x21, 0x8a, 0x64, 0x00, 0x15, 0x5d, 0x00, 0x00, 0x01,
        ],
        azure: false,
    };

    /// Sets the UUID.
    #[must_use]
    pub const fn with_uuid(self, uuid: [u8; 16]) -> Self {
        Self { uuid, ..self }
    }

    /// Sets whether the machine has the chassis asset tag of Azure.
    #[must_use]
    pub const fn with_azure(self, azure: bool) -> Self {
        Self { azure, ..self }
    }
}

/// What the tables describe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SmbiosMachine {
    pub(crate) identity: Identity,
    pub(crate) vps: u32,
    /// Start of RAM.
    pub(crate) ram_base: u64,
    /// Size of RAM in bytes, a multiple of 1 MiB.
    pub(crate) memory: u64,
}

/// The 64-bit entry point, `_SM3_`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct EntryPoint {
    anchor: [u8; 5],
    checksum: u8,
    length: u8,
    major: u8,
    minor: u8,
    docrev: u8,
    revision: u8,
    reserved: u8,
    size: U32<LE>,
    address: U64<LE>,
}

const _: () = assert!(size_of::<EntryPoint>() == 24);

/// Builds the entry point, which comes first, and the structures after it, for address `base`.
pub(crate) fn build(machine: &SmbiosMachine, base: u64) -> Vec<u8> {
    let structures = [
        firmware(),
        system(&machine.identity),
        board(),
        chassis(&machine.identity),
        processor(machine.vps),
        memory_array(machine.memory),
        memory_device(machine.memory),
        memory_range(machine.ram_base, machine.memory),
        Structure::new(32, 32).bytes(&[0; 7]).end(),
        Structure::new(127, 127).end(),
    ]
    .concat();
    let mut entry = EntryPoint {
        anchor: *b"_SM3_",
        checksum: 0,
        length: size_of::<EntryPoint>() as u8,
        major: 3,
        minor: 1,
        docrev: 0,
        revision: 1,
        reserved: 0,
        size: (structures.len() as u32).into(),
        address: (base + size_of::<EntryPoint>() as u64).into(),
    };
    entry.checksum = entry.as_bytes().iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    [entry.as_bytes(), &structures].concat()
}

/// Builds type 0, firmware.
fn firmware() -> Vec<u8> {
    const NO_CHARACTERISTICS: u64 = 1 << 3;
    const TARGETED_CONTENT: u8 = 1 << 2;
    const UEFI: u8 = 1 << 3;
    const VIRTUAL_MACHINE: u8 = 1 << 4;
    Structure::new(0, 0)
        .text(MANUFACTURER)
        .text(RELEASE)
        .word(0)
        .text(RELEASE_DATE)
        .bytes(&[0])
        .bytes(&NO_CHARACTERISTICS.to_le_bytes())
        .bytes(&[1, TARGETED_CONTENT | UEFI | VIRTUAL_MACHINE])
        // Release 4.1; no embedded controller.
        .bytes(&[4, 1, 0xff, 0xff])
        .word(0)
        .end()
}

/// Builds type 1, system.
fn system(identity: &Identity) -> Vec<u8> {
    // The first three fields of a UUID are little-endian.
    let mut uuid = identity.uuid;
    uuid[..4].reverse();
    uuid[4..6].reverse();
    uuid[6..8].reverse();
    const POWER_SWITCH: u8 = 6;
    Structure::new(1, 1)
        .text(MANUFACTURER)
        .text(PRODUCT)
        .text(RELEASE)
        .no_text()
        .bytes(&uuid)
        .bytes(&[POWER_SWITCH])
        .text("None")
        .text(PRODUCT)
        .end()
}

/// Builds type 2, board.
fn board() -> Vec<u8> {
    const HOSTING_BOARD: u8 = 1;
    const MOTHERBOARD: u8 = 10;
    Structure::new(2, 2)
        .text(MANUFACTURER)
        .text(PRODUCT)
        .text(RELEASE)
        .no_text()
        .no_text()
        .bytes(&[HOSTING_BOARD])
        .text(PRODUCT)
        .word(CHASSIS)
        .bytes(&[MOTHERBOARD, 0])
        .end()
}

/// Builds type 3, chassis.
fn chassis(identity: &Identity) -> Vec<u8> {
    const DESKTOP: u8 = 3;
    const SAFE: u8 = 3;
    const NO_SECURITY: u8 = 3;
    let start = Structure::new(3, CHASSIS).text(MANUFACTURER).bytes(&[DESKTOP]).text(RELEASE).no_text();
    let tagged = if identity.azure { start.text(AZURE_ASSET_TAG) } else { start.no_text() };
    tagged.bytes(&[SAFE, SAFE, SAFE, NO_SECURITY]).bytes(&[0; 8]).no_text().end()
}

/// Builds type 4, one processor socket with all VPs.
fn processor(vps: u32) -> Vec<u8> {
    const CENTRAL: u8 = 3;
    const FAMILY_2: u8 = 0xfe;
    const POPULATED_ENABLED: u8 = 0x41;
    const UPGRADE_NONE: u8 = 6;
    const CAPABLE_64_BIT: u16 = 1 << 2;
    const ARMV8: u16 = 0x101;
    const NO_CACHE: u16 = 0xffff;
    let vps = vps as u16;
    let few = u8::try_from(vps).unwrap_or(0xff);
    Structure::new(4, 4)
        .text("None")
        .bytes(&[CENTRAL, FAMILY_2])
        .text(MANUFACTURER)
        .bytes(&[0; 8])
        .text(PRODUCT)
        .bytes(&[0])
        // External clock, maximum and current speed: unknown.
        .bytes(&[0; 6])
        .bytes(&[POPULATED_ENABLED, UPGRADE_NONE])
        .word(NO_CACHE)
        .word(NO_CACHE)
        .word(NO_CACHE)
        .no_text()
        .no_text()
        .no_text()
        .bytes(&[few, few, few])
        .word(CAPABLE_64_BIT)
        .word(ARMV8)
        .word(vps)
        .word(vps)
        .word(vps)
        .end()
}

/// Builds type 16, memory array.
fn memory_array(memory: u64) -> Vec<u8> {
    const SYSTEM_BOARD: u8 = 3;
    const SYSTEM_MEMORY: u8 = 3;
    const NO_CORRECTION: u8 = 3;
    const SEE_EXTENDED: u32 = 0x8000_0000;
    Structure::new(16, MEMORY_ARRAY)
        .bytes(&[SYSTEM_BOARD, SYSTEM_MEMORY, NO_CORRECTION])
        .bytes(&SEE_EXTENDED.to_le_bytes())
        .word(NO_ERROR_HANDLE)
        .word(1)
        .bytes(&memory.to_le_bytes())
        .end()
}

/// Builds type 17, memory device.
fn memory_device(memory: u64) -> Vec<u8> {
    const UNKNOWN_WIDTH: u16 = 0xffff;
    const SEE_EXTENDED: u16 = 0x7fff;
    const UNKNOWN: u8 = 2;
    const UNKNOWN_DETAIL: u16 = 1 << 2;
    let mib = (memory >> 20) as u32;
    Structure::new(17, 17)
        .word(MEMORY_ARRAY)
        .word(NO_ERROR_HANDLE)
        .word(UNKNOWN_WIDTH)
        .word(UNKNOWN_WIDTH)
        .word(SEE_EXTENDED)
        .bytes(&[UNKNOWN, 0])
        .text("M0001")
        .text("None")
        .bytes(&[UNKNOWN])
        .word(UNKNOWN_DETAIL)
        .word(0)
        .text(MANUFACTURER)
        .no_text()
        .no_text()
        .no_text()
        .bytes(&[0])
        .bytes(&mib.to_le_bytes())
        // Speed and voltages: unknown.
        .bytes(&[0; 8])
        .end()
}

/// Builds type 19, mapped address of the memory array.
fn memory_range(start: u64, memory: u64) -> Vec<u8> {
    let see_extended = u32::MAX.to_le_bytes();
    Structure::new(19, 19)
        .bytes(&see_extended)
        .bytes(&see_extended)
        .word(MEMORY_ARRAY)
        .bytes(&[1])
        .bytes(&start.to_le_bytes())
        .bytes(&(start + memory - 1).to_le_bytes())
        .end()
}

/// A structure being built: the formatted area, and the strings after it.
struct Structure {
    formatted: Vec<u8>,
    texts: Vec<&'static str>,
}

impl Structure {
    fn new(kind: u8, handle: u16) -> Self {
        let [low, high] = handle.to_le_bytes();
        Self { formatted: vec![kind, 0, low, high], texts: Vec::new() }
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.formatted.extend_from_slice(bytes);
        self
    }

    fn word(self, word: u16) -> Self {
        self.bytes(&word.to_le_bytes())
    }

    /// Adds the number of a string, from 1; equal strings share one.
    fn text(mut self, text: &'static str) -> Self {
        let index = self.texts.iter().position(|known| *known == text).unwrap_or_else(|| {
            self.texts.push(text);
            self.texts.len() - 1
        });
        self.bytes(&[index as u8 + 1])
    }

    /// Adds a string field that is not set.
    fn no_text(self) -> Self {
        self.bytes(&[0])
    }

    fn end(mut self) -> Vec<u8> {
        self.formatted[1] = self.formatted.len() as u8;
        for text in &self.texts {
            self.formatted.extend_from_slice(text.as_bytes());
            self.formatted.push(0);
        }
        // The string set ends with an empty string; a set without strings is two zeros.
        self.formatted.extend_from_slice(if self.texts.is_empty() { &[0, 0] } else { &[0] });
        self.formatted
    }
}

#[cfg(test)]
mod test {
    use std::collections::BTreeMap;

    use super::*;

    const BASE: u64 = 0x4201_0000;

    /// Returns type, formatted area and strings of each structure, walked as an OS does.
    fn walk(tables: &[u8]) -> BTreeMap<u8, (Vec<u8>, Vec<String>)> {
        assert_eq!(&tables[..5], b"_SM3_");
        assert_eq!(tables[..24].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0, "checksum");
        let size = u32::from_le_bytes(tables[12..16].try_into().expect("four bytes")) as usize;
        let address = u64::from_le_bytes(tables[16..24].try_into().expect("eight bytes"));
        let mut rest = &tables[(address - BASE) as usize..][..size];
        let mut found = BTreeMap::new();
        while let [kind, length, ..] = *rest {
            let (formatted, texts) = rest.split_at(usize::from(length));
            let end = texts.windows(2).position(|pair| pair == [0, 0]).expect("end of the texts");
            let strings = texts[..end].split(|byte| *byte == 0).filter(|text| !text.is_empty());
            let strings = strings.map(|text| String::from_utf8(text.to_vec()).expect("ASCII")).collect();
            assert!(found.insert(kind, (formatted.to_vec(), strings)).is_none(), "type {kind} twice");
            rest = &texts[end + 2..];
        }
        found
    }

    fn tables(azure: bool) -> BTreeMap<u8, (Vec<u8>, Vec<String>)> {
        let identity = Identity { azure, ..Identity::DEFAULT };
        walk(&build(&SmbiosMachine { identity, vps: 2, ram_base: 0x4040_0000, memory: 512 << 20 }, BASE))
    }

    fn text(table: &(Vec<u8>, Vec<String>), at: usize) -> Option<String> {
        table.0[at].checked_sub(1).map(|index| table.1[usize::from(index)].clone())
    }

    #[test]
    fn the_machine_says_that_it_is_one_of_hyper_v() {
        let found = tables(false);
        let system = &found[&1];
        assert_eq!(text(system, 4).as_deref(), Some("Microsoft Corporation"));
        assert_eq!(text(system, 5).as_deref(), Some("Virtual Machine"));
        assert_eq!(text(system, 6).as_deref(), Some("Hyper-V UEFI Release v4.1"));
        assert_eq!(system.0[8..12], [0x72, 0x61, 0x76, 0x68], "little-endian first field");
        assert_eq!(text(&found[&0], 5).as_deref(), Some("Hyper-V UEFI Release v4.1"));
        assert_eq!(found[&0].0[0x13] & 1 << 4, 1 << 4, "virtual machine");
    }

    #[test]
    fn only_a_machine_on_azure_has_the_asset_tag() {
        assert_eq!(text(&tables(false)[&3], 8), None);
        assert_eq!(text(&tables(true)[&3], 8).as_deref(), Some(AZURE_ASSET_TAG));
    }

    #[test]
    fn every_structure_has_the_length_of_its_version() {
        let found = tables(false);
        let lengths: Vec<_> = found.iter().map(|(kind, (formatted, _))| (*kind, formatted.len())).collect();
        let expected = [
            (0, 0x1a),
            (1, 0x1b),
            (2, 0x0f),
            (3, 0x16),
            (4, 0x30),
            (16, 0x17),
            (17, 0x28),
            (19, 0x1f),
            (32, 0x0b),
            (127, 4),
        ];
        assert_eq!(lengths, expected);
    }

    #[test]
    fn memory_and_processors_are_those_of_the_machine() {
        let found = tables(false);
        assert_eq!(found[&4].0[0x23..0x26], [2, 2, 2]);
        assert_eq!(found[&17].0[0x1c..0x20], 512u32.to_le_bytes());
        assert_eq!(found[&19].0[0x0f..0x17], 0x4040_0000u64.to_le_bytes());
        assert_eq!(found[&19].0[0x17..0x1f], 0x603f_ffffu64.to_le_bytes());
    }
}
