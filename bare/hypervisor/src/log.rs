//! The hypervisor's own messages: text in the report, which the tool prints, and on the UART.
#![expect(unsafe_code, reason = "the report and the UART are fixed addresses")]

use core::fmt::{self, Write};

use hv_wire::LOG_BYTES;
use hv_wire::platform::UART_BASE;

use crate::memory::report_field;

/// Writer that appends to the report's log while there is room.
pub(crate) struct Log;

impl Write for Log {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = report_field!(log_len);
        for byte in text.bytes() {
            // SAFETY: the field is mapped and aligned, and accesses are volatile; two CPUs that log at once may at
            // worst mix their text.
            let len = unsafe { end.read_volatile() } as usize;
            if len >= LOG_BYTES {
                break;
            }
            let place = report_field!(log[len]);
            // SAFETY: the byte is mapped and aligned, and inside the array by the test above.
            unsafe { place.write_volatile(byte) };
            // SAFETY: the field is mapped and aligned, and accesses are volatile; two CPUs that log at once may at
            // worst mix their text.
            unsafe { end.write_volatile(len as u64 + 1) };
        }
        Ok(())
    }
}

/// The PL011, which the guest may have left in any state: used only for a panic.
pub(crate) struct Uart;

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const UARTDR: u64 = 0x00;
        for byte in text.bytes() {
            if byte == b'\n' {
                self.write_char('\r')?;
            }
            // SAFETY: the address is the data register of the machine's UART, mapped as a device; a write sends a byte.
            unsafe { core::ptr::write_volatile((UART_BASE + UARTDR) as *mut u32, u32::from(byte)) };
        }
        Ok(())
    }
}
