//! The PL011 UART that QEMU's `virt` machine and the partition have at the same address.
#![expect(unsafe_code, reason = "the UART is a fixed address")]

use core::fmt::{self, Write};
use core::panic::PanicInfo;

use spin::{Mutex, Once};

use crate::{arch, cpu, power};

/// The beginning of the line that a panic prints.
pub const PANIC: &str = "guest panic";

/// The UART's registers (Arm DDI0183, "Programmers Model"). It needs no set-up: QEMU's transmits at once.
const UART: usize = 0x900_0000;
const UARTDR: usize = UART;
const UARTFR: usize = UART + 0x18;
/// UARTFR.TXFF: the transmit FIFO is full.
const TXFF: u32 = 1 << 5;

struct Uart;

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                put(b'\r');
            }
            put(byte);
        }
        Ok(())
    }
}

fn put(byte: u8) {
    // SAFETY: the UART is mapped as a device; reading its flags has no side effect.
    while unsafe { (UARTFR as *const u32).read_volatile() } & TXFF != 0 {}
    // SAFETY: the UART is mapped as a device; writing the data register sends a byte.
    unsafe { (UARTDR as *mut u32).write_volatile(u32::from(byte)) };
}

static LOCK: Mutex<()> = Mutex::new(());

/// Prints; the text of one call stays together, even against other CPUs and this CPU's interrupt handlers.
pub fn print(text: fmt::Arguments<'_>) {
    arch::without_interrupts(|| {
        let _lock = LOCK.lock();
        // The UART never fails; a `Display` that does loses only its own text.
        let _ = Uart.write_fmt(text);
    });
}

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => { $crate::console::print(format_args!($($text)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($text:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($text)*))) };
}

/// The hook that a panic calls before it prints.
static HOOK: Once<fn(&PanicInfo<'_>)> = Once::new();

/// Installs a hook that a panic calls before the panic is printed and the machine switched off. Only the first call
/// takes effect. Interrupts are masked, and the CPU that panics may hold any lock.
pub fn on_panic(hook: fn(&PanicInfo<'_>)) {
    HOOK.call_once(|| hook);
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    arch::mask();
    if let Some(hook) = HOOK.get() {
        hook(info);
    }
    // Without the lock: this CPU may hold it.
    let _ = writeln!(Uart, "\n{PANIC} on CPU {}: {info}", cpu::index());
    power::off()
}
