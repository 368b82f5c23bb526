//! What the hypervisor says of itself: text in the report, which the tool prints, and on the UART.
#![expect(unsafe_code, reason = "the report and the UART are fixed addresses")]

use core::fmt::{self, Write};
use core::ptr::{addr_of, addr_of_mut};

use hv_wire::LOG_BYTES;
use hv_wire::platform::UART_BASE;

use crate::memory;

/// Appends to the report's log, as far as there is room.
pub(crate) struct Log;

impl Write for Log {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let report = memory::report();
        for byte in text.bytes() {
            // SAFETY: the report is ours and mapped; two CPUs that log at once may mix their text, no more.
            let len = unsafe { addr_of!((*report).log_len).read_volatile() } as usize;
            if len >= LOG_BYTES {
                break;
            }
            // SAFETY: the report is ours and mapped, and `len` is inside the array; two CPUs that log at once may mix their
            // text, no more.
            unsafe { addr_of_mut!((*report).log[len]).write_volatile(byte) };
            // SAFETY: the report is ours and mapped; two CPUs that log at once may mix their text, no more.
            unsafe { addr_of_mut!((*report).log_len).write_volatile(len as u64 + 1) };
        }
        Ok(())
    }
}

/// The PL011, which the guest may have in any state: used for a panic alone.
pub(crate) struct Uart;

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const UARTDR: u64 = 0x00;
        for byte in text.bytes() {
            if byte == b'\n' {
                self.write_char('\r')?;
            }
            // SAFETY: the data register of the machine's UART, mapped as a device; a write sends a byte.
            unsafe { core::ptr::write_volatile((UART_BASE + UARTDR) as *mut u32, u32::from(byte)) };
        }
        Ok(())
    }
}
