//! The parts of a UEFI firmware that the conformance suite's UEFI application (`uefi-guest`) needs, so that a test can
//! run that application in a partition: Debian's firmware for QEMU needs devices that the hypervisor hides.
//!
//! `hv boot --firmware both --kernel uefi-shim --initrd uefi-guest.efi`: the device tree describes the machine to the
//! runtime, and leads to the application and to the ACPI tables. The shim loads the application, provides the services
//! of [`services`], and prints on the console what it does and how it ends. Files that the application writes are
//! shown, too.
#![no_std]
#![no_main]

mod pe;
mod services;

use rt::{Hardware, println};

rt::entry!(main);
fn main(hardware: &'static Hardware) {
    let file = hardware.initrd.clone().expect("the application is the initrd");
    let tables = hardware.efi_system_table.expect("the ACPI tables are there: boot with `--firmware both`");
    let image = pe::load(file, hardware.ram.end);
    println!("shim: the application is at {:#x}, its entry at {:#x}", image.base, image.entry);
    let status = services::start(&image, tables, hardware.bootargs);
    println!("shim: the application returned {:#x}", status.0);
}
