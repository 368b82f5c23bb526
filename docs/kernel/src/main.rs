//! A kernel that prints Hyper-V's reference time and powers off.
#![no_std]
#![no_main]

use core::arch::global_asm;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::ptr::with_exposed_provenance_mut;

use hv_guest::arch::Smccc;
use hv_guest::conduit::Conduit;
use hv_guest::page::{IdentityMapped, Page};
use hv_guest::tlfs::guest_id::{GuestOsId, OpenSourceOs};
use hv_guest::{detect, tlfs::psci};

// VP 0 starts here, at EL1, with the MMU off and the device tree's address in X0.
global_asm!(
    ".global _start",
    "_start: adrp x1, __stack_end",
    "add x1, x1, :lo12:__stack_end",
    "mov sp, x1",
    "b {main}",
    main = sym main,
);

/// The page in which the host keeps the parameters of its clock.
static CLOCK: Page = Page::new();

extern "C" fn main(_device_tree: u64) -> ! {
    let os = OpenSourceOs(0x7f);
    let id = GuestOsId(0).with_open_source(true).with_os_type(os).with_version(0x01_00_00);
    // SAFETY: the MMU is off, so each page is at its guest physical address.
    let memory = unsafe { IdentityMapped::new() };

    let hyperv = detect::vendor_uid(Smccc).expect("the host is Hyper-V");
    let partition = hyperv.identify(id).expect("the host accepts the guest OS id");
    let clock = partition.start_clock(&CLOCK, &memory).expect("the host has a clock");
    let now = clock.now().expect("the clock can be read");
    let _ = writeln!(Console, "kernel: {} ns since the partition was created", now.ticks() * 100);
    clock.stop().expect("the host gives the page back");
    off()
}

/// The PL011 UART.
struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let register = |offset: usize| with_exposed_provenance_mut::<u32>(0x0900_0000 + offset);
        for byte in text.bytes() {
            // SAFETY: a read of UARTFR has no side effect. Bit 5: the transmit FIFO is full.
            while unsafe { register(0x18).read_volatile() } & 1 << 5 != 0 {}
            // SAFETY: a write to UARTDR sends a byte, and changes no memory.
            unsafe { register(0).write_volatile(byte.into()) };
        }
        Ok(())
    }
}

/// Powers the machine off.
fn off() -> ! {
    loop {
        // SAFETY: SYSTEM_OFF changes no memory of the caller's.
        unsafe { Smccc.smccc(psci::SYSTEM_OFF, [0; 3]) };
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Console, "kernel: {info}");
    off()
}
