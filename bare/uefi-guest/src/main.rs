//! The conformance suite (`hv-conformance`) as a UEFI application, for real Hyper-V and Azure machines.
//!
//! It runs on the processor that the firmware runs on, before ExitBootServices, once by `hvc #0` and once by `hvc #1`,
//! and returns to the firmware. While the suite runs the firmware stands still ([`machine`]): it would take interrupts
//! that are the suite's, and Hyper-V's own firmware uses the SynIC that the suite writes. What the suite changes is
//! put back ([`partition`]). The report is kept in memory until then, and goes to the console and to the file
//! [`report::FILE`] on the volume that the application was loaded from.
//!
//! On a machine that is not a Hyper-V partition it says so, and changes nothing.
//!
//! | load option | |
//! |---|---|
//! | `conformance.filter=` | words separated by commas; only cases whose name has one of them run |
//!
//! | status that it returns | |
//! |---|---|
//! | `EFI_SUCCESS` | the host conforms |
//! | `EFI_ABORTED` | it does not, or the suite met something that it cannot cope with |
//! | `EFI_UNSUPPORTED` | this is not a Hyper-V partition |
#![no_std]
#![no_main]

mod acpi;
mod detect;
mod env;
mod firmware;
mod gic;
mod machine;
mod partition;
mod report;
#[path = "../../guest/src/scratch.rs"]
mod scratch;

use core::panic::PanicInfo;

use hv_conformance::protocol::Lines;
use hv_guest::arch::Either;
use uefi_raw::table::system::SystemTable;
use uefi_raw::{Handle, Status};

use env::Application;
use firmware::Firmware;
use report::{Report, note};

/// Enters the application, called by the firmware.
#[expect(unsafe_code, reason = "the linker and the firmware know it by this name")]
#[unsafe(no_mangle)]
extern "efiapi" fn efi_main(image: Handle, table: *mut SystemTable) -> Status {
    Firmware::init(image, table);
    note!("hv-arm64 conformance suite {}, UEFI application", env!("CARGO_PKG_VERSION"));
    firmware::describe();
    let finding = detect::look();
    note!("Hyper-V: {finding}");
    if !finding.is_hyper_v() {
        note!("This machine is not a Hyper-V partition. Nothing was tested.");
        return end(Status::UNSUPPORTED);
    }
    let Some(intids) = gic::find() else {
        note!("The interrupt controller is not a GICv3 that this program knows. Nothing was tested.");
        return end(Status::UNSUPPORTED);
    };
    note!("interrupts: {} and {}", intids[0], intids[1]);
    // Should the machine hang, the file contains this much.
    note!("The suite runs. If this is the last line, the machine stopped in it.");
    Report::deliver();
    let conforms = test(intids);
    end(if conforms { Status::SUCCESS } else { Status::ABORTED })
}

/// Runs the suite by each convention that the host answers. Returns whether it conforms.
fn test(intids: [u32; 2]) -> bool {
    let filter = firmware::option("conformance.filter").unwrap_or("");
    let (mut runs, mut good) = (0, 0);
    machine::freeze();
    for conduit in [Either::Smccc, Either::Hvc1] {
        let Some(id) = partition::save(conduit) else {
            note!("{conduit:?}: the host does not answer hypercalls by this convention");
            continue;
        };
        note!("{conduit:?}: the firmware's guest OS id is {id:#x}");
        gic::take(intids);
        // SAFETY: only the suite uses it.
        #[expect(unsafe_code, reason = "vouches for the suite's hypercalls")]
        let application = unsafe { Application::new(conduit, intids, id == 0) };
        let totals = hv_conformance::run(&application, filter, &mut Lines(Report));
        gic::give_back();
        partition::restore();
        note!("{conduit:?}: {} passed, {} failed, {} skipped", totals.passed, totals.failed, totals.skipped);
        runs += 1;
        good += u32::from(totals.failed == 0 && totals.passed != 0);
    }
    machine::thaw();
    runs != 0 && good == runs
}

/// Delivers the report, and returns the status for the firmware.
fn end(status: Status) -> Status {
    note!("The end: status {:#x}", status.0);
    Report::deliver();
    status
}

/// Ends the application from anywhere: the machine may be frozen, and locks may be held.
fn abandon() -> ! {
    Report::unlock();
    gic::give_back();
    partition::restore();
    machine::thaw();
    firmware::exit(end(Status::ABORTED))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    Report::unlock();
    note!("panic: {info}");
    abandon()
}
