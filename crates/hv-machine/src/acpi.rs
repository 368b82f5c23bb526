//! The ACPI tables of the partition, in the form that Hyper-V's firmware provides.
//!
//! Sources: ACPI Specification 6.3, "ACPI Software Programming Model"; Arm Base Boot Requirements, "ACPI tables"
//! (without tables for devices that the machine lacks; SPCR, MCFG and PPTT are optional for Linux).

use acpi_tables::Aml;
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::madt::{EnabledStatus, GicVersion, Gicc, Gicd, Gicr, Trigger};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use zerocopy::{Immutable, IntoBytes, LE, U32, U64};

use super::{Platform, Timers, dsdt};

const OEM_ID: [u8; 6] = *b"HVARM6";
const OEM_TABLE_ID: [u8; 8] = *b"HV-ARM64";
const OEM_REVISION: u32 = 1;

/// FADT, ARM boot architecture flags: PSCI is available, through HVC.
const PSCI_BY_HVC: u16 = 1 << 0 | 1 << 1;
/// FADT, "Hypervisor Vendor Identity": how Linux recognises Hyper-V.
const VENDOR_IDENTITY: u64 = u64::from_le_bytes(*b"MsHyperV");
/// Length of a GICC structure in ACPI 6.3. The crate writes that of 6.5, whose last field is not needed here.
const GICC_LEN: u8 = 80;

/// What the tables describe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AcpiMachine<'a> {
    /// The hardware.
    pub(crate) platform: &'a Platform,
    /// Number of virtual processors; the MPIDR and ACPI UID of each is its index.
    pub(crate) vps: u32,
    /// INTID of the VMBus interrupt.
    pub(crate) vmbus_intid: u32,
}

/// The tables, in one block of bytes.
#[derive(Debug)]
pub(crate) struct Tables {
    /// All tables, the first one at the address passed to [`build`].
    pub(crate) bytes: Vec<u8>,
    /// Guest physical address of the RSDP.
    pub(crate) rsdp: u64,
}

/// Builds the tables for address `base`, which is a multiple of 64.
pub(crate) fn build(machine: AcpiMachine<'_>, base: u64) -> Tables {
    let mut block = Block { base, bytes: Vec::new() };
    let dsdt = block.add(sdt(*b"DSDT", 2, &dsdt::build(machine)).as_slice());
    let fadt = block.add(&aml(&fadt(dsdt)));
    let madt = block.add(madt(machine).as_slice());
    let gtdt = block.add(sdt(*b"GTDT", 3, Gtdt::new(machine.platform.timers).as_bytes()).as_slice());
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    for table in [fadt, madt, gtdt] {
        xsdt.add_entry(table);
    }
    let xsdt = block.add(&aml(&xsdt));
    let rsdp = block.add(&aml(&Rsdp::new(OEM_ID, xsdt)));
    Tables { bytes: block.bytes, rsdp }
}

/// Tables one after another.
struct Block {
    base: u64,
    bytes: Vec<u8>,
}

impl Block {
    /// Appends a table and returns its address. Tables are aligned to 64 bytes, as FADT and FACS require.
    fn add(&mut self, table: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(64), 0);
        let address = self.base + self.bytes.len() as u64;
        self.bytes.extend_from_slice(table);
        address
    }
}

fn aml(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// Builds a table from the common header and `body`.
fn sdt(signature: [u8; 4], revision: u8, body: &[u8]) -> Sdt {
    let mut sdt = Sdt::new(signature, 36, revision, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    sdt.append_slice(body);
    sdt
}

fn fadt(dsdt: u64) -> acpi_tables::fadt::FADT {
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::LowPowerS0IdleCapable);
    fadt.fadt_minor_version = 3;
    fadt.arm_boot_arch = PSCI_BY_HVC.into();
    fadt.hypervisor_vendor_identity = VENDOR_IDENTITY.into();
    fadt.finalize()
}

fn madt(machine: AcpiMachine<'_>) -> Sdt {
    // Local interrupt controller address and flags are unused on ARM.
    let mut madt = sdt(*b"APIC", 5, &[0; 8]);
    madt.append_slice(Gicd::new(0, machine.platform.distributor.start, GicVersion::GICv3).as_bytes());
    for vp in 0..machine.vps {
        let gicc = Gicc::new(EnabledStatus::Enabled)
            .cpu_interface_number(vp)
            .acpi_processor_uid(vp)
            .performance_interrupt(machine.platform.pmu_intid, Trigger::Level)
            .mpidr(Platform::mpidr(vp).into());
        let mut bytes = gicc.as_bytes()[..usize::from(GICC_LEN)].to_vec();
        bytes[1] = GICC_LEN;
        madt.append_slice(&bytes);
    }
    let length = u32::try_from(machine.platform.redistributors_size(machine.vps)).unwrap_or(u32::MAX);
    madt.append_slice(Gicr::new(machine.platform.redistributors, length).as_bytes());
    madt
}

/// Body of the Generic Timer Description Table, revision 3, which the crate does not provide.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct Gtdt {
    counter_control_base: U64<LE>,
    reserved: U32<LE>,
    secure_el1: Timer,
    non_secure_el1: Timer,
    virtual_el1: Timer,
    non_secure_el2: Timer,
    counter_read_base: U64<LE>,
    platform_timers: U32<LE>,
    platform_timer_offset: U32<LE>,
    virtual_el2: Timer,
}

const _: () = assert!(size_of::<Gtdt>() == 104 - 36);

#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct Timer {
    intid: U32<LE>,
    flags: U32<LE>,
}

impl Timer {
    /// Level-sensitive, active high, and active in every power state.
    const ALWAYS_ON: u32 = 1 << 2;
    /// The guest has no such timer.
    const NONE: Self = Self { intid: U32::ZERO, flags: U32::ZERO };

    fn new(intid: u32) -> Self {
        Self { intid: intid.into(), flags: Self::ALWAYS_ON.into() }
    }
}

impl Gtdt {
    fn new(timers: Timers) -> Self {
        Self {
            // All ones: no memory-mapped counter.
            counter_control_base: u64::MAX.into(),
            reserved: U32::ZERO,
            secure_el1: Timer::NONE,
            non_secure_el1: Timer::new(timers.physical_el1),
            virtual_el1: Timer::new(timers.virtual_el1),
            // The guest never runs at EL2, but Linux maps this interrupt anyway and complains about INTID 0.
            non_secure_el2: Timer::new(timers.physical_el2),
            counter_read_base: u64::MAX.into(),
            platform_timers: U32::ZERO,
            platform_timer_offset: U32::ZERO,
            virtual_el2: Timer::NONE,
        }
    }
}

#[cfg(test)]
mod test {
    use std::collections::BTreeMap;

    use super::*;
    use crate::platform::test::VIRT;

    const BASE: u64 = 0x4200_0000;

    fn u32_at(bytes: &[u8], offset: usize) -> u32 {
        u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
    }

    fn u64_at(bytes: &[u8], offset: usize) -> u64 {
        u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
    }

    /// Follows the pointers from the RSDP as an OS does, checking every checksum; returns the tables by signature.
    fn walk(tables: &Tables) -> BTreeMap<String, Vec<u8>> {
        let table = |gpa: u64| {
            assert_eq!(gpa % 8, 0);
            let bytes = &tables.bytes[(gpa - BASE) as usize..];
            let table = bytes[..u32_at(bytes, 4) as usize].to_vec();
            assert_eq!(sum(&table), 0, "checksum of {:?}", &table[..4]);
            table
        };
        let rsdp = &tables.bytes[(tables.rsdp - BASE) as usize..][..36];
        assert_eq!(&rsdp[..8], b"RSD PTR ");
        assert_eq!(rsdp[15], 2, "revision");
        assert_eq!((sum(&rsdp[..20]), sum(rsdp)), (0, 0));
        let xsdt = table(u64_at(rsdp, 24));
        assert_eq!(&xsdt[..4], b"XSDT");
        let mut found = BTreeMap::new();
        for entry in xsdt[36..].chunks(8) {
            let table = table(u64_at(entry, 0));
            found.insert(String::from_utf8_lossy(&table[..4]).into_owned(), table);
        }
        let dsdt = table(u64_at(&found["FACP"], 140));
        assert_eq!(&dsdt[..4], b"DSDT");
        found.insert("DSDT".to_owned(), dsdt);
        found
    }

    fn tables(vps: u32) -> BTreeMap<String, Vec<u8>> {
        walk(&build(AcpiMachine { platform: &VIRT, vps, vmbus_intid: 18 }, BASE))
    }

    #[test]
    fn every_table_is_reachable_from_the_rsdp() {
        let names: Vec<_> = tables(2).into_keys().collect();
        assert_eq!(names, ["APIC", "DSDT", "FACP", "GTDT"]);
    }

    #[test]
    fn the_fadt_names_hyper_v_and_psci_by_hvc() {
        let fadt = &tables(1)["FACP"];
        assert_eq!(fadt.len(), 276);
        assert_eq!((fadt[8], fadt[131]), (6, 3), "revision");
        assert_eq!(&fadt[268..], b"MsHyperV");
        assert_eq!(u32_at(fadt, 112) & 1 << 20, 1 << 20, "HW_REDUCED");
        assert_eq!(u16::from_le_bytes([fadt[129], fadt[130]]), 3);
    }

    #[test]
    fn the_madt_has_a_gicc_for_each_vp() {
        for vps in [1, 2, 8, 17, 120] {
            let madt = &tables(vps)["APIC"];
            let mut kinds = Vec::new();
            let mut rest = &madt[44..];
            while let [kind, len, ..] = *rest {
                let (entry, next) = rest.split_at(usize::from(len));
                if kind == 0xb {
                    let vp = kinds.iter().filter(|&&(kind, _)| kind == 0xb).count() as u32;
                    assert_eq!(
                        (u32_at(entry, 8), u32_at(entry, 12), u32_at(entry, 20), u64_at(entry, 68)),
                        (vp, 1, 23, u64::from((vp % 16) | ((vp / 16) << 8)))
                    );
                }
                if kind == 0xe {
                    assert_eq!(u64_at(entry, 4), VIRT.redistributors);
                    assert_eq!(u64::from(u32_at(entry, 12)), VIRT.redistributors_size(vps));
                }
                if kind == 0xc {
                    assert_eq!((u64_at(entry, 8), entry[20]), (VIRT.distributor.start, 3));
                }
                kinds.push((kind, len));
                rest = next;
            }
            let mut expected = vec![(0xc, 24)];
            expected.extend(vec![(0xb, 80); vps as usize]);
            expected.push((0xe, 16));
            assert_eq!(kinds, expected);
        }
    }

    #[test]
    fn the_gtdt_gives_the_timer_ppis() {
        let gtdt = &tables(1)["GTDT"];
        assert_eq!((gtdt.len(), gtdt[8]), (104, 3));
        assert_eq!((u32_at(gtdt, 56), u32_at(gtdt, 60)), (30, 4), "non-secure EL1");
        assert_eq!((u32_at(gtdt, 64), u32_at(gtdt, 68)), (27, 4), "virtual");
        assert_eq!(u32_at(gtdt, 72), 26, "EL2: Linux reports INTID 0 as a firmware bug");
        assert_eq!(u64_at(gtdt, 36), u64::MAX);
    }

    #[test]
    fn the_dsdt_has_the_vmbus_device_with_its_interrupt() {
        let tables = walk(&build(AcpiMachine { platform: &VIRT, vps: 1, vmbus_intid: 21 }, BASE));
        let dsdt = &tables["DSDT"];
        let contains = |what: &[u8]| dsdt.windows(what.len()).any(|bytes| bytes == what);
        assert!(contains(b"VMBUS\0") && contains(b"ACPI0004\0") && contains(b"ARMH0011\0"));
        // Extended interrupt: consumer, edge, active high, exclusive, one number.
        assert!(contains(&[0x89, 6, 0, 0b0011, 1, 21, 0, 0, 0]));
        // The UART's: level.
        assert!(contains(&[0x89, 6, 0, 0b0001, 1, 33, 0, 0, 0]));
    }
}
