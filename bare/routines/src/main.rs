//! Runs every routine of `hv-guest` on every VP, then hands the machine over to itself, as to another kernel, and does
//! it again; at the end it reports a crash from the last VP. A check that fails panics.
//!
//! | argument | |
//! |---|---|
//! | `routines.conduit=` | `smccc` (`hvc #0`), `hvc1` (`hvc #1`), or `probe`, the default: what the host answers to |
//! | `routines.crash=` | `numbers`, `empty` or `long` (the default): what the crash report has |
//! | `routines.migrations=` | how many migrations (`hv boot --inject migrate@5ms`) the clock is watched over; 0 by default |
//! | `rt.granule=` | `4k`, `16k` or `64k`: the guest's page size |
//!
//! It needs the connections that `hv boot --loopback` offers:
//! `cargo hv boot --firmware dt --loopback --kernel bare/target/aarch64-unknown-none-softfloat/release/routines`.
#![no_std]
#![no_main]

mod rows;

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use hv_guest::arch::Either;
use hv_guest::interrupts::{Interrupts, Intid};
use hv_guest::page::{IdentityMapped, Memory, Page};
use hv_guest::tlfs::start_vp::InitialVpContext;
use rt::{Hardware, MAX_CPUS, arch, cpu, irq, time, vps};

use rows::Os;
use rows::crash::Kind;

/// A PPI that neither our firmware tables nor the Arm Base System Architecture assigns.
const FREE_PPI: u32 = 21;
/// How long one wait for an interrupt takes at most.
const MOMENT: Duration = Duration::from_micros(200);

static PAGES: [Page; rows::PAGES] = [const { Page::new() }; rows::PAGES];
/// Interrupts taken, by VP and INTID.
static TAKEN: [[AtomicU64; irq::INTIDS]; MAX_CPUS] =
    [const { [const { AtomicU64::new(0) }; irq::INTIDS] }; MAX_CPUS];

// SAFETY: the runtime maps RAM to itself.
#[expect(unsafe_code, reason = "only this program knows how its memory is mapped")]
const MEMORY: IdentityMapped = unsafe { IdentityMapped::new() };

struct Bare {
    hardware: &'static Hardware,
    conduit: Either,
    intids: [Intid; 3],
}

impl Interrupts for Bare {
    fn enable(&self, intid: Intid) {
        let number = u32::from(intid.number());
        irq::disable(number);
        irq::set_edge(number);
        irq::enable(number, |intid| {
            TAKEN[cpu::index()][intid as usize].fetch_add(1, Ordering::Release);
        });
    }

    fn disable(&self, intid: Intid) {
        irq::disable(intid.number().into());
    }
}

impl Os for Bare {
    type Conduit = Either;

    fn conduit(&self) -> Either {
        self.conduit
    }

    fn memory(&self) -> &(impl Memory + Sync) {
        &MEMORY
    }

    fn pages(&self) -> &'static [Page] {
        &PAGES
    }

    fn vps(&self) -> usize {
        self.hardware.vps()
    }

    fn on(&self, vp: usize, work: &(dyn Fn() + Sync)) {
        vps::run_on(vp, work);
    }

    fn taken(&self, vp: usize, intid: Intid) -> u64 {
        TAKEN[vp][usize::from(intid.number())].load(Ordering::Acquire)
    }

    fn pass(&self) {
        time::on_timer(|_| time::stop());
        time::arm(time::counter() + time::ticks(MOMENT));
        // Any pending interrupt ends it, masked as it is.
        arch::wfi();
        vps::take_interrupts();
        time::stop();
    }

    fn intids(&self) -> [Intid; 3] {
        self.intids
    }

    fn migrations(&self) -> u32 {
        self.hardware.number("routines.migrations").unwrap_or(0) as u32
    }

    fn stop(&self, vp: usize) {
        assert!(vps::stop(vp), "VP {vp} goes off");
    }

    fn start_context(&self, vp: usize) -> InitialVpContext {
        InitialVpContext {
            pc: vps::start_address(vp),
            sp_elh: 0,
            sctlr_el1: vps::SCTLR_OFF,
            mair_el1: 0,
            tcr_el1: 0,
            vbar_el1: 0,
            ttbr0_el1: 0,
            ttbr1_el1: 0,
            x18: vp as u64,
        }
    }

    fn wait_up(&self, vp: usize) {
        assert!(vps::wait_online(vp), "VP {vp} comes up");
    }

    fn done(&self, row: &str) {
        rt::println!("routines: {row}: good");
    }
}

rt::entry!(main);
fn main(hardware: &'static Hardware) {
    let conduit = match hardware.argument("routines.conduit") {
        None | Some("probe") => Either::probe(),
        Some("smccc") => Either::Smccc,
        Some("hvc1") => Either::Hvc1,
        Some(other) => panic!("routines.conduit={other}: it is smccc, hvc1 or probe"),
    };
    let crash = match hardware.argument("routines.crash") {
        Some("numbers") => Kind::Numbers,
        Some("empty") => Kind::Empty,
        None | Some("long") => Kind::Long,
        Some(other) => panic!("routines.crash={other}: it is numbers, empty or long"),
    };
    let intid = |number: Option<u32>| number.and_then(Intid::new).expect("firmware tells the interrupts");
    let intids = [hardware.vmbus_intid, hardware.stimer_intid, Some(FREE_PPI)].map(intid);
    let bare = Bare { hardware, conduit, intids };
    vps::start_all();
    rows::run(&bare);
    let generation = rt::restart::generation();
    let (vps, pages) = (hardware.vps(), hardware.granule.bytes() >> 10);
    rt::println!("routines: kernel {generation} done: {vps} VPs, {conduit:?}, {pages}K pages");
    if generation == 0 {
        (1..vps).for_each(|vp| bare.stop(vp));
        rt::restart::restart();
    }
    rows::crash::report(&bare, crash);
    rt::println!("routines: reported once");
}
