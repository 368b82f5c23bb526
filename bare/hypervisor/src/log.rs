//! What the hypervisor says of itself: text in the report, and the end of the world.
//!
//! The tool prints the log. A panic goes to the UART as well, for those who run the image without the tool.
#![expect(unsafe_code, reason = "the report and the UART are fixed addresses")]

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::ptr::{addr_of, addr_of_mut};

use hv_wire::platform::UART_BASE;
use hv_wire::{ExitKind, LOG_BYTES};

use crate::arch::mrs;
use crate::{memory, power, vcpu};

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
            // SAFETY: as above; `len` is inside the array.
            unsafe { addr_of_mut!((*report).log[len]).write_volatile(byte) };
            // SAFETY: as above.
            unsafe { addr_of_mut!((*report).log_len).write_volatile(len as u64 + 1) };
        }
        Ok(())
    }
}

/// The PL011, which the guest may have in any state: used for a panic alone.
struct Uart;

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const UARTDR: u64 = 0x00;
        for byte in text.bytes() {
            if byte == b'\n' {
                self.write_char('\r')?;
            }
            // SAFETY: the data register of the machine's UART.
            unsafe { core::ptr::write_volatile((UART_BASE + UARTDR) as *mut u32, u32::from(byte)) };
        }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    for out in [&mut Log as &mut dyn Write, &mut Uart] {
        // Neither writer fails.
        let _ = writeln!(out, "hypervisor panic on CPU {}: {info}", vcpu::current_index());
        let _ = vcpu::describe_guest(out);
    }
    power::end_run(ExitKind::Panic)
}

/// An exception taken at EL2, where none is expected. `vector` is its number in the table.
#[unsafe(no_mangle)]
extern "C" fn hypervisor_fault(vector: u64) -> ! {
    panic!(
        "exception at EL2, vector {vector}: ESR_EL2 {:#x}, ELR_EL2 {:#x}, FAR_EL2 {:#x}",
        mrs!("esr_el2"),
        mrs!("elr_el2"),
        mrs!("far_el2")
    );
}
