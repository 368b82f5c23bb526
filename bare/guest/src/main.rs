//! The guest that runs the conformance suite (`hv-conformance`) at EL1. `hv conformance` boots it and reads its
//! console.
//!
//! | argument | |
//! |---|---|
//! | `conformance.conduit=` | `smccc` (`hvc #0`, the default) or `hvc1` (`hvc #1`) |
//! | `conformance.filter=` | words separated by commas; only cases whose name has one of them run |
//! | `conformance.loopback=1` | the host offers the connections of `hv_conformance::loopback` |
//! | `conformance.video=ADDRESS` | where video memory may be, in hexadecimal digits after `0x` |
//! | `conformance.crash=1` | a reported crash does not end the guest, so that crashes may be reported |
//! | `conformance.kvm=1` | the host runs over Linux KVM, which answers the Arm architecture's functions itself |
//! | `rt.granule=` | `4k`, `16k` or `64k`: the guest's page size |
//!
//! Interrupts are masked except in two windows: where the suite lets time pass, and where it asks which were taken. So
//! an interrupt never comes between a check and the WFI that follows it.
#![no_std]
#![no_main]

mod env;
mod memory;
mod scratch;

use core::fmt;

use hv_conformance::protocol::Lines;
use hv_guest::arch::Either;

use env::Guest;

/// The console; each line is written at once.
struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        rt::print!("{text}");
        Ok(())
    }

    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> fmt::Result {
        rt::console::print(text);
        Ok(())
    }
}

rt::entry!(main);
fn main(hardware: &'static rt::Hardware) {
    let conduit = match hardware.argument("conformance.conduit") {
        None | Some("smccc") => Either::Smccc,
        Some("hvc1") => Either::Hvc1,
        Some(other) => panic!("conformance.conduit={other}: it is smccc or hvc1"),
    };
    rt::vps::start_all();
    memory::map_window(hardware.granule);
    let filter = hardware.argument("conformance.filter").unwrap_or("");
    // SAFETY: only the suite uses it.
    #[expect(unsafe_code, reason = "vouches for the suite's hypercalls")]
    let guest = unsafe { Guest::new(hardware, conduit) };
    hv_conformance::run(&guest, filter, &mut Lines(Console));
}
