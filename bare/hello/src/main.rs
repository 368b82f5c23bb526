//! A small kernel that uses Hyper-V. Build it with `hv`'s runtime and boot it:
//! `cargo hv boot --firmware dt --kernel bare/target/aarch64-unknown-none-softfloat/release/hello`.
#![no_std]
#![no_main]
mod tour;

use core::{panic::PanicInfo, sync::atomic::AtomicU64, sync::atomic::Ordering};

use hv_guest::arch::Either;
use hv_guest::crash::CrashReporter;
use hv_guest::interrupts::{Interrupts, Intid};
use hv_guest::page::{IdentityMapped, Page};
use rt::irq;

static PAGES: [Page; 5] = [const { Page::new() }; 5];
static CRASH: CrashReporter = CrashReporter::new();
/// Interrupts that have arrived: bit n is INTID n.
static ARRIVED: AtomicU64 = AtomicU64::new(0);

// SAFETY: the runtime maps RAM to itself.
#[expect(unsafe_code, reason = "only this program knows how its memory is mapped")]
const MEMORY: IdentityMapped = unsafe { IdentityMapped::new() };

struct Bare;

impl Interrupts for Bare {
    fn enable(&self, intid: Intid) {
        irq::set_edge(intid.number().into());
        irq::enable(intid.number().into(), |intid| {
            ARRIVED.fetch_or(1 << intid, Ordering::Release);
        });
    }
    fn disable(&self, intid: Intid) {
        irq::disable(intid.number().into());
    }
}

impl tour::Os for Bare {
    fn print(&self, line: core::fmt::Arguments<'_>) {
        rt::println!("hello: {line}");
    }
    fn wait(&self, intid: Intid) {
        // Masked, so that the interrupt cannot come between the check and the WFI; it ends the WFI anyway.
        while ARRIVED.fetch_and(!(1 << intid.number()), Ordering::Acquire) >> intid.number() & 1 == 0 {
            rt::arch::wfi();
            irq::unmask();
            irq::mask();
        }
    }
}

rt::entry!(main);
fn main(hardware: &'static rt::Hardware) {
    rt::console::on_panic(report);
    let intid = |number: Option<u32>| number.and_then(Intid::new).expect("firmware tells the interrupts");
    tour::tour(conduit(), &Bare, &MEMORY, &PAGES, [hardware.vmbus_intid, hardware.stimer_intid].map(intid));
    panic!("deliberate");
}

/// Returns the conduit that the host answers, unless the command line says `hello.hvc=1`.
fn conduit() -> Either {
    if rt::hardware::get().argument("hello.hvc") == Some("1") { Either::Hvc1 } else { Either::probe() }
}

/// Reports a panic's text to the host.
fn report(info: &PanicInfo<'_>) {
    let text = info.message().as_str().unwrap_or("(formatted)");
    let sent = CRASH.report_text(&conduit(), [0; 3], text.as_bytes(), &PAGES[4], &MEMORY);
    rt::println!("hello: crash report: {sent:?}");
}
