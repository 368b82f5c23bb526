//! The DSDT: the devices that cannot be discovered by probing.
//!
//! Sources: ACPI Specification 6.3, "ACPI Source Language Reference"; the device ids of Linux's drivers
//! (drivers/tty/serial/amba-pl011.c, drivers/hv/vmbus_drv.c).

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, Interrupt, Memory32Fixed, Name, Path, ResourceTemplate,
    Scope,
};

use super::Platform;
use super::acpi::AcpiMachine;

/// Builds the body of the definition block: everything after the table header.
pub(crate) fn build(machine: AcpiMachine<'_>) -> Vec<u8> {
    let cpus: Vec<_> = (0..machine.vps).map(Cpu).collect();
    let mut devices: Vec<&dyn Aml> = cpus.iter().map(|cpu| cpu as &dyn Aml).collect();
    let uart = Uart(machine.platform);
    devices.push(&uart);
    let vmbus = Vmbus { platform: machine.platform, intid: machine.vmbus_intid };
    devices.push(&vmbus);
    let mut body = Vec::new();
    Scope::new(Path::new("\\_SB_"), devices).to_aml_bytes(&mut body);
    body
}

/// A processor. Its UID links it to a GICC in the MADT.
struct Cpu(u32);

impl Aml for Cpu {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        let hid = Name::new(Path::new("_HID"), &"ACPI0007");
        let uid = Name::new(Path::new("_UID"), &self.0);
        Device::new(Path::new(&format!("C{:03X}", self.0 & 0xfff)), vec![&hid, &uid]).to_aml_bytes(sink);
    }
}

/// The console: ARMH0011 is the id for a PL011 with the SBSA's generic UART registers.
struct Uart<'a>(&'a Platform);

impl Aml for Uart<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        let uart = &self.0.uart;
        let registers = Memory32Fixed::new(true, uart.start as u32, (uart.end - uart.start) as u32);
        let interrupt = Interrupt::new(true, false, false, false, self.0.uart_intid);
        let resources = ResourceTemplate::new(vec![&registers, &interrupt]);
        let hid = Name::new(Path::new("_HID"), &"ARMH0011");
        let uid = Name::new(Path::new("_UID"), &0u32);
        let crs = Name::new(Path::new("_CRS"), &resources);
        Device::new(Path::new("COM0"), vec![&hid, &uid, &crs]).to_aml_bytes(sink);
    }
}

/// The module device with the MMIO window, and VMBus in it: Linux looks for the window in VMBus's ancestors.
struct Vmbus<'a> {
    platform: &'a Platform,
    intid: u32,
}

impl Aml for Vmbus<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        let interrupt = Interrupt::new(true, true, false, false, self.intid);
        let resources = ResourceTemplate::new(vec![&interrupt]);
        let hid = Name::new(Path::new("_HID"), &"VMBUS");
        let uid = Name::new(Path::new("_UID"), &0u32);
        // Without it Linux treats the bus as non-coherent and refuses DMA on it.
        let coherent = Name::new(Path::new("_CCA"), &1u32);
        let crs = Name::new(Path::new("_CRS"), &resources);
        let bus = Device::new(Path::new("VMBS"), vec![&hid, &uid, &coherent, &crs]);

        let window = AddressSpace::new_memory(
            AddressSpaceCacheable::NotCacheable,
            true,
            self.platform.vmbus_window.start,
            self.platform.vmbus_window.end - 1,
            None,
        );
        let windows = ResourceTemplate::new(vec![&window]);
        let hid = Name::new(Path::new("_HID"), &"ACPI0004");
        let uid = Name::new(Path::new("_UID"), &0u32);
        let crs = Name::new(Path::new("_CRS"), &windows);
        Device::new(Path::new("VMOD"), vec![&hid, &uid, &crs, &bus]).to_aml_bytes(sink);
    }
}
