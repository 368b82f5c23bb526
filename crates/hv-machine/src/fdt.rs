//! The device tree that X0 points to.
//!
//! With ACPI its root contains only /chosen, else Linux would treat it as a machine description and ignore ACPI.
//! Without ACPI, its root has a `hypervisor` node compatible with "microsoft,hyperv": kernels of Microsoft's OHCL line
//! look for that node before they make the vendor UID call.
//!
//! Sources: Devicetree Specification 0.4; Linux, Documentation/devicetree/bindings (chosen.txt, arm/psci.yaml,
//! interrupt-controller/arm,gic-v3.yaml, timer/arm,arch_timer.yaml, arm/pmu.yaml, serial/pl011.yaml,
//! bus/microsoft,vmbus.yaml) and Documentation/arch/arm/uefi.rst.

use std::ops::Range;

use vm_fdt::FdtWriter;

use super::{Error, Platform, RNG_SEED_LEN, efi};

/// phandle of the interrupt controller.
const GIC: u32 = 1;
/// phandle of the UART's clock.
const CLOCK: u32 = 2;
/// QEMU's UART clock in Hz.
const UART_CLOCK_HZ: u32 = 24_000_000;

/// Interrupt specifier of the GICv3 binding: first cell, and the trigger in the last.
const SPI: u32 = 0;
const PPI: u32 = 1;
const EDGE_RISING: u32 = 1;
const LEVEL_HIGH: u32 = 4;

/// Returns the name of the UART's node, which /chosen refers to.
fn uart_node(platform: &Platform) -> String {
    format!("pl011@{:x}", platform.uart.start)
}

/// The contents of /chosen, the same for any firmware.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen<'a> {
    /// The hardware.
    pub(crate) platform: &'a Platform,
    /// Kernel command line.
    pub(crate) command_line: &'a str,
    /// Guest physical addresses of the initrd.
    pub(crate) initrd: Option<&'a Range<u64>>,
    /// Entropy: 8 bytes for KASLR, the rest for the random number generator.
    pub(crate) rng_seed: &'a [u8; RNG_SEED_LEN],
    /// INTID of the VMBus interrupt.
    pub(crate) vmbus_intid: u32,
    /// INTID for direct-mode synthetic timers.
    pub(crate) stimer_intid: u32,
}

/// Builds the tree for a guest with ACPI.
pub(crate) fn for_acpi(
    chosen: &Chosen<'_>,
    system_table: u64,
    map: efi::MemoryMap,
) -> Result<Vec<u8>, Error> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    let node = fdt.begin_node("chosen")?;
    write_chosen(&mut fdt, chosen)?;
    fdt.property_u64("linux,uefi-system-table", system_table)?;
    fdt.property_u64("linux,uefi-mmap-start", map.start)?;
    fdt.property_u32("linux,uefi-mmap-size", map.size)?;
    fdt.property_u32("linux,uefi-mmap-desc-size", efi::MemoryMap::DESCRIPTOR_SIZE)?;
    fdt.property_u32("linux,uefi-mmap-desc-ver", efi::MemoryMap::DESCRIPTOR_VERSION)?;
    // Debian's kernels reject the other properties without this one. 2: secure boot is off.
    fdt.property_u32("linux,uefi-secure-boot", 2)?;
    fdt.end_node(node)?;
    fdt.end_node(root)?;
    Ok(fdt.finish()?)
}

/// Builds the tree that describes the whole machine, for a guest without ACPI, or one that passes on the EFI system
/// table.
pub(crate) fn full(
    chosen: &Chosen<'_>,
    ram: &Range<u64>,
    vps: u32,
    system_table: Option<u64>,
) -> Result<Vec<u8>, Error> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("interrupt-parent", GIC)?;
    fdt.property_string("model", "hv-arm64 partition")?;
    fdt.property_string("compatible", "linux,dummy-virt")?;

    let node = fdt.begin_node("chosen")?;
    write_chosen(&mut fdt, chosen)?;
    fdt.property_string("stdout-path", &format!("/{}", uart_node(chosen.platform)))?;
    if let Some(address) = system_table {
        fdt.property_u64("linux,uefi-system-table", address)?;
    }
    fdt.end_node(node)?;

    let node = fdt.begin_node(&format!("memory@{:x}", ram.start))?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u64("reg", &[ram.start, ram.end - ram.start])?;
    fdt.end_node(node)?;

    let node = fdt.begin_node("hypervisor")?;
    fdt.property_string("compatible", "microsoft,hyperv")?;
    fdt.end_node(node)?;
    write_cpus(&mut fdt, vps)?;
    write_gic(&mut fdt, chosen.platform, vps)?;
    write_uart(&mut fdt, chosen.platform)?;
    write_vmbus(&mut fdt, chosen.platform, chosen.vmbus_intid)?;
    fdt.end_node(root)?;
    Ok(fdt.finish()?)
}

fn write_chosen(fdt: &mut FdtWriter, chosen: &Chosen<'_>) -> Result<(), Error> {
    fdt.property_string("bootargs", chosen.command_line)?;
    if let Some(initrd) = chosen.initrd {
        fdt.property_u64("linux,initrd-start", initrd.start)?;
        fdt.property_u64("linux,initrd-end", initrd.end)?;
    }
    let (kaslr, rng) = chosen.rng_seed.split_at(8);
    fdt.property("kaslr-seed", kaslr)?;
    fdt.property("rng-seed", rng)?;
    // For guests without an ACPI interpreter; Linux ignores them.
    fdt.property_u32("hv-arm64,vmbus-intid", chosen.vmbus_intid)?;
    fdt.property_u32("hv-arm64,stimer-intid", chosen.stimer_intid)?;
    Ok(())
}

fn write_cpus(fdt: &mut FdtWriter, vps: u32) -> Result<(), Error> {
    let cpus = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    for vp in 0..vps {
        let mpidr = Platform::mpidr(vp);
        let cpu = fdt.begin_node(&format!("cpu@{mpidr:x}"))?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_string("compatible", "arm,armv8")?;
        fdt.property_u32("reg", mpidr)?;
        fdt.property_string("enable-method", "psci")?;
        fdt.end_node(cpu)?;
    }
    fdt.end_node(cpus)?;

    let psci = fdt.begin_node("psci")?;
    fdt.property_string_list("compatible", vec!["arm,psci-1.0".to_owned(), "arm,psci-0.2".to_owned()])?;
    fdt.property_string("method", "hvc")?;
    fdt.end_node(psci)?;
    Ok(())
}

/// Writes the interrupt controller, timers and PMU.
fn write_gic(fdt: &mut FdtWriter, platform: &Platform, vps: u32) -> Result<(), Error> {
    let distributor = &platform.distributor;
    let gic = fdt.begin_node(&format!("intc@{:x}", distributor.start))?;
    fdt.property_string("compatible", "arm,gic-v3")?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_u32("#interrupt-cells", 3)?;
    let size = distributor.end - distributor.start;
    let redistributors = [platform.redistributors, platform.redistributors_size(vps)];
    fdt.property_array_u64("reg", &[[distributor.start, size], redistributors].concat())?;
    fdt.property_phandle(GIC)?;
    fdt.end_node(gic)?;

    let timer = fdt.begin_node("timer")?;
    fdt.property_string("compatible", "arm,armv8-timer")?;
    fdt.property_null("always-on")?;
    // Secure, non-secure, virtual, hypervisor. The guest has only the middle two, but the binding requires all four,
    // and strict guests stop at a node with fewer.
    let timers = &platform.timers;
    let ppis = [29, timers.physical_el1, timers.virtual_el1, timers.physical_el2];
    let cells: Vec<u32> = ppis.iter().flat_map(|intid| [PPI, intid - 16, LEVEL_HIGH]).collect();
    fdt.property_array_u32("interrupts", &cells)?;
    fdt.end_node(timer)?;

    // ID_AA64DFR0_EL1.PMUVer tells whether there is a PMU; drivers check it first.
    let pmu = fdt.begin_node("pmu")?;
    fdt.property_string("compatible", "arm,armv8-pmuv3")?;
    fdt.property_array_u32("interrupts", &[PPI, platform.pmu_intid - 16, LEVEL_HIGH])?;
    fdt.end_node(pmu)?;
    Ok(())
}

fn write_uart(fdt: &mut FdtWriter, platform: &Platform) -> Result<(), Error> {
    let clock = fdt.begin_node("apb-pclk")?;
    fdt.property_string("compatible", "fixed-clock")?;
    fdt.property_u32("#clock-cells", 0)?;
    fdt.property_u32("clock-frequency", UART_CLOCK_HZ)?;
    fdt.property_string("clock-output-names", "clk24mhz")?;
    fdt.property_phandle(CLOCK)?;
    fdt.end_node(clock)?;

    let uart = fdt.begin_node(&uart_node(platform))?;
    fdt.property_string_list("compatible", vec!["arm,pl011".to_owned(), "arm,primecell".to_owned()])?;
    fdt.property_array_u64("reg", &[platform.uart.start, platform.uart.end - platform.uart.start])?;
    fdt.property_array_u32("interrupts", &[SPI, platform.uart_intid.saturating_sub(32), LEVEL_HIGH])?;
    fdt.property_array_u32("clocks", &[CLOCK, CLOCK])?;
    fdt.property_string_list("clock-names", vec!["uartclk".to_owned(), "apb_pclk".to_owned()])?;
    fdt.end_node(uart)?;
    Ok(())
}

fn write_vmbus(fdt: &mut FdtWriter, platform: &Platform, intid: u32) -> Result<(), Error> {
    let window = &platform.vmbus_window;
    let vmbus = fdt.begin_node(&format!("vmbus@{:x}", window.start))?;
    fdt.property_string("compatible", "microsoft,vmbus")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_array_u64("ranges", &[window.start, window.start, window.end - window.start])?;
    fdt.property_null("dma-coherent")?;
    fdt.property_array_u32("interrupts", &[PPI, intid.saturating_sub(16), EDGE_RISING])?;
    fdt.end_node(vmbus)?;
    Ok(())
}

#[cfg(test)]
mod test {
    use std::collections::BTreeMap;

    use super::*;
    use crate::platform::test::VIRT;

    const RAM: Range<u64> = 0x4040_0000..0x5040_0000;
    const INITRD: Range<u64> = 0x4300_0000..0x4300_1234;

    fn chosen(seed: &[u8; RNG_SEED_LEN]) -> Chosen<'_> {
        Chosen {
            platform: &VIRT,
            command_line: "quiet",
            initrd: Some(&INITRD),
            rng_seed: seed,
            vmbus_intid: 18,
            stimer_intid: 17,
        }
    }

    /// Parses a tree into its properties by "node/property".
    fn parse(tree: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let word = |at: usize| u32::from_be_bytes(tree[at..at + 4].try_into().expect("word")) as usize;
        assert_eq!((word(0), word(4)), (0xd00d_feed, tree.len()));
        let (mut at, strings) = (word(8), word(12));
        let text = |at: usize| {
            let bytes = tree[at..].split(|&byte| byte == 0).next().expect("string");
            String::from_utf8(bytes.to_vec()).expect("UTF-8")
        };
        let (mut path, mut found) = (Vec::new(), BTreeMap::new());
        loop {
            match word(at) {
                1 => {
                    path.push(text(at + 4));
                    at += (4 + path.last().map_or(0, String::len) + 1).next_multiple_of(4);
                }
                2 => {
                    path.pop();
                    at += 4;
                }
                3 => {
                    let (len, name) = (word(at + 4), text(strings + word(at + 8)));
                    let value = tree[at + 12..at + 12 + len].to_vec();
                    assert!(
                        found.insert(format!("{}/{name}", path.join("/")), value).is_none(),
                        "{name} twice"
                    );
                    at += 12 + len.next_multiple_of(4);
                }
                9 => return found,
                token => panic!("token {token}"),
            }
        }
    }

    fn cells(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn with_acpi_the_root_holds_only_chosen() {
        let map = efi::MemoryMap { start: 0x4201_0100, size: 120 };
        let found = parse(&for_acpi(&chosen(&[7; RNG_SEED_LEN]), 0x4201_0000, map).expect("tree"));
        assert!(found.keys().all(|key| key.starts_with("/chosen/") || key.starts_with("/#")), "{found:?}");
        assert_eq!(found["/chosen/linux,uefi-system-table"], 0x4201_0000u64.to_be_bytes());
        assert_eq!(found["/chosen/linux,uefi-mmap-start"], 0x4201_0100u64.to_be_bytes());
        assert_eq!(found["/chosen/linux,uefi-mmap-size"], cells(&[120]));
        assert_eq!(found["/chosen/linux,uefi-mmap-desc-size"], cells(&[40]));
        assert_eq!(found["/chosen/linux,uefi-mmap-desc-ver"], cells(&[1]));
        assert_eq!(found["/chosen/linux,uefi-secure-boot"], cells(&[2]));
    }

    #[test]
    fn chosen_has_command_line_initrd_entropy_and_interrupts() {
        let mut seed = [7; RNG_SEED_LEN];
        seed[..8].fill(1);
        let found = parse(&full(&chosen(&seed), &RAM, 1, None).expect("tree"));
        assert_eq!(found["/chosen/bootargs"], b"quiet\0");
        assert_eq!(found["/chosen/linux,initrd-start"], INITRD.start.to_be_bytes());
        assert_eq!(found["/chosen/linux,initrd-end"], INITRD.end.to_be_bytes());
        assert_eq!(found["/chosen/kaslr-seed"], [1; 8]);
        assert_eq!(found["/chosen/rng-seed"], [7; RNG_SEED_LEN - 8]);
        assert_eq!(found["/chosen/hv-arm64,vmbus-intid"], cells(&[18]));
        assert_eq!(found["/chosen/hv-arm64,stimer-intid"], cells(&[17]));
        let without = Chosen { initrd: None, ..chosen(&seed) };
        assert!(
            !parse(&full(&without, &RAM, 1, None).expect("tree")).contains_key("/chosen/linux,initrd-start")
        );
    }

    #[test]
    fn the_full_tree_describes_the_machine() {
        let found = parse(&full(&chosen(&[0; RNG_SEED_LEN]), &RAM, 18, None).expect("tree"));
        assert_eq!(found["/memory@40400000/reg"], cells(&[0, 0x4040_0000, 0, 0x1000_0000]));
        let cpus = found.iter().filter(|(key, _)| key.starts_with("/cpus/") && key.ends_with("/reg"));
        let mut ids: Vec<_> = cpus.map(|(_, value)| value.clone()).collect();
        ids.sort();
        let expected = (0..16).chain([0x100, 0x101]);
        assert_eq!(ids, expected.map(|mpidr| cells(&[mpidr])).collect::<Vec<_>>());
        assert_eq!(found["/hypervisor/compatible"], b"microsoft,hyperv\0");
        assert_eq!(found["/psci/method"], b"hvc\0");
        let gicr_size = 18 * VIRT.redistributor_stride as u32;
        let gic = cells(&[0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, gicr_size]);
        assert_eq!(found["/intc@8000000/reg"], gic);
        assert_eq!(found["/timer/interrupts"], cells(&[1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4]));
        assert_eq!(found["/pmu/interrupts"], cells(&[1, 7, 4]));
        assert_eq!(found["/pmu/compatible"], b"arm,armv8-pmuv3\0");
        assert_eq!(found["/pl011@9000000/interrupts"], cells(&[0, 1, 4]));
        assert_eq!(found["/chosen/stdout-path"], b"/pl011@9000000\0");
        assert_eq!(found["/apb-pclk/phandle"], cells(&[CLOCK]));
    }

    #[test]
    fn the_vmbus_node_has_an_edge_ppi_a_window_and_coherent_dma() {
        let found = parse(&full(&chosen(&[0; RNG_SEED_LEN]), &RAM, 1, Some(0x4201_0000)).expect("tree"));
        assert_eq!(found["/vmbus@10000000/compatible"], b"microsoft,vmbus\0");
        assert_eq!(found["/vmbus@10000000/interrupts"], cells(&[1, 2, 1]));
        assert_eq!(found["/vmbus@10000000/ranges"], cells(&[0, 0x1000_0000, 0, 0x1000_0000, 0, 0x2000_0000]));
        assert!(found["/vmbus@10000000/dma-coherent"].is_empty());
    }
}
