//! The end of a hypervisor that failed: a panic, or an exception at EL2.
//!
//! Both describe the failure in the log, which the tool prints, and on the UART, for runs of the image without the
//! tool.

use core::fmt::Write;
use core::panic::PanicInfo;

use hv_wire::ExitKind;

use crate::arch::mrs;
use crate::log::{Log, Uart};
use crate::{cpu, power};

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    for out in [&mut Log as &mut dyn Write, &mut Uart] {
        // Neither writer fails.
        let _ = writeln!(out, "hypervisor panic on CPU {}: {info}", cpu::current_index());
        let _ = cpu::describe_guest(out);
    }
    power::end_run(ExitKind::Panic)
}

/// Handles an exception taken at EL2, where none is expected. `vector` is its number in the table.
pub(crate) extern "C" fn hypervisor_fault(vector: u64) -> ! {
    panic!(
        "exception at EL2, vector {vector}: ESR_EL2 {:#x}, ELR_EL2 {:#x}, FAR_EL2 {:#x}",
        mrs!("esr_el2"),
        mrs!("elr_el2"),
        mrs!("far_el2")
    );
}
